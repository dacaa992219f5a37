"""What a store of ten million executions takes, and what it costs to use: the figures of docs/explanation/scale.md.

python -m bench.scale make FILE MILLIONS     makes a database of so many million executions, in minutes
python -m bench.scale measure URL            prints sizes, rates and costs of it, and prunes its older half

No row of `make bench` takes this long. The database is that of `bench.sizes`, repeated: each copy has keys of its own
and lies 90 days after the one before, so that its rows are those of real calls.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from itertools import count
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Final

import psycopg

from bench.bulk import item
from bench.measure import Sample
from bench.sizes import COMMAND, COMMANDS, NUMBER, SPAN, cpu
from bench.sizes import make as make_base
from musubito import MusubitoEngine, SQLiteStorage
from musubito.lineage import Lineage
from musubito.lineage.removal.prune import prune, used_bytes
from musubito.store.changes import CleanUp
from musubito.store.rows import CallKeys
from musubito.store.urls import is_postgres, open_store

ROW, KEY, TIME = "{} + :rows", "salted({})", "{} + :shift"

REPEATED: Final = {
    "_nodes": {"id": ROW, "execution": ROW, "node_id": KEY, "reuse_key": KEY, "input_hash": KEY},
    "_executions": {
        **dict.fromkeys(("id", "node"), ROW),
        **dict.fromkeys(("reuse_key", "cross_key", "pool"), KEY),
        **dict.fromkeys(("started_at", "valid_from", "valid_until"), TIME),
    },
    "_uses": {"execution": ROW, "called": ROW, "node": ROW, "asked": KEY},
    "_usage": {"execution": ROW},
    "_inputs": {"input_hash": KEY},
    "_edges": {"parent": ROW, "child": ROW},
    "_runs": {"run_id": KEY, "started_at": TIME, "finished_at": TIME},
    "_calls": {"run_id": KEY, "node": KEY, "execution": ROW, "at": TIME},
}
"""The tables that are repeated, and what becomes of some of their columns in a copy."""
ONCE: Final = ("_namespaces", "_operations", "_codes", "_code_parts", "_artifacts")
CALLS: Final = 2_000
MEASURED: Final = ("runs", "show last", "show STEP", "why last", "why STEP", "savings", "stats")
"""Commands of `bench.sizes`."""


def make(path: Path, millions: float) -> None:
    """Make a database of at least so many million executions."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder, "base.db")
        make_base(base)
        SQLiteStorage(path).close()
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("PRAGMA synchronous = OFF")
            database.execute("PRAGMA cache_size = -4000000")
            database.execute("ATTACH ? AS base", (str(base),))
            database.execute("BEGIN")
            for table in ONCE:
                database.execute(f"INSERT OR IGNORE INTO main.{table} SELECT * FROM base.{table}")  # noqa: S608
            copies = -(-int(millions * 1_000_000) // NUMBER)
            for copy in range(copies):
                repeat(database, copy, (copy + 1 - copies) * SPAN)
                show("executions", (copy + 1) * NUMBER)
            database.execute("COMMIT")
    with closing(SQLiteStorage(path)) as storage:
        storage.write([CleanUp()])  # sums up the calls of the runs


def repeat(database: sqlite3.Connection, copy: int, shift: float) -> None:
    """Add the rows of the base once more, so many seconds later."""
    salt = copy.to_bytes(4, "big")

    def salted(key: bytes | None) -> bytes | None:
        # The first bytes of a run's id are its time; what tells whether it is empty stays empty.
        return key and key[:6] + hashlib.blake2b(key[6:] + salt, digest_size=len(key) - 6).digest()

    database.create_function("salted", 1, salted, deterministic=True)
    for table, changed in REPEATED.items():
        names = [name for _, name, *_ in database.execute(f"PRAGMA table_info({table})")]
        values = ", ".join(changed.get(name, "{}").format(f'"{name}"') for name in names)
        database.execute(
            f"INSERT INTO main.{table} SELECT {values} FROM base.{table}",  # noqa: S608
            {"rows": copy * NUMBER, "shift": shift},
        )


def measure(url: str) -> None:
    """Print sizes, rates and costs, then prune the older half while another process writes."""
    with Lineage.from_url(url) as lineage:
        show("executions", lineage.rows("began")[0][0])
        ((middle,), _) = lineage.rows("starts", parts=2)
        show("bytes of all rows", used_bytes(lineage))
    lookups = Sample.of([seconds for _ in range(2) for seconds in look_up(url)][-CALLS:])
    show("lookup of any result, ms", 1_000 * lookups.median)
    show("lookup of any result, ms, p99", 1_000 * lookups.p99)
    with MusubitoEngine.from_url(url, strict=True) as engine:
        step = f"scale.{time.time_ns()}"
        for name in ("new call", "replay"):
            taken = Sample.of([timed(engine, step, number) for number in range(CALLS)])
            show(f"{name}, ms", 1_000 * taken.median)
            show(f"{name}, ms, p99", 1_000 * taken.p99)
    os.environ["MUSUBITO_URL"] = url
    for name in MEASURED:
        show(f"{name}, s of CPU", cpu([*COMMAND, *COMMANDS[name]]).median)
    spawn = multiprocessing.get_context("spawn")
    stop, taken_by_others = spawn.Event(), spawn.Queue()
    other = spawn.Process(target=write_until, args=(url, stop, taken_by_others))
    other.start()
    began = time.perf_counter()
    with Lineage.from_url(url) as lineage:
        removed = prune(lineage, middle)
    show("prune of half, s", time.perf_counter() - began)
    stop.set()
    show("executions removed", removed.executions)
    show("runs removed", removed.runs)
    show("new call meanwhile, ms, p99", 1_000 * Sample.of(taken_by_others.get()).p99)
    other.join()


def look_up(url: str) -> list[float]:
    """Return the seconds that the lookup of a result takes, for results picked evenly from all."""
    pick = random.Random(CALLS)
    connection: Any = psycopg.connect(url) if is_postgres(url) else sqlite3.connect(url.removeprefix("sqlite:///"))
    mark = "%s" if is_postgres(url) else "?"
    ask = f"SELECT node_id, reuse_key, cross_key FROM executions WHERE execution_id = {mark}"  # noqa: S608
    with closing(connection), closing(open_store(url)) as storage:
        ((newest,),) = connection.execute("SELECT max(execution_id) FROM executions")
        taken = []
        for _ in range(CALLS):
            (keys,) = connection.execute(ask, (pick.randrange(newest),))
            began = time.perf_counter()
            found = storage.newest(CallKeys(*map(bytes.fromhex, keys)), "default")
            taken.append(time.perf_counter() - began)
            assert found is not None
    return taken


def write_until(url: str, stop: Event, taken: Queue[list[float]]) -> None:
    """Make new results in a process of its own, a hundred a second at most, and time each."""
    seconds = []
    with MusubitoEngine.from_url(url, strict=True) as engine:
        for number in count():
            if stop.wait(0.01):
                break
            seconds.append(timed(engine, "scale.meanwhile", number))
    taken.put(seconds)


def timed(engine: MusubitoEngine, step: str, number: int) -> float:
    """Return the seconds that one call of a step takes."""
    began = time.perf_counter()
    engine.execute(step, {"number": number}, item)
    return time.perf_counter() - began


def show(name: str, figure: float) -> None:
    """Print a figure in a line of its own."""
    text = f"{figure:,}" if isinstance(figure, int) else f"{figure:,.3f}"
    sys.stdout.write(f"{name:<40} {text:>20}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), float(sys.argv[3]))
    else:
        measure(sys.argv[2])
