"""Note the files and folders that a step's body reads, by Python's audit events while the body runs.

An event belongs to the innermost body in the context where it is raised. So tasks and threads that inherit a context
belong to its body. A thread or an empty context that inherited none may be at work for every open body. Too many
dependencies are a cost, and one too few would be a wrong replay. The main thread is at work for itself, and so is code
that inherits its context.

The handlers note paths and their signatures. A file is read at once only if it was changed a moment ago. The notes are
evaluated when the body has ended (`dependencies.files_read`).
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context, ContextVar
from functools import cache
from types import CodeType
from typing import Any, Final, TypeAlias

from musubito.code import audit_hook
from musubito.code.cached_functions import KNOWN_CODE
from musubito.code.world.path_looks import LOOK, report_looks
from musubito.deferred import loaded_class
from musubito.dependencies.attribution import BODIES, caches_of_read, code_of, looker_of
from musubito.dependencies.body_files import NO_CONTENT, READ_WRITE, BodyFiles, seen_at
from musubito.dependencies.caches import remember
from musubito.dependencies.executed import watch
from musubito.dependencies.named_files import note_command
from musubito.dependencies.paths import DATABASES, FILE, FOLDER, LOADED, getcwd, signature
from musubito.engine.scope import SCOPE
from musubito.reasons import ReplayReason

NO_FOLDER: Final = -1
"""The descriptor of no folder. A path that is relative to a folder's descriptor cannot be told."""
_INHERITS: Final = ContextVar("_INHERITS", default=False)
"""Whether a context is the main thread's, or a copy of that."""
if threading.current_thread() is threading.main_thread():
    _INHERITS.set(True)


# -- the hook ----------------------------------------------------------------------------------------------------------
OPEN: Final[set[BodyFiles]] = set()
"""The notes on the bodies that are open."""


def begin(function: Any) -> BodyFiles:
    """Begin to note the files of a body of a step, which this function is, and the code that runs in it."""
    listen()
    report_looks()
    if not _STARTED:
        _STARTED.add(True)
    files = BodyFiles(function)
    OPEN.add(files)
    watch(OPEN, bodies_here)
    return files


def end(files: BodyFiles) -> None:
    """End the notes of a body. Later reads do not belong to it."""
    files.closed = True
    OPEN.discard(files)
    watch(OPEN, bodies_here)


def bodies_here() -> tuple[Sequence[BodyFiles], Sequence[BodyFiles]]:
    """Return the bodies around the one that runs this code, and those to which the code belongs."""
    frame = SCOPE.get().frame
    if frame is None:
        return (), _possible_bodies() if OPEN else ()
    around = [outer.files for outer in frame.enclosing() if outer.files is not None]
    return around, [] if frame.files is None or frame.files.closed else [frame.files]


Handle: TypeAlias = Callable[[BodyFiles, Any], None]


def _nothing(_files: BodyFiles, _args: Any) -> None:
    """Ignore an event that another body may have caused."""


TERMINAL: Final = "/dev/tty"
"""The terminal of a process, whatever its standard input is."""
_STARTED: Final[set[bool]] = set()
"""Empty until a body begins: a container is asked in a third of the time of a `threading.Event`."""


def _may_fill_a_cache(
    started: set[bool] = _STARTED, known: set[CodeType] = KNOWN_CODE, here: Any = sys._getframe
) -> bool:
    """Tell whether a cache may be filled where no body is open.

    Before the first body begins, it is not known yet which caches there are, so every read may fill one. The names of
    this module are parameters here, for the reason given in `_for_body`.
    """
    if not started:
        return True
    if not known:
        return False
    frame = here(1)
    while frame is not None and frame.f_code not in known:
        frame = frame.f_back
    return frame is not None


def _for_body(handle: Handle, beside: Handle, outside: Callable[[Any], None] | None = None) -> Callable[[Any], None]:
    """Return a handler that passes an event to the body it belongs to.

    `beside` handles an event of a thread that may be at work for a body. `outside` handles an event of no body.
    """
    # When the interpreter ends, modules lose their names before the last file is opened. So the handler has its own
    # names.
    scope, bodies, may_fill_a_cache = SCOPE.get, OPEN, _may_fill_a_cache
    caches, started = KNOWN_CODE, _STARTED

    def handler(args: Any) -> None:
        frame = scope().frame
        # Most events come while no step runs: these two questions are those of `may_fill_a_cache`, without a call.
        if frame is None and not bodies and (outside is None or (started and not caches) or not may_fill_a_cache()):
            return
        here: Sequence[BodyFiles | None] = tuple(bodies)
        try:
            here, how = (_possible_bodies(), beside) if frame is None else ((frame.files,), handle)
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


def _possible_bodies() -> Sequence[BodyFiles]:
    """Return the bodies for which code without a body's context may be at work."""
    thread = threading.get_ident()
    here = [files for files in tuple(OPEN) if files.thread == thread]
    if here and _is_below_body():
        return here
    return () if _INHERITS.get() or _is_in_context() else tuple(OPEN)


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
    works = loaded_class("concurrent.futures.thread", "_WorkItem")
    if not works:
        return False
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code is not works.run.__code__:
        frame = frame.f_back
    item = None if frame is None else frame.f_locals.get("self")
    # From Python 3.14 on, the work is a tuple that begins with the function.
    work = getattr(item, "fn", None) or next(iter(getattr(item, "task", ())), None)
    bound = getattr(work, "func", work)
    return isinstance(getattr(bound, "__self__", None), Context)


def _opened_outside(args: Any) -> None:
    name, _, flags = args
    if not isinstance(name, int) and not flags & (NO_CONTENT | READ_WRITE):
        _read_outside(os.fsdecode(name), FILE)


def _listed_outside(args: Any) -> None:
    if not isinstance(args[0], int):
        _read_outside(os.fsdecode(os.curdir if args[0] is None else args[0]), FOLDER)


def _read_outside(text: str, kind: str) -> None:
    """Note a path that is read while no body is open. A cache may keep its content and answer a body later."""
    text = code_of(text)
    caches = caches_of_read(text)
    if caches is not None:
        here = getcwd()
        path = os.path.join(here, text)
        relative = None if os.path.isabs(text) else text
        remember(seen_at(path, relative, here, signature(path), caches, kind), caches)


def _database_opened(args: Any) -> None:
    try:
        name = os.fsdecode(args[0])
        DATABASES.add(name if os.path.isabs(name) else os.path.join(getcwd(), name))
    except (TypeError, OSError, AttributeError):
        return  # SQLite says what is wrong with such a name; and when the interpreter ends nobody asks any more


def _starts(files: BodyFiles, args: Any) -> None:
    note_command(files, args[1], args[2])


def _looks(files: BodyFiles, args: Any) -> None:
    files.looked(*args)


def _for_looks(for_body: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return the handler of looks. Most come while no body is open, and then a cache may keep what they tell."""
    scope, bodies, caches, started = SCOPE.get, OPEN, KNOWN_CODE, _STARTED

    def handler(args: Any) -> None:
        if bodies or scope().frame is not None or caches or not started:
            for_body(args)

    return handler


def _looked_outside(args: Any) -> None:
    """Note a look while no body is open. A cache of the user's code may keep what it tells, and answer a body later."""
    name, function = args
    looker = None if isinstance(name, int) else looker_of(function, "")
    if looker is not None and not looker.is_package:
        here, text = getcwd(), os.fsdecode(name)
        path = os.path.normpath(os.path.join(here, text))
        relative = None if os.path.isabs(text) else text
        remember(seen_at(path, relative, here, signature(path), looker.caches, looker.kind), looker.caches)


def _removes(files: BodyFiles, args: Any) -> None:
    if args[1] == NO_FOLDER:
        files.removed(args[0])


def _renames(files: BodyFiles, args: Any) -> None:
    source, target, *folders = args
    if folders == [NO_FOLDER, NO_FOLDER]:
        files.renamed(source, target)


def _makes_folder(files: BodyFiles, args: Any) -> None:
    if args[2] == NO_FOLDER:
        files.makes_folder(args[0])


def _spawns(files: BodyFiles, args: Any) -> None:
    note_command(files, args[1])


def _starts_a_shell(files: BodyFiles, args: Any) -> None:
    note_command(files, args[0])


def _listed(files: BodyFiles, args: Any) -> None:
    files.listed(*args)


def _runs_a_module(args: Any) -> None:
    code = args[0]
    if isinstance(code, CodeType) and code.co_name == "<module>" and not code.co_filename.startswith("<"):
        with suppress(OSError):  # the working directory is gone
            path = code.co_filename if os.path.isabs(code.co_filename) else os.path.abspath(code.co_filename)
            LOADED[path] = signature(path)


def _asks(files: BodyFiles, _args: Any) -> None:
    # The next answer may be another one, wherever the standard input comes from.
    files.lost = files.lost or ReplayReason.CONSOLE_READ.of("input()")


def _opens(files: BodyFiles, args: Any) -> None:
    _notes_terminal(files, args[0])
    files.opened(*args)


def _opens_beside(files: BodyFiles, args: Any) -> None:
    _notes_terminal(files, args[0])
    files.opened_beside(*args)


def _notes_terminal(files: BodyFiles, path: object) -> None:
    if path == TERMINAL:  # `getpass.getpass` asks there
        files.lost = files.lost or ReplayReason.CONSOLE_READ.of(TERMINAL)


HANDLERS: Final[dict[str, Callable[[Any], None]]] = {
    "open": _for_body(_opens, _opens_beside, _opened_outside),
    "os.listdir": _for_body(_listed, _listed, _listed_outside),
    "os.scandir": _for_body(_listed, _listed, _listed_outside),
    "os.rename": _for_body(_renames, _nothing),
    LOOK: _for_looks(_for_body(_looks, _looks, _looked_outside)),
    "os.remove": _for_body(_removes, _nothing),
    "os.rmdir": _for_body(_removes, _nothing),
    "os.mkdir": _for_body(_makes_folder, _nothing),
    "os.chdir": _for_body(lambda files, _: files.moves(), lambda files, _: files.moves()),
    "builtins.input": _for_body(_asks, _asks),
    "exec": _runs_a_module,
    "sqlite3.connect": _database_opened,
    "subprocess.Popen": _for_body(_starts, _starts),
    "os.posix_spawn": _for_body(_spawns, _spawns),
    "os.system": _for_body(_starts_a_shell, _starts_a_shell),
}
"""By event, the function that handles its arguments in the thread that raises it."""


@cache
def listen() -> None:
    """Listen to audit events from now on, as long as the process lives."""
    audit_hook.listen(HANDLERS)
    report_looks()
