"""Threads and tasks: what is computed once, what a cancellation leaves behind, and what never blocks a loop."""

from __future__ import annotations

import asyncio
import time

import pytest

from musubito import MusubitoEngine, musubito_step, run
from tests.waiting import until

RAN: list[str] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    RAN.clear()


@musubito_step(name="work")
def work(x: int) -> int:
    RAN.append(f"work {x}")
    time.sleep(0.005)
    return x


@musubito_step(name="later")
async def later(x: int) -> int:
    RAN.append(f"later {x}")
    await asyncio.sleep(0.005)
    return x


def test_steps_inside_threads_of_a_step_are_inside_of_it(engine: MusubitoEngine) -> None:
    @musubito_step(name="fan")
    async def fan(n: int) -> list[int]:
        RAN.append("fan")
        results = await asyncio.gather(*(asyncio.to_thread(work, i) for i in range(n)))
        return [result.value for result in results]

    assert asyncio.run(fan(4)).value == [0, 1, 2, 3]  # type: ignore[arg-type]
    engine.invalidate("work")
    RAN.clear()
    asyncio.run(fan(4))  # type: ignore[arg-type]
    assert sorted(RAN) == ["fan", *(f"work {i}" for i in range(4))]


def test_a_step_cancelled_while_it_is_recorded_is_recorded_and_cancelled(engine: MusubitoEngine) -> None:
    """At every moment from before the function ran until after its result was written."""

    @musubito_step(name="quick")
    async def quick(x: int) -> int:
        RAN.append(f"quick {x}")
        await asyncio.sleep(0)
        return x

    async def main() -> None:
        for moment in range(12):
            task = asyncio.create_task(quick(moment))
            for _ in range(moment):
                await asyncio.sleep(0)
            await asyncio.sleep(0.0002 * moment)
            task.cancel()
            try:
                result = await task
            except asyncio.CancelledError:
                pass
            else:
                assert result.value == moment
        for moment in range(12):
            assert (await asyncio.wait_for(quick(moment), 10)).value == moment

    asyncio.run(main())
    assert engine.flights._flights == {}
    assert engine.flights._waiting == {}
    assert engine.faults == 0


def test_timeouts_and_task_groups(engine: MusubitoEngine) -> None:
    @musubito_step(name="stuck")
    async def stuck(x: int) -> int:
        RAN.append("stuck")
        await asyncio.sleep(30)
        return x

    @musubito_step(name="failing")
    async def failing(x: int) -> int:
        await until(lambda: len(RAN) >= 2)
        raise ValueError(x)

    async def main() -> None:
        async def expires_once_begun(limit: asyncio.Timeout) -> None:
            await until(lambda: bool(RAN))
            limit.reschedule(asyncio.get_running_loop().time())

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as limit:
                expires = asyncio.create_task(expires_once_begun(limit))
                await stuck(0)
        await expires
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(stuck(0))
                group.create_task(failing(0))
        assert caught.group_contains(ValueError)

    asyncio.run(main())
    assert RAN == ["stuck", "stuck"]
    assert engine.flights._flights == {}


def test_a_loop_that_is_closed_leaves_nothing_claimed(engine: MusubitoEngine) -> None:
    @musubito_step(name="forgotten")
    async def forgotten(x: int) -> int:
        RAN.append("forgotten")
        await asyncio.sleep(30 if len(RAN) == 1 else 0)
        return x

    async def main() -> None:
        task = asyncio.create_task(forgotten(0))
        await until(lambda: bool(RAN))
        assert not task.done()

    asyncio.run(main())
    assert asyncio.run(forgotten(0)).value == 0  # type: ignore[arg-type]
    assert RAN == ["forgotten"] * 2


def test_a_replay_on_a_loop_takes_no_thread(engine: MusubitoEngine) -> None:
    async def main() -> None:
        await later(0)
        before = asyncio.get_running_loop().time()
        steps = 0

        async def ticking() -> None:
            nonlocal steps
            while True:
                steps += 1
                await asyncio.sleep(0)

        ticker = asyncio.create_task(ticking())
        for _ in range(200):
            await later(0)
        ticker.cancel()
        # A replay never gives the loop away: it has nothing to wait for.
        assert steps <= 1
        assert asyncio.get_running_loop().time() - before < 5

    asyncio.run(main())
    assert RAN == ["later 0"]


def test_runs_of_tasks_are_their_own(engine: MusubitoEngine) -> None:
    async def one(name: str) -> list[str]:
        with run(name) as r:
            await later(0)
            await later(1)
            return [call.operation for call in r.calls]

    async def main() -> list[list[str]]:
        return await asyncio.gather(one("a"), one("b"))

    assert asyncio.run(main()) == [["later", "later"]] * 2
