"""What workers of multiprocessing did stands in the ledger when they have ended, however they were started."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import musubito
from musubito.engine.maintenance import LAST_SECONDS
from tests.pairs import in_turn

LIBRARY = str(Path(musubito.__file__).parents[1])
METHODS = ("fork", "forkserver", "spawn") if os.name == "posix" else ("spawn",)
PROGRAM = """
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor

METHOD, KIND = sys.argv[1:]


def call(number):
    from musubito import musubito_step

    @musubito_step
    def squared(x):
        return x * x

    return squared(number).value


def main():
    context = multiprocessing.get_context(METHOD)
    if KIND == "executor":
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            assert list(pool.map(call, range(60))) == [x * x for x in range(60)]
        return
    with context.Pool(2) as pool:
        assert pool.map(call, range(60), 1) == [x * x for x in range(60)]
        pool.close()
        pool.join()


if KIND != "late":
    import musubito

if __name__ == "__main__":
    if KIND == "opened":
        call(1000)
    main()
"""


def calls_of(folder: Path) -> int:
    database = sqlite3.connect(folder / ".musubito" / "musubito.db")
    try:
        [count] = database.execute("SELECT count(*) FROM calls").fetchone()
    finally:
        database.close()
    return int(count)


def _said(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": LIBRARY},
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(("kind", "method"), in_turn(["executor", "pool", "opened", "late"], METHODS))
def test_all_that_workers_did_is_in_the_ledger_when_they_have_ended(tmp_path: Path, method: str, kind: str) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)

    done = _said(tmp_path, "program.py", method, kind)

    assert calls_of(tmp_path) == (61 if kind == "opened" else 60)
    assert not done.stderr


LOCKED = """
import logging
import multiprocessing
import sqlite3
import sys
import time

from musubito import musubito_step

logging.basicConfig()


@musubito_step
def squared(x):
    return x * x


def work(began, go):
    squared(3)
    began.set()
    go.wait()


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    began, go = context.Event(), context.Event()
    worker = context.Process(target=work, args=(began, go))
    worker.start()
    began.wait()
    database = sqlite3.connect(".musubito/musubito.db", isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    go.set()
    since = time.monotonic()
    if sys.argv[1] == "soon":
        time.sleep(1)
        database.execute("ROLLBACK")
    worker.join()
    print(worker.exitcode, time.monotonic() - since)
"""


@pytest.mark.skipif(os.name != "posix", reason="there are no forks")
def test_a_worker_waits_a_while_for_a_store_that_is_locked_and_then_ends(tmp_path: Path) -> None:
    folders = [tmp_path / "soon", tmp_path / "never"]
    for folder in folders:
        folder.mkdir()
        (folder / "program.py").write_text(LOCKED)

    soon, never = (_said(folder, "program.py", folder.name) for folder in folders)

    assert soon.stdout.split()[0] == never.stdout.split()[0] == "0"
    assert calls_of(folders[0]) == 1
    assert not soon.stderr
    assert float(never.stdout.split()[1]) < LAST_SECONDS + 2
    if calls_of(folders[1]) == 0:
        assert "history" in never.stderr


THREADS = """
import multiprocessing
import sys
import threading
import time

from musubito import musubito_step


@musubito_step
def squared(x):
    time.sleep(0.2)
    return x * x


def later():
    for number in range(3):
        squared(number)


def work():
    threading.Thread(target=later).start()


if __name__ == "__main__":
    worker = multiprocessing.get_context(sys.argv[1]).Process(target=work)
    worker.start()
    worker.join()
    assert worker.exitcode == 0
"""


@pytest.mark.parametrize("method", METHODS)
def test_what_threads_do_after_a_worker_has_done_its_own_is_there_too(tmp_path: Path, method: str) -> None:
    (tmp_path / "program.py").write_text(THREADS)

    _said(tmp_path, "program.py", method)

    assert calls_of(tmp_path) == 3
