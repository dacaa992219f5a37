"""A connection of PostgreSQL for a copy of all tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from musubito.store.postgres.schema import SCHEMA, WRITES, options
from musubito.store.postgres.sessions import Session, configure
from musubito.store.protocol import Row
from musubito.store.relational.named_queries import in_postgres
from musubito.store.relational.table_copy import MAX_ROWS, CopySession

_NUMBERED: Final = frozenset({"_namespaces", "_operations", "_codes", "_invalidations", "_parts"})
"""Tables whose rows the server numbers by a sequence."""


@contextmanager
def copy_session(url: str, *, snapshot: bool) -> Iterator[CopySession]:
    """See `Copyable.copy_session`."""
    with psycopg.connect(url, **options(url)) as connection:
        configure(connection)
        if snapshot:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield PostgreSQLCopySession(connection, is_in_transaction=snapshot)


class PostgreSQLCopySession:
    """See `CopySession`."""

    def __init__(self, connection: psycopg.Connection[Any], *, is_in_transaction: bool) -> None:
        self._connection = connection
        self._is_in_transaction = is_in_transaction
        self._columns: dict[str, tuple[str, ...]] = {}

    def columns(self, table: str) -> tuple[str, ...]:
        """See `CopySession.columns`."""
        if table not in self._columns:
            cursor = self._connection.execute(in_postgres(f"SELECT * FROM {table} LIMIT 0"))  # noqa: S608 - our own names
            self._columns[table] = tuple(column.name for column in cursor.description or ())
        return self._columns[table]

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """See `CopySession.rows`."""
        return self._connection.execute(in_postgres(statement), parameters, binary=True).fetchall()

    def stream(self, statement: str) -> Iterator[Row]:
        """See `CopySession.stream`."""
        if not self._is_in_transaction:
            self._connection.execute("BEGIN READ ONLY")
        with self._connection.cursor("copy", binary=True) as cursor:
            cursor.itersize = MAX_ROWS
            yield from cursor.execute(in_postgres(statement))
        if not self._is_in_transaction:
            self._connection.execute("COMMIT")

    def insert(self, statement: str, rows: Sequence[Row]) -> None:
        """See `CopySession.insert`."""
        with self._connection.transaction():
            Session(self._connection).ask("lock", {"lock": WRITES})
            self._connection.cursor().executemany(in_postgres(statement), rows)

    def reserve(self, table: str, newest: int) -> None:
        """See `CopySession.reserve`."""
        if table in _NUMBERED:
            self._connection.execute(
                "SELECT setval(sequence, greatest(%(newest)s, nextval(sequence)))"
                " FROM (SELECT pg_get_serial_sequence(%(table)s, 'id')::regclass AS sequence) AS numbers",
                {"newest": newest, "table": f"{SCHEMA}.{table}"},
            )
