"""Treat files and folders as dependencies: take their digests, and tell whether they have changed.

A file counts by the digest of its content, and a folder by the digest of its entries' names and kinds. A path that was
only looked at counts by what the look tells: whether it is there, its size, or its time. An absent path
counts as None.

A digest is kept in this process with the path's signature (size, times, inode). So a check of an unchanged path is one
`stat`. Paths below the working directory are stored relative to it, so that a moved checkout replays.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Sequence
from fnmatch import fnmatch
from functools import partial
from hashlib import sha256
from typing import Final, TypeAlias

from musubito.deferred import running_loop
from musubito.dependencies.registry import DEPENDENCY_KINDS, Kind
from musubito.store.rows import ExternalRead

Signature: TypeAlias = tuple[int, ...]
"""The signature of a path. For a path that cannot be looked at, it is the number of the error alone."""
FILE: Final = "file"
FOLDER: Final = "folder"
PRESENCE: Final = "presence"
"""The kind of a read that asks whether there is a file or a folder at a path."""
SIZE: Final = "size"
STATUS: Final = "status"
"""The kind of a read that asks for the size and the time of a path."""
OF_CONTENT: Final = FILE, FOLDER
LOOKS: Final = PRESENCE, SIZE, STATUS
"""The kinds of reads that look at a path, and do not open it. Each tells what those before it tell, and more."""
LINK: Final = "link"
"""The kind of a read that asks where a link leads, or whether a path is one."""
OF_LOOKS: Final = *LOOKS, LINK
AT: Final = {kind: f"{kind} at" for kind in (*OF_CONTENT, *OF_LOOKS)}
"""By kind, the kind of a second read, of a path below the working directory that was named by its absolute path.

A process with another working directory may have another file of the same relative name. So the absolute path is read
too. It counts while it exists. In another folder of the same checkout, it counts alone.
"""
PLACE: Final = "working directory"
"""The kind of a read of the working directory's own path. An output that contains this path is not valid elsewhere."""
RUNNING: Final = "script"
"""The kind of a read of the script's name. An output that names `__main__` is valid where the same script runs."""
CODE: Final = "code"
"""The kind of the user's code that ran without being named. Its key is a file and a qualified name."""
FILES: Final = frozenset({*AT, *AT.values(), PLACE, RUNNING, CODE})
"""The kinds of reads that are files, and those that are checked with them."""

LARGE: Final = 256 * 1024 * 1024
"""Bytes. A larger file counts by its size and its time of change."""
GRANULARITY: Final = 20_000_000
"""Nanoseconds within which a file may change twice and keep its times."""
WHOLE_SECONDS: Final = 2_000_000_000
"""The same, where the file system stores whole seconds or every other second."""
MOST: Final = 20_000
"""Digests that are kept at most."""
AT_ONCE: Final = 4 * 1024 * 1024
"""Bytes of one file that are read in the thread of an event loop at most."""
PIECE: Final = 1 << 20
"""Bytes that are read at once."""
COMPANIONS: Final = ("-wal", "-shm", "-journal", "-locks", "-blobs")
"""Endings of the files beside a database, some of which exist only while it is in use."""
NO_ENTRIES: Final = frozenset({".musubito", "__pycache__"})
"""Entries of a folder that come and go by themselves."""

DATABASES: Final[set[str]] = set()
"""The files that SQLite was told to open in this process, such as lineage and checkpoints."""


# Bound at import: a detector of blocking calls replaces these functions later, and would refuse them on an event loop.
# Long reads are done in a thread, as the detector wants; one `stat` where a file is opened has to happen at once.
_stat = os.stat
_readlink = os.readlink
scandir = os.scandir
getcwd = os.getcwd
KNOWN: Final[dict[tuple[str, str], tuple[Signature | None, bytes | None]]] = {}
"""The digests that are kept with their signatures, by path and kind."""


class TooMuch(Exception):
    """More bytes have to be read than may be read in this thread."""


def byte_limit() -> int | None:
    """Return the number of bytes of a file that may be read in this thread; None for any number."""
    return None if running_loop() is None else AT_ONCE


def signature(path: str) -> Signature | None:
    """Return a signature that tells a changed path without reading its content; None if the path is absent."""
    try:
        status = _stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        return (getattr(error, "errno", None) or errno.EINVAL,)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev, status.st_mode


def without_companion(path: str) -> str:
    """Return the path of the database that a file lies beside, and any other path as it is."""
    return next((path.removesuffix(suffix) for suffix in COMPANIONS if path.endswith(suffix)), path)


def is_open_database(path: str, seen: Signature) -> bool:
    """Tell whether a path is a database that may be open in this process, or a file beside one.

    Such a file must not be opened and closed: all POSIX locks of this process on it would be lost.
    """
    if len(seen) == 1 or not DATABASES:
        return False
    base = without_companion(path)
    own = seen if base == path else signature(base)
    inodes = {state[3:5] for state in map(signature, tuple(DATABASES)) if state is not None and len(state) > 1}
    return own is not None and own[3:5] in inodes


def is_settled(seen: Signature | None, at: int) -> bool:
    """Tell whether any change of a path after `at` (nanoseconds) will give it another signature."""
    if seen is None or len(seen) == 1:
        return False
    mtime, ctime = seen[1], seen[2]
    changed_at = max(mtime, ctime) if os.name == "posix" else mtime
    return at - changed_at > (GRANULARITY if mtime % 1_000_000_000 else WHOLE_SECONDS)


def digest_of(path: str, seen: Signature | None, kind: str, *, at_most: int | None = None) -> bytes | None:
    """Return the digest of a path that has this signature now; None if the path is absent, unless a link is asked for.

    `kind` says what is read of the path. Raises `TooMuch` if more than `at_most` bytes would have to be read.
    """
    if kind == LINK:
        return _digest_of_link(path)
    if seen is None:
        return None
    if kind in LOOKS and len(seen) > 1:
        told = stat.S_IFMT(seen[5]), *seen[:2]
        return sha256(f"{kind}: {told[: LOOKS.index(kind) + 1]}".encode()).digest()
    cached = KNOWN.get((path, kind))
    if cached is not None and cached[0] == seen:
        return cached[1]
    if len(seen) > 1 and at_most is not None and seen[0] > at_most and kind == FILE:
        raise TooMuch
    at = time.time_ns()
    digest = _digest(path, seen, kind)
    if is_settled(seen, at) and signature(path) == seen:
        if len(KNOWN) >= MOST:
            KNOWN.clear()
        KNOWN[path, kind] = seen, digest
    return digest


def _digest_of_link(path: str) -> bytes:
    try:
        return sha256(os.fsencode(_readlink(path))).digest()
    except OSError as error:
        return sha256(b"no link: %d" % (error.errno or 0)).digest()


def _digest(path: str, seen: Signature, kind: str) -> bytes | None:
    try:
        if len(seen) == 1:
            raise OSError(seen[0], "")
        if kind == FOLDER:
            return sha256("\0".join(_entries(path)).encode("utf-8", "surrogateescape")).digest()
        if not stat.S_ISREG(seen[5]):
            return sha256(b"no file: %d" % stat.S_IFMT(seen[5])).digest()
        if is_open_database(path, seen):
            return sha256(b"database").digest()
        if seen[0] > LARGE:
            return sha256(b"large: %d %d" % seen[:2]).digest()
        hasher = sha256()
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(PIECE):
                hasher.update(piece)
        return hasher.digest()
    except FileNotFoundError:
        return None
    except OSError as error:
        # A step that reads the path gets the same error.
        return sha256(b"cannot be read: %d" % (error.errno or 0)).digest()


def _entries(path: str) -> list[str]:
    kinds: dict[str, str] = {}
    with scandir(path) as entries:
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            kinds[entry.name] = "l" if entry.is_symlink() else "d" if is_folder else "f"
    names = kinds.keys() - NO_ENTRIES
    own = {name for name in names if (base := without_companion(name)) == name or base not in kinds}
    return [f"{kinds[name]}{name}" for name in sorted(own)]


def reads_of(path: str, relative: str | None, base: str | None, digest: bytes | None, kind: str) -> list[ExternalRead]:
    """Return the reads that are stored of one path.

    `relative` is the path as it was opened, relative to `base`, the working directory. Raises ValueError for a name
    that no store can keep.
    """
    path.encode()
    if relative is not None:
        return [ExternalRead(kind, plain(relative), digest)]
    root = None if base is None or base == os.path.sep else os.path.join(base, "")
    if root is not None and (path.startswith(root) or path == base):
        return [ExternalRead(kind, plain(path[len(root) :]), digest), ExternalRead(AT[kind], path, digest)]
    return [ExternalRead(kind, path, digest)]


def plain(relative: str) -> str:
    """Return a relative path as it is stored: the same on every system, and without what leads nowhere."""
    text = relative.replace(os.path.sep, "/")
    while text.startswith("./"):
        text = text[2:].lstrip("/")
    return text or "."


def working_directory() -> str:
    """Return the working directory, or a path below which nothing is if that is gone."""
    try:
        return getcwd()
    except OSError:
        return os.devnull


def _digest_now(kind: str, key: str) -> bytes | None:
    path = os.path.join(working_directory(), key)
    return digest_of(path, signature(path), kind)


for _kind, _at in AT.items():
    DEPENDENCY_KINDS[_kind] = DEPENDENCY_KINDS[_at] = Kind(partial(_digest_now, _kind), is_path=True)


def is_ignored(read: ExternalRead, patterns: Sequence[str]) -> bool:
    """Tell whether a step ignores this read, by its path or by its name."""
    key = read.key
    name = os.path.basename(key)
    return any(fnmatch(key, pattern) or fnmatch(name, pattern) for pattern in patterns)
