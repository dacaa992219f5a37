"""Decide how a call is made: replayed where that is safe, run anew, only replayed, or not recorded at all.

The innermost mode that was set counts (see `run`). A thread that inherits no context (such as one of a
`ThreadPoolExecutor`) takes the mode that was set last and still holds. Otherwise, work that `replay_only` forbids would
run there.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class Mode(Enum):
    """The ways of making a call."""

    REPLAY = "replay"
    """Replay results where that is safe, and record the rest."""
    REFRESH = "refresh"
    """Run every step and record it anew. An effect that was done is not repeated."""
    REPLAY_ONLY = "replay_only"
    """Replay, or raise `NotReplayed`. Nothing runs."""
    OFF = "off"
    """Run every function without Musubito: nothing is looked up or stored, not even effects."""


_NAMED: Final = {**{mode.value: mode for mode in Mode}, "live": Mode.REPLAY}
"""Modes by name. `live` is the old name of `replay`."""
# Bound to names of the module: an attribute of an Enum takes as long to find as the whole look at the environment.
OFF: Final = Mode.OFF
REFRESH: Final = Mode.REFRESH
REPLAY: Final = Mode.REPLAY

_in_place_of_off: Mode = Mode.OFF
"""The mode that is set where `off` is asked for."""


def make_off(mode: Mode) -> None:
    """Let those who ask for `off` from now on have this mode, since a recorded test is to record or replay each step.

    `OFF` makes `off` what it was.
    """
    global _in_place_of_off
    _in_place_of_off = mode


def mode_of_off() -> Mode:
    """Return the mode that is set where `off` is asked for: `OFF`, if it is not a recorded test's."""
    return _in_place_of_off


def mode_named(text: object, source: str) -> Mode:
    """Return the mode of this name.

    Raises ValueError, which names the modes and `source` the name was given.
    """
    mode = _NAMED.get(text) if isinstance(text, str) else None
    if mode is None:
        raise ValueError(f"{source} is one of {', '.join(mode.value for mode in Mode)}, not {text!r}")
    return _in_place_of_off if mode is OFF else mode
