"""Sessions of PostgreSQL: named queries on a connection, conversions of values, and limits of waiting."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from typing import Any, Final

import psycopg
from psycopg.abc import Buffer
from psycopg.generators import send
from psycopg.types.numeric import Int8BinaryDumper, NumericBinaryLoader
from psycopg.types.string import StrBinaryDumper, TextBinaryLoader

from musubito.errors import LOGGER
from musubito.store.relational.named_queries import for_postgres
from musubito.store.rows import CallKeys

QUERIES = for_postgres()
POOL: Final = "musubito"
"""The name of the pool of each store."""
PATIENCE: Final = 30.0
"""Seconds to wait for a server that is away, before steps go on without it."""
STANDSTILL: Final = "10s"
"""The longest pause inside a transaction. After it the server ends the transaction: its client may be gone."""
WHOLE: Final = 15.0
"""Seconds that a step's transaction may last when its turn has come."""
BY_HAND: Final = 600.0
"""Seconds that a transaction of something done by hand may last, which may take long."""


def _gives_rows(statement: str) -> bool:
    changes = re.search(r"^(INSERT|UPDATE|DELETE)\b", statement, re.MULTILINE) is not None
    return not changes or "RETURNING" in statement


_ANSWERED: Final = {name for name, statement in QUERIES.items() if _gives_rows(statement)}


# -- values ------------------------------------------------------------------------------------------------------------
_HIDDEN: Final = re.compile("[\x00\u2400\u241b]")


class _TextDumper(StrBinaryDumper):
    """A dumper of texts with NUL, which PostgreSQL's text cannot hold.

    A sign stands for NUL. Signs that were in the text before are escaped by another sign.
    """

    def dump(self, obj: str) -> Buffer | None:
        if _HIDDEN.search(obj):
            obj = obj.replace("\u241b", "\u241b\u241b").replace("\u2400", "\u241b\u2400").replace("\x00", "\u2400")
        return super().dump(obj)


class _TextLoader(TextBinaryLoader):
    """A loader that restores the texts of `_TextDumper`."""

    def load(self, data: Buffer) -> str | bytes:
        text = super().load(data)
        if isinstance(text, str) and _HIDDEN.search(text):
            return re.sub("\u241b(.)|\u2400", lambda sign: sign[1] or "\x00", text)
        return text


class _SumLoader(NumericBinaryLoader):
    """A loader of sums: a sum of integers, which is `numeric` in PostgreSQL, becomes an integer again."""

    def load(self, data: Buffer) -> Any:
        number = super().load(data)
        return int(number) if number == number.to_integral_value() else float(number)


def configure(connection: psycopg.Connection[Any]) -> float:
    """Set up a connection, so that both sides agree on values, and notice when the other side is gone.

    Return the server's time, in seconds since the epoch.
    """
    # There are many statements, and each is prepared anew for other types of parameters.
    connection.prepared_max = 2000
    # To prepare a statement is a round trip, unless it is in a pipeline: commands ask most of theirs once.
    connection.prepare_threshold = 1
    # All integers travel as the widest type: a recursive query takes its types from its first row.
    connection.adapters.register_dumper(int, Int8BinaryDumper)
    connection.adapters.register_dumper(str, _TextDumper)
    connection.adapters.register_loader("text", _TextLoader)
    connection.adapters.register_loader("numeric", _SumLoader)
    now: float = Session(connection).rows("keepalives", {})[0][0]
    return now


class PooledConnection(psycopg.Connection[Any]):
    """A connection of a store's pool."""


def _log_for_debugging(record: logging.LogRecord) -> bool:
    """Log for debugging alone what the pool of a store warns of. Return whether the record is of another pool.

    The engine logs an outage itself, once. The pool would add a line for each attempt to connect.
    """
    args = record.args if isinstance(record.args, tuple) else ()
    if not any(arg == POOL or isinstance(arg, PooledConnection) for arg in args):
        return True
    LOGGER.debug("%s", record.getMessage())
    return False


logging.getLogger("psycopg.pool").addFilter(_log_for_debugging)


class Durability(Enum):
    """When what a transaction writes is on the server's disk."""

    AT_COMMIT = auto()
    """Before anybody can see it, whatever the database's default is."""
    AFTER_COMMIT = auto()
    """When its writer goes on, as the database's `synchronous_commit` says; others can see it, and write, before.

    The server's log is written in order. So a crash that loses such a transaction loses each one that has seen it.
    """
    LATER = auto()
    """Some time later: a server that dies may lose it."""


class Session:
    """Named queries on one connection."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self._pipeline: psycopg.Pipeline | None = None

    @contextmanager
    def transaction(self, durability: Durability) -> Iterator[None]:
        """Open a transaction, in which statements travel together.

        The last statement is the commit, which the server skips if another statement has failed. Each statement sees
        what is committed by then, whatever isolation level the database has by default.
        """
        with self.connection.pipeline() as self._pipeline:
            self.begin(durability)
            yield
            self.execute("COMMIT")
            if durability is Durability.AFTER_COMMIT:
                self.flush()
        self._pipeline = None

    def begin(self, durability: Durability) -> None:
        """Begin a transaction."""
        self.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
        if durability is Durability.AT_COMMIT:
            self.ask("lasting", {})
        else:
            self.execute("SET LOCAL synchronous_commit = off")
        self.ask("limits", {"idle": STANDSTILL, "lock": f"{PATIENCE}s", "turn": f"{PATIENCE + WHOLE}s"})

    def flush(self) -> None:
        """Wait until all that was committed by now is on the disk. Sessions that wait at once share one flush."""
        self.ask("flush", {})

    def limit(self, seconds: float) -> None:
        """Let the server end the transaction if it lasts longer than this from now on, since others wait for it."""
        self.ask("whole", {"whole": f"{seconds}s"})

    def execute(self, statement: str, parameters: Mapping[str, Any] | None = None) -> psycopg.Cursor[Any]:
        """Send a statement that has no name; see `ask`."""
        return self.connection.execute(statement, parameters, binary=True)

    def ask(self, query: str, parameters: Mapping[str, Any]) -> psycopg.Cursor[Any]:
        """Send a named query; return a cursor for its rows. In a pipeline the rows have not come yet."""
        return self.execute(QUERIES[query], _timed(parameters))

    def _send_all(self) -> None:
        """Send all statements before their answers are waited for.

        Without this, both sides could wait for each other. `sync`, and a pipeline within another one, wait for answers
        even if a part was more than a socket takes and has not gone out. The server waits for that part.
        """
        self.connection.wait(send(self.connection.pgconn))

    def rows(self, query: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """See `SqlSession.rows`."""
        cursor = self.ask(query, parameters)
        if query not in _ANSWERED:
            return []
        if self._pipeline is not None:
            self._send_all()
            # A flush is not enough: the server would not count a transaction that waits for its client as idle.
            self._pipeline.sync()
        return cursor.fetchall()

    def run_pair(
        self, one: tuple[str, Mapping[str, Any]], other: tuple[str, Mapping[str, Any]]
    ) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """See `SqlSession.run_pair`."""
        self._send_all()
        with self.connection.pipeline():
            first, second = self.ask(*one), self.ask(*other)
        return first.fetchall(), second.fetchall()

    def before_commit(self, keys: CallKeys) -> tuple[tuple[Any, ...], list[tuple[Any, ...]]]:
        """See `SqlSession.before_commit`."""
        rows, node_rows = self.run_pair(("ahead", {"reuse": keys.reuse}), ("node", {"node": keys.node}))
        return rows[0], node_rows

    def known_node(self, node: bytes) -> int | None:
        """See `SqlSession.known_node`. Another process may have removed the node meanwhile."""
        return None

    def note_node(self, node: bytes, number: int) -> None:
        """See `SqlSession.note_node`."""

    def bulk(self, query: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """See `SqlSession.bulk`."""
        if rows:
            self._send_all()
            self.connection.cursor().executemany(QUERIES[query], rows)

    def many(self, query: str, parameters: Sequence[Mapping[str, Any]]) -> None:
        """See `SqlSession.many`."""
        if parameters:
            self._send_all()
            self.connection.cursor().executemany(QUERIES[query], [_timed(item) for item in parameters])

    def may_show(self, key: bytes) -> bool:
        """See `SqlSession.may_show`."""
        return True


def _timed(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the parameters, with the seconds that a lease lasts and the time here (see `for_postgres`)."""
    if "expires_at" in parameters:
        return {**parameters, "lasts": float(parameters["expires_at"] - parameters["now"])}
    return {**parameters, "here": time.time()} if "key" in parameters else parameters


class ConnectionLost(Exception):
    """The connection was lost before an answer came."""

    @classmethod
    def by(cls, error: BaseException, connection: psycopg.Connection[Any]) -> bool:
        """Return whether an error ended the connection.

        If the server says why it ends a connection, the connection is still open here. If libpq says so, its error has
        no SQLSTATE.
        """
        if connection.broken or not isinstance(error, psycopg.Error):
            return connection.broken
        ended = error.diag.severity_nonlocalized in ("FATAL", "PANIC")
        return ended or (isinstance(error, psycopg.OperationalError) and error.sqlstate is None)
