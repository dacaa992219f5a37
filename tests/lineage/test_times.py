"""Compute and wall: calls side by side add up in the one, and not in the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

import pytest

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, run, use_musubito_engine
from musubito.lineage import Lineage, RunSummary, impact
from musubito.lineage.readers.savings import savings

PART = 0.1
"""Seconds that a part takes."""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[MusubitoEngine]:
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine, use_musubito_engine(engine):
        yield engine


@musubito_step(name="part")
async def part(number: int) -> int:
    await asyncio.sleep(PART)
    return number


@musubito_step(name="whole")
async def whole(parts: int, version: int = 0) -> int:
    got = await asyncio.gather(*(part(number) for number in range(parts)))
    time.sleep(PART)  # noqa: ASYNC251 - work of the step itself
    return len(got)


def summary(engine: MusubitoEngine, name: str) -> RunSummary:
    return Lineage(engine).run(name).summary


def is_about(milliseconds: float | None, seconds: float) -> bool:
    return milliseconds is not None and 1000 * seconds <= milliseconds + 1 < 1000 * (seconds + 2 * PART)


def test_what_is_awaited_side_by_side_adds_up_as_compute_alone(engine: MusubitoEngine) -> None:
    async def work() -> None:
        await asyncio.gather(*(part(number) for number in range(10)))

    for name in ("cold", "warm"):
        began = time.perf_counter()
        with run(name):
            asyncio.run(work())
        took = time.perf_counter() - began
        assert (summary(engine, name).wall_ms or 0.0) <= 1000 * took
    cold, warm = summary(engine, "cold"), summary(engine, "warm")
    assert (is_about(cold.wall_ms, PART), cold.saved_wall_ms, cold.saved_compute_ms) == (True, 0.0, 0.0)
    assert cold.compute_ms >= 10 * PART * 1000 - 1
    assert (warm.compute_ms, warm.saved_compute_ms) == (0.0, pytest.approx(cold.compute_ms))
    assert is_about(warm.saved_wall_ms, PART)


def test_what_is_called_one_after_the_other_adds_up_as_wall(engine: MusubitoEngine) -> None:
    for name in ("cold", "warm"):
        with run(name):
            for number in range(3):
                asyncio.run(part(number))
    assert is_about(summary(engine, "warm").saved_wall_ms, 3 * PART)


def test_a_step_counts_without_the_calls_inside_it(engine: MusubitoEngine) -> None:
    """Also if it is replayed, after a run in which it replayed the calls inside it."""
    for name, version in (("cold", 0), ("edited", 1), ("warm", 1)):
        with run(name):
            asyncio.run(whole(5, version))
    cold, edited, warm = (summary(engine, name) for name in ("cold", "edited", "warm"))
    outer, *inner = Lineage(engine).run("cold").calls
    assert is_about(outer.wall_ms, 2 * PART)
    assert is_about(outer.compute_ms, PART)
    assert cold.compute_ms == pytest.approx(sum(call.compute_ms for call in (outer, *inner)))
    assert cold.compute_ms >= 6 * PART * 1000 - 1
    assert (is_about(edited.compute_ms, PART), is_about(edited.saved_wall_ms, PART)) == (True, True)
    assert warm.saved_compute_ms == pytest.approx(edited.compute_ms + edited.saved_compute_ms)
    assert is_about(warm.saved_wall_ms, 2 * PART)


def test_threads_add_up_as_compute_alone(engine: MusubitoEngine) -> None:
    @musubito_step(name="slow")
    def slow(number: int) -> int:
        time.sleep(PART)
        return number

    for name in ("cold", "warm"):
        with run(name), ThreadPoolExecutor(5) as threads:
            for done in [threads.submit(copy_context().run, slow, number) for number in range(5)]:
                done.result()
    warm = summary(engine, "warm")
    assert warm.saved_compute_ms >= 5 * PART * 1000 - 1
    assert is_about(warm.saved_wall_ms, PART)


def test_savings_and_impact_say_the_same(engine: MusubitoEngine) -> None:
    for name in ("cold", "warm"):
        with run(name):
            asyncio.run(whole(5))
    lineage = Lineage(engine)
    for row in savings(lineage, by="run").rows:
        of_run = lineage.run(row.key).summary
        assert (row.spent, row.saved) == (of_run.spent, of_run.saved)
    by_day = savings(lineage).total
    assert (by_day.wall_ms, by_day.saved_wall_ms) == (None, None)  # the walls of several runs may overlap
    cost = impact(lineage, "part").total.cost
    assert cost.compute_ms == pytest.approx(by_day.compute_ms)
    assert is_about(cost.wall_ms, 2 * PART)


def test_a_run_with_a_failure_says_so(engine: MusubitoEngine) -> None:
    @musubito_step(name="halve")
    def halve(number: int) -> float:
        return 1 / number

    with run("some"):
        for number in range(3):
            try:
                halve(number)
            except ZeroDivisionError:
                continue
    some = summary(engine, "some")
    assert (some.status, some.calls, some.failed) == ("finished with failures", 3, 1)
