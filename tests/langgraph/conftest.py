from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from musubito import MusubitoEngine, SQLiteStorage, use_musubito_engine
from tests.fresh import fresh
from tests.langgraph.specimen import Ran

WAYS = ("invoke", "ainvoke")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Leave one of the two ways to ask to soaks: from test to test it is another one that a commit has to pass."""
    params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    if params.get("ask") in WAYS:
        name = item.nodeid.replace(params["ask"], "", 1)
        if WAYS[crc32(name.encode()) % len(WAYS)] != params["ask"]:
            item.add_marker("soak")


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


@pytest.fixture(params=WAYS)
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Asks a graph something, in both ways."""

    def ask(graph: Any, *args: Any, **kwargs: Any) -> Any:
        if request.param == "invoke":
            return graph.invoke(*args, **kwargs)
        return asyncio.run(graph.ainvoke(*args, **kwargs))

    return ask
