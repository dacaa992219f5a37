"""Events that `dispatch_custom_event` tells to callbacks come again when what told them is replayed."""

from __future__ import annotations

import asyncio
from typing import Any, TypeAlias

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.callbacks.manager import dispatch_custom_event
from langchain_core.runnables import RunnableConfig
from langgraph.graph import StateGraph
from typing_extensions import TypedDict

from musubito import MusubitoEngine
from musubito.lineage import Lineage
from musubito_langgraph import musubito_graph, musubito_runnable
from tests.langgraph.models import Calls

pytestmark = pytest.mark.usefixtures("engine")

Heard: TypeAlias = "list[tuple[str, Any, str]]"


class State(TypedDict, total=False):
    heard: str
    said: str


class Hears(BaseCallbackHandler):
    def __init__(self) -> None:
        self.heard: Heard = []

    def on_custom_event(self, name: str, data: Any, *, metadata: Any = None, **kwargs: Any) -> None:
        self.heard.append((name, data, (metadata or {}).get("langgraph_node", "")))


class HearsLater(AsyncCallbackHandler):
    def __init__(self) -> None:
        self.heard: Heard = []

    async def on_custom_event(self, name: str, data: Any, *, metadata: Any = None, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        self.heard.append((name, data, (metadata or {}).get("langgraph_node", "")))


def graph_of(node: Any) -> Any:
    node.__name__ = "node"
    return musubito_graph(StateGraph(State).add_sequence([node]).set_entry_point("node").compile())


def heard_by(handler: Any, graph: Any) -> Heard:
    graph.invoke({"heard": "x"}, {"callbacks": [handler]})
    return handler.heard


def test_those_of_a_node():
    calls = Calls()

    def node(state: State) -> State:
        calls("node")
        found = {"pages": 1}
        dispatch_custom_event("progress", found)
        found["pages"] = 2
        dispatch_custom_event("progress", found)
        return {"said": "done"}

    graph = graph_of(node)
    live = heard_by(Hears(), graph)
    assert live == [("progress", {"pages": 2}, "node")] * 2, "the handler keeps what the node went on to change"
    assert heard_by(Hears(), graph) == [("progress", {"pages": 1}, "node"), ("progress", {"pages": 2}, "node")]
    assert heard_by(HearsLater(), graph) == heard_by(Hears(), graph)
    assert calls.total == 1


def test_those_of_what_is_replayed_inside_belong_to_what_encloses_it():
    calls = Calls()

    @musubito_runnable
    def tell(value: Any) -> Any:
        calls("told")
        dispatch_custom_event("told", value)
        return value

    def node(state: State) -> State:
        return {"said": tell.invoke("hi")}

    def edited(state: State) -> State:
        return {"said": tell.invoke("hi") + "!"}

    for version in (node, edited, edited, node):
        assert [(name, data) for name, data, _ in heard_by(Hears(), graph_of(version))] == [("told", "hi")]
    assert calls.total == 1


@pytest.mark.parametrize("is_async", [False, True])
def test_those_of_a_stream(is_async: bool):
    calls = Calls()

    @musubito_runnable
    def tell(value: Any) -> Any:
        calls("told")
        dispatch_custom_event("told", value)
        return value

    def streamed() -> Heard:
        hears = Hears()
        config: RunnableConfig = {"callbacks": [hears]}

        async def consumed() -> list[Any]:
            return [each async for each in tell.astream("hi", config)]

        assert (asyncio.run(consumed()) if is_async else list(tell.stream("hi", config))) == ["hi"]
        return hears.heard

    assert streamed() == streamed() == [("told", "hi", "")]
    assert calls.total == 1


def test_what_cannot_be_stored_is_not_replayed():
    calls = Calls()

    def node(state: State) -> State:
        calls("node")
        dispatch_custom_event("progress", object())
        return {"said": "done"}

    graph = graph_of(node)
    for _ in range(2):
        assert len(heard_by(Hears(), graph)) == 1
    assert calls.total == 2


def test_a_reader_is_shown_what_the_node_gave(engine: MusubitoEngine):
    def node(state: State) -> State:
        dispatch_custom_event("progress", {"pages": 1})
        return {"said": "done"}

    graph_of(node).invoke({"heard": "x"})
    lineage = Lineage(engine)
    (call,) = lineage.run("last").calls
    assert lineage.output(lineage.node(call.node_id)) == {"said": "done"}
