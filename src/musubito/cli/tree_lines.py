"""Draw the lines of a tree, and group equal things that are drawn as one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Final, TypeVar

T = TypeVar("T")
ALIKE: Final = 3
"""Things of one kind that are drawn one by one; more become one line."""


def branches(things: Sequence[T], lead: str) -> Iterator[tuple[str, str, T]]:
    """Yield each thing with the text before it, and the text before all lines below it."""
    for place, thing in enumerate(things, 1):
        if place < len(things):
            yield f"{lead}├ ", f"{lead}│ ", thing
        else:
            yield f"{lead}└ ", f"{lead}  ", thing


def grouped(things: Sequence[T], kind: Callable[[T], Hashable]) -> list[list[T]]:
    """Return all things in their order, each in a group of its own.

    If more than `ALIKE` are of one kind, they are one group in the place of the first.
    """
    alike: defaultdict[Hashable, list[T]] = defaultdict(list)
    for thing in things:
        alike[kind(thing)].append(thing)
    groups: list[list[T]] = []
    for thing in things:
        same = alike[kind(thing)]
        if len(same) <= ALIKE:
            groups.append([thing])
        elif same[0] is thing:
            groups.append(same)
    return groups
