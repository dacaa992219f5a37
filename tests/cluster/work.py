"""What the workers of a test's cluster do. Each real run leaves a line in a file, outside of Musubito."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import random
import time
from typing import Any, TypedDict

from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, StateGraph

from musubito import MusubitoEngine, musubito_step
from musubito_langgraph import musubito_graph, musubito_runnable

__all__ = [
    "LOG",
    "NODES",
    "answers",
    "asked",
    "asked_async",
    "batch",
    "doubled",
    "found_out",
    "graph",
    "helped",
    "stepped",
]

LOG = "MUSUBITO_TEST_LOG"


class State(TypedDict, total=False):
    number: int
    topic: int
    facts: str
    text: str


def note(node: str, about: object) -> None:
    """In one write, so that nothing of it is lost when the process is killed a moment later."""
    file = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{node} {about} {os.getpid()}\n".encode())
    finally:
        os.close(file)


def choose(state: State) -> State:
    note("choose", state["number"])
    return {"topic": state["number"] // 5}


def research(topic: int) -> str:
    note("research", topic)
    time.sleep(0.05)
    return f"facts about {topic}"


def write(state: State) -> State:
    note("write", state["number"])
    return {"text": f"{state['number']}: {state['facts']}"}


found_out = musubito_runnable(RunnableLambda(research))


def look_up(state: State) -> State:
    """Five numbers share what their topic needs."""
    return {"facts": found_out.invoke(state["topic"])}


async def look_up_async(state: State) -> State:
    await asyncio.sleep(0)
    return {"facts": await found_out.ainvoke(state["topic"])}


def graph(engine: MusubitoEngine | None = None, look: Any = look_up) -> Any:
    builder = StateGraph(State).add_sequence([choose, ("look_up", look), write]).add_edge(START, "choose")
    return musubito_graph(builder.compile(name="report"), engine=engine)


REPORT = graph()
REPORT_ASYNC = graph(look=look_up_async)


def asked(number: int) -> str:
    """With a graph of this module, in the store that the worker's MUSUBITO_URL names."""
    text: str = REPORT.invoke({"number": number})["text"]
    return text


async def asked_async(number: int) -> str:
    """On the worker's own event loop."""
    text: str = (await REPORT_ASYNC.ainvoke({"number": number}))["text"]
    return text


def batch(first: int, size: int) -> list[int]:
    """Fifty numbers, again and again and in no order."""
    numbers = [first + number % 50 for number in range(size)]
    random.Random(size).shuffle(numbers)
    return numbers


NODES = 50 + 50 + 10
"""What fifty numbers need: to choose, to write, and the facts of ten topics."""


def answers(numbers: list[int]) -> list[str]:
    """What the graphs say to each of them."""
    return [f"{number}: facts about {number // 5}" for number in numbers]


def helped(problem: str) -> list[str]:
    """The agent of the README as it stands: what it printed, and at last its answer."""
    from support import agent

    with contextlib.redirect_stdout(io.StringIO()) as printed:
        answer = agent.invoke({"messages": [("user", problem)]})["messages"][-1].text
    return [*printed.getvalue().splitlines(), answer]


@musubito_step
def doubled(number: int) -> int:
    note("doubled", number)
    return 2 * number


def stepped(number: int) -> int:
    """With a decorated function."""
    return doubled(number).value
