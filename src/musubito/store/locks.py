"""Claims between the processes of one host: a locked byte for each claimed key, in a file beside the database.

Locking and unlocking a byte takes two microseconds where a lease in a table takes a transaction, and the kernel gives
the locks of a process that dies back at once. POSIX record locks have two traps. They do not exclude two holders in one
process: hence one `ByteLocks` for each file and process, which knows who holds what. And they are lost when the process
closes any descriptor of the file: hence it is opened once, and never closed.

A lock that is lost all the same, or two keys that share a byte, cost a second execution or a wait; results do not
depend on claims.
"""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Final

try:
    import fcntl
except ImportError:  # Windows: the store keeps its claims in a table.
    fcntl = None  # type: ignore[assignment]

__all__ = ["ByteLocks", "locks_beside"]

BUSY: Final = (errno.EAGAIN, errno.EACCES)
_OPEN: Final[dict[tuple[int, int], ByteLocks]] = {}
_OPENING = threading.Lock()


class ByteLocks:
    """The locks that this process holds in one file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._held: dict[int, bytes] = {}

    def take(self, key: bytes, owner: bytes, over: bytes | None = None) -> bool:
        """Whether the key is this owner's from now on; False if anybody but `over` holds it."""
        offset = _offset(key)
        with self._lock:
            if offset in self._held:
                if self._held[offset] != over:
                    return False
                self._held[offset] = owner
                return True
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
            except OSError as error:
                if error.errno in BUSY:
                    return False
                raise
            self._held[offset] = owner
            return True

    def is_held(self, key: bytes) -> bool:
        """Whether anybody holds it."""
        offset = _offset(key)
        with self._lock:
            if offset in self._held:
                return True
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, offset)
            except OSError as error:
                if error.errno in BUSY:
                    return True
                raise
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, offset)
            return False

    def give_back(self, key: bytes, owner: bytes) -> None:
        """Nothing if this owner does not hold it."""
        offset = _offset(key)
        with self._lock:
            if self._held.get(offset) == owner:
                del self._held[offset]
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, offset)

    def forget(self) -> None:
        """In the child of a fork: locks stay with the parent."""
        self._lock = threading.Lock()
        self._held.clear()


def locks_beside(database: Path) -> ByteLocks | None:
    """The locks of a database; None where the system has none for this file. Raises OSError if it cannot be made."""
    if fcntl is None:
        return None
    with _OPENING:
        path = f"{database}-locks"
        try:
            about = Path(path).stat()
        except FileNotFoundError:
            pass
        else:
            known = _OPEN.get((about.st_dev, about.st_ino))
            if known is not None:
                return known
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, _offset(b"\xff" * 8))
        except OSError as error:
            if error.errno not in BUSY:
                os.close(descriptor)
                return None
        about = os.fstat(descriptor)
        made = _OPEN[about.st_dev, about.st_ino] = ByteLocks(descriptor)
        return made


def _offset(key: bytes) -> int:
    return int.from_bytes(key[:8], "big") >> 2


def _after_fork_in_child() -> None:
    global _OPENING
    _OPENING = threading.Lock()
    for locks in _OPEN.values():
        locks.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
