"""A database in the memory of the process counts by its content, or a step that reaches it is not replayed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import orm

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine
from musubito.code.world import memory_databases
from musubito.reasons import ReplayReason
from tests.fresh import fresh

SHARED = "sqlite:///file:shared?mode=memory&cache=shared&uri=true"


@pytest.fixture(autouse=True)
def engine(tmp_path: Path) -> Iterator[MusubitoEngine]:
    with MusubitoEngine(SQLiteStorage(fresh(tmp_path / "m.db"))) as engine, use_musubito_engine(engine):
        yield engine


def words(connection: sqlite3.Connection | None = None) -> sqlite3.Connection:
    made = connection or sqlite3.connect(":memory:")
    made.execute("create table words (text)")
    made.execute("insert into words values ('a')")
    made.commit()
    return made


def test_a_database_in_memory_counts_by_its_content() -> None:
    connection, ran = words(), []

    @musubito_step(name="ask")
    def ask() -> list[str]:
        ran.append(1)
        return [text for (text,) in connection.execute("select text from words")]

    assert (ask().value, ask().value, len(ran)) == (["a"], ["a"], 1)
    connection.execute("insert into words values ('b')")  # in a transaction that is still open
    assert (ask().value, ask().value, len(ran)) == (["a", "b"], ["a", "b"], 2)
    assert connection.in_transaction
    connection.rollback()
    assert (ask().value, len(ran)) == (["a"], 2)
    connection.row_factory = lambda _cursor, row: (row[0].upper(),)
    assert (ask().value, len(ran)) == (["A"], 3)
    connection.close()


def test_a_temporary_table_counts() -> None:
    connection, ran = words(), []
    connection.execute("create temp table notes (text)")

    @musubito_step(name="ask")
    def ask() -> int:
        ran.append(1)
        return int(connection.execute("select count(*) from notes").fetchone()[0])

    assert (ask().value, ask().value, len(ran)) == (0, 0, 1)
    connection.execute("insert into notes values ('x')")
    assert (ask().value, ask().value, len(ran)) == (1, 1, 2)
    connection.close()


def test_a_cursor_counts_by_its_database() -> None:
    cursor, ran = words().cursor(), []

    @musubito_step(name="ask")
    def ask() -> int:
        ran.append(1)
        return int(cursor.execute("select count(*) from words").fetchone()[0])

    assert (ask().value, ask().value, len(ran)) == (1, 1, 1)
    cursor.connection.execute("insert into words values ('x')")
    assert (ask().value, ask().value, len(ran)) == (2, 2, 2)
    cursor.connection.close()


def test_a_database_with_an_attached_file_is_not_replayed(tmp_path: Path) -> None:
    connection, ran = words(), []
    connection.execute("attach ? as other", (str(tmp_path / "other.db"),))

    @musubito_step(name="ask")
    def ask() -> int:
        ran.append(1)
        return int(connection.execute("select count(*) from words").fetchone()[0])

    assert (ask().value, ask().value, len(ran)) == (1, 1, 2)
    connection.close()


def test_an_engine_on_a_shared_database_in_memory_is_not_replayed() -> None:
    shared, ran = sqlalchemy.create_engine(SHARED, poolclass=sqlalchemy.QueuePool), []
    kept = shared.connect()

    @musubito_step(name="ask")
    def ask() -> int:
        ran.append(1)
        return int(kept.execute(sqlalchemy.text("select 1")).scalar_one()) if shared else 0

    assert (ask().value, ask().value, len(ran)) == (1, 1, 2)
    kept.close()
    shared.dispose()


def test_what_one_step_stores_counts_for_the_others() -> None:
    connection, ran = words(), []

    @musubito_step(name="tell")
    def tell(text: str) -> str:
        ran.append(f"tell {text}")
        connection.execute("insert into words values (?)", (text,))
        return text

    @musubito_step(name="ask")
    def ask() -> int:
        ran.append("ask")
        return int(connection.execute("select count(*) from words").fetchone()[0])

    assert [ask().value, tell("b").value, tell("b").value, ask().value, ask().value] == [1, "b", "b", 2, 2]
    assert ran == ["ask", "tell b", "ask"]
    connection.close()


def test_a_database_that_is_large_is_not_replayed(engine: MusubitoEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    connection, ran = words(), []
    monkeypatch.setattr(memory_databases, "MOST_BYTES", 1)

    def count() -> int:
        ran.append(1)
        return int(connection.execute("select count(*) from words").fetchone()[0])

    ask, version = musubito_step(name="ask")(count), [1]
    stated = musubito_step(name="stated", operation_version=lambda: version[0])(count)
    assert (ask().value, ask().value, len(ran)) == (1, 1, 2)
    never = engine.explain(ask).never
    assert never is not None and never.reason is ReplayReason.DATABASE_UNREADABLE and "connection" in (never.part or "")
    assert (stated().value, stated().value, len(ran)) == (1, 1, 3)
    version[0] += 1
    assert (stated().value, len(ran)) == (1, 4)
    connection.close()


def test_a_connection_of_another_thread_cannot_be_read() -> None:
    with ThreadPoolExecutor(1) as other:
        connection = other.submit(words).result()
        assert memory_databases.content_in_memory(connection) == memory_databases.UNREADABLE
        other.submit(connection.close).result()


def test_a_database_in_a_file_lies_outside(tmp_path: Path) -> None:
    connection = words(sqlite3.connect(tmp_path / "words.db"))
    assert memory_databases.content_in_memory(connection) is None
    connection.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_an_engine_of_a_database_in_memory_counts_by_its_content(url: str) -> None:
    database = sqlalchemy.create_engine(url)
    sessions, ran = orm.sessionmaker(database), []

    def execute(text: str) -> list[object]:
        with database.begin() as connection:
            result = connection.execute(sqlalchemy.text(text))
            return [*result.scalars()] if result.returns_rows else []

    @musubito_step(name="ask")
    def ask() -> list[object]:
        ran.append(1)
        with sessions() as session:
            return [*session.execute(sqlalchemy.text("select text from words")).scalars()]

    execute("create table words (text)")
    assert (ask().value, ask().value, len(ran)) == ([], [], 1)
    with database.connect() as connection:
        connection.execute(sqlalchemy.text("insert into words values ('a')"))
        assert memory_databases.content_in_memory(database)
        assert connection.connection.driver_connection.in_transaction  # type: ignore[union-attr]
        connection.rollback()
    assert (ask().value, len(ran)) == ([], 1)
    execute("insert into words values ('b')")
    assert (ask().value, ask().value, len(ran)) == (["b"], ["b"], 2)
    database.dispose()


def test_a_connection_that_many_share_is_not_read(engine: MusubitoEngine) -> None:
    database = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.StaticPool)
    ran = []

    @musubito_step(name="ask")
    def ask() -> object:
        ran.append(1)
        with database.connect() as connection:
            return connection.execute(sqlalchemy.text("select 1")).scalar()

    assert (ask().value, ask().value, len(ran)) == (1, 1, 2)
    never = engine.explain(ask).never
    assert never is not None and never.reason is ReplayReason.DATABASE_UNREADABLE
    database.dispose()


@pytest.mark.parametrize("add", ["create_function('twice', 1, f)", "create_collation('mine', f)"])
def test_a_database_with_functions_of_the_user_s_is_not_replayed(engine: MusubitoEngine, add: str) -> None:
    connection, ran = words(), []
    exec(f"connection.{add}", {"connection": connection, "f": lambda *_: 0})

    @musubito_step(name="ask")
    def ask() -> int:
        ran.append(1)
        return int(connection.execute("select count(*) from words").fetchone()[0])

    assert (ask().value, ask().value, len(ran)) == (1, 1, 2)
    never = engine.explain(ask).never
    assert never is not None and never.reason is ReplayReason.DATABASE_UNREADABLE
    connection.close()
