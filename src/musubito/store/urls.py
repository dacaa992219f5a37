"""The store that a URL names."""

from __future__ import annotations

import re
from typing import Final

from musubito.errors import StoreError
from musubito.store.protocol import Store
from musubito.store.sqlite.storage import SQLiteStorage

_POSTGRES: Final = ("postgresql", "postgres")
EXAMPLES: Final = (
    "sqlite:///path/from/here.db, sqlite:////path/from/root.db or postgresql://user:password@host/database"
)


def open_store(url: str) -> Store:
    """Open the store that a URL names.

    The URL is `sqlite:///path/from/here.db`, `sqlite:////path/from/root.db` or `postgresql://user@host/database`. Raise
    `StoreError` for any other URL, and if the store cannot be opened.
    """
    if not isinstance(url, str):
        raise TypeError(f"the URL of a store is a text, such as {EXAMPLES}, not {url!r}")
    scheme, _, path = url.partition("://")
    if scheme in _POSTGRES:
        # Imported here, since SQLite alone needs no driver of PostgreSQL.
        from musubito.store.postgres.storage import PostgreSQLStorage  # noqa: PLC0415

        return PostgreSQLStorage(url)
    if scheme != "sqlite" or len(path) < 2 or not path.startswith("/") or "?" in path or path == "/:memory:":
        raise StoreError(f"{_without_password(url)!r} names no store; use {EXAMPLES}")
    return SQLiteStorage(path[1:])


def _without_password(url: str) -> str:
    """Return a URL without its password.

    A password may hold characters that should have been percent-encoded, so all that may belong to one is cut.
    """
    if re.search(r"pass\w*=", url, re.IGNORECASE):
        return re.sub(r"[^\w+.-].*", "...", url, flags=re.DOTALL)
    return re.sub(r"(?<=://).*@", "...@", url, flags=re.DOTALL)
