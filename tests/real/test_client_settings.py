"""Settings of real clients that say how something is asked, and not what: a change of them asks the server nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware, ModelRetryMiddleware
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph

from musubito import MusubitoEngine, StepConfiguration
from musubito_langgraph import musubito_graph
from tests.real.model_server import ModelServer

CLIENTS: dict[str, Callable[..., Any]] = {
    "openai": lambda **settings: ChatOpenAI(model="gpt-test", **settings),
    "anthropic": lambda **settings: ChatAnthropic(model="claude-test", **settings),
}
QUESTION: Any = {"messages": [("user", "Well?")]}
HEADERS = {"X-Request-ID": "1", "traceparent": "2", "X-Tone": "kind"}


def asks(model: Any) -> Any:
    return lambda state: {"messages": [model.invoke(state["messages"])]}


def catches(model: Any) -> Any:
    def node(state: MessagesState) -> Any:
        try:
            return {"messages": [model.invoke(state["messages"])]}
        except Exception:
            return {"messages": [("ai", "No answer.")]}

    return node


def decodes(model: Any) -> Any:
    def node(state: MessagesState) -> Any:
        answer = model.invoke(state["messages"])
        try:
            return {"messages": [("ai", str(int(answer.text)))]}
        except ValueError:
            return {"messages": [answer]}

    return node


def graph_of(node: Any) -> Any:
    return StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile(name="g")


def agent(*middleware: Any) -> Callable[[Any], Any]:
    return lambda model: create_agent(model, [], middleware=middleware, name="g")


def requests(server: ModelServer, graphs: Sequence[Any], **options: Any) -> list[int]:
    """Return how often the server is asked by each of the graphs."""
    said = []
    for graph in graphs:
        musubito_graph(graph, models=False, **options).invoke(QUESTION)
        said.append(server.took())
    return said


WAYS: dict[str, Callable[[Any], Any]] = {
    "a node": lambda model: graph_of(asks(model)),
    "a node that catches other errors": lambda model: graph_of(decodes(model)),
    "an agent": agent(),
}
SHOW: dict[str, Callable[[Any], Any]] = {
    "an except": lambda model: graph_of(catches(model)),
    "with_fallbacks": lambda model: graph_of(asks(model.with_fallbacks([CLIENTS["openai"]()]))),
    "with_retry": lambda model: graph_of(asks(model.with_retry())),
    "a fallback middleware": agent(ModelFallbackMiddleware(ChatOpenAI(model="gpt-other", api_key="k"))),
    "a retry middleware": agent(ModelRetryMiddleware(max_retries=1)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("client", CLIENTS)
def test_how_a_service_is_reached_does_not_count(
    engine: MusubitoEngine, server: ModelServer, client: str, way: str
) -> None:
    path = "/v1" if client == "openai" else ""
    port = server.url.rpartition(":")[2]
    told: list[dict[str, Any]] = [
        {"base_url": f"{server.url}{path}", "default_headers": HEADERS},
        {"base_url": f"http://localhost:{port}{path}", "default_headers": {"X-Tone": "kind"}},
        {"base_url": f"{server.url}{path}/", "default_headers": {**HEADERS, "X-Request-ID": "3"}, "timeout": 9},
        {"base_url": f"{server.url}{path}", "default_headers": HEADERS, "max_retries": 7, "tags": ["new"]},
    ]
    if client == "openai":
        told.append({**told[0], "http_client": httpx.Client(timeout=3), "stream_chunk_timeout": 9})
    graphs = [WAYS[way](CLIENTS[client](**settings)) for settings in told]
    assert requests(server, graphs) == [1, *[0] * (len(graphs) - 1)]

    others = [{"default_headers": {"X-Tone": "curt"}}, {"temperature": 0.5}]
    assert requests(server, [WAYS[way](CLIENTS[client](**{**told[0], **other})) for other in others]) == [1, 1]


@pytest.mark.parametrize("way", SHOW)
def test_attempts_count_where_the_code_may_show_a_failure(
    engine: MusubitoEngine, server: ModelServer, way: str
) -> None:
    graphs = [SHOW[way](CLIENTS["openai"](**settings)) for settings in ({}, {"timeout": 9}, {"max_retries": 7})]
    assert requests(server, graphs) == [1, 1, 1]


def test_a_setting_that_is_ignored_does_not_count(engine: MusubitoEngine, server: ModelServer) -> None:
    told: Sequence[dict[str, Any]] = {}, {"service_tier": "flex"}, {"default_headers": {"X-Tone": "curt"}}
    graphs = [WAYS["a node"](CLIENTS["openai"](**settings)) for settings in told]
    assert requests(server, graphs, ignore_settings=("service_tier",)) == [1, 0, 1]
    both = StepConfiguration(step_type="stochastic", ignore_settings=("default_headers",))
    assert requests(server, graphs, ignore_settings=("service_tier",), steps={"node": both}) == [1, 0, 0]
    elsewhere = [
        WAYS["a node"](CLIENTS["openai"](base_url=url)) for url in (f"{server.url}/v1", f"{server.url}/other/v1")
    ]
    assert requests(server, elsewhere, ignore_settings=["base_url"]) == [1, 0]


@pytest.mark.parametrize("names", ["base_url", [1], ["base url"]])
def test_what_is_no_collection_of_names_is_refused(names: Any) -> None:
    with pytest.raises(TypeError, match="ignore_settings"):
        musubito_graph(WAYS["a node"](None), ignore_settings=names)
    with pytest.raises(TypeError, match="ignore_settings"):
        StepConfiguration(ignore_settings=names)
