"""Identify this process, and tell whether the process that holds a lease is still there.

A pid alone does not identify a process, because the system uses it again. Together with the start time of the process
and the host it does. The host includes its boot and its pid namespace.
"""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

from musubito.store.rows import LeaseOwner


@cache
def this_host() -> str:
    """Return an id of this machine's boot and of this pid namespace (containers share names, not pids)."""
    boot = _read(Path("/proc/sys/kernel/random/boot_id"))
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return f"{platform.node()} {boot} {namespace}".strip()


def this_process() -> str:
    """Return the start time of this process, which no earlier or later process with its pid has.

    It is "" if the system does not tell.
    """
    return _started(_line(os.getpid()))


def is_of_this_host(holder: LeaseOwner) -> bool:
    """Tell whether this process can see if the process of a lease's owner is still there."""
    return holder.host == this_host() and bool(holder.process)


def is_dead(holder: LeaseOwner) -> bool:
    """Tell whether a lease's owner is known to be gone. Only a process of this host can be known to be."""
    if not is_of_this_host(holder):
        return False
    line = _line(holder.pid)
    return _started(line) != holder.process if line else not _exists(holder.pid)


def _exists(pid: int) -> bool:
    """Tell whether a process exists, even if /proc does not show its line.

    The mount options of /proc may hide a process of another user.
    """
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
