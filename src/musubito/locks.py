"""Keep the locks of modules usable in forked processes."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from contextlib import nullcontext
from threading import Lock, RLock
from typing import Any, Final, TypeVar

L = TypeVar("L", Lock, RLock)
T = TypeVar("T")

at_fork: Final[Callable[..., None]] = getattr(os, "register_at_fork", lambda **_: None)
"""Registers functions as `os.register_at_fork` does, and nothing on systems without forks."""


def fork_safe(lock: L) -> L:
    """Return the lock, which no fork leaves locked: a child has no thread that could release it."""
    at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock


class cached_property(functools.cached_property[T]):  # noqa: N801 - as in `functools`
    """The property of `functools` without the lock of Python 3.11: a fork leaves that locked in the child for good."""

    def __init__(self, func: Callable[[Any], T]) -> None:
        super().__init__(func)
        self.lock = nullcontext()
