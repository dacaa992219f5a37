"""LangGraph graphs: bare, wrapped, and with LangGraph's own node cache (`CachePolicy` and `SqliteCache`).

The nodes do next to nothing, so what is measured is what each adds to a graph.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, TypedDict

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.cache.sqlite import SqliteCache
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy, Send

from bench.goals import Count, Ratio
from bench.measure import Sample, interleave
from bench.rows import Row, engine_in
from musubito import run
from musubito_langgraph import musubito_graph

CHAIN = 20
FAN = 16
QUESTIONS = 4
"""Rounds of model and tool before an agent answers: 4 times two nodes, and the answer."""


class Number(TypedDict):
    """What the nodes of the chain hand on."""

    x: int


class Parts(TypedDict, total=False):
    """What the nodes of the fan fill."""

    x: int
    n: int
    parts: Annotated[list[int], operator.add]
    total: int


class Runs:
    """Counts what ran; a graph that counts elsewhere is the same graph."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()

    def __musubito_identity__(self) -> str:
        return "a count of what ran"


def increase(state: Number) -> Number:
    """Add one, as a node that is as cheap as one can be."""
    return {"x": state["x"] + 1}


def chain(policy: CachePolicy[Any] | None = None, cache: SqliteCache[Any] | None = None) -> Any:
    """Node after node."""
    builder = StateGraph(Number)
    for number in range(CHAIN):
        builder.add_node(f"n{number}", increase, cache_policy=policy)
    names = [START, *(f"n{number}" for number in range(CHAIN)), END]
    for one, next_one in pairwise(names):
        builder.add_edge(one, next_one)
    return builder.compile(name="chain", cache=cache)


def split(state: Parts) -> list[Send]:
    """One worker for each part."""
    return [Send("work", {"x": state["x"], "n": number}) for number in range(FAN)]


def work(state: Parts) -> Parts:
    """Return one part."""
    return {"parts": [state["x"] + state["n"]]}


def join(state: Parts) -> Parts:
    """All parts together."""
    return {"total": sum(state["parts"])}


def nothing(_state: Parts) -> Parts:
    """Change nothing; the node fans out."""
    return {}


def fan(policy: CachePolicy[Any] | None = None, cache: SqliteCache[Any] | None = None) -> Any:
    """One node, many, one node."""
    builder = StateGraph(Parts)
    plan: Any = nothing
    builder.add_node("plan", plan, cache_policy=policy)
    builder.add_node("work", work, cache_policy=policy)
    builder.add_node("join", join, cache_policy=policy)
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", split, ["work"])
    builder.add_edge("work", "join")
    builder.add_edge("join", END)
    return builder.compile(name="fan", cache=cache)


def measured(build: Callable[..., Any], folder: Path, calls: int, inputs: Callable[[int], int]) -> dict[str, Sample]:
    """Measure the contenders side by side.

    The inputs decide whether nodes run or are replayed.
    """
    cached = build(CachePolicy(), SqliteCache(path=str(folder / "cache.db")))
    bare = build()
    with engine_in(folder):
        wrapped = musubito_graph(build())
        contenders = {
            "musubito": lambda number: wrapped.invoke({"x": inputs(number)}),
            "langgraph cache": lambda number: cached.invoke({"x": inputs(number)}),
            "bare": lambda number: bare.invoke({"x": inputs(number)}),
        }
        return interleave(contenders, rounds=8, calls=calls)


def first_runs(build: Callable[..., Any]) -> Callable[[Path], dict[str, Sample]]:
    """Every call has an input that was never there before."""
    return lambda folder: measured(build, folder, 20, lambda number: number * 1000)


def replays(build: Callable[..., Any]) -> Callable[[Path], dict[str, Sample]]:
    """Every call has the same input."""
    return lambda folder: measured(build, folder, 20, lambda _: 7)


# -- what runs again ---------------------------------------------------------------------------------------------------


class Scripted(BaseChatModel):
    """Asks for the tool a few times, then answers."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        """Return the model itself, which knows its one tool."""
        return self

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        found = sum(isinstance(message, ToolMessage) for message in messages)
        if found < QUESTIONS:
            call = {"name": "look_up", "args": {"number": found}, "id": f"call_{found}"}
            return ChatResult(generations=[ChatGeneration(message=AIMessage("", tool_calls=[call]))])
        return ChatResult(generations=[ChatGeneration(message=AIMessage(f"{found} things were looked up"))])


@tool
def look_up(number: int) -> str:
    """Look something up."""
    return f"number {number}"


def agent_again(folder: Path) -> dict[str, Sample]:
    """How many nodes of models an agent runs that is asked the same a second time; its tools run, as each time."""
    node_runs: Counter[str] = Counter()

    def agent(policy: CachePolicy[Any] | None, cache: SqliteCache[Any] | None) -> Any:
        graph: Any = create_agent(Scripted(), [look_up], name="agent", cache=cache)
        for node in graph.nodes.values():
            if policy is not None and node.metadata is None:
                node.cache_policy = policy
        return graph

    with engine_in(folder):
        wrapped = musubito_graph(agent(None, None))
        for _ in range(2):
            with run() as r:
                wrapped.invoke({"messages": [HumanMessage("what is there?")]})
            node_runs["musubito"] = sum(call.outcome == "ran" and call.operation == "agent/model" for call in r.calls)
    cached = agent(CachePolicy(), SqliteCache(path=str(folder / "cache.db")))
    for _ in range(2):
        updates = list(cached.stream({"messages": [HumanMessage("what is there?")]}, stream_mode="updates"))
        node_runs["langgraph cache"] = sum("__metadata__" not in update and "model" in update for update in updates)
    return {name: Sample.of([float(node_runs[name])]) for name in ("musubito", "langgraph cache")}


def one_edited(folder: Path) -> dict[str, Sample]:
    """How many nodes of the chain run after one was edited so that it gives the same."""
    runs = Runs()

    def edited(state: Number) -> Number:
        return {"x": 1 + state["x"]}

    def counted(function: Callable[[Number], Number]) -> Callable[[Number], Number]:
        def node(state: Number) -> Number:
            runs.counted["ran"] += 1
            return function(state)

        return node

    def build(seventh: Callable[[Number], Number]) -> Any:
        builder = StateGraph(Number)
        names = [START, *(f"n{number}" for number in range(CHAIN)), END]
        for number in range(CHAIN):
            node: Any = counted(seventh if number == 7 else increase)
            builder.add_node(f"n{number}", node)
        for one, next_one in pairwise(names):
            builder.add_edge(one, next_one)
        return builder.compile(name="chain")

    with engine_in(folder):
        musubito_graph(build(increase)).invoke({"x": 1})
        assert runs.counted["ran"] == CHAIN
        runs.counted.clear()
        assert musubito_graph(build(edited)).invoke({"x": 1}) == {"x": CHAIN + 1}
    return {"musubito": Sample.of([float(runs.counted["ran"])])}


ROWS: Final = {
    "chain": Row(
        f"LangGraph chain of {CHAIN} empty nodes, first run", (Ratio(0.8, "langgraph cache"),), first_runs(chain)
    ),
    "chain-again": Row(f"the chain of {CHAIN}, replayed", (Ratio(1.5, "langgraph cache"),), replays(chain)),
    "fan": Row(f"LangGraph fan 1 → {FAN} → 1, first run", (Ratio(0.9, "langgraph cache"),), first_runs(fan)),
    "fan-again": Row(f"the fan of {FAN}, replayed", (Ratio(3.5, "langgraph cache"),), replays(fan)),
    "agent": Row(
        "an agent of 9 node calls is asked the same again: model's nodes", (Count(0),), agent_again, show=Count.shown
    ),
    "edited": Row(
        f"one of {CHAIN} nodes edited, output equal: nodes that run", (Count(1),), one_edited, show=Count.shown
    ),
}
