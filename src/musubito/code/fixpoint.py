"""Keep the discoveries of a walk, and the questions that were asked in vain before a discovery.

If something was asked for in vain and is found later in the same round, the question was answered wrongly: another
round is needed. If there is nothing of the kind, another round would find the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self


class Discoveries:
    """A set of names, or of things by their ids, that only grows and remembers each question answered with no."""

    def __init__(self) -> None:
        self._things: dict[Any, Any] = {}
        """The things are kept, so that their ids stay their own."""
        self._missed: set[Any] = set()
        """Keys that were asked for in vain in this round."""

    def __contains__(self, key: Any) -> bool:
        if key in self._things:
            return True
        self._missed.add(key)
        return False

    def __len__(self) -> int:
        return len(self._things)

    def __ior__(self, keys: Iterable[Any]) -> Self:
        self._things.update(dict.fromkeys(keys))
        return self

    def __copy__(self) -> Discoveries:
        copied = Discoveries()
        copied._things = dict(self._things)
        return copied

    def add(self, key: Any, thing: Any = None) -> None:
        """Note that a key is found."""
        self._things[key] = thing

    def meets(self, keys: Iterable[Any]) -> bool:
        """Return whether any of these keys is found, and remember the question."""
        return any(key in self for key in keys)

    def holds(self, keys: Iterable[Any]) -> bool:
        """Return whether any of these keys is found, without remembering the question: for use after the walk."""
        return not self._things.keys().isdisjoint(keys)

    def all(self) -> list[Any]:
        """Return the keys that are found, without remembering a question: for use after the walk."""
        return list(self._things)

    def lacks(self, keys: Iterable[Any]) -> set[Any]:
        """Return the keys that are not found."""
        return {key for key in keys if key not in self}

    def ask_anew(self) -> None:
        """Forget the questions that were answered with no."""
        self._missed.clear()

    @property
    def is_settled(self) -> bool:
        """Return whether all that was asked for in vain is still not found."""
        return self._missed.isdisjoint(self._things)
