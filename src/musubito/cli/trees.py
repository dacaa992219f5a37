"""How trees are drawn: lines before what is below, and many alike as one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Final, TypeVar

__all__ = ["branches", "grouped"]

T = TypeVar("T")
ALIKE: Final = 3
"""More things than these that are alike become one line."""


def branches(things: Sequence[T], lead: str) -> Iterator[tuple[str, str, T]]:
    """Each thing with what is drawn before it, and before all that is below it."""
    for place, thing in enumerate(things, 1):
        if place < len(things):
            yield f"{lead}├ ", f"{lead}│ ", thing
        else:
            yield f"{lead}└ ", f"{lead}  ", thing


def grouped(things: Sequence[T], kind: Callable[[T], Hashable]) -> list[list[T]]:
    """All things in their order, each alone; where many are of one kind, these together in the place of the first."""
    kinds = [kind(each) for each in things]
    alike: defaultdict[Hashable, list[T]] = defaultdict(list)
    for each, its in zip(things, kinds, strict=True):
        alike[its].append(each)
    groups: list[list[T]] = []
    for each, its in zip(things, kinds, strict=True):
        same = alike[its]
        if len(same) <= ALIKE:
            groups.append([each])
        elif same[0] is each:
            groups.append(same)
    return groups
