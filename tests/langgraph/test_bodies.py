"""Calls of graphs and Runnables that do not know in which step's body they are made, and those that do."""

from __future__ import annotations

import operator
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableLambda
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph

from musubito import MusubitoEngine, NotReplayed, SQLiteStorage, StepConfiguration, StepType, musubito_step
from musubito.adapter import not_replayable
from musubito.lineage import Lineage
from musubito_langgraph import musubito_graph, musubito_runnable
from tests.langgraph.specimen import Ran, took

SAMPLED = StepConfiguration(step_type=StepType.STOCHASTIC)


class State(TypedDict, total=False):
    n: int
    out: Annotated[list[Any], operator.add]


def graph_of(name: str, **nodes: Callable[[State], State]) -> Any:
    builder = StateGraph(State)
    for node, function in nodes.items():
        builder.add_node(node, function).add_edge(START, node)
    return builder.compile(name=name)


class Both:
    """Two nodes are open at once, of which one ends long before the other; until nobody waits any more."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2)
        self.over = False

    def __call__(self, seconds: float) -> None:
        if not self.over:
            self.barrier.wait(10)
            time.sleep(seconds)

    def __musubito_identity__(self) -> str:
        return "two nodes"


RAN = Ran()
BOTH = Both()


def recursive(state: State) -> State:
    BOTH(0.5)
    RAN("recursive")
    if state["n"]:
        GRAPH.invoke({"n": state["n"] - 1})
    return {"out": ["recursive"]}


def beside(state: State) -> State:
    BOTH(0)
    not_replayable("so it says")
    return {"out": ["beside"]}


GRAPH = musubito_graph(graph_of("g", recursive=recursive, beside=beside))


def test_a_node_that_reaches_its_graph_does_not_depend_on_those_beside_it(engine: MusubitoEngine):
    GRAPH.invoke({"n": 0})
    assert took(RAN) == {"recursive": 1}
    BOTH.over = True
    GRAPH.invoke({"n": 0})
    assert took(RAN) == {}
    recorded = {call.operation: call.outcome for call in Lineage(engine).run("last").calls}
    assert recorded["g/recursive"] == "replayed"


@pytest.mark.parametrize("what", ["graph", "subgraph", "entrypoint", "runnable", "batch"])
def test_what_threads_without_context_are_given_are_samples(engine: MusubitoEngine, ran: Ran, what: str):
    """They are of one run, that of the step that they are in, however often they begin anew; and it depends on them."""
    inner: Any = graph_of("g", node=lambda _: {"out": [ran("node")]})

    @task
    def asks() -> list[int]:
        return [ran("node")]

    @entrypoint()
    def flow(_: State) -> State:
        return {"out": asks().result()}

    kinds = {"subgraph": graph_of("around", g=inner), "entrypoint": flow}
    graph = musubito_graph(kinds.get(what, inner), default=SAMPLED)
    runnable = musubito_runnable(RunnableLambda(lambda _: ran("node")), semantics=SAMPLED)

    def ask(number: int) -> list[int]:
        if what == "batch":
            return list(runnable.batch([1, 1]))
        return [runnable.invoke(1)] if what == "runnable" else list(graph.invoke({"n": 1})["out"])

    @musubito_step(name="outer")
    def outer(x: int) -> list[list[int]]:
        with ThreadPoolExecutor() as threads:
            return [threads.submit(ask, number).result() for number in range(3)]

    found = [number for each in outer(1).value for number in each]
    assert sorted(found) == list(range(1, len(found) + 1))
    (only,) = Lineage(engine).runs()
    assert only.name == "outer"
    assert engine.explain(outer, 1).decision.replay
    (operation,) = {call.operation for call in Lineage(engine).run("last").calls} - {"outer"}
    assert engine.invalidate(operation) == len(found)
    assert not engine.explain(outer, 1).decision.replay


def test_a_batch_that_is_not_to_be_recorded_is_no_run(engine: MusubitoEngine):
    runnable = musubito_runnable(RunnableLambda(lambda x: x + 1))
    assert runnable.batch([1, 2], {"configurable": {"musubito": {"mode": "off"}}}) == [2, 3]
    assert Lineage(engine).runs() == []


@pytest.mark.parametrize("what", ["graph", "batch"])
def test_who_only_asks_begins_no_namespace(tmp_path: Path, what: str):
    """Else it would be without a key for good, since whoever asked had none."""
    engine = MusubitoEngine(SQLiteStorage(tmp_path / "m.db"))
    graph = musubito_graph(graph_of("g", node=lambda _: {"out": [1]}), engine=engine)
    runnable = musubito_runnable(RunnableLambda(lambda x: x + 1), engine=engine)
    config: Any = {"configurable": {"musubito": {"mode": "replay_only"}}}

    def ask() -> Any:
        return graph.invoke({"n": 1}, config) if what == "graph" else runnable.batch([1, 2], config)

    def rows(table: str) -> int:
        engine.flush()
        with closing(sqlite3.connect(tmp_path / "m.db")) as connection:
            return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    with pytest.raises(NotReplayed):
        ask()
    assert (rows("_namespaces"), rows("_runs")) == (0, 0)
    runnable.invoke(0)
    with pytest.raises(NotReplayed):
        ask()
    assert (rows("_namespaces"), rows("_runs")) == (1, 1)
    engine.close()
