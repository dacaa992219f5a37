"""Keep the locks of modules usable in forked processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Lock, RLock
from typing import Final, TypeVar

L = TypeVar("L", Lock, RLock)

at_fork: Final[Callable[..., None]] = getattr(os, "register_at_fork", lambda **_: None)
"""Registers functions as `os.register_at_fork` does, and nothing on systems without forks."""


def fork_safe(lock: L) -> L:
    """Return the lock, which no fork leaves locked: a child has no thread that could release it."""
    at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock
