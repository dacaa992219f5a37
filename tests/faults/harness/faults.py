"""Rounds of work, each with faults of one kind, on one store.

What is random is drawn from a seed; at which moment of the work a fault comes is up to the machine.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg

from musubito.store.base import Store
from tests.faults.harness.invariants import Interval, Record, read_log
from tests.faults.outage import Proxy, Server

__all__ = ["Harness"]

ROOT = Path(__file__).resolve().parents[3]
SHORT_LEASE = 1.5


class Harness:
    """Works on the store of a URL (or path); `rows`: leases are rows and no locks."""

    def __init__(
        self, folder: Path, url: str, seed: int, *, server: Server | None = None, without_locks: bool = False
    ) -> None:
        self.folder, self.url, self.server, self.without_locks = folder, url, server, without_locks
        self.chance = random.Random(seed)
        self.seed = seed
        self.record = Record()
        self.postgres = url.startswith("postgresql:")
        self.rows = self.postgres or without_locks
        self.record.by_clients = not self.postgres
        self.log = folder / "log"
        self.round = 0
        self.running: list[subprocess.Popen[bytes]] = []
        self.started = 0

    # -- workers -------------------------------------------------------------------------------------------------------
    def start(self, count: int, **said: Any) -> subprocess.Popen[bytes]:
        self.started += 1
        said = {"url": self.url, "seed": f"{self.seed}/{self.started}", "first": self.round * 40, "count": count} | said
        if self.without_locks:
            said["without_locks"] = True
        environment = {**os.environ, "HARNESS_LOG": str(self.log)}
        command = [sys.executable, "-m", "tests.faults.harness.worker", json.dumps(said)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
        if self.rows:
            self.record.leases[process.pid] = said.get("lease", 30.0)
        if "clock" in said:
            self.record.timeless.add(process.pid)
        self.running.append(process)
        return process

    def finish(self) -> None:
        """Those that were not killed have ended well."""
        while self.running:
            process = self.running.pop()
            complaints = process.communicate(timeout=120)[1]
            assert process.returncode in (0, -signal.SIGKILL), complaints.decode()

    def up(self, workers: int) -> None:
        """Until so many have begun their work in this round."""
        until = time.monotonic() + 60
        while self._lines("up") < workers:
            assert time.monotonic() < until and any(p.poll() is None for p in self.running), [
                p.communicate()[1] for p in self.running if p.poll() is not None
            ]
            time.sleep(0.01)

    def _lines(self, kind: str) -> int:
        return self.log.read_text().count(f'"kind": "{kind}"') if self.log.exists() else 0

    def working(self) -> bool:
        return any(process.poll() is None for process in self.running)

    # -- rounds --------------------------------------------------------------------------------------------------------
    def play(self, fault: str, count: int) -> None:
        """One round: two workers share so many operations."""
        self.round += 1
        before = self._lines("up")
        plant: Callable[[int, int], None] = getattr(self, f"_{fault}")
        plant(count // 2, before)
        self.finish()

    def _pair(self, count: int, before: int, **said: Any) -> None:
        for _ in range(2):
            self.start(count, **said)
        self.up(before + 2)

    def _calm(self, count: int, before: int) -> None:
        self._pair(count, before)

    def _slow(self, count: int, before: int) -> None:
        self._pair(count, before, slow=0.005)

    def _clock(self, count: int, before: int) -> None:
        self._pair(count, before, clock=True)

    def _full(self, count: int, before: int) -> None:
        self._pair(count, before, full=True)

    def _unreadable(self, count: int, before: int) -> None:
        self._pair(count, before, unreadable=0.005)

    def _kill(self, count: int, before: int) -> None:
        """Each life does a share of the work; all but the last two are cut short."""
        for _ in range(4):
            process = self.start(count // 3)
            self.up(before + 1)
            before = self._lines("up")
            time.sleep(self.chance.random() * 0.4)
            process.kill()
        self._pair(count // 2, before)

    def _stop(self, count: int, before: int) -> None:
        """A holder stands still for longer than its lease lasts, and goes on."""
        # Some bodies take long enough to be stopped in.
        self._pair(count // 4, before, lease=SHORT_LEASE, body=0.02)
        while self.working():
            process = self.chance.choice(self.running)
            if process.poll() is not None:
                continue
            began = time.monotonic()
            process.send_signal(signal.SIGSTOP)
            time.sleep(SHORT_LEASE * 1.3)
            process.send_signal(signal.SIGCONT)
            self.record.stops[process.pid].append(Interval(began, time.monotonic()))
            time.sleep(0.3 + self.chance.random() * 0.3)

    def _busy(self, count: int, before: int) -> None:
        """Somebody else keeps the database locked for longer than it is waited for."""
        self._pair(count, before, busy_timeout=0.2, patience=0.5)
        while self.working():
            with suppress(sqlite3.OperationalError), closing(self._locker()) as locker:
                time.sleep(0.5)
                locker.rollback()
            time.sleep(self.chance.random() * 0.5)

    def _locker(self) -> Any:
        if self.postgres:
            from musubito.store.postgres import _WRITES

            locker = psycopg.connect(self.url)
            locker.execute("SELECT pg_advisory_xact_lock(%s)", (_WRITES,))
            return locker
        made = sqlite3.connect(self.url, timeout=10, isolation_level=None)
        made.execute("BEGIN IMMEDIATE")
        return made

    # -- those of a server ---------------------------------------------------------------------------------------------
    def _cut(self, count: int, before: int) -> None:
        proxy = Proxy(self.url)
        try:
            self._pair(count, before, url=proxy.url)
            proxy.on_request = proxy.on_answer = lambda piece: self.chance.random() > 0.002
            while self.working():
                time.sleep(0.05)
        finally:
            proxy.on_request = proxy.on_answer = lambda piece: True
            self.finish()
            proxy.close()
        assert proxy.cuts > 0

    def _sessions(self, connection: psycopg.Connection[Any]) -> list[int]:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return [pid for (pid,) in rows]

    def _ended(self, count: int, before: int) -> None:
        """An administrator ends sessions."""
        self._pair(count, before)
        while self.working():
            with psycopg.connect(self.url, autocommit=True) as connection:
                for pid in self._sessions(connection):
                    if self.chance.random() < 0.5:
                        connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
            time.sleep(self.chance.random() * 0.4)

    def _restart(self, count: int, before: int) -> None:
        self._outage(count, before, "stop")

    def _crash(self, count: int, before: int) -> None:
        self._outage(count, before, "kill")

    def _outage(self, count: int, before: int, how: str) -> None:
        assert self.server is not None
        self._pair(count, before)
        for _ in range(3):
            time.sleep(self.chance.random() * 0.5)
            getattr(self.server, how)()
            self.server.start()

    def _backend(self, count: int, before: int) -> None:
        """One session's process is killed: the server ends all others, and recovers."""
        assert self.server is not None
        self._pair(count, before)
        for _ in range(2):
            time.sleep(self.chance.random() * 0.5)
            with psycopg.connect(self.url, autocommit=True) as connection:
                sessions = self._sessions(connection)
            if sessions:
                with suppress(ProcessLookupError):
                    os.kill(self.chance.choice(sessions), signal.SIGKILL)
            time.sleep(0.3)
            self.server.start()

    # -- afterwards ----------------------------------------------------------------------------------------------------
    def once_more(self, url: str | None = None) -> int:
        """All that was ever asked for, once more; how many bodies ran."""
        asked = {(ask.operation) for ask in self.read().asks if ask.operation.kind != "invalidate"}
        again = self.folder / "again.json"
        again.write_text(json.dumps(sorted(asked)))
        before = self._lines("begin")
        process = self.start(0, again=str(again), url=url or self.url)
        self.record.finals.add(process.pid)
        self.finish()
        return self._lines("begin") - before

    def read(self) -> Record:
        """What is known by now."""
        record = self.record
        record.asks, record.runs = [], []
        record.invalidations.clear()
        read_log(self.log, record)
        return record

    def open(self) -> Store:
        from tests.faults.harness.worker import open_store

        return open_store({"url": self.url})
