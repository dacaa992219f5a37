"""What objects of other packages amount to, where an adapter knows better than their fields say.

Objects of other packages count by those fields that can be identified. An adapter that knows a package says for its
classes which fields do not count (counters, caches, clients, credentials), and what else is to count that follows from
the fields but is not among them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from musubito.identity.once import kept_for_a_round

if TYPE_CHECKING:
    from musubito.identity.closure import Walk

__all__ = [
    "Kind",
    "Shown",
    "displays",
    "is_showing_method",
    "is_source",
    "kind_of",
    "may_remember",
    "register_display",
    "register_kind",
    "register_source",
    "remembers",
]


class Shown(NamedTuple):
    """What somebody who is only shown an object sees of it."""

    data: object
    """Plain data. It must follow from the object's fields alone."""
    others: Mapping[str, Any]
    """Other objects that are shown by it."""


class Kind(NamedTuple):
    """How objects of a class, and of those derived from it, are looked at."""

    leaves_out: Callable[[Any, Walk], Collection[str]]
    """The names of fields that do not count, seen from this walk; `field.key` is that of a key in a dict."""
    says: Callable[[Any], object] | None
    """Plain data that counts besides. It must follow from the fields alone: it is asked for only when one of them is
    another than before."""
    remembers: Callable[[Any], bool] | None
    """Whether it answers by what was done with it before. It is asked at every call of what reaches the object."""
    shows: Callable[[Any, Walk], Shown | None] | None
    """What counts of an object that is reached only to be shown (see `register_display`), seen from this walk. None: it
    counts as ever."""


_KINDS: Final[dict[type, Kind]] = {}
_DISPLAYS: Final[set[str]] = set()
_SHOWING: Final[set[str]] = set()


def register_kind(
    cls: type,
    leaves_out: Callable[[Any, Walk], Collection[str]] = lambda _value, _walk: (),
    says: Callable[[Any], object] | None = None,
    remembers: Callable[[Any], bool] | None = None,
    shows: Callable[[Any, Walk], Shown | None] | None = None,
) -> None:
    """Objects of `cls` count by their fields, without those left out, and by what is said of them. What reaches one
    that remembers is not replayed. What is reached only to be shown counts by what it shows. Of several classes that
    an object belongs to, the nearest says it."""
    _KINDS[cls] = Kind(leaves_out, says, remembers, shows)


def register_display(modules: Collection[str], methods: Collection[str]) -> None:
    """Register what only shows what it holds or is given, if that is of a kind that shows something: functions and
    objects of modules, each with those below it, and methods of anything."""
    _DISPLAYS.update(modules)
    _SHOWING.update(methods)


def is_showing_method(name: str) -> bool:
    """Whether a method that is called so only shows what it is given."""
    return name in _SHOWING


def displays(module: str) -> bool:
    """Whether what is in this module only shows what it holds."""
    return any(module == each or module.startswith(f"{each}.") for each in _DISPLAYS)


_SOURCES: Final[dict[type, bool]] = {}
CONNECTIONS: Final = (("commit", "rollback"), ("connect", "dispose"))
"""Methods by which connections and sessions of databases, and engines that make them, are known."""


def register_source(cls: type, *, is_source: bool = True) -> None:
    """Objects of `cls` stand for data that is kept outside; not so, where they hold it themselves and count by it."""
    _SOURCES[cls] = is_source


def is_source(value: object) -> bool:
    """Tell whether an object stands for data that is kept outside, which may change unseen."""
    cls = type(value)
    known = next((_SOURCES[each] for each in cls.__mro__ if each in _SOURCES), None)
    if known is not None:
        return known
    return any(all(callable(getattr(cls, each, None)) for each in methods) for methods in CONNECTIONS)


def kind_of(value: object) -> Kind | None:
    """How this object is to be looked at, if an adapter has said so."""
    return _kind_of_class(type(value))


@kept_for_a_round
def _kind_of_class(cls: type) -> Kind | None:
    return next((_KINDS[each] for each in cls.__mro__ if each in _KINDS), None)


def may_remember(value: object) -> bool:
    """Whether it is of a kind that may."""
    kind = kind_of(value)
    return kind is not None and kind.remembers is not None


def remembers(value: object) -> bool:
    """Whether it answers by what was done with it before."""
    kind = kind_of(value)
    return kind is not None and kind.remembers is not None and kind.remembers(value)
