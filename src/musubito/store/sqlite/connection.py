"""Run named queries on one connection of SQLite, and keep the newest rows that it has found."""

from __future__ import annotations

import re
import sqlite3
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from mmap import mmap
from pathlib import Path
from typing import Any, Final

from musubito.store.changes import Moment
from musubito.store.queries import CurrentMoment, OlderCandidates
from musubito.store.relational.named_queries import QUERIES
from musubito.store.relational.reads import answer
from musubito.store.relational.sql_session import IdCache
from musubito.store.rows import CallKeys, Candidate
from musubito.store.sqlite.disk_space import PAGES
from musubito.store.sqlite.wal_index import HEADER

MAX_NODES: Final = 4096
"""Nodes whose numbers a connection keeps at most."""
KEPT_BYTES: Final = 16 * 1024 * 1024
"""Bytes of the rows that a connection keeps at most."""
ROW_BYTES: Final = 1200
"""Bytes that a kept row takes in memory besides its payload."""
BULK: Final = 1000
"""Rows that one statement adds at most."""
MAX_KEPT: Final = 65_536
"""Bytes of the largest payload that is kept with its row."""
# Readers go through most pages once, and a page in new memory costs more than one in the place of another.
READER: Final = ("PRAGMA query_only = ON", "PRAGMA cache_size = -8192")
WRITER: Final = (
    "PRAGMA synchronous = NORMAL",
    "PRAGMA cache_size = -65536",
    f"PRAGMA wal_autocheckpoint = {PAGES}",  # rarer than by default, which shortens the mean commit
)


@lru_cache(maxsize=8)
def _for_rows(query: str, count: int) -> str:
    """Return the text of a query that adds one row, made to add this many rows."""
    head, row, tail = re.split(r"(\([?, ]+\))", QUERIES[query])
    return head + ", ".join([row] * count) + tail


def decode_text(raw: bytes) -> str:
    """Return the text of these bytes, be it that another program wrote them."""
    return raw.decode("utf-8", "surrogateescape")


def _bytes_of(candidate: Candidate) -> int:
    return ROW_BYTES + len(candidate.payload or b"")


class Ahead:
    """Facts about the database before a commit, besides the present moment."""

    def __init__(self, node: int, is_asked: int, is_retired: int) -> None:
        self.node = node
        """The number of the newest node."""
        self.is_asked = is_asked
        """Whether any use has a key of its own that was asked for."""
        self.is_retired = is_retired
        """Whether any execution is retired."""


class Connection:
    """A connection, the lock that guards it, and named queries on it."""

    def __init__(self, path: Path | str, busy_timeout: float, pragmas: Sequence[str]) -> None:
        self.lock = threading.Lock()
        self._path, self._busy_timeout, self._pragmas = path, busy_timeout, pragmas
        self.numbers = IdCache()
        self.kept: dict[CallKeys, Candidate] = {}
        """The newest rows that the connection found, valid until another connection commits."""
        self._room = KEPT_BYTES
        """Bytes that rows to be kept may still take."""
        self.kept_version: Any = None
        """What tells that nobody else has committed since the kept rows were found."""
        self.absent: bytes | None = None
        """The reuse key under which nothing was found last; valid as long as the kept rows are."""
        self.absent_node: bytes | None = None
        """The node that was not found last; valid as long as the kept rows are."""
        self.moment: Moment | None = None
        """The present moment, if it is known; valid until another connection commits."""
        self.ahead: Ahead | None = None
        """What is known before the next commit; valid as long as the moment is."""
        self.before: Ahead | None = None
        """What was known before the last commit of the open transaction, with the nodes that the commit has added."""
        self.nodes: dict[bytes, int] = {}
        """The numbers of the newest nodes that this connection added, valid until another connection commits."""
        self.index: mmap | None = None
        """The index of the write-ahead log, once it is known to be this database's (see `wal_index`)."""
        self._settings: dict[str, str] = {}
        """The values that pragmas have on the open connection, where `use` has set them."""
        self.shown: set[bytes] | None = None
        """The keys of this store's leases that may be rows; None if any lease may be a row."""
        self._open()

    def _open(self) -> None:
        self.connection = sqlite3.connect(
            self._path,
            timeout=self._busy_timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
            uri=True,
        )
        # Without this, a store that is dropped unclosed would warn of it. At exit, engines still write.
        self._if_dropped = weakref.finalize(self, self.connection.close)
        self._if_dropped.atexit = False
        # A payload that another program wrote as text must come out as a wrong payload, not as an error of the store.
        self.connection.text_factory = decode_text
        self.connection.create_function("unhex", 1, bytes.fromhex, deterministic=True)  # SQLite has it since 3.41
        try:
            for pragma in self._pragmas:
                self.connection.execute(pragma)
        except BaseException:
            self.close()
            raise
        self.execute: Callable[..., sqlite3.Cursor] = self.connection.execute

    def close(self) -> None:
        """Close the connection."""
        self._if_dropped.detach()
        self.connection.close()

    def close_for_fork(self) -> None:
        """Close the connection until the next statement opens it again."""
        self.close()
        self._settings.clear()
        # A new connection counts the commits of others from the start, and may have another index.
        self.forget()
        self.index = None
        self.execute = self._wake

    def _wake(self, statement: str, parameters: Mapping[str, Any] | None = None) -> sqlite3.Cursor:
        self._open()
        return self.execute(statement, parameters or {})

    def limit_wait(self, seconds: float) -> None:
        """Wait this long at most for a database that another connection has locked."""
        self.execute(f"PRAGMA busy_timeout = {max(0, round(seconds * 1000))}").fetchone()

    def use(self, pragma: str, value: str) -> None:
        """Give a pragma this value, unless it has it. An open transaction is rolled back first."""
        if self._settings.get(pragma) != value:
            if self.take_back():
                self.forget()
            # An interrupt (Ctrl-C) may come after the pragma is set and before its value is kept.
            self._settings.pop(pragma, None)
            self.execute(f"PRAGMA {pragma} = {value}")
            self._settings[pragma] = value

    def begin(self, statement: str) -> bool:
        """Begin a transaction, and tell whether an open one had to be rolled back first."""
        left = self.take_back()
        self.execute(statement)
        return left

    def take_back(self) -> bool:
        """Roll back a transaction that an interrupt (Ctrl-C) has left open, and tell whether there was one.

        Reads in such a transaction would see the data as it was at its start, even if it was invalidated since.
        """
        left = self.execute != self._wake and self.connection.in_transaction
        if left:
            self.execute("ROLLBACK")
        return left

    def drop(self) -> None:
        """Drop all that was found and may have changed."""
        self.kept.clear()
        self._room = KEPT_BYTES
        self.absent = self.absent_node = self.moment = self.ahead = self.before = None

    def drop_if_changed(self) -> None:
        """Drop all that was found, if another connection has committed since."""
        index = self.index
        version = self.data_version() if index is None else index[:HEADER]
        if version != self.kept_version:
            self.drop_as_of(version)

    def drop_as_of(self, version: Any) -> None:
        """Drop all that was found before another connection committed. `version` tells the next such commit."""
        self.drop()
        self.forget_ahead()
        self.kept_version = version

    def forget(self) -> None:
        """Drop all that is kept in memory: after a rollback, some of it is not in the database."""
        self.numbers.forget()
        self.drop()
        self.forget_ahead()

    def forget_ahead(self) -> None:
        """Drop all for which the next commit would not ask the database."""
        self.ahead = None
        self.nodes.clear()

    def known_moment(self) -> Moment | None:
        """Return the present moment, if it is known."""
        self.drop_if_changed()
        return self.moment

    def present_moment(self) -> Moment:
        """Return the present moment, and keep it as long as it is valid."""
        moment = self.known_moment()
        if moment is None:
            moment = self.moment = answer(self, self.numbers, CurrentMoment())
        return moment

    def older(self, query: OlderCandidates) -> list[Candidate]:
        """Answer this query. If the lookup of its call has found nothing, learn also whether its node is absent."""
        self.drop_if_changed()
        if self.absent == query.keys.reuse and query.across:
            ((is_there, is_node),) = self.rows("any_across", {"cross": query.keys.cross, "node": query.keys.node})
            if not is_node:
                self.absent_node = query.keys.node
            if not is_there:
                return []
        candidates: list[Candidate] = answer(self, self.numbers, query)
        return candidates

    def data_version(self) -> Any:
        """Return a value that changes when another connection commits."""
        return self.execute("PRAGMA data_version").fetchall()

    def keep(self, keys: CallKeys, candidate: Candidate | None) -> None:
        """Keep a row to return it again, if it is not too large."""
        if candidate is None:
            self.absent = keys.reuse
            return
        payload = candidate.payload
        if payload is not None and (type(payload) is not bytes or len(payload) > MAX_KEPT):
            return
        self._room -= _bytes_of(candidate)
        while self._room < 0:
            self._room += _bytes_of(self.kept.pop(next(iter(self.kept))))
        self.kept[keys] = candidate

    def rows(self, query: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """See `SqlSession.rows`."""
        # All rows at once: a statement that is not read to its end would hold its snapshot open.
        return self.execute(QUERIES[query], parameters).fetchall()

    def run_pair(
        self, one: tuple[str, Mapping[str, Any]], other: tuple[str, Mapping[str, Any]]
    ) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """See `SqlSession.run_pair`."""
        return self.rows(*one), self.rows(*other)

    def before_commit(self, keys: CallKeys) -> tuple[tuple[Any, ...], list[tuple[Any, ...]]]:
        """See `SqlSession.before_commit`.

        Nothing is asked that the lookup of this call has found, as long as nobody has committed since, and the commit
        is the only change of its transaction.
        """
        ahead, moment = self.ahead, self.moment
        if ahead is None or moment is None or ahead.is_asked or self.absent != keys.reuse:
            row = self.rows("ahead", {"reuse": keys.reuse})[0]
        else:
            row = moment.executions + 1, ahead.node + 1, moment.invalidations, 0, 0, 0, ahead.is_retired
        self.before = Ahead(row[1] - 1, row[5], row[6])
        if ahead is not None and self.absent_node == keys.node:
            return row, []
        return row, self.rows("node", {"node": keys.node})

    def known_node(self, node: bytes) -> int | None:
        """See `SqlSession.known_node`."""
        return self.nodes.get(node)

    def note_node(self, node: bytes, number: int) -> None:
        """See `SqlSession.note_node`."""
        if len(self.nodes) >= MAX_NODES:
            self.nodes.clear()
        self.nodes[node] = number
        if self.before is not None and number > self.before.node:
            self.before.node = number

    def bulk(self, query: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """See `SqlSession.bulk`."""
        # Few statements: after each one, this thread has to get hold of the interpreter again. The wait takes 5 ms
        # while another thread computes, and all the while the connection is not free for reads.
        for start in range(0, len(rows), BULK):
            chunk = rows[start : start + BULK]
            self.execute(_for_rows(query, len(chunk)), tuple(chain.from_iterable(chunk)))

    def many(self, query: str, parameters: Sequence[Mapping[str, Any]]) -> None:
        """See `SqlSession.many`."""
        self.connection.executemany(QUERIES[query], parameters)

    def may_show(self, key: bytes) -> bool:
        """See `SqlSession.may_show`."""
        return self.shown is None or key in self.shown
