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
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from functools import partial
from hashlib import sha256
from typing import Final, NamedTuple, TypeAlias

from musubito.deferred import deferred_pattern, running_loop
from musubito.dependencies.registry import AMBIENT, KINDS, Kind, is_declared
from musubito.store.rows import ExternalRead
from musubito.values.class_names import SCRIPT, script_name

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
too. It counts while it exists.
"""
_AT: Final = {at: kind for kind, at in AT.items()}
PLACE: Final = "working directory"
"""The kind of a read of the working directory's own path. An output that contains this path is not valid elsewhere."""
RUNNING: Final = "script"
"""The kind of a read of the script's name. An output that names `__main__` is valid where the same script runs."""
CODE: Final = "code"
"""The kind of the user's code that ran without being named. Its key is a file and a qualified name."""
NO_FILES: Final = PLACE, RUNNING, CODE
"""The kinds of reads that are checked with the files, and are none."""
LOADED: Final[dict[str, Signature | None]] = {}
"""The signatures of files when they were last loaded as modules, by path."""
STARTED: Final = time.time_ns()
"""Nanoseconds. A file that was changed later may differ from the module that was loaded from it before."""
FILES: Final = frozenset({*AT, *_AT, *NO_FILES})
"""The kinds of reads that are checked by `changed`."""


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
SHORTEST_PLACE: Final = 2
"""Characters of the shortest working directory that is looked for in outputs. The root's path stands in any path."""
_SEPARATOR: Final = os.fsencode(os.sep)
_SCRIPT: Final = SCRIPT.encode()
_NAMES_SCRIPT: Final = deferred_pattern(rb"(?<![.\w])" + _SCRIPT)
"""Matches the name of the script, and not that of the module `package.__main__`."""
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
_KNOWN: dict[tuple[str, str], tuple[Signature | None, bytes | None]] = {}


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


def is_open_database(path: str, seen: Signature) -> bool:
    """Tell whether a path is a database that may be open in this process, or a file beside one.

    Such a file must not be opened and closed: all POSIX locks of this process on it would be lost.
    """
    if len(seen) == 1 or not DATABASES:
        return False
    base = next((path.removesuffix(suffix) for suffix in COMPANIONS if path.endswith(suffix)), path)
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
    cached = _KNOWN.get((path, kind))
    if cached is not None and cached[0] == seen:
        return cached[1]
    if len(seen) > 1 and at_most is not None and seen[0] > at_most and kind == FILE:
        raise TooMuch
    at = time.time_ns()
    digest = _digest(path, seen, kind)
    if is_settled(seen, at) and signature(path) == seen:
        if len(_KNOWN) >= MOST:
            _KNOWN.clear()
        _KNOWN[path, kind] = seen, digest
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
    for name in tuple(names):
        base = next((name.removesuffix(suffix) for suffix in COMPANIONS if name.endswith(suffix)), name)
        if base != name and base in kinds:
            names.discard(name)
    return [f"{kinds[name]}{name}" for name in sorted(names)]


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


class Reads(tuple[ExternalRead, ...]):  # noqa: SLOT001 - no tuple may have slots, and this is kept with it
    """The reads of an execution, prepared for the check before each replay."""

    _here: str | None = None
    _checks: Sequence[Check] = ()
    _has_files: bool | None = None
    _no_files: Sequence[ExternalRead] = ()
    _others: tuple[Sequence[ExternalRead], Sequence[ExternalRead]] | None = None

    @property
    def declared(self) -> Sequence[ExternalRead]:
        """Return the reads of users' kinds."""
        return self._besides_files()[0]

    @property
    def ambient(self) -> Sequence[ExternalRead]:
        """Return the reads that the surroundings of the call observe."""
        return self._besides_files()[1]

    def _besides_files(self) -> tuple[Sequence[ExternalRead], Sequence[ExternalRead]]:
        if self._others is None:
            declared = [read for read in self if is_declared(read.kind)]
            self._others = declared, [read for read in self if read.kind in AMBIENT]
        return self._others

    @property
    def has_files(self) -> bool:
        """Tell whether a file or a folder is among the reads, or what is checked with them."""
        if self._has_files is None:
            self._has_files = any(read.kind in FILES for read in self)
            self._no_files = [read for read in self if read.kind in NO_FILES]
        return self._has_files

    @property
    def no_files(self) -> Sequence[ExternalRead]:
        """Return the reads of code, and those of the working directory and the script if the output names them."""
        return self._no_files if self.has_files else ()

    def checks(self, here: str) -> Sequence[Check]:
        """Return the checks of the files, seen from this working directory."""
        if self._here != here:
            self._checks = _checks_of(self, here)
            self._here = here
        return self._checks


def working_directory() -> str:
    """Return the working directory, or a path below which nothing is if that is gone."""
    try:
        return getcwd()
    except OSError:
        return os.devnull


def place_digest(here: str) -> bytes:
    """Return the digest of a working directory's path."""
    return sha256(os.fsencode(here)).digest()


def _script_digest() -> bytes:
    return sha256(script_name().encode("utf-8", "surrogateescape")).digest()


def where_valid(payload: bytes) -> Iterator[ExternalRead]:
    """Yield reads of the working directory and of the script, if an output names them."""
    if _SEPARATOR in payload:  # most outputs hold no path
        try:
            here = getcwd()
        except OSError:
            here = ""  # the working directory is gone, so no output can name it
        if SHORTEST_PLACE <= len(here) <= len(payload) and os.fsencode(here) in payload:
            yield ExternalRead(PLACE, "the working directory", place_digest(here))
    if _SCRIPT in payload and _NAMES_SCRIPT.search(payload) and script_name() != SCRIPT:
        yield ExternalRead(RUNNING, "the script", _script_digest())


class Check(NamedTuple):
    """The digest that a path must have for a replay."""

    where: tuple[str, str]
    """The path, and the kind of its read."""
    if_there: bool
    """Whether the check counts only if the path exists."""
    digest: bytes | None
    read: ExternalRead


def _checks_of(reads: Sequence[ExternalRead], here: str) -> Sequence[Check]:
    checks: dict[tuple[str, str, bytes | None], Check] = {}
    files = (each for each in reads if each.kind in FILES and each.kind not in NO_FILES)
    for read in sorted(files, key=lambda each: each.kind in _AT):
        path = here if read.key == "." else os.path.join(here, read.key)
        kind = _AT.get(read.kind, read.kind)
        check = Check((path, kind), read.kind in _AT, read.digest, read)
        checks.setdefault((path, kind, read.digest), check)
    return list(checks.values())


def changed(reads: Reads, stored: Callable[[bytes], bytes], at_most: int | None = None) -> ExternalRead | None:
    """Return the first file or folder among these that has changed; None if there is none.

    `stored` returns a digest as it is stored. Raises `TooMuch` (see `digest_of`).
    """
    here = working_directory()
    for each in reads.no_files:
        observe = KINDS[each.kind].observe
        now = None if observe is None else observe(each.key)
        if now is None or stored(now) != each.digest:
            return each
    for key, if_there, wanted, read in reads.checks(here):
        seen = signature(key[0])
        # A link that leads nowhere has no signature, and yet leads somewhere.
        if seen is None and (if_there or key[1] != LINK):
            if wanted is None or if_there:
                continue
            return read
        cached = _KNOWN.get(key)
        if cached is not None and cached[0] == seen:
            digest = cached[1]
        else:
            digest = digest_of(key[0], seen, key[1], at_most=at_most)
        if digest is None or stored(digest) != wanted:
            return read
    return None


def _digest_now(kind: str, key: str) -> bytes | None:
    path = os.path.join(working_directory(), key)
    return digest_of(path, signature(path), kind)


KINDS.update({kind: Kind(partial(_digest_now, _AT.get(kind, kind)), is_path=True) for kind in (*AT, *_AT)})
KINDS[PLACE] = Kind(lambda _: place_digest(working_directory()))
KINDS[RUNNING] = Kind(lambda _: _script_digest())


def is_ignored(read: ExternalRead, patterns: Sequence[str]) -> bool:
    """Tell whether a step ignores this read, by its path or by its name."""
    key = read.key
    name = os.path.basename(key)
    return any(fnmatch(key, pattern) or fnmatch(name, pattern) for pattern in patterns)
