"""Notice that the file of an open database was removed or replaced.

SQLite would go on with the file that has no name any more: what it writes there is lost with the process.
"""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic
from typing import Final

from musubito.errors import StoreError

# Bound at import: a detector of blocking calls would refuse it on an event loop, where replays are looked up.
_stat: Final = os.stat
INTERVAL: Final = 1.0
"""Seconds between two looks at the file."""


class Presence:
    """The file of an open database: its path, and the inode that is open."""

    __slots__ = ("_inode", "_path", "due")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = self._now()
        self.due = monotonic() + INTERVAL
        """The time of the next look, by `time.monotonic`."""

    def check(self) -> None:
        """Raise `StoreError` if another file is at the path, or none."""
        if self._now() != self._inode:
            raise StoreError(
                f"{self._path} was removed or replaced while it was open, so what is written now would be lost; "
                "restart the program, or open the database again"
            )
        self.due = monotonic() + INTERVAL

    def _now(self) -> tuple[int, int] | None:
        try:
            status = _stat(self._path)
        except OSError:
            return None
        return status.st_dev, status.st_ino
