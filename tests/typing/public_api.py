"""Use the public names as users do. This file is type-checked and never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

from musubito import (
    MusubitoEngine,
    MusubitoResult,
    MusubitoStream,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    musubito_merge,
    musubito_step,
    run,
    use_musubito_engine,
)


@musubito_step
def plain(topic: str, times: int = 1) -> list[str]:
    return [topic] * times


@musubito_step(StepConfiguration(step_type="stochastic", code="version", packages="ignore", on_unknown="rerun"))
def sampled(topic: str) -> int:
    return len(topic)


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="send")
async def send(to: str) -> None:
    print(to)


@musubito_step
def pieces(topic: str) -> Iterator[str]:
    yield topic


@musubito_step
async def later_pieces(topic: str) -> AsyncIterator[str]:
    yield topic


async def use() -> None:
    with (
        MusubitoEngine(SQLiteStorage(":memory:")) as engine,
        use_musubito_engine(engine),
        run(name="all", mode="replay"),
    ):
        result = plain("knots")
        assert_type(result, MusubitoResult[list[str]])
        assert_type(result.value, list[str])
        with musubito_merge(result):
            assert_type(sampled("knots").value, int)
        assert_type(await send("ann"), MusubitoResult[None])
        assert_type(pieces("knots"), MusubitoStream[str])
        async for piece in later_pieces("knots"):
            assert_type(piece, str)
