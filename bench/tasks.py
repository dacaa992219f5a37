"""Steps under asyncio: replayed in place, and many missing results at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Final

from bench.goals import Seconds
from bench.measure import Sample, interleave_async
from bench.rows import Row, engine_in, executions_in
from musubito import musubito_step

AT_ONCE = 64


async def small(number: int) -> dict[str, object]:
    """Return a result of the size that most steps have."""
    return {"answer": number, "text": "hello"}


def replay_async(folder: Path) -> dict[str, Sample]:
    """Replay on the event loop."""
    step = musubito_step(small)

    async def replay(_: int) -> object:
        return await step(3)

    async def bare(_: int) -> object:
        return await small(3)

    with engine_in(folder):
        samples = asyncio.run(interleave_async({"musubito": replay, "bare": bare}, rounds=10, calls=400))
    assert executions_in(folder) == 1
    return samples


def misses_at_once(folder: Path) -> dict[str, Sample]:
    """Gather steps that all have to run; each call has an argument of its own."""

    def gathering(function: Callable[[int], Awaitable[object]]) -> Callable[[int], Awaitable[object]]:
        numbers = count()

        async def together(_: int) -> object:
            return await asyncio.gather(*(function(next(numbers)) for _ in range(AT_ONCE)))

        return together

    with engine_in(folder):
        contenders = {"musubito": gathering(musubito_step(small)), "bare": gathering(small)}
        taken = asyncio.run(interleave_async(contenders, rounds=10, calls=10))
    assert executions_in(folder) >= taken["musubito"].calls * AT_ONCE
    return {name: sample.shared_by(AT_ONCE) for name, sample in taken.items()}


ROWS: Final = {
    "async": Row("async replay of a small step", (Seconds(20e-6),), replay_async),
    "gather": Row(f"{AT_ONCE} async misses at once, each", (Seconds(80e-6),), misses_at_once),
}
