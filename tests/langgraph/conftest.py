from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from musubito import MusubitoEngine, SQLiteStorage, use_musubito_engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[MusubitoEngine]:
    """An engine in use, on a store that knows nothing yet."""
    engine = MusubitoEngine(SQLiteStorage(tmp_path / "m.db"))
    with use_musubito_engine(engine):
        yield engine
    engine.close()
