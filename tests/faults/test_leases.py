"""Claims between processes and engines: lost leases, waits that would close a cycle, loops that must not be blocked."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
import warnings
from collections import Counter
from contextlib import closing

import pytest

from musubito import (
    MusubitoEngine,
    MusubitoWarning,
    SQLiteStorage,
    StoreError,
    musubito_step,
    use_musubito_engine,
)
from musubito.engine.drivers import drive, drive_async
from musubito.store.changes import Commit, Release
from tests.faults.children import finish, heard, log_of, program, run_program, start, time_limit

EXPIRY = """
from musubito.engine import engine as engine_module, maintenance
from musubito.store.sqlite import storage

# As on a system without locks of bytes, with leases that are short.
storage.locks_beside = lambda path: None
maintenance.LEASE_SECONDS = engine_module.LEASE_SECONDS = 2.5
maintenance.TICK = 0.1


@musubito_step(StepConfiguration(ignore_files=("*.quick",)))
def slow(n):
    log("run")
    if not os.path.exists(DATABASE + ".quick"):
        open(DATABASE + ".quick", "w").close()
        say("inside")
        time.sleep(4)
    return n


engine = MusubitoEngine(SQLiteStorage(DATABASE))
use_musubito_engine(engine)
if sys.argv[1] == "stopped":
    # The keeper is never started: nobody renews.
    engine.keeper.wake = lambda: None
began = time.monotonic()
assert slow(1).value == 1
say(time.monotonic() - began)
assert engine.faults == 0
engine.close()
"""


def test_a_holder_whose_keeper_is_stopped_loses_its_lease(tmp_path):
    path = program(tmp_path, EXPIRY)
    holder = start(path, "stopped")
    assert heard(holder) == "inside"
    seconds = float(run_program(path, "kept")[-1])
    assert 0.3 < seconds < 3.5
    assert log_of(tmp_path) == ["run", "run"]
    # It records its result all the same, an equal one.
    finish(holder)
    assert float(run_program(path, "kept")[-1]) < 0.5
    assert log_of(tmp_path) == ["run", "run"]


def test_a_holder_whose_keeper_works_keeps_its_lease(tmp_path):
    path = program(tmp_path, EXPIRY)
    holder = start(path, "kept")
    assert heard(holder) == "inside"
    began = time.monotonic()
    run_program(path, "kept")
    assert time.monotonic() - began > 2.5
    finish(holder)
    assert log_of(tmp_path) == ["run"]


def test_a_holder_that_dies_loses_its_lease_at_once(tmp_path):
    body = EXPIRY.replace("LEASE_SECONDS = engine_module.LEASE_SECONDS = 2.5", "LEASE_SECONDS = 60.0")
    path = program(tmp_path, body)
    holder = start(path, "kept")
    assert heard(holder) == "inside"
    holder.kill()
    holder.wait()
    assert float(run_program(path, "kept")[-1]) < 3
    assert log_of(tmp_path) == ["run", "run"]


WAITS = """
{leases}


def meet(mine):
    other = {{"f": "g", "g": "f"}}[mine]
    open(f"{{DATABASE}}.{{mine}}", "w").close()
    until = time.monotonic() + 5
    while not os.path.exists(f"{{DATABASE}}.{{other}}") and time.monotonic() < until:
        time.sleep(0.01)


@musubito_step(name="f")
def f(depth):
    log("f")
    if depth == 0:
        meet("f")
        other("g", 0)
    return "f"


@musubito_step(name="g")
def g(depth):
    log("g")
    if depth == 0:
        meet("g")
        other("f", 0)
    return "g"


CALLING = []


def other(name, depth):
    # Only one level deep: the function that closes the cycle runs unrecorded, and calls nobody.
    if CALLING:
        return
    CALLING.append(name)
    (f if name == "f" else g)(depth)


engine = MusubitoEngine(SQLiteStorage(DATABASE))
use_musubito_engine(engine)
say((f if sys.argv[1] == "f" else g)(0).value)
assert engine.faults == 0, engine.faults
engine.close()
"""
TABLE = "from musubito.store.sqlite import storage\nstorage.locks_beside = lambda path: None"


@pytest.mark.parametrize("leases", ["", TABLE], ids=["locks", "leases"])
def test_a_cycle_of_waits_between_two_processes_ends(tmp_path, leases):
    """Process 1: f calls g; process 2: g calls f."""
    path = program(tmp_path, WAITS.format(leases=leases))
    both = [start(path, "f"), start(path, "g")]
    began = time.monotonic()
    assert [finish(process, 25) for process in both] == [["f"], ["g"]]
    assert time.monotonic() - began < 20
    runs = Counter(log_of(tmp_path))
    # One of them closed the cycle and ran the other's function for itself.
    assert sum(runs.values()) in (3, 4)


RAN: Counter[str] = Counter()


def test_a_sync_call_that_meets_an_async_flight_of_its_own_loop_runs_unrecorded(tmp_path):
    """The same operation, asked for by `execute` and `execute_async` with the same function's identity."""
    RAN.clear()

    def work(n):
        RAN["work"] += 1
        return n

    with time_limit(15), MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine, use_musubito_engine(engine):
        step = musubito_step(name="same")(work)
        make = step.__musubito_call__
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slowly():
            call = make(engine, (1,), {})

            async def function():
                begun.set()
                await go_on.wait()
                return call.function()

            return await drive_async(engine._protocol(call._replace(function=function)).run(), engine)

        async def main():
            task = asyncio.create_task(slowly())
            await begun.wait()
            # The task holds the flight and cannot go on before this thread gives the loop back.
            value = drive(engine._protocol(make(engine, (1,), {})).run(), engine).value
            go_on.set()
            assert (await task).value == value == 1
            return step(1).value

        assert asyncio.run(main()) == 1
        assert RAN == {"work": 2}


class AnswerLost(SQLiteStorage):
    """A commit fails, and the answer when its lease is given back is lost on the way, so that it is given back again."""

    fails = False

    def __init__(self, path):
        super().__init__(path)
        self.first, self.go_on, self.done = threading.Event(), threading.Event(), threading.Event()

    def write(self, changes):
        if self.fails and isinstance(changes[0], Commit):
            self.fails = False
            raise StoreError("away")
        answers = super().write(changes)
        if isinstance(changes[0], Release):
            self.first.set()
            self.go_on.wait(0.5)
            super().write(changes)
            self.done.set()
        return answers


def test_a_lease_that_is_given_back_twice_takes_no_new_one_along(tmp_path, monkeypatch):
    monkeypatch.setattr("musubito.store.sqlite.byte_range_locks.fcntl", None)
    store, held = AnswerLost(tmp_path / "m.db"), []

    def look() -> int:
        # What it does besides is no code of its own.
        return seen()

    class Seen:
        def __musubito_identity__(self):
            return "seen"

        def __call__(self):
            if store.first.is_set():
                assert store.done.wait(20)
                with closing(sqlite3.connect(tmp_path / "m.db")) as there:
                    held.append(there.execute("SELECT count(*) FROM _leases").fetchone()[0])
            return 1

    seen = Seen()
    with MusubitoEngine(store) as engine, warnings.catch_warnings():
        warnings.simplefilter("ignore", MusubitoWarning)
        engine.execute("warm", {}, lambda: 1)
        store.fails = True
        engine.execute("look", {}, look)
        assert store.first.wait(20)
        assert engine.execute("look", {}, look).value == 1
        assert held == [1]
