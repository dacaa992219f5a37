"""Decide how a call is made: replayed where that is safe, run anew, only replayed, or not recorded at all.

A mode is set by a graph's config, by `run(mode=...)`, by `use_musubito_engine(None)` or by the environment variable
`MUSUBITO_MODE`. The innermost of them counts. A thread that inherits no context (such as one of a `ThreadPoolExecutor`)
takes the mode that was set last and still holds. Otherwise, work that `replay_only` forbids would run there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Final

from musubito.engine.environment_watch import ENVIRON, Variable
from musubito.engine.scope import SCOPE

if TYPE_CHECKING:
    from musubito.engine.engine import MusubitoEngine

__all__ = ["IN_USE", "LOCK", "OFF", "REFRESH", "REPLAY", "Mode", "Said", "current_mode", "mode_named", "said_elsewhere"]


class Mode(Enum):
    """The ways of making a call."""

    REPLAY = "replay"
    """Replay results where that is safe, and record the rest."""
    REFRESH = "refresh"
    """Run every step and record it anew. An effect that was done is not repeated."""
    REPLAY_ONLY = "replay_only"
    """Replay, or raise `NotReplayed`. Nothing runs."""
    OFF = "off"
    """Run every function as if it were no step: nothing is looked up or stored, not even effects."""


_NAMED: Final = {**{mode.value: mode for mode in Mode}, "live": Mode.REPLAY}
"""Modes by name. `live` is the old name of `replay`."""
# Bound to names of the module: an attribute of an Enum takes as long to find as the whole look at the environment.
OFF: Final = Mode.OFF
REFRESH: Final = Mode.REFRESH
REPLAY: Final = Mode.REPLAY
VARIABLE: Final = Variable("MUSUBITO_MODE")
_BEHIND, _KEY = VARIABLE.behind, VARIABLE.key
_last: tuple[str, Mode] = "", Mode.REPLAY
"""The value of the variable that was read last, and its mode."""


def mode_named(text: object, where: str) -> Mode:
    """Return the mode of this name.

    Raises ValueError, which names the modes and `where` the name was given.
    """
    mode = _NAMED.get(text) if isinstance(text, str) else None
    if mode is None:
        raise ValueError(f"{where} is one of {', '.join(mode.value for mode in Mode)}, not {text!r}")
    return mode


class Said:
    """An engine that was put to use, a mode that was set, or both, for threads that inherit nothing."""

    def __init__(self, engine: MusubitoEngine | None, mode: Mode | None) -> None:
        self.engine = engine
        self.mode = mode


IN_USE: Final[list[Said]] = []
"""The engines and modes in use. The one that was put to use last comes last."""
LOCK: Final = threading.Lock()
if hasattr(os, "register_at_fork"):
    # A child must not find the lock held by a thread that the child does not have.
    os.register_at_fork(before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=LOCK.release)


def current_mode() -> Mode:
    """Return the mode in which a step called here is made. Raises ValueError if the environment names none."""
    scope = SCOPE.get()
    mode = scope.mode
    if mode is not None:
        return mode
    if IN_USE and scope.engine is None:
        mode = _elsewhere()
        if mode is not None:
            return mode
    if _KEY not in _BEHIND and os.environ is ENVIRON:
        return REPLAY
    return _of_environment()


@contextmanager
def said_elsewhere(mode: Mode) -> Iterator[None]:
    """Set this mode for threads that inherit nothing, until the end of the block."""
    said = Said(None, mode)
    with LOCK:
        IN_USE.append(said)
    try:
        yield
    finally:
        with LOCK:
            IN_USE.remove(said)


def _elsewhere() -> Mode | None:
    """Return the mode that was set last, in a thread that inherited nothing.

    The main thread and its tasks always know where they stand. For them, only the last `use_musubito_engine` counts.
    """
    inherits = threading.current_thread() is threading.main_thread()
    engine: MusubitoEngine | None = None
    for said in reversed(tuple(IN_USE)):
        if said.engine is None:
            if not inherits:
                return said.mode
        elif engine is None:
            engine = said.engine
            if said.mode is not None:
                return said.mode
    return None


def _of_environment() -> Mode:
    global _last
    text = VARIABLE.get()
    if not text:
        return Mode.REPLAY
    known, mode = _last
    if text != known:
        mode = mode_named(text, VARIABLE.name)
        _last = text, mode
    return mode
