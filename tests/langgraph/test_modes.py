"""A graph's steps go by the modes of whatever is around them, and by its own config first."""

from __future__ import annotations

from collections.abc import Callable
from operator import add
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph

from musubito import (
    MusubitoEngine,
    NotReplayed,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    musubito_step,
    run,
    use_musubito_engine,
)
from musubito_langgraph import musubito_graph, musubito_runnable
from tests.langgraph.specimen import Ran, took

pytestmark = pytest.mark.usefixtures("engine")
Ask = Callable[..., Any]


class State(TypedDict, total=False):
    text: str
    done: Annotated[list[str], add]


def by(mode: str) -> Any:
    return {"configurable": {"musubito": {"mode": mode}}}


def graph(ran: Ran, mark: str = "", **options: Any) -> Any:
    """A node that calls a plain step."""

    @musubito_step(name="inner")
    def inner(text: str) -> str:
        ran("inner")
        return text

    def node(state: State) -> Any:
        ran("node")
        return {"done": [inner(state["text"]).value + mark]}

    built = StateGraph(State).add_node(node).add_edge(START, "node").compile(name="g")
    return musubito_graph(built, **options)


BOTH = {"node": 1, "inner": 1}


def test_a_run_and_the_environment_say_how_a_graph_is_invoked(
    ran: Ran, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(graph(ran), {"text": "x"})
    assert took(ran) == BOTH
    with run(mode="refresh"):
        ask(graph(ran), {"text": "x"})
    assert took(ran) == BOTH, "plain steps inside of nodes, too"
    with run(mode="replay_only"):
        ask(graph(ran), {"text": "x"})
        with pytest.raises(NotReplayed) as raised:
            ask(graph(ran), {"text": "y"})
    assert raised.value.operation == "g/node"
    assert "its input changed: `$.input.text`" in str(raised.value)
    monkeypatch.setenv("MUSUBITO_MODE", "replay_only")
    with pytest.raises(NotReplayed):
        ask(graph(ran), {"text": "y"})
    assert took(ran) == {}
    monkeypatch.setenv("MUSUBITO_MODE", "off")
    ask(graph(ran), {"text": "x"})
    assert took(ran) == BOTH
    monkeypatch.setenv("MUSUBITO_MODE", "refresh")
    ask(graph(ran), {"text": "x"})
    assert took(ran) == BOTH


def test_without_an_engine_nothing_is_recorded(ran: Ran, ask: Ask, engine: MusubitoEngine) -> None:
    for options in ({}, {"engine": engine}):
        with use_musubito_engine(None):
            for _ in range(2):
                ask(graph(ran, **options), {"text": "x"})
    assert took(ran) == {"node": 4, "inner": 4}
    ask(graph(ran), {"text": "x"})
    assert took(ran) == BOTH


def test_the_config_comes_first(ran: Ran, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(graph(ran), {"text": "x"})
    took(ran)
    monkeypatch.setenv("MUSUBITO_MODE", "off")
    for mode in ("replay", "live"):  # the old word
        with run(mode="refresh"):
            ask(graph(ran), {"text": "x"}, by(mode))
        assert took(ran) == {}
    with run(mode="refresh"):
        ask(graph(ran), {"text": "x"}, by("off"))
    assert took(ran) == BOTH, "of its own nodes; what they call goes by what is around"
    with use_musubito_engine(None):
        ask(graph(ran), {"text": "x"}, by("replay"))
        assert took(ran) == {}, "recorded by the engine around"


def test_a_refreshed_node_has_its_steps_run_anew(ran: Ran, ask: Ask) -> None:
    ask(graph(ran), {"text": "x"})
    took(ran)
    ask(graph(ran), {"text": "x"}, by("refresh"))
    assert took(ran) == BOTH
    ask(graph(ran), {"text": "x"})
    assert took(ran) == {}


def test_what_cannot_be_identified_does_not_run_where_nothing_may(ran: Ran, ask: Ask) -> None:
    class Held(TypedDict, total=False):
        lock: Any
        done: Annotated[list[str], add]

    def node(state: Held) -> Any:
        ran("node")
        return {"done": [str(state["lock"])]}

    built = musubito_graph(StateGraph(Held).add_node(node).add_edge(START, "node").compile(name="g"))
    with pytest.raises(NotReplayed, match="cannot be compared"):
        ask(built, {"lock": (each for each in "a generator")}, by("replay_only"))
    assert took(ran) == {}


def test_the_body_of_an_entrypoint_calls_plain_steps(ran: Ran, ask: Ask) -> None:
    @musubito_step(name="plain")
    def plain(text: str) -> str:
        ran("plain")
        return text

    @task
    def one(text: str) -> str:
        ran("one")
        return text

    @entrypoint()
    def workflow(text: str) -> str:
        return plain(text).value + one(text).result()

    wrapped = musubito_graph(workflow)
    ask(wrapped, "x")
    assert took(ran) == {"plain": 1, "one": 1}
    ask(wrapped, "x", by("refresh"))
    assert took(ran) == {"plain": 1, "one": 1}
    ask(wrapped, "x", by("replay_only"))
    with pytest.raises(NotReplayed):
        ask(wrapped, "y", by("replay_only"))
    assert took(ran) == {}, "the plain step that comes first does not run either"


def test_runnables_go_by_them_too(ran: Ran) -> None:
    def double(value: int) -> int:
        ran("double")
        return 2 * value

    runnable = musubito_runnable(double, semantics=StepConfiguration())
    for mode, runs in (("replay", 1), ("replay_only", 0), ("refresh", 2), ("off", 2), ("replay", 0)):
        with run(mode=mode):
            assert (runnable.invoke(1), list(runnable.stream(1)) if mode != "replay" else [2]) == (2, [2])
        assert (mode, took(ran).get("double", 0)) == (mode, runs)


def test_an_effect_is_unrecorded_where_nothing_is_recorded(ran: Ran, ask: Ask, engine: MusubitoEngine) -> None:
    def send(state: State) -> Any:
        ran("send")
        return {"done": ["sent"]}

    built = StateGraph(State).add_node(send).add_edge(START, "send").compile(name="g")
    effect = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT)
    wrapped = musubito_graph(built, steps={"send": effect})
    for mode, runs in (("off", 1), ("replay", 1), ("refresh", 0), ("replay_only", 0), ("off", 1)):
        with run(mode=mode):
            ask(wrapped, {"text": "x"})
        assert (mode, took(ran).get("send", 0)) == (mode, runs)


def test_a_step_around_a_graph_that_is_off_is_not_replayed(ran: Ran, tmp_path: Any) -> None:
    built = graph(ran)

    @musubito_step(name="outer")
    def outer(text: str) -> list[str]:
        ran("outer")
        done: list[str] = built.invoke({"text": text}, by("off"))["done"]
        return done

    for _ in range(2):
        outer("x")
    assert took(ran) == {"outer": 2, "node": 2, "inner": 1}
    with MusubitoEngine(SQLiteStorage(tmp_path / "other.db")) as other, use_musubito_engine(other):
        outer("x")
    assert took(ran) == {"outer": 1, **BOTH}
