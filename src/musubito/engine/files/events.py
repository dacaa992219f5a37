"""Note the files and folders that a step's body reads, by Python's audit events while the body runs.

An event belongs to the innermost body in the context where it is raised. So tasks and threads that inherit a context
belong to its body. A thread or an empty context that inherited none may be at work for every open body. Too many
dependencies are a cost, and one too few would be a wrong replay. The main thread is at work for itself, and so is code
that inherits its context.

The handlers note paths and their signatures. A file is read at once only if it was changed a moment ago. The notes are
evaluated when the body has ended (`engine.files.reads`).
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

from musubito.code import audit_hook
from musubito.code.describers.cached_functions import KNOWN_CODE
from musubito.code.ownership import home_of
from musubito.engine.files.attribution import BODIES, Reader, Site, code_of, reader_of
from musubito.engine.files.caches import Files, Seen, hits, keep, remember
from musubito.engine.files.digests import KINDS, Signature, digest_of, getcwd, is_settled, signature
from musubito.engine.scope import SCOPE
from musubito.store.rows import ExternalRead

__all__ = ["DATABASES", "HANDLERS", "BodyFiles", "begin", "end", "listen", "tracks_files"]

SMALL: Final = 64 * 1024 * 1024
"""Bytes. A larger file that was changed a moment before it is read is not read while the body waits."""
READ_WRITE: Final = os.O_RDWR | os.O_WRONLY
NO_FILE: Final = re.compile("<.*>")
"""The file name of code that is in no file. Python looks for such a file, too, when it shows an error in the code."""
NO_CONTENT: Final = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_PATH", 0)
"""Flags of calls that open a path and read no content."""

DATABASES: Final[set[str]] = set()
"""The files that SQLite was told to open, such as lineage and checkpoints."""
_INHERITS: Final = ContextVar("_INHERITS", default=False)
"""Whether a context is the main thread's, or a copy of that."""
if threading.current_thread() is threading.main_thread():
    _INHERITS.set(True)


class BodyFiles:
    """The files and folders that one body has read and written so far."""

    __slots__ = (
        "_function",
        "_left_in",
        "_touched",
        "base",
        "began",
        "closed",
        "hits",
        "lost",
        "made",
        "seen",
        "sites",
        "thread",
        "written",
    )

    def __init__(self, function: Any) -> None:
        self._function = function
        self.began = time.time_ns()
        self.thread = threading.get_ident()
        """The thread where the body began."""
        self.base: str | None = None
        """The working directory, as it was when the body first did something to files."""
        self.closed = False
        self.lost: str | None = None
        """The reason why the files that the body read are not known."""
        self.hits = hits()
        self.sites: set[Site] = set()
        """The instructions at which the step's own function has read in any case (see `Reader.site`)."""
        self.seen: dict[tuple[str, bool], Seen] = {}
        self.written: dict[str, Signature | None] = {}
        """The files that the body wrote before it read them, with their signatures before that."""
        self.made: set[str] = set()
        """Folders that were absent before the body made them."""
        self._touched: dict[str, Signature | None] = {}
        self._left_in: dict[int, Files] = {}
        """The reads that may lie in the state that the body has left so far, by identity."""

    @property
    def module(self) -> str:
        """The module of the step's function."""
        return home_of(self._function)

    # -- events --------------------------------------------------------------------------------------------------------
    def opened_beside(self, name: Any, _mode: Any, flags: Any) -> None:
        """Note that a thread which may be at work for the body is about to open a file.

        A write is not noted, because the thread may write for another body.
        """
        if isinstance(name, int) or flags & NO_CONTENT:
            return
        path, relative = self._path(name)
        if relative is not None and NO_FILE.fullmatch(relative) and signature(path) is None:
            return
        if flags & READ_WRITE in (os.O_RDONLY, os.O_RDWR) and not _empties(flags):
            self._read(path, relative, folder=False)

    def opened(self, name: Any, mode: Any, flags: Any) -> None:
        """Note that the body is about to open a file."""
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
            # The file is added to, or changed in parts, so its earlier content still matters.
            self._touched.setdefault(path, before)

    def listed(self, name: Any) -> None:
        """Note that the entries of a folder are about to be listed."""
        if isinstance(name, int):
            return
        path, relative = self._path(os.curdir if name is None else name)
        if path.rstrip(os.path.sep) not in self.made:
            self._read(path, relative, folder=True)

    def renamed(self, source: Any, target: Any) -> None:
        """Note that a file or folder is about to be renamed."""
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
        """Note that a folder is about to be made, unless it exists."""
        path = self._path(name)[0].rstrip(os.path.sep)
        if signature(path) is None:
            self.made.add(path)

    def moves(self) -> None:
        """Note that the working directory is about to change."""
        if self.base is None:
            self.base = getcwd()

    def left_in(self, sources: Files) -> None:
        """Note that the body has left a state, which may hold these reads."""
        self._left_in[id(sources)] = sources
        for seen in tuple(self.seen.values()):
            keep(seen, sources)

    def without_own(self, reads: Sequence[ExternalRead]) -> Sequence[ExternalRead]:
        """Return the reads of a call inside the body, without the files that the body itself had written before."""
        base = self.base or ""
        return [each for each in reads if each.kind not in KINDS or not self.wrote(os.path.join(base, each.key))]

    # -- paths ---------------------------------------------------------------------------------------------------------
    def wrote(self, path: str) -> bool:
        """Tell whether the body itself wrote the file that is there."""
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
        """Mark a folder as doubtful if it is listed again and has changed.

        The body then saw two different lists, though in the end the folder may be as it was first.
        """
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
        # A folder's times change with entries that do not count. The body reads the whole list too, so a digest costs
        # little.
        digest = digest_of(path, found, folder=True)
    elif found is not None and not is_settled(found, time.time_ns()):
        doubt = touched or (len(found) > 1 and found[0] > SMALL)
        digest = None if doubt else digest_of(path, found, folder=False)
    return Seen(path, relative, base, found, digest, reader, folder=folder, open_to_doubt=doubt)


def _empties(flags: int) -> bool:
    return bool(flags & os.O_TRUNC or (flags & os.O_CREAT and flags & os.O_EXCL))


# -- the hook ----------------------------------------------------------------------------------------------------------
_OPEN: Final[set[BodyFiles]] = set()


def begin(function: Any) -> BodyFiles:
    """Begin to note the files of a body of a step, which this function is."""
    listen()
    if not _STARTED.is_set():
        _STARTED.set()
    files = BodyFiles(function)
    _OPEN.add(files)
    return files


def end(files: BodyFiles) -> None:
    """End the notes of a body. Later reads do not belong to it."""
    files.closed = True
    _OPEN.discard(files)


Handle: TypeAlias = Callable[[BodyFiles, Any], None]


def _nothing(_files: BodyFiles, _args: Any) -> None:
    """Ignore an event that another body may have caused."""


_STARTED: Final = threading.Event()
"""Set once a body has begun."""


def _may_fill_a_cache(
    started: Callable[[], bool] = _STARTED.is_set, known: set[CodeType] = KNOWN_CODE, here: Any = sys._getframe
) -> bool:
    """Tell whether a cache may be filled where no body is open.

    Before the first body begins, it is not known yet which caches there are, so every read may fill one. The names of
    this module are parameters here, for the reason given in `_of_body`.
    """
    if not started():
        return True
    if not known:
        return False
    frame = here(1)
    while frame is not None and frame.f_code not in known:
        frame = frame.f_back
    return frame is not None


def _of_body(handle: Handle, beside: Handle, outside: Callable[[Any], None] | None = None) -> Callable[[Any], None]:
    """Return a handler that passes an event to the body it belongs to.

    `beside` handles an event of a thread that may be at work for a body. `outside` handles an event of no body.
    """
    # When the interpreter ends, modules lose their names before the last file is opened. So the handler has its own
    # names.
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
    """Return the bodies for which code without a body's context may be at work."""
    thread = threading.get_ident()
    here = [files for files in tuple(_OPEN) if files.thread == thread]
    if here and _is_below_body():
        return here
    return () if _INHERITS.get() or _is_in_context() else tuple(_OPEN)


def _is_below_body() -> bool:
    """Tell whether a body has called this code, in whatever context."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") not in BODIES:
        frame = frame.f_back
    return frame is not None


def _is_in_context() -> bool:
    """Tell whether a pool's thread runs in the context of the code that submitted its work.

    `asyncio.to_thread` has it do so.
    """
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code is not _WorkItem.run.__code__:
        frame = frame.f_back
    item = None if frame is None else frame.f_locals.get("self")
    # From Python 3.14 on, the work is a tuple that begins with the function.
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
    """Note a path that is read while no body is open. A cache may keep its content and answer a body later."""
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
"""By event, the function that handles its arguments in the thread that raises it."""


def tracks_files() -> bool:
    """Return whether the files that steps read are tracked. MUSUBITO_TRACK_FILES can switch that off."""
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
    audit_hook.listen(HANDLERS)
