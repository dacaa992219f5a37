"""Stores and savers of LangGraph as production has them: the real ones, on files and on a PostgreSQL server."""

from __future__ import annotations

import asyncio
import json
import operator
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.store.postgres import PostgresStore
from langgraph.store.postgres.aio import AsyncPostgresStore
from langgraph.store.sqlite import AsyncSqliteStore, SqliteStore

from musubito_langgraph import musubito_graph
from tests.langgraph.specimen import Ran, took
from tests.server import drop_database, new_database

pytestmark = pytest.mark.usefixtures("engine")
USERS = 40
SOON = 60
"""Seconds after which whoever is not done hangs."""
SWEPT: Any = {"default_ttl": 60, "sweep_interval_minutes": 60}
KINDS = ("memory", "sqlite", "postgres")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    url = new_database()
    yield url
    drop_database(url)


class State(TypedDict, total=False):
    text: str
    said: Annotated[list[str], operator.add]


@asynccontextmanager
async def opened(kind: str, folder: Path, database: str) -> AsyncIterator[tuple[BaseStore, Any]]:
    """An asynchronous store that holds a fact of each user, and a saver of the same kind."""
    match kind:
        case "memory":
            store: Any = InMemoryStore()
            await filled(store)
            yield store, InMemorySaver()
        case "sqlite":
            async with (
                AsyncSqliteStore.from_conn_string(str(folder / "store.db")) as store,
                AsyncSqliteSaver.from_conn_string(str(folder / "saver.db")) as saver,
            ):
                await store.setup()
                await filled(store)
                yield store, saver
        case "postgres":
            async with (
                AsyncPostgresStore.from_conn_string(database) as store,
                AsyncPostgresSaver.from_conn_string(database) as saver,
            ):
                await store.setup()
                await saver.setup()
                await filled(store)
                yield store, saver


async def filled(store: Any) -> None:
    for user in range(USERS):
        await store.aput(("facts", str(user)), "a", {"text": f"fact of {user}"})
        await store.adelete(("notes", str(user)), "a")


def answering(ran: Ran, store: Any, saver: Any) -> Any:
    """A node that reads, and beside it one that does not look at the store."""

    async def recall(state: State, config: RunnableConfig, *, store: BaseStore) -> Any:
        ran("recall")
        item = await store.aget(("facts", config["configurable"]["user"]), "a")
        found = await store.asearch(("facts", config["configurable"]["user"]))
        return {"said": [f"{item.value['text']}, {state['text']}", *(each.key for each in found)]}

    async def plain(state: State) -> Any:
        ran("plain")
        return {"said": [state["text"]]}

    builder = StateGraph(State).add_node("recall", recall).add_node("plain", plain)
    builder.add_edge(START, "recall").add_edge(START, "plain")
    return builder.compile(name="answering", store=store, checkpointer=saver)


async def asked(graph: Any, turn: str, user: int) -> list[str]:
    # As over a network: not all at the same moment.
    await asyncio.sleep(user * 0.003)
    config: RunnableConfig = {"configurable": {"thread_id": f"{graph.name} {turn} {user}", "user": str(user)}}
    result = await graph.ainvoke({"text": "hello"}, config)
    return list(result["said"])


async def all_asked(graph: Any, turn: str) -> list[list[str]]:
    """What a graph answers to many users at once."""
    return await asyncio.wait_for(asyncio.gather(*(asked(graph, turn, user) for user in range(USERS))), SOON)


@pytest.mark.parametrize("kind", KINDS)
async def test_many_users_at_once(kind: str, tmp_path: Path, database: str, ran: Ran):
    async with opened(kind, tmp_path, database) as (store, saver):
        graph = answering(ran, store, saver)
        live = await all_asked(graph, "bare")
        assert live == [["hello", f"fact of {user}, hello", "a"] for user in range(USERS)]
        ran.counts.clear()
        wrapped = musubito_graph(graph)
        assert await all_asked(wrapped, "first") == live
        assert ran.counts["recall"] == USERS
        ran.counts.clear()
        assert await all_asked(wrapped, "second") == live
        assert ran.counts == {}
        await store.aput(("facts", "7"), "a", {"text": "another fact of 7"})
        edited = await all_asked(wrapped, "third")
        assert edited == [*live[:7], ["hello", "another fact of 7, hello", "a"], *live[8:]]
        assert ran.counts == {"recall": 1}
        states = [
            await graph.aget_state({"configurable": {"thread_id": f"answering third {user}"}}) for user in range(USERS)
        ]
        assert [state.values["said"] for state in states] == edited


@pytest.mark.parametrize("kind", KINDS)
async def test_writes_in_flight_arrive(kind: str, tmp_path: Path, database: str, ran: Ran):
    async def quick(state: State, *, store: BaseStore) -> Any:
        return {"said": ["quick"]}

    async def keep(state: State, config: RunnableConfig, *, store: BaseStore) -> Any:
        user = config["configurable"]["user"]
        await asyncio.gather(*(store.aput(("notes", user), str(each), {"text": user}) for each in range(3)))
        found = await store.aget(("notes", user), "2")
        return {"said": [found.value["text"]]}

    async with opened(kind, tmp_path, database) as (store, saver):
        builder = StateGraph(State).add_node("quick", quick).add_node("keep", keep)
        builder.add_edge(START, "quick").add_edge(START, "keep")
        graph = musubito_graph(builder.compile(name="keeping", store=store, checkpointer=saver))
        for turn in ("first", "second"):
            said = await all_asked(graph, turn)
            assert [sorted(each) for each in said] == [sorted(["quick", str(user)]) for user in range(USERS)]
            notes = [await store.asearch(("notes", str(user))) for user in range(USERS)]
            assert [sorted(note.key for note in each) for each in notes] == [["0", "1", "2"]] * USERS
            for user in range(USERS):
                for key in "012":
                    await store.adelete(("notes", str(user)), key)


@contextmanager
def opened_with_sweeper(kind: str, folder: Path, database: str) -> Iterator[tuple[Any, Any]]:
    """A store whose sweeper runs, and a saver of the same kind."""
    if kind == "sqlite":
        files = SqliteStore.from_conn_string(str(folder / "store.db"), ttl=SWEPT)
        savers: Any = SqliteSaver.from_conn_string(str(folder / "saver.db"))
    else:
        files = PostgresStore.from_conn_string(database, ttl=SWEPT)
        savers = PostgresSaver.from_conn_string(database)
    with files as store, savers as saver:
        store.setup()
        saver.setup()
        store.put(("facts", "ann"), "a", {"text": "ann's"})
        store.put(("facts", "bob"), "a", {"text": "bob's"})
        store.start_ttl_sweeper()
        yield store, saver


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_sweeper_stays_alive(kind: str, tmp_path: Path, database: str, ran: Ran):
    def recall(state: State, config: RunnableConfig, *, store: BaseStore) -> Any:
        ran("recall")
        item = store.get(("facts", config["configurable"]["user"]), "a")
        return {"said": [item.value["text"]]}

    def plain(state: State) -> Any:
        ran("plain")
        return {"said": [state["text"]]}

    with opened_with_sweeper(kind, tmp_path, database) as (store, saver):
        builder = StateGraph(State).add_node("recall", recall).add_node("plain", plain)
        graph = builder.add_edge(START, "recall").add_edge("recall", "plain")
        live = graph.compile(name="swept", store=store, checkpointer=saver)
        wrapped = musubito_graph(live)

        def said(graph: Any, turn: str, user: str) -> Any:
            config: RunnableConfig = {"configurable": {"thread_id": f"{turn} {user}", "user": user}}
            return graph.invoke({"text": "hello"}, config)["said"]

        expected = [["ann's", "hello"], ["bob's", "hello"]]
        assert [said(live, "bare", user) for user in ("ann", "bob")] == expected
        ran.counts.clear()
        for turn in ("first", "second", "third"):
            assert [said(wrapped, turn, user) for user in ("ann", "bob")] == expected
        assert ran.counts["recall"] == 2
        store.put(("facts", "bob"), "a", {"text": "bob's other"})
        assert [said(wrapped, "fourth", user) for user in ("ann", "bob")] == [expected[0], ["bob's other", "hello"]]
        assert ran.counts["recall"] == 3
        assert store._ttl_sweeper_thread.is_alive()
        assert not store._ttl_stop_event.is_set()


# -- in another process ------------------------------------------------------------------------------------------------
PROGRAM = """
import asyncio, json, sys
from contextlib import asynccontextmanager
from typing import TypedDict
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.store.base import BaseStore
from musubito import run
from musubito_langgraph import musubito_graph

kind, url, fact = sys.argv[1:]
State = TypedDict("State", {"text": str, "said": str}, total=False)

async def recall(state: State, *, store: BaseStore):
    item = await store.aget(("facts",), "a")
    return {"said": item.value["text"]}

@asynccontextmanager
async def opened():
    if kind == "memory":
        from langgraph.store.memory import InMemoryStore
        yield InMemoryStore()
    elif kind == "sqlite":
        from langgraph.store.sqlite import AsyncSqliteStore
        async with AsyncSqliteStore.from_conn_string(url) as store:
            await store.setup()
            yield store
    else:
        from langgraph.store.postgres.aio import AsyncPostgresStore
        async with AsyncPostgresStore.from_conn_string(url) as store:
            await store.setup()
            yield store

async def main():
    async with opened() as store:
        found = await store.aget(("facts",), "a")
        if found is None or found.value["text"] != fact:
            await store.aput(("facts",), "a", {"text": fact})
        graph = StateGraph(State).add_node("recall", recall).add_edge(START, "recall").compile(name="p", store=store)
        with run() as calls:
            answer = await asyncio.wait_for(musubito_graph(graph).ainvoke({"text": "hello"}), 30)
        print(json.dumps([answer["said"], [call.outcome for call in calls.calls]]))

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", KINDS)
def test_another_process_replays_what_was_only_read(kind: str, tmp_path: Path, database: str):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    url = database if kind == "postgres" else str(tmp_path / "store.db")

    def told(fact: str) -> Any:
        environment = {"MUSUBITO_URL": f"sqlite:///{tmp_path / 'calls.db'}", "PATH": ""}
        given = [sys.executable, str(program), kind, url, fact]
        done = subprocess.run(given, capture_output=True, text=True, env=environment, timeout=SOON, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    outcomes = [told(fact) for fact in ("one", "one", "two", "two")]
    assert outcomes == [["one", ["ran"]], ["one", ["replayed"]], ["two", ["ran"]], ["two", ["replayed"]]]


def test_a_store_without_async_methods_is_looked_at_where_a_loop_runs(tmp_path: Path, ran: Ran, ask: Any):
    def recall(state: State, *, store: BaseStore) -> Any:
        ran("recall")
        return {"said": [item.key for item in store.search(("facts",))]}

    with SqliteStore.from_conn_string(str(tmp_path / "store.db")) as store:
        store.setup()
        store.put(("facts",), "a", {"text": "a"})
        graph = StateGraph(State).add_node(recall).add_edge(START, "recall").compile(name="g", store=store)
        for _ in range(2):
            assert ask(musubito_graph(graph), {"text": "hello"})["said"] == ["a"]
        assert took(ran) == {"recall": 1}
        store.put(("facts",), "b", {"text": "b"})
        said = ask(musubito_graph(graph), {"text": "hello"})["said"]
        assert sorted(said) == ["a", "b"]  # the store gives what was written last first, to the second
