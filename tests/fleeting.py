"""Temporary folders in memory: on a disk, a test waits for each of the databases that it makes several times."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["keep_temporary_files_in_memory"]

_LINUX_KEEPS_IT_HERE = Path("/dev/shm")
_ENOUGH = 4 * 2**30


def _has_room(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK) and shutil.disk_usage(folder).free > _ENOUGH


def keep_temporary_files_in_memory() -> None:
    """Make a folder in memory the temporary one of this process and its children.

    It stays as it is where `TMPDIR` names one, and where the system has no such folder or little room there.
    """
    if "TMPDIR" not in os.environ and _has_room(_LINUX_KEEPS_IT_HERE):
        os.environ["TMPDIR"] = tempfile.tempdir = str(_LINUX_KEEPS_IT_HERE)
