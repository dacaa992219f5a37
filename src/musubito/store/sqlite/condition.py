"""Tell the condition of a database file, and the faults that SQLite finds inside it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final, NamedTuple

from musubito.store.sqlite.connection import Connection
from musubito.store.sqlite.opening import STEPS

MAX_FAULTS: Final = 10
"""Faults that are named at most."""


class Condition(NamedTuple):
    """The condition of a database file. `mode` is the mode of the file."""

    path: str
    mode: int
    size: int
    log_size: int
    schema: int
    newest_schema: int
    pages: int
    free_pages: int


def condition_of(path: Path, reader: Connection, *, in_memory: bool) -> Condition:
    """Return the condition of the file of a connection. Raise OSError or `sqlite3.Error` if it cannot be told."""
    log = Path(f"{path}-wal")
    with reader.lock:
        pages, free_pages, page_size, schema = (
            reader.execute(f"PRAGMA {pragma}").fetchone()[0]
            for pragma in ("page_count", "freelist_count", "page_size", "user_version")
        )
    if in_memory:
        mode, size, log_size = 0o600, pages * page_size, 0
    else:
        # Only looked at from outside: if this process opened and closed the file here, SQLite would lose its locks.
        about = path.stat()
        mode, size = about.st_mode & 0o777, about.st_size
        log_size = log.stat().st_size if log.exists() else 0
    return Condition(str(path), mode, size, log_size, schema, max(STEPS), pages, free_pages)


def faults_in(reader: Connection) -> tuple[str, ...]:
    """Return the faults that SQLite finds in the whole file (`PRAGMA quick_check`)."""
    with reader.lock:
        try:
            rows = reader.execute(f"PRAGMA quick_check({MAX_FAULTS})").fetchall()
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CORRUPT:
                raise
            return (str(error),)
    return tuple(row[0] for row in rows if row[0] != "ok")
