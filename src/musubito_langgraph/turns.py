"""Who comes first goes first.

Equal calls of one invocation are told apart by their numbers as samples, which go by the order in which they are
identified. LangGraph begins tasks in their order; but as each runs in a thread of its own, any of them may be
identified first, and a replay would give the samples to other tasks than the first run did.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["Line"]

PATIENCE: Final = 1.0
"""Seconds. Whoever has waited so long goes on: it is a matter of order, and nobody is to hang for it."""


class Line:
    """A line of those that wait for their turn."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._turns: list[object] = []
        self._been: set[str] = set()

    @contextmanager
    def place(self, task: str | None = None, after: str | None = None) -> Iterator[Callable[[], object]]:
        """A place in it, and what waits there: until the task `after` has had its turn; if there is none, until all
        that came before have."""
        turn = object()

        def is_mine() -> bool:
            return self._turns[0] is turn if after is None else after in self._been

        def wait() -> None:
            with self._changed:
                self._changed.wait_for(is_mine, PATIENCE)

        with self._changed:
            if after is None:
                self._turns.append(turn)
        try:
            yield wait
        finally:
            with self._changed:
                if after is None:
                    self._turns.remove(turn)
                if task is not None:
                    self._been.add(task)
                self._changed.notify_all()
