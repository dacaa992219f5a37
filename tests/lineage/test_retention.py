"""A store is kept small: by age, by size, and the room goes back to the disk; nobody has to stop for it."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from musubito import (
    MusubitoEngine,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    musubito_step,
    run,
    use_musubito_engine,
)
from musubito.lineage import Lineage
from musubito.lineage.readers.verify import verify
from musubito.lineage.removal.prune import PruneCounts, prune, prune_to_size, release_space, used_bytes

DAY = 86_400.0


@musubito_step(name="fetch")
def fetch(n):
    # Such as no compression makes smaller.
    return random.Random(n).randbytes(10_000)


@musubito_step(name="draw")
def draw(text, n=0):
    return str(text.value[:10]) + str(n)


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="send")
def send(to):
    return to


def outcomes(engine, *calls) -> list[str]:
    with use_musubito_engine(engine), run() as ledger:
        for call in calls:
            call()
    return [call.outcome for call in ledger.calls]


@pytest.fixture
def world(tmp_path):
    now = [0.0]
    with MusubitoEngine(SQLiteStorage(tmp_path / "musubito.db"), now_provider=lambda: now[0]) as engine:
        with use_musubito_engine(engine):
            send("somebody")
            for n in range(100):
                now[0] += DAY
                fetch(n)
        yield engine, now
        assert [finding for checked in verify(Lineage(engine)) for finding in checked.findings] == []
        assert engine.faults == 0


def test_the_oldest_goes_until_it_is_small_enough(world):
    engine, _ = world
    used = engine.storage.used()
    told: list[PruneCounts] = []
    removed = prune_to_size(Lineage(engine), used // 2, told.append)
    assert engine.storage.used() <= used // 2
    # About as much as was too much, and no more.
    assert 45 < removed.executions < 65
    assert told[-1] == removed and [each.size for each in told] == sorted(each.size for each in told)
    kept = 100 - removed.executions
    assert outcomes(engine, *(lambda n=n: fetch(n) for n in range(100 - kept, 100))) == ["replayed"] * kept
    assert outcomes(engine, lambda: send("somebody"), lambda: fetch(0)) == ["replayed", "ran"]


def test_what_is_small_enough_loses_nothing(world):
    engine, _ = world
    engine.flush()
    assert prune_to_size(Lineage(engine), engine.storage.used()) == PruneCounts()


def test_what_something_kept_came_of_stays_however_small_it_must_be(world):
    engine, now = world
    with use_musubito_engine(engine):
        now[0] += DAY
        draw(fetch(3))
    # The newest hangs on the oldest.
    removed = prune_to_size(Lineage(engine), 1)
    assert removed.executions == 99
    assert outcomes(engine, lambda: draw(fetch(3)), lambda: send("somebody")) == ["replayed"] * 3


def test_what_was_asked_for_since_goes_after_what_was_not(world):
    engine, now = world
    now[0] += DAY
    assert outcomes(engine, lambda: fetch(0), lambda: fetch(1)) == ["replayed"] * 2
    prune_to_size(Lineage(engine), engine.storage.used() // 3)
    assert outcomes(engine, lambda: fetch(0), lambda: fetch(1), lambda: fetch(2)) == ["replayed", "replayed", "ran"]


def test_what_runs_just_now_keeps_what_it_may_have_built_on(world, tmp_path):
    engine, now = world
    with closing(sqlite3.connect(tmp_path / "musubito.db")) as connection, connection:
        connection.execute(
            f"INSERT INTO _leases VALUES (x'00', x'00', 'f', 'h', 1, '', {50.5 * DAY}, {time.time() + 1000})"
        )
    assert prune(Lineage(engine), now[0]).executions == 50


def test_the_room_goes_back_to_the_disk_in_small_steps(world, tmp_path):
    engine, _ = world
    path = tmp_path / "musubito.db"
    engine.flush()
    engine.storage.empty_log()
    size = path.stat().st_size
    prune(Lineage(engine), 95 * DAY)
    assert path.stat().st_size >= size
    steps = []
    given = engine.storage.give_back
    engine.storage.give_back = lambda most: steps.append(given(most)) or steps[-1]
    assert release_space(Lineage(engine)) > size / 2
    assert len(steps) > 1 and steps[-1] == 0 and max(steps) <= 1_000_000
    assert path.stat().st_size < size / 2


WRITER = """
import os, sys, time
from musubito import *

@musubito_step(name="work")
def work(n):
    return n

waits = []
with MusubitoEngine(SQLiteStorage(sys.argv[1])) as engine, use_musubito_engine(engine):
    work(-1)
    print("up", flush=True)
    while not os.path.exists(sys.argv[2]):
        began = time.perf_counter()
        work(len(waits))
        waits.append(time.perf_counter() - began)
        time.sleep(0.005)
    assert engine.faults == 0
print(len(waits), max(waits))
"""


def grown(path: Path, nodes: int) -> None:
    """A store with very many old nodes, each with its execution."""
    with MusubitoEngine(SQLiteStorage(path), now_provider=lambda: 1.0) as engine, use_musubito_engine(engine):
        draw(fetch(0))
    number = "WITH RECURSIVE n (i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.create_function("key", 1, lambda i: random.Random(i).randbytes(32))
        connection.execute(
            f"""{number} INSERT INTO _nodes (id, node_id, operation, code, input_hash, step_type, arguments, execution)
            SELECT n.i, key(n.i), f.operation, f.code, randomblob(32), f.step_type, f.arguments, n.i
            FROM n, _nodes f WHERE f.id = 1""",
            (nodes + 9,),
        )
        connection.execute(
            f"""{number} INSERT INTO _executions (id, node, reuse_key, sample, outcome, started_at, duration_ms, artifact, payload)
            SELECT n.i, n.i, key(n.i), 0, 1, 2.0, 1.0, randomblob(32), randomblob(100) FROM n""",
            (nodes + 9,),
        )


def others_go_on(path: Path, nodes: int) -> None:
    grown(path, nodes)
    stop = path.parent / "stop"
    child = subprocess.Popen([sys.executable, "-c", WRITER, path, stop], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None and child.stdout.readline() == "up\n"
        with MusubitoEngine(SQLiteStorage(path)) as engine:
            removed = prune(Lineage(engine), DAY)
            release_space(Lineage(engine))
    finally:
        stop.touch()
        said, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    assert removed.executions >= nodes
    calls, worst = said.split()
    assert int(calls) > 20
    # One transaction takes some 10 ms; who waits tries every 100 ms at most.
    assert float(worst) < 2.0
    with closing(sqlite3.connect(path)) as connection:
        assert (
            connection.execute("SELECT count(*) FROM _executions WHERE started_at > 10").fetchone()[0] == int(calls) + 1
        )


def test_writers_in_other_processes_hardly_wait(tmp_path):
    others_go_on(tmp_path / "musubito.db", 10_000)


@pytest.mark.soak
def test_writers_in_other_processes_hardly_wait_for_very_many_nodes(tmp_path):
    others_go_on(tmp_path / "musubito.db", 100_000)


def test_files_that_no_row_names_any_more_are_not_counted_as_stored(tmp_path):
    """They stay for an hour, in case somebody is about to name them; to prune on for their sake would leave nothing."""
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine:
        for number in range(8):
            engine.execute("large", {"number": number}, lambda number: os.urandom(1_500_000))
            time.sleep(0.01)
        removed = prune_to_size(Lineage(engine), 5_000_000)
        assert 4 <= removed.executions <= 6
        assert used_bytes(Lineage(engine)) <= 5_000_000
