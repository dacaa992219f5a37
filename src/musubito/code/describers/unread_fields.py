"""Find fields and methods of the user's objects that no reached code reads: a start time, a handle, a graph.

A field or a method counts if reached code has its name, as an attribute or in a text. All of an object count if it is
not known which are read:

- The object is handed to other code.
- Its class has a base from a package.
- A method of its class stands elsewhere, or has a decorator that is not Python's own.
- Its class is a dataclass or a model.
- Reached code gets at fields by names that it computes, or asks for a protocol.
"""

from __future__ import annotations

import functools
from abc import ABCMeta
from collections.abc import Iterable
from functools import partial
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, MethodType, ModuleType
from typing import Any, Final

from musubito.code.describers.msgspec_structs import is_struct
from musubito.code.describers.object_policies import policy_of
from musubito.code.displays import fields_to_build
from musubito.code.fixpoint_facts import FIELDS
from musubito.code.ownership import Owner, module_name
from musubito.code.syntax.name_usage import NameUsage
from musubito.code.walk import Walk
from musubito.deferred import loaded_class
from musubito.values.class_names import canonical_module, qualified_name

BASES: Final = ("abc", "typing", "typing_extensions")
"""Modules with base classes that read no fields of an object."""
CONSTRUCTORS: Final = frozenset({"__init__", "__new__", "__post_init__", "__setstate__", "model_post_init"})
"""Methods that set up an object."""
SLOTS: Final = (MemberDescriptorType, GetSetDescriptorType)
"""Types of the members by which Python reads an object's own fields."""
REFLECTION: Final = frozenset({"__self__", "__func__", "__globals__", "__closure__", "__wrapped__", "__builtins__"})
"""Attributes by which code gets at an object without a name of its own for it."""
DISPLAYS: Final = frozenset({"_live", "_live_stack", "_render_hooks"})
"""Fields in which rich's console keeps the displays that it shows."""
OUTPUT: Final = REFLECTION | {
    *("capture", "end_capture", "export_text", "export_html", "export_svg", "save_text", "save_html", "save_svg"),
    *("file", "getvalue", "_buffer", "_record_buffer", *DISPLAYS),
}
"""Names by which code gets at the output or the displays of a console."""
METHODS: Final = (FunctionType, classmethod, staticmethod, property)
"""Types of the members of a class that run."""
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
    """Note that an object, a class or a bound method is reached in other ways than by names."""
    cls = value if isinstance(value, type) else type(value)
    if cls is MethodType or (
        not issubclass(cls, (FunctionType, ModuleType)) and walk.origins.of_class(cls) is Owner.USER
    ):
        walk.facts.whole.add(id(value), value)


def unread_fields(walk: Walk, value: Any, names: Iterable[str]) -> frozenset[str]:
    """Return the fields of an object that do not count."""
    if policy_of(value) is not None or not is_read_by_name(walk, value):
        return frozenset()
    return frozenset(name for name in names if name not in walk.facts.fields)


def unread_after_building(walk: Walk, value: Any) -> frozenset[str]:
    """Return the fields of a package's object that do not count, since it read them while it was built, and no more."""
    names = fields_to_build(module_name(type(value)))
    if not names or FIELDS in walk.facts.looks or walk.facts.fields.meets(REFLECTION):
        return frozenset()
    return frozenset(name for name in names if name not in walk.facts.mentioned and name not in walk.facts.fields)


def unread_displays(walk: Walk, value: Any) -> frozenset[str]:
    """Return the fields in which rich's console keeps what it shows at the moment, unless code may read its output.

    A hook counts if it is not rich's own, since it may change the output in other ways.
    """
    if not isinstance(value, loaded_class("rich.console", "Console")):
        return frozenset()
    if FIELDS in walk.facts.looks or walk.facts.fields.meets(OUTPUT) or walk.facts.mentioned.meets(OUTPUT):
        return frozenset()
    walk.guard.same(partial(_has_own_hooks, value), own := _has_own_hooks(value))
    return DISPLAYS if own else frozenset()


def _has_own_hooks(console: Any) -> bool:
    return all(module_name(type(hook)).startswith("rich.") for hook in vars(console).get("_render_hooks", ()))


def is_unread_method(walk: Walk, name: str, member: object) -> bool:
    """Return whether a member of a class is a method or a constructor, and no reached code has its name.

    Operators and packages call other special methods, without naming them.
    """
    if (name.startswith("__") and name not in CONSTRUCTORS) or not isinstance(member, METHODS):
        return False
    return name not in walk.facts.mentioned and name not in walk.facts.fields


def are_methods_named(walk: Walk, cls: type) -> bool:
    """Return whether all reached code that gets methods of a class, or of its objects, has their names.

    Code that gets the class of an object can make another object, which any code may be given. Class methods get it.
    """
    if any(isinstance(member, classmethod) for base in cls.__mro__ for member in list(vars(base).values())):
        return False
    return "__class__" not in walk.facts.fields and is_read_by_name(walk, cls)


def is_read_by_name(walk: Walk, thing: Any) -> bool:
    """Return whether all reached code that reads of an object or a class has the names of what it reads."""
    cls, facts = thing if isinstance(thing, type) else type(thing), walk.facts
    if not _is_plain(walk, cls) or FIELDS in facts.looks or id(thing) in facts.whole:
        return False
    if facts.fields.meets(REFLECTION):
        return False
    return not any(qualified_name(base) in facts.handing for base in cls.__mro__)


def _is_plain(walk: Walk, cls: type) -> bool:
    """Return whether all that the methods of a class do is the user's code, which stands in the class."""
    if is_struct(cls) or (type(cls) is not type and not issubclass(type(cls), ABCMeta)):
        return False
    if any(name in vars(each) for each in cls.__mro__ for name in SCHEMAS):
        return False
    bases = [base for base in cls.__mro__[:-1] if module_name(base) not in BASES]
    return all(walk.origins.of_class(base) is Owner.USER and _stands_for_itself(base) for base in bases)


def _stands_for_itself(cls: type) -> bool:
    """Return whether all methods of a class stand in its body, with decorators of Python's own at most.

    Of any other function it is not known that the class is its receiver's.
    """
    for member in list(vars(cls).values()):
        kind = type(member)
        parts: tuple[Any, ...] = ()
        if kind is FunctionType:
            parts = (member,)
        elif kind in (classmethod, staticmethod):
            parts = (member.__func__,)
        elif kind is property:
            parts = tuple(part for part in (member.fget, member.fset, member.fdel) if part is not None)
        elif kind is functools.cached_property:
            parts = (member.func,)
        elif hasattr(kind, "__get__") and kind not in SLOTS:
            return False
        if not all(_stands_in(cls, part, has_receiver=kind is not staticmethod) for part in parts):
            return False
    return True


def _stands_in(cls: type, function: object, *, has_receiver: bool) -> bool:
    if type(function) is not FunctionType or function.__globals__.get("__name__") != cls.__module__:
        return False
    code = function.__code__
    in_body = code.co_qualname == f"{cls.__qualname__}.{code.co_name}" and code.co_freevars in ((), ("__class__",))
    return in_body and (not has_receiver or code.co_argcount > 0)
