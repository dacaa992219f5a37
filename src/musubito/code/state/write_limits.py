"""Note the places that code may write: a run of the code can have changed no others.

Names decide, not flow. Anything outside of these limits was changed by other code:

- Code writes a global only if it binds that very name.
- Code writes a field only if it sets a field of that name.
- Code writes a container only if it calls a method that changes such a container, or hands the container on.

Code also names a write to an object of a package by an item (`session.headers["a"] = 1`), by a method that changes
containers (`jar.set("a", 1)`) or by a property (`client.timeout = 1`). All below that object is then named. A method
that sets a field to what it is given names that field (`client.use("b")`).
"""

from __future__ import annotations

from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from copy import copy
from types import ModuleType
from typing import Any, Final, NamedTuple

from musubito.code.fixpoint import Discoveries
from musubito.code.graph_record import ABSENT, ATOMS, fields_of, of_this_thread, static
from musubito.code.machinery import is_machinery
from musubito.code.state.access_paths import NAMES, PlaceKind, hashed
from musubito.code.syntax.name_usage import ANY_FIELD, NameWrite, PathStep
from musubito.code.syntax.setters import is_set_by

CONTAINERS = (list, dict, set, bytearray, deque, ContextVar)
"""Types of containers that code can change in place."""
SINKS: Final = frozenset({list, dict, set, bytearray, deque, defaultdict, Counter, OrderedDict})
"""Types whose objects can be added to without a look at what they hold."""


class Manner(NamedTuple):
    """The way in which code writes a place.

    `counts`: the code only adds to it. `lazily`: the code only makes what is missing. `cached`: a cached property does
    that.
    """

    counts: bool
    lazily: bool
    cached: bool = False

    def and_as(self, other: Manner) -> Manner:
        """Return the properties that both manners share."""
        return Manner(self.counts and other.counts, self.lazily and other.lazily, self.cached and other.cached)


ANYHOW: Final = Manner(counts=False, lazily=False)
"""The manner of any other write."""
CACHED: Final = Manner(counts=False, lazily=True, cached=True)
"""The manner of a cached property."""
OF_PACKAGE: Final = Manner(counts=True, lazily=True, cached=True)
"""The manner in which a package's function sets its own variables: they mean the same, whichever step has called it."""


class WriteLimits:
    """The limits of writes by the reached code: by names where names decide, otherwise by what is handed on."""

    def __init__(self) -> None:
        self.fields = Discoveries()
        """Names of the fields that code sets, of any object."""
        self.called_names = Discoveries()
        """Names of the methods that code which can run calls."""
        self.mutators: set[str] = set()
        """Methods that change a container and that code calls on something not known here."""
        self.dynamic = False
        """Whether code may write in ways that its text does not show (`exec`, `globals`)."""
        self._names: dict[tuple[int, Hashable], Manner] = {}
        """How code writes the places that it names, by the id of the container and the name."""
        self._touched: set[int] = set()
        """Containers in which code names a place, by id."""
        self._whole: dict[int, Manner] = {}
        """Containers of which code writes any place, by id."""
        self._members: defaultdict[type, set[NameWrite]] = defaultdict(set)
        """Writes of methods to their receivers, by class."""
        self._opened: dict[int, bool] = {}
        """Things that code hands on, by id, each with whether it is another package's."""
        self._named_below: set[int] = set()
        """Objects of which code names a write to something below, by id."""
        self._parents: dict[int, set[int]] = {}
        """The ids of the things by which a thing was reached."""
        self.size = 0
        """How often these limits have grown."""
        self.is_weighed = False
        """Whether this round weighed a change by how code writes a place."""
        self._untouched: set[int] = set()
        """Containers that were asked for in this round and to which no write was known, by id."""
        self._closed: set[tuple[int, bool]] = set()
        """Containers that were asked for in this round and were not known to be handed on."""
        self._written: dict[type, int] = {}
        """How many writes of methods to their receivers were known when they were asked for, by class."""
        self._before = 0
        """The size at the beginning of this round."""

    def ask_anew(self) -> None:
        """Begin a round: forget all questions."""
        self._untouched, self._closed, self._written = set(), set(), {}
        self.is_weighed, self._before = False, self.size

    @property
    def is_settled(self) -> bool:
        """Return whether each question of this round would get the same answer now."""
        if self.is_weighed and self.size != self._before:
            return False
        if not (self._untouched.isdisjoint(self._touched) and self._untouched.isdisjoint(self._whole)):
            return False
        if any(len(self._members[cls]) != count for cls, count in self._written.items()):
            return False
        return not any(self._opens(key, foreign) for key, foreign in self._closed)

    def beside(self) -> WriteLimits:
        """Return limits for the walk of a value that a run has left.

        They share the things that are handed on, and know the methods that are called now.
        """
        limits = WriteLimits()
        limits.called_names, limits._opened, limits._parents = copy(self.called_names), self._opened, self._parents
        return limits

    def add(self, root: Any, write: NameWrite) -> None:
        """Note that code writes at a key of the container to which a path leads from `root`; without a key, at any."""
        container, key = root, write.key
        for step in write.path:
            inner = step_into(container, step)
            if inner is ABSENT:
                self._add_property(container, step)
                return
            container = inner
        container = of_this_thread(container)
        manner = Manner(write.counts, write.lazily)
        if key is None or not key.attribute:
            container = wrapped(container)
        is_field = key is not None and key.attribute and not isinstance(container, CONTAINERS)
        if key is not None and (is_field or isinstance(container, dict)):
            self.add_name(container, key.key, manner)
            if is_field:
                self._add_property(container, key)
        elif isinstance(container, CONTAINERS):
            self._note(self._whole, id(container), manner)
        elif not is_machinery(container):  # a client's `set` and `add` write elsewhere
            self.add_below(container)

    def add_below(self, container: Any) -> None:
        """Note that code names writes to anything below an object."""
        self._named_below.add(id(container))

    def _add_property(self, container: Any, step: PathStep) -> None:
        """Note that code writes to a property of an object, or to something to which a property leads.

        A property mostly stands for the field of its name with an underscore before it. Without such a field, the code
        may write anything below the object.
        """
        if isinstance(container, (*CONTAINERS, ModuleType, type)):
            return
        name = str(step.key)
        if step.attribute and not isinstance(static(container, name), property):
            return
        private = f"_{name}"
        inner = (fields_of(container) or {}).get(private, ABSENT)
        if inner is ABSENT:
            self.add_below(container)
            return
        self.add_name(container, private, ANYHOW)
        if type(inner) not in ATOMS:
            self.add_below(inner)

    def add_name(self, container: Any, name: Hashable, manner: Manner) -> None:
        """Note that code writes this one name in `container`."""
        if isinstance(container, ModuleType):
            container = container.__dict__
        self._touched.add(id(container))
        self._note(self._names, (id(container), hashed(name)), manner)

    def _note(self, places: dict[Any, Manner], place: Any, manner: Manner) -> None:
        before = places.get(place)
        after = manner if before is None else before.and_as(manner)
        if after != before:
            places[place] = after
            self.size += 1

    def add_member(self, cls: type, to_class: bool, write: NameWrite) -> None:
        """Note a write by a method of `cls` to its receiver: an instance or, if `to_class`, the class itself."""
        if write.path and write.path[0] == PathStep(True, "__class__"):
            write, to_class = write._replace(path=write.path[1:]), True
        if to_class:
            self.add(cls, write)
        elif write not in self._members[cls]:
            self._members[cls].add(write)
            self.size += 1

    def of_instance(self, instance: Any) -> None:
        """Note for `instance` the writes by methods of its classes to their receivers."""
        for cls in type(instance).__mro__:
            writes = tuple(self._members[cls])
            self._written.setdefault(cls, len(writes))
            for write in writes:
                self.add(instance, write)

    def open(self, value: Any, *, foreign: bool = False) -> None:
        """Note that code hands `value` on: it and all below it may be changed.

        `foreign`: the value is another package's.
        """
        self._opened[id(value)] = foreign or self._opened.get(id(value), False)

    def below(self, value: Any, parent: Any) -> None:
        """Note that `value` was reached by way of `parent`."""
        self._parents.setdefault(id(value), set()).add(id(parent))

    def touches(self, container: Any) -> bool:
        """Return whether code names a write to anything in `container`."""
        key = id(container)
        if key in self._whole or key in self._touched:
            return True
        self._untouched.add(key)
        return False

    def writes(self, container: Any, key: Hashable) -> bool:
        """Return whether code names a write to this very place."""
        return id(container) in self._whole or (id(container), hashed(key)) in self._names

    def add_whole(self, container: Any) -> None:
        """Note that code writes to `container` at any key."""
        self._note(self._whole, id(container), ANYHOW)

    def manner(self, container: Any, key: Hashable) -> Manner:
        """Return how code writes this very place, as far as it names the place."""
        named = self._names.get((id(container), hashed(key)))
        whole = self._whole.get(id(container))
        if named is not None and whole is not None:
            return named.and_as(whole)
        return named or whole or ANYHOW

    def names(self, kind: PlaceKind, container: Any, key: Hashable) -> bool:
        """Return whether code names this very place or something above it, or sets a field of this name."""
        if self.writes(container, key) or (kind is PlaceKind.FIELD and self.fields.holds((key, ANY_FIELD))):
            return True
        if kind is PlaceKind.FIELD and is_set_by(type(container), key, self.called_names.all()):
            return True
        return self._is_below(id(container), self._named_below.__contains__)

    def is_open(self, container: Any, *, foreign: bool = False) -> bool:
        """Return whether the container, or something by which it was reached, was handed on.

        If `foreign` is true, only the objects of other packages among these count.
        """
        key = id(container)
        if self._opens(key, foreign):
            return True
        self._closed.add((key, foreign))
        return False

    def _opens(self, key: int, foreign: bool) -> bool:
        if foreign:
            return self._is_below(key, lambda each: self._opened.get(each, False))
        return self._is_below(key, self._opened.__contains__)

    def _is_below(self, key: int, is_wanted: Callable[[int], bool]) -> bool:
        """Return whether a thing, or something by which it was reached, is wanted; both by id."""
        pending, seen = [key], set[int]()
        while pending:
            each = pending.pop()
            if is_wanted(each):
                return True
            if each not in seen:
                seen.add(each)
                pending += self._parents.get(each, ())
        return False

    def allow(self, kind: PlaceKind, container: Any, key: Hashable) -> bool:
        """Return whether a run of this code may have changed this place."""
        if self.dynamic or self.writes(container, key):
            return True
        match kind:
            case PlaceKind.NAME:
                return False
            case PlaceKind.FIELD:
                # Python itself sets the `__init__` of a protocol's class when the first instance is made.
                is_protocol_init = (
                    key == "__init__" and isinstance(container, type) and "_is_protocol" in vars(container)
                )
                if key is NAMES and (self.fields or self.touches(container)):
                    return True
                return is_protocol_init or self.fields.holds((key, ANY_FIELD)) or self.is_open(container)
            case PlaceKind.INSIDE:
                inner = wrapped(container)
                if isinstance(inner, defaultdict) or self.is_open(container):
                    return True
                return any(hasattr(type(inner), method) for method in self.mutators)


def is_sink(value: Any) -> bool:
    """Return whether code that merely adds to a value cannot see it: an exact builtin container or an atom."""
    return type(value) in SINKS or type(value) in ATOMS


def step_into(container: Any, key: PathStep) -> Any:
    """Return the value at `key`, or ABSENT, without running code of the user's."""
    if key.attribute:
        if isinstance(container, type):
            name = str(key.key)
            return next((vars(cls)[name] for cls in container.__mro__ if name in vars(cls)), ABSENT)
        inner = of_this_thread(container)
        fields = fields_of(container) if inner is container else inner
        return ABSENT if fields is None else fields.get(key.key, ABSENT)
    container = wrapped(container)
    if isinstance(container, dict):
        try:
            return dict.get(container, key.key, ABSENT)
        except TypeError:
            return ABSENT
    if isinstance(container, list) and type(key.key) is int and -len(container) <= key.key < len(container):
        return list.__getitem__(container, key.key)
    return ABSENT


def wrapped(container: Any) -> Any:
    """Return the builtin container in which a `UserDict`, `UserList` or `ChainMap` keeps what is put into it."""
    if isinstance(container, UserDict | UserList):
        return (fields_of(container) or {}).get("data", container)
    if isinstance(container, ChainMap):
        maps = (fields_of(container) or {}).get("maps")
        return maps[0] if isinstance(maps, list) and maps else container
    return container
