"""Graphs, Runnables and decorated functions in the workers of a Dask cluster: what is asked for by many is run once."""

from __future__ import annotations

import os

import pytest

from musubito import InputError, StepConfiguration, use_musubito_engine
from musubito.lineage import Lineage
from musubito_langgraph import musubito_runnable
from tests.cluster import work
from tests.cluster.conftest import Cluster
from tests.cluster.work import NODES, answers, batch

TIMEOUT = 120


def test_500_invocations_run_each_node_once_and_a_second_batch_none(cluster: Cluster) -> None:
    numbers = batch(0, 500)
    futures = cluster.client.map(work.asked, numbers, pure=False)
    assert cluster.client.gather(futures) == answers(numbers)
    ran = cluster.ran()
    assert {len(pids) for pids in ran.values()} == {1}
    assert len(ran) == NODES
    assert len({pid for pids in ran.values() for pid in pids}) > 1, "one worker did it all: this shows nothing"
    assert cluster.connections() <= 4 * 4
    futures = cluster.client.map(work.asked, numbers, pure=False)
    assert cluster.client.gather(futures) == answers(numbers)
    assert cluster.ran() == {}
    assert cluster.leases() == 0


def test_a_graph_brings_its_engine_and_survives_the_kill_of_a_worker(cluster: Cluster) -> None:
    numbers = batch(1000, 150)
    with cluster.engine(namespace="killed") as engine:
        graph = work.graph(engine)
        states = [{"number": number} for number in numbers]
        futures = cluster.client.map(graph.invoke, states, pure=False)
        cluster.wait_for_runs(20)
        killed = cluster.kill_one()
        results = cluster.client.gather(futures)
        ran = cluster.ran()
        assert [result["text"] for result in results] == answers(numbers)
        assert len(ran) == NODES
        assert {what: pids for what, pids in ran.items() if len([pid for pid in pids if pid != killed]) > 1} == {}
        assert {what: pids for what, pids in ran.items() if pids.count(killed) > 1} == {}
        results = cluster.client.gather(cluster.client.map(graph.invoke, states, pure=False))
        assert [result["text"] for result in results] == answers(numbers)
        assert cluster.ran() == {}
        assert cluster.leases() == 0
        names = {run.name for run in Lineage(engine).runs()}
        assert names == {"report"}


@pytest.mark.soak
def test_500_invocations_survive_three_kills(cluster: Cluster) -> None:
    numbers = batch(10_000, 500)
    with cluster.engine(namespace="killed often") as engine:
        states = [{"number": number} for number in numbers]
        futures = cluster.client.map(work.graph(engine).invoke, states, pure=False)
        killed = set()
        for _ in range(3):
            cluster.wait_for_runs(20 * (len(killed) + 1))
            killed.add(cluster.kill_one())
            cluster.client.wait_for_workers(4, timeout=TIMEOUT)
        assert [result["text"] for result in cluster.client.gather(futures)] == answers(numbers)
        ran = cluster.ran()
        assert len(ran) == NODES
        assert {what: pids for what, pids in ran.items() if len([pid for pid in pids if pid not in killed]) > 1} == {}
        assert cluster.leases() == 0


def test_on_the_event_loops_of_the_workers(cluster: Cluster) -> None:
    numbers = batch(2000, 150)
    futures = cluster.client.map(work.asked_async, numbers, pure=False)
    assert cluster.client.gather(futures) == answers(numbers)
    assert cluster.counted() == (NODES, {1})


def test_a_decorated_function_and_a_runnable(cluster: Cluster) -> None:
    numbers = batch(3000, 200)
    assert cluster.client.gather(cluster.client.map(work.stepped, numbers, pure=False)) == [2 * n for n in numbers]
    assert cluster.counted() == (50, {1})
    with cluster.engine() as engine:
        runnable = musubito_runnable(work.research, engine=engine)
        futures = cluster.client.map(runnable.invoke, numbers, pure=False)
        assert cluster.client.gather(futures) == [f"facts about {n}" for n in numbers]
    assert cluster.counted() == (50, {1})
    # The same code in the same store: the client need not run it either.
    assert work.doubled(numbers[0]).value == 2 * numbers[0]
    assert cluster.ran() == {}


def test_what_cannot_be_imported_is_the_same_code_in_all_workers_and_here(cluster: Cluster) -> None:
    note = work.note

    @work.musubito_step
    def tripled(number: int) -> int:
        note("tripled", number)
        return 3 * number

    def ask(number: int) -> int:
        value: int = tripled(number).value
        return value

    numbers = batch(4000, 100)
    assert cluster.client.gather(cluster.client.map(ask, numbers, pure=False)) == [3 * n for n in numbers]
    assert cluster.counted() == (50, {1})
    assert ask(numbers[0]) == 3 * numbers[0]
    assert cluster.ran() == {}


def test_workers_have_one_engine_for_all_that_they_unpickle(cluster: Cluster) -> None:
    def threads(_: int) -> tuple[int, int]:
        import threading

        return os.getpid(), sum(each.name == "musubito-keeper" for each in threading.enumerate())

    with cluster.engine() as engine:
        for number in range(5):
            runnable = musubito_runnable(
                work.research, engine=engine, semantics=StepConfiguration(ttl_seconds=number + 1)
            )
            cluster.client.gather(cluster.client.map(runnable.invoke, range(5000, 5010), pure=False))
        found = dict(cluster.client.gather(cluster.client.map(threads, range(40), pure=False)))
    # That of MUSUBITO_URL, and one for each namespace that was used.
    assert max(found.values()) <= 3
    # Each has connections of its own.
    assert cluster.connections() <= 2 * 4 * 4 + 1
    cluster.ran()


def test_errors_come_back_whole(cluster: Cluster) -> None:
    with pytest.raises(InputError, match="cannot be compared") as caught:
        cluster.client.submit(work.stepped, iter([1])).result(timeout=TIMEOUT)
    assert caught.value.argument == "number"


def test_the_client_may_use_the_same_engine(cluster: Cluster) -> None:
    with cluster.engine(namespace="client") as engine, use_musubito_engine(engine):
        graph = work.graph(engine)
        assert [graph.invoke({"number": 6000})["text"]] == answers([6000])
        assert cluster.counted() == (3, {1})
        sent = cluster.client.submit(graph.invoke, {"number": 6000})
        assert [sent.result(timeout=TIMEOUT)["text"]] == answers([6000])
        assert cluster.ran() == {}


def test_the_example_of_the_readme(cluster: Cluster) -> None:
    problem = "My dask burns."
    asked, opened = "the model is asked", "a ticket is opened"
    first, again = (cluster.client.submit(work.helped, problem, pure=False).result(timeout=TIMEOUT) for _ in range(2))
    assert first == [asked, opened, asked, "It is ticket 7."]
    assert again == [opened, "It is ticket 7."]
