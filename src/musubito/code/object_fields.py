"""Read the fields of live objects without running their code."""

from __future__ import annotations

import functools
import string
import types
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MemberDescriptorType
from typing import Any, Final, NamedTuple

from musubito.code.live import fields_of
from musubito.deferred import loaded_class

MAX_CLASSES: Final = 1024
"""Number of classes of which is kept where their objects keep fields."""
RECORD_FIELDS: Final = ("__dataclass_fields__", "__attrs_attrs__", "__struct_fields__")
PLAIN: Final = (types.SimpleNamespace, string.Template)
IN_DICTS: Final = ("__dict__", "__pydantic_extra__", "__pydantic_private__")
"""Attributes of objects whose items are fields."""
NO_FIELDS: Final = frozenset({"__dict__", "__weakref__", *IN_DICTS, "__pydantic_fields_set__"})
"""Slots that hold no field."""


@lru_cache(MAX_CLASSES)
def is_record(cls: type) -> bool:
    """Return whether objects of a class are records: the class declares their fields."""
    if issubclass(cls, (*PLAIN, loaded_class("argparse", "Namespace"))):
        return True
    members = (vars(base) for base in cls.__mro__)
    return any(
        "__pydantic_fields__" in member or any(fields in member for fields in RECORD_FIELDS) for member in members
    )


def fields_in(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the fields of an object by name: those in its dicts, and those in its slots.

    A field that is computed when it is first read is left out.
    """
    cls: type = type(value)
    layout = _layout(cls)
    fields: dict[str, Any] = {}
    for more in layout.dicts:
        fields.update(fields_of(value, more) or {})
    for name, slot in layout.slots:
        try:
            fields.setdefault(name, slot.__get__(value))
        except AttributeError:
            continue  # it holds nothing
    for name in layout.struct:
        if name not in fields:
            fields[name] = getattr(value, name)
    names = sorted(name for name in fields if type(name) is str and name not in layout.computed)
    return ((name, fields[name]) for name in names)


class _Layout(NamedTuple):
    """The places where objects of a class keep their fields."""

    dicts: tuple[str, ...]
    slots: tuple[tuple[str, MemberDescriptorType], ...]
    struct: tuple[str, ...]
    computed: frozenset[str]


@lru_cache(MAX_CLASSES)
def _layout(cls: type) -> _Layout:
    members = [item for base in cls.__mro__ for item in vars(base).items()]
    slots: dict[str, MemberDescriptorType] = {}
    for name, member in members:
        if isinstance(member, MemberDescriptorType) and name not in NO_FIELDS:
            slots.setdefault(name, member)
    return _Layout(
        tuple(name for name in IN_DICTS if name == "__dict__" or any(name in vars(base) for base in cls.__mro__)),
        tuple(slots.items()),
        getattr(cls, "__struct_fields__", ()),
        frozenset(name for name, member in members if isinstance(member, functools.cached_property)),
    )


def without_keys(value: Any, keys: frozenset[str]) -> Any:
    """Return a dict without some of its keys, at any depth (`a.b`); any other value as it is."""
    if not keys or not isinstance(value, Mapping):
        return value
    result = {}
    for key, each in value.items():
        if key not in keys:
            inner = frozenset(left.removeprefix(f"{key}.") for left in keys if left.startswith(f"{key}."))
            if (left := without_keys(each, inner)) is not None or each is None:
                result[key] = left
    return result or None
