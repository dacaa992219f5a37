"""The stores that come with Musubito pass the suite that every store passes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from musubito.store.postgres.storage import PostgreSQLStorage
from musubito.store.protocol import Store
from musubito.store.sqlite.storage import SQLiteStorage
from musubito.testing.conformance import DistantConformance, LeaseConformance, PersistentStoreConformance
from musubito.testing.reference_store import MemoryStore
from tests.fresh import fresh
from tests.server import drop_database, empty_store, new_store


class TestMemory(LeaseConformance):
    def open_store(self, directory: Path) -> Store:
        return MemoryStore()


class TestSQLite(PersistentStoreConformance):
    def open_store(self, directory: Path) -> Store:
        return SQLiteStorage(fresh(directory / "musubito.db"))


class TestSQLiteWithoutLocks(LeaseConformance, PersistentStoreConformance):
    """As on Windows."""

    def open_store(self, directory: Path) -> Store:
        with patch("musubito.store.sqlite.byte_range_locks.fcntl", None):
            return SQLiteStorage(fresh(directory / "musubito.db"))


class TestSQLiteInMemory(LeaseConformance):
    def open_store(self, directory: Path) -> Store:
        return SQLiteStorage(":memory:")


class TestSQLiteInSteps(PersistentStoreConformance):
    """As where very many are invalidated or forgotten."""

    @pytest.fixture(autouse=True)
    def _steps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("musubito.store.relational.by_hand.AT_ONCE", 1)

    def open_store(self, directory: Path) -> Store:
        return SQLiteStorage(fresh(directory / "musubito.db"))


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    url = new_store()
    yield url
    drop_database(url)


class TestPostgreSQL(DistantConformance, LeaseConformance, PersistentStoreConformance):
    @pytest.fixture(autouse=True)
    def _database(self, database: str) -> Iterator[None]:
        self.url = database
        yield
        empty_store(database)

    def open_store(self, directory: Path) -> Store:
        return PostgreSQLStorage(self.url)
