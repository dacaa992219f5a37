"""Tell from audit events which functions were given other code or other defaults.

To read the `__code__` or the defaults of a function raises an audit event itself. Where a hook listens, the event costs
more than the read. So a check reads them again only if one of its own functions was changed since.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, Final
from weakref import WeakSet

from musubito.code.audit_hook import listen

ATTRIBUTES: Final = frozenset({"__code__", "__defaults__", "__kwdefaults__"})
"""Attributes of a function that a check watches by audit events."""
LATEST: Final = [object()]
"""Holds another object after each change of any function."""
_rebound: Final[WeakSet[FunctionType]] = WeakSet()
"""The functions that were changed."""


def _changes(args: tuple[Any, ...]) -> None:
    if type(args[0]) is FunctionType and args[1] in ATTRIBUTES:
        # In this order, and both before the change: a check that finds the same object has not missed the function.
        _rebound.add(args[0])
        LATEST[0] = object()


TOLD: Final = listen({"object.__setattr__": _changes, "object.__delattr__": _changes})
"""Whether audit events of changes arrive at all."""


class Unchanged:
    """Tells whether functions are as they were."""

    def __init__(self, functions: Sequence[FunctionType], build: Callable[[], Callable[[], bool]]) -> None:
        self._functions = functions
        self._build = build
        """Makes the function that compares them, once one of them was changed."""
        self._compare: Callable[[], bool] | None = None
        self.since: object = None

    def _look(self) -> bool:
        if self._compare is None:
            self._compare = self._build()
        return self._compare()

    def __call__(self) -> bool:
        """Return whether the functions are as they were."""
        if not TOLD:
            return self._look()
        latest = LATEST[0]
        if any(function in _rebound for function in self._functions):
            return self._look()
        self.since = latest
        return True
