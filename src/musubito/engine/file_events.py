"""What a step's body reads of files and folders, told by Python's audit events while it runs.

An event belongs to the body that is innermost where it is raised: the context variable says which, so that tasks and
threads which inherit a context are in it. What inherited none, as a thread or an empty context, may be at work for
every open body: too many dependencies are a cost, one too few would be a wrong replay. The main thread is at work for
itself, and so is what inherits its context.

The handlers note paths and their signatures, and read no file unless it was changed a moment ago. What the notes amount
to is found out when the body has ended (`engine.file_reads`).
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures.thread import _WorkItem
from contextvars import Context, ContextVar
from functools import cache
from types import CodeType
from typing import Any, Final, TypeAlias

from musubito.engine.context import SCOPE
from musubito.engine.file_caches import Files, Seen, hits, keep, remember
from musubito.engine.file_digests import KINDS, Signature, digest_of, getcwd, is_settled, signature
from musubito.engine.file_readers import BODIES, Reader, Site, code_of, reader_of
from musubito.identity import audit
from musubito.identity.cached_functions import KNOWN_CODE
from musubito.store.base import Read

__all__ = ["DATABASES", "HANDLERS", "BodyFiles", "begin", "end", "listen", "tracks_files"]

SMALL: Final = 64 * 1024 * 1024
"""Bytes. A larger file that was changed a moment before it is read is not looked into while the body waits."""
READ_WRITE: Final = os.O_RDWR | os.O_WRONLY
NO_FILE: Final = re.compile("<.*>")
"""How code is called that is in no file. Python looks for that, too, when it tells of an error in it."""
NO_CONTENT: Final = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_PATH", 0)

DATABASES: Final[set[str]] = set()
"""The files that SQLite was told to open: lineage, checkpoints."""
_INHERITS: Final = ContextVar("_INHERITS", default=False)
"""Whether a context is the main thread's, or a copy of that."""
if threading.current_thread() is threading.main_thread():
    _INHERITS.set(True)


class BodyFiles:
    """What one body has read and written so far."""

    __slots__ = (
        "_left_in",
        "_touched",
        "base",
        "began",
        "closed",
        "hits",
        "lost",
        "made",
        "module",
        "seen",
        "sites",
        "thread",
        "written",
    )

    def __init__(self, module: str) -> None:
        self.module = module
        self.began = time.time_ns()
        self.thread = threading.get_ident()
        """Where it began."""
        self.base: str | None = None
        """The working directory, as it was when the body first did something to files."""
        self.closed = False
        self.lost: str | None = None
        """Why it cannot be told what it read."""
        self.hits = hits()
        self.sites: set[Site] = set()
        """Where it has read."""
        self.seen: dict[tuple[str, bool], Seen] = {}
        self.written: dict[str, Signature | None] = {}
        """What it wrote itself before it read it, with the signature before that."""
        self.made: set[str] = set()
        """Folders that were not there before it made them."""
        self._touched: dict[str, Signature | None] = {}
        self._left_in: dict[int, Files] = {}
        """What was read that may lie in the state that the body has left so far, by identity."""

    # -- what happens --------------------------------------------------------------------------------------------------
    def opened_beside(self, name: Any, _mode: Any, flags: Any) -> None:
        """A thread that may be at work for the body is about to open something. It may write for somebody else."""
        if isinstance(name, int) or flags & NO_CONTENT:
            return
        path, relative = self._path(name)
        if relative is not None and NO_FILE.fullmatch(relative) and signature(path) is None:
            return
        if flags & READ_WRITE in (os.O_RDONLY, os.O_RDWR) and not _empties(flags):
            self._read(path, relative, folder=False)

    def opened(self, name: Any, mode: Any, flags: Any) -> None:
        """The body is about to open something."""
        self.opened_beside(name, mode, flags)
        if isinstance(name, int) or flags & NO_CONTENT or not flags & READ_WRITE:
            return
        path, _ = self._path(name)
        if (path, False) in self.seen or path in self.written:
            return
        before = signature(path)
        if _empties(flags) or before is None:
            self.written[path] = before
        else:
            # It is added to, or changed in parts: what was in it before is still of importance.
            self._touched.setdefault(path, before)

    def listed(self, name: Any) -> None:
        """The entries of a folder are about to be told."""
        if isinstance(name, int):
            return
        path, relative = self._path(os.curdir if name is None else name)
        if path.rstrip(os.path.sep) not in self.made:
            self._read(path, relative, folder=True)

    def renamed(self, source: Any, target: Any) -> None:
        """Something is about to be given another name."""
        if isinstance(source, int) or isinstance(target, int):
            return
        old, relative = self._path(source)
        new, _ = self._path(target)
        if old in self.made:
            self.made.discard(old)
            self.made.add(new)
        elif old in self.written:
            del self.written[old]
        else:
            self._read(old, relative, folder=False)
        if (new, False) not in self.seen:
            self.written.setdefault(new, signature(new))

    def makes_folder(self, name: Any) -> None:
        """A folder is about to be made, unless it is there."""
        path = self._path(name)[0].rstrip(os.path.sep)
        if signature(path) is None:
            self.made.add(path)

    def moves(self) -> None:
        """The working directory is about to be another one."""
        if self.base is None:
            self.base = getcwd()

    def left_in(self, sources: Files) -> None:
        """The body has left a state: these are what it may hold."""
        self._left_in[id(sources)] = sources
        for seen in tuple(self.seen.values()):
            keep(seen, sources)

    def without_own(self, reads: Sequence[Read]) -> Sequence[Read]:
        """What a call inside the body read, without the files that the body itself had written before."""
        base = self.base or ""
        return [each for each in reads if each.kind not in KINDS or not self.wrote(os.path.join(base, each.key))]

    # -- of paths ------------------------------------------------------------------------------------------------------
    def wrote(self, path: str) -> bool:
        """Whether what is there is the body's own."""
        return path in self.written and signature(path) != self.written[path]

    def _path(self, name: Any) -> tuple[str, str | None]:
        text = code_of(os.fsdecode(name))
        if self.base is None:
            self.base = getcwd()
        if os.path.isabs(text):
            return text, None
        here = getcwd()
        return os.path.join(here, text), text if here == self.base else None

    def _read(self, path: str, relative: str | None, *, folder: bool) -> None:
        reader = reader_of(path)
        if reader is None:
            return
        if reader.site is not None:
            self.sites.add(reader.site)
        before = self.seen.get((path, folder))
        if before is not None:
            self._listed_again(before)
            if reader.caches != before.reader.caches:
                remember(before, (), reader)
            return
        if not folder and self.wrote(path):
            return
        touched = not folder and path in self._touched
        found = self._touched[path] if touched else signature(path)
        seen = _seen(path, relative, self.base, found, reader, folder=folder, touched=touched)
        self.seen[path, folder] = seen
        remember(seen, tuple(self._left_in.values()))

    def _listed_again(self, before: Seen) -> None:
        """What it is told now of a folder may be another thing than before, though it may be as before in the end."""
        now = signature(before.path) if before.folder else before.signature
        if now != before.signature and digest_of(before.path, now, folder=True) != before.digest:
            before.open_to_doubt = True


def _seen(
    path: str,
    relative: str | None,
    base: str | None,
    found: Signature | None,
    reader: Reader,
    *,
    folder: bool,
    touched: bool = False,
) -> Seen:
    digest, doubt = None, False
    if folder:
        # Its times change with entries that do not count. Whoever lists it looks through it, too.
        digest = digest_of(path, found, folder=True)
    elif found is not None and not is_settled(found, time.time_ns()):
        doubt = touched or (len(found) > 1 and found[0] > SMALL)
        digest = None if doubt else digest_of(path, found, folder=False)
    return Seen(path, relative, base, found, digest, reader, folder=folder, open_to_doubt=doubt)


def _empties(flags: int) -> bool:
    return bool(flags & os.O_TRUNC or (flags & os.O_CREAT and flags & os.O_EXCL))


# -- the hook ----------------------------------------------------------------------------------------------------------
_OPEN: Final[set[BodyFiles]] = set()


def begin(module: str) -> BodyFiles:
    """A body of a step of this module begins."""
    listen()
    if not _STARTED.is_set():
        _STARTED.set()
    files = BodyFiles(module)
    _OPEN.add(files)
    return files


def end(files: BodyFiles) -> None:
    """It has ended: what is read from now on is none of its business."""
    files.closed = True
    _OPEN.discard(files)


Handle: TypeAlias = Callable[[BodyFiles, Any], None]


def _nothing(_files: BodyFiles, _args: Any) -> None:
    """Somebody else may have done it."""


_STARTED: Final = threading.Event()
"""Whether a body has begun."""


def _may_fill_a_cache(
    started: Callable[[], bool] = _STARTED.is_set, known: set[CodeType] = KNOWN_CODE, here: Any = sys._getframe
) -> bool:
    """Whether a cache may be filled where no body is open: before the first one it is not known yet which there are.
    It has its own names, as `_of_body`."""
    if not started():
        return True
    if not known:
        return False
    frame = here(1)
    while frame is not None and frame.f_code not in known:
        frame = frame.f_back
    return frame is not None


def _of_body(handle: Handle, beside: Handle, outside: Callable[[Any], None] | None = None) -> Callable[[Any], None]:
    """Handle an event of a body; `beside`: one of a thread that may be at work for a body, `outside`: of no body."""
    # When the interpreter ends, modules lose their names before the last file is opened.
    scope, bodies, may_fill_a_cache = SCOPE.get, _OPEN, _may_fill_a_cache

    def handler(args: Any) -> None:
        frame = scope().frame
        if frame is None and not bodies and not may_fill_a_cache():
            return
        here: Sequence[BodyFiles | None] = tuple(bodies)
        try:
            here, how = (_of_stray_thread(), beside) if frame is None else ((frame.files,), handle)
            watched = [files for files in here if files is not None and not files.closed]
            for files in watched:
                how(files, args)
            if not watched and outside is not None and may_fill_a_cache():
                outside(args)
        except Exception as error:  # whatever goes wrong, the user's own call goes on
            for each in here:
                if each is not None:
                    each.lost = f"which files it read could not be told: {type(error).__qualname__}"

    return handler


def _of_stray_thread() -> Sequence[BodyFiles]:
    """The bodies for which code may be at work that is in the context of none."""
    thread = threading.get_ident()
    here = [files for files in tuple(_OPEN) if files.thread == thread]
    if here and _is_below_body():
        return here
    return () if _INHERITS.get() or _is_in_context() else tuple(_OPEN)


def _is_below_body() -> bool:
    """Whether a body has called this, in whatever context."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") not in BODIES:
        frame = frame.f_back
    return frame is not None


def _is_in_context() -> bool:
    """Whether a pool's thread runs in the context of whoever gave it its work, as `asyncio.to_thread` has it do."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code is not _WorkItem.run.__code__:
        frame = frame.f_back
    item = None if frame is None else frame.f_locals.get("self")
    # From Python 3.14 on, a tuple that begins with the function.
    work = getattr(item, "fn", None) or next(iter(getattr(item, "task", ())), None)
    bound = getattr(work, "func", work)
    return isinstance(getattr(bound, "__self__", None), Context)


def _opened_outside(args: Any) -> None:
    name, _, flags = args
    if not isinstance(name, int) and not flags & (NO_CONTENT | READ_WRITE):
        _read_outside(os.fsdecode(name), folder=False)


def _listed_outside(args: Any) -> None:
    if not isinstance(args[0], int):
        _read_outside(os.fsdecode(os.curdir if args[0] is None else args[0]), folder=True)


def _read_outside(text: str, *, folder: bool) -> None:
    """Somebody reads a path while no body is open: a cache may keep it that answers a body later."""
    text = code_of(text)
    reader = reader_of(text)
    if reader is not None:
        here = getcwd()
        path = os.path.join(here, text)
        relative = None if os.path.isabs(text) else text
        remember(_seen(path, relative, here, signature(path), reader, folder=folder), ())


def _connected(args: Any) -> None:
    try:
        name = os.fsdecode(args[0])
        DATABASES.add(name if os.path.isabs(name) else os.path.join(getcwd(), name))
    except (TypeError, OSError, AttributeError):
        return  # SQLite says what is wrong with such a name; and when the interpreter ends nobody asks any more


def _listed(files: BodyFiles, args: Any) -> None:
    files.listed(*args)


HANDLERS: Final[dict[str, Callable[[Any], None]]] = {
    "open": _of_body(
        lambda files, args: files.opened(*args), lambda files, args: files.opened_beside(*args), _opened_outside
    ),
    "os.listdir": _of_body(_listed, _listed, _listed_outside),
    "os.scandir": _of_body(_listed, _listed, _listed_outside),
    "os.rename": _of_body(lambda files, args: files.renamed(args[0], args[1]), _nothing),
    "os.mkdir": _of_body(lambda files, args: files.makes_folder(args[0]), _nothing),
    "os.chdir": _of_body(lambda files, _: files.moves(), lambda files, _: files.moves()),
    "sqlite3.connect": _connected,
}
"""By event, what is done with its arguments, in the thread that raises it."""


def tracks_files() -> bool:
    """Return whether MUSUBITO_TRACK_FILES leaves the files that steps read switched on, as it does by default."""
    value = os.environ.get("MUSUBITO_TRACK_FILES", "")
    if value.lower() in ("", "1", "true", "yes", "on"):
        return True
    if value.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError(
        f"the environment variable MUSUBITO_TRACK_FILES is {value!r}: say 1, true, yes or on, or 0, false, no or off"
    )


@cache
def listen() -> None:
    """Listen to audit events from now on, as long as the process lives."""
    audit.listen(HANDLERS)
