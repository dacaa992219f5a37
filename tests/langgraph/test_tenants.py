"""What belongs to one tenant (a bad key, a client, a session) reaches no other."""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph

from musubito_langgraph import musubito_graph

pytestmark = pytest.mark.usefixtures("engine")


class State(TypedDict, total=False):
    q: str
    a: str


class Unauthorised(Exception):
    pass


class Client:
    """Counts by its class alone, as clients do whose keys are no setting."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __musubito_identity__(self) -> str:
        return "a client"

    async def ask(self, question: str) -> str:
        await asyncio.sleep(0.1)
        if self.key == "bad":
            raise Unauthorised(self.key)
        return question.upper()


def graph_with(client: Client) -> Any:
    async def node(state: State) -> State:
        return {"a": await client.ask(state["q"])}

    return musubito_graph(StateGraph(State).add_node("node", node).add_edge(START, "node").compile(name="tenants"))


def answers(*asked: Any) -> list[Any]:
    async def at_once() -> list[Any]:
        return await asyncio.gather(*asked, return_exceptions=True)

    return [each if isinstance(each, BaseException) else each["a"] for each in asyncio.run(at_once())]


def test_a_failure_of_another_tenants_graph():
    bad, *good = answers(*(graph_with(Client(key)).ainvoke({"q": "hi"}) for key in ("bad", "good", "good")))
    assert isinstance(bad, Unauthorised)
    assert good == ["HI", "HI"]


def test_a_failure_of_another_tenants_request():
    async def node(state: State, config: RunnableConfig) -> State:
        return {"a": await Client(config["configurable"]["key"]).ask(state["q"])}

    builder = StateGraph(State).add_node("node", node).add_edge(START, "node")
    graph = musubito_graph(builder.compile(), ignore_config=["key"])
    asked = (graph.ainvoke({"q": "hi"}, {"configurable": {"key": key}}) for key in ("bad", "good", "good"))
    bad, *good = answers(*asked)
    assert isinstance(bad, Unauthorised)
    assert good == ["HI", "HI"]
