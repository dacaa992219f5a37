"""Find the user's code in packages: `httpx.Client.send = mine`, `monkeypatch.setattr(...)`.

A class of a package counts by its name, and with the members that the user wrote, or that wrap what the user wrote.
So does a module of a released package, if the step runs the module as its own. A class that a package makes at run
time, perhaps of the user's things, counts with its data, too.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from operator import is_
from types import FunctionType, ModuleType
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from musubito.code.describers.mock_objects import is_mock
from musubito.code.describers.object_settings import CONTAINERS
from musubito.code.ownership import Owner, Owners
from musubito.code.walk import Walk
from musubito.values.class_instances import HEAP_TYPE
from musubito.values.class_names import find_module, functions_of, lies_in_its_module, module_of_class

WRAPPED: Final = 10
"""Functions around one another that are looked at."""
NEVER: Final = frozenset({"builtins", "typing", "abc", "enum", "typing_extensions"})
"""Modules whose classes are never patched: they make classes, or are bases of them."""


class _Searched(NamedTuple):
    """The members of a class or module when it was searched, and the names of the user's members among them."""

    own: frozenset[str]
    keys: tuple[str, ...]
    members: tuple[Any, ...]
    names: list[str]

    def is_of(self, own: frozenset[str], keys: tuple[str, ...], values: tuple[Any, ...]) -> bool:
        """Return whether a search now would find the same."""
        return self.own == own and self.keys == keys and all(map(is_, self.members, values))


_searched: Final[WeakKeyDictionary[type | ModuleType, _Searched]] = WeakKeyDictionary()
"""The latest search of each class and module."""


def patch_links(walk: Walk, cls: type, name: str) -> list[tuple[str, bytes]]:
    """Return links to the members that the user put into a class of a package and into its bases."""
    links = module_patch_links(walk, cls.__module__)
    for base in cls.__mro__:
        if id(base) in walk.unpatched or not may_be_patched(walk.origins, base):
            continue
        walk.unpatched[id(base)] = base
        # All members are watched at once: there are many, and a patch replaces one or adds one.
        walk.guard.members(base, tuple(vars(base).values()))
        for patched, member in patched_members(walk.origins, base):
            links.append(
                (f"{base.__qualname__}.{patched}", walk.link(member, walk.part_name(member, f"{name}.{patched}")))
            )
    return links


def may_be_patched(origins: Owners, cls: type) -> bool:
    """Return whether members of a class can be replaced, and the class is no class of the user's."""
    return bool(cls.__flags__ & HEAP_TYPE) and cls.__module__ not in NEVER and origins.of_class(cls) is not Owner.USER


def patched_members(origins: Owners, cls: type) -> list[tuple[str, Any]]:
    """Return the members that the user put into a class of a package, by name."""
    members = vars(cls)
    return [(name, members[name]) for name in _patched_in(origins, cls, members)]


def module_patch_links(walk: Walk, name: str) -> list[tuple[str, bytes]]:
    """Return links to the user's members of a module, if the step runs that module of a released package."""
    module = find_module(name) if name in walk.released else None
    if module is None or id(module) in walk.unpatched:
        return []
    walk.unpatched[id(module)] = module
    members = vars(module)
    # Other members of a module may change at each call: a counter, a cache.
    patched = functools.partial(_patched_in, walk.origins, module, members)
    names = patched()
    walk.guard.same(patched, names)
    links: list[tuple[str, bytes]] = []
    for each in sorted(names):
        member = members[each]
        walk.guard.item(members, each, member)
        links.append((f"{name}.{each}", walk.link(member, walk.part_name(member, f"{name}.{each}"))))
    return links


def _patched_in(origins: Owners, holder: type | ModuleType, members: Mapping[str, Any]) -> list[str]:
    """Return the names of the user's members, and search for them only if the members are others than before."""
    items = list(members.items())  # at once: another thread may add to the members meanwhile
    keys, values = tuple(key for key, _ in items), tuple(value for _, value in items)
    searched = _searched.get(holder)
    if searched is None or not searched.is_of(origins.own, keys, values):
        is_made = isinstance(holder, type) and not lies_in_its_module(holder)
        names = [
            name
            for name, member in items
            if is_of_the_user(origins, member) or (is_made and _is_setting_of_class(name, member))
        ]
        searched = _searched[holder] = _Searched(origins.own, keys, values, names)
    return searched.names


def is_of_the_user(origins: Owners, member: Any) -> bool:
    """Return whether the user wrote a class or a function, or put in a mock for one."""
    if isinstance(member, type):
        return module_of_class(member) is not None and origins.of_class(member) is Owner.USER
    return is_mock(member) or any(
        # A function that the standard library writes for a class (named tuples) names a module that does not exist.
        find_module(str(each.__globals__.get("__name__"))) is not None and origins.of_function(each) is Owner.USER
        for function in functions_of(member)
        for each in _wrapped_functions(function)
    )


def _wrapped_functions(function: FunctionType) -> Iterator[FunctionType]:
    """Yield a function and the functions that it wraps: a package may put the user's function into a class."""
    each: Any = function
    for _ in range(WRAPPED):  # a function may wrap itself
        if type(each) is not FunctionType:
            return
        yield each
        each = each.__dict__.get("__wrapped__")


def _is_setting_of_class(name: str, member: Any) -> bool:
    """Return whether a member of a class that was made at run time is a setting, such as the description of a tool."""
    return not name.startswith("_") and type(member) in (str, int, float, bool, *CONTAINERS)
