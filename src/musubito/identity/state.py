"""What the reached code itself writes: state, and not a constant.

Where the key or the attribute that is written is literal, only that is state, else the whole container. Both
count with what was there when any step of this process first saw it: the step's own writes do not make it
miss, and two processes that begin with different contents differ.
"""

from __future__ import annotations

import os
from collections import ChainMap, UserDict, UserList, defaultdict, deque
from contextvars import ContextVar
from threading import Lock
from types import CellType, MemberDescriptorType, ModuleType
from typing import Any
from weakref import WeakValueDictionary

from musubito.identity.description import ABSENT, fields_of
from musubito.identity.scan import Key

__all__ = ["CONTAINERS", "FirstSeen", "Written", "first_seen", "step_into", "value_of"]

CONTAINERS = (list, dict, set, bytearray, deque, ContextVar)


class FirstSeen:
    """A container with a copy of what it held; it keeps the container, so that its id stays its own."""

    __slots__ = ("__weakref__", "container", "copy")

    def __init__(self, container: Any) -> None:
        self.container = container
        self.copy = _copied(container, 0)


class FirstHeld:
    """What one place held; it keeps the container, so that its id stays its own."""

    __slots__ = ("__weakref__", "container", "value")

    def __init__(self, container: Any, key: object) -> None:
        self.container = container
        self.value = _copied(_held(container, key), 0)


_seen: WeakValueDictionary[int, FirstSeen] = WeakValueDictionary()
_held_first: WeakValueDictionary[tuple[int, object], FirstHeld] = WeakValueDictionary()
_latest: deque[FirstSeen | FirstHeld] = deque(maxlen=256)
"""Keeps some for steps that are made, called and dropped: the next one made alike has to see the same."""
_lock = Lock()
if hasattr(os, "register_at_fork"):
    # A child must not find it locked by a thread that it does not have.
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def first_seen(container: Any) -> FirstSeen:
    """The same for everyone who asks in this process, as long as one of them keeps it, and a while longer."""
    with _lock:
        seen = _seen.get(id(container))
        if seen is None:
            seen = _seen[id(container)] = FirstSeen(container)
            _latest.append(seen)
        return seen


def _first_held(container: Any, key: object) -> FirstHeld:
    with _lock:
        found = _held_first.get((id(container), key))
        if found is None:
            found = _held_first[id(container), key] = FirstHeld(container, key)
            _latest.append(found)
        return found


def _held(container: Any, key: Any) -> Any:
    """What is there now, or ABSENT. Runs no code of the user's."""
    if isinstance(container, dict):
        return dict.get(container, key, ABSENT)
    if isinstance(container, CellType):
        try:
            return container.cell_contents
        except ValueError:
            return ABSENT
    if isinstance(container, type):
        return vars(container).get(key, ABSENT)
    for where in ("__dict__", "__pydantic_private__", "__pydantic_extra__"):
        held = fields_of(container, where)
        if held is not None and key in held:
            return held[key]
    for cls in type(container).__mro__:
        slot = vars(cls).get(key)
        if isinstance(slot, MemberDescriptorType):
            try:
                return slot.__get__(container)
            except AttributeError:
                return ABSENT
    return ABSENT


def _copied(value: Any, depth: int) -> Any:
    """Containers copied through and through, everything else as it is."""
    if depth > 50:
        return value
    match value:
        case dict():
            return {key: _copied(each, depth + 1) for key, each in dict.items(value)}
        case list():
            return [_copied(each, depth + 1) for each in list.__iter__(value)]
        case deque():
            return [_copied(each, depth + 1) for each in value]
        case set():
            return set(set.__iter__(value))
        case bytearray():
            return bytes(value)
        case ContextVar() if depth == 0:
            return _copied(value_of(value), 1)
        case tuple() if type(value) is tuple:
            return tuple(_copied(each, depth + 1) for each in value)
        case _:
            return value


def _wrapped(container: Any) -> Any:
    """Where the standard library's containers that are written in Python keep what is put into them."""
    if isinstance(container, UserDict | UserList):
        return (fields_of(container) or {}).get("data", container)
    if isinstance(container, ChainMap):
        maps = (fields_of(container) or {}).get("maps")
        return maps[0] if isinstance(maps, list) and maps else container
    return container


def value_of(variable: ContextVar[Any]) -> Any:
    """What it holds in this context, its default too, or ABSENT."""
    try:
        return variable.get()
    except LookupError:
        return ABSENT


def step_into(container: Any, key: Key) -> Any:
    """What lies at `key`, or ABSENT. Runs no code of the user's."""
    if key.attribute:
        if isinstance(container, type):
            name = str(key.key)
            return next((vars(cls)[name] for cls in container.__mro__ if name in vars(cls)), ABSENT)
        try:
            fields = object.__getattribute__(container, "__dict__")
        except AttributeError:
            return ABSENT
        return fields.get(key.key, ABSENT) if isinstance(fields, dict) else ABSENT
    container = _wrapped(container)
    if isinstance(container, dict):
        try:
            return dict.get(container, key.key, ABSENT)
        except TypeError:
            return ABSENT
    if isinstance(container, list) and type(key.key) is int and -len(container) <= key.key < len(container):
        return list.__getitem__(container, key.key)
    return ABSENT


class Written:
    """Everything that is known to be written, by container. Grows until a walk finds nothing more."""

    __slots__ = ("_members", "_names", "_whole", "size")

    def __init__(self) -> None:
        self._names: dict[int, dict[Any, FirstHeld]] = defaultdict(dict)
        self._whole: dict[int, FirstSeen] = {}
        self._members: dict[type, set[tuple[tuple[Key, ...], Key | None]]] = defaultdict(set)
        self.size = 0
        """How much is known."""

    def add(self, root: Any, path: tuple[Key, ...], key: Key | None) -> None:
        """Something is written at `key` of what `path` leads to."""
        container = root
        for step in path:
            container = step_into(container, step)
            if container is ABSENT:
                return
        if key is None or not key.attribute:
            container = _wrapped(container)
        if key is None or (key.attribute and isinstance(container, CONTAINERS)):
            if isinstance(container, CONTAINERS) and id(container) not in self._whole:
                self._whole[id(container)] = first_seen(container)
                self.size += 1
        elif key.attribute or isinstance(container, dict):
            self.add_name(container, key.key)
        elif isinstance(container, CONTAINERS):
            self.add(container, (), None)

    def add_name(self, container: Any, name: object) -> None:
        """One literal name in `container` is written."""
        if isinstance(container, ModuleType):
            container = container.__dict__
        if name not in self._names[id(container)]:
            self._names[id(container)][name] = _first_held(container, name)
            self.size += 1

    def add_member(self, cls: type, path: tuple[Key, ...], key: Key | None) -> None:
        """A method of `cls` writes this in its receiver."""
        if (path, key) not in self._members[cls]:
            self._members[cls].add((path, key))
            self.size += 1

    def of_instance(self, instance: Any) -> None:
        """Applies to `instance` what the methods of its classes write in their receivers."""
        for cls in type(instance).__mro__:
            for path, key in self._members.get(cls, ()):
                self.add(instance, path, key)

    def names(self, container: Any) -> frozenset[Any]:
        """The names in `container` that are written, and exempt."""
        return frozenset(self._names.get(id(container), ()))

    def first(self, container: Any, name: object) -> Any:
        """What one of those names held when it was first seen, or ABSENT."""
        return self._names[id(container)][name].value

    def whole(self, container: Any) -> FirstSeen | None:
        """What `container` counts with if it is written at keys that are not literal."""
        return self._whole.get(id(container))

    def touches(self, container: Any) -> bool:
        """Whether anything in `container` is written."""
        return id(container) in self._names or id(container) in self._whole
