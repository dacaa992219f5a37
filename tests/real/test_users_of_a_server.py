"""One wrapped graph behind FastAPI, asked by many users at once, in each way that says who the user is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypedDict

import httpx
import pytest
from fastapi import Depends, FastAPI, Header
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime, get_runtime
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore

from musubito_langgraph import musubito_graph
from tests.langgraph.specimen import Ran, took

pytestmark = pytest.mark.usefixtures("engine")
USERS = [f"user{number}" for number in range(5)]
EACH = 4
"""Requests of each user at once."""
QUESTION = "How much do I owe?"


class State(TypedDict, total=False):
    question: str
    user: str
    answer: str


@dataclass
class Context:
    user: str = ""
    who: Any = None


class AuthUser(dict[str, Any]):
    """The user as LangGraph's server hands it on."""

    @property
    def identity(self) -> str:
        return str(self["identity"])


CURRENT: ContextVar[str] = ContextVar("CURRENT")
LOCAL = threading.local()


RAN = Ran()


def name_of(user: str) -> str:
    return user


def said(user: str) -> State:
    RAN(user)
    return {"answer": f"account of {user}"}


# -- nodes that find the user -------------------------------------------------------------------------------------------
def of_configurable(state: State, config: RunnableConfig) -> State:
    return said(config["configurable"]["user_id"])


def of_context(state: State, runtime: Runtime[Context]) -> State:
    return said(runtime.context.user)


def of_runtime_in_a_helper(state: State) -> State:
    return said(get_runtime(Context).context.user)


def of_contextvar(state: State) -> State:
    return said(CURRENT.get())


def of_thread(state: State) -> State:
    return said(LOCAL.user)


def of_auth(state: State, config: RunnableConfig) -> State:
    return said(config["configurable"]["langgraph_auth_user"].identity)


def of_state(state: State) -> State:
    return said(state["user"])


def of_store(state: State, config: RunnableConfig, *, store: BaseStore) -> State:
    item = store.get(("threads",), config["configurable"]["thread_id"])
    assert item is not None
    return said(item.value["user"])


def of_closure(state: State, config: RunnableConfig) -> State:
    return said(config["configurable"]["who"]())


def of_partial(state: State, runtime: Runtime[Context]) -> State:
    return said(runtime.context.who())


def given(way: str, user: str) -> dict[str, Any]:
    """What a handler gives the graph besides the question."""
    match way:
        case "of_configurable":
            return {"config": {"configurable": {"user_id": user}}}
        case "of_context" | "of_runtime_in_a_helper":
            return {"context": Context(user)}
        case "of_auth":
            auth = {"langgraph_auth_user": AuthUser(identity=user), "langgraph_auth_user_id": user}
            return {"config": {"configurable": auth}}
        case "of_store":
            return {"config": {"configurable": {"thread_id": f"thread of {user}"}}}
        case "of_closure":
            return {"config": {"configurable": {"who": lambda: user}}}
        case "of_partial":
            return {"context": Context(who=partial(name_of, user))}
    return {}


WAYS: list[Callable[..., State]] = [
    *(of_configurable, of_context, of_runtime_in_a_helper, of_contextvar, of_thread),
    *(of_auth, of_state, of_store, of_closure, of_partial),
]


def reply(state: State) -> State:
    """It is told of the user by the answer before alone."""
    RAN("reply")
    return {"answer": f"{state['answer']}: nothing"}


def graph_of(node: Callable[..., State]) -> Any:
    store = InMemoryStore()
    for user in USERS:
        store.put(("threads",), f"thread of {user}", {"user": user})
    builder: Any = StateGraph(State, context_schema=Context).add_node("account", node).add_node(reply)
    builder.add_edge(START, "account").add_edge("account", "reply")
    return musubito_graph(builder.compile(name=node.__name__, store=store))


def user_of(authorization: Annotated[str, Header()]) -> str:
    return authorization.removeprefix("Bearer ")


def served(graph: Any, way: str) -> FastAPI:
    """An app whose handlers ask the graph, on the event loop and in threads."""
    app = FastAPI()

    def question_of(user: str) -> State:
        return {"question": QUESTION, "user": user} if way == "of_state" else {"question": QUESTION}

    @app.get("/async")
    async def on_the_loop(user: Annotated[str, Depends(user_of)]) -> Any:
        CURRENT.set(user)
        return await graph.ainvoke(question_of(user), **given(way, user))

    @app.get("/sync")
    def in_a_thread(user: Annotated[str, Depends(user_of)]) -> Any:
        CURRENT.set(user)
        LOCAL.user = user
        return graph.invoke(question_of(user), **given(way, user))

    return app


async def all_asked(app: FastAPI, path: str) -> list[str]:
    """The answers to requests of all users at once, one after the other in turn."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        asked = (client.get(path, headers={"Authorization": f"Bearer {user}"}) for _ in range(EACH) for user in USERS)
        return [answer.json()["answer"] for answer in await asyncio.gather(*asked)]


@pytest.mark.parametrize(
    ("node", "path"),
    # LangGraph runs sync nodes of `ainvoke` in threads of its own, which know nothing of the handler's.
    [(node, path) for node in WAYS for path in ("/async", "/sync") if (node, path) != (of_thread, "/async")],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_no_user_is_told_what_another_is(node: Callable[..., State], path: str) -> None:
    app = served(graph_of(node), node.__name__)
    expected = [f"account of {user}: nothing" for _ in range(EACH) for user in USERS]
    took(RAN)
    assert await all_asked(app, path) == expected
    assert took(RAN) == {**dict.fromkeys(USERS, 1), "reply": len(USERS)}
    assert await all_asked(app, path) == expected
    assert took(RAN) == {}
