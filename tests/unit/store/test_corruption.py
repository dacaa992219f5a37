"""What a store says of an error: damage only where its rows hold what nobody has written, else it is a bug and raised."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from musubito import (
    MusubitoEngine,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    StoreError,
    musubito_merge,
    musubito_step,
    record_usage,
    run,
    use_musubito_engine,
)
from musubito.lineage import Lineage, statistics
from musubito.lineage.reports import LineageError
from musubito.store.relational import reads, writes
from tests.logged import fault_said

KEY = bytes(range(32))
RAN: list[str] = []


@musubito_step(name="plain")
def plain(n: int) -> object:
    RAN.append("plain")
    record_usage(input_tokens=1, output_tokens=n)
    if n < 0:
        raise ValueError("negative")
    return [n, "text" * 1000 * n]


@musubito_step(StepConfiguration(step_type=StepType.STOCHASTIC, ttl_seconds=1e9), name="drawn")
def drawn(n: int) -> object:
    return plain(n).value


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="sent")
def sent(n: int) -> int:
    return n


@musubito_step(name="later")
async def later(n: int) -> int:
    RAN.append("later")
    return n


def everything(engine: MusubitoEngine) -> None:
    with use_musubito_engine(engine):
        for _ in range(2):
            with run("all of it", tags={"a": [1, None]}):
                with musubito_merge(plain(1), drawn(2)):
                    drawn(3)
                    sent(4)
                asyncio.run(later(5))
                with pytest.raises(ValueError, match="negative"):
                    plain(-1)
        engine.invalidate("later")
        asyncio.run(later(5))
    engine.flush()


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_what_was_written_is_sound(tmp_path: Path, key: bytes | None) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db"), key=key) as engine:
        everything(engine)
        everything(engine.in_namespace("other"))
        assert engine.storage.damage() is None  # type: ignore[attr-defined]


def damaged(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE _calls SET reason = 'because'")
        connection.commit()


def wrong(*args: Any, **kwargs: Any) -> Any:
    raise KeyError("a mistake of ours")


def call_plain() -> object:
    return plain(7).value


def call_later() -> object:
    return asyncio.run(later(7)).value


@pytest.mark.parametrize("call", [call_plain, call_later])
@pytest.mark.parametrize("part", ["newest", "answer", "perform"])
def test_a_bug_in_the_store_is_raised_and_damage_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[], object], part: str
) -> None:
    path = tmp_path / "m.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine:
        everything(engine)
    where = writes if part == "perform" else reads
    for is_damaged in (False, True):
        with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
            RAN.clear()
            with monkeypatch.context() as patch:
                patch.setattr(
                    f"musubito.store.{'relational.writes' if where is writes else 'sqlite.storage'}.{part}", wrong
                )
                if not is_damaged:
                    with pytest.raises(KeyError, match="a mistake of ours"):
                        call()
                    assert engine.faults == 0
                else:
                    with fault_said(r"steps run unrecorded: .*m.db is damaged \(a row of _calls holds something else"):
                        call()
                    assert RAN
        damaged(path)


def test_a_bug_in_a_reader_is_raised_and_damage_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine:
        everything(engine)
    readers: list[Callable[[Lineage], object]] = [Lineage.runs, statistics]
    for is_damaged in (False, True):
        with MusubitoEngine(SQLiteStorage(path)) as engine:
            lineage = Lineage(engine)
            monkeypatch.setattr(lineage, "rows", wrong)
            monkeypatch.setattr(lineage, "ask", wrong)
            for read in readers:
                if not is_damaged:
                    with pytest.raises(KeyError, match="a mistake of ours"):
                        read(lineage)
                else:
                    with pytest.raises(LineageError, match=r"cannot be read \(a row of _calls .* 'musubito verify'"):
                        read(lineage)
        damaged(path)


DAMAGE = [
    "UPDATE _executions SET started_at = 'x'",
    "UPDATE _executions SET started_at = 1e308",
    "UPDATE _executions SET holds = -1",
    "UPDATE _nodes SET arguments = '['",
    "UPDATE _nodes SET node_id = x'00' WHERE id = 1",
    "UPDATE _runs SET name = CAST(x'ff' AS TEXT)",
    "UPDATE _codes SET state = '{}'",
    "DELETE FROM _codes",
]


@pytest.mark.parametrize("statement", DAMAGE)
def test_rows_that_nobody_has_written(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "m.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine:
        everything(engine)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()
    with closing(SQLiteStorage(path)) as storage:
        assert "a row of _" in str(storage.damage())


def test_a_row_that_fails_its_check_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine:
        everything(engine)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE _executions SET invalid = 'x'")
        connection.commit()
    with MusubitoEngine(SQLiteStorage(path), strict=True) as engine, use_musubito_engine(engine):
        with pytest.raises(StoreError, match="a row holds 'x'"):
            plain(1)
