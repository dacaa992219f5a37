"""Flights: who computes, who waits, and which waits would never end."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from concurrent.futures import Future
from itertools import count
from typing import Any, cast

from musubito.engine.frame import Frame, Run
from musubito.engine.single_flight import FlightOutcome, JoinResult, SingleFlight
from musubito.model import StepConfiguration, StepDefinition

NOTHING: Any = None


class Running:
    """An event loop that runs."""

    def is_running(self) -> bool:
        return True


THREADS = count()


def frame(outer: Frame | None = None, loop: object = None) -> Frame:
    """Of a thread of its own."""
    made = Frame(
        *(NOTHING, () if outer is None else (outer,), b"", Run(1, 0.0), 1, ()),
        cast("AbstractEventLoop | None", loop),
        StepDefinition(print, "step", StepConfiguration(), None),
    )
    made.thread = next(THREADS)
    return made


def waits(flights: SingleFlight, key: bytes, caller: Frame, blocks: object = None) -> Future[Any]:
    future = flights.join(key, caller, cast("AbstractEventLoop | None", blocks))
    assert isinstance(future, Future)
    return future


def test_a_longer_round_is_a_cycle_too() -> None:
    flights = SingleFlight()
    frames = [frame() for _ in range(4)]
    for number, holder in enumerate(frames):
        flights.join(bytes([number]), holder, None)
    for number in range(3):
        waits(flights, bytes([number + 1]), frame(frame(frames[number])))
    assert flights.join(bytes([0]), frame(frames[3]), None) is JoinResult.CYCLE
    assert isinstance(flights.join(bytes([0]), frame(), None), Future)


def test_one_of_several_waits_inside_a_step_is_enough() -> None:
    """Its calls may run side by side: it goes on only when all of them have ended."""
    flights, outer, other, free = SingleFlight(), frame(), frame(), frame()
    flights.join(b"outer", outer, None)
    flights.join(b"other", other, None)
    flights.join(b"free", free, None)
    waits(flights, b"free", frame(outer))
    waits(flights, b"other", frame(outer))
    assert flights.join(b"outer", frame(other), None) is JoinResult.CYCLE


def test_a_wait_that_blocks_the_holders_loop_is_a_cycle() -> None:
    flights, loop = SingleFlight(), Running()
    holder = frame(loop=loop)
    flights.join(b"k", holder, None)
    assert flights.join(b"k", frame(), cast("Any", loop)) is JoinResult.CYCLE
    assert isinstance(flights.join(b"k", frame(), cast("Any", object())), Future)
    assert isinstance(flights.join(b"k", frame(loop=loop), None), Future)


def test_a_blocked_loop_holds_up_all_that_run_on_it() -> None:
    """One task blocks the loop with a wait for a thread; that thread must not wait for another task of the loop."""
    flights, loop = SingleFlight(), Running()
    thread, task = frame(), frame(loop=loop)
    flights.join(b"thread", thread, None)
    flights.join(b"task", task, None)
    waits(flights, b"thread", frame(), blocks=loop)
    assert flights.join(b"task", frame(thread), None) is JoinResult.CYCLE


def test_a_blocking_wait_behind_another_wait() -> None:
    flights, loop = SingleFlight(), Running()
    task, thread = frame(loop=loop), frame()
    flights.join(b"task", task, None)
    flights.join(b"thread", thread, None)
    waits(flights, b"task", frame(thread))
    assert flights.join(b"thread", frame(), cast("Any", loop)) is JoinResult.CYCLE


def test_what_an_interrupt_has_left_is_begun_again() -> None:
    """A call of the very thread that holds the key, and not inside of the holder, finds that the holder is gone."""
    flights, left = SingleFlight(), frame()
    assert flights.join(b"k", left, None) is JoinResult.MINE
    waiting = waits(flights, b"k", frame())
    again = frame()
    again.thread = left.thread
    assert flights.join(b"k", again, None) is JoinResult.MINE
    assert waiting.result(1) is FlightOutcome.LOOK_AGAIN
    flights.land(left, FlightOutcome.RUN_YOURSELF)
    assert isinstance(flights.join(b"k", frame(), None), Future)
