"""Nobody can tell a wrapped graph from a bare one, by whatever they look at; and a replay owes the same."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from importlib.metadata import version

import pytest
from langchain_core.runnables import RunnableLambda
from langgraph.graph.state import CompiledStateGraph

from musubito import MusubitoEngine, SQLiteStorage, use_musubito_engine
from musubito_langgraph import musubito_graph
from tests.fresh import fresh
from tests.langgraph.equivalence import LOOKS, compare, not_replayed, some_looks
from tests.langgraph.zoo import ZOO

TURNS = {name: turn for turn, name in enumerate(ZOO)}


def specimen(name):
    found = ZOO[name]
    if tuple(map(int, version("langgraph").split(".")[:2])) < tuple(map(int, found.since.split("."))):
        pytest.skip(f"needs langgraph {found.since}")
    return found


@pytest.fixture
def world(tmp_path):
    """A world that knows nothing, each time it is entered."""
    numbers = itertools.count()

    @contextmanager
    def enter() -> Iterator[None]:
        engine = MusubitoEngine(SQLiteStorage(fresh(tmp_path / f"{next(numbers)}.db")))
        with use_musubito_engine(engine):
            yield
        engine.close()

    return enter


def report(lines):
    return "\n".join(lines)


# -- the adapter ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ZOO)
def test_a_wrapped_graph_cannot_be_told_from_the_bare_one(name, world):
    assert report(compare(specimen(name), musubito_graph, world, looks=some_looks(TURNS[name]))) == ""


@pytest.mark.parametrize("name", [name for name in ZOO if ZOO[name].tools])
def test_nor_can_one_whose_tools_are_opted_in(name, world):
    wrap, replaying = partial(musubito_graph, replay_tools=True), replace(specimen(name), tools=frozenset())
    assert report(compare(replaying, wrap, world, looks=some_looks(TURNS[name]))) == ""


@pytest.mark.soak
@pytest.mark.parametrize("name", ZOO)
def test_nor_by_any_other_look(name, world):
    assert report(compare(specimen(name), musubito_graph, world)) == ""


# -- the harness: it finds nothing where there is nothing ----------------------------------------------------------
def bare(graph):
    return graph


@pytest.mark.soak
@pytest.mark.parametrize("name", ZOO)
def test_a_bare_graph_equals_itself(name):
    assert report(compare(specimen(name), bare, nullcontext, replays=False)) == ""


@pytest.mark.parametrize("name", list(ZOO)[::12])
def test_some_bare_graphs_equal_themselves(name):
    assert report(compare(specimen(name), bare, nullcontext, replays=False)) == ""


# -- and notices what there is -------------------------------------------------------------------------------------
def changed(graph, **nodes):
    """A copy of a compiled graph with other nodes in it; a builder as it is."""
    if not isinstance(graph, CompiledStateGraph):
        return graph
    copied = copy.copy(graph)
    copied.nodes = {**graph.nodes, **nodes}
    return copied


def found(wrap, *, name="topologies: chain", replays=False):
    lines = compare(ZOO[name], wrap, nullcontext, replays=replays)
    return {line.partition(",")[0] for line in lines}, report(lines)


def test_a_node_by_another_name_is_noticed():
    def renamed(graph):
        if not isinstance(graph, CompiledStateGraph):
            return graph
        copied = copy.copy(graph)
        copied.nodes = {("z" if name == "c" else name): node for name, node in graph.nodes.items()}
        return copied

    looks, text = found(renamed)
    assert {"shape", "stream updates", "stream tasks", "stream debug", "chain", "stream all"} <= looks
    assert "stream updates, cold: $.events[2]: ((), 'updates', {'c': {'trail': ['c']}}) is missing" in text


def test_a_run_too_much_is_noticed_by_tracers_alone():
    def layered(graph):
        if not isinstance(graph, CompiledStateGraph):
            return graph
        inner = graph.nodes["a"].bound
        layer = RunnableLambda(inner.invoke, name="layer")
        return changed(graph, a=graph.nodes["a"].copy({"bound": layer}))

    looks, text = found(layered)
    assert looks == {"ainvoke", "chain", "shape", "astream_events"}
    assert "'name': 'layer'" in text


def test_another_output_is_noticed():
    def doubled(graph):
        if not isinstance(graph, CompiledStateGraph):
            return graph
        inner = graph.nodes["b"].bound

        def twice(state):
            return {"trail": 2 * inner.func(state)["trail"]}

        layer = copy.copy(inner)
        layer.func = twice
        layer.afunc = None
        return changed(graph, b=graph.nodes["b"].copy({"bound": layer}))

    looks, text = found(doubled)
    assert {"batch", "stream values", "stream updates", "stream all"} <= looks
    assert "stream values, cold: $.events[2][2].trail[3]: 'b' is too much" in text


def test_a_replay_that_runs_is_noticed():
    looks, text = found(bare, replays=True)
    assert looks == {look.name.partition(",")[0] for look in LOOKS if look.runs}
    assert "stream values, warm: ran again: {'a': 1, 'b': 1, 'c': 1}" in text


def test_a_question_that_is_not_asked_again_is_noticed():
    asks, (look, *_) = ZOO["interrupts: one_question"], LOOKS
    assert list(not_replayed(asks, look, {"ran": {"a": 1, "ask": 2}}, {"ran": {}})) == [
        "must run again: {'ask': 2}, ran: {'ask': 0}"
    ]
    assert list(not_replayed(asks, look, {"ran": {"a": 1, "ask": 2}}, {"ran": {"ask": 2}})) == []
