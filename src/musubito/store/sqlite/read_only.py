"""Read a SQLite file that this process cannot write, or beside which it can make no files.

A file in WAL mode is read by means of two files beside it, its log and the log's index. If there is no log, all data is
in the file itself, and SQLite can read it as immutable. SQLite then notices no writer, so each read checks that there
was none.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from musubito.errors import SchemaError, StoreBusy, StoreError
from musubito.store.changes import Change
from musubito.store.protocol import NamedQuery
from musubito.store.queries import Query
from musubito.store.relational.table_copy import CopySession
from musubito.store.rows import CallKeys, Candidate
from musubito.store.sqlite.connection import READER, Connection
from musubito.store.sqlite.copy_session import copy_session
from musubito.store.sqlite.opening import REPORTED, STEPS, check_header, check_schema, fault_of
from musubito.store.sqlite.storage import SQLiteStorage

T = TypeVar("T")


def existing_sqlite(path: Path) -> SQLiteStorage:
    """Open a database file that exists, to be read alone if it or its folder cannot be written."""
    is_writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    return SQLiteStorage(path) if is_writable else ReadOnlySQLite(path)


class ReadOnlySQLite(SQLiteStorage):
    """Lineage in a SQLite file that can only be read. Nothing is made or changed beside it."""

    def _open_file(self) -> None:
        path = self.db_path
        log = Path(f"{path}-wal")
        self._is_immutable = not log.exists() or (log.stat().st_size == 0 and not Path(f"{path}-shm").exists())
        self._contents = self._state()
        self._uri = uri = f"file:{quote(str(path))}?mode=ro" + ("&immutable=1" if self._is_immutable else "")
        try:
            check_header(path)
            with closing(sqlite3.connect(uri, uri=True, timeout=self.busy_timeout)) as connection:
                version = check_schema(path, connection)
            self._reader = Connection(uri, self.busy_timeout, READER)
            self._writer = Connection(uri, self.busy_timeout, READER)
        except REPORTED as error:
            if not self._is_immutable and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CANTOPEN:
                raise StoreError(
                    f"{path}: its log {log.name} cannot be read where nothing can be written. Copy both files to a "
                    "folder that can be written, and read the copy."
                ) from error
            raise fault_of(path, error) from error
        if version != max(STEPS):
            self._reader.close()
            self._writer.close()
            raise SchemaError(
                f"{path} has schema {version}, this Musubito reads {max(STEPS)}, and it cannot be migrated where it "
                "cannot be written. Copy it to a folder that can be written, and read the copy."
            )
        self._presence = self._disk = self._locks = self._index = None
        self._has_looked_for_index = True
        self._writing = set()

    def _state(self) -> tuple[int, ...]:
        """Return what differs once the file was written to: its identity, size and time of change, and the log."""
        try:
            status = self.db_path.stat()
        except OSError as error:
            raise StoreError(f"{self.db_path}: {error.strerror or error}") from error
        has_log = Path(f"{self.db_path}-wal").exists()
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, has_log

    def _unchanged(self, ask: Callable[[], T]) -> T:
        """Return what `ask` returns. Raise `StoreBusy` if the file was written to since it was opened as immutable."""
        try:
            result = ask()
        except StoreError:  # pages of two moments look like damage
            self._check_state()
            raise
        self._check_state()
        return result

    def _check_state(self) -> None:
        if self._is_immutable and self._state() != self._contents:
            raise StoreBusy(f"{self.db_path} was written to while it was read; read it again")

    def newest(self, keys: CallKeys, namespace: str) -> Candidate | None:
        """See `Store.newest`."""
        return self._unchanged(lambda: super(ReadOnlySQLite, self).newest(keys, namespace))

    def find(self, query: Query) -> Any:
        """See `Store.find`."""
        return self._unchanged(lambda: super(ReadOnlySQLite, self).find(query))

    def read(self, questions: Sequence[NamedQuery]) -> list[list[tuple[Any, ...]]]:
        """See `Readable.read`."""
        return self._unchanged(lambda: super(ReadOnlySQLite, self).read(questions))

    def copy_session(self, *, snapshot: bool) -> AbstractContextManager[CopySession]:
        """See `Copyable.copy_session`."""
        return copy_session(self._uri, self.db_path, self.busy_timeout, snapshot=snapshot)

    def write(self, changes: Sequence[Change]) -> list[Any]:
        """Raise `StoreError`."""
        raise StoreError(
            f"{self.db_path} can only be read: this user may not write it, or may not make files in its folder"
        )
