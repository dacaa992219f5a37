"""Create, check and migrate a database file before a store uses it."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from musubito.errors import SchemaError, StoreBusy, StoreError, StoreFull
from musubito.store.relational.named_queries import schema_steps

APPLICATION_ID: Final = 0x4D555342  # "MUSB"
INCREMENTAL: Final = 2
"""The mode of `auto_vacuum` in which free pages go back to the disk on request."""
DEFAULT_PATH: Final = ".musubito/musubito.db"
ELSEWHERE: Final = "Name another file (db_path in Python, --db of the command), or set MUSUBITO_URL=sqlite:///path."
SMALLEST: Final = 512
"""Bytes of the smallest page."""
STEPS: Final = schema_steps("sqlite")
REPORTED: Final = (sqlite3.Error, UnicodeError)
"""Errors that SQLite reports. UnicodeError is one, because names of a damaged schema may not decode."""


def prepare(path: Path, busy_timeout: float) -> None:
    """Check the file without changing it, then create or migrate the schema."""
    try:
        _make_folder(path)
        new = _create(path)
        if not new:
            check_header(path)
        with closing(sqlite3.connect(path, timeout=busy_timeout, isolation_level=None)) as connection:
            version = check_schema(path, connection)
            if version < max(STEPS):
                # SQLite obeys this pragma only while nothing is in the file yet.
                connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
                _use_wal(connection, time.monotonic() + busy_timeout)
                migrate(path, connection)
    except NotADirectoryError as error:
        raise StoreError(f"{path}: a part of this path is a file and no folder. {ELSEWHERE}") from error
    except FileExistsError as error:
        raise StoreError(f"{path.parent} is a file and no folder. {ELSEWHERE}") from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}. {ELSEWHERE}") from error
    except REPORTED as error:
        raise fault_of(path, error) from error


def fault_of(path: Path, error: Exception) -> StoreError:
    """Return an error with SQLite's text and with a remedy."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy(f"{path}: {error}")
    if code == sqlite3.SQLITE_FULL or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHMSIZE:
        return StoreFull(
            f"{path}: database or disk is full. Make a little room on its disk; 'musubito prune' then makes more"
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreError(f"{path}: {error}. Move it away to begin anew, or restore a copy.")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
        return StoreError(f"{path}: {error}. {ELSEWHERE}")
    return StoreError(f"{path}: {error}")


def absolute(path: Path) -> Path:
    """Return the absolute path. Raises `StoreError` if the working directory is gone."""
    try:
        return path.absolute()
    except FileNotFoundError as error:
        raise StoreError(f"{path}: the working directory is gone. {ELSEWHERE}") from error


def _make_folder(path: Path) -> None:
    """Make the folder of a database; the default folder gets a `.gitignore`."""
    try:
        path.parent.mkdir(parents=True)
    except FileExistsError:
        if not path.parent.is_dir():
            raise
    else:
        if path == absolute(Path(DEFAULT_PATH)):
            (path.parent / ".gitignore").write_text("*\n", encoding="utf-8")


def _create(path: Path) -> bool:
    """Make an empty file that only its owner can read. SQLite gives the files beside it the same mode."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return False
    return True


def check_header(path: Path) -> None:
    """Check that the file is a database of Musubito, without changing it.

    SQLite must not finish or undo here what another program left unfinished, so it opens the file as immutable. The
    file is read by SQLite alone. If it were opened and closed here, all locks on it of this process would be lost
    (https://sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_).
    """
    if 0 < path.stat().st_size < SMALLEST:  # SQLite takes such a file for an empty one
        raise StoreError(f"{path} is not a SQLite database; it was left as it is. {ELSEWHERE}")
    only_look = f"file:{quote(str(path))}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(only_look, uri=True)) as connection:
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_NOTADB:
            raise StoreError(f"{path} is not a SQLite database; it was left as it is. {ELSEWHERE}") from error
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CANTOPEN:
            raise
        # The file alone lacks the pages that lie in the log; opened as usual, the database is whole.
        return
    if tables and application != APPLICATION_ID:
        raise _foreign(path)


def _foreign(path: Path) -> SchemaError:
    return SchemaError(f"{path} is a database of another program; it was left as it is. {ELSEWHERE}")


def check_schema(path: Path, connection: sqlite3.Connection) -> int:
    """Return the version of the schema; 0 for an empty database.

    Raise `SchemaError` for the file of another program or of a newer Musubito, and for a version that never was.
    """
    # Counted first: if another process is just creating the tables, the id that is read next came with them.
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise _foreign(path)
    if version > max(STEPS):
        raise SchemaError(
            f"{path} has schema {version}, this Musubito knows {max(STEPS)}: it was written by a newer one. "
            "Upgrade musubito, or name another file (db_path in Python, --db of the command)."
        )
    if tables and version not in STEPS:
        raise SchemaError(f"{path} has schema {version}, which no Musubito has made; it was left as it is. {ELSEWHERE}")
    return version


def _use_wal(connection: sqlite3.Connection, until: float) -> None:
    """Set WAL mode, with retries until `until`.

    SQLite itself waits for nobody when it changes the journal mode, and several processes may open a new file at once.
    """
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.005)
        else:
            return


def migrate(path: Path, connection: sqlite3.Connection) -> None:
    """Migrate the schema, each step in a transaction of its own. A second process finds a step done."""
    for target, script in STEPS.items():
        connection.execute("BEGIN IMMEDIATE")
        try:
            if check_schema(path, connection) < target:
                for statement in statements(script):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {target}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def statements(script: str) -> list[str]:
    """Return the single statements of a script. `executescript` would commit the open transaction."""
    statements, pending = [], ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements
