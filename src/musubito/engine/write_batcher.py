"""Write for event loops on one thread, with all writes of one tick of a loop in one transaction.

A transaction for each write would cost a commit and a thread hop each. Together, 64 concurrent first runs cost two.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

from musubito.deferred import asyncio
from musubito.errors import StoreBusy
from musubito.store.changes import Change
from musubito.store.protocol import Store


class _Submitted(NamedTuple):
    change: Change
    answer: asyncio.Future[Any]


class Writer:
    """The writer thread of an engine. It starts with the first write."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._pending: dict[asyncio.AbstractEventLoop, list[_Submitted]] = {}
        self._queue: queue.SimpleQueue[tuple[asyncio.AbstractEventLoop, list[_Submitted]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, change: Change) -> asyncio.Future[Any]:
        """Submit a change, and return a future of its answer for the running loop."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        with self._lock:
            pending = self._pending.setdefault(loop, [])
            pending.append(_Submitted(change, answer))
            if len(pending) == 1:
                loop.call_soon(self._hand_over, loop)
        return answer

    def close(self) -> None:
        """End the thread after the writes that were submitted."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            batch = self._pending.pop(loop, [])
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="musubito-writer", daemon=True)
                self._thread.start()
        self._queue.put((loop, batch))

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            loop, batch = job
            answers = self._write([submitted.change for submitted in batch])
            outcomes = list(zip((s.answer for s in batch), answers, strict=True))
            try:
                loop.call_soon_threadsafe(_deliver, outcomes)
            except RuntimeError:
                # The loop was closed meanwhile. The changes are written, and nothing waits for the answers.
                continue

    def _write(self, changes: Sequence[Change]) -> list[Any]:
        """Write all changes in one transaction.

        If that fails, write each change on its own, so that one bad write fails no other.
        """
        try:
            return self._store.write(changes)
        except StoreBusy as error:
            # Each on its own would wait as long again.
            return [error] * len(changes)
        except Exception as error:  # any error is raised where the answer is awaited
            if len(changes) > 1:
                return [answer for change in changes for answer in self._write([change])]
            return [error]


def _deliver(outcomes: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, outcome in outcomes:
        if future.done():
            continue
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
