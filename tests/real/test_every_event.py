"""All events of a graph that asks models, bare, recorded and replayed: they differ in ids, times, the mark and usage."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, SystemMessage
from langgraph.graph import START, MessagesState, StateGraph

from musubito import MusubitoEngine
from musubito_langgraph import musubito_graph
from tests.langgraph.equivalence import Plain
from tests.real.model_server import ModelServer
from tests.real.test_middleware import ASKED, CLIENTS, add, double

QUESTION = {"messages": [HumanMessage("Hello.", id="1"), HumanMessage(ASKED, id="2")]}
OF_SERVERS = "usage", "usage_metadata", "token_usage", "system_fingerprint", "service_tier"
"""What a server tells of an answer besides the answer, which is new each time or is left out of a replay."""


def one_node(client: str) -> Any:
    model = CLIENTS[client]()

    async def answer(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke([SystemMessage("Be kind."), *state["messages"]])]}

    return StateGraph(MessagesState).add_node(answer).add_edge(START, "answer").compile()


def agent(client: str) -> Any:
    return create_agent(CLIENTS[client](), [add, double], system_prompt="Be kind.")


async def invoked(graph: Any) -> Any:
    return await graph.ainvoke(QUESTION)


async def v2(graph: Any) -> Any:
    return [event async for event in graph.astream_events(QUESTION, version="v2")]


async def v3(graph: Any) -> Any:
    return [event async for event in await graph.astream_events(QUESTION, version="v3")]


def plain(value: Any) -> Any:
    return without(Plain(blank=True)(value))


def without(value: Any) -> Any:
    if isinstance(value, dict):
        left_out = {*OF_SERVERS, "musubito_replayed", "timestamp"}
        return {key: without(each) for key, each in value.items() if key not in left_out}
    if isinstance(value, str):
        return re.sub(r"\b(toolu|msg)_[0-9a-f]{24}\b", "<id>", value)
    return [without(each) for each in value if each != "usage_metadata"] if isinstance(value, list | tuple) else value


@pytest.mark.filterwarnings("ignore:The v3 streaming protocol")
@pytest.mark.parametrize("look", [invoked, v2, v3], ids=lambda look: look.__name__)
@pytest.mark.parametrize("build", [one_node, agent], ids=lambda build: build.__name__)
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_replay_shows_all_that_a_bare_run_shows(
    engine: MusubitoEngine, server: ModelServer, client: str, build: Callable[[str], Any], look: Callable[[Any], Any]
) -> None:
    bare = plain(await look(build(client)))
    graph = musubito_graph(build(client), replay_tools=True)
    assert plain(await look(graph)) == bare
    server.took()
    assert plain(await look(graph)) == bare
    assert server.took() == 0
