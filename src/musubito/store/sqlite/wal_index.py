"""Tell from the index of SQLite's write-ahead log whether anybody has committed to a database.

A database in WAL mode has a file `-shm` beside it, which all its connections map into memory. The file begins with a
header, which is there twice (https://sqlite.org/walformat.html). Every commit writes a new header: the header counts
the commits and holds a checksum of the log. So nobody has committed while the header is the same. A comparison takes a
tenth of a microsecond. `PRAGMA data_version` compares the same bytes, and takes thirty times as long.

SQLite keeps its locks in this file, and a process loses all its locks on a file when it closes any descriptor of it. So
each descriptor stays open until the file was deleted; a mapping has one of its own. SQLite deletes the file when the
last connection of all is closed.
"""

from __future__ import annotations

import os
import sys
import threading
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Final

HEADER: Final = 96
"""Bytes of the header and its copy."""
COUNT: Final = slice(8, 12)
"""The bytes of the header that count the commits, in the byte order of the machine."""
VERSION: Final = (3_007_000).to_bytes(4, sys.byteorder)
"""The beginning of the header: the version of this format."""
_OPEN: Final[dict[tuple[int, int], tuple[int, mmap]]] = {}
"""The descriptor and the mapping of each file, by its device and inode."""
_OPENING: Final = threading.Lock()


def index_of(database: Path) -> mmap | None:
    """Return the mapped index of an open database; None if the index cannot be mapped.

    The file may be the index of another database, which was at this path before. A caller has to see that a commit of
    its own changes the header.
    """
    if os.name != "posix":
        return None
    with _OPENING:
        try:
            _close_deleted()
            index = _mapped(Path(f"{database}-shm"))
        except (OSError, ValueError):  # ValueError: the file is shorter than a header
            return None
        return index if index[: len(VERSION)] == VERSION else None


def commits_between(before: bytes, after: bytes) -> int:
    """Return the number of commits between two headers of one index."""
    return (int.from_bytes(after[COUNT], sys.byteorder) - int.from_bytes(before[COUNT], sys.byteorder)) % 2**32


def _mapped(path: Path) -> mmap:
    """Return the one mapping of a file in this process."""
    info = path.stat()
    key = info.st_dev, info.st_ino
    if key not in _OPEN:
        # From here on the descriptor stays open, whatever happens.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        info = os.fstat(descriptor)
        key = info.st_dev, info.st_ino
        if key not in _OPEN:  # another file may have come to this path
            _OPEN[key] = descriptor, mmap(descriptor, HEADER, access=ACCESS_READ)
    return _OPEN[key][1]


def _close_deleted() -> None:
    for key, (descriptor, _) in list(_OPEN.items()):
        info = os.fstat(descriptor)
        # A program that closes all its descriptors may use the number for a file of its own.
        if info.st_nlink == 0 and (info.st_dev, info.st_ino) == key:
            del _OPEN[key]
            os.close(descriptor)
