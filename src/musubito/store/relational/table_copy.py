"""Copy all tables of one relational store into another, row by row and with their numbers.

Rows travel as they are: nothing is decoded or decrypted. The source is read as of one moment, while others write. What
the target holds already must be equal, so a copy that was interrupted is simply made again. If the target holds any
other row, nothing is written.

Executions come last, the newest first. So a program that uses the target too early misses results, and is never given
a result that a newer one replaced.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from hashlib import sha256
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

from musubito.errors import StoreError
from musubito.store.protocol import Row

TABLES: Final = {
    "_namespaces": ("id",),
    "_operations": ("id",),
    "_codes": ("id",),
    "_code_parts": ("code", "part"),
    "_state_places": ("operation", "code", "part"),
    "_artifacts": ("namespace", "digest"),
    "_parts": ("id",),
    "_inputs": ("operation", "input_hash"),
    "_shapes": ("digest",),
    "_runs": ("run_id",),
    "_calls": ("run_id", "call"),
    "_effects": ("effect_key",),
    "_nodes": ("id",),
    "_invalidations": ("id",),
    "_edges": ("parent", "child", "kind"),
    "_stale": ("node",),
    "_uses": ("execution", "called", "node", "asked"),
    "_reads": ("execution", "kind", "key", "digest"),
    "_attempts": ("execution", "pool", "sample"),
    "_usage": ("execution", "model"),
    "_traces": ("execution",),
    "_sums": ("run_id", "quarter", "operation"),
    "_token_sums": ("run_id", "quarter", "operation", "replayed", "model", "used"),
    "_edits": ("execution",),
    "_executions": ("id",),
}
"""The key of each table, in the order in which tables are copied: no row comes before one that it names.

Left out is what processes do just now, the version of the schema, and what its triggers make of the calls.
"""
MAX_ROWS: Final = 500
"""Rows of one batch at most."""
MAX_BYTES: Final = 4_000_000
"""Bytes after which a batch ends."""


class CopySession(Protocol):
    """A connection of a store, for statements of a copy. They are written for SQLite."""

    def columns(self, table: str) -> tuple[str, ...]:
        """Return the names of the columns of a table."""

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Return all rows of a statement."""

    def stream(self, statement: str) -> Iterator[Row]:
        """Yield the rows of a statement, of which there may be very many."""

    def insert(self, statement: str, rows: Sequence[Row]) -> None:
        """Run a statement once for each row, in one transaction."""

    def reserve(self, table: str, newest: int) -> None:
        """Give no number up to this one to a new row of a table whose rows the store numbers by itself."""


@runtime_checkable
class Copyable(Protocol):
    """A store that can be copied from and to."""

    def copy_session(self, *, snapshot: bool) -> AbstractContextManager[CopySession]:
        """Open a connection for a copy. With `snapshot` it only reads, and all as of the moment of its opening."""


class CopyProgress(NamedTuple):
    """The progress of a copy in one table. `done` rows out of `total` were looked at, `copied` of them written."""

    stage: str
    table: str
    done: int
    total: int
    copied: int = 0


def check_target(source: CopySession, target: CopySession) -> Iterator[CopyProgress]:
    """Check that each row of the target is in the source, and equal. Raise `StoreError` if one is not."""
    for table in TABLES:
        if source.columns(table) != (own := target.columns(table)) and set(own) != set(source.columns(table)):
            raise StoreError(f"the tables {table} of the two stores have other columns; open both with one version")
        done, total = 0, _count(target, table)
        for batch in _batches(target.stream(_select(source, table))) if total else ():
            _check_equal(source, table, batch, _present(source, source, table, batch).values())
            done += len(batch)
            yield CopyProgress("checked", table, done, max(done, total))


def copy_rows(source: CopySession, target: CopySession) -> Iterator[CopyProgress]:
    """Copy the rows that the target does not hold."""
    for table in TABLES:
        columns = source.columns(table)
        places = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608 - our own names
        is_begun = _count(target, table) > 0
        done, total, copied = 0, _count(source, table), 0
        if "id" in columns and total:
            target.reserve(table, source.rows(f"SELECT max(id) FROM {table}")[0][0])  # noqa: S608 - our own names
        yield CopyProgress("copied", table, 0, total)
        for batch in _batches(source.stream(_select(source, table))):
            present = _present(source, target, table, batch) if is_begun else {}
            _check_equal(source, table, present.values(), batch)
            missing = [row for row in batch if _key(source, table, row) not in present]
            if missing:
                target.insert(statement, missing)
            done, copied = done + len(batch), copied + len(missing)
            yield CopyProgress("copied", table, done, total, copied)


def compare(source: CopySession, target: CopySession) -> Iterator[CopyProgress]:
    """Compare the digests of all tables. Raise `StoreError` if those of a table differ."""
    for table in TABLES:
        digests, total = [], _count(source, table)
        for session in (source, target):
            digest = done = 0
            for batch in _batches(session.stream(_select(source, table))):
                # A sum: the two stores return rows in different orders.
                digest += sum(int.from_bytes(sha256(_encoded(row)).digest(), "big") for row in batch)
                done += len(batch)
                yield CopyProgress("verified", table, done, max(done, total))
            digests.append((digest, done))
        if digests[0] != digests[1]:
            raise StoreError(
                f"the digests of {table} differ: somebody else has written to the copy meanwhile. Copy once more, to "
                "another place"
            )


def _count(session: CopySession, table: str) -> int:
    return int(session.rows(f"SELECT count(*) FROM {table}")[0][0])  # noqa: S608 - our own names


def _select(source: CopySession, table: str) -> str:
    order = " ORDER BY id DESC" if table == "_executions" else ""
    return f"SELECT {', '.join(source.columns(table))} FROM {table}{order}"  # noqa: S608 - our own names


def _key(source: CopySession, table: str, row: Row) -> Row:
    columns = source.columns(table)
    return tuple(row[columns.index(name)] for name in TABLES[table])


def _present(source: CopySession, session: CopySession, table: str, batch: Sequence[Row]) -> dict[Row, Row]:
    """Return the rows of a session that have the keys of these rows, by their key."""
    names = TABLES[table]
    keys = [_key(source, table, row) for row in batch]
    place = f"({', '.join('?' * len(names))})"
    places = ", ".join([place] * len(keys))
    rows = session.rows(
        f"{_select(source, table).partition(' ORDER')[0]} WHERE ({', '.join(names)}) IN (VALUES {places})",
        [value for key in keys for value in key],
    )
    return {_key(source, table, row): row for row in rows}


def _check_equal(source: CopySession, table: str, rows: Iterable[Row], others: Iterable[Row]) -> None:
    """Raise `StoreError` unless each row of the target is one of the others, which are of the source."""
    others = set(others)
    for row in rows:
        if row not in others:
            key = ", ".join(part.hex() if isinstance(part, bytes) else str(part) for part in _key(source, table, row))
            raise StoreError(
                f"the row {key} of {table} is in the target and not in the source, or differs there. Nothing is "
                "overwritten: copy to an empty database. If it is an earlier copy, the source has changed since, or "
                "programs have used the copy"
            )


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    room = MAX_BYTES
    for row in rows:
        batch.append(row)
        room -= sum(len(value) for value in row if isinstance(value, str | bytes))
        if room < 0 or len(batch) == MAX_ROWS:
            yield batch
            batch, room = [], MAX_BYTES
    if batch:
        yield batch


def _encoded(row: Row) -> bytes:
    """Return the bytes of a row, the same for each store, and different for rows that differ."""
    parts: list[bytes] = []
    for value in row:
        match value:
            case None:
                kind, body = b"n", b""
            case int():
                kind, body = b"i", str(value).encode()
            case float():
                kind, body = b"f", struct.pack(">d", value)
            case str():
                kind, body = b"t", value.encode("utf-8", "surrogatepass")
            case _:
                kind, body = b"b", bytes(value)
        parts += [kind, len(body).to_bytes(8, "big"), body]
    return b"".join(parts)
