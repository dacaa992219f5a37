"""Find the user's code in classes of packages: `httpx.Client.send = mine`, `monkeypatch.setattr(...)`.

A class of a package counts by its name, and with the members that the user wrote.
"""

from __future__ import annotations

from operator import is_
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from musubito.identity.mocks import is_mock
from musubito.identity.names import known_as, loaded
from musubito.identity.origin import Origin, Origins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from musubito.identity.closure import Walk

__all__ = ["patches_linked"]

HEAP_TYPE: Final = 1 << 9
"""The flag of classes that are made at run time, as a class statement does."""
NEVER: Final = frozenset({"builtins", "typing", "abc", "enum", "typing_extensions"})
"""Modules whose classes are never patched: they make classes, or are bases of them."""


class _Searched(NamedTuple):
    """The members of a class when it was searched, and the names of the user's members among them."""

    own: frozenset[str]
    held: tuple[Any, ...]
    names: list[str]

    def is_of(self, own: frozenset[str], held: tuple[Any, ...]) -> bool:
        """Return whether a search now would find the same."""
        return self.own == own and len(self.held) == len(held) and all(map(is_, self.held, held))


_searched: Final[WeakKeyDictionary[type, _Searched]] = WeakKeyDictionary()
"""The searches that were made, by class."""


def patches_linked(walk: Walk, cls: type, name: str) -> list[tuple[str, bytes]]:
    """Return references to what the user put into a class of a package and into its bases."""
    links: list[tuple[str, bytes]] = []
    for base in cls.__mro__:
        if not base.__flags__ & HEAP_TYPE or base.__module__ in NEVER or id(base) in walk.unpatched:
            continue
        if walk.origins.of_class(base) is Origin.USER:
            continue
        walk.unpatched[id(base)] = base
        members = vars(base)
        # All members are watched at once: there are many, and a patch replaces one or adds one.
        held = tuple(members.values())
        walk.guard.same(_members_of(members), held)
        for each in _patched(walk.origins, base, held):
            member = members[each]
            links.append((f"{base.__qualname__}.{each}", walk.link(member, walk.called(member, f"{name}.{each}"))))
    return links


def _patched(origins: Origins, cls: type, held: tuple[Any, ...]) -> list[str]:
    """Return the names of the user's members of a class that now holds these members."""
    known = _searched.get(cls)
    if known is not None and known.is_of(origins.own, held):
        return known.names
    names = [each for each, member in list(vars(cls).items()) if _is_of_the_user(origins, member)]
    _searched[cls] = _Searched(origins.own, held, names)
    return names


def _members_of(members: Mapping[str, Any]) -> Callable[[], tuple[Any, ...]]:
    values = members.values
    return lambda: tuple(values())


def _is_of_the_user(origins: Origins, member: Any) -> bool:
    return is_mock(member) or any(
        # A function that the standard library writes for a class (named tuples) names a module that does not exist.
        loaded(known_as(str(each.__globals__.get("__name__")))) is not None and origins.of_function(each) is Origin.USER
        for each in _functions_in(member)
    )


def _functions_in(member: Any) -> Iterator[FunctionType]:
    if type(member) is FunctionType:
        yield member
    elif type(member) in (classmethod, staticmethod, MethodType):
        if type(member.__func__) is FunctionType:
            yield member.__func__
    elif type(member) is property:
        yield from (each for each in (member.fget, member.fset, member.fdel) if type(each) is FunctionType)
