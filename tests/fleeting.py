"""A folder in memory, for tests that make hundreds of databases: each of them would wait for the disk several times."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["IN_MEMORY"]

_LINUX_KEEPS_IT_HERE = Path("/dev/shm")
_ENOUGH = 2**30


def _has_room(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK) and shutil.disk_usage(folder).free > _ENOUGH


IN_MEMORY = str(_LINUX_KEEPS_IT_HERE) if _has_room(_LINUX_KEEPS_IT_HERE) else None
"""As `dir` of a `TemporaryDirectory`; None, the usual place, where the system has no such folder or little room there."""
