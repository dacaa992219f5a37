"""Remember what a step itself has put into a context variable or a `threading.local`.

Such a value counts no more than one that is not there: a client that a step makes for its thread, a table of usage that
it keeps in its context. Whatever anything else has put there counts at each call: a "current user" is never another's.
So this is remembered in the thread or the context alone, and never stored.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

from musubito.code.live import ABSENT, ATOMS

_OF_CONTEXT: Final[ContextVar[Mapping[tuple[int, str], Any]]] = ContextVar("musubito_own_values")
_numbers: Final = itertools.count()


class OwnValues:
    """The values that one step has put into its contexts and threads, by the names of their places."""

    def __init__(self) -> None:
        self._number = next(_numbers)
        self._of_thread = threading.local()

    def has_put(self, name: str, holder: object, value: Any) -> bool:
        """Return whether the step itself has put a value where it is, or nothing is there."""
        if value is ABSENT:
            return True
        if isinstance(holder, ContextVar):
            return _OF_CONTEXT.get({}).get((self._number, name), ABSENT) is value
        return vars(self._of_thread).get(name, ABSENT) is value

    def note(self, name: str, holder: object, value: Any) -> None:
        """Note that the step has put a value there; anything else may put the same text or number there."""
        if type(value) in ATOMS:
            return
        if isinstance(holder, ContextVar):
            _OF_CONTEXT.set({**_OF_CONTEXT.get({}), (self._number, name): value})
        else:
            vars(self._of_thread)[name] = value
