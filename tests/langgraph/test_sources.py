"""Objects that stand for data: those in memory count by content, others are named, and a version says what they hold."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypedDict

import pytest
import sqlalchemy
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.stores import InMemoryStore
from langchain_core.vectorstores import InMemoryVectorStore
from langgraph.graph import START, StateGraph
from sqlalchemy.orm import Session

from musubito import MusubitoEngine, MusubitoWarning, StepConfiguration, musubito_step
from musubito.lineage import Lineage
from musubito.lineage.unrepeatable import unrepeatable_of_operations
from musubito_langgraph import musubito_graph
from tests.langgraph.specimen import Ran, took


class State(TypedDict, total=False):
    q: str
    docs: list[str]


def graph_of(node: Any, **wrapping: Any) -> Any:
    builder = StateGraph(State).add_node("retrieve", node).add_edge(START, "retrieve")
    return musubito_graph(builder.compile(name="rag"), **wrapping)


def named(engine: MusubitoEngine) -> list[str]:
    return [each.thing.what for each in unrepeatable_of_operations(Lineage(engine)) if each.thing.kind == "source"]


class Shelf(TypedDict):
    add: Callable[[str], object]
    read: Callable[[str], list[str]]


def vectors() -> InMemoryVectorStore:
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
    store.add_texts(["first"])
    return store


def of_a_vector_store() -> Shelf:
    store = vectors()
    return Shelf(
        add=lambda text: store.add_texts([text]),
        read=lambda q: sorted(each.page_content for each in store.similarity_search(q)),
    )


def of_a_retriever() -> Shelf:
    store = vectors()
    retriever = store.as_retriever()
    return Shelf(
        add=lambda text: store.add_texts([text]),
        read=lambda q: sorted(each.page_content for each in retriever.invoke(q)),
    )


def of_a_key_value_store() -> Shelf:
    store = InMemoryStore()
    store.mset([("1", "first")])
    return Shelf(
        add=lambda text: store.mset([("2", text)]), read=lambda _q: sorted(store.mget(list(store.yield_keys())))
    )


@pytest.mark.parametrize("shelf", [of_a_vector_store, of_a_retriever, of_a_key_value_store])
def test_what_is_in_memory_counts_by_content(shelf: Callable[[], Shelf], engine: MusubitoEngine, ran: Ran, ask: Any):
    held = shelf()
    read = held["read"]

    def retrieve(state: State) -> State:
        ran("retrieve")
        return {"docs": read(state["q"])}

    graph = graph_of(retrieve)
    for _ in range(2):
        assert ask(graph, {"q": "?"})["docs"] == ["first"]
    held["add"]("second")
    for _ in range(2):
        assert ask(graph, {"q": "?"})["docs"] == ["first", "second"]
    assert took(ran) == {"retrieve": 2}
    assert named(engine) == []


@pytest.fixture
def database(tmp_path: Path) -> Path:
    with sqlite3.connect(tmp_path / "docs.db") as connection:
        connection.execute("CREATE TABLE docs (text TEXT)")
        connection.execute("INSERT INTO docs VALUES ('first')")
    connection.close()
    return tmp_path / "docs.db"


def add_to(database: Path, text: str) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("INSERT INTO docs VALUES (?)", (text,))
    connection.close()


SELECT = "SELECT text FROM docs ORDER BY rowid"
COUNT = "SELECT COUNT(*) FROM docs"
OPENED: list[Callable[[], object]] = []
"""What closes the databases that a test has opened."""


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop()()


def by_an_engine(url: str) -> tuple[Callable[[], list[str]], Callable[[], int], str]:
    found = sqlalchemy.create_engine(url)
    OPENED.append(found.dispose)

    def read() -> list[str]:
        with found.connect() as connection:
            return list(connection.scalars(sqlalchemy.text(SELECT)))

    def count() -> int:
        with found.connect() as connection:
            return int(connection.scalar(sqlalchemy.text(COUNT)) or 0)

    return read, count, "sqlalchemy.engine.base.Engine"


def by_a_session(url: str) -> tuple[Callable[[], list[str]], Callable[[], int], str]:
    database = sqlalchemy.create_engine(url)
    session = Session(database)
    OPENED.extend((database.dispose, session.close))
    return (
        lambda: list(session.scalars(sqlalchemy.text(SELECT))),
        lambda: int(session.scalar(sqlalchemy.text(COUNT)) or 0),
        "sqlalchemy.orm.session.Session",
    )


def by_a_connection(url: str) -> tuple[Callable[[], list[str]], Callable[[], int], str]:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), check_same_thread=False)
    OPENED.append(connection.close)
    return (
        lambda: [text for (text,) in connection.execute(SELECT)],
        lambda: int(connection.execute(COUNT).fetchone()[0]),
        "sqlite3.Connection",
    )


WAYS = [by_an_engine, by_a_session, by_a_connection]


@pytest.mark.parametrize("way", WAYS)
def test_what_is_kept_outside_is_named(way: Any, database: Path, engine: MusubitoEngine):
    read, _, kind = way(f"sqlite:///{database}")
    graph = graph_of(lambda state: {"docs": read()})
    graph.invoke({"q": "?"})
    assert any(each.endswith(f", a {kind}") for each in named(engine))


@pytest.mark.parametrize("way", WAYS)
def test_a_node_is_warned_of_when_it_is_replayed(way: Any, database: Path, engine: MusubitoEngine):
    read, _, kind = way(f"sqlite:///{database}")
    graph = graph_of(lambda state: {"docs": read()})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for q in "aabb":
            graph.invoke({"q": q})
    (said,) = (str(each.message) for each in caught if each.category is MusubitoWarning)
    assert "reaches data that is kept outside: " in said and f", a {kind}" in said


@pytest.mark.parametrize("way", WAYS)
def test_a_version_says_what_is_kept_outside(way: Any, database: Path, engine: MusubitoEngine, ran: Ran, ask: Any):
    read, count, _ = way(f"sqlite:///{database}")

    @musubito_step(operation_version=count)
    def documents() -> list[str]:
        ran("documents")
        return read()

    graph = graph_of(lambda state: {"docs": documents().value})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            assert ask(graph, {"q": "?"})["docs"] == ["first"]
        add_to(database, "second")
        for _ in range(2):
            assert ask(graph, {"q": "?"})["docs"] == ["first", "second"]
    assert took(ran) == {"documents": 2}
    assert not [each for each in caught if each.category is MusubitoWarning]


def test_a_time_to_live_says_how_long_it_holds(database: Path, engine: MusubitoEngine):
    read, _, _ = by_an_engine(f"sqlite:///{database}")
    held = StepConfiguration(step_type="deterministic", ttl_seconds=60)
    graph = graph_of(lambda state: {"docs": read()}, steps={"retrieve": held})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            graph.invoke({"q": "?"})
    assert not [each for each in caught if each.category is MusubitoWarning]
