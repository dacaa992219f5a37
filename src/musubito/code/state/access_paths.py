"""Define places: the things that a walk reads one by one and can look at again.

A place is a name in a namespace, a field of an object, or the content of a container.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import Enum, auto
from typing import Any, NamedTuple, TypeAlias

from musubito.code.graph_record import ABSENT, ATOMS


class EntryKey(Enum):
    """Stands for a part of a container that is no entry: its elements, its order, its content, its names.

    Or for all the user's things in it, at whatever depth, or for the classes that are registered with a class.
    """

    ELEMENTS = auto()
    ORDER = auto()
    CONTENT = auto()
    NAMES = auto()
    HELD = auto()
    REGISTERED = auto()


ELEMENTS, ORDER, CONTENT = EntryKey.ELEMENTS, EntryKey.ORDER, EntryKey.CONTENT
NAMES, HELD = EntryKey.NAMES, EntryKey.HELD


class Described:
    """A value with a digest of what it was made of; only the digests are compared."""

    def __init__(self, digest: object, value: Any) -> None:
        self.digest = digest
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Described) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


class PlaceKind(Enum):
    """The kind of a place, which decides what code may have written there."""

    NAME = auto()
    """A name that code binds: a global, or a variable of an enclosing function."""
    FIELD = auto()
    """A field of an object, a function or a class."""
    INSIDE = auto()
    """The content of a container."""


class Observation(NamedTuple):
    """A place that a walk has read: what it held, how to look again, and what it counted with.

    The value of a mapping is its keys and values, under the key `ORDER`. Under a set of keys, the value is what the
    mapping holds besides those keys.
    """

    kind: PlaceKind
    container: Any
    key: Hashable
    value: Any
    look: Callable[[], Any]
    counted: Any


Entries: TypeAlias = tuple[tuple[Any, ...], tuple[Any, ...]]
"""The keys and the values of a mapping."""


def hashed(key: Any) -> Hashable:
    """Return a key by which to remember a place; only plain values are asked for their hash."""
    if isinstance(key, EntryKey | str):
        return key
    return (type(key), key) if type(key) in ATOMS else ("id", id(key))


def same(a: Any, b: Any) -> bool:
    """Return whether two values of a place are the same, without calling an `__eq__` of the user's."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if type(a) is tuple:
        return len(a) == len(b) and all(map(same, a, b))
    if type(a) is Described:
        return bool(a == b)
    return type(a) in ATOMS and bool(a == b) and repr(a) == repr(b)


def may_change(value: Any) -> bool:
    """Return whether what a value holds may change while the value stays the same object."""
    if type(value) is tuple:
        return any(map(may_change, value))
    return type(value) not in ATOMS and value is not ABSENT
