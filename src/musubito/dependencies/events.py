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
from contextvars import ContextVar
from functools import cache
from types import CodeType
from typing import Any, Final

from musubito.code import audit_hook
from musubito.code.cached_functions import KNOWN_CODE
from musubito.code.world.path_looks import LOOK, report_looks
from musubito.dependencies.attribution import BODIES
from musubito.dependencies.body_files import BodyFiles
from musubito.dependencies.executed import watch
from musubito.dependencies.named_files import note_command
from musubito.dependencies.paths import DATABASES, getcwd
from musubito.engine.scope import SCOPE
from musubito.reasons import ReplayReason

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


def _nothing(*_: object) -> None:
    """Ignore an event that another body may have caused."""


def _for_body(
    handle: Callable[..., None], beside: Callable[..., None] = _nothing, *, reads: bool = False
) -> Callable[[Any], None]:
    """Return a handler that passes an event to the body it belongs to.

    `beside` handles an event of a thread that may be at work for a body. `reads`: a cache may keep what is read where
    no body is open, and answer a body later.
    """
    # When the interpreter ends, modules lose their names before the last file is opened. So the handler has its own
    # names.
    scope, bodies, may_fill_a_cache = SCOPE.get, OPEN, _may_fill_a_cache
    caches, started = KNOWN_CODE, _STARTED

    def handler(args: Any) -> None:
        frame = scope().frame
        # Most events come while no step runs: these two questions are those of `may_fill_a_cache`, without a call.
        if frame is None and not bodies and (not reads or (started and not caches) or not may_fill_a_cache()):
            return
        here: Sequence[BodyFiles | None] = tuple(bodies)
        try:
            here, how = (_possible_bodies(), beside) if frame is None else ((frame.files,), handle)
            watched = [files for files in here if files is not None and not files.closed]
            if not watched and reads and may_fill_a_cache():
                watched = [BodyFiles(None)]
            for files in watched:
                how(files, *args)
        except Exception as error:  # whatever goes wrong, the user's own call goes on
            for part in here:
                if part is not None:
                    part.lost = f"which files it read could not be told: {type(error).__qualname__}"

    return handler


def _possible_bodies() -> Sequence[BodyFiles]:
    """Return the bodies for which code without a body's context may be at work."""
    thread = threading.get_ident()
    here = [files for files in tuple(OPEN) if files.thread == thread]
    if here and _is_below_body():
        return here
    return () if _INHERITS.get() else tuple(OPEN)


def _is_below_body() -> bool:
    """Tell whether a body has called this code, in whatever context."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") not in BODIES:
        frame = frame.f_back
    return frame is not None


def _starts(files: BodyFiles, _program: object, command: object, folder: object, _environment: object) -> None:
    note_command(files, command, folder)


def _spawns(files: BodyFiles, _program: object, command: object, _environment: object) -> None:
    note_command(files, command)


def _asks(files: BodyFiles, _prompt: object) -> None:
    # The next answer may be another one, wherever the standard input comes from.
    files.lost = files.lost or ReplayReason.READ_ONCE.of("the console, by input()")


def _database_opened(args: Any) -> None:
    try:
        name = os.fsdecode(args[0])
        DATABASES.add(name if os.path.isabs(name) else os.path.join(getcwd(), name))
    except (TypeError, OSError, AttributeError):
        return  # SQLite says what is wrong with such a name; and when the interpreter ends nobody asks any more


HANDLERS: Final[dict[str, Callable[[Any], None]]] = {
    "open": _for_body(BodyFiles.opened, BodyFiles.opened_beside, reads=True),
    "os.listdir": _for_body(BodyFiles.listed, BodyFiles.listed, reads=True),
    "os.scandir": _for_body(BodyFiles.listed, BodyFiles.listed, reads=True),
    LOOK: _for_body(BodyFiles.looked, BodyFiles.looked, reads=True),
    "os.rename": _for_body(BodyFiles.renamed),
    "os.remove": _for_body(BodyFiles.removed),
    "os.rmdir": _for_body(BodyFiles.removed),
    "os.mkdir": _for_body(BodyFiles.makes_folder),
    "os.chdir": _for_body(BodyFiles.moves, BodyFiles.moves),
    "builtins.input": _for_body(_asks, _asks),
    "subprocess.Popen": _for_body(_starts, _starts),
    "os.posix_spawn": _for_body(_spawns, _spawns),
    "os.system": _for_body(note_command, note_command),
    "sqlite3.connect": _database_opened,
}
"""By event, the function that handles its arguments in the thread that raises it."""


@cache
def listen() -> None:
    """Listen to audit events from now on, as long as the process lives."""
    audit_hook.listen(HANDLERS)
    report_looks()
