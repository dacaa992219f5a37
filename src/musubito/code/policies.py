"""Say how objects of other packages count, where an adapter knows better than the lines that made them.

An adapter that knows a package says for its classes which fields do not count: counters, caches, clients, credentials.
The adapter also says what counts besides: data that follows from the fields but is not among them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from musubito.code.ownership import Owners
from musubito.values.class_names import qualified_name


class Reach(Protocol):
    """A walk over what code reaches, as an adapter sees it."""

    origins: Owners
    """Tells whose code a thing is."""
    ignored: frozenset[str]
    """The names of settings of packages' objects that the user leaves out."""
    steps: set[str]
    """The names of the steps that were reached."""

    def mentions(self, names: Collection[str]) -> set[str]:
        """Return those of the names that the reached code mentions."""

    def reads_fields(self) -> bool:
        """Return whether the reached code may read fields in other ways than by name."""


class Shown(NamedTuple):
    """The part of an object that a reader sees if the object is only shown."""

    data: object
    """Plain data. It must follow from the object's fields alone."""
    others: Mapping[str, Any]
    """Other objects that the object shows."""


class ObjectPolicy(NamedTuple):
    """The way to look at objects of a class and of the classes derived from it."""

    leaves_out: Callable[[Any, Reach], Collection[str]]
    """The names of fields that do not count, seen from this walk; `field.key` names a key of a dict in a field."""
    says: Callable[[Any], object] | None
    """Plain data that counts besides. It must follow from the fields alone."""
    remembers: Callable[[Any], bool] | None
    """Whether the object's answers depend on what was done with it before."""
    shows: Callable[[Any, Reach], Shown | None] | None
    """The part of an object that counts if it is reached only to be shown. None: the object counts as usual."""


_REGISTERED: Final[dict[type | tuple[str, str], ObjectPolicy]] = {}
"""The policies by class, or by its module and name."""
_POLICIES: Final[WeakKeyDictionary[type, ObjectPolicy | None]] = WeakKeyDictionary()
"""The policies of the classes that were asked for."""


def register_policy(
    cls: type | tuple[str, str],
    leaves_out: Callable[[Any, Reach], Collection[str]] = lambda _value, _reach: (),
    says: Callable[[Any], object] | None = None,
    remembers: Callable[[Any], bool] | None = None,
    shows: Callable[[Any, Reach], Shown | None] | None = None,
) -> None:
    """Register how objects of `cls` count: by their fields, without those left out, and by what `says` returns.

    A step that reaches an object that remembers is not replayed. An object that is reached only to be shown counts by
    what `shows` returns. If several registered classes fit an object, the nearest one decides. A class that must not be
    imported here can be told by the names of its module and of itself.
    """
    _REGISTERED[cls] = ObjectPolicy(leaves_out, says, remembers, shows)
    _POLICIES.clear()


register_policy(("logging", "Logger"), leaves_out=lambda value, _reach: vars(value))


def policy_of(value: object) -> ObjectPolicy | None:
    """Return the policy that an adapter has registered for the class of an object, or None."""
    return policy_of_class(type(value))


def policy_of_class(cls: type) -> ObjectPolicy | None:
    """Return the policy that an adapter has registered for a class, or None."""
    try:
        return _POLICIES[cls]
    except KeyError:
        keys = (key for base in cls.__mro__ for key in (base, qualified_name(base)))
        policy = _POLICIES[cls] = next((_REGISTERED[key] for key in keys if key in _REGISTERED), None)
        return policy


def remembers(value: object) -> bool:
    """Return whether the object's answers depend on what was done with it before."""
    policy = policy_of(value)
    return policy is not None and policy.remembers is not None and policy.remembers(value)
