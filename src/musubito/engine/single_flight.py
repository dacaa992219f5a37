"""Compute a missing result once in a process, while other equal calls wait for it (single-flight).

A flight lands with one of three results:

- `LOOK_AGAIN`: the result is in the store, or the next call may try.
- `RUN_YOURSELF`: the outcome could not have been replayed.
- `SharedFailure`: a plain failure.

A failure is passed on only to calls of the very same live objects. A failure that holds samples is passed on only
within its run.

If a call's wait would close a cycle, the call is told so and runs unrecorded. A wait closes a cycle in three cases:

- An enclosing step holds the call's key.
- Two workers would wait for each other.
- The call would block the very event loop that the flight's frame needs.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import Future
from enum import Enum
from itertools import repeat
from types import MemberDescriptorType
from typing import Final, NamedTuple, TypeAlias

from musubito.code.fingerprint import Fingerprint
from musubito.code.live import ATOMS
from musubito.deferred import asyncio
from musubito.engine.frame import Dependencies, Frame, Run

DEEPEST: Final = 20
"""Levels of plain data that are compared; deeper data is taken to differ."""


class JoinResult(Enum):
    """The next action of a call that finds no result."""

    MINE = "compute it"
    CYCLE = "waiting would never end"


class FlightOutcome(Enum):
    """The next action of the calls that waited."""

    LOOK_AGAIN = "look again"
    RUN_YOURSELF = "run yourself"


class SharedFailure(NamedTuple):
    """A plain failure, with the dependencies, the run, the code and the live objects of the failed call."""

    error: BaseException
    handed_up: Dependencies
    run: Run
    code: Fingerprint | None = None
    live: object = None

    @classmethod
    def of(
        cls, error: BaseException, handed_up: Dependencies, run: Run, code: Fingerprint, live: object
    ) -> SharedFailure:
        """Keep a copy of an error, because code that catches the raised error may add to it."""
        return cls(_copy_of(error), handed_up, run, code, live)

    def concerns(self, run: Run, code: Fingerprint, live: object) -> bool:
        """Tell whether another call would have failed likewise.

        Equal calls may differ in objects that do not count for their identity, such as a credential or a client. So the
        failure concerns only calls of the very same objects. A failure that came of samples concerns its own run alone:
        another run may have been given other samples.
        """
        if self.run is not run and self.handed_up.samples:
            return False
        return self.code is code and _are_same(self.live, live)

    def raised(self) -> BaseException:
        """Return a copy of the error for one waiting call.

        If several calls raised one error, it would gather the notes and traces of all.
        """
        return _copy_of(self.error)


def _are_same(one: object, other: object, depth: int = 0) -> bool:
    """Tell whether two values are the same object, or plain data made of the same objects."""
    if one is other:
        return True
    if type(one) is not type(other) or depth > DEEPEST:
        return False
    if isinstance(one, dict) and isinstance(other, dict) and type(one) is dict:
        return one.keys() == other.keys() and all(_are_same(one[key], other[key], depth + 1) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and type(one) in (list, tuple):
        return len(one) == len(other) and all(map(_are_same, one, other, repeat(depth + 1)))
    return type(one) in ATOMS and one == other


def _copy_of(error: BaseException) -> BaseException:
    try:
        twin = copy.copy(error)
    except Exception:  # its class cannot make a copy; then all calls share the error
        return error
    if type(twin) is not type(error) or twin.args != error.args:
        return error
    twin.__traceback__ = error.__traceback__
    twin.__cause__ = error.__cause__
    twin.__context__ = error.__context__
    twin.__suppress_context__ = error.__suppress_context__
    if hasattr(error, "__notes__"):
        twin.__notes__ = list(error.__notes__)
    for cls in type(error).__mro__:
        for slot in vars(cls).values():
            if isinstance(slot, MemberDescriptorType):
                try:
                    slot.__set__(twin, slot.__get__(error))
                except (AttributeError, TypeError):  # never set, or set by its class alone
                    continue
    return twin


FlightResult: TypeAlias = FlightOutcome | SharedFailure


class _Flight:
    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.operation: str | None = None
        """Set once the key is claimed in the store."""
        self.since = 0.0
        self.waiters: list[Future[FlightResult]] = []


def _was_left(flight: _Flight, caller: Frame) -> bool:
    """Tell whether an interrupt (Ctrl-C) ended a flight of this very thread before it could land.

    Such a flight is of the caller's thread, and yet its frame does not enclose the caller.
    """
    holder = flight.frame
    sync = holder.loop is None and caller.loop is None
    return sync and holder.thread == caller.thread and holder not in caller.enclosing()


def _is_stuck(flight: _Flight) -> bool:
    loop = flight.frame.loop
    return loop is not None and not loop.is_running()


class _Waiting(NamedTuple):
    """A call that waits: its frame, the key, and the event loop that it blocks, if it does."""

    frame: Frame
    key: bytes
    blocks: asyncio.AbstractEventLoop | None


class SingleFlight:
    """The flights of one engine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[bytes, _Flight] = {}
        self._waiting: dict[Future[FlightResult], _Waiting] = {}

    def join(
        self, key: bytes, frame: Frame, blocks: asyncio.AbstractEventLoop | None
    ) -> JoinResult | Future[FlightResult]:
        """Begin a flight, or return a future to wait for.

        `frame` is the caller's own, about to run. `blocks` is the event loop that runs in this thread, if waiting would
        block it.
        """
        with self._lock:
            flight = self._flights.get(key)
            if flight is None or _was_left(flight, frame):
                self._flights[key] = _Flight(frame)
                frame.flight = key
                self._land_on(flight, FlightOutcome.LOOK_AGAIN)
                return JoinResult.MINE
            if self._closes_cycle(flight.frame, frame, blocks):
                return JoinResult.CYCLE
            future: Future[FlightResult] = Future()
            if _is_stuck(flight):
                future.set_result(FlightOutcome.RUN_YOURSELF)
                return future
            flight.waiters.append(future)
            self._waiting[future] = _Waiting(frame, key, blocks)
            return future

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing is computed, or is about to be."""
        return not self._flights

    def begin(self, key: bytes, frame: Frame) -> bool:
        """Begin a flight if no other frame has begun it. Tell whether this frame has it now."""
        with self._lock:
            if key in self._flights:
                return False
            self._flights[key] = _Flight(frame)
            frame.flight = key
            return True

    def begun(self, keys: Collection[bytes]) -> frozenset[bytes]:
        """Return the keys among these whose results are computed, or are about to be."""
        with self._lock:
            return frozenset(keys).intersection(self._flights)

    def is_stuck(self, key: bytes) -> bool:
        """Tell whether the frame that computes this key is suspended in an event loop that does not run any more."""
        with self._lock:
            flight = self._flights.get(key)
            return flight is not None and _is_stuck(flight)

    def leave_waiting(self, future: Future[FlightResult]) -> None:
        """End a wait, whatever ended it."""
        with self._lock:
            self._waiting.pop(future, None)

    def claimed(self, key: bytes, operation: str) -> None:
        """Note that the flight's key is claimed in the store, too."""
        flight = self._flights[key]
        flight.since, flight.operation = time.time(), operation

    def land(self, frame: Frame, landed: FlightResult) -> None:
        """End the flight that this frame holds, if it holds one. After a fork, only the parent ends it."""
        key, frame.flight = frame.flight, None
        if key is None:
            return
        with self._lock:
            flight = self._flights.get(key)
            if flight is None or flight.frame is not frame:
                return
            del self._flights[key]
        self._land_on(flight, landed)

    def _land_on(self, flight: _Flight | None, landed: FlightResult) -> None:
        for future in () if flight is None else flight.waiters:
            # A waiter that was cancelled has cancelled its future.
            if future.set_running_or_notify_cancel():
                future.set_result(landed)

    def held(self) -> list[tuple[bytes, str]]:
        """Return all keys that are claimed in the store, each with its operation."""
        with self._lock:
            return [(key, flight.operation) for key, flight in self._flights.items() if flight.operation is not None]

    def since(self, key: bytes) -> float:
        """Return the time since when a key is claimed; the present time if it is not claimed any more."""
        with self._lock:
            flight = self._flights.get(key)
            return time.time() if flight is None else flight.since

    def held_up_by(self, frame: Frame) -> list[tuple[bytes, str]]:
        """Return the claimed keys that cannot be released before this frame goes on."""
        with self._lock:
            frames = set(frame.enclosing())
            grew = True
            while grew:
                before = len(frames)
                for waiting in self._waiting.values():
                    flight = self._flights.get(waiting.key)
                    if flight is not None and flight.frame in frames:
                        frames.update(waiting.frame.enclosing())
                grew = len(frames) > before
            return [
                (key, flight.operation)
                for key, flight in self._flights.items()
                if flight.frame in frames and flight.operation is not None
            ]

    def _closes_cycle(self, holder: Frame, caller: Frame, blocks: asyncio.AbstractEventLoop | None) -> bool:
        """Tell whether the holder cannot go on before the caller does."""
        mine = set(caller.enclosing())
        seen: set[Frame] = set()
        ahead = [holder]
        while ahead:
            frame = ahead.pop()
            if frame in mine or (blocks is not None and frame.loop is blocks):
                return True
            if frame not in seen:
                seen.add(frame)
                ahead += self._waits_inside(frame)
        return False

    def _waits_inside(self, frame: Frame) -> Iterator[Frame]:
        """Yield the frames that this frame waits for, by a call inside it or by a call that blocks its event loop."""
        for waiting in self._waiting.values():
            if (waiting.blocks is not None and waiting.blocks is frame.loop) or frame in waiting.frame.enclosing():
                flight = self._flights.get(waiting.key)
                if flight is not None:
                    yield flight.frame
