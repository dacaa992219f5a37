"""A connection of SQLite for a copy of all tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from musubito.store.protocol import Row
from musubito.store.relational.table_copy import CopySession
from musubito.store.sqlite.connection import decode_text
from musubito.store.sqlite.opening import REPORTED, fault_of


@contextmanager
def copy_session(database: str, path: Path, busy_timeout: float, *, snapshot: bool) -> Iterator[CopySession]:
    """See `Copyable.copy_session`. `database` is the file or its URI."""
    try:
        with closing(sqlite3.connect(database, timeout=busy_timeout, isolation_level=None, uri=True)) as connection:
            connection.text_factory = decode_text
            if snapshot:
                connection.execute("BEGIN")
                # SQLite takes the snapshot at the first read.
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            else:
                # Of contents that are replaced nothing stays in the file.
                connection.execute("PRAGMA secure_delete = ON")
            yield SQLiteCopySession(connection)
    except REPORTED as error:
        raise fault_of(path, error) from error


class SQLiteCopySession:
    """See `CopySession`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._columns: dict[str, tuple[str, ...]] = {}

    def columns(self, table: str) -> tuple[str, ...]:
        """See `CopySession.columns`."""
        if table not in self._columns:
            cursor = self._connection.execute(f"SELECT * FROM {table} LIMIT 0")  # noqa: S608 - our own names
            self._columns[table] = tuple(column[0] for column in cursor.description)
        return self._columns[table]

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """See `CopySession.rows`."""
        return self._connection.execute(statement, parameters).fetchall()

    def stream(self, statement: str) -> Iterator[Row]:
        """See `CopySession.stream`."""
        with closing(self._connection.execute(statement)) as cursor:
            yield from cursor

    def insert(self, statement: str, rows: Sequence[Row]) -> None:
        """See `CopySession.insert`."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany(statement, rows)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def reserve(self, table: str, newest: int) -> None:
        """Do nothing: SQLite numbers a row by the largest number in the table."""
