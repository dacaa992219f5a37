"""The store that a URL names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from musubito.errors import StoreError
from musubito.store.protocol import Store
from musubito.store.sqlite.storage import SQLiteStorage

_POSTGRES: Final = ("postgresql", "postgres")
EXAMPLES: Final = (
    "sqlite:///path/from/here.db, sqlite:////path/from/root.db or postgresql://user:password@host/database"
)


def open_store(url: str) -> Store:
    """Open the store that a URL names; make it if it is not there.

    The URL is `sqlite:///path/from/here.db`, `sqlite:////path/from/root.db` or `postgresql://user@host/database`. Raise
    `StoreError` for any other URL, and if the store cannot be opened.
    """
    if not isinstance(url, str):
        raise TypeError(f"the URL of a store is a text, such as {EXAMPLES}, not {url!r}")
    if is_postgres(url):
        # Imported here, since SQLite alone needs no driver of PostgreSQL.
        from musubito.store.postgres.storage import PostgreSQLStorage  # noqa: PLC0415

        return PostgreSQLStorage(url)
    return SQLiteStorage(_path_in(url))


def open_existing(url: str) -> Store:
    """Open the store that a URL names, to read what it holds, and make nothing.

    A SQLite file that cannot be written is opened to be read alone. Raise `StoreError` if nothing was stored there.
    """
    if is_postgres(url):
        from musubito.store.postgres.storage import ExistingPostgreSQL  # noqa: PLC0415 - as above

        return ExistingPostgreSQL(url)
    from musubito.store.sqlite.read_only import existing_sqlite  # noqa: PLC0415 - only readers of a store need it

    return existing_sqlite(_path_in(url))


def is_postgres(url: str) -> bool:
    """Return whether a URL names a database of PostgreSQL."""
    return url.partition("://")[0] in _POSTGRES


def _path_in(url: str) -> Path:
    """Return the path of the SQLite file that a URL names."""
    scheme, _, path = url.partition("://")
    if scheme != "sqlite" or len(path) < 2 or not path.startswith("/") or "?" in path or path == "/:memory:":
        raise StoreError(f"{_without_password(url)!r} names no store; use {EXAMPLES}")
    return Path(path[1:])


def _without_password(url: str) -> str:
    """Return a URL without its password.

    A password may hold characters that should have been percent-encoded, so all that may belong to one is cut.
    """
    if re.search(r"pass\w*=", url, re.IGNORECASE):
        return re.sub(r"[^\w+.-].*", "...", url, flags=re.DOTALL)
    return re.sub(r"(?<=://).*@", "...@", url, flags=re.DOTALL)
