"""Remember what other threads change faster than it can be walked, and leave it out of walks for a while.

A walk whose things change meanwhile is in vain. The larger they are, the longer it takes, and the likelier the next
walk is in vain, too: steps side by side that all write to one table of their progress would do nothing else. So what
has changed during several walks is *unsettled* for some seconds. A walk that meets it does not look into it, and says
so: a call of that code is never replayed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from threading import Lock
from typing import Any, Final, NamedTuple

from musubito.code.state.access_paths import Observation, same
from musubito.locks import fork_safe

TIMES: Final = 100
"""How many times as long as the walks in vain took a thing is unsettled: so they take a small part of the time."""
LEAST: Final = 1.0
"""Seconds for which a thing is unsettled at least."""


class _Unsettled(NamedTuple):
    thing: Any
    """The thing is kept, so that its id stays its own."""
    until: float
    """The end of the time for which it is unsettled, as `time.monotonic` tells it."""


_things: Final[dict[int, _Unsettled]] = {}
_lock = fork_safe(Lock())


def note_unsettled(observations: Iterable[Observation], took: float) -> None:
    """Note as unsettled what holds anything else now than when these places were read.

    `took`: seconds that the walks in vain took.
    """
    now = time.monotonic()
    changed = [each.container for each in observations if _differs(each)]
    with _lock:
        for key, each in list(_things.items()):
            if each.until < now:
                del _things[key]
        for thing in changed:
            prior, until = _things.get(id(thing)), now + max(LEAST, TIMES * took)
            _things[id(thing)] = _Unsettled(thing, until if prior is None else max(prior.until, until))


def is_unsettled(thing: Any) -> bool:
    """Return whether a thing is unsettled now. A thing that is not any more is forgotten."""
    unsettled = _things.get(id(thing)) if _things else None
    if unsettled is not None and unsettled.until <= time.monotonic():
        _things.pop(id(thing), None)
        return False
    return unsettled is not None


def _differs(observation: Observation) -> bool:
    try:
        return not same(observation.value, observation.look())
    except Exception:  # a look at a changed place may raise anything
        return True
