"""A graph that is built anew of the same functions is not walked again, and counts as any other graph does."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any, TypedDict

import pytest
from langchain_core.tools import StructuredTool
from langgraph.graph import START, StateGraph

from musubito.code import tracker
from musubito_langgraph import musubito_graph
from tests.langgraph.specimen import Ran

pytestmark = pytest.mark.usefixtures("engine")
RAN = Ran()


class State(TypedDict, total=False):
    n: int


def first(state: State) -> State:
    RAN("first")
    return {"n": state["n"] + 1}


def other(state: State) -> State:
    RAN("other")
    return {"n": state["n"] + 2}


async def later(state: State) -> State:
    RAN("later")
    return {"n": state["n"] + 3}


FACTOR = 1


def with_factor(state: State) -> State:
    RAN("factor")
    return {"n": state["n"] * FACTOR}


def with_factor_of(tool: Any) -> Callable[[State], State]:
    def node(state: State) -> State:
        return {"n": state["n"] * len(tool.metadata or {"": 1})}

    return node


@pytest.fixture(autouse=True)
def walks(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """The types of what is walked, one entry a walk."""
    RAN.counts.clear()
    walked: list[type] = []

    def walk(function: Any, *args: Any, **kwargs: Any) -> Any:
        walked.append(type(function))  # and not the function, which would stay alive
        return plain(function, *args, **kwargs)

    plain = tracker.Walk
    monkeypatch.setattr(tracker, "Walk", walk)
    return walked


def graph_of(function: Callable[..., Any], name: str) -> Any:
    """A graph with one node; each test has a name of its own, since trackers are kept for a process."""
    return StateGraph(State).add_node("node", function).add_edge(START, "node").compile(name=name)


@pytest.mark.anyio
async def test_a_graph_built_anew_is_not_walked_again(walks: list[type]) -> None:
    for _ in range(3):
        assert musubito_graph(graph_of(first, "anew")).invoke({"n": 1}) == {"n": 2}
        assert await musubito_graph(graph_of(later, "anew, async")).ainvoke({"n": 1}) == {"n": 4}
    assert RAN.counts == {"first": 1, "later": 1}
    assert len(walks) == 2


def test_a_field_that_each_run_sets_to_equal_data_costs_no_walk(walks: list[type]) -> None:
    def at(place: str) -> str:
        """Say where."""
        return place

    tool: Any = StructuredTool.from_function(at)
    graph = musubito_graph(graph_of(with_factor_of(tool), "set anew"))
    for _ in range(3):
        tool.metadata = {"owner": ["".join("me")]}
        assert graph.invoke({"n": 1}) == {"n": 1}
    assert len(walks) == 1
    tool.metadata = {"owner": ["you"]}
    graph.invoke({"n": 1})
    assert len(walks) == 2


def test_what_the_function_reaches_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = [musubito_graph(graph_of(with_factor, "reaches")) for _ in range(2)]
    assert [graph.invoke({"n": 1}) for graph in graphs] == [{"n": 1}] * 2
    monkeypatch.setitem(globals(), "FACTOR", 5)
    assert [graph.invoke({"n": 1}) for graph in graphs] == [{"n": 5}] * 2
    assert RAN.counts == {"factor": 2}


@pytest.mark.parametrize("changed", [0, 1])
def test_a_node_that_is_given_another_function_runs_it(changed: int) -> None:
    plain = [graph_of(first, f"given another {changed}") for _ in range(2)]
    graphs = [*map(musubito_graph, plain)]
    assert [graph.invoke({"n": 1}) for graph in graphs] == [{"n": 2}] * 2
    plain[changed].nodes["node"].bound.func = other
    assert graphs[changed].invoke({"n": 1}) == {"n": 3}
    assert graphs[1 - changed].invoke({"n": 1}) == {"n": 2}
    assert RAN.counts == {"first": 1, "other": 1}


def test_a_node_with_other_arguments_is_another(walks: list[type]) -> None:
    def of(**kwargs: Any) -> Any:
        graph = graph_of(first, "other arguments")
        graph.nodes["node"].bound.kwargs.update(kwargs)
        return musubito_graph(graph)

    codes = [graph.nodes["node"].bound.musubito_step.operation.fingerprint() for graph in (of(), of(a=1), of(a=1))]
    assert codes[0].digest != codes[1].digest
    assert codes[1].digest == codes[2].digest
    assert len(walks) == 2


def test_no_function_of_a_function_is_kept() -> None:
    def made() -> Any:
        def node(state: State) -> State:
            return {"n": state["n"]}

        musubito_graph(graph_of(node, "of a function")).invoke({"n": 1})
        return weakref.ref(node)

    function = made()
    gc.collect()
    assert function() is None
