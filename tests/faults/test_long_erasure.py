"""An erasure of very many executions: others write meanwhile, and a process that is killed on the way leaves no harm."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from musubito import MusubitoEngine, SQLiteStorage
from musubito.lineage import Lineage
from musubito.lineage.removal.erase import changes_for, forget
from musubito.store.changes import Change, Forget, Invalidate
from musubito.store.rows import CallLine, ExternalRead, InputLine, Ledger, NodeSpec, RunLine
from musubito.testing.changes import commit, digest, parent, place, use

MANY = 6_000
MAX_TURN = 0.1
MAX_WAIT = 1.0
"""Ten times as long, since the machine may be busy with other things."""
WHOLE = Forget("default", "f")


def at(number: int) -> NodeSpec:
    return place("f", argument=str(number))


def filled(path: Path, many: int) -> SQLiteStorage:
    """Make executions of "f": each has an input, reads and a caller; one has very many callers and children."""
    store = SQLiteStorage(path)
    reads = [ExternalRead("file", f"/file{number}", digest(number)) for number in range(3)]
    changes: list[Change] = []
    for number in range(many):
        spec = at(number)._replace(input_hash=digest("input", number))
        changes.append(commit(spec, "x" * (2000 if number % 10 == 0 else 10) + str(number), reads=reads))
    for number in range(many):
        # Number 0 is called by all.
        called = {number: use(at(number), number + 1), 0: use(at(0), 1)}
        changes.append(commit(place("caller", argument=str(number)), "y", uses=list(called.values()), holds=4))
    for number in range(many):
        below = place("child", [parent(at(0), "x" * 2000 + "0")], argument=str(number))
        changes.append(commit(below, "z"))
    inputs = [InputLine(number + 1, "f", digest("input", number), b"\xa1" * 50, ()) for number in range(many)]
    calls = [
        CallLine(b"run", number + 1, None, "f", at(number).keys.node, number + 1, "ran", "X", 1.0, 1.0, 0.0, 0, 0)
        for number in range(many)
    ]
    changes.append(Ledger("default", [RunLine(b"run", "all", None, 1.0, 2.0, "finished")], calls, inputs))
    store.write(changes)
    return store


class Watched(SQLiteStorage):
    """A store that notes how much CPU each of its transactions took: that does not depend on what else runs."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.taken: list[float] = []

    def _transaction(self, *args: Any) -> list[Any]:
        began = time.thread_time()
        try:
            return super()._transaction(*args)
        finally:
            self.taken.append(time.thread_time() - began)


def waits_of_another(path: Path, work: Callable[[], object]) -> list[float]:
    """Return how long another connection waits, each time, for the lock of writes while something is done."""
    waits = []
    done = threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as other:
            while not done.is_set():
                began = time.perf_counter()
                other.execute("BEGIN IMMEDIATE")
                waits.append(time.perf_counter() - began)
                other.execute("COMMIT")
                time.sleep(0.005)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        work()
    finally:
        done.set()
        writer.join()
    return waits


CHANGES = {
    "forget an operation": WHOLE,
    "forget nodes": Forget("default", nodes=[at(number).keys.node for number in range(MANY)]),
    "forget a run": Forget("", run=b"run"),
    "forget a node with very many callers and children": Forget("default", nodes=[at(0).keys.node]),
    "invalidate an operation": Invalidate("default", "f", None),
    "invalidate a node with very many callers and children": Invalidate("default", None, at(0).keys.node),
}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "musubito.db"
    filled(path, MANY).close()
    return path


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_others_wait_for_a_moment_only(large: Path, tmp_path: Path, change: Forget | Invalidate) -> None:
    path = tmp_path / "musubito.db"
    shutil.copy(large, path)
    with closing(Watched(path)) as store:
        waits = waits_of_another(path, lambda: store.write([change]))
    assert len(store.taken) > 2
    assert max(store.taken) < MAX_TURN
    assert len(waits) > 5
    assert max(waits) < MAX_WAIT


# -- killed on the way -------------------------------------------------------------------------------------------------
KILLED = """
import os, signal, sys
from musubito import MusubitoEngine, SQLiteStorage
from musubito.lineage import Lineage
from musubito.lineage.removal.erase import changes_for, forget
from musubito.store.relational import by_hand

by_hand.AT_ONCE, by_hand.LOOKED_AT, by_hand.TURN = 5, 10, 0.0
left = int(sys.argv[2])
turn = by_hand.turn

def counted(steps):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return turn(steps)

by_hand.turn = counted
with MusubitoEngine(SQLiteStorage(sys.argv[1])) as engine:
    lineage = Lineage(engine)
    forget(lineage, changes_for(lineage, "f"))
"""
FEW = 40


@pytest.mark.parametrize("turns", sorted(random.Random(1).sample(range(1, 60), 4)))
def test_a_process_that_is_killed_leaves_nothing_half_done_that_is_replayed(tmp_path: Path, turns: int) -> None:
    path = tmp_path / "musubito.db"
    filled(path, FEW).close()
    died = subprocess.run([sys.executable, "-c", KILLED, str(path), str(turns)], check=False)
    assert died.returncode == -signal.SIGKILL
    with MusubitoEngine(SQLiteStorage(path)) as engine:
        lineage = Lineage(engine)
        assert_sound(path)
        done = forget(lineage, changes_for(lineage, "f"))
        assert done.executions == FEW
        assert_sound(path)
    with closing(sqlite3.connect(path)) as database:
        assert counts(database) == {
            "replayable": 0,
            "valid callers": 0,
            "inputs": 0,
            "artifacts": 0,
            "reads": 0,
            "code": 0,
            "not stale": 0,
        }


def test_it_is_all_gone_without_a_kill_as_well_and_others_are_left(tmp_path: Path) -> None:
    path = tmp_path / "musubito.db"
    store = filled(path, FEW)
    store.write([commit(place("g"), "x" * 2000 + "0")])
    (forgotten,) = store.write([WHOLE])
    assert forgotten[:2] == (FEW, FEW)
    store.close()
    with closing(sqlite3.connect(path)) as database:
        # "g" gave the same as the first execution of "f".
        assert counts(database)["artifacts"] == 1
        assert counts(database)["code"] == 0


def assert_sound(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        built_on_invalid = database.execute(
            "SELECT count(*) FROM _uses u JOIN _executions x ON x.id = u.execution JOIN _executions c ON c.id = u.called "
            "WHERE x.invalid = 0 AND c.invalid = 1"
        )
        assert built_on_invalid.fetchone() == (0,)
        without_contents = database.execute(
            "SELECT count(*) FROM _executions e WHERE e.invalid = 0 AND e.payload IS NULL "
            "AND NOT EXISTS (SELECT 1 FROM _artifacts a WHERE a.digest = e.artifact)"
        )
        assert without_contents.fetchone() == (0,)


def counts(database: sqlite3.Connection) -> dict[str, int]:
    """Count what is to be gone when all of "f" is forgotten."""
    of_f = "(SELECT e.id FROM executions v JOIN _executions e ON e.id = v.execution_id JOIN nodes n USING (node_id) "
    of_f += "WHERE n.operation_name = 'f')"
    questions = {
        "replayable": f"SELECT count(*) FROM _executions WHERE invalid = 0 AND id IN {of_f}",
        "valid callers": "SELECT count(*) FROM _executions e WHERE invalid = 0 AND id IN (SELECT execution FROM _uses)",
        "inputs": "SELECT count(*) FROM _inputs",
        "artifacts": "SELECT count(*) FROM _artifacts",
        "reads": "SELECT count(*) FROM _reads",
        "code": "SELECT count(*) FROM code WHERE part = 'f'",
        "not stale": "SELECT count(*) FROM nodes WHERE operation_name = 'child' AND status <> 'STALE'",
    }
    return {name: database.execute(question).fetchone()[0] for name, question in questions.items()}
