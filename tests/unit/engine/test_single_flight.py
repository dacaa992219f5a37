"""Flights: who computes, who waits, and which waits would never end."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from concurrent.futures import Future
from itertools import count
from typing import Any, cast

import pytest

from musubito.engine.frame import Dependencies, Frame, Run
from musubito.engine.single_flight import FlightOutcome, JoinResult, SharedFailure, SingleFlight
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


def test_the_first_computes_and_the_others_wait() -> None:
    flights, holder = SingleFlight(), frame()
    assert flights.join(b"k", holder, None) is JoinResult.MINE
    futures = [waits(flights, b"k", frame()) for _ in range(3)]
    assert flights.join(b"other", frame(), None) is JoinResult.MINE
    assert not any(future.done() for future in futures)
    flights.land(holder, FlightOutcome.LOOK_AGAIN)
    assert [future.result(0) for future in futures] == [FlightOutcome.LOOK_AGAIN] * 3
    assert flights.join(b"k", frame(), None) is JoinResult.MINE


def test_how_it_landed_is_told() -> None:
    flights, holder = SingleFlight(), frame()
    failed = SharedFailure(ValueError(), Dependencies((), (), None, None, None, samples=False), Run(1, 0.0))
    for landed in (failed, FlightOutcome.RUN_YOURSELF):
        assert flights.join(b"k", holder, None) is JoinResult.MINE
        future = waits(flights, b"k", frame())
        flights.land(holder, landed)
        assert future.result(0) is landed


def test_landing_twice_ends_nobody_elses_flight() -> None:
    flights, first, second = SingleFlight(), frame(), frame()
    flights.join(b"k", first, None)
    flights.land(first, FlightOutcome.LOOK_AGAIN)
    flights.join(b"k", second, None)
    flights.land(first, FlightOutcome.RUN_YOURSELF)
    assert isinstance(flights.join(b"k", frame(), None), Future)
    flights.land(frame(), FlightOutcome.RUN_YOURSELF)


def test_a_waiter_that_was_cancelled_is_left_out() -> None:
    flights, holder = SingleFlight(), frame()
    flights.join(b"k", holder, None)
    gone, stays = waits(flights, b"k", frame()), waits(flights, b"k", frame())
    gone.cancel()
    flights.leave_waiting(gone)
    flights.land(holder, FlightOutcome.LOOK_AGAIN)
    assert stays.result(0) is FlightOutcome.LOOK_AGAIN
    assert gone.cancelled()


def test_an_enclosing_step_that_holds_the_key_is_a_cycle() -> None:
    flights, holder = SingleFlight(), frame()
    flights.join(b"k", holder, None)
    assert flights.join(b"k", frame(holder), None) is JoinResult.CYCLE
    assert flights.join(b"k", frame(frame(frame(holder))), None) is JoinResult.CYCLE
    assert isinstance(flights.join(b"k", frame(frame()), None), Future)


def test_two_that_wait_for_each_other_are_a_cycle() -> None:
    flights, one, two = SingleFlight(), frame(), frame()
    flights.join(b"1", one, None)
    flights.join(b"2", two, None)
    future = waits(flights, b"2", frame(one))
    assert flights.join(b"1", frame(two), None) is JoinResult.CYCLE
    flights.leave_waiting(future)
    assert isinstance(flights.join(b"1", frame(two), None), Future)


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


def test_what_is_held_up_by_a_step() -> None:
    flights, outer, waiting, elsewhere = SingleFlight(), frame(), frame(), frame()
    inner = frame(outer)
    for key, holder in ((b"outer", outer), (b"inner", inner), (b"waiting", waiting), (b"elsewhere", elsewhere)):
        flights.join(key, holder, None)
    waits(flights, b"inner", frame(waiting))
    assert flights.held_up_by(inner) == []
    for key in (b"outer", b"inner", b"waiting", b"elsewhere"):
        flights.claimed(key, f"op {key.decode()}")
    held = {(b"outer", "op outer"), (b"inner", "op inner"), (b"waiting", "op waiting")}
    assert set(flights.held_up_by(inner)) == held
    assert set(flights.held_up_by(elsewhere)) == {(b"elsewhere", "op elsewhere")}
    assert {key for key, _ in flights.held()} == {b"outer", b"inner", b"waiting", b"elsewhere"}


@pytest.mark.parametrize("landed", [FlightOutcome.LOOK_AGAIN, FlightOutcome.RUN_YOURSELF])
def test_nothing_is_left_behind(landed: FlightOutcome) -> None:
    flights, holder = SingleFlight(), frame()
    flights.join(b"k", holder, None)
    future = waits(flights, b"k", frame())
    flights.land(holder, landed)
    flights.leave_waiting(future)
    assert (flights._flights, flights._waiting, holder.flight) == ({}, {}, None)


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
