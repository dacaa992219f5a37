"""A database that is removed or replaced while it is open: effects are refused, and steps run and say so."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, StoreError, musubito_step, use_musubito_engine
from musubito.store.sqlite import presence
from tests.logged import fault_said

RAN: Counter[object] = Counter()


@musubito_step
def square(n: int) -> int:
    RAN[n] += 1
    return n * n


@musubito_step(StepConfiguration(step_type="external_effect"))
def pay(n: int) -> int:
    RAN["pay", n] += 1
    return n


def remove_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def remove_file(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    """As a backup that is moved back, or a deployment that brings its own."""
    other = path.with_name("other.db")
    SQLiteStorage(other).close()
    other.replace(path)


@pytest.mark.parametrize("lose", [remove_folder, remove_file, replace])
def test_it_is_noticed(lose: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RAN.clear()
    path = tmp_path / "kept" / "m.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        assert [square(3).value, square(3).value, pay(1).value] == [9, 9, 1]
        lose(path)
        with pytest.raises(StoreError, match="was removed or replaced while it was open"):
            pay(2)
        monkeypatch.setattr(presence, "INTERVAL", 0.0)
        engine.storage._presence.due = 0.0  # a second has passed
        with fault_said("was removed or replaced while it was open"):
            assert [square(3).value, square(4).value, square(4).value] == [9, 16, 16]
        assert engine.faults
    assert RAN == {3: 2, 4: 2, ("pay", 1): 1}
    if path.exists():
        with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
            assert square(5).value == 25


def test_it_is_used_again_when_it_is_back(tmp_path: Path) -> None:
    RAN.clear()
    path = tmp_path / "kept" / "m.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        square(3)
        path.parent.rename(tmp_path / "away")
        with pytest.raises(StoreError):
            pay(2)
        (tmp_path / "away").rename(path.parent)
        assert [square(3).value, pay(2).value] == [9, 2]
    assert RAN == {3: 1, ("pay", 2): 1}


@pytest.mark.parametrize(("value", "raises"), [("1", True), ("off", False), ("", False)])
def test_the_environment_makes_engines_strict(
    value: str, raises: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSUBITO_STRICT", value)
    path = tmp_path / "m.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        path.unlink()
        engine.storage._presence.due = 0.0
        if raises:
            with pytest.raises(StoreError, match="was removed or replaced"):
                square(3)
        else:
            assert square(3).value == 9
