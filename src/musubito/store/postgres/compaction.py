"""Measure what the rows of a database take, and make the room of removed rows free for new ones."""

from __future__ import annotations

import psycopg

from musubito.store.postgres.schema import SCHEMA
from musubito.store.postgres.sessions import Session


def used(session: Session) -> int:
    """Return how many bytes all rows take, without indexes and free room. It reads every row."""
    tables = [table for (table,) in session.rows("tables", {})]
    with session.connection.pipeline():
        sizes = [
            session.execute(f"SELECT coalesce(sum(pg_column_size(t.*)), 0)::bigint FROM {SCHEMA}.{table} t")  # noqa: S608 - our own names
            for table in tables
        ]
    return sum(cursor.fetchall()[0][0] for cursor in sizes)


def vacuum(session: Session) -> bool:
    """Make room that nothing needs free for new rows. Return False if the server kept a table from this role.

    `VACUUM FULL` would return that room to the disk, and would stop everybody meanwhile. The administrator may run it.
    """
    severities: set[str | None] = set()

    def notice(of: psycopg.errors.Diagnostic) -> None:
        severities.add(of.severity_nonlocalized)

    session.connection.add_notice_handler(notice)
    try:
        for (table,) in session.rows("tables", {}):
            session.execute(f"VACUUM {SCHEMA}.{table}")
    finally:
        session.connection.remove_notice_handler(notice)
    return "WARNING" not in severities
