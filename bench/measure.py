"""How it is measured: contenders take turns, each call is timed, medians count, means show the tail.

What the clock costs itself is taken off. The garbage collector runs between the turns, not within them.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import count
from time import perf_counter_ns, process_time_ns
from typing import NamedTuple

__all__ = ["Call", "Sample", "interleave", "interleave_async"]

Call = Callable[[int], object]
"""One call to be timed. Its argument is a number that no other call of the same contender gets."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one contender took, in seconds a call."""

    median: float
    mean: float
    p99: float
    calls: int
    cpu: float
    """Seconds of CPU that nine calls in ten exceed, which depends least on what other processes do."""

    @classmethod
    def of(cls, seconds: list[float], cpu: list[float] | None = None) -> Sample:
        """Return the sample of at least one call; `cpu` are the seconds of CPU of each, if they were measured."""
        ordered, least = sorted(seconds), sorted(cpu or seconds)
        return cls(
            statistics.median(ordered),
            statistics.fmean(ordered),
            ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
            len(ordered),
            least[len(least) // 10],
        )

    def shared_by(self, many: int) -> Sample:
        """Return the sample of one of `many` that were done in one call."""
        return Sample(self.median / many, self.mean / many, self.p99 / many, self.calls * many, self.cpu / many)


class _Taken(NamedTuple):
    """The seconds that calls took, by the clock and of CPU, threads in the background included."""

    seconds: list[float]
    cpu: list[float]


def interleave(contenders: Mapping[str, Call], *, rounds: int, calls: int) -> dict[str, Sample]:
    """Time `calls` calls of each contender in turn, `rounds` times over, after a turn that does not count."""
    taken = {name: _Taken([], []) for name in contenders}
    numbers = {name: count() for name in contenders}
    for turn in range(rounds + 1):
        for name, call in contenders.items():
            seconds, cpu = _turn(call, numbers[name], calls)
            if turn:
                taken[name].seconds.extend(seconds)
                taken[name].cpu.extend(cpu)
    return {name: Sample.of(*each) for name, each in taken.items()}


async def interleave_async(
    contenders: Mapping[str, Callable[[int], Awaitable[object]]], *, rounds: int, calls: int
) -> dict[str, Sample]:
    """Measure calls that are awaited, as `interleave` measures others."""
    taken = {name: _Taken([], []) for name in contenders}
    numbers = {name: count() for name in contenders}
    for turn in range(rounds + 1):
        for name, call in contenders.items():
            seconds, cpu = await _turn_async(call, numbers[name], calls)
            if turn:
                taken[name].seconds.extend(seconds)
                taken[name].cpu.extend(cpu)
    return {name: Sample.of(*each) for name, each in taken.items()}


def _turn(call: Call, numbers: count[int], calls: int) -> _Taken:
    gc.collect()
    gc.disable()
    try:
        taken, cpu = [], []
        for _ in range(calls):
            number, used = next(numbers), process_time_ns()
            began = perf_counter_ns()
            call(number)
            taken.append(perf_counter_ns() - began)
            cpu.append((process_time_ns() - used) / 1e9)
    finally:
        gc.enable()
    return _Taken([max(each - clock_ns(), 1) / 1e9 for each in taken], cpu)


async def _turn_async(call: Callable[[int], Awaitable[object]], numbers: count[int], calls: int) -> _Taken:
    gc.collect()
    gc.disable()
    try:
        taken, cpu = [], []
        for _ in range(calls):
            number, used = next(numbers), process_time_ns()
            began = perf_counter_ns()
            await call(number)
            taken.append(perf_counter_ns() - began)
            cpu.append((process_time_ns() - used) / 1e9)
    finally:
        gc.enable()
    return _Taken([max(each - clock_ns(), 1) / 1e9 for each in taken], cpu)


@cache
def clock_ns() -> int:
    """Return the seconds that two looks at the clock take."""
    readings = []
    for _ in range(10_001):
        began = perf_counter_ns()
        readings.append(perf_counter_ns() - began)
    return statistics.median_low(readings)
