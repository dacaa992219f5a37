"""Keep the locks of modules usable in forked processes."""

from __future__ import annotations

import os
from threading import Lock, RLock
from typing import TypeVar

L = TypeVar("L", Lock, RLock)


def fork_safe(lock: L) -> L:
    """Return the lock, which no fork leaves locked: a child has no thread that could release it."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock
