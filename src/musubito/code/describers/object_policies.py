"""Say how objects of other packages count, where an adapter knows better than their fields say.

Objects of other packages count by those fields that can be identified. An adapter that knows a package says for its
classes which fields do not count: counters, caches, clients, credentials. The adapter also says what counts besides:
data that follows from the fields but is not among them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from musubito.code.round_cache import kept_for_a_round

if TYPE_CHECKING:
    from musubito.code.reachability import ReachabilityWalk

__all__ = [
    "ObjectPolicy",
    "Shown",
    "displays",
    "is_showing_method",
    "is_source",
    "may_remember",
    "policy_of",
    "register_display",
    "register_policy",
    "register_source",
    "remembers",
]


class Shown(NamedTuple):
    """The part of an object that a reader sees if the object is only shown."""

    data: object
    """Plain data. It must follow from the object's fields alone."""
    others: Mapping[str, Any]
    """Other objects that the object shows."""


class ObjectPolicy(NamedTuple):
    """The way to look at objects of a class and of the classes derived from it."""

    leaves_out: Callable[[Any, ReachabilityWalk], Collection[str]]
    """The names of fields that do not count, seen from this walk; `field.key` names a key of a dict in a field."""
    says: Callable[[Any], object] | None
    """Plain data that counts besides.

    It must follow from the fields alone: it is asked for only when one of them is another than before.
    """
    remembers: Callable[[Any], bool] | None
    """Whether the object's answers depend on what was done with it before.

    It is asked at every call of code that reaches the object.
    """
    shows: Callable[[Any, ReachabilityWalk], Shown | None] | None
    """The part of an object that counts if it is reached only to be shown, seen from this walk.

    Objects are shown by what `register_display` registers. None: the object counts as usual.
    """


_KINDS: Final[dict[type, ObjectPolicy]] = {}
"""The registered classes."""
_DISPLAYS: Final[set[str]] = set()
"""The modules whose functions and objects only show what they hold or are given."""
_SHOWING: Final[set[str]] = set()
"""The methods that only show what they are given."""


def register_policy(
    cls: type,
    leaves_out: Callable[[Any, ReachabilityWalk], Collection[str]] = lambda _value, _walk: (),
    says: Callable[[Any], object] | None = None,
    remembers: Callable[[Any], bool] | None = None,
    shows: Callable[[Any, ReachabilityWalk], Shown | None] | None = None,
) -> None:
    """Register how objects of `cls` count: by their fields, without those left out, and by what `says` returns.

    A step that reaches an object that remembers is not replayed. An object that is reached only to be shown counts by
    what `shows` returns. If several registered classes fit an object, the nearest one decides.
    """
    _KINDS[cls] = ObjectPolicy(leaves_out, says, remembers, shows)


def register_display(modules: Collection[str], methods: Collection[str]) -> None:
    """Register modules and methods that only show what they hold or are given.

    This applies to things of a kind that shows something. Functions and objects of a module count, with the modules
    below it. A method counts on any object.
    """
    _DISPLAYS.update(modules)
    _SHOWING.update(methods)


def is_showing_method(name: str) -> bool:
    """Return whether a method of this name only shows what it is given."""
    return name in _SHOWING


def displays(module: str) -> bool:
    """Return whether functions and objects of this module only show what they hold."""
    return any(module == each or module.startswith(f"{each}.") for each in _DISPLAYS)


_SOURCES: Final[dict[type, bool]] = {}
"""The registered sources: classes, each with whether its objects stand for outside data."""
CONNECTIONS: Final = (("commit", "rollback"), ("connect", "dispose"))
"""Methods by which connections and sessions of databases are known, and engines that make them."""


def register_source(cls: type, *, is_source: bool = True) -> None:
    """Register whether objects of `cls` stand for data that is kept outside.

    If an object itself holds its data and counts by that, `is_source` is false.
    """
    _SOURCES[cls] = is_source


def is_source(value: object) -> bool:
    """Return whether an object stands for data that is kept outside, which may change unseen."""
    cls = type(value)
    known = next((_SOURCES[each] for each in cls.__mro__ if each in _SOURCES), None)
    if known is not None:
        return known
    return any(all(callable(getattr(cls, each, None)) for each in methods) for methods in CONNECTIONS)


def policy_of(value: object) -> ObjectPolicy | None:
    """Return how an adapter says that this object is to be looked at, or None."""
    return _kind_of_class(type(value))


@kept_for_a_round
def _kind_of_class(cls: type) -> ObjectPolicy | None:
    return next((_KINDS[each] for each in cls.__mro__ if each in _KINDS), None)


def may_remember(value: object) -> bool:
    """Return whether the object is of a class whose objects may remember."""
    kind = policy_of(value)
    return kind is not None and kind.remembers is not None


def remembers(value: object) -> bool:
    """Return whether the object's answers depend on what was done with it before."""
    kind = policy_of(value)
    return kind is not None and kind.remembers is not None and kind.remembers(value)
