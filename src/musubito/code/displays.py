"""Say which modules and methods of other packages only show what they hold or are given."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Final

_DISPLAYS: Final[set[str]] = set()
"""The modules whose functions and objects only show what they hold or are given."""
_HOLDERS: Final[dict[str, Collection[str]]] = {}
"""The modules whose objects only show what they hold, while their functions may run it.

Each has the fields from which its objects built what they hold: these are not shown.
"""
_SHOWING: Final[set[str]] = set()
"""The methods that only show what they are given."""
_FIELDS: Final[set[str]] = set()
"""The fields of an object that are a part of what is shown of it."""


def register_display(
    modules: Collection[str],
    holders: Mapping[str, Collection[str]],
    methods: Collection[str],
    fields: Collection[str],
) -> None:
    """Register modules and methods that only show what they hold or are given, and fields that are shown.

    This applies to objects with an `ObjectPolicy` that shows something. Functions and objects of a module count, with
    the modules below it; of the modules in `holders`, objects alone. `holders` names fields that their objects read
    only while they are built. A method counts on any object. Code that reads `fields` alone sees what is shown.
    """
    _DISPLAYS.update(modules)
    _HOLDERS.update(holders)
    displays.cache_clear()
    objects_display.cache_clear()
    fields_to_build.cache_clear()
    _SHOWING.update(methods)
    _FIELDS.update(fields)


def may_show(names: Collection[str]) -> bool:
    """Return whether one of these names is a method that shows, or a field that is shown."""
    return not (_SHOWING.isdisjoint(names) and _FIELDS.isdisjoint(names))


def is_showing_method(name: str) -> bool:
    """Return whether a method of this name only shows what it is given."""
    return name in _SHOWING


def is_shown_field(name: str) -> bool:
    """Return whether a field of this name is a part of what is shown of an object."""
    return name in _FIELDS


@lru_cache(1024)
def displays(module: str) -> bool:
    """Return whether functions and objects of this module only show what they hold."""
    return _is_in(module, _DISPLAYS)


@lru_cache(1024)
def objects_display(module: str) -> bool:
    """Return whether objects of this module's classes only show what they hold."""
    return displays(module) or _is_in(module, _HOLDERS)


@lru_cache(1024)
def fields_to_build(module: str) -> Collection[str]:
    """Return the fields that objects of this module's classes read only while they are built."""
    return next((fields for holder, fields in _HOLDERS.items() if _is_in(module, (holder,))), ())


def _is_in(module: str, modules: Collection[str]) -> bool:
    return any(module == shown or module.startswith(f"{shown}.") for shown in modules)
