"""Remember what other threads and tasks change faster than it can be walked, and leave it out of walks for a while.

If something else changes what a call reaches while the call is made, the walk of its code was in vain: the call is not
replayed. The larger the thing is, the longer a walk takes, and the likelier the next one is in vain, too: steps side by
side that all write to one table of their progress would do nothing but walk it. So what has changed several times in a
row is *unsettled* for some time. A walk that meets it does not look into it, and says so: then, too, a call of that
code is never replayed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from threading import Lock
from typing import Any, Final, NamedTuple

from musubito.locks import fork_safe

ENOUGH: Final = 3
"""Number of walks in vain after which a thing is unsettled."""
PATIENCE: Final = 0.1
"""Seconds that the walks in vain take at least before a thing is unsettled."""
SHARE: Final = 100
"""How many times as long as the walks in vain took they count, so that they take at most such a share of the time."""


class _Change(NamedTuple):
    """The walks in vain because of one thing, those of long ago aside."""

    thing: Any
    """The thing is kept, so that its id stays its own."""
    walks: int
    seconds: float
    """The seconds that these walks took."""
    until: float
    """The end of the time for which they count, as `time.monotonic` tells it."""

    @property
    def is_unsettled(self) -> bool:
        """Return whether the walks were too many."""
        return self.walks >= ENOUGH and self.seconds >= PATIENCE


_changes: Final[dict[int, _Change]] = {}
_lock = fork_safe(Lock())


def note_in_vain(things: Iterable[Any], seconds: float) -> None:
    """Note that a walk was in vain: something else changed these things before what it has read was of use.

    The walk took so many `seconds`.
    """
    changed = {id(thing): thing for thing in things}
    now = time.monotonic()
    with _lock:
        for key, each in list(_changes.items()):
            if each.until < now:
                del _changes[key]
        for key, thing in changed.items():
            before = _changes.get(key)
            walks, total = (1, seconds) if before is None else (before.walks + 1, before.seconds + seconds)
            _changes[key] = _Change(thing, walks, total, now + SHARE * total)


def is_unsettled(thing: Any) -> bool:
    """Return whether a thing is unsettled now."""
    change = _changes.get(id(thing)) if _changes else None
    return change is not None and change.is_unsettled and time.monotonic() < change.until
