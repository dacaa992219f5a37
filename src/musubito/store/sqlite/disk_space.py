"""Watch the free space on the disk of a database, and keep the last of it for a prune.

What is deleted goes through the log first, so a disk that is full to the last byte could not be pruned. A log that was
not brought into the database is no room, either: the database would have to grow for that.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from time import monotonic
from typing import Final

from musubito.errors import StoreFull

INTERVAL: Final = 1.0
"""Seconds between two looks at a disk that has room."""
LOW: Final = 64_000_000
"""Free bytes below which each look counts, and the log is kept short."""
KEPT: Final = 1_000_000
"""Free bytes that are kept for a prune."""
PAGES: Final = 4000
"""Pages of the log that are brought into the database at a time. The mean commit takes 65 us; at 1000 pages, 80 us."""
PAGES_IF_LOW: Final = 100
"""Pages of the same on a disk that is nearly full."""

if sys.platform == "win32":
    from shutil import disk_usage

    def _free_bytes(folder: Path) -> int:
        return disk_usage(folder).free

else:
    # Bound at import: a detector of blocking calls would refuse it on an event loop.
    _status: Final = os.statvfs

    def _free_bytes(folder: Path) -> int:
        status = _status(folder)
        return status.f_bavail * status.f_frsize


class DiskSpace:
    """The free space on the disk of a database."""

    __slots__ = ("_folder", "due", "free", "is_low")

    def __init__(self, database: Path) -> None:
        self._folder = database.parent
        self.is_low = False
        self.free = LOW
        self.due = 0.0
        """The time of the next look, by `time.monotonic`."""

    def look(self) -> bool:
        """Ask for the free bytes; return whether `is_low` has changed."""
        was_low = self.is_low
        try:
            self.free = _free_bytes(self._folder)
        except OSError:  # a folder that is gone is noticed elsewhere
            self.free = LOW
        self.is_low = self.free < LOW
        self.due = 0.0 if self.is_low else monotonic() + INTERVAL
        return was_low != self.is_low

    def check(self, database: Path) -> None:
        """Raise `StoreFull` if no more may be recorded."""
        if self.free < KEPT:
            raise StoreFull(
                f"{database}: the disk is full: its last {KEPT // 1_000_000} MB is kept for 'musubito prune'"
            )
