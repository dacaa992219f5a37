"""Close every database for the moment of a fork.

SQLite keeps one table of its files and locks for the whole process. A child that inherits the table believes that it
holds locks which only its parent holds. Other processes then remove the log that the child uses. A thread that was
inside SQLite at the fork leaves a mutex locked for ever in the child. So at the moment of a fork no thread is inside,
and every file is closed.
"""

from __future__ import annotations

import threading
import weakref
from typing import Final, Protocol

from musubito.locks import at_fork


class Forkable(Protocol):
    """A store that a fork closes for its moment."""

    def close_for_fork(self) -> None:
        """Close every file, and keep all threads out of SQLite until `reopen`."""

    def reopen(self) -> None:
        """Let the threads use SQLite again."""


OPEN: Final[weakref.WeakSet[Forkable]] = weakref.WeakSet()
"""The stores that are open in this process."""
OPENING: Final = threading.Lock()
"""Held while a store is opened or closed, and during a fork."""
_CLOSED: Final[list[Forkable]] = []


def _before_fork() -> None:
    OPENING.acquire()
    for store in list(OPEN):
        store.close_for_fork()
        _CLOSED.append(store)


def _after_fork() -> None:
    while _CLOSED:
        _CLOSED.pop().reopen()
    OPENING.release()


at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
