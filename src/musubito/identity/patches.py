"""The user's code that was put into classes of packages: `httpx.Client.send = mine`, `monkeypatch.setattr(...)`.

A class of a package counts by its name, and with whatever of its members the user wrote.
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
NEVER: Final = frozenset({"builtins", "typing", "abc", "enum", "typing_extensions"})
"""Modules whose classes make classes, or are bases of them, and that nobody patches."""


class _Searched(NamedTuple):
    """What a class held when it was searched, and the names of what was the user's."""

    own: frozenset[str]
    held: tuple[Any, ...]
    names: list[str]

    def is_of(self, own: frozenset[str], held: tuple[Any, ...]) -> bool:
        """Return whether a search now would find the same."""
        return self.own == own and len(self.held) == len(held) and all(map(is_, self.held, held))


_searched: Final[WeakKeyDictionary[type, _Searched]] = WeakKeyDictionary()


def patches_linked(walk: Walk, cls: type, name: str) -> list[tuple[str, bytes]]:
    """References to what the user put into a class of a package and into its bases."""
    links: list[tuple[str, bytes]] = []
    for base in cls.__mro__:
        if not base.__flags__ & HEAP_TYPE or base.__module__ in NEVER or id(base) in walk.unpatched:
            continue
        if walk.origins.of_class(base) is Origin.USER:
            continue
        walk.unpatched[id(base)] = base
        members = vars(base)
        # All of its members at once: it has many, and whoever patches it replaces one or adds one.
        held = tuple(members.values())
        walk.guard.same(_members_of(members), held)
        for each in _patched(walk.origins, base, held):
            member = members[each]
            links.append((f"{base.__qualname__}.{each}", walk.link(member, walk.called(member, f"{name}.{each}"))))
    return links


def _patched(origins: Origins, cls: type, held: tuple[Any, ...]) -> list[str]:
    """Return the names of the members that are the user's, of a class that holds these now."""
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
        # What the standard library writes for a class (named tuples) is of no module that there is.
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
