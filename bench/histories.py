"""Nodes that are given a long conversation, and agents: bare, wrapped, and with LangGraph's own node cache."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, TypedDict
from uuid import uuid4

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.cache.sqlite import SqliteCache
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import CachePolicy

from bench.goals import Ratio
from bench.graphs import Scripted, look_up
from bench.measure import Sample, interleave
from bench.rows import Row, engine_in
from musubito_langgraph import musubito_graph

MESSAGES: Final = 200
NODES: Final = 4


class Chat(TypedDict):
    """A conversation."""

    messages: Annotated[list[AnyMessage], add_messages]


def say(state: Chat) -> dict[str, Any]:
    """Add one message, as a node that is as cheap as one can be."""
    return {"messages": [AIMessage(f"message {len(state['messages'])}")]}


def graph(policy: CachePolicy[Any] | None = None, cache: SqliteCache[Any] | None = None) -> Any:
    """Node after node, each given all that was said."""
    builder = StateGraph(Chat)
    names = [START, *(f"n{number}" for number in range(NODES)), END]
    for name in names[1:-1]:
        node: Any = say
        builder.add_node(name, node, cache_policy=policy)
    for one, next_one in pairwise(names):
        builder.add_edge(one, next_one)
    return builder.compile(name="chat", cache=cache)


def conversation(number: int) -> list[AnyMessage]:
    """Messages of some 400 characters, with random ids, as a thread holds them."""
    kinds = (HumanMessage, AIMessage)
    return [kinds[i % 2](f"{number} {i} " + "what was said " * 28, id=str(uuid4())) for i in range(MESSAGES)]


def measured(folder: Path, given: Callable[[str, int], list[AnyMessage]]) -> dict[str, Sample]:
    """Measure the contenders side by side; `given` makes what a contender is given at a call."""
    cached = graph(CachePolicy(), SqliteCache(path=str(folder / "cache.db")))
    bare = graph()
    with engine_in(folder):
        wrapped = musubito_graph(graph())
        contenders = {
            "musubito": lambda number: wrapped.invoke({"messages": given("musubito", number)}),
            "langgraph cache": lambda number: cached.invoke({"messages": given("langgraph cache", number)}),
            "bare": lambda number: bare.invoke({"messages": given("bare", number)}),
        }
        return interleave(contenders, rounds=5, calls=6)


def first_runs(folder: Path) -> dict[str, Sample]:
    """Every call has a conversation that was never there before."""
    made: dict[tuple[str, int], list[AnyMessage]] = {}
    for who in ("musubito", "langgraph cache", "bare"):
        made |= {(who, number): conversation(number) for number in range(6 * 6)}
    return measured(folder, lambda who, number: made[who, number])


def turns(folder: Path) -> dict[str, Sample]:
    """Every call has the conversation of the call before, and one message more."""
    made = {who: conversation(0) for who in ("musubito", "langgraph cache", "bare")}

    def longer(who: str, number: int) -> list[AnyMessage]:
        made[who].append(HumanMessage(f"turn {number}", id=str(uuid4())))
        return list(made[who])

    return measured(folder, longer)


def replays(folder: Path) -> dict[str, Sample]:
    """Every call has the very same messages."""
    messages = conversation(0)
    return measured(folder, lambda *_: list(messages))


def replays_after_a_checkpoint(folder: Path) -> dict[str, Sample]:
    """Every call has the same messages, as other objects. To make them is not measured: each is given a list."""
    messages = conversation(0)
    made = {who: [deepcopy(messages) for _ in range(6 * 6)] for who in ("musubito", "langgraph cache", "bare")}
    return measured(folder, lambda who, number: made[who][number])


def agents(folder: Path, question: Callable[[int], str]) -> dict[str, Sample]:
    """Measure an agent that asks its model five times and its tool four times."""
    bare: Any = create_agent(Scripted(), [look_up], name="agent")
    with engine_in(folder):
        wrapped = musubito_graph(create_agent(Scripted(), [look_up], name="agent"))
        contenders = {
            name: lambda number, agent=agent: agent.invoke({"messages": [HumanMessage(question(number))]})
            for name, agent in (("musubito", wrapped), ("bare", bare))
        }
        return interleave(contenders, rounds=6, calls=8)


ROWS: Final = {
    "history": Row(f"{NODES} nodes are given {MESSAGES} new messages", (Ratio(1.5, "langgraph cache"),), first_runs),
    "history-turns": Row(
        f"the {NODES} nodes are given one message more, and run", (Ratio(1.5, "langgraph cache"),), turns
    ),
    "history-again": Row(f"the {MESSAGES} messages, replayed", (Ratio(1.2, "langgraph cache"),), replays),
    "history-fresh": Row(
        f"the {MESSAGES} messages, as other objects, replayed",
        (Ratio(2.5, "langgraph cache"),),
        replays_after_a_checkpoint,
    ),
    "agent-first": Row(
        "an agent of 9 node calls, first run",
        (Ratio(3.0, "bare"),),
        lambda folder: agents(folder, lambda number: f"what is there? {number}"),
    ),
    "agent-again": Row(
        "the agent of 9 node calls, asked again: its tools run",
        (Ratio(1.5, "bare"),),
        lambda folder: agents(folder, lambda _: "what is there?"),
    ),
}
