from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.langgraph.conftest import ask, engine, ran
from tests.real.model_server import ModelServer, model_server

__all__ = ["ask", "engine", "ran"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Instrumentors come last: what they have patched in packages stays patched in part, and counts for what reaches it."""
    items.sort(key=lambda item: item.path.name == "test_instrumentors.py")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """A server that the clients of OpenAI and Anthropic find."""
    with model_server() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running
