"""What it takes until a program can do something: imports, the command, and an agent's first question."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.goals import Difference, Seconds
from bench.measure import Sample
from bench.rows import Row

ROUNDS: Final = 7
AGENT: Final = """
import sys, time
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
    began = time.process_time()
    if "bare" not in sys.argv:
        agent = musubito_graph(agent)
    agent.invoke({"messages": [HumanMessage("what is there?")]})
    print(time.process_time() - began)
"""
"""A program that prints the seconds of CPU that an agent's first question takes, wrapping included."""


def printed_by(command: Sequence[str], folder: Path) -> bytes:
    """Run a command, which may keep the bytecode of what it imports, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)  # noqa: S603
    return done.stdout


def timed(command: Sequence[str], folder: Path) -> Sample:
    """Time a command from its start to its end, after a run that does not count."""
    taken = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        printed_by(command, folder)
        taken.append(time.perf_counter() - began)
    return Sample.of(taken[1:])


def imports(folder: Path) -> dict[str, Sample]:
    """Import the core, against a Python that imports nothing."""
    python = [sys.executable, "-c"]
    return {"musubito": timed([*python, "import musubito"], folder), "python": timed([*python, "pass"], folder)}


def command(folder: Path) -> dict[str, Sample]:
    """Ask the command for its version."""
    return {"musubito": timed([str(Path(sys.executable).with_name("musubito")), "--version"], folder)}


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
    "import": Row("import musubito", (Difference(80e-3, over="python"),), imports),
    "command": Row("musubito --version", (Seconds(150e-3),), command),
    "first-question": Row(
        "the first question to an agent of 8 tools and 3 middlewares",
        (Difference(60e-3, over="bare"),),
        first_question,
    ),
}
