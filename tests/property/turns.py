"""Threads that run one at a time and change over only where they say so, in an order that a seed decides."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Final

from tests.property.world import Violation

MAX_TURNS: Final = 20_000


class Abandoned(BaseException):
    """The play was called off."""


class _Worker:
    def __init__(self, work: Callable[[], None], context: Context) -> None:
        self.work, self.context = work, context
        self.may_run = threading.Semaphore(0)
        self.done = False
        self.error: BaseException | None = None
        self.thread: threading.Thread


class Turns:
    """Gives each worker its turns until all have come to their end."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._handed_back = threading.Semaphore(0)
        self._here = threading.local()
        self._over = False
        self._left: list[Callable[[], None]] = []

    def play(self, works: Sequence[tuple[Callable[[], None], Context]], events: Sequence[Callable[[], None]]) -> None:
        """Raises what a worker raised, and `Violation` if they never come to an end. `events` happen in between."""
        workers = [_Worker(*work) for work in works]
        for worker in workers:
            worker.thread = threading.Thread(target=self._run, args=(worker,), daemon=True)
            worker.thread.start()
        self._left = left = list(events)
        try:
            for _ in range(MAX_TURNS):
                alive = [worker for worker in workers if not worker.done]
                if not alive:
                    break
                if left and self._rng.random() < 0.05:
                    left.pop(0)()
                    continue
                worker = self._rng.choice(alive)
                worker.may_run.release()
                self._handed_back.acquire()
                if worker.error is not None:
                    raise worker.error
            else:
                raise Violation("the workers never come to an end")
        finally:
            self._over = True
            for worker in workers:
                worker.may_run.release()
            for worker in workers:
                worker.thread.join(timeout=10)
        for event in left:
            event()

    def provoke(self) -> None:
        """This is a moment in which an event may do harm."""
        if self._left and self._rng.random() < 0.3:
            self._left.pop(0)()

    def switch(self) -> None:
        """Another worker may go on. Outside of a play, nothing."""
        worker: _Worker | None = getattr(self._here, "worker", None)
        if worker is not None:
            # What an abandoned worker still does on its way out has no more turns to wait for.
            if not self._over:
                self._handed_back.release()
                worker.may_run.acquire()
            if self._over:
                raise Abandoned

    def _run(self, worker: _Worker) -> None:
        self._here.worker = worker
        worker.may_run.acquire()
        try:
            if not self._over:
                worker.context.run(worker.work)
        except Abandoned:
            pass
        except BaseException as error:
            worker.error = error
        worker.done = True
        self._handed_back.release()
