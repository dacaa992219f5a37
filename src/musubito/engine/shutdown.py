"""Call functions when a process ends: at its exit, or as a forked worker of multiprocessing.

A forked worker (of a `Pool`, of a `ProcessPoolExecutor`, from a fork server too) never comes to its exit. After its
work, it runs multiprocessing's own finalizers, and then calls `os._exit`.
"""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from musubito.engine.maintenance import LAST_SECONDS
from musubito.errors import LOGGER
from musubito.locks import at_fork

PRIORITY: Final = -1000
"""The priority of our finalizer: it runs after all others, which may call steps."""


def at_end(exit_: Callable[[], None], worker: Callable[[], None]) -> None:
    """Call `exit_` when this process exits, and `worker` when this process or a fork of it ends as a worker."""
    atexit.register(exit_)
    _at_end_of_worker(worker)
    at_fork(after_in_child=lambda: _at_end_of_worker(worker))


def _at_end_of_worker(end: Callable[[], None]) -> None:
    # While multiprocessing is not loaded, no process is a worker of it.
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        _after_each_fork(util, end)
        _finalized(end)


@cache
def _after_each_fork(util: Any, end: Callable[[], None]) -> None:
    """Register the finalizer for each fork, because a worker drops the finalizers that it was forked with."""
    util.register_after_fork(end, _finalized)


def _finalized(end: Callable[[], None]) -> None:
    sys.modules["multiprocessing.util"].Finalize(None, _end_in_time, args=(end,), exitpriority=PRIORITY)


def _end_in_time(end: Callable[[], None]) -> None:
    """Call `end`, and wait for it no longer than `LAST_SECONDS`.

    Otherwise a store that does not answer would hold up the process that waits for a worker.
    """
    if sys.modules["multiprocessing.process"].parent_process() is None:
        return  # no worker: this process comes to its exit
    if _other_threads():
        # The process waits for these threads after the finalizers, as it does for this one. The threads may call steps
        # until then.
        threading.Thread(target=_end_when_alone, args=(end,), name="musubito-last").start()
    else:
        _end(end)


def _end_when_alone(end: Callable[[], None]) -> None:
    while others := _other_threads():
        for other in others:
            other.join()
    _end(end)


def _other_threads() -> list[threading.Thread]:
    """Return the threads that a process waits for before it ends."""
    own = threading.main_thread(), threading.current_thread()
    return [thread for thread in threading.enumerate() if not thread.daemon and thread not in own]


def _end(end: Callable[[], None]) -> None:
    thread = threading.Thread(target=end, name="musubito-end", daemon=True)
    thread.start()
    thread.join(LAST_SECONDS)
    if thread.is_alive():
        LOGGER.warning("a worker ends before its store has taken the rest of the history")
