"""Graphs in the tasks and actors of Ray: what is asked for by many is run once, though a worker is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.util import ActorPool

from tests.cluster import work
from tests.cluster.conftest import Shared
from tests.cluster.work import NODES, answers, batch


@pytest.fixture(scope="module")
def rays(shared: Shared) -> Iterator[Shared]:
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100_000_000,
        runtime_env={"env_vars": shared.environment},
    )
    yield shared
    ray.shutdown()


@ray.remote(max_retries=3)
def invoked(graph: Any, number: int) -> str:
    """With a graph that was sent, and its engine with it."""
    text: str = graph.invoke({"number": number})["text"]
    return text


@ray.remote
class Reporter:
    """A worker that stays, with a graph of the module and the store that its MUSUBITO_URL names."""

    def report(self, number: int) -> str:
        return work.asked(number)

    def help(self, problem: str) -> list[str]:
        return work.helped(problem)


def test_a_graph_is_sent_to_tasks_and_survives_the_kill_of_a_worker(rays: Shared) -> None:
    numbers = batch(0, 150)
    with rays.engine(namespace="killed") as engine:
        graph = ray.put(work.graph(engine))
        tasks = [invoked.remote(graph, number) for number in numbers]
        rays.wait_for_runs(20)
        killed = rays.last_process()
        os.kill(killed, signal.SIGKILL)
        assert ray.get(tasks) == answers(numbers)
        ran = rays.ran()
        assert len(ran) == NODES
        assert {what: pids for what, pids in ran.items() if len([pid for pid in pids if pid != killed]) > 1} == {}
        assert {what: pids for what, pids in ran.items() if pids.count(killed) > 1} == {}
        assert len({pid for pids in ran.values() for pid in pids}) > 2
        assert ray.get([invoked.remote(graph, number) for number in numbers]) == answers(numbers)
        assert rays.ran() == {}
        assert rays.leases() == 0


def test_the_actors_of_a_pool_share_what_each_of_them_ran(rays: Shared) -> None:
    numbers = batch(1000, 150)
    actors = [Reporter.remote() for _ in range(4)]
    pool = ActorPool(actors)
    for ran in ((NODES, {1}), (0, set())):
        assert list(pool.map(lambda actor, number: actor.report.remote(number), numbers)) == answers(numbers)
        assert rays.counted() == ran
    problem = "My actor burns."
    said = [ray.get(actor.help.remote(problem)) for actor in actors[:2]]
    asked, opened = "the model is asked", "a ticket is opened"
    assert said == [[asked, opened, asked, "It is ticket 7."], [opened, "It is ticket 7."]]
