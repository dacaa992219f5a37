"""Say which modules and methods of other packages only show what they hold or are given."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Final

_DISPLAYS: Final[set[str]] = set()
"""The modules whose functions and objects only show what they hold or are given."""
_SHOWING: Final[set[str]] = set()
"""The methods that only show what they are given."""


def register_display(modules: Collection[str], methods: Collection[str]) -> None:
    """Register modules and methods that only show what they hold or are given.

    This applies to objects with an `ObjectPolicy` that shows something. Functions and objects of a module count, with
    the modules below it. A method counts on any object.
    """
    _DISPLAYS.update(modules)
    displays.cache_clear()
    _SHOWING.update(methods)


def is_showing_method(name: str) -> bool:
    """Return whether a method of this name only shows what it is given."""
    return name in _SHOWING


@lru_cache(1024)
def displays(module: str) -> bool:
    """Return whether functions and objects of this module only show what they hold."""
    return any(module == shown or module.startswith(f"{shown}.") for shown in _DISPLAYS)
