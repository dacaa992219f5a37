"""Keep what was used lately, up to a size."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class RecentCache(Generic[K, V]):
    """A cache of two generations: when the younger one is full, what was not used since it began is dropped.

    Threads may use it side by side: at worst, something is dropped early.
    """

    def __init__(self, most: int) -> None:
        """Make an empty cache; a generation is full at the size `most`."""
        self._most = most
        self._young: dict[K, tuple[V, int]] = {}
        self._old: dict[K, tuple[V, int]] = {}
        self._size = 0

    def get(self, key: K) -> V | None:
        """Return what is kept under a key, None if nothing is."""
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is None:
                return None
            self.keep(key, *found)
        return found[0]

    def __iter__(self) -> Iterator[K]:
        """Iterate over the keys under which something is kept."""
        return iter({**self._old, **self._young})

    def keep(self, key: K, value: V, size: int) -> None:
        """Keep a value of a size."""
        self._size += size
        if self._size > self._most:
            self._old, self._young, self._size = self._young, {}, size
        self._young[key] = value, size
