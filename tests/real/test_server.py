"""Wrapped graphs on the LangGraph server (`langgraph dev`), asked by its own client."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langgraph_api")
from langgraph_sdk import get_client

USERS = 40
SOON = 60
"""Seconds after which whoever is not done hangs."""
CONFIGURATION = {
    "dependencies": ["."],
    "graphs": {
        name: f"./served.py:{name}" for name in ("alike", "alike_bare", "chat", "chat_bare", "with_context", "built")
    },
    "auth": {"path": "./served.py:auth"},
}
PROGRAM = """
import time
from dataclasses import dataclass
from typing import Any, TypedDict
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore
from langgraph_sdk import Auth
from musubito_langgraph import musubito_graph

auth = Auth()

@auth.authenticate
async def who(authorization: str | None) -> Auth.types.MinimalUserDict:
    return {"identity": (authorization or "nobody").split()[-1], "asked_at": time.time()}

def ran(name):
    print(f"RAN {name}\\n", end="", flush=True)  # in one piece, whoever prints beside it

class State(TypedDict, total=False):
    text: str
    plain: str
    fact: str
    found: int
    thread: str
    user: str
    assistant: str
    level: str

def plain(state: State):
    ran("plain")
    return {"plain": state["text"].upper()}

def fact(state: State, *, store: BaseStore):
    ran("fact")
    item = store.get(("facts", state["text"]), "a")
    return {"fact": item.value["text"] if item else "none"}

async def found(state: State, runtime: Runtime):
    ran("found")
    return {"found": len(await runtime.store.asearch(("facts", state["text"])))}

def thread(state: State, config: RunnableConfig):
    ran("thread")
    return {"thread": config["configurable"]["thread_id"]}

def user(state: State, config: RunnableConfig):
    ran("user")
    return {"user": config["configurable"]["langgraph_auth_user_id"]}

def assistant(state: State, runtime: Runtime):
    ran("assistant")
    return {"assistant": runtime.server_info.assistant_id}

def level(state: State, config: RunnableConfig):
    ran("level")
    return {"level": config["configurable"].get("level", "low")}

builder = StateGraph(State)
for node in (plain, fact, found, thread, user, assistant, level):
    builder.add_node(node).add_edge(START, node.__name__)
alike_bare = builder.compile(name="alike")
alike = musubito_graph(alike_bare)

class Echo(GenericFakeChatModel):
    messages: Any = None

    def _generate(self, messages, *args, **kwargs):
        ran("model")
        self.messages = iter([AIMessage(content="You said: " + messages[-1].text)])
        return super()._generate(messages, *args, **kwargs)

model = Echo()

async def answer(state: MessagesState):
    ran("answer")
    return {"messages": [await model.ainvoke(state["messages"])]}

chat_bare = StateGraph(MessagesState).add_node(answer).add_edge(START, "answer").compile(name="chat")
chat = musubito_graph(chat_bare)

@dataclass
class Context:
    level: str = "low"

def by_context(state: State, runtime: Runtime[Context]):
    ran("by_context")
    return {"level": runtime.context.level}

with_context = StateGraph(State, context_schema=Context).add_node(by_context).add_edge(START, "by_context")
with_context = musubito_graph(with_context.compile(name="with_context"))

def built(config: RunnableConfig):
    def made(state: State):
        ran("made")
        return {"plain": state["text"]}

    return musubito_graph(StateGraph(State).add_node(made).add_edge(START, "made").compile(name="built"))
"""


OPEN = AsyncExitStack()
"""The clients of the test that runs."""


@pytest.fixture(autouse=True)
async def _closed() -> AsyncIterator[None]:
    async with OPEN:
        yield


class Server:
    """The server, and what ran in it since it was last asked."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self._log = log
        self._read = 0

    async def client(self, user: str = "ann") -> Any:
        client = get_client(url=self.url, headers={"Authorization": f"Bearer {user}"})
        return await OPEN.enter_async_context(client)

    def ran(self) -> dict[str, int]:
        lines = self._log.read_text(errors="replace").splitlines()
        new, self._read = lines[self._read :], len(lines)
        return dict(Counter(line.removeprefix("RAN ") for line in new if line.startswith("RAN ")))


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "log.txt"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("LANGSMITH", "LANGCHAIN"))},
        "MUSUBITO_URL": f"sqlite:///{folder / 'calls.db'}",
        "LANGSMITH_TRACING": "false",
        "LANGGRAPH_CLI_NO_ANALYTICS": "1",
    }
    command = [sys.executable, "-m", "langgraph_cli", "dev", "--no-browser", "--no-reload", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--n-jobs-per-worker", "8"]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        url = f"http://127.0.0.1:{port}"
        assert is_up(f"{url}/ok", process), log.read_text(errors="replace")[-3000:]
        yield Server(url, log)
    finally:
        process.terminate()
        process.wait(SOON)


def is_up(url: str, process: subprocess.Popen[bytes]) -> bool:
    until = time.monotonic() + SOON
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return True
        except OSError:
            time.sleep(0.1)
    return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    (folder / "served.py").write_text(PROGRAM)
    (folder / "langgraph.json").write_text(json.dumps(CONFIGURATION))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(folder) as server:
        yield server


async def asked(client: Any, graph: str, text: str, **more: Any) -> dict[str, Any]:
    """What a graph answers on a new thread, without what names the thread."""
    thread = await client.threads.create()
    result = await asyncio.wait_for(client.runs.wait(thread["thread_id"], graph, input={"text": text}, **more), SOON)
    assert result.pop("thread", thread["thread_id"]) == thread["thread_id"]
    return dict(result)


NODES = ("plain", "fact", "found", "thread", "user", "assistant", "level")


async def test_a_second_thread_replays_and_what_is_named_counts(server: Server):
    ann, bob = await server.client("ann"), await server.client("bob")
    live = await asked(ann, "alike_bare", "hello")
    server.ran()
    assert {**live, "assistant": ""} == {**await asked(ann, "alike", "hello"), "assistant": ""}
    assert server.ran() == dict.fromkeys(NODES, 1)
    again = await asked(ann, "alike", "hello")
    assert server.ran() == {"thread": 1}
    assert (await asked(bob, "alike", "hello"))["user"] == "bob"
    assert server.ran()["user"] == 1
    other = await ann.assistants.create("alike", name="another")
    assert (
        (await asked(ann, other["assistant_id"], "hello"))["assistant"] == other["assistant_id"] != again["assistant"]
    )
    assert server.ran() == {"thread": 1, "assistant": 1}
    high = await asked(ann, "alike", "hello", config={"configurable": {"level": "high"}})
    assert high == {**again, "level": "high"}
    assert server.ran() == dict.fromkeys(NODES, 1)


async def test_what_is_put_into_its_store_counts(server: Server):
    ann = await server.client()
    assert (await asked(ann, "alike", "mood"))["fact"] == "none"
    await ann.store.put_item(["facts", "mood"], key="a", value={"text": "glad"})
    server.ran()
    assert (await asked(ann, "alike", "mood"))["fact"] == "glad"
    assert server.ran() == {"thread": 1, "fact": 1, "found": 1}
    said = await asked(ann, "alike", "mood")
    assert (said["fact"], said["found"]) == ("glad", 1)
    assert server.ran() == {"thread": 1}


async def test_many_users_at_once(server: Server):
    clients = [await server.client(f"user{number}") for number in range(USERS)]
    await asyncio.gather(
        *(
            client.store.put_item(["facts", f"of {number}"], key="a", value={"text": f"fact of {number}"})
            for number, client in enumerate(clients)
        )
    )

    async def all_asked() -> list[Any]:
        said = await asyncio.gather(*(asked(client, "alike", f"of {number}") for number, client in enumerate(clients)))
        return [(each["fact"], each["user"], each["found"]) for each in said]

    expected = [(f"fact of {number}", f"user{number}", 1) for number in range(USERS)]
    assert await all_asked() == expected
    server.ran()
    assert await all_asked() == expected
    assert server.ran() == {"thread": USERS}


async def streamed(client: Any, graph: str, text: str, mode: str) -> Any:
    thread = await client.threads.create()
    given = {"messages": [{"role": "user", "content": text, "id": "1"}]}
    parts = client.runs.stream(thread["thread_id"], graph, input=given, stream_mode=mode)
    return [(part.event, contents(part.data)) async for part in parts if part.event != "metadata"]


def contents(data: Any) -> Any:
    """What messages say, wherever they are."""
    if isinstance(data, list):
        return [contents(each) for each in data]
    if isinstance(data, dict):
        return (data["type"], data["content"]) if "content" in data else [contents(each) for each in data.values()]
    return None


@pytest.mark.parametrize("mode", ["values", "updates", "messages", "messages-tuple"])
async def test_a_replayed_chat_streams_as_a_bare_one(mode: str, server: Server):
    client = await server.client()
    live = await streamed(client, "chat_bare", f"Hello by {mode}", mode)
    server.ran()
    first = await streamed(client, "chat", f"Hello by {mode}", mode)
    assert server.ran() == {"answer": 1, "model": 1}
    second = await streamed(client, "chat", f"Hello by {mode}", mode)
    assert server.ran() == {}
    assert first == live
    assert second == live


async def test_a_context_counts(server: Server):
    client = await server.client()
    server.ran()
    said = [
        (await asked(client, "with_context", "hello", context={"level": level}))["level"]
        for level in ("low", "high", "low", "high")
    ]
    assert said == ["low", "high", "low", "high"]
    assert server.ran() == {"by_context": 2}


async def test_a_graph_that_is_built_for_each_request_is_replayed(server: Server):
    client = await server.client()
    server.ran()
    assert [(await asked(client, "built", "hello"))["plain"] for _ in range(3)] == ["hello"] * 3
    assert server.ran() == {"made": 1}


async def test_another_server_replays(server: Server, folder: Path):
    await asked(await server.client(), "alike", "later")
    with serving(folder) as another:
        another.ran()
        await asked(await another.client(), "alike", "later")
        assert another.ran() == {"thread": 1}
