"""What tells one run from another and came out of a step was read by it, whatever read it: native code, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict
from uuid import UUID

import ormsgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel, ConfigDict

from musubito_langgraph import musubito_graph, musubito_runnable
from musubito_langgraph.config_reads import telling
from tests.langgraph.specimen import Ran, took

pytestmark = pytest.mark.usefixtures("engine")
TAGS = "".join(["ta", "gs"])
"""A name that no code mentions."""
ANN, BOB = "b5cb6b31-08a7-4a02-8a6c-1f6a0ad2a8a1", "5f0a2f6e-2e0e-4f0e-9d41-9a34ce6ff8cb"


class State(TypedDict, total=False):
    q: str
    a: Any


class Whole(BaseModel):
    model_config = ConfigDict(extra="allow")


def natively(part: Any) -> dict[str, Any]:
    """The texts in a part of a config as C code sees them, past all methods of a dict; no id of this very task."""
    texts = {str(key): dict.__getitem__(part, key) for key in dict.keys(part)}
    return {
        key: text for key, text in texts.items() if type(text) is str and "node" not in key + text and key[0] != "_"
    }


PARTS = {
    "configurable": lambda config: natively(config["configurable"]),
    "metadata": lambda config: natively(config["metadata"]),
    "labels": lambda config: tuple(list.__iter__(config[TAGS])),
}
PLACES: dict[str, Callable[[Any], Any]] = {
    "as it is": lambda read: read,
    "in a text": lambda read: f"Told: {read}.",
    "in bytes": lambda read: ormsgpack.packb(read, option=ormsgpack.OPT_NON_STR_KEYS),
    "in a message": lambda read: AIMessage(f"Told: {read}"),
    "as a key": lambda read: dict.fromkeys(read.values() if isinstance(read, dict) else read, 1),
    "in a model": lambda read: Whole(read=str(read)),
}


def config_of(who: str) -> Any:
    return {"configurable": {"thread_id": who}, "metadata": {"asked_by": f"user {who}", "who": who}, "tags": [who]}


def told_by(look: Callable[[Any], Any], ran: Ran) -> Any:
    def node(state: State, config: RunnableConfig) -> Any:
        ran("node")
        return {"a": look(config)}

    return musubito_graph(StateGraph(State).add_node("node", node).add_edge(START, "node").compile(name="g"))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("part", PARTS)
def test_what_came_out_was_read(part: str, place: str, ran: Ran) -> None:
    def look(config: Any) -> Any:
        return PLACES[place](PARTS[part](config))

    graph = told_by(look, ran)
    answers = [str(graph.invoke({"q": "?"}, config_of(who))["a"]) for who in (ANN, BOB, ANN, BOB)]
    assert ANN in answers[0]
    assert BOB in answers[1]
    assert answers[2:] == answers[:2]
    assert took(ran) == {"node": 2}


VALUES: dict[str, tuple[str, str]] = {
    "uuid": (ANN, BOB),
    "mail": ("ann@example.com", "bob@example.com"),
    "number": ("customer-17", "customer-18"),
    "full name": ("Ann Miller", "Bob Miller"),
    "signs": ("a.b*c(d", "a.b*c(e"),
}
BY_CHANCE = {"short": ("ann", "bob"), "word": ("production", "development"), "digits": ("17", "18")}


def said(text: str, config: Any) -> str:
    (who,) = list.__iter__(config[TAGS])
    return text.format(who)


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("text", ["{}", "Dear {}, hello", "<{}>"])
def test_a_value_that_tells_a_run(values: str, text: str, ran: Ran) -> None:
    graph = told_by(lambda config: said(text, config), ran)
    answers = [graph.invoke({"q": "?"}, {"tags": [who]})["a"] for who in VALUES[values] * 2]
    assert answers == [text.format(who) for who in VALUES[values] * 2]
    assert took(ran) == {"node": 2}


@pytest.mark.parametrize("values", BY_CHANCE)
def test_a_value_that_may_occur_by_chance_does_not_count(values: str, ran: Ran) -> None:
    graph = told_by(lambda _: f"{BY_CHANCE[values]} and others", ran)
    for who in BY_CHANCE[values]:
        graph.invoke({"q": "?"}, {"configurable": {"thread_id": who}, "metadata": {"who": who}, "tags": [who]})
    assert took(ran) == {"node": 1}


def test_nor_does_a_part_of_a_longer_word(ran: Ran) -> None:
    graph = told_by(lambda _: "customer-178 and a_customer-17", ran)
    for who in ("customer-17", "customer-18"):
        graph.invoke({"q": "?"}, {"tags": [who]})
    assert took(ran) == {"node": 1}


def test_a_value_that_does_not_come_out_does_not_count(ran: Ran) -> None:
    graph = told_by(lambda config: len(natively(config["configurable"])), ran)
    for who in (ANN, BOB):
        graph.invoke({"q": "?"}, config_of(who))
    assert took(ran) == {"node": 1}


def test_a_node_that_tells_its_own_name_reads_nothing(ran: Ran) -> None:
    """A graph that such a node belongs to may be called by a node of another name, which is replayed whole."""

    def of(name: str, node: Callable[[Any], Any]) -> Any:
        return musubito_graph(StateGraph(MessagesState).add_node(name, node).add_edge(START, name).compile(name=name))

    def look_up(state: MessagesState) -> MessagesState:
        ran("look_up")
        return {"messages": [HumanMessage("found", name="look_up")]}

    def research(state: MessagesState) -> MessagesState:
        ran("research")
        return {"messages": inner.invoke(state)["messages"][-1:]}

    inner = of("look_up", look_up)
    graph = of("the research", research)
    for _ in range(2):
        assert graph.invoke({"messages": [HumanMessage("?")]})["messages"][-1].name == "look_up"
    assert ran.counts == {"research": 1, "look_up": 1}


def test_what_is_left_out_does_not_count(ran: Ran) -> None:
    def node(state: State, config: RunnableConfig) -> Any:
        ran("node")
        return {"a": str(natively(config["metadata"]))}

    bare = StateGraph(State).add_node("node", node).add_edge(START, "node").compile(name="g")
    graph = musubito_graph(bare, ignore_config=["request"])
    for request in (ANN, BOB):
        graph.invoke({"q": "?"}, {"metadata": {"request": request}})
    assert took(ran) == {"node": 1}


def test_what_a_stream_tells_was_read(ran: Ran) -> None:
    def node(state: State, config: RunnableConfig) -> Any:
        ran("node")
        get_stream_writer()(natively(config["configurable"]))
        return {"a": 1}

    graph = musubito_graph(StateGraph(State).add_node("node", node).add_edge(START, "node").compile(name="g"))
    events = [[*graph.stream({"q": "?"}, config_of(who), stream_mode="custom")] for who in (ANN, BOB, ANN)]
    assert [ANN in str(events[0]), BOB in str(events[1]), events[2] == events[0]] == [True, True, True]
    assert took(ran) == {"node": 2}


def test_so_was_what_a_runnable_tells(ran: Ran) -> None:
    def look(text: str, config: RunnableConfig) -> str:
        ran("look")
        return text + str(natively(config["configurable"]))

    runnable = musubito_runnable(look)
    for ask in (runnable.invoke, lambda *given: "".join(runnable.stream(*given))):
        answers = [ask("to ", config_of(who)) for who in (ANN, BOB, ANN, BOB)]
        assert [ANN in answers[0], BOB in answers[1], answers[2:] == answers[:2]] == [True, True, True]
    assert took(ran) == {"look": 2}


def test_the_id_of_a_run_in_a_typed_place_is_an_id_like_others(ran: Ran) -> None:
    def node(state: MessagesState) -> Any:
        ran("node")
        return {"messages": [AIMessage("hello", id=f"lc_run--{state['messages'][0].content}")]}

    graph = musubito_graph(StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile(name="g"))
    for who in (ANN, BOB):
        graph.invoke({"messages": [("user", ANN)]}, config_of(who))
    assert took(ran) == {"node": 1}


@given(st.text(max_size=12))
def test_which_values_tell_a_run(text: str) -> None:
    tells = len(text) >= 6 and not all(each.isalpha() for each in text)
    assert [*telling({"metadata": {"who": text}})] == ([("metadata.who", text)] if tells else [])


def test_each_value_is_looked_for_once() -> None:
    config: Any = {
        "configurable": {"thread_id": ANN, "musubito": {"namespace": "not-this"}, "user_id": "counts-anyway"},
        "metadata": {"thread_id": ANN, "user_id": "counts-anyway", "by": UUID(BOB), "n": 1234567},
        "tags": [BOB, "tag-17"],
    }
    assert [*telling(config)] == [("configurable.thread_id", ANN), ("metadata.by", BOB), ("tags", "tag-17")]
