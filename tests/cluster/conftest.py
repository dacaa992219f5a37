"""What the workers of Dask, Ray, Celery and Temporal share: one PostgreSQL, and a file of what really ran."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from distributed import Client, LocalCluster

from musubito import MusubitoEngine
from tests.cluster.work import LOG
from tests.server import drop_database, new_database

SNIPPETS = Path(__file__).parents[2] / "docs/snippets"


@dataclass
class Shared:
    """A store, and what its workers have really run."""

    url: str
    log: Path
    _read: int = field(default=0, init=False)

    @property
    def environment(self) -> dict[str, str]:
        """What a worker process needs to find both, the tests, and the example of the README."""
        root = Path(__file__).parents[2]
        path = os.pathsep.join([str(SNIPPETS), str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
        return {LOG: str(self.log), "MUSUBITO_URL": self.url, "PYTHONPATH": path}

    def engine(self, **options: Any) -> MusubitoEngine:
        """One of the client, for graphs that bring their own."""
        return MusubitoEngine.from_url(self.url, **options)

    def ran(self) -> dict[str, list[int]]:
        """What has really run since this was asked last: in which processes, by node and what it was about."""
        lines = self.log.read_text().splitlines()
        found: dict[str, list[int]] = {}
        for line in lines[self._read :]:
            what, _, pid = line.rpartition(" ")
            found.setdefault(what, []).append(int(pid))
        self._read = len(lines)
        return found

    def wait_for_runs(self, count: int) -> None:
        """Until so many more have run; `ran` tells of them as well."""
        until = time.monotonic() + 60
        while len(self.log.read_text().splitlines()) < self._read + count:
            assert time.monotonic() < until
            time.sleep(0.02)

    def last_process(self) -> int:
        """That of the newest line of those that `ran` has not told of."""
        return int(self.log.read_text().split()[-1])

    def counted(self) -> tuple[int, set[int]]:
        """How many different nodes have run since this was asked last, and how often each."""
        ran = self.ran()
        return len(ran), {len(pids) for pids in ran.values()}

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement).fetchall()

    def leases(self) -> int:
        """How many are left, and how many wait for one, once whoever has ended has had the time to give them back."""
        until = time.monotonic() + 10
        left = "SELECT (SELECT count(*) FROM musubito._leases) + (SELECT count(*) FROM musubito._waits)"
        while (count := self.ask(left)[0][0]) and time.monotonic() < until:
            time.sleep(0.1)
        return int(count)


@dataclass
class Cluster(Shared):
    """Four workers of Dask."""

    client: Client

    def connections(self) -> int:
        ((count,),) = self.ask(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        return int(count)

    def kill_one(self) -> int:
        """Which process was killed; its nanny starts another."""
        pid = next(iter(self.client.run(os.getpid).values()))
        os.kill(pid, signal.SIGKILL)
        return int(pid)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """A store of a module's own, which is this process's, too."""
    shared = Shared(new_database(), tmp_path_factory.mktemp("shared") / "log")
    shared.log.touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(LOG, str(shared.log))
        patch.setenv("MUSUBITO_URL", shared.url)
        patch.syspath_prepend(SNIPPETS)
        yield shared
    drop_database(shared.url)


# Not longer than its tests: its processes are many, and so is what it puts into the environment.
@pytest.fixture(scope="module")
def cluster(shared: Shared) -> Iterator[Cluster]:
    with (
        LocalCluster(
            n_workers=4,
            threads_per_worker=2,
            dashboard_address=":0",
            env=shared.environment,
            silence_logs=logging.CRITICAL,
            local_directory=str(shared.log.parent),
        ) as local,
        Client(local) as client,
    ):
        yield Cluster(shared.url, shared.log, client)
