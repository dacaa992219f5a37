"""Choose which pairs of cases a commit has to pass. Only `make soak` tries all of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

__all__ = ["in_turn", "third"]


def third(number: int, names: Collection[Any]) -> list[Any]:
    """Return the cases; all but every third of them, from this number on, are left to soaks."""
    return [
        name if place % 3 == number else pytest.param(name, marks=pytest.mark.soak) for place, name in enumerate(names)
    ]


def in_turn(names: Collection[Any], others: Collection[Any]) -> list[Any]:
    """Return all pairs; all but one of each name, with another of the others from name to name, are left to soaks."""
    return [
        pytest.param(name, other, marks=() if (place - number) % len(others) == 0 else pytest.mark.soak)
        for place, name in enumerate(names)
        for number, other in enumerate(others)
    ]
