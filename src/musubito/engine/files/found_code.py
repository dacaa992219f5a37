"""Count the user's code that a body finds by what it unpickles.

The step's code names none of these classes and functions. Each counts with all that it reaches, as the code of a step
does. What the body changes of that is its own state.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from types import FunctionType, ModuleType
from typing import Any, Final, NamedTuple

from musubito.code.fingerprint import MOST_CLASSES, CodeTracker, is_users_code
from musubito.code.state.own_changes import ObservedRun

CODE: Final = "code"
"""The kind of a read of code that a body has found. Its key is the module and the name in it, with a colon between."""
CODE_ALONE: Final = "code alone"
"""The same for code whose files are not known to hold it: it counts as changed if its module is not loaded."""
STEP: Final = "code that is found"
"""Stands for the name of the step whose runs change the state of such code."""
CODES: Final = (type, FunctionType)
"""Classes of code that counts. What a name stands for now may be data."""


class FoundCode(NamedTuple):
    """A class or function that a body has found."""

    digest: bytes
    """The digest of its code, before the body has run it."""
    run: ObservedRun


def home_of_key(key: str) -> ModuleType | None:
    """Return the module of the code with this key; None if it is not loaded."""
    return sys.modules.get(key.partition(":")[0])


def found_code(key: str, seen_from: str) -> FoundCode | None:
    """Return the code with this key if it is the user's, for a body of the module `seen_from`."""
    thing = _thing_called(key)
    if not is_users_code(thing, seen_from):
        return None
    tracker = _tracker_of(thing)
    digest = tracker.current().identity()
    return FoundCode(digest, tracker.begin()[1])


def digest_now(key: str) -> bytes | None:
    """Return the present digest of the code with this key; None if there is none, or its module is not loaded.

    The key may come from a database, so nothing is imported for it.
    """
    thing = _thing_called(key)
    return None if thing is None else _tracker_of(thing).current().identity()


@lru_cache(MOST_CLASSES)
def _tracker_of(thing: Any) -> CodeTracker:
    return CodeTracker(thing, step=STEP)


def _thing_called(key: str) -> Any:
    """Return the class or function with this module and name; None if there is none."""
    thing: Any = home_of_key(key)
    for part in key.partition(":")[2].split("."):
        # `getattr` would run a `__getattr__`.
        thing = vars(thing).get(part) if issubclass(type(thing), ModuleType | type) else None
    return thing if issubclass(type(thing), CODES) else None
