"""A node that searches a store by meaning is replayed while it would find the same, and no model is asked for that."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain_openai import OpenAIEmbeddings
from langgraph.graph import START, StateGraph
from langgraph.store.base import BaseStore, SearchOp
from langgraph.store.memory import InMemoryStore
from langgraph.store.postgres import PostgresStore
from langgraph.store.postgres.aio import AsyncPostgresStore
from langgraph.store.sqlite import AsyncSqliteStore, SqliteStore

from musubito import MusubitoEngine
from musubito_langgraph import musubito_graph
from tests.langgraph.specimen import Ran, took
from tests.real.model_server import ModelServer
from tests.server import drop_database, new_database

NO_EXTENSIONS = not hasattr(sqlite3.Connection, "enable_load_extension")
SQLITE = pytest.param(
    "sqlite", marks=pytest.mark.skipif(NO_EXTENSIONS, reason="the index of SqliteStore is an extension of SQLite")
)


class State(TypedDict, total=False):
    text: str
    found: list[str]


def embeddings(model: str = "small") -> OpenAIEmbeddings:
    return OpenAIEmbeddings(model=model, check_embedding_ctx_length=False)


def index(embed: Any) -> Any:
    return {"dims": 4, "embed": embed, "fields": ["text"]}


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    url = new_database()
    yield url
    drop_database(url)


@contextmanager
def opened(kind: str, folder: Path, database: str, embed: Any = None) -> Iterator[BaseStore]:
    by = index(embed or embeddings())
    made: Any = nullcontext(InMemoryStore(index=by))
    if kind == "sqlite":
        made = SqliteStore.from_conn_string(str(folder / "store.db"), index=by)
    if kind == "postgres":
        made = PostgresStore.from_conn_string(database, index=by)
    with made as store:
        if kind != "memory":
            store.setup()
        yield store


def fill(store: BaseStore) -> None:
    for text in ("aaa", "eee", "iii"):
        store.put(("facts",), text, {"text": text})


def by_search(store: BaseStore, text: str) -> Any:
    return store.search(("facts",), query=text, limit=2)


def by_batch(store: BaseStore, text: str) -> Any:
    return store.batch([SearchOp(("facts",), query=text, limit=2)])[0]


def searching(ran: Ran, store: BaseStore, search: Callable[[BaseStore, str], Any] = by_search) -> Any:
    def node(state: State, *, store: BaseStore) -> Any:
        ran("node")
        return {"found": [item.key for item in search(store, state["text"])]}

    return musubito_graph(StateGraph(State).add_node(node).add_edge(START, "node").compile(store=store, name="g"))


@pytest.mark.parametrize("search", [by_search, by_batch], ids=lambda search: search.__name__)
@pytest.mark.parametrize("kind", ["memory", SQLITE, "postgres"])
def test_a_search_by_meaning_is_checked_without_a_model(
    engine: MusubitoEngine,
    server: ModelServer,
    kind: str,
    search: Any,
    tmp_path: Path,
    database: str,
    ask: Callable[..., Any],
    ran: Ran,
) -> None:
    with opened(kind, tmp_path, database) as store:
        fill(store)
        store.delete(("facts",), "aee")
        graph = searching(ran, store, search)
        server.took()
        found = ask(graph, {"text": "aae"})["found"]
        assert found == ["aaa", "eee"]
        assert (took(ran), server.took()) == ({"node": 1}, 1)
        assert ask(graph, {"text": "aae"})["found"] == found
        assert (took(ran), server.took()) == ({}, 0)

        store.put(("facts",), "aee", {"text": "aee"})
        server.took()
        assert "aee" in ask(graph, {"text": "aae"})["found"], "what was found nearer counts"
        assert took(ran) == {"node": 1}
        server.took()
        assert "aee" in ask(graph, {"text": "aae"})["found"]
        assert (took(ran), server.took()) == ({}, 0)


@pytest.mark.parametrize("kind", [SQLITE, "postgres"])
async def test_stores_that_collect_what_tasks_ask_for(
    engine: MusubitoEngine, server: ModelServer, kind: str, tmp_path: Path, database: str, ran: Ran
) -> None:
    by: Any = index(embeddings())
    made: Any = AsyncSqliteStore.from_conn_string(str(tmp_path / "store.db"), index=by)
    if kind == "postgres":
        made = AsyncPostgresStore.from_conn_string(database, index=by)

    async def node(state: State, *, store: BaseStore) -> Any:
        ran("node")
        return {"found": [item.key for item in await store.asearch(("a",), query=state["text"], limit=2)]}

    async with made as store:
        await store.setup()
        for text in ("aaa", "eee", "iii"):
            await store.aput(("a",), text, {"text": text})
        graph = musubito_graph(StateGraph(State).add_node(node).add_edge(START, "node").compile(store=store))
        server.took()
        assert (await graph.ainvoke({"text": "aae"}))["found"] == ["aaa", "eee"]
        assert (took(ran), server.took()) == ({"node": 1}, 1)
        at_once = await asyncio.gather(*(graph.ainvoke({"text": "aae"}) for _ in range(5)))
        assert [answer["found"] for answer in at_once] == [["aaa", "eee"]] * 5
        assert (took(ran), server.took()) == ({}, 0)


def test_vectors_of_other_embeddings_do_not_count(
    engine: MusubitoEngine, server: ModelServer, tmp_path: Path, database: str, ran: Ran
) -> None:
    for number, (model, requests) in enumerate((("small", 1), ("small", 0), ("large", 1), ("large", 1))):
        with opened("postgres", tmp_path, database, embeddings(model)) as store:
            if number == 0:
                fill(store)
                store.delete(("facts",), "aee")
            server.took()
            assert searching(ran, store).invoke({"text": "aae"})["found"] == ["aaa", "eee"]
            assert server.took() == requests


class Asked:
    """How often a model was asked. It counts as the same whatever it holds."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1

    def __musubito_identity__(self) -> str:
        return "a count"


def test_a_function_that_embeds_counts_by_its_code(engine: MusubitoEngine, ran: Ran) -> None:
    def found(letters: str, asked: Asked) -> Any:
        def embed(texts: list[str]) -> list[list[float]]:
            asked()
            return [[text.count(letter) + 0.1 for letter in letters] for text in texts]

        store = InMemoryStore(index=index(embed))
        fill(store)
        asked.times = 0
        return searching(ran, store).invoke({"text": "aae"})["found"]

    for letters, times, best in (("aeio", 1, "aaa"), ("aeio", 0, "aaa"), ("eiou", 2, "eee"), ("eiou", 0, "eee")):
        asked = Asked()
        assert found(letters, asked)[0] == best
        assert asked.times == times, "with other embeddings the check asks, and then the node"


class Stateful:
    """Embeddings that cannot be followed: they hold a file."""

    def __init__(self, ran: Ran, path: Path) -> None:
        self.ran = ran
        self.file = path.open("a")

    def __call__(self, texts: list[str]) -> list[list[float]]:
        self.ran("embed")
        return [[text.count(letter) + 0.1 for letter in "aeio"] for text in texts]


def test_embeddings_that_cannot_be_followed_are_asked_again(engine: MusubitoEngine, tmp_path: Path, ran: Ran) -> None:
    store = InMemoryStore(index=index(Stateful(ran, tmp_path / "file")))
    fill(store)
    graph = searching(ran, store)
    took(ran)
    for expected in ({"node": 1, "embed": 1}, {"embed": 1}):
        assert graph.invoke({"text": "aae"})["found"] == ["aaa", "eee"]
        assert took(ran) == expected
