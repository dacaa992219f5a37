"""Note the files and folders that one body reads and writes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from musubito.code.ownership import home_of
from musubito.deferred import deferred_pattern
from musubito.dependencies.attribution import Cache, caches_of_read, code_of, looker_of
from musubito.dependencies.caches import Files, Seen, hits, remember
from musubito.dependencies.executed import Ran, whose_code
from musubito.dependencies.paths import FILE, FILES, FOLDER, Signature, digest_of, getcwd, is_settled, signature
from musubito.store.rows import ExternalRead

SMALL: Final = 64 * 1024 * 1024
"""Bytes. A larger file that was changed a moment before it is read is not read while the body waits."""
READ_WRITE: Final = os.O_RDWR | os.O_WRONLY
NO_FILE: Final = deferred_pattern("<.*>")
"""The file name of code that is in no file. Python and packages look for such a file, too, to show the code."""
NO_FOLDER: Final = -1
"""The descriptor of no folder. A path that is relative to a folder's descriptor cannot be told."""
NO_CONTENT: Final = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_PATH", 0)
"""Flags of calls that open a path and read no content."""


class BodyFiles:
    """The files and folders that one body has read and written so far."""

    def __init__(self, function: Any) -> None:
        self.module = "" if function is None else home_of(function)
        """The module of the step's function; empty outside of bodies."""
        self.began = time.time_ns()
        self.thread = threading.get_ident()
        """The thread where the body began."""
        self.base: str | None = None
        """The working directory, as it was when the body first did something to files."""
        self.closed = False
        self.lost: str | None = None
        """The reason why the files that the body read are not known."""
        self.hits = hits()
        self.seen: Files = {}
        self.written: dict[str, Signature | None] = {}
        """The files that the body wrote before it read them, with their signatures before that."""
        self.wrote_to: dict[str, str | None] = {}
        """The files that the body wrote, in whatever way, each with its path as it was named if that is relative."""
        self.made: set[str] = set()
        """Folders that were absent before the body made them."""
        self.gone: set[str] = set()
        """The paths that the body removed."""
        self.whose = whose_code(self.module)
        self.ran: dict[int, Ran] = {}
        """The user's code that has run in the body, by identity."""
        self._touched: dict[str, Signature | None] = {}
        """The reads that may lie in the state that the body has left so far, by identity."""

    # -- events --------------------------------------------------------------------------------------------------------
    def opened_beside(self, name: Any, _mode: Any, flags: Any) -> None:
        """Note that a thread which may be at work for the body is about to open a file.

        A write is not noted, because the thread may write for another body.
        """
        if isinstance(name, int) or flags & NO_CONTENT:
            return
        path, relative = self._path(name)
        if _is_no_file(path):
            return
        if flags & READ_WRITE in (os.O_RDONLY, os.O_RDWR) and not empties(flags):
            self._read(path, relative, FILE)

    def opened(self, name: Any, mode: Any, flags: Any) -> None:
        """Note that the body is about to open a file."""
        self.opened_beside(name, mode, flags)
        if isinstance(name, int) or flags & NO_CONTENT or not flags & READ_WRITE:
            return
        path, relative = self._path(name)
        self._writes(path, relative)
        if (path, FILE) in self.seen or path in self.written:
            return
        before = signature(path)
        if empties(flags) or before is None:
            self.written[path] = before
        else:
            # The file is added to, or changed in parts, so its earlier content still matters.
            self._touched.setdefault(path, before)

    def listed(self, name: Any) -> None:
        """Note that the entries of a folder are about to be listed."""
        if isinstance(name, int):
            return
        path, relative = self._path(os.curdir if name is None else name)
        if path.rstrip(os.path.sep) not in self.made:
            self._read(path, relative, FOLDER)

    def looked(self, name: Any, function: str) -> None:
        """Note that the body is about to look at a path by a function of `os`."""
        if isinstance(name, int) or (looker := looker_of(function, self.module)) is None:
            return
        path, relative = self._path(name)
        path = os.path.normpath(path)
        if _is_no_file(path):
            return
        if (path, looker.kind) in self.seen or self.wrote(path) or path in self.made or path in self.gone:
            return
        seen = seen_at(path, relative, self.base, signature(path), looker.caches, looker.kind)
        seen.is_of_package = looker.is_package
        self.seen[path, looker.kind] = seen
        remember(seen, seen.caches)

    def removed(self, name: Any, folder: int) -> None:
        """Note that the body is about to remove a file or a folder."""
        if folder == NO_FOLDER:
            self.gone.add(self._path(name)[0].rstrip(os.path.sep))

    def renamed(self, source: Any, target: Any, *folders: int) -> None:
        """Note that a file or folder is about to be renamed."""
        if folders != (NO_FOLDER, NO_FOLDER) or isinstance(source, int) or isinstance(target, int):
            return
        old, relative = self._path(source)
        new, named = self._path(target)
        self._writes(new, named)
        self.gone.add(old)
        if old in self.made:
            self.made.discard(old)
            self.made.add(new)
        elif old in self.written:
            del self.written[old]
        else:
            self._read(old, relative, FILE)
        if (new, FILE) not in self.seen:
            self.written.setdefault(new, signature(new))

    def makes_folder(self, name: Any, _mode: int, folder: int) -> None:
        """Note that a folder is about to be made, unless it exists."""
        path = self._path(name)[0].rstrip(os.path.sep)
        if folder == NO_FOLDER and signature(path) is None:
            self.made.add(path)

    def moves(self, _target: Any) -> None:
        """Note that the working directory is about to change."""
        if self.base is None:
            self.base = getcwd()

    def without_own(self, reads: Sequence[ExternalRead]) -> Sequence[ExternalRead]:
        """Return the reads of a call inside the body, without the files that the body itself had written before."""
        base = self.base or ""
        return [read for read in reads if read.kind not in FILES or not self.wrote(os.path.join(base, read.key))]

    # -- paths ---------------------------------------------------------------------------------------------------------
    def wrote(self, path: str) -> bool:
        """Tell whether the body itself wrote the file that is there."""
        return path in self.written and signature(path) != self.written[path]

    def changed(self, seen: Seen) -> bool:
        """Tell whether the body itself made, wrote or removed what it had looked at."""
        return seen.path in self.gone or seen.path in self.written or self.is_made(seen.path)

    def is_below_temporary(self, path: str) -> bool:
        """Tell whether a path lies in a folder that the body made and that is gone now."""
        return any(
            path.startswith(f"{folder}{os.path.sep}") and signature(folder) is None for folder in self.made | self.gone
        )

    def is_made(self, path: str) -> bool:
        """Tell whether the body itself made the folder at a path, or one around it."""
        return any(f"{path}{os.path.sep}".startswith(f"{folder}{os.path.sep}") for folder in self.made)

    def _path(self, name: Any) -> tuple[str, str | None]:
        text = code_of(os.fsdecode(name))
        if self.base is None:
            self.base = getcwd()
        if os.path.isabs(text):
            return text, None
        here = getcwd()
        return os.path.join(here, text), text if here == self.base else None

    def _writes(self, path: str, relative: str | None) -> None:
        if caches_of_read(path) is not None:  # the interpreter and loggers write for themselves
            self.wrote_to.setdefault(path, relative)

    def _read(self, path: str, relative: str | None, kind: str) -> None:
        caches = caches_of_read(path)
        if caches is None:
            return
        before = self.seen.get((path, kind))
        if before is not None:
            self._listed_again(before)
            if caches != before.caches:
                remember(before, caches)
            return
        if kind == FILE and self.wrote(path):
            return
        touched = kind == FILE and path in self._touched
        state = self._touched[path] if touched else signature(path)
        seen = seen_at(path, relative, self.base, state, caches, kind, touched=touched)
        self.seen[path, kind] = seen
        remember(seen, seen.caches)

    def _listed_again(self, before: Seen) -> None:
        """Mark a folder as doubtful if it is listed again and has changed.

        The body then saw two different lists, though in the end the folder may be as it was first.
        """
        now = signature(before.path) if before.kind == FOLDER else before.signature
        if now != before.signature and digest_of(before.path, now, FOLDER) != before.digest:
            before.open_to_doubt = True


def seen_at(
    path: str,
    relative: str | None,
    base: str | None,
    state: Signature | None,
    caches: tuple[Cache, ...],
    kind: str,
    *,
    touched: bool = False,
) -> Seen:
    """Return what is at a path now, with a digest where the signature alone would not tell a later change."""
    digest, doubt = None, False
    if kind != FILE:
        # A folder's times change with entries that do not count. The body reads the whole list too, so a digest costs
        # little. A look costs nothing.
        digest = digest_of(path, state, kind)
    elif state is not None and not is_settled(state, time.time_ns()):
        doubt = touched or (len(state) > 1 and state[0] > SMALL)
        digest = None if doubt else digest_of(path, state, FILE)
    return Seen(path, relative, base, state, digest, caches, kind, doubt)


def empties(flags: int) -> bool:
    """Tell whether a file is empty after it was opened with these flags."""
    return bool(flags & os.O_TRUNC or (flags & os.O_CREAT and flags & os.O_EXCL))


def _is_no_file(path: str) -> bool:
    """Return whether a path is the file name of code that is in no file."""
    return NO_FILE.fullmatch(os.path.basename(path)) is not None and signature(path) is None
