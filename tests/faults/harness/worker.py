"""A worker: performs operations on a store in threads of its own, and plants those faults that come from inside."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from musubito import EffectOutcomeUnknown, MusubitoEngine, SQLiteStorage, StoreError, use_musubito_engine
from musubito.engine import engine as engine_module
from musubito.engine import maintenance
from musubito.store.sqlite import byte_range_locks
from tests.faults.harness.workload import Operation, expected, log, operations, perform
from tests.reference.store import MemoryStore

__all__ = ["main", "open_store"]

REAL_TIME = time.time
OFFSET = [0.0]
PLANTED: Counter[str] = Counter()


class Slow:
    """A store on a slow disk."""

    def __init__(self, store: Any, seconds: float) -> None:
        self._store, self._seconds = store, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _rest(self) -> None:
        if random.random() < 0.1:
            PLANTED["slow"] += 1
            time.sleep(random.random() * self._seconds)

    def newest(self, *asked: Any) -> Any:
        self._rest()
        return self._store.newest(*asked)

    def find(self, query: Any) -> Any:
        self._rest()
        return self._store.find(query)

    def write(self, changes: Any) -> Any:
        self._rest()
        answers = self._store.write(changes)
        self._rest()
        return answers


def fail_to_read(store: SQLiteStorage, share: float) -> None:
    """Some statements end as they do when the disk cannot be read or written."""
    for connection in (store._reader, store._writer):

        def execute(statement: str, *parameters: Any, real: Any = connection.execute) -> Any:
            if random.random() < share and not statement.startswith(("PRAGMA", "ROLLBACK")):
                PLANTED["unreadable"] += 1
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
                raise error
            return real(statement, *parameters)

        connection.execute = execute


def fill_up(store: SQLiteStorage) -> None:
    """There is no room any more."""
    with store._writer.lock:
        pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
        store._writer.execute(f"PRAGMA max_page_count = {pages}")
    PLANTED["full"] += 1


def make_room(store: SQLiteStorage) -> None:
    with store._writer.lock:
        store._writer.execute("PRAGMA max_page_count = 1000000000")


def jump(chance: random.Random) -> None:
    before, OFFSET[0] = OFFSET[0], chance.choice((-3600.0, 0.0, 3600.0))
    PLANTED["clock"] += before != OFFSET[0]


def between(said: dict[str, Any], store: Any, chance: random.Random) -> Callable[[int], None]:
    """What happens after so many operations of this worker: in the middle of those of its other threads."""

    def happens(number: int) -> None:
        if "clock" in said and number % said["clock"] == 0:
            jump(chance)
        if "full" in said and number % said["full"] == 0:
            if number // said["full"] % 2:
                fill_up(store)
            else:
                make_room(store)

    return happens


def open_store(said: dict[str, Any]) -> Any:
    url = said["url"]
    if said.get("without_locks"):
        byte_range_locks.fcntl = None  # type: ignore[assignment]
    if url == "memory":
        return MemoryStore()
    if url.startswith("postgresql:"):
        from musubito.store.postgres import sessions, storage

        sessions.PATIENCE = said.get("patience", sessions.PATIENCE)
        return storage.PostgreSQLStorage(url)
    return SQLiteStorage(url, busy_timeout=said.get("busy_timeout", 5.0))


def ask(operation: Operation, engine: MusubitoEngine) -> None:
    log("ask", operation=operation.kind, n=operation.n, versions=operation.versions)
    faults, outcome = engine.faults, "returned"
    try:
        value = perform(operation, engine)
        if value != expected(operation):
            outcome = f"wrong: {operation} gave {value!r}"
    except EffectOutcomeUnknown:
        outcome = "unknown"
    except StoreError as error:
        outcome = "refused" if operation.may_be_refused else f"raised: {error!r}"
    except BaseException as error:
        outcome = f"raised: {error!r}"
    log("answer", operation=operation.kind, n=operation.n, outcome=outcome, faults=engine.faults - faults)


def main(said: dict[str, Any]) -> None:
    """What is said: `url`, `log`, `seed`, `first`, `count`, and which faults to plant."""
    os.environ["HARNESS_LOG"] = said["log"]
    try:
        _work(said)
    except BaseException:
        log("broken", trace=traceback.format_exc())
        raise


def _work(said: dict[str, Any]) -> None:
    warnings.simplefilter("ignore")
    chance = random.Random(said["seed"])
    random.seed(said["seed"])
    if "lease" in said:
        maintenance.LEASE_SECONDS = engine_module.LEASE_SECONDS = said["lease"]
        maintenance.TICK = said["lease"] / 10
    time.time = lambda: REAL_TIME() + OFFSET[0]
    os.environ["HARNESS_BODY"] = str(said.get("body", 0))
    store = open_store(said)
    # An engine for each thread: a call in one thread would count with the steps that are open in another.
    engines = [
        MusubitoEngine(Slow(store, said["slow"]) if "slow" in said else store) for _ in range(said.get("threads", 2))
    ]
    if "unreadable" in said:
        fail_to_read(store, said["unreadable"])
    log("up")
    if "again" in said:
        asked = json.loads(Path(said["again"]).read_text())
        todo = enumerate(Operation(kind, tuple(versions), n) for kind, versions, n in asked)
    else:
        todo = enumerate(operations(said["seed"], said["first"], said["count"]))
    taking, happens = threading.Lock(), between(said, store, chance)

    def work(engine: MusubitoEngine) -> None:
        with use_musubito_engine(engine):
            while True:
                with taking:
                    number, operation = next(todo, (0, None))
                if operation is None:
                    return
                ask(operation, engine)
                happens(number)

    threads = [threading.Thread(target=work, args=(engine,)) for engine in engines]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if "full" in said:
        make_room(store)
    for engine in engines:
        engine.flush()
    for engine in engines:
        engine.close()
    log("down", planted=PLANTED)
