"""Databases with nothing in them, for tests that are about something else: to make the schema takes longer than most."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from musubito import SQLiteStorage

__all__ = ["fresh"]


@cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "musubito.db"
        SQLiteStorage(path).close()
        return path.read_bytes()


def fresh(path: Path) -> Path:
    """There, as it was when it was made."""
    if not path.exists():
        path.touch(0o600)
        path.write_bytes(_empty())
    return path
