"""What nodes, tools and tasks do outside is named. The first replay of one that nobody configured warns of it."""

from __future__ import annotations

import asyncio
import http.server
import os
import threading
import uuid
import warnings
from collections.abc import Iterator
from typing import Any, TypedDict

import httpx
import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from musubito import MusubitoEngine, MusubitoWarning, StepConfiguration, use_musubito_engine
from musubito.lineage import Lineage
from musubito.lineage.readers.unrepeatable import unrepeatable_of_operations
from musubito_langgraph import musubito_graph, musubito_runnable
from tests.langgraph.specimen import calls


class State(TypedDict, total=False):
    text: str


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def found(engine: MusubitoEngine) -> set[tuple[str, str, str]]:
    rows = unrepeatable_of_operations(Lineage(engine))
    return {(each.operation.rpartition("/")[2], each.thing.kind, each.thing.what.partition(" in ")[0]) for each in rows}


def graph(port: int) -> Any:
    def fetch(state: State) -> Any:
        return {"text": httpx.get(f"http://localhost:{port}").text}

    async def afetch(state: State) -> Any:
        async with httpx.AsyncClient() as client:
            return {"text": state["text"] + (await client.get(f"http://localhost:{port}")).text}

    def stamp(state: State) -> Any:
        return {"text": state["text"] + uuid.uuid4().hex}

    builder = StateGraph(State)
    builder.add_sequence([("fetch", fetch), ("afetch", afetch), ("stamp", stamp)])
    builder.add_edge(START, "fetch")
    builder.add_edge("stamp", END)
    return builder.compile()


def warned(caught: list[warnings.WarningMessage]) -> list[str]:
    return [str(each.message).partition(". ")[0] for each in caught if each.category is MusubitoWarning]


def test_nodes_are_named_and_warned_of_when_they_replay(engine: MusubitoEngine, port: int) -> None:
    host = f"localhost:{port}"
    with warnings.catch_warnings(record=True) as caught, use_musubito_engine(engine):
        warnings.simplefilter("always")
        plain = graph(port)
        recorded = musubito_graph(plain)
        asyncio.run(recorded.ainvoke({"text": ""}))
        assert warned(caught) == []
        for _ in range(2):
            asyncio.run(recorded.ainvoke({"text": ""}))
    assert found(engine) == {("fetch", "network", host), ("afetch", "network", host)}
    assert warned(caught) == [f"LangGraph/{name} opened a connection to {host}" for name in ("fetch", "afetch")]
    lines = [plain.nodes["fetch"].bound.func, plain.nodes["afetch"].bound.afunc]
    assert [(each.filename, each.lineno) for each in caught if each.category is MusubitoWarning] == [
        (__file__, function.__code__.co_firstlineno) for function in lines
    ]


NAMED = {"fetch": StepConfiguration(step_type="stochastic"), "afetch": StepConfiguration(ttl_seconds=60)}


@pytest.mark.parametrize("how", [{"steps": NAMED}, {"default": StepConfiguration(ttl_seconds=60)}])
def test_configured_nodes_are_not_warned_of(engine: MusubitoEngine, port: int, how: dict[str, Any]) -> None:
    with warnings.catch_warnings(record=True) as caught, use_musubito_engine(engine):
        warnings.simplefilter("always")
        for _ in range(2):
            asyncio.run(musubito_graph(graph(port), **how).ainvoke({"text": ""}))
    assert warned(caught) == []


def test_a_node_with_a_configuration_in_its_metadata_is_not_warned_of(engine: MusubitoEngine) -> None:
    def build(state: State) -> Any:
        os.system("true")
        return {"text": "built"}

    builder = StateGraph(State)
    builder.add_node("build", build, metadata={"musubito": StepConfiguration(step_type="stochastic")})
    builder.add_edge(START, "build")
    with warnings.catch_warnings(record=True) as caught, use_musubito_engine(engine):
        warnings.simplefilter("always")
        for _ in range(2):
            musubito_graph(builder.compile()).invoke({"text": ""})
    assert warned(caught) == []


class AsksServer(FakeListChatModel):
    """A model that is reached over HTTP, and reports no tokens."""

    port: int

    def _call(self, *args: Any, **kwargs: Any) -> str:
        return httpx.get(f"http://localhost:{self.port}").text


def test_models_are_not_warned_of_and_other_runnables_are(engine: MusubitoEngine, port: int) -> None:
    def fetch(word: str) -> str:
        return httpx.get(f"http://localhost:{port}").text

    model = AsksServer(responses=["ok"], port=port)
    with warnings.catch_warnings(record=True) as caught, use_musubito_engine(engine):
        warnings.simplefilter("always")
        for each in (model, model.bind(stop=["."]), fetch, RunnableLambda(fetch)):
            for _ in range(2):
                musubito_runnable(each).invoke("a")
        quiet = musubito_runnable(fetch, semantics=StepConfiguration(step_type="stochastic"))
        assert [quiet.invoke("b") for _ in range(2)] == ["ok", "ok"]
    steps = [each.partition(" opened a connection")[0].rpartition(".")[2] for each in warned(caught)]
    assert steps == ["fetch", "fetch"], "a function and a Runnable of it are two steps, and a model is none of them"


def test_tools_are_named(engine: MusubitoEngine, port: int) -> None:
    @tool
    def look_up(word: str) -> str:
        """Look up a word."""
        os.system("true")
        return httpx.get(f"http://localhost:{port}").text

    builder = StateGraph(MessagesState)
    builder.add_node("tools", ToolNode([look_up]))
    builder.add_edge(START, "tools")
    with use_musubito_engine(engine):
        graph = musubito_graph(builder.compile(), replay_tools=True)
        graph.invoke({"messages": [calls(("look_up", {"word": "fog"}))]})
    assert {(name, kind) for name, kind, _ in found(engine)} == {
        ("tools.look_up", "network"),
        ("tools.look_up", "process"),
    }
