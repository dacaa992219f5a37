"""Who this process is, and whether the process that holds a lease is still there.

A pid alone does not name a process: it is used again. With the moment at which the process started, and the host with
its boot and its pid namespace, it does.
"""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

from musubito.store.base import Holder

__all__ = ["is_dead", "is_of_this_host", "this_host", "this_process"]


@cache
def this_host() -> str:
    """This machine since it booted, and within it this pid namespace (containers share names, not pids)."""
    boot = _read(Path("/proc/sys/kernel/random/boot_id"))
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return f"{platform.node()} {boot} {namespace}".strip()


def this_process() -> str:
    """What tells this process from others that had or will have its pid; "" where the system does not say."""
    return _started(_line(os.getpid()))


def is_of_this_host(holder: Holder) -> bool:
    """Whether it can be told from here if its process is still there."""
    return holder.host == this_host() and bool(holder.process)


def is_dead(holder: Holder) -> bool:
    """Whether the holder is known to be gone: only said of processes of this host."""
    if not is_of_this_host(holder):
        return False
    line = _line(holder.pid)
    return _started(line) != holder.process if line else not _exists(holder.pid)


def _exists(pid: int) -> bool:
    """A process of another user may be there without a line that we can see (the mount options of /proc hide it)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _line(pid: int) -> str:
    return _read(Path(f"/proc/{pid}/stat"))


def _started(line: str) -> str:
    # The name of the program, in brackets, may hold spaces; the start time is the 22nd field of the line. A zombie has
    # ended, but still has its line.
    state, *fields = line.rpartition(")")[2].split() or [""]
    return fields[18] if fields and state not in ("Z", "X") else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
