"""What a walk finds out while it describes: things that are found, and those that were asked for before that.

What was asked for in vain, and is found later in the same round, was answered wrongly: then another round is needed.
If nothing was, another round would find the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

__all__ = ["Found"]


class Found:
    """Names, or things by their ids. What was found stays found."""

    __slots__ = ("_missed", "_things")

    def __init__(self) -> None:
        self._things: dict[Any, Any] = {}
        """A thing is kept, so that its id stays its own."""
        self._missed: set[Any] = set()

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

    def __copy__(self) -> Found:
        copied = Found()
        copied._things = dict(self._things)
        return copied

    def add(self, key: Any, thing: Any = None) -> None:
        """Note that it is found."""
        self._things[key] = thing

    def meets(self, keys: Iterable[Any]) -> bool:
        """Return whether any of these is found."""
        return any(key in self for key in keys)

    def holds(self, keys: Iterable[Any]) -> bool:
        """Return whether any of these is found, for those who ask when the walk is over."""
        return not self._things.keys().isdisjoint(keys)

    def lacks(self, keys: Iterable[Any]) -> set[Any]:
        """Return those of these that are not found."""
        return {key for key in keys if key not in self}

    def ask_anew(self) -> None:
        """Forget what was asked for in vain."""
        self._missed.clear()

    @property
    def is_settled(self) -> bool:
        """Whether what was asked for in vain is not found still."""
        return self._missed.isdisjoint(self._things)
