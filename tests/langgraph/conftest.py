from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from musubito import MusubitoEngine, SQLiteStorage, use_musubito_engine
from tests.fresh import fresh
from tests.langgraph.specimen import Ran


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[MusubitoEngine]:
    """An engine in use, on a store that knows nothing yet."""
    engine = MusubitoEngine(SQLiteStorage(fresh(tmp_path / "m.db")))
    with use_musubito_engine(engine):
        yield engine
    engine.close()


@pytest.fixture
def ran() -> Ran:
    """Counts what runs in the graphs of a test."""
    return Ran()


@pytest.fixture(params=["invoke", "ainvoke"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Asks a graph something, in both ways."""

    def ask(graph: Any, *args: Any, **kwargs: Any) -> Any:
        if request.param == "invoke":
            return graph.invoke(*args, **kwargs)
        return asyncio.run(graph.ainvoke(*args, **kwargs))

    return ask
