from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from musubito import MusubitoEngine, SQLiteStorage, use_musubito_engine
from tests.fresh import fresh

_numbers = itertools.count()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[MusubitoEngine]:
    """An engine in use, on a file of its own."""
    with MusubitoEngine(SQLiteStorage(fresh(tmp_path / "musubito.db"))) as engine, use_musubito_engine(engine):
        yield engine


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Loads a program's text, each time as the same module: what an edit and a new process see."""

    def load(text: str) -> Any:
        folder = tmp_path / f"edit {next(_numbers)}"
        folder.mkdir()
        path = folder / "program.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location("story_program", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["story_program"] = module
        spec.loader.exec_module(module)
        return module

    yield load
    sys.modules.pop("story_program", None)
