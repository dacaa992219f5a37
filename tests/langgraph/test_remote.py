"""A graph that runs elsewhere, as a node: what it is asked and what comes of it is as without a wrapper."""

from __future__ import annotations

import asyncio
import json
import operator
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.pregel.remote import RemoteGraph

from musubito_langgraph import musubito_graph

pytestmark = pytest.mark.usefixtures("engine")
THREAD: Any = {"configurable": {"thread_id": "t", "user": "ann"}}


class State(TypedDict, total=False):
    n: int
    trail: Annotated[list[str], operator.add]


class Elsewhere(BaseHTTPRequestHandler):
    """Speaks as much of the server's protocol as a run needs."""

    asked: list[Any]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append((self.path, body))
        made = {"n": body["input"]["n"] + 1, "trail": ["elsewhere"]}
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        modes = body["stream_mode"] if isinstance(body["stream_mode"], list) else [body["stream_mode"]]
        for event, data in (("values", body["input"]), ("updates", {"work": made}), ("values", made)):
            if event in modes:
                self.wfile.write(f"event: {event}\ndata: {json.dumps(data)}\n\n".encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def remote() -> Iterator[tuple[RemoteGraph, list[Any]]]:
    handler = type("Handler", (Elsewhere,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield RemoteGraph("agent", url=f"http://127.0.0.1:{server.server_address[1]}"), handler.asked
        server.shutdown()
        thread.join()


def alone(remote: Any) -> Any:
    return remote


def in_a_sequence(remote: Any) -> Any:
    return RunnableLambda(lambda state: state) | remote


def built(node: Any) -> Any:
    builder = StateGraph(State).add_node("a", lambda state: {"trail": ["a"]}).add_node("remote", node)
    builder.add_node("b", lambda state: {"n": state["n"] * 10})
    builder.add_edge(START, "a").add_edge("a", "remote").add_edge("remote", "b")
    return builder.compile(checkpointer=InMemorySaver())


def told(graph: Any, how: str) -> Any:
    async def events() -> list[Any]:
        found = [each async for each in graph.astream_events({"n": 1}, THREAD, version="v2")]
        return [(each["event"], each["name"]) for each in found]

    async def chunks() -> list[Any]:
        return [each async for each in graph.astream({"n": 1}, THREAD, stream_mode=["values", "updates"])]

    match how:
        case "invoke":
            return graph.invoke({"n": 1}, THREAD)
        case "ainvoke":
            return asyncio.run(graph.ainvoke({"n": 1}, THREAD))
        case "stream":
            return list(graph.stream({"n": 1}, THREAD, stream_mode=["values", "updates"]))
        case "subgraphs":
            return [mode for _, mode in graph.stream({"n": 1}, THREAD, stream_mode="updates", subgraphs=True)]
        case "astream":
            return asyncio.run(chunks())
    return asyncio.run(events())


VOLATILE = {"checkpoint", "langgraph_checkpoint_ns", "checkpoint_id", "ls_integration", "run_id"}


def lasting(value: Any) -> Any:
    """What of a request is the same in every run."""
    if isinstance(value, dict):
        return {key: lasting(each) for key, each in value.items() if key not in VOLATILE}
    return [lasting(each) for each in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("how", ["invoke", "ainvoke", "stream", "subgraphs", "astream", "events"])
@pytest.mark.parametrize("place", [alone, in_a_sequence])
def test_a_remote_graph_is_a_node_as_bare(place: Any, how: str, remote: tuple[RemoteGraph, list[Any]]):
    graph, asked = remote
    unwrapped = built(place(graph))
    bare, state = told(unwrapped, how), unwrapped.get_state(THREAD).values
    expected = lasting(asked)
    for _ in range(1 if how == "events" else 2):  # what runs inside is no event of a replay
        asked.clear()
        wrapped = musubito_graph(built(place(graph)))
        assert told(wrapped, how) == bare
        assert lasting(asked) == expected
        assert wrapped.get_state(THREAD).values == state
