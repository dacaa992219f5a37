"""What it takes until a program can do something: imports, the command, and an agent's first question."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.goals import Difference, Seconds
from bench.measure import Sample
from bench.rows import Row

ROUNDS: Final = 7
STANDARD: Final = "import asyncio, email.message, http.server, sqlite3, unittest.mock, xml.dom.minidom, xmlrpc.client"
"""Imports that take about as long as what a step needs."""
AGENT: Final = """
import gc, sys, time
from langchain.agents import create_agent
from langchain.agents.middleware import ModelCallLimitMiddleware, ToolCallLimitMiddleware, ContextEditingMiddleware
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from musubito import MusubitoEngine, SQLiteStorage, use_musubito_engine
from musubito_langgraph import musubito_graph

class Model(GenericFakeChatModel):
    def bind_tools(self, tools, **kwargs):
        return self

def named(number):
    def look_up(number: int) -> str:
        "Look something up."
        return f"number {number}"
    look_up.__name__ = f"look_up_{number}"
    return tool(look_up)

middleware = [ModelCallLimitMiddleware(run_limit=9), ToolCallLimitMiddleware(run_limit=9), ContextEditingMiddleware()]
agent = create_agent(Model(messages=iter([AIMessage("a"), AIMessage("b")])), [named(n) for n in range(8)],
                     middleware=middleware)
with MusubitoEngine(SQLiteStorage("musubito.db")) as engine, use_musubito_engine(engine):
    gc.collect()
    began = time.process_time()
    if "bare" not in sys.argv:
        agent = musubito_graph(agent)
    agent.invoke({"messages": [HumanMessage("what is there?")]})
    print(time.process_time() - began)
"""
"""A program that prints the seconds of CPU that an agent's first question takes, wrapping included.

The imports leave more garbage than the question, and who comes next would pay for all of it. So it is collected before.
"""


def printed_by(command: Sequence[str], folder: Path) -> bytes:
    """Run a command without settings of Musubito and return what it prints. It may keep the bytecode of its imports."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONDONTWRITEBYTECODE" and not name.startswith("MUSUBITO_")
    }
    done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)  # noqa: S603
    return done.stdout


def timed(folder: Path, **commands: Sequence[str]) -> dict[str, Sample]:
    """Return the seconds of CPU that commands take, which take turns, after a turn that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(ROUNDS + 1):
        for name, command in commands.items():
            began = cpu_of_children()
            printed_by(command, folder)
            if turn:
                taken[name].append(cpu_of_children() - began)
    return {name: Sample.of(seconds) for name, seconds in taken.items()}


def cpu_of_children() -> float:
    """Return the seconds of CPU that all processes have taken which this one has started and which have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def imports(folder: Path) -> dict[str, Sample]:
    """Import the core, with what a step needs and without, against a Python that imports nothing or other things."""
    python = [sys.executable, "-c"]
    return timed(
        folder,
        musubito=[*python, "from musubito import musubito_step"],
        alone=[*python, "import musubito"],
        python=[*python, "pass"],
        **{"standard library": [*python, STANDARD]},
    )


def command(folder: Path) -> dict[str, Sample]:
    """Ask the command for its version, against a Python that does nothing."""
    return timed(
        folder, musubito=[sys.executable, "-m", "musubito", "--version"], python=[sys.executable, "-c", "pass"]
    )


def first_question(folder: Path) -> dict[str, Sample]:
    """Ask an agent with 8 tools and 3 middlewares for the first time in a process."""
    program = folder / "agent.py"
    program.write_text(AGENT, "utf-8")
    asked = [sys.executable, str(program)]
    samples: dict[str, list[float]] = {"musubito": [], "bare": []}
    for _ in range(ROUNDS):
        for name, taken in samples.items():
            (folder / "musubito.db").unlink(missing_ok=True)
            taken.append(float(printed_by([*asked, name], folder)))
    return {name: Sample.of(taken) for name, taken in samples.items()}


ROWS: Final = {
    "import": Row(
        "from musubito import musubito_step, and import musubito alone",
        (Difference(80e-3, over="python"), Difference(80e-3, over="python", subject="alone")),
        imports,
    ),
    "command": Row("musubito --version", (Seconds(150e-3),), command),
    "first-question": Row(
        "the first question to an agent of 8 tools and 3 middlewares",
        (Difference(60e-3, over="bare"),),
        first_question,
    ),
}
