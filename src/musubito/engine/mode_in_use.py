"""Find the mode of a call: the innermost that was set, or the one of the environment."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from musubito.engine.environment_watch import ENVIRON, Variable
from musubito.engine.modes import REPLAY, Mode, mode_named
from musubito.engine.scope import SCOPE
from musubito.locks import fork_safe

VARIABLE: Final = Variable("MUSUBITO_MODE")
_BEHIND, _KEY = VARIABLE.behind, VARIABLE.key
_last: tuple[str, Mode] = "", Mode.REPLAY
"""The value of the variable that was read last, and its mode."""


class Setting:
    """A `MusubitoEngine` that was put to use, a mode that was set, or both, for threads that inherit nothing."""

    def __init__(self, engine: Any, mode: Mode | None) -> None:
        self.engine = engine
        self.mode = mode


IN_USE: Final[list[Setting]] = []
"""The engines and modes in use. The one that was put to use last comes last."""
LOCK: Final = fork_safe(threading.Lock())


def current_mode() -> Mode:
    """Return the mode in which a step called here is made. Raises ValueError if the environment names none."""
    scope = SCOPE.get()
    mode = scope.mode
    if mode is not None:
        return mode
    if IN_USE and scope.engine is None:
        mode = _mode_set_last()
        if mode is not None:
            return mode
    if _KEY not in _BEHIND and os.environ is ENVIRON:
        return REPLAY
    return _environment_mode()


@contextmanager
def for_threads(setting: Setting) -> Iterator[None]:
    """Let this setting hold for threads that inherit nothing, until the end of the block."""
    with LOCK:
        IN_USE.append(setting)
    try:
        yield
    finally:
        with LOCK:
            IN_USE.remove(setting)


def _mode_set_last() -> Mode | None:
    """Return the mode that was set last, in a thread that inherited nothing.

    The main thread and its tasks always know where they stand. For them, only the last `use_musubito_engine` counts.
    """
    inherits = threading.current_thread() is threading.main_thread()
    engine = None
    for setting in reversed(tuple(IN_USE)):
        if setting.engine is None:
            if not inherits:
                return setting.mode
        elif engine is None:
            engine = setting.engine
            if setting.mode is not None:
                return setting.mode
    return None


def _environment_mode() -> Mode:
    global _last
    text = VARIABLE.get()
    if not text:
        return Mode.REPLAY
    previous, mode = _last
    if text != previous:
        mode = mode_named(text, VARIABLE.name)
        _last = text, mode
    return mode
