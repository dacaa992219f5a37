"""Streams that are left unfinished, changed between two chunks, or begun later than they were called for."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from musubito import InputError, musubito_step, run
from tests.soundness.world import STOCHASTIC, World, ttl

KEPT = []
PROMPT = "A"


@musubito_step(name="prompted")
def prompted(x):
    yield PROMPT + x
    yield PROMPT + x


@pytest.fixture(autouse=True)
def as_it_was():
    global PROMPT
    PROMPT = "A"
    KEPT.clear()
    yield
    KEPT.clear()


def broken_off(stream):
    async def first(x):
        async for chunk in stream(x):
            return chunk
        return None

    return first


def asked_once(stream):
    async def first(x):
        return await anext(aiter(stream(x)))

    return first


def kept(stream):
    async def first(x):
        chunks = aiter(stream(x))
        KEPT.append(chunks)
        return await anext(chunks)

    return first


LEFT = pytest.mark.parametrize("left", [broken_off, asked_once, kept])


def called(step, x):
    """In a loop of its own, which lives on for a moment."""

    async def main():
        value = (await step(x)).value
        await asyncio.sleep(0.01)
        for chunks in KEPT:
            await chunks.aclose()
        KEPT.clear()
        return value

    return asyncio.run(main())


def nested(w: World, policy, left):
    @musubito_step(policy, name="price")
    async def price(x):
        return w.draw("price")

    @musubito_step(name="ticks")
    async def ticks(x):
        while True:
            yield (await price(x)).value

    first = left(ticks)

    @musubito_step(name="outer")
    async def outer(x):
        w.count("outer")
        return await first(x)

    return price, outer


@LEFT
def test_an_outer_step_does_not_outlive_what_an_unfinished_stream_called(w: World, left) -> None:
    price, outer = nested(w, ttl(10), left)
    before = called(outer, 1)
    w.now += 20
    assert called(outer, 1) != before
    assert w.ran["price"] == w.ran["outer"] == 2


@LEFT
def test_an_invalidation_reaches_through_an_unfinished_stream(w: World, left) -> None:
    price, outer = nested(w, ttl(1000), left)
    before = called(outer, 1)
    w.engine.invalidate(price)
    assert called(outer, 1) != before


@LEFT
def test_a_sample_in_an_unfinished_stream_is_given_once(w: World, left) -> None:
    price, outer = nested(w, STOCHASTIC, left)
    with run():
        called(outer, 1)
    with run():
        assert called(price, 1) != called(outer, 1)


@LEFT
def test_a_step_around_the_step_that_left_a_stream(w: World, left) -> None:
    """And one that goes on although the step in between failed."""
    price, outer = nested(w, ttl(10), left)
    values = []

    @musubito_step(name="failing")
    async def failing(x):
        values.append((await outer(x)).value)
        raise KeyError

    @musubito_step(name="outermost")
    async def outermost(x):
        try:
            await failing(x)
        except KeyError:
            return w.count("outermost")

    called(outermost, 1)
    w.now += 20
    called(outermost, 1)
    assert w.ran["outermost"] == 2


def test_an_iterator_that_is_kept(w: World) -> None:
    @musubito_step(ttl(10), name="price")
    def price(x):
        return w.draw("price")

    @musubito_step(name="ticks")
    def ticks(x):
        while True:
            yield price(x).value

    @musubito_step(name="outer")
    def outer(x):
        chunks = iter(ticks(x))
        KEPT.append(chunks)
        return next(chunks)

    before = outer(1).value
    w.now += 20
    assert outer(1).value != before


def test_a_failed_step_that_left_a_stream(w: World) -> None:
    @musubito_step(ttl(10), name="price")
    def price(x):
        return w.draw("price")

    @musubito_step(name="ticks")
    def ticks(x):
        while True:
            yield price(x).value

    @musubito_step(name="middle")
    def middle(x):
        chunks = iter(ticks(x))
        KEPT.append(chunks)
        raise KeyError(next(chunks))

    @musubito_step(name="outer")
    def outer(x):
        try:
            middle(x)
        except KeyError as error:
            return error.args[0]

    before = outer(1).value
    w.now += 20
    assert outer(1).value != before


def test_a_stream_that_was_closed_in_time_costs_no_replay(w: World) -> None:
    @musubito_step(name="ticks")
    def ticks(x):
        while True:
            yield w.draw("ticks")

    @musubito_step(name="outer")
    def outer(x):
        w.count("outer")
        return next(iter(ticks(x)))

    assert outer(1) == outer(1)
    assert w.ran["outer"] == 1


# -- what ran is what is recorded --------------------------------------------------------------------------------------
def test_code_that_changes_before_the_stream_begins(w: World) -> None:
    global PROMPT
    stream = prompted("x")
    PROMPT = "B"
    assert list(stream) == ["Bx", "Bx"]
    PROMPT = "A"
    assert list(prompted("x")) == ["Ax", "Ax"]
    PROMPT = "B"
    assert prompted("x").__repr__().endswith("not begun>")
    assert list(prompted("x")) == ["Bx", "Bx"]


def test_code_that_changes_between_two_chunks(w: World) -> None:
    global PROMPT
    chunks = iter(prompted("x"))
    assert next(chunks) == "Ax"
    PROMPT = "B"
    assert list(chunks) == ["Bx"]
    PROMPT = "A"
    assert list(prompted("x")) == ["Ax", "Ax"]


def test_arguments_that_change_before_the_stream_begins(w: World) -> None:
    @musubito_step(name="each")
    def each(xs):
        yield from xs

    xs = [1]
    stream = each(xs)
    xs.append(2)
    assert list(stream) == [1, 2] == list(each([1, 2]))
    assert list(each([1])) == [1]


def test_what_is_wrong_with_the_arguments_is_said_at_the_call(w: World) -> None:
    with pytest.raises(InputError):
        prompted(object())
    with pytest.raises(TypeError):
        prompted()


def test_a_chunk_that_can_be_stored_only_after_it_was_given(w: World) -> None:
    """What whoever iterates makes of it is not what the generator gave."""

    @musubito_step(name="mixed")
    def mixed(x):
        w.count("mixed")
        yield [1, object()]

    for chunk in mixed(0):
        chunk.pop()
    ((one, other),) = mixed(0)
    assert w.ran["mixed"] == 2


# -- fork --------------------------------------------------------------------------------------------------------------
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def in_child(pid, work):
    """The child leaves at the end of `work`, with 0 if that went well; the parent waits for it."""
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = 1
    try:
        work()
        status = 0
    except BaseException as error:
        print(repr(error), file=sys.stderr)
    finally:
        os._exit(status)


@forks
def test_a_fork_inside_a_run(w: World) -> None:
    @musubito_step(name="one")
    def one(x):
        return x

    this = run()
    this.__enter__()
    one(1)
    pid = os.fork()
    assert in_child(pid, lambda: (one(2), this.__exit__(None, None, None))) == 0
    this.__exit__(None, None, None)
    assert w.engine.open._runs == {}


@forks
def test_a_fork_inside_a_step(w: World) -> None:
    @musubito_step(name="inner")
    def inner(x):
        return x

    @musubito_step(name="forking")
    def forking(x):
        pids.append(os.fork())
        return inner(x).value

    pids = []
    this = os.getpid()
    try:
        assert forking(1).value == 1
    except BaseException:
        if os.getpid() == this:
            raise
        os._exit(1)
    assert in_child(pids[0], lambda: None) == 0
    assert w.engine.open._runs == w.engine.open._frames == w.engine.flights._flights == {}
