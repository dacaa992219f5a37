"""Data that is kept outside does not count: a version or a time to live says what it holds."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypedDict

import pytest
import sqlalchemy
from langgraph.graph import START, StateGraph
from sqlalchemy.orm import Session

from musubito import MusubitoEngine, MusubitoWarning, StepConfiguration, musubito_step
from musubito_langgraph import musubito_graph
from tests.langgraph.specimen import Ran, took


class State(TypedDict, total=False):
    q: str
    docs: list[str]


def graph_of(node: Any, **wrapping: Any) -> Any:
    builder = StateGraph(State).add_node("retrieve", node).add_edge(START, "retrieve")
    return musubito_graph(builder.compile(name="rag"), **wrapping)


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
