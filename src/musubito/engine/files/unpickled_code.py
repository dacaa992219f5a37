"""Count the user's classes and functions that a body unpickles: the step's code names none of them.

Each counts with all that it reaches, as the code of a step does. What the body changes of that is its own state.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from operator import attrgetter
from typing import Any, Final, NamedTuple

from musubito.code.fingerprint import MOST_CLASSES, CodeTracker, is_users_code
from musubito.code.state.own_changes import ObservedRun

CODE: Final = "code"
"""The kind of a read of code that a body has unpickled. Its key is the module and the name."""
STEP: Final = "what is unpickled"
"""Stands for the name of the step whose runs change the state of such code."""


class Unpickled(NamedTuple):
    """A class or function that a body has unpickled."""

    digest: bytes
    """The digest of its code, before the body has run it."""
    run: ObservedRun


def unpickled(key: str, seen_from: str) -> Unpickled | None:
    """Return the class or function with this key if it is the user's, for a body of the module `seen_from`."""
    thing = _thing_called(key)
    if not is_users_code(thing, seen_from):
        return None
    tracker = _tracker_of(thing)
    digest = tracker.current().identity()
    return Unpickled(digest, tracker.begin()[1])


def digest_now(key: str) -> bytes | None:
    """Return the present digest of the code with this key; None if there is none."""
    thing = _thing_called(key)
    return None if thing is None else _tracker_of(thing).current().identity()


@lru_cache(MOST_CLASSES)
def _tracker_of(thing: Any) -> CodeTracker:
    return CodeTracker(thing, step=STEP)


def _thing_called(key: str) -> Any:
    """Return the thing with this module and name; None if there is none."""
    module, _, name = key.partition(":")
    try:
        return attrgetter(name)(import_module(module))
    except Exception:  # the module may raise anything, and a step that unpickles will hear of it
        return None
