"""PostgreSQL on a local socket, beside what its server needs for the least that could be asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg

from bench.measure import Call, Sample, interleave
from bench.replay import small
from bench.rows import Row
from musubito import MusubitoEngine
from tests.server import drop_database, new_database


def lasting_database() -> str:
    """Return the URL of a new database whose commits reach the disk, unlike those of tests."""
    url = new_database()
    with psycopg.connect(url, autocommit=True) as connection:
        if connection.execute("SHOW fsync").fetchone() != ("on",):
            connection.execute("ALTER SYSTEM SET fsync = on")
            connection.execute("SELECT pg_reload_conf()")
    return url


@contextmanager
def on_postgres() -> Iterator[tuple[MusubitoEngine, psycopg.Connection[Any]]]:
    """Yield an engine on a new database, and a separate connection to it."""
    url = lasting_database()
    try:
        with (
            MusubitoEngine.from_url(url, strict=True) as engine,
            psycopg.connect(url, autocommit=True) as connection,
        ):
            connection.execute("CREATE TABLE results (key integer PRIMARY KEY, value bytea)")
            yield engine, connection
    finally:
        drop_database(url)


def replay(_folder: Path) -> dict[str, Sample]:
    """Replay a small step, and look up one row by its key."""
    with on_postgres() as (engine, connection):
        connection.execute("INSERT INTO results VALUES (3, 'a small value')")

        def look_up(_: int) -> object:
            return connection.execute("SELECT value FROM results WHERE key = %s", (3,), prepare=True).fetchone()

        return interleave({"musubito": using(engine, lambda _: 3), "one SELECT": look_up}, rounds=10, calls=200)


def miss(_folder: Path) -> dict[str, Sample]:
    """Run and record a small step, each call with an argument of its own, and insert one row."""
    with on_postgres() as (engine, connection):

        def insert(number: int) -> object:
            return connection.execute("INSERT INTO results VALUES (%s, 'a small value')", (number,), prepare=True)

        return interleave({"musubito": using(engine, lambda n: n), "one INSERT": insert}, rounds=10, calls=40)


def using(engine: MusubitoEngine, argument: Callable[[int], int]) -> Call:
    """Return calls of a step."""
    return lambda number: engine.execute("bench.small", {"number": argument(number)}, small)


ROWS: Final = {
    "postgres": Row("replay of a small step on PostgreSQL", (), replay),
    "postgres-miss": Row("miss of a small step on PostgreSQL", (), miss),
}
