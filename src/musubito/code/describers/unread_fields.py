"""Find fields of the user's objects that no reached code reads: a start time, a folder of its own, a handle.

A field counts if reached code has its name, as an attribute or in a text. All fields of an object count if it is not
known which are read:

- The object is handed to other code.
- Its class has a base or a member from a package.
- Its class is a dataclass or a model.
- Reached code gets at fields by names that it computes.
"""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Iterable
from types import FunctionType, ModuleType
from typing import Any, Final

from musubito.code.describers.msgspec_structs import is_struct
from musubito.code.describers.object_policies import policy_of
from musubito.code.fixpoint_facts import FIELDS
from musubito.code.ownership import Owner, module_name
from musubito.code.syntax.name_usage import NameUsage
from musubito.code.walk import Walk
from musubito.values.class_names import canonical_module, qualified_name

BASES: Final = ("abc", "typing", "typing_extensions")
"""Modules with base classes that read no fields of an object."""
SCHEMAS: Final = ("__dataclass_fields__", "__pydantic_fields__", "__attrs_attrs__", "_field_defaults")
"""Attributes by which classes keep a schema of their fields."""


def note_fields(walk: Walk, function: FunctionType, scan: NameUsage) -> None:
    """Note which fields one function reads, and whether it hands on the object that it is a method of."""
    facts = walk.facts
    facts.fields |= scan.fields
    if scan.reads_fields:
        facts.looks.add(FIELDS)
    place, _, _ = function.__code__.co_qualname.rpartition(".")
    if scan.hands_receiver and place and not place.endswith("<locals>"):
        module = function.__globals__.get("__name__")
        facts.handing.add((canonical_module(module) if isinstance(module, str) else "", place))


def note_whole(walk: Walk, value: Any) -> None:
    """Note that an object is reached in other ways than by the names of its fields."""
    cls = type(value)
    if not issubclass(cls, (FunctionType, type, ModuleType)) and walk.origins.of_class(cls) is Owner.USER:
        walk.facts.whole.add(id(value), value)


def unread_fields(walk: Walk, value: Any, names: Iterable[str]) -> frozenset[str]:
    """Return the fields of an object that do not count."""
    cls, facts = type(value), walk.facts
    if policy_of(value) is not None or not _is_plain(walk, cls) or FIELDS in facts.looks or id(value) in facts.whole:
        return frozenset()
    if any(qualified_name(base) in facts.handing for base in cls.__mro__):
        return frozenset()
    return frozenset(name for name in names if name not in facts.fields)


def _is_plain(walk: Walk, cls: type) -> bool:
    """Return whether all that the methods of a class do is the user's code."""
    if is_struct(cls) or (type(cls) is not type and not issubclass(type(cls), ABCMeta)):
        return False
    if any(name in vars(each) for each in cls.__mro__ for name in SCHEMAS):
        return False
    for base in cls.__mro__[:-1]:
        if module_name(base) in BASES:
            continue
        if walk.origins.of_class(base) is not Owner.USER:
            return False
        for member in list(vars(base).values()):
            inner = getattr(member, "__func__", member)
            if isinstance(inner, FunctionType):
                if walk.origins.of_function(inner) is not Owner.USER:
                    return False
            elif walk.origins.of_class(type(inner)) is Owner.OTHER:
                return False
    return True
