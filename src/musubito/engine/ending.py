"""When a process ends: at exit, as any does, or as a worker of multiprocessing that was forked, from a fork server too.

Such a worker (of a `Pool`, of a `ProcessPoolExecutor`) never comes to its exit: what it was given to do is followed by
multiprocessing's own finalizers and these by `os._exit`.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from musubito.engine.keeper import LAST_SECONDS
from musubito.errors import LOGGER

__all__ = ["at_end"]

PRIORITY: Final = -1000
"""After whatever else is finalized, which may call steps."""


def at_end(exit_: Callable[[], None], worker: Callable[[], None]) -> None:
    """`exit_` is called when this process exits, `worker` when it or a fork of it ends as a worker."""
    atexit.register(exit_)
    _at_end_of_worker(worker)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: _at_end_of_worker(worker))


def _at_end_of_worker(end: Callable[[], None]) -> None:
    # As long as it is not loaded, no process is a worker of it.
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        _after_each_fork(util, end)
        _finalized(end)


@cache
def _after_each_fork(util: Any, end: Callable[[], None]) -> None:
    """A worker forgets the finalizers that it was forked with, and is then given these."""
    util.register_after_fork(end, _finalized)


def _finalized(end: Callable[[], None]) -> None:
    sys.modules["multiprocessing.util"].Finalize(None, _end_in_time, args=(end,), exitpriority=PRIORITY)


def _end_in_time(end: Callable[[], None]) -> None:
    """Whoever waits for a worker is not held up by a store that does not answer."""
    if sys.modules["multiprocessing.process"].parent_process() is None:
        return  # no worker: it comes to its exit
    if _others():
        # They are waited for after the finalizers, as is this one, and may call steps until then.
        threading.Thread(target=_end_when_alone, args=(end,), name="musubito-last").start()
    else:
        _end(end)


def _end_when_alone(end: Callable[[], None]) -> None:
    while others := _others():
        for other in others:
            other.join()
    _end(end)


def _others() -> list[threading.Thread]:
    """The threads that a process waits for before it ends."""
    known = threading.main_thread(), threading.current_thread()
    return [thread for thread in threading.enumerate() if not thread.daemon and thread not in known]


def _end(end: Callable[[], None]) -> None:
    thread = threading.Thread(target=end, name="musubito-end", daemon=True)
    thread.start()
    thread.join(LAST_SECONDS)
    if thread.is_alive():
        LOGGER.warning("a worker ends before its store has taken what is left for the ledger")
