"""Places: what a walk reads, one by one, and can look at again.

A place is a name in a namespace, a field of an object, or what a container holds.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import Enum, auto
from typing import Any, NamedTuple, TypeAlias

from musubito.identity.description import ABSENT, ATOMS

__all__ = ["CONTENT", "ELEMENTS", "ORDER", "Entries", "EntryKey", "Kind", "Observation", "hashed", "may_change", "same"]


class EntryKey(Enum):
    """Stands for a place in a container that is no entry of it."""

    ELEMENTS = auto()
    ORDER = auto()
    CONTENT = auto()


ELEMENTS, ORDER, CONTENT = EntryKey.ELEMENTS, EntryKey.ORDER, EntryKey.CONTENT


class Kind(Enum):
    """What sort of place it is, which decides what code may have written there."""

    NAME = auto()
    """A name that code binds: a global, a variable of an enclosing function."""
    FIELD = auto()
    """A field of an object, a function or a class."""
    INSIDE = auto()
    """What a container holds."""


class Observation(NamedTuple):
    """A place that a walk has read: what it held, how to look again, and what it counted with.

    A mapping's value is its keys and values, by `ORDER`. By a set of keys it is what the mapping holds besides those.
    """

    kind: Kind
    container: Any
    key: Hashable
    value: Any
    look: Callable[[], Any]
    counted: Any


Entries: TypeAlias = tuple[tuple[Any, ...], tuple[Any, ...]]
"""Keys and values of a mapping."""


def hashed(key: Any) -> Hashable:
    """Return a key to remember a place by; the hash of none but plain values is asked for."""
    if isinstance(key, EntryKey | str):
        return key
    return (type(key), key) if type(key) in ATOMS else ("id", id(key))


def same(a: Any, b: Any) -> bool:
    """Return whether a place holds what it held. No `__eq__` of the user's is called."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if type(a) is tuple:
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) in ATOMS and bool(a == b) and repr(a) == repr(b)


def may_change(value: Any) -> bool:
    """Whether what a value holds may become another while it stays the same object."""
    if type(value) is tuple:
        return any(map(may_change, value))
    return type(value) not in ATOMS and value is not ABSENT
