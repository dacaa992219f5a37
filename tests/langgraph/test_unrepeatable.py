"""Nodes, tools and tasks that ask for what is another each time are named, and warned of if they are DETERMINISTIC."""

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
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from musubito import MusubitoEngine, MusubitoWarning, StepConfiguration, StepType, use_musubito_engine
from musubito.lineage import Lineage
from musubito.lineage.unrepeatable import unrepeatable_of_operations
from musubito_langgraph import musubito_graph
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


def test_nodes_are_named_and_not_warned_of(engine: MusubitoEngine, port: int) -> None:
    with warnings.catch_warnings(), use_musubito_engine(engine):
        warnings.simplefilter("error", MusubitoWarning)
        asyncio.run(musubito_graph(graph(port)).ainvoke({"text": ""}))
    host = f"localhost:{port}"
    assert found(engine) == {("fetch", "network", host), ("afetch", "network", host), ("stamp", "ids", "uuid.uuid4")}


def test_a_deterministic_node_is_warned_of_once(engine: MusubitoEngine, port: int) -> None:
    steps = {"stamp": StepConfiguration(step_type=StepType.DETERMINISTIC)}
    with warnings.catch_warnings(record=True) as caught, use_musubito_engine(engine):
        warnings.simplefilter("always")
        for text in ("a", "b"):
            asyncio.run(musubito_graph(graph(port), steps=steps).ainvoke({"text": text}))
    (said,) = (str(each.message) for each in caught if each.category is MusubitoWarning)
    assert "/stamp makes ids: uuid.uuid4 in " in said and "is DETERMINISTIC" in said


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
        musubito_graph(builder.compile()).invoke({"messages": [calls(("look_up", {"word": "fog"}))]})
    assert {(name, kind) for name, kind, _ in found(engine)} == {
        ("tools.look_up", "network"),
        ("tools.look_up", "process"),
    }
