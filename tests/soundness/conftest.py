from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soundness.world import World


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    """A world in use."""
    world = World(tmp_path / "musubito.db")
    with world():
        yield world
    world.engine.close()
