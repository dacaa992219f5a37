"""Graphs and effects in the tasks of Celery: retries and killed workers repeat no work, and no effect."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.conftest import Shared
from tests.cluster.work import NODES, answers, batch

TIMEOUT = 120


@pytest.fixture(scope="module")
def tasks(shared: Shared) -> Iterator[Any]:
    """The module of the tasks, for which a worker of four processes waits."""
    from tests.cluster import celery_app

    command = [sys.executable, "-m", "celery", "-A", "tests.cluster.celery_app", "worker", "--concurrency", "4"]
    quiet = ["--loglevel", "CRITICAL", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    with (shared.log.parent / "worker").open("w") as told:
        worker = subprocess.Popen(
            [*command, *quiet],
            env={**os.environ, **shared.environment},
            stdout=told,
            stderr=told,
            start_new_session=True,
        )
    yield celery_app
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def results(task: Any, arguments: list[Any]) -> list[Any]:
    return [sent.get(timeout=TIMEOUT, interval=0.01) for sent in [task.delay(argument) for argument in arguments]]


def test_each_node_runs_once_though_a_process_is_killed(tasks: Any, shared: Shared) -> None:
    numbers = batch(0, 100)
    sent = [tasks.asked.delay(number) for number in numbers]
    shared.wait_for_runs(20)
    killed = shared.last_process()
    os.kill(killed, signal.SIGKILL)
    assert [each.get(timeout=TIMEOUT, interval=0.01) for each in sent] == answers(numbers)
    ran = shared.ran()
    assert len(ran) == NODES
    assert {what: pids for what, pids in ran.items() if len([pid for pid in pids if pid != killed]) > 1} == {}
    assert {what: pids for what, pids in ran.items() if pids.count(killed) > 1} == {}
    assert shared.leases() == 0


def test_a_worker_that_only_replays_gives_what_others_ran(tasks: Any, shared: Shared) -> None:
    assert results(tasks.asked, [1000]) == answers([1000])
    assert len(shared.ran()) == 3
    assert results(tasks.replayed, [1000]) == answers([1000])
    with pytest.raises(Exception, match="replay"):
        results(tasks.replayed, [2000])
    assert shared.ran() == {}


def test_a_retry_and_a_killed_process_repeat_no_effect(tasks: Any, shared: Shared) -> None:
    assert results(tasks.mailed, [7]) == ["mail about 7"]
    ran = shared.ran()
    assert len(ran["mail 7"]) == 1
    assert len(ran["tried 7"]) == 3


def test_the_example_of_the_readme(tasks: Any) -> None:
    asked, opened = "the model is asked", "a ticket is opened"
    said = [results(tasks.helped, ["My celery burns."])[0] for _ in range(2)]
    assert said == [[asked, opened, asked, "It is ticket 7."], [opened, "It is ticket 7."]]
