"""The stores that come with Musubito pass the suite that every store passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from musubito.store.postgres.storage import PostgreSQLStorage
from musubito.store.protocol import Store
from musubito.store.sqlite.storage import SQLiteStorage
from musubito.testing.conformance import (
    DistantConformance,
    LeaseConformance,
    PersistentStoreConformance,
    StoreConformance,
)
from musubito.testing.conformance.claims import ClaimRules
from musubito.testing.conformance.edits import EditRules
from musubito.testing.conformance.removal import RemovalRules
from musubito.testing.conformance.writing import WritingRules
from tests.fresh import fresh
from tests.reference.store import MemoryStore
from tests.server import drop_database, empty_store, new_store


def only(*rules: type, about: str = "none") -> Callable[[type[StoreConformance]], type[StoreConformance]]:
    """Leave only these rules to a variant of a store that passes all, and those with a word in their names."""

    def leave(suite: type[StoreConformance]) -> type[StoreConformance]:
        for name in dir(suite):
            if name.startswith("test_") and about not in name and not any(name in vars(each) for each in rules):
                setattr(suite, name, None)
        return suite

    return leave


class TestMemory(LeaseConformance):
    def open_store(self, directory: Path) -> Store:
        return MemoryStore()


class TestSQLite(PersistentStoreConformance):
    def open_store(self, directory: Path) -> Store:
        return SQLiteStorage(fresh(directory / "musubito.db"))


@only(LeaseConformance, ClaimRules)
class TestSQLiteWithoutLocks(LeaseConformance, PersistentStoreConformance):
    """As on Windows."""

    def open_store(self, directory: Path) -> Store:
        with patch("musubito.store.sqlite.byte_range_locks.fcntl", None):
            return SQLiteStorage(fresh(directory / "musubito.db"))


@only(LeaseConformance, EditRules, WritingRules)
class TestSQLiteInMemory(LeaseConformance):
    def open_store(self, directory: Path) -> Store:
        return SQLiteStorage(":memory:")


@only(RemovalRules, about="invalidat")
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
