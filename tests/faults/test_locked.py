"""A database that somebody else keeps locked: waited for, then the step runs unrecorded and says so."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
import warnings
from collections import Counter

import pytest

from musubito import (
    MusubitoEngine,
    MusubitoWarning,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    StoreError,
    musubito_step,
    use_musubito_engine,
)
from musubito.engine.maintenance import PATIENCE
from musubito.errors import StoreBusy
from musubito.store.rows import Ledger
from tests.faults.children import finish, heard, program, start
from tests.logged import fault_said

RAN: Counter[object] = Counter()


@musubito_step()
def square(n):
    RAN[n] += 1
    return n * n


@musubito_step()
async def asquare(n):
    RAN[n] += 1
    return n * n


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT))
def effect(n):
    RAN["effect", n] += 1
    return n


LOCKER = """
import sqlite3

connection = sqlite3.connect(DATABASE, isolation_level=None)
if sys.argv[1] == "WHOLE":
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
else:
    connection.execute(f"BEGIN {sys.argv[1]}")
connection.execute("CREATE TABLE IF NOT EXISTS _scratch (a)")
say("locked")
while not os.path.exists(DATABASE + ".go"):
    time.sleep(0.01)
connection.execute("ROLLBACK")
connection.close()
say("free")
"""


class Locker:
    def __init__(self, tmp_path, how="IMMEDIATE"):
        self.go = tmp_path / "musubito.db.go"
        self.process = start(program(tmp_path, LOCKER), how)
        assert heard(self.process) == "locked"

    def let_go(self):
        self.go.touch()
        assert finish(self.process) == ["free"]


@pytest.fixture
def path(tmp_path):
    RAN.clear()
    path = tmp_path / "musubito.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        for n in range(3):
            square(n)
            asyncio.run(asquare(n)) if n == 0 else None
            effect(n)
    RAN.clear()
    return path


@pytest.mark.parametrize("how", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_step_runs_unrecorded_and_says_so_and_what_is_there_is_still_replayed(tmp_path, path, how):
    with MusubitoEngine(SQLiteStorage(path, busy_timeout=1.0)) as engine, use_musubito_engine(engine):
        locker = Locker(tmp_path, how)
        began = time.monotonic()
        assert [square(n).value for n in range(3)] == [0, 1, 4]
        assert not RAN
        assert time.monotonic() - began < 0.9, "a replay waits for nobody who writes"
        with fault_said("unrecorded.*locked"):
            assert square(7).value == 49
            assert square(7).value == 49
        assert engine.faults == 2
        assert RAN == {7: 2}
        assert time.monotonic() - began > 0.9, "it was waited for"
        locker.let_go()
        assert square(7).value == 49
        assert square(7).value == 49
        assert RAN == {7: 3}


def test_threads_wait_together_and_not_one_after_the_other(tmp_path, path):
    """Eight at once wait no longer than one does."""
    with MusubitoEngine(SQLiteStorage(path, busy_timeout=1.0)) as engine:
        locker = Locker(tmp_path)
        took = []

        def call(n):
            with use_musubito_engine(engine):
                began = time.monotonic()
                assert square(n).value == n * n
                took.append(time.monotonic() - began)

        threads = [threading.Thread(target=call, args=(n,)) for n in range(50, 58)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert max(took) < 2.5
        locker.let_go()
        with use_musubito_engine(engine):
            assert square(50).value == 2500
            assert square(50).value == 2500
        assert RAN[50] == 2
        # Whoever is alone waits as long as before.
        began = time.monotonic()
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other, use_musubito_engine(engine):
            other.execute("BEGIN IMMEDIATE")
            square(60)
        assert time.monotonic() - began > 0.9


def test_it_is_waited_for(tmp_path, path):
    with MusubitoEngine(SQLiteStorage(path, busy_timeout=20)) as engine, use_musubito_engine(engine):
        locker = Locker(tmp_path)
        threading.Timer(0.5, locker.go.touch).start()
        assert square(8).value == 64
        assert engine.faults == 0
        assert finish(locker.process) == ["free"]
        assert square(8).value == 64
        assert RAN == {8: 1}


def test_tasks_run_unrecorded_and_the_loop_is_not_held_up(tmp_path, path):
    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticker = asyncio.create_task(tick())
        values = await asyncio.gather(*map(asquare, range(10, 14)))
        ticker.cancel()
        return [result.value for result in values], ticks

    with MusubitoEngine(SQLiteStorage(path, busy_timeout=1.0)) as engine, use_musubito_engine(engine):
        locker = Locker(tmp_path)
        with fault_said("locked"):
            values, ticks = asyncio.run(main())
        assert values == [100, 121, 144, 169]
        assert ticks > 15
        locker.let_go()


def test_a_strict_engine_raises(tmp_path, path):
    with MusubitoEngine(SQLiteStorage(path, busy_timeout=0.1), strict=True) as engine, use_musubito_engine(engine):
        locker = Locker(tmp_path)
        assert square(1).value == 1
        with pytest.raises(StoreError, match="musubito.db.*locked"):
            square(9)
        locker.let_go()
        assert square(9).value == 81


def test_an_effect_is_refused_but_replayed_if_it_was_done(tmp_path, path):
    with MusubitoEngine(SQLiteStorage(path, busy_timeout=0.1)) as engine, use_musubito_engine(engine):
        locker = Locker(tmp_path)
        assert effect(1).value == 1
        with pytest.raises(StoreError, match="refused.*locked"):
            effect(9)
        assert not RAN
        locker.let_go()
        assert effect(9).value == 9
        assert RAN == {("effect", 9): 1}


def test_a_database_that_cannot_even_be_read_costs_a_run_and_nothing_else(tmp_path, path):
    storage = SQLiteStorage(path, busy_timeout=0.1)
    with MusubitoEngine(storage) as engine, use_musubito_engine(engine):
        # Whoever wants it for himself alone must come while nobody is connected: here, at the moment of a fork.
        storage.close_for_fork()
        locker = Locker(tmp_path, "WHOLE")
        storage.reopen()
        with fault_said("locked"):
            assert [square(n).value for n in (1, 5)] == [1, 25]
        assert RAN == {1: 1, 5: 1}
        with pytest.raises(StoreError, match="refused"):
            effect(1)
        locker.let_go()
        assert square(1).value == 1
        assert RAN == {1: 1, 5: 1}


def test_opening_a_locked_database_waits_and_then_names_it(tmp_path, path):
    locker = Locker(tmp_path, "WHOLE")
    with pytest.raises(StoreError, match="musubito.db.*locked"):
        SQLiteStorage(path, busy_timeout=0.1)
    locker.let_go()
    SQLiteStorage(path).close()


def test_closing_an_engine_on_a_locked_database_ends(tmp_path, path):
    engine = MusubitoEngine(SQLiteStorage(path, busy_timeout=0.1))
    with use_musubito_engine(engine), warnings.catch_warnings():
        warnings.simplefilter("ignore", MusubitoWarning)
        locker = Locker(tmp_path)
        square(5)
        began = time.monotonic()
        engine.close()
        assert time.monotonic() - began < 3
    locker.let_go()


class Failing(SQLiteStorage):
    """Its ledger cannot be written so many times."""

    fails = 0
    error: type[StoreError] = StoreError

    def write(self, changes):
        if self.fails and any(isinstance(change, Ledger) for change in changes):
            self.fails -= 1
            raise self.error("the disk is full")
        return super().write(changes)


@pytest.mark.parametrize("error", [StoreError, StoreBusy])
def test_lines_that_cannot_be_written_are_written_later(tmp_path, error):
    storage = Failing(tmp_path / "m.db")
    engine = MusubitoEngine(storage)
    with use_musubito_engine(engine):
        storage.error, storage.fails = error, 3
        for n in range(3):
            square(n)
            engine.flush()
    engine.close()
    assert counted(tmp_path / "m.db") == 3


def test_what_is_lost_at_the_end_is_said(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("musubito.engine.maintenance.LAST_SECONDS", 0.3)
    storage = Failing(tmp_path / "m.db")
    with MusubitoEngine(storage) as engine, use_musubito_engine(engine):
        storage.fails = 1000
        square(1)
        square(1)
    assert "2 calls are not in the history: it could not be written" in caplog.text
    assert counted(tmp_path / "m.db") == 0


def test_lines_that_can_never_be_written_cost_no_others(tmp_path, caplog):
    class Refusing(Failing):
        def write(self, changes):
            if any(
                isinstance(change, Ledger) and any(call.operation == "bad" for call in change.calls)
                for change in changes
            ):
                raise StoreError("nobody can write this")
            return super().write(changes)

    with MusubitoEngine(Refusing(tmp_path / "m.db")) as engine:
        for name in ("good", "bad", "better", "best"):
            engine.execute(name, {}, lambda: 0)
            engine.flush()
        for _ in range(PATIENCE):
            engine.flush()
    assert counted(tmp_path / "m.db") == 3
    assert "1 call is not in the history" in caplog.text


def counted(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM _calls").fetchone()[0]
