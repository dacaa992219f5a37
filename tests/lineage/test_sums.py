"""The sums of runs that have ended say what their calls say, whatever was done to the store since."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, record_usage, run, use_musubito_engine
from musubito.lineage import Lineage
from musubito.lineage.readers.savings import By, savings
from musubito.lineage.readers.store_stats import step_statistics
from musubito.lineage.removal.erase import changes_for, forget, forget_namespace, with_downstream
from musubito.lineage.removal.prune import prune
from musubito.lineage.transfer.copy import CopyCounts, copy_store
from musubito.store.changes import Ledger
from musubito.store.postgres.storage import PostgreSQLStorage
from musubito.store.rows import CallLine
from tests.server import drop_database, new_store

BYS: tuple[By, ...] = ("day", "model", "operation", "run")
BEGAN = 1_800_000_000.0
SUMS = ("_sums", "_token_sums")


@musubito_step(name="inner")
def inner(x: int) -> int:
    record_usage(input_tokens=10 + x, output_tokens=1, model="small")
    return x


@musubito_step(name="outer")
def outer(x: int) -> int:
    record_usage(input_tokens=100 + x, output_tokens=7, model="large" if x % 2 else "")
    with run("part"):
        first = inner(x).value
    if x == 3:
        raise ValueError(x)
    return first + inner(x + 1).value


class Clock:
    now = BEGAN

    def __call__(self) -> float:
        self.now += 0.25
        return self.now


class World:
    """An engine with the clock of its calls, and a way to run SQL beside it."""

    def __init__(self, engine: MusubitoEngine, clock: Clock) -> None:
        self.engine, self.clock = engine, clock
        self.lineage = Lineage(engine)

    def sql(self, statement: str) -> list[Any]:
        storage: Any = self.engine.storage
        with storage.copy_session(snapshot=False) as session:
            if statement.startswith("SELECT"):
                return session.rows(statement)
            session.insert(statement, [()])
            return []

    def told(self, since: float | None) -> list[Any]:
        """Everything that is read of the sums, with times rounded: sums of floats depend on their order."""
        rows: list[Any] = []
        for by in BYS:
            found = savings(self.lineage, by=by, since=since)
            rows += [
                (
                    by, row.key, row.name, row.calls, row.replayed, row.ran, row.spent.tokens, row.saved.tokens,
                    round(row.compute_ms, 6), round(row.saved_compute_ms, 6),
                )
                for row in sorted((*found.rows, found.total), key=lambda row: row.key)
            ]  # fmt: skip
        both = [savings(self.lineage, by="operation", since=since, operation=name) for name in (None, "inner")]
        every, own = ([(row.key, row.calls, row.replayed, row.spent.tokens) for row in found.rows] for found in both)
        assert own == [row for row in every if row[0] == "inner"]
        rows += [(row.operation, row.calls, row.replays) for row in step_statistics(self.lineage)]
        return rows

    def check(self) -> None:
        """Compare what is told with the sums, and after they were removed: then all calls are looked at."""
        times = (None, BEGAN - 5, (BEGAN + self.clock.now) / 2, self.clock.now - 100)
        with_sums = [self.told(since) for since in times]
        lone = sorted((bytes(run), call) for run, call in self.sql("SELECT run_id, call FROM _lone"))
        calls = self.sql("SELECT run_id, call FROM _calls ORDER BY run_id, call DESC")
        recorded = {bytes(run) for (run,) in self.sql("SELECT run_id FROM _runs")}
        first = {bytes(run): call for run, call in calls if bytes(run) not in recorded}
        assert lone == sorted(first.items())
        kept = {table: self.sql(f"SELECT * FROM {table}") for table in SUMS}
        for table in SUMS:
            self.sql(f"DELETE FROM {table}")
        assert with_sums == [self.told(since) for since in times]
        storage: Any = self.engine.storage
        with storage.copy_session(snapshot=False) as session:
            for table, rows in kept.items():
                if rows:
                    session.insert(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)

    def work(self, choice: random.Random) -> None:
        for _ in range(choice.randrange(1, 4)):
            self.clock.now += choice.choice((1.0, 500.0, 4_000.0, 90_000.0))
            if choice.randrange(3):
                with run(choice.choice(("a", "b"))):
                    for _ in range(choice.randrange(1, 4)):
                        self.call(choice)
                        self.clock.now += choice.choice((0.0, 600.0))
                        if not choice.randrange(3):
                            self.engine.flush()  # parts of a run are written before it ends
            else:
                self.call(choice)

    def call(self, choice: random.Random) -> None:
        with suppress(ValueError):
            choice.choice((outer, inner))(choice.randrange(6))


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    clock, url = Clock(), new_store() if request.param == "postgresql" else ""
    storage = PostgreSQLStorage(url) if url else SQLiteStorage(tmp_path / "m.db")
    with MusubitoEngine(storage, now_provider=clock) as engine, use_musubito_engine(engine):
        yield World(engine, clock)
    if url:
        drop_database(url)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in (2, 3))])
def test_sums_are_what_the_calls_say(world: World, seed: int) -> None:
    choice = random.Random(seed)
    summed = False
    for _ in range(8):
        world.work(choice)
        match choice.randrange(7):
            case 0:
                prune(world.lineage, world.clock.now - choice.choice((1_000.0, 100_000.0, 200_000.0)))
            case 1:
                forget(world.lineage, changes_for(world.lineage, "outer"))
            case 2:
                forget(world.lineage, with_downstream(world.lineage, changes_for(world.lineage, "inner")))
            case 3:
                world.engine.invalidate("inner")
            case 4:
                with use_musubito_engine(world.engine.in_namespace("other")), run("elsewhere"):
                    world.call(choice)
                if choice.randrange(2):
                    forget_namespace(world.lineage, "other")
        world.engine.flush()
        world.check()
        summed = summed or bool(world.sql("SELECT 1 FROM _sums"))
    assert summed


def test_a_line_that_comes_after_the_end_of_its_run_counts(world: World) -> None:
    with run("a") as record:
        inner(1)
    world.engine.flush()
    assert world.sql("SELECT 1 FROM _sums")
    storage: Any = world.engine.storage
    # In no run, the line of an inner call comes before that of the outer one.
    for run_id, call, parent in ((record.run_id, 9, None), (lone := "ab" * 17, 2, 1), (lone, 1, None)):
        late = (bytes.fromhex(run_id), call, parent, "late", b"n" * 32, None, "ran", "NODE_NOT_FOUND")
        storage.write([Ledger("default", (), [CallLine(*late, BEGAN, 5.0, 0.0, 0, 3)])])
    assert savings(world.lineage).total.calls == 4
    assert {each.run_id: each.calls for each in world.lineage.runs()} == {record.run_id: 2, lone: 2}
    world.check()


def test_a_prune_leaves_sums_of_what_is_left(world: World) -> None:
    """A run that began before and goes on keeps its calls, whose executions may go."""
    with run("long"):
        inner(1)
        world.clock.now += 400_000.0
        inner(2)
    world.engine.flush()
    prune(world.lineage, world.clock.now - 1_000.0)
    assert world.sql("SELECT 1 FROM _executions WHERE id = 1") == []
    assert world.sql("SELECT 1 FROM _sums")
    world.check()


def test_a_copy_has_the_sums_of_the_store(world: World, tmp_path: Path) -> None:
    choice = random.Random(7)
    for _ in range(3):
        world.work(choice)
    world.engine.flush()
    with MusubitoEngine(SQLiteStorage(tmp_path / "copy.db"), now_provider=world.clock) as engine:
        copied = World(engine, world.clock)
        for _ in copy_store(world.lineage, copied.lineage, CopyCounts()):
            pass
        assert copied.sql("SELECT count(*) FROM _sums") == world.sql("SELECT count(*) FROM _sums") != [(0,)]
        assert copied.told(None) == world.told(None)
        copied.check()


KILLED = """
import sys
from musubito import MusubitoEngine, musubito_step, run, use_musubito_engine

@musubito_step(name="quick")
def quick(x):
    return x

with MusubitoEngine.from_url(sys.argv[1]) as engine, use_musubito_engine(engine):
    print("begun", flush=True)
    for number in range(10**9):
        with run("many"):
            quick(number)
        quick(number)
        if number % 50 == 0:
            engine.flush()
"""


def test_a_killed_process_leaves_no_sums_of_what_is_not_there(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/m.db"
    with subprocess.Popen((sys.executable, "-c", KILLED, url), stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(1.0)
        os.kill(child.pid, signal.SIGKILL)
    with MusubitoEngine.from_url(url) as engine:
        world = World(engine, Clock())
        assert world.sql("SELECT 1 FROM _sums")
        world.check()
