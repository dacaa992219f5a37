"""Warn of results that are stored and can never be replayed, because one of their classes cannot be found again.

Nothing leads to such a class before the step runs.
"""

from __future__ import annotations

from typing import Final

from musubito.errors import warn

MAX_WARNED: Final = 10_000
"""Pairs of a step and a class that are remembered at most."""
_warned: set[tuple[str, str]] = set()


def warn_of_class(operation: str, name: str) -> None:
    """Warn, once for each step and class, that a stored result cannot be decoded again."""
    if (operation, name) in _warned:
        return
    if len(_warned) >= MAX_WARNED:
        _warned.clear()
    _warned.add((operation, name))
    warn(
        f"{operation}: its result holds an instance of {name}, a class that neither its module nor the step's code "
        "leads to: the result is stored and never replayed. Define the class at the top of its module, or name it in "
        "the step's return annotation."
    )
