"""The stores that come with Musubito pass the suite that every store passes."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

from musubito.store.base import Store
from musubito.store.memory import MemoryStore
from musubito.store.sqlite import SQLiteStorage
from musubito.testing.conformance import LeaseConformance, PersistentStoreConformance


class TestMemory(LeaseConformance):
    def open_store(self, directory: Path) -> Store:
        return MemoryStore()


class TestSQLite(PersistentStoreConformance):
    def open_store(self, directory: Path) -> Store:
        return SQLiteStorage(directory / "musubito.db")


class TestSQLiteWithoutLocks(LeaseConformance, PersistentStoreConformance):
    """As on Windows."""

    def open_store(self, directory: Path) -> Store:
        with patch("musubito.store.locks.fcntl", None):
            return SQLiteStorage(directory / "musubito.db")
