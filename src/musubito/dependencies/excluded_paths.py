"""Tell which paths are no input of a step: those of the interpreter, of packages, of the machine and of stores."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from threading import Lock
from typing import Final

from musubito.code.ownership import SITE
from musubito.dependencies.paths import DATABASES, NO_ENTRIES, without_companion
from musubito.locks import fork_safe
from musubito.values.class_names import find_module

NEVER: Final = (
    *("/dev/", "/proc/", "/sys/", "/etc/localtime/", "/etc/timezone/", "/etc/zoneinfo/", "/usr/share/zoneinfo/"),
    *("/usr/lib/zoneinfo/", "/etc/ssl/", "/etc/pki/", "/usr/lib/ssl/", os.path.join(sys.prefix, "pyvenv.cfg", "")),
)
"""Paths of the machine, which are no input: devices, time zones, certificates."""
IN_MEMORY: Final = "/dev/shm/"  # noqa: S108 - named to be recognised, not to be written to
"""Shared memory, which counts as a file system like any other."""
_LOCK: Final = fork_safe(Lock())
"""Held while `tempfile` holds the lock of its own, which a fork would leave locked in the child."""


def is_of_the_system(path: str, own: str | None) -> bool:
    """Tell whether a path belongs to the interpreter, to a package or to the machine."""
    plain = os.path.normpath(path)
    parts = plain.split(os.path.sep)
    plain += os.path.sep
    if not NO_ENTRIES.isdisjoint(parts) or (plain.startswith(NEVER) and not plain.startswith(IN_MEMORY)):
        return True
    if own is not None and plain.startswith(own):
        return False
    return not SITE.isdisjoint(parts) or plain.startswith(_code_roots())


def own_package(module: str) -> str | None:
    """Return the folder of the step's own package, which may be an installed one; None if it is no package."""
    top = find_module(module.partition(" ")[0].partition(".")[0])
    paths = list(getattr(top, "__path__", ()))
    return os.path.join(paths[0], "") if paths and os.path.isabs(paths[0]) else None


def is_database(path: str, database: str | None) -> bool:
    """Tell whether a path is `database`, or a database that SQLite has opened in this process, or lies beside one."""
    path = os.path.normpath(path)
    # Not one by one: a process may have opened thousands of databases.
    folders = (folder.removesuffix("-blobs") for folder in _and_above(path) if folder.endswith("-blobs"))
    return any(file in DATABASES or file == database for file in (path, without_companion(path), *folders))


def _and_above(path: str) -> Iterator[str]:
    """Yield a path and the folders above it."""
    yield path
    while (above := os.path.dirname(path)) != path:
        yield above
        path = above


def _roots(paths: Iterable[str | None]) -> tuple[str, ...]:
    """Return the paths as they are and with their links followed. Each ends with a separator, files too."""
    absolute = [path for path in paths if path and os.path.isabs(path)]
    return tuple(
        {os.path.join(resolve(path), "") for path in absolute for resolve in (os.path.abspath, os.path.realpath)}
    )


@cache
def _code_roots() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return _roots(
        [*map(paths.get, names), os.path.dirname(os.__file__), site.getusersitepackages(), *site.getsitepackages()]
    )


@cache
def temporary_roots() -> tuple[str, ...]:
    """Return the folders of temporary files and of what packages keep for themselves."""
    import tempfile  # noqa: PLC0415 - as above

    with _LOCK:
        own = tempfile.gettempdir()
    return _roots([own, os.environ.get("XDG_CACHE_HOME"), os.path.expanduser("~/.cache")])
