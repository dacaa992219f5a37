"""Generators are streamed as they go, recorded when they are exhausted, and replayed chunk by chunk."""

from __future__ import annotations

import asyncio
import gc
import time
import traceback
from collections import namedtuple
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from dataclasses import make_dataclass
from typing import Any

import pytest

from musubito import (
    InputError,
    MusubitoEngine,
    MusubitoError,
    MusubitoResult,
    MusubitoStream,
    MusubitoWarning,
    current_node_id,
    musubito_merge,
    musubito_step,
)
from tests.waiting import until

RAN: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    RAN.clear()


@musubito_step()
def counting(n: int) -> Iterator[int]:
    RAN.append("begin")
    for i in range(n):
        RAN.append(i)
        yield i
    RAN.append("end")


@musubito_step()
async def acounting(n: int) -> AsyncIterator[int]:
    RAN.append("begin")
    for i in range(n):
        await asyncio.sleep(0)
        RAN.append(i)
        yield i
    RAN.append("end")


async def collect(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


def test_chunks_come_as_they_are_made(engine: MusubitoEngine) -> None:
    stream = counting(3)
    assert isinstance(stream, MusubitoStream)
    assert RAN == []
    chunks = iter(stream)
    assert (next(chunks), RAN) == (0, ["begin", 0])
    assert (next(chunks), RAN) == (1, ["begin", 0, 1])
    with pytest.raises(MusubitoError, match="exhausted"):
        _ = stream.result
    assert list(chunks) == [2]
    assert RAN == ["begin", 0, 1, 2, "end"]
    assert isinstance(stream.result, MusubitoResult)
    assert stream.result.value == [0, 1, 2]


def test_a_replay_gives_the_same_chunks(engine: MusubitoEngine) -> None:
    first, second, other = counting(2), counting(2), counting(3)
    assert [list(first), list(second), list(other)] == [[0, 1], [0, 1], [0, 1, 2]]
    assert RAN.count("begin") == 2
    assert second.result == first.result
    chunks = iter(counting(2))
    assert next(chunks) == 0
    assert list(chunks) == [1]


def test_async_generators(engine: MusubitoEngine) -> None:
    async def main() -> None:
        stream = acounting(2)
        seen = []
        async for chunk in stream:
            seen.append((chunk, len(RAN)))
        assert seen == [(0, 2), (1, 3)]
        again = acounting(2)
        assert await collect(again) == [0, 1] == again.result.value
        assert again.result == stream.result

    asyncio.run(main())
    assert RAN.count("begin") == 1


def test_an_empty_stream_is_a_result_too(engine: MusubitoEngine) -> None:
    for _ in range(2):
        stream = counting(0)
        assert list(stream) == stream.result.value == []
    assert RAN == ["begin", "end"]


def test_a_stream_is_iterated_once(engine: MusubitoEngine) -> None:
    stream = counting(1)
    list(stream)
    with pytest.raises(MusubitoError, match="once"):
        list(stream)


def test_closed_early_it_is_no_success(engine: MusubitoEngine) -> None:
    closed: list[str] = []

    @musubito_step(name="f")
    def f(n: int) -> Iterator[int]:
        RAN.append("f")
        try:
            yield from range(n)
        finally:
            closed.append("closed")

    stream = f(3)
    for _ in stream:
        break
    del stream, _
    assert closed == ["closed"]
    assert list(f(3)) == [0, 1, 2]
    assert RAN == ["f", "f"]
    assert list(f(3)) == [0, 1, 2]
    assert RAN == ["f", "f"]


def test_async_closed_early_it_is_no_success(engine: MusubitoEngine) -> None:
    async def main() -> None:
        chunks = acounting(3).__aiter__()
        assert await anext(chunks) == 0
        await chunks.aclose()  # type: ignore[attr-defined]
        assert await collect(acounting(3)) == [0, 1, 2]
        assert await collect(acounting(3)) == [0, 1, 2]

    asyncio.run(main())
    assert RAN.count("begin") == 2


def test_a_stream_that_is_cancelled_is_no_success(engine: MusubitoEngine) -> None:
    @musubito_step(name="slow")
    async def slow(n: int) -> AsyncIterator[int]:
        RAN.append("slow")
        yield 0
        await asyncio.sleep(0.01 if RAN.count("slow") > 1 else 30)
        yield 1

    async def main() -> None:
        task = asyncio.create_task(collect(slow(0)))
        await until(lambda: bool(RAN))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await collect(slow(0)) == [0, 1]

    asyncio.run(main())
    assert RAN == ["slow", "slow"]


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
def test_a_failing_stream_raises_what_it_raised(engine: MusubitoEngine, error: BaseException) -> None:
    planned: list[BaseException] = [error]

    @musubito_step(name="f")
    def f(n: int) -> Iterator[int]:
        RAN.append("f")
        yield 1
        if planned:
            raise planned.pop()
        yield 2

    stream = f(0)
    chunks = iter(stream)
    assert next(chunks) == 1
    with pytest.raises(type(error)) as caught:
        next(chunks)
    assert caught.value is error
    with pytest.raises(MusubitoError):
        _ = stream.result
    assert list(f(0)) == [1, 2]
    assert len(RAN) == 2


def test_two_equal_streams_zipped(engine: MusubitoEngine) -> None:
    pairs = list(zip(counting(3), counting(3), strict=True))
    assert pairs == [(0, 0), (1, 1), (2, 2)]
    assert list(counting(3)) == [0, 1, 2]
    assert RAN.count("begin") == 2


def test_a_chunk_changed_by_whoever_is_given_it(engine: MusubitoEngine) -> None:
    @musubito_step(name="lists")
    def lists(n: int) -> Iterator[list[int]]:
        RAN.append("lists")
        for i in range(n):
            yield [i]

    stream = lists(2)
    for chunk in stream:
        chunk.append(99)
    assert stream.result.value == [[0], [1]]
    for chunk in lists(2):
        chunk.append(98)
    assert list(lists(2)) == [[0], [1]]
    assert RAN == ["lists"]


def test_a_chunk_changed_by_the_generator(engine: MusubitoEngine) -> None:
    """What was given stays as it was given: the same list handed out and grown."""

    @musubito_step(name="growing")
    def growing(n: int) -> Iterator[list[int]]:
        chunk: list[int] = []
        for i in range(n):
            chunk.append(i)
            yield chunk

    first = [list(chunk) for chunk in growing(3)]
    assert first == [list(chunk) for chunk in growing(3)] == [[0], [0, 1], [0, 1, 2]]


def test_a_chunk_that_cannot_be_stored(engine: MusubitoEngine) -> None:
    @musubito_step(name="objects")
    def objects(n: int) -> Iterator[object]:
        RAN.append("objects")
        yield object()
        yield 1

    for number in (1, 2):
        with pytest.warns(MusubitoWarning, match="cannot be stored"):
            assert len(list(objects(0))) == 2
        assert len(RAN) == number


def test_steps_in_a_generator_are_inside_of_it(engine: MusubitoEngine) -> None:
    """And what the consumer calls between two chunks is not."""

    @musubito_step(name="inner")
    def inner(x: int) -> int:
        return x

    @musubito_step(name="consumer")
    def consumer(x: int) -> int:
        return x

    @musubito_step(name="outer")
    def outer(n: int) -> Iterator[Any]:
        RAN.append(current_node_id())
        for i in range(n):
            yield inner(i).value

    list(outer(1))  # from then on RAN does not count for it
    RAN.clear()
    stream = outer(2)
    for chunk in stream:
        assert current_node_id() is None
        consumer(chunk)
    assert [stream.result.node_id] == RAN
    rows = engine.storage._reader.execute(  # type: ignore[attr-defined]
        "SELECT count(*) FROM edges WHERE kind = 'call' AND child_node_id = ?", (stream.result.node_id,)
    ).fetchall()
    assert rows == [(2,)]


def test_streams_are_parents(engine: MusubitoEngine) -> None:
    @musubito_step(name="total")
    def total(chunks: MusubitoResult[list[int]]) -> int:
        RAN.append("total")
        return sum(chunks.value)

    for _ in range(2):
        stream = counting(3)
        list(stream)
        assert total(stream.result).value == 3
        with musubito_merge(stream.result):
            total(stream.result)
    assert RAN.count("total") == 1


def test_nothing_stays_open_when_a_stream_has_ended(engine: MusubitoEngine) -> None:
    @musubito_step(name="bad")
    def bad(n: int) -> Iterator[int]:
        yield n
        raise ValueError(n)

    list(counting(2))
    list(counting(2))
    chunks = iter(counting(5))
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    with pytest.raises(ValueError):
        list(bad(1))
    with pytest.raises(InputError):
        list(counting(object()))  # type: ignore[arg-type]
    counting(7)
    assert engine.open._runs == {}
    assert engine.open._frames == {}


# -- classes made inside the generator ---------------------------------------------------------------------------------
def test_chunks_of_a_class_made_inside_the_generator(engine: MusubitoEngine) -> None:
    @musubito_step(name="rows")
    def rows(n: int) -> Iterator[Any]:
        row = namedtuple("row", ["a", "b"])  # noqa: PYI024 - what programs do
        for i in range(n):
            yield row(i, [i])

    seen = []
    stream = rows(2)
    for each in stream:
        seen.append((each.a, list(each.b)))
        each.b.append("changed")
    assert seen == [(0, [0]), (1, [1])] == [tuple(each) for each in stream.result.value]
    assert [each.a for each in rows(2)] == [0, 1]


def test_chunks_of_two_classes_of_one_name(engine: MusubitoEngine) -> None:
    @musubito_step(name="pairs")
    def pairs(n: int) -> Iterator[Any]:
        RAN.append("pairs")
        yield make_dataclass("row", ["a"])(1), make_dataclass("row", ["a"])(2)

    for number in (1, 2):
        stream = pairs(0)
        list(stream)
        ((first, second),) = stream.result.value
        assert (first.a, second.a) == (1, 2)
        assert type(first) is not type(second)
        assert len(RAN) == number


# -- an async generator lives in one task ------------------------------------------------------------------------------
def test_a_time_limit_around_a_yield(engine: MusubitoEngine) -> None:
    @musubito_step(name="limited")
    async def limited(n: int) -> AsyncIterator[int]:
        async with asyncio.timeout(0.05):
            yield 1
            await asyncio.sleep(30)
            yield 2

    async def main() -> None:
        seen = []
        with pytest.raises(TimeoutError):
            async for chunk in limited(0):
                seen.append(chunk)
        assert seen == [1]

    began = time.monotonic()
    asyncio.run(asyncio.wait_for(main(), 10))
    assert time.monotonic() - began < 5
    assert engine.open._frames == {}


def test_a_task_group_in_a_generator(engine: MusubitoEngine) -> None:
    async def failing() -> None:
        await asyncio.sleep(0.02)
        raise KeyError("child")

    @musubito_step(name="grouped")
    async def grouped(n: int) -> AsyncIterator[int]:
        async with asyncio.TaskGroup() as group:
            group.create_task(failing())
            yield 1
            await asyncio.sleep(30)
            yield 2

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            await collect(grouped(0))
        assert [type(error) for error in caught.value.exceptions] == [KeyError]

    began = time.monotonic()
    asyncio.run(asyncio.wait_for(main(), 10))
    assert time.monotonic() - began < 5


def test_one_task_and_one_context_from_the_first_chunk_to_the_last(engine: MusubitoEngine) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="outside")

    @musubito_step(name="f")
    async def f(n: int) -> AsyncIterator[Any]:
        variable.set("inside")
        for _ in range(n):
            RAN.append(asyncio.current_task())
            yield variable.get()

    async def main() -> None:
        async for chunk in f(3):
            assert (chunk, variable.get()) == ("inside", "outside")

    asyncio.run(main())
    assert len(RAN) == 3
    assert len(set(RAN)) == 1


def test_an_async_generator_does_not_run_ahead(engine: MusubitoEngine) -> None:
    async def main() -> None:
        chunks = aiter(acounting(3))
        for number in range(3):
            assert await anext(chunks) == number
            await asyncio.sleep(0.01)
            assert RAN == ["begin", *range(number + 1)]
        assert [chunk async for chunk in chunks] == []

    asyncio.run(main())


def test_a_cancellation_waits_for_the_generators_cleanup(engine: MusubitoEngine) -> None:
    limits: list[asyncio.Timeout] = []

    @musubito_step(name="slow")
    async def slow(n: int) -> AsyncIterator[int]:
        yield 0
        try:
            limits[0].reschedule(asyncio.get_running_loop().time())
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(0.02)
            RAN.append("cleaned up")
            raise

    async def main() -> None:
        before = asyncio.all_tasks()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as limit:
                limits.append(limit)
                await collect(slow(0))
        assert RAN == ["cleaned up"]
        assert engine.open._frames == {}
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before

    asyncio.run(asyncio.wait_for(main(), 10))


def test_a_generator_may_answer_a_cancellation(engine: MusubitoEngine) -> None:
    @musubito_step(name="stubborn")
    async def stubborn(n: int) -> AsyncIterator[str]:
        try:
            RAN.append("begun")
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            yield "last"

    async def main() -> None:
        task = asyncio.create_task(collect(stubborn(0)))
        await until(lambda: bool(RAN))
        task.cancel()
        assert await task == ["last"]

    asyncio.run(asyncio.wait_for(main(), 10))


def test_a_failure_keeps_its_traceback(engine: MusubitoEngine) -> None:
    @musubito_step(name="bad")
    async def bad(n: int) -> AsyncIterator[int]:
        yield 1
        raise KeyError("here")

    with pytest.raises(KeyError) as caught:
        asyncio.run(collect(bad(0)))
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "bad"


# -- nothing stays open ------------------------------------------------------------------------------------------------
def test_a_generator_that_raises_when_it_is_closed(engine: MusubitoEngine) -> None:
    @musubito_step(name="untidy")
    def untidy(n: int) -> Iterator[int]:
        try:
            yield n
        finally:
            raise RuntimeError("cleanup")

    @musubito_step(name="auntidy")
    async def auntidy(n: int) -> AsyncIterator[int]:
        try:
            yield n
        finally:
            raise RuntimeError("cleanup")

    async def main() -> None:
        achunks = aiter(auntidy(1))
        await anext(achunks)
        with pytest.raises(RuntimeError, match="cleanup"):
            await achunks.aclose()  # type: ignore[attr-defined]

    chunks = iter(untidy(1))
    next(chunks)
    with pytest.raises(RuntimeError, match="cleanup"):
        chunks.close()  # type: ignore[attr-defined]
    asyncio.run(main())
    assert engine.open._runs == engine.open._frames == {}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_abandoned_when_its_loop_ends(engine: MusubitoEngine) -> None:
    @musubito_step(name="endless")
    async def endless(n: int) -> AsyncIterator[int]:
        try:
            while True:
                yield n
        finally:
            await asyncio.sleep(0)

    async def main() -> None:
        async for _ in endless(1):
            break

    asyncio.run(main())
    assert engine.open._runs == engine.open._frames == {}
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    del loop
    gc.collect()
    assert engine.open._runs == engine.open._frames == {}
