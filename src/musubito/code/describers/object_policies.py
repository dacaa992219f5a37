"""Say how objects of other packages count, where an adapter knows better than their fields say.

Objects of other packages count by those fields that can be identified. An adapter that knows a package says for its
classes which fields do not count: counters, caches, clients, credentials. The adapter also says what counts besides:
data that follows from the fields but is not among them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from musubito.code.walk import Walk
from musubito.values.class_names import qualified_name


class Shown(NamedTuple):
    """The part of an object that a reader sees if the object is only shown."""

    data: object
    """Plain data. It must follow from the object's fields alone."""
    others: Mapping[str, Any]
    """Other objects that the object shows."""


class ObjectPolicy(NamedTuple):
    """The way to look at objects of a class and of the classes derived from it."""

    leaves_out: Callable[[Any, Walk], Collection[str]]
    """The names of fields that do not count, seen from this walk; `field.key` names a key of a dict in a field."""
    says: Callable[[Any], object] | None
    """Plain data that counts besides.

    It must follow from the fields alone: it is asked for only when one of them is another than before.
    """
    remembers: Callable[[Any], bool] | None
    """Whether the object's answers depend on what was done with it before.

    It is asked at every call of code that reaches the object.
    """
    shows: Callable[[Any, Walk], Shown | None] | None
    """The part of an object that counts if it is reached only to be shown, seen from this walk.

    Objects are shown by what `musubito.code.displays` registers. None: the object counts as usual.
    """


_KINDS: Final[dict[type | tuple[str, str], ObjectPolicy]] = {}
"""The registered classes, or their modules and names."""
_POLICIES: Final[WeakKeyDictionary[type, ObjectPolicy | None]] = WeakKeyDictionary()
"""The policies of the classes that were asked for."""


def register_policy(
    cls: type | tuple[str, str],
    leaves_out: Callable[[Any, Walk], Collection[str]] = lambda _value, _walk: (),
    says: Callable[[Any], object] | None = None,
    remembers: Callable[[Any], bool] | None = None,
    shows: Callable[[Any, Walk], Shown | None] | None = None,
) -> None:
    """Register how objects of `cls` count: by their fields, without those left out, and by what `says` returns.

    A step that reaches an object that remembers is not replayed. An object that is reached only to be shown counts by
    what `shows` returns. If several registered classes fit an object, the nearest one decides. A class that must not be
    imported here can be told by the names of its module and of itself.
    """
    _KINDS[cls] = ObjectPolicy(leaves_out, says, remembers, shows)
    _POLICIES.clear()


def policy_of(value: object) -> ObjectPolicy | None:
    """Return the policy that an adapter has registered for the class of an object, or None."""
    cls = type(value)
    try:
        return _POLICIES[cls]
    except KeyError:
        keys = (key for base in cls.__mro__ for key in (base, qualified_name(base)))
        policy = _POLICIES[cls] = next((_KINDS[key] for key in keys if key in _KINDS), None)
        return policy


def may_remember(value: object) -> bool:
    """Return whether the object is of a class whose objects may remember."""
    kind = policy_of(value)
    return kind is not None and kind.remembers is not None


def remembers(value: object) -> bool:
    """Return whether the object's answers depend on what was done with it before."""
    kind = policy_of(value)
    return kind is not None and kind.remembers is not None and kind.remembers(value)
