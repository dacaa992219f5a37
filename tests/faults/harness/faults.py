"""Rounds of work, each with faults of one kind, on one store.

What is random is drawn from a seed, and faults come after so many operations; at which moment of an operation is up to
the machine.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import psycopg

from musubito.store.protocol import Store
from tests.faults.harness import worker
from tests.faults.harness.invariants import Interval, Record, read_log
from tests.faults.outage import Proxy, Server

__all__ = ["Harness"]

SHORT_LEASE = 0.6
HELD = 0.3
"""For so long somebody else keeps the database locked, and for a third of that it is waited for."""
BODY = 0.003
"""So many seconds a body takes, so that some are under way when something happens."""
MOST = 4
"""So many times a round may begin again until it has met its faults: how many come is up to the machine."""
LIFE = 100
"""So many operations a worker does that may be killed."""
NUMBERS = 12
"""By so many each round's numbers are higher: some it shares with those before."""

# Workers are forked from a process that has imported all they need: to import that takes longer than most live.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([worker.__name__, "musubito.store.postgres.storage"])


class Harness:
    """Works on the store of a URL (or path); `without_locks`: its leases are rows."""

    def __init__(
        self, folder: Path, url: str, seed: int, *, server: Server | None = None, without_locks: bool = False
    ) -> None:
        self.folder, self.url, self.server, self.without_locks = folder, url, server, without_locks
        self.chance = random.Random(seed)
        self.seed = seed
        self.record = Record()
        self.postgres = url.startswith("postgresql:")
        self.record.rows = self.postgres or without_locks
        self.record.by_clients = not self.postgres
        self.log = folder / "log"
        self.log.touch()
        self.round = 0
        self.running: list[ForkServerProcess] = []
        self.started = 0
        self._said: Counter[str] = Counter()
        self._read = 0

    # -- workers -------------------------------------------------------------------------------------------------------
    def start(self, count: int, **said: Any) -> ForkServerProcess:
        self.started += 1
        first = {"seed": f"{self.seed}/{self.started}", "first": self.round * NUMBERS, "count": count}
        always = {"url": self.url, "log": str(self.log), "without_locks": self.without_locks, "body": BODY}
        said = {**always, **first, **said}
        process = PROCESSES.Process(target=worker.main, args=(said,))
        process.start()
        assert process.pid is not None
        self.record.leases[process.pid] = said.get("lease", 30.0)
        if "clock" in said:
            self.record.timeless.add(process.pid)
        self.running.append(process)
        return process

    def finish(self) -> None:
        """Those that were not killed have ended well."""
        until = time.monotonic() + 120
        for process in self.running:
            process.join(max(0.0, until - time.monotonic()))
            assert process.exitcode is not None, "a worker hangs"
        self._bury()

    def _bury(self) -> None:
        """Those that have ended need not be looked at any more."""
        for process in [process for process in self.running if process.exitcode is not None]:
            assert process.exitcode in (0, -signal.SIGKILL), self._complaints()
            self.running.remove(process)

    def _complaints(self) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if '"kind": "broken"' in line]

    def end(self) -> None:
        """Whatever they are doing."""
        for process in self.running:
            process.kill()
            process.join()

    def _heard(self, kind: str) -> int:
        """How many lines of this kind are in the log by now."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            lines = log.read().rpartition(b"\n")[0]
        self._read += len(lines)
        for each in ("up", "answer"):
            self._said[each] += lines.count(b'"kind": "%b"' % each.encode())
        return self._said[kind]

    def _until(self, kind: str, count: int) -> bool:
        """Once there are so many lines of this kind; False if the work ends before that."""
        until = time.monotonic() + 120
        while self._heard(kind) < count:
            if all(process.exitcode is not None for process in self.running):
                return False
            assert time.monotonic() < until, "nothing goes on"
            time.sleep(0.005)
        return True

    def answered(self) -> int:
        """How many operations, by now."""
        return self._heard("answer")

    def after(self, operations: int) -> bool:
        """Once so many more were answered; False if the work ends before that."""
        return self._until("answer", self.answered() + operations)

    def _victim(self) -> ForkServerProcess | None:
        living = [process for process in self.running if process.exitcode is None]
        return self.chance.choice(living) if living else None

    # -- rounds --------------------------------------------------------------------------------------------------------
    def play(self, fault: str, count: int, faults: int) -> None:
        """One round: two workers share so many operations, and go on until so many faults have come."""
        self.round += 1
        plant: Callable[[int], None] = getattr(self, f"_{fault}")
        for _ in range(MOST):
            plant(count)
            self.finish()
            if self.read().planted[fault] >= faults:
                return
        raise AssertionError(f"{fault}: fewer than {faults} in {MOST * count} operations")

    def planted(self, fault: str) -> None:
        self.record.planted[fault] += 1

    def _pair(self, count: int, **said: Any) -> None:
        up = self._heard("up")
        for share in (count // 2, count - count // 2):
            self.start(share, **said)
        # To be opened, a store must be there.
        self._until("up", up + 2)

    def _calm(self, count: int) -> None:
        self._pair(count)

    def _slow(self, count: int) -> None:
        self._pair(count, slow=0.005)

    def _clock(self, count: int) -> None:
        self._pair(count, clock=10)

    def _full(self, count: int) -> None:
        self._pair(count, full=20)

    def _unreadable(self, count: int) -> None:
        self._pair(count, unreadable=0.005)

    def _kill(self, count: int) -> None:
        """Again and again one of two is killed, and another one goes on."""
        goal = self.answered() + count
        while (left := goal - self.answered()) > 0:
            self._bury()
            while len(self.running) < 2:
                self.start(min(left, LIFE))
            if self.after(self.chance.randrange(LIFE // 2)) and (victim := self._victim()) is not None:
                victim.kill()
                victim.join()
                self.planted("kill")

    def _stop(self, count: int) -> None:
        """A holder stands still for longer than its lease lasts, and goes on."""
        # Bodies take long enough to be stopped in.
        self._pair(count, lease=SHORT_LEASE, body=0.02)
        while self.after(80):
            victim = self._victim()
            if victim is None or victim.pid is None:
                continue
            began = time.monotonic()
            with suppress(ProcessLookupError):
                os.kill(victim.pid, signal.SIGSTOP)
                time.sleep(SHORT_LEASE * 1.3)
                os.kill(victim.pid, signal.SIGCONT)
                self.record.stops[victim.pid].append(Interval(began, time.monotonic()))
                self.planted("stop")

    def _busy(self, count: int) -> None:
        """Somebody else keeps the database locked for longer than it is waited for."""
        self._pair(count, busy_timeout=HELD / 3, patience=HELD / 3)
        while self.after(50):
            with suppress(sqlite3.OperationalError), closing(self._locker()) as locker:
                time.sleep(HELD)
                locker.rollback()
                self.planted("busy")

    def _locker(self) -> Any:
        if self.postgres:
            from musubito.store.postgres.schema import WRITES

            locker = psycopg.connect(self.url)
            locker.execute("SELECT pg_advisory_xact_lock(%s)", (WRITES,))
            return locker
        made = sqlite3.connect(self.url, timeout=10, isolation_level=None)
        made.execute("BEGIN IMMEDIATE")
        return made

    # -- those of a server ---------------------------------------------------------------------------------------------
    def _cut(self, count: int) -> None:
        proxy = Proxy(self.url)
        try:
            self._pair(count, url=proxy.url)
            proxy.on_request = proxy.on_answer = lambda piece: self.chance.random() > 0.002
            self.finish()
        finally:
            proxy.close()
        self.record.planted["cut"] += proxy.cuts

    def _sessions(self, connection: psycopg.Connection[Any]) -> list[int]:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return [pid for (pid,) in rows]

    def _ended(self, count: int) -> None:
        """An administrator ends sessions."""
        self._pair(count)
        while self.after(25):
            with psycopg.connect(self.url, autocommit=True) as connection:
                for pid in self._sessions(connection):
                    if self.chance.random() < 0.5:
                        connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
                        self.planted("ended")

    def _restart(self, count: int) -> None:
        self._outage(count, "restart", "stop")

    def _crash(self, count: int) -> None:
        self._outage(count, "crash", "kill")

    def _outage(self, count: int, fault: str, how: str) -> None:
        assert self.server is not None
        self._pair(count)
        while self.after(150):
            getattr(self.server, how)()
            self.server.start()
            self.planted(fault)

    def _backend(self, count: int) -> None:
        """One session's process is killed: the server ends all others, and recovers."""
        assert self.server is not None
        self._pair(count)
        while self.after(150):
            self.server.start()
            with psycopg.connect(self.url, autocommit=True) as connection:
                sessions = self._sessions(connection)
            if sessions:
                with suppress(ProcessLookupError):
                    os.kill(self.chance.choice(sessions), signal.SIGKILL)
                    self.planted("backend")
        self.server.start()

    # -- afterwards ----------------------------------------------------------------------------------------------------
    def once_more(self) -> int:
        """All that was ever asked for, once more; how many bodies ran."""
        record = self.read()
        asked = sorted({ask.operation for ask in record.asks if ask.operation.is_asked_again})
        for number in range(2):
            again = self.folder / f"again {number}.json"
            again.write_text(json.dumps(asked[number::2]))
            process = self.start(0, again=str(again))
            assert process.pid is not None
            self.record.finals.add(process.pid)
        self.finish()
        return len(self.read().runs) - len(record.runs)

    def read(self) -> Record:
        """What is known by now."""
        return read_log(self.log, self.record)

    def open(self) -> Store:
        return worker.open_store({"url": self.url})
