"""Claims between the processes of one host: a locked byte for each claimed key, in a file beside the database.

Locking and unlocking a byte takes two microseconds; a lease in a table takes a transaction. When a process dies, the
kernel releases its locks at once. POSIX record locks have two traps:

- They do not exclude two owners in one process. So each process has one `ByteLocks` for a file, which knows the owners.
- A process loses its locks when it closes any descriptor of the file. So the file is opened once, and never closed.

A lost lock costs a second execution. Two keys that share a byte cost a wait. Results do not depend on claims.
"""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Final

from musubito.locks import at_fork

try:
    import fcntl
except ImportError:  # On Windows the store keeps its claims in a table.
    fcntl = None  # type: ignore[assignment]

BUSY: Final = (errno.EAGAIN, errno.EACCES)
"""Error numbers that say that another process has the lock."""
_OPEN: Final[dict[tuple[int, int], ByteLocks]] = {}
"""The locks of this process, by the device and inode of their file."""
_OPENING = threading.Lock()


class ByteLocks:
    """The locks that this process has in one file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._held: dict[int, bytes] = {}

    def take(self, key: bytes, owner: bytes, over: bytes | None = None) -> bool:
        """Lock a key for an owner and return True; return False if an owner other than `over` has the lock."""
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
        """Return whether any owner, in any process, has the lock of a key."""
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
        """Unlock a key; do nothing if this owner does not have the lock."""
        offset = _offset(key)
        with self._lock:
            if self._held.get(offset) == owner:
                del self._held[offset]
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, offset)

    def forget(self) -> None:
        """Drop all locks in the child of a fork, since they stay with the parent."""
        self._lock = threading.Lock()
        self._held.clear()


def locks_beside(database: Path) -> ByteLocks | None:
    """Return the locks of a database; None if the system has no locks for this file.

    Raise OSError if the file cannot be made.
    """
    if fcntl is None:
        return None
    with _OPENING:
        path = f"{database}-locks"
        try:
            info = Path(path).stat()
        except FileNotFoundError:
            pass
        else:
            cached = _OPEN.get((info.st_dev, info.st_ino))
            if cached is not None:
                return cached
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, _offset(b"\xff" * 8))
        except OSError as error:
            if error.errno not in BUSY:
                os.close(descriptor)
                return None
        info = os.fstat(descriptor)
        locks = _OPEN[info.st_dev, info.st_ino] = ByteLocks(descriptor)
        return locks


def _offset(key: bytes) -> int:
    return int.from_bytes(key[:8], "big") >> 2


def _after_fork_in_child() -> None:
    global _OPENING
    _OPENING = threading.Lock()
    for locks in _OPEN.values():
        locks.forget()


at_fork(after_in_child=_after_fork_in_child)
