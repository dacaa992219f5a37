"""Sessions of PostgreSQL: named queries on a connection, the values that travel, and how long anybody waits."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg.abc import Buffer
from psycopg.generators import send
from psycopg.types.numeric import Int8BinaryDumper, NumericBinaryLoader
from psycopg.types.string import StrBinaryDumper, TextBinaryLoader

from musubito.store.queries import for_postgres

__all__ = ["BY_HAND", "PATIENCE", "READING", "STANDSTILL", "WHOLE", "ConnectionLost", "Session", "configure"]

QUERIES, READING = for_postgres()
PATIENCE: Final = 30.0
"""For so many seconds a server that is away is waited for, before steps go on without it."""
STANDSTILL: Final = "10s"
"""Who stops in the middle of a transaction for longer (its machine is gone, or it is) loses it: others wait for it."""
WHOLE: Final = 15.0
"""For so many seconds a step's transaction may last when its turn has come."""
BY_HAND: Final = 600.0
"""And for so many one of what is done by hand, which may take long."""


def _gives_rows(statement: str) -> bool:
    changes = re.search(r"^(INSERT|UPDATE|DELETE)\b", statement, re.MULTILINE) is not None
    return not changes or "RETURNING" in statement


_ANSWERED: Final = {name for name, statement in QUERIES.items() if _gives_rows(statement)}


# -- values ------------------------------------------------------------------------------------------------------------
_HIDDEN: Final = re.compile("[\x00\u2400\u241b]")


class _Text(StrBinaryDumper):
    """PostgreSQL's text holds no NUL: a sign stands for it, and another one before those that were there."""

    def dump(self, obj: str) -> Buffer | None:
        if _HIDDEN.search(obj):
            obj = obj.replace("\u241b", "\u241b\u241b").replace("\u2400", "\u241b\u2400").replace("\x00", "\u2400")
        return super().dump(obj)


class _TextAgain(TextBinaryLoader):
    def load(self, data: Buffer) -> str | bytes:
        text = super().load(data)
        if isinstance(text, str) and _HIDDEN.search(text):
            return re.sub("\u241b(.)|\u2400", lambda sign: sign[1] or "\x00", text)
        return text


class _Sum(NumericBinaryLoader):
    """A sum of integers is `numeric` in PostgreSQL, and here an integer again."""

    def load(self, data: Buffer) -> Any:
        number = super().load(data)
        return int(number) if number == number.to_integral_value() else float(number)


def configure(connection: psycopg.Connection[Any]) -> None:
    """So that both sides mean the same by a value, and notice when the other one is gone."""
    # Statements are many, and their parameters have a type each.
    connection.prepared_max = 2000
    # All integers are the widest: the type of a recursive query is that of its first row.
    connection.adapters.register_dumper(int, Int8BinaryDumper)
    connection.adapters.register_dumper(str, _Text)
    connection.adapters.register_loader("text", _TextAgain)
    connection.adapters.register_loader("numeric", _Sum)
    Session(connection).ask("keepalives", {})


class Session:
    """Named queries on one connection."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self._pipeline: psycopg.Pipeline | None = None

    @contextmanager
    def transaction(self, *, haste: bool = True) -> Iterator[None]:
        """Statements travel together; the last of them is the commit, which the server skips if one has failed. Each
        sees what is committed by then, whatever the database's default is."""
        with self.connection.pipeline() as self._pipeline:
            self.begin(haste=haste)
            yield
            self.execute("COMMIT")
        self._pipeline = None

    def begin(self, *, haste: bool) -> None:
        """A transaction. Without `haste` it may be lost with the last moments of a server that dies."""
        self.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
        if not haste:
            self.execute("SET LOCAL synchronous_commit = off")
        self.ask("limits", {"idle": STANDSTILL, "lock": f"{PATIENCE}s", "turn": f"{PATIENCE + WHOLE}s"})

    def limit(self, seconds: float) -> None:
        """The transaction ends if it lasts for longer than that from now on: others wait for it."""
        self.ask("whole", {"whole": f"{seconds}s"})

    def execute(self, statement: str, parameters: Mapping[str, Any] | None = None) -> psycopg.Cursor[Any]:
        """See `ask`; a statement that has no name."""
        return self.connection.execute(statement, parameters, prepare=True, binary=True)

    def ask(self, query: str, parameters: Mapping[str, Any]) -> psycopg.Cursor[Any]:
        """The rows to come: in a pipeline they have not been waited for."""
        return self.execute(QUERIES[query], _timed(parameters))

    def _send_all(self) -> None:
        """What was asked, before answers are waited for: `sync`, and a pipeline within another one, wait for them even
        while a part that was more than a socket takes has not gone out, and the server waits for that."""
        self.connection.wait(send(self.connection.pgconn))

    def rows(self, query: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """See `Database.rows`."""
        cursor = self.ask(query, parameters)
        if query not in _ANSWERED:
            return []
        if self._pipeline is not None:
            self._send_all()
            # Not only flushed: else a transaction that waits for its client does not count as one that stands still.
            self._pipeline.sync()
        return cursor.fetchall()

    def both(
        self, one: tuple[str, Mapping[str, Any]], other: tuple[str, Mapping[str, Any]]
    ) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """See `Database.both`."""
        self._send_all()
        with self.connection.pipeline():
            first, second = self.ask(*one), self.ask(*other)
        return first.fetchall(), second.fetchall()

    def bulk(self, query: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """See `Database.bulk`."""
        if rows:
            self._send_all()
            self.connection.cursor().executemany(QUERIES[query], rows)

    def many(self, query: str, parameters: Sequence[Mapping[str, Any]]) -> None:
        """See `Database.many`."""
        if parameters:
            self._send_all()
            self.connection.cursor().executemany(QUERIES[query], [_timed(each) for each in parameters])


def _timed(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """With how long a lease lasts, and what the time is here: see `for_postgres`."""
    if "expires_at" in parameters:
        return {**parameters, "lasts": float(parameters["expires_at"] - parameters["now"])}
    return {**parameters, "here": time.time()} if "key" in parameters else parameters


class ConnectionLost(Exception):
    """What was asked has not been answered."""

    @classmethod
    def by(cls, error: BaseException, connection: psycopg.Connection[Any]) -> bool:
        """Whether this error ended the connection. When the server says why it ends one, it is still open here, and
        what libpq says then has no number."""
        if connection.broken or not isinstance(error, psycopg.Error):
            return connection.broken
        ended = error.diag.severity_nonlocalized in ("FATAL", "PANIC")
        return ended or (isinstance(error, psycopg.OperationalError) and error.sqlstate is None)
