"""What the LangGraph server says of the thread, the user and the assistant counts only for code that names them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime, get_runtime

from musubito_langgraph import musubito_graph
from tests.langgraph.specimen import Ran

pytestmark = pytest.mark.usefixtures("engine")


RAN = Ran()
TOLD = pytest.mark.skipif(
    not hasattr(Runtime, "server_info"), reason="an earlier langgraph tells nothing of the server"
)


class State(TypedDict, total=False):
    text: str
    said: str


class User:
    """Who asks, as the server's own class has it."""

    def __init__(self, name: str) -> None:
        self.identity = name
        self.is_authenticated = True
        self.display_name = name
        self.permissions: list[str] = []


def served(thread: str = "1", user: str = "ann", assistant: str = "a") -> RunnableConfig:
    """The config of a run as the server makes it."""
    about = {"assistant_id": assistant, "graph_id": "g", "thread_id": thread, "run_id": f"run {thread}"}
    auth = {"langgraph_auth_user": User(user), "langgraph_auth_user_id": user, "langgraph_auth_permissions": []}
    return {
        "configurable": {**about, **auth, "langgraph_request_id": f"request {thread}", "thread_ts": f"at {thread}"},
        "metadata": {**about, "created_by": "system", "langgraph_api_url": "http://127.0.0.1:2024"},
    }


def plain(state: State) -> Any:
    RAN("node")
    return {"said": state["text"]}


def thread(state: State, config: RunnableConfig) -> Any:
    RAN("node")
    return {"said": config["configurable"]["thread_id"]}


def time_of_thread(state: State, config: RunnableConfig) -> Any:
    RAN("node")
    return {"said": config["configurable"]["thread_ts"]}


def user_id(state: State, config: RunnableConfig) -> Any:
    RAN("node")
    return {"said": config["configurable"].get("langgraph_auth_user_id")}


def user(state: State, config: RunnableConfig) -> Any:
    RAN("node")
    return {"said": config["configurable"]["langgraph_auth_user"].identity}


def user_of_server(state: State, runtime: Runtime) -> Any:
    RAN("node")
    return {"said": runtime.server_info.user.identity}


def assistant(state: State, config: RunnableConfig) -> Any:
    RAN("node")
    return {"said": config["configurable"]["assistant_id"]}


def assistant_in_metadata(state: State, config: RunnableConfig) -> Any:
    RAN("node")
    return {"said": config["metadata"]["assistant_id"]}


def assistant_of_server(state: State) -> Any:
    info = get_runtime().server_info
    RAN("node")
    return {"said": info.assistant_id}


CHANGES: dict[str, RunnableConfig] = {
    "thread": served(thread="2"),
    "user": served(user="bob"),
    "assistant": served(assistant="b"),
}


@pytest.mark.parametrize(
    ("node", "named"),
    [
        (plain, "nothing"),
        (thread, "thread"),
        (time_of_thread, "thread"),
        (user_id, "user"),
        (user, "user"),
        pytest.param(user_of_server, "user", marks=TOLD),
        (assistant, "assistant"),
        (assistant_in_metadata, "assistant"),
        pytest.param(assistant_of_server, "assistant", marks=TOLD),
    ],
)
def test_only_what_is_named_counts(node: Any, named: str):
    live = StateGraph(State).add_node("node", node).add_edge(START, "node").compile(name="g")
    graph = musubito_graph(live)
    first = graph.invoke({"text": "x"}, served())
    RAN.counts.clear()
    assert graph.invoke({"text": "x"}, served()) == first == live.invoke({"text": "x"}, served())
    assert RAN.counts == {"node": 1}
    for change, config in CHANGES.items():
        RAN.counts.clear()
        assert graph.invoke({"text": "x"}, config) == live.invoke({"text": "x"}, config)
        assert RAN.counts == {"node": 1 + (change == named)}


NAME = "_".join(["langgraph", "auth", "user", "id"])


def by_computed_key(state: State, config: RunnableConfig) -> Any:
    return {"said": config["configurable"][NAME]}


def by_loop(state: State, config: RunnableConfig) -> Any:
    return {"said": next(value for key, value in config["configurable"].items() if key.endswith("user_id"))}


def by_getattr(state: State, runtime: Runtime) -> Any:
    return {"said": getattr(runtime, f"server_{'info'}").user.identity}


def by_copy(state: State, runtime: Runtime) -> Any:
    return {"said": replace(runtime.server_info).user.display_name}


def in_a_dict(state: State, config: RunnableConfig) -> Any:
    return {"said": dict(config["configurable"])[NAME]}


LOOKS = [
    *(by_computed_key, by_loop, in_a_dict),
    *(pytest.param(each, marks=TOLD) for each in (by_getattr, by_copy)),
]


@pytest.mark.parametrize("node", LOOKS)
def test_a_user_is_never_given_what_names_another(node: Any):
    graph = musubito_graph(StateGraph(State).add_node("node", node).add_edge(START, "node").compile(name="g"))
    for user in ("ann", "bob", "ann"):
        assert graph.invoke({"text": "x"}, served(user=user))["said"] == user
