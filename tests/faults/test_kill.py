"""kill -9 at any moment loses at most the step in flight, and never the database."""

from __future__ import annotations

import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.children import heard, kill, log_of, program, run_program, start

WORKER = """
@musubito_step()
def piece(n):
    log(f"run {n}")
    time.sleep(0.002)
    return {"n": n, "text": "word " * n}


@musubito_step()
def whole(n):
    log(f"whole {n}")
    return [piece(n).value["n"], piece(n + 1).value["n"]]


engine = MusubitoEngine(SQLiteStorage(DATABASE))
use_musubito_engine(engine)
say("up")
for n in range(int(sys.argv[1])):
    result = whole(n)
    assert result.value == [n, n + 1], result
    say(n, result.artifact_id)
say("end")
"""


def integrity(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone()[0]


def successes(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {row[0] for row in connection.execute("SELECT output_artifact_id FROM nodes WHERE status = 'SUCCESS'")}


def live_and_die(tmp_path: Path, lives: int, steps: int, seed: int) -> None:
    worker, chance = program(tmp_path, WORKER), random.Random(seed)
    database = tmp_path / "musubito.db"
    returned: set[int] = set()
    for life in range(lives):
        before = len(log_of(tmp_path))
        process = start(worker, steps)
        # Some die while the database is opened, or made.
        early = life % 4 == 0
        if not early:
            assert heard(process) == "up"
        time.sleep(chance.random() * (0.4 if early else 0.25))
        said = [line.split() for line in kill(process) if line[:1].isdigit()]
        assert integrity(database) == "ok" if database.exists() else early
        if said:
            assert {artifact for _, artifact in said} <= successes(database)
        ran_now = {int(line.split()[1]) for line in log_of(tmp_path)[before:] if line.startswith("whole")}
        assert not ran_now & returned, "what had been returned was run again"
        returned |= {int(n) for n, _ in said}
    began = time.monotonic()
    last = run_program(worker, steps, timeout=25)
    # A lease lasts 30 s; whoever took over did not wait for its end.
    assert time.monotonic() - began < 25
    assert last[-1] == "end"
    assert len(last) == steps + 2
    assert integrity(database) == "ok"
    runs = [line for line in log_of(tmp_path) if line.startswith("run")]
    # Each life may cost the one piece that was in flight.
    assert len(set(runs)) == steps + 1
    assert len(runs) <= steps + 1 + lives
    again = len(log_of(tmp_path))
    assert run_program(worker, steps)[-1] == "end"
    assert len(log_of(tmp_path)) == again


def test_a_worker_that_is_killed_again_and_again_still_finishes(tmp_path):
    live_and_die(tmp_path, lives=12, steps=250, seed=1)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 7))
def test_a_worker_that_is_killed_again_and_again_still_finishes_at_length(tmp_path, seed):
    live_and_die(tmp_path, lives=100, steps=2000, seed=seed)
