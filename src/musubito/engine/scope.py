"""Hold where a step call stands: its engine, its run, the enclosing step body, its merge context and its surroundings.

All of it is one immutable `Scope` in one context variable. So tasks and `asyncio.to_thread` inherit the scope, and one
look finds everything. `OpenScopes` serves threads that inherit no scope.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, Protocol

from musubito.code.fingerprint import Fingerprint
from musubito.engine.frame import ANY, BodyHost, Frame, Run
from musubito.engine.modes import Mode
from musubito.engine.samples import Samples
from musubito.model import MusubitoResult


class AmbientContext(Protocol):
    """The surroundings of steps that count as input without being arguments. An adapter for a framework fills them.

    An adapter may define three more methods. `doubts(code)` returns the reason why a step of this code cannot be
    replayed, or None. `named(kind, key)` returns the name that readers see for a read, or "" if the read has no name.
    `run_id()` returns the id of a run that another process may resume, or None.
    """

    def inputs(self, code: Fingerprint, given: Sequence[Fingerprint]) -> Mapping[str, object]:
        """Return the ambient inputs of a step of this code in this scope, as canonical values.

        Examples are a user, a context and a configuration. `given` holds the code of the classes whose instances the
        step is given.
        """

    def observe(self, kind: str, key: str) -> Any:
        """Return the digest of the data that a read would find now, as bytes; None if the data is absent.

        The result may be awaitable.
        """


class UnattributedSamples(Samples):
    """The samples of calls made in a thread that inherited no context while runs are open.

    Such a call may belong to any of the open runs, so none of them is given the same sample twice.
    """

    def __init__(self, runs: Collection[Run]) -> None:
        super().__init__()
        self._runs = runs

    def together(self) -> Sequence[Samples]:
        """Return this record and those of all open runs."""
        return (self, *(run.samples for run in tuple(self._runs)))


class OpenScopes:
    """The runs that are open in an engine, and the step bodies that are running.

    A thread that was started without its caller's context (`ThreadPoolExecutor.submit`) does not know where it stands.
    Its calls count as calls of every open body whose code reaches their step. Too many dependencies are a cost, and one
    too few would be a wrong replay.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[Run, int] = {}
        self._frames: dict[Frame, Frame] = {}
        self._strays: Run | None = None

    def enter(self, run: Run, frame: Frame | None = None) -> None:
        """Note that a run, or a body within a run, begins."""
        with self._lock:
            self._runs[run] = self._runs.get(run, 0) + 1
            if frame is not None:
                self._frames[frame] = frame

    def leave(self, run: Run, frame: Frame | None = None) -> None:
        """Note that a run, or a body within a run, ended.

        After a fork, the child ends bodies that began in its parent, which this record does not know.
        """
        with self._lock:
            left = self._runs.pop(run, 1) - 1
            if left:
                self._runs[run] = left
            if not self._runs:
                self._strays = None
            if frame is not None:
                self._frames.pop(frame, None)
                # Without this, each frame would keep alive all frames that were open when it began, and so on for ever.
                frame.around = [body for body in frame.around if body in self._frames]

    @property
    def is_empty(self) -> bool:
        """Tell whether no run is open and no body runs."""
        return not self._runs

    def stray(self, fresh: Run, operation: str, *, of_bodies: bool = False) -> Run:
        """Return `fresh` as the run of a call that does not know its own run.

        If the call may have come from an open run, `fresh` shares the samples of all that is open. It may have come
        from a run that a user began (unless `of_bodies`), or from a body whose code reaches its step. If all such
        bodies belong to one run, `fresh` becomes a part of that run.
        """
        if self._runs:
            with self._lock:
                begun = not of_bodies and any(run.lines is not None for run in self._runs)
                around = self._bodies_that_reach(operation)
                # The body that began last, if all are of one run.
                body = around[-1] if len({frame.run for frame in around}) == 1 else None
                # In a process that was forked inside a run, the history does not hold the lines of that run.
                if fresh.within is None and body is not None and body.run.owner == fresh.owner:
                    fresh.within = body.run.run_id, body.call
                if begun or around:
                    self._strays = self._strays or fresh
                    if self._strays is fresh:
                        fresh.samples = UnattributedSamples(self._runs)
                    else:
                        fresh.samples = self._strays.samples
        return fresh

    def reaching(self, operation: str, run: Run | None = None) -> list[Frame]:
        """Return the open bodies that a call of this operation may have come from.

        `run` is the call's own run, if the call knows it.
        """
        if not self._frames:
            return []
        apart = run if run is not None and run.side_by_side else None
        with self._lock:
            return [frame for frame in self._bodies_that_reach(operation) if frame.run is not apart]

    def bodies(self) -> list[Frame]:
        """Return the bodies that are open."""
        with self._lock:
            return list(self._frames)

    def _bodies_that_reach(self, operation: str) -> list[Frame]:
        # The call may be the operation itself, or a part that is named after it.
        names = {operation, f"{operation.rpartition('/')[0]}/{ANY}", f"{operation}/{ANY}"}
        return [frame for frame in self._frames if not names.isdisjoint(frame.reaches)]

    def within(self, body: Frame) -> list[Frame]:
        """Return the open bodies that run inside this body, with the body itself if it is open."""
        with self._lock:
            return [frame for frame in self._frames if body in frame.enclosing()]


_CONTROL_FLOW: tuple[type[BaseException], ...] = ()
_LEAVING: tuple[type[BaseException], ...] = ()


def control_flow() -> tuple[type[BaseException], ...]:
    """Return the exceptions by which a framework steers, which are no failures at any depth of steps."""
    return _CONTROL_FLOW


def suspends(error: BaseException) -> bool:
    """Tell whether a framework interrupts a step with this error, to run the step again from its start."""
    return isinstance(error, _CONTROL_FLOW) and not isinstance(error, _LEAVING)


def add_control_flow(*exceptions: type[BaseException], leaving: Sequence[type[BaseException]] = ()) -> None:
    """Register the control-flow exceptions of a framework.

    `leaving` holds the exceptions that end a step for good, so that it is not run again.
    """
    global _CONTROL_FLOW, _LEAVING
    _CONTROL_FLOW = tuple(dict.fromkeys((*_CONTROL_FLOW, *exceptions, *leaving)))
    _LEAVING = tuple(dict.fromkeys((*_LEAVING, *leaving)))


class Scope(NamedTuple):
    """The place of a call: engine, run, enclosing body, merge parents, surroundings and mode."""

    engine: BodyHost | None = None
    run: Run | None = None
    frame: Frame | None = None
    parents: tuple[MusubitoResult[Any], ...] | None = None
    ambient: AmbientContext | None = None
    mode: Mode | None = None
    """The mode that was set for the calls made here; None if only the environment sets one."""


SCOPE: Final[ContextVar[Scope]] = ContextVar("musubito", default=Scope())  # noqa: B039 - it is immutable


@contextmanager
def in_scope(scope: Scope) -> Iterator[None]:
    """Run the block in this scope."""
    token = SCOPE.set(scope)
    try:
        yield
    finally:
        SCOPE.reset(token)
