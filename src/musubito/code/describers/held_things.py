"""Find the user's things deep in objects of packages: `client.chat = fake`, an adapter that a session takes.

A client is not taken apart, since most of what it holds is its package's: connections, locks, caches. But a function or
an object of the user's in it decides what the client answers. So does a method that was replaced in one object or in
the class of one.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Collection, Iterator
from itertools import chain
from operator import is_
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final

from musubito.code.describers.introspection import mark_introspectable
from musubito.code.describers.object_policies import policy_of
from musubito.code.describers.object_settings import is_secret_field
from musubito.code.describers.patched_packages import is_of_the_user, may_be_patched, patched_members
from musubito.code.graph_record import ATOMS, below, contents, fields_of
from musubito.code.guard import base_of
from musubito.code.machinery import is_resource
from musubito.code.ownership import Owner, Owners, module_name, module_of
from musubito.code.state.access_paths import HELD, Described
from musubito.code.state.access_reader import Members, in_slot, members_of_slots
from musubito.code.walk import Walk
from musubito.values.own_names import is_own

MOST: Final = 256
"""Number of things that are entered, and of the elements of a container that is.

What a user puts into a client lies near its top, and the nearest things are entered first.
"""
LISTS: Final = (list, tuple, deque)
"""Types of containers whose elements have positions."""
FIELDS: Final = ("__dict__", "__pydantic_private__", "__pydantic_extra__")
"""Attributes in which objects keep fields."""
NEVER: Final = (*ATOMS, type, ModuleType)
"""Types of things that are not looked at: a package holds classes of the user's to know what it handles."""


def held_things_links(
    walk: Walk, value: Any, label: str, name: str, without: Collection[str] = ()
) -> list[tuple[str, bytes]]:
    """Return links to the user's things in an object of a package, but for those in its fields `without`.

    What the user put into the object's own class is left to `patch_links`.
    """
    links: list[tuple[str, bytes]] = []
    for path, thing in walk.read.content(value, _LatestSearch(walk.origins, without), f"{name}.*", HELD).value:
        mark_introspectable(walk, thing)
        links.append((f"{label}{path}", walk.link(thing, walk.part_name(thing, f"{name}{path}"))))
    return links


class _LatestSearch:
    """Searches an object for the user's things, and again only if something that was entered has changed."""

    def __init__(self, origins: Owners, without: Collection[str]) -> None:
        self._origins = origins
        self._without = without
        self._latest: _Search | None = None

    def __call__(self, root: Any) -> Described:
        """Return the user's things, each with the path from `root` to it."""
        latest = self._latest
        if latest is None or not latest.is_unchanged():
            self._latest = latest = _Search(self._origins, self._without, root)
        return latest.result


class _Search:
    """One search of an object for the user's things."""

    def __init__(self, origins: Owners, without: Collection[str], root: Any) -> None:
        self._origins = origins
        self._without = without
        self._classes: set[type] = set()
        """The classes of the things that were entered."""
        self._entered: list[Any] = []
        """The containers that were entered; of a dict and of a class, views of it."""
        self._sizes: list[int] = []
        self._held: list[Any] = []
        """The things in these containers, one after another."""
        found = list(self._found(root))
        self.result = Described([(path, id(thing)) for path, thing in found], found)

    def is_unchanged(self) -> bool:
        """Return whether a search now would find the same."""
        try:
            held = chain.from_iterable(self._entered)
            return [*map(len, self._entered)] == self._sizes and all(map(is_, held, self._held))
        except RuntimeError:  # another thread has changed one of them meanwhile
            return False

    def _found(self, root: Any) -> Iterator[tuple[str, Any]]:
        pending, seen = deque([("", root)]), {id(root): root}
        while pending:
            path, holder = pending.popleft()
            if holder is not root:
                for label, member in self._patched(type(holder)):
                    yield f"{path}{label}", member
            for label, each in self._inside(holder):
                if isinstance(each, NEVER) or policy_of(each) is not None:
                    continue  # an adapter says where the objects of its classes count
                if holder is root and label[1:] in self._without:
                    continue
                at = f"{path}{label}"
                if self._is_the_users(each) or (holder is not root and _is_replaced(holder, label[1:], each)):
                    yield at, each
                elif id(each) not in seen and len(seen) < MOST:
                    seen[id(each)] = each
                    pending.append((at, each))

    def _patched(self, cls: type) -> Iterator[tuple[str, Any]]:
        """Yield the members that the user put into the classes of an object, if nobody has looked at these."""
        for base in cls.__mro__:
            if base not in self._classes and may_be_patched(self._origins, base):
                self._classes.add(base)
                self._watch(vars(base).values())
                for name, member in patched_members(self._origins, base):
                    yield f"({base.__qualname__}).{name}", member

    def _is_the_users(self, thing: Any) -> bool:
        return self._origins.of_class(type(thing)) is Owner.USER or is_of_the_user(self._origins, thing)

    def _inside(self, thing: Any) -> list[tuple[str, Any]]:
        """Return the things that a thing holds, each with a label."""
        cls = type(thing)
        if cls in LISTS:
            elements = thing if cls is tuple else self._enter(thing)
            return [(f"[{number}]", each) for number, each in enumerate(elements)]
        if cls is MethodType:
            return [("", thing.__self__)]
        if cls is functools.partial:
            return [("", thing.func), ("", thing.args), ("", thing.keywords)]
        if cls is FunctionType:
            cells = zip(thing.__code__.co_freevars, map(contents, thing.__closure__ or ()), strict=True)
            return [*((f":{name}", each) for name, each in cells), ("", thing.__dict__.get("__wrapped__"))]
        if is_resource(cls) or is_own(module_name(cls)):
            return []
        inside: list[tuple[str, Any]] = []
        if isinstance(thing, dict):
            base = base_of(thing)
            keys, values = self._enter(base.keys(thing)), self._enter(base.values(thing))
            pairs = zip(keys, values, strict=False)  # another thread may add to the dict meanwhile
            inside += [
                (f"[{key!r}]" if type(key) in ATOMS else "[]", each)
                for key, each in pairs
                if not is_secret_field(key, each)
            ]
        for fields in filter(None, (fields_of(thing, attribute) for attribute in FIELDS)):
            names = tuple(fields)
            pairs = zip(names, self._enter(fields.values()), strict=False)
            inside += [(f".{name}", each) for name, each in pairs if not is_secret_field(name, each)]
        members = members_of_slots(cls)
        if members:
            slots = self._enter(_Slots(thing, members))
            pairs = zip((name for name, _ in members), slots, strict=False)
            inside += [(f".{name}", each) for name, each in pairs if not is_secret_field(name, each)]
        return inside

    def _enter(self, container: Any) -> tuple[Any, ...]:
        """Return the elements of a container, or of a view of it, by which a change is noticed; none of a large one."""
        if len(container) > MOST:
            return ()
        return self._watch(container)

    def _watch(self, container: Any) -> tuple[Any, ...]:
        elements = tuple(container)
        self._entered.append(container)
        self._sizes.append(len(elements))
        self._held += elements
        return elements


class _Slots:
    """A view of the slots of an object."""

    def __init__(self, thing: Any, members: Members) -> None:
        self._thing = thing
        self._members = members

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Any]:
        return (in_slot(self._thing, member) for _, member in self._members)


def _is_replaced(holder: Any, label: str, value: Any) -> bool:
    """Return whether a field of an object stands in place of a method, and its package has not put it there."""
    method = next((vars(cls)[label] for cls in type(holder).__mro__ if label in vars(cls)), None)
    if not isinstance(method, FunctionType | classmethod | staticmethod) or not callable(value):
        return False
    called: Any = value
    while (inner := below(called)) is not None:
        if type(called) is MethodType and called.__self__ is not holder:
            return True
        called = inner[0]
    package = module_name(type(holder)).partition(".")[0]
    return type(called) is not FunctionType or module_of(called).partition(".")[0] != package
