"""Describe a class of the user's: its bases, its metaclass and every member of its own.

Annotations and the docstring count where fields and schemas are made of them: in dataclasses, pydantic models, typed
dicts and named tuples. Members that Python or a library derives from the others do not count.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from enum import EnumMeta
from types import FunctionType, MappingProxyType
from typing import Any

from musubito.code.describers.annotations import annotation_links
from musubito.code.describers.introspection import (
    mark_introspectable,
    order_links,
    registered_names,
    subclass_links,
    written_base_links,
    written_text,
)
from musubito.code.describers.msgspec_structs import is_struct, struct_links
from musubito.code.describers.object_settings import STATED
from musubito.code.describers.unread_fields import CONSTRUCTORS, are_methods_named, is_unread_method
from musubito.code.fixpoint_facts import ANNOTATIONS, DOCS, FIELDS
from musubito.code.graph_record import ABSENT, ATOMS, GraphRecord, step_of
from musubito.code.ownership import Owner, module_name
from musubito.code.syntax.ast_digest import tokens
from musubito.code.walk import Walk
from musubito.code.world.environment import settings_links
from musubito.values.class_names import lies_in_its_module, qualified_name

NEVER = frozenset({"__init_subclass__", "__set_name__", "__setstate__", "__prepare__"})
"""Methods that Python calls while classes and objects are made, and not for the step."""

COPIED = frozenset({"metadata", "_qualifiers"})
"""Containers that pydantic copies with a field; most are empty."""
DERIVED = frozenset(
    [
        *("__dict__", "__weakref__", "__slotnames__", "__module__", "__qualname__", "__doc__", "__annotations__"),
        *("__annotate__", "__annotate_func__", "__annotations_cache__", "__static_attributes__", "__firstlineno__"),
        *("__abstractmethods__", "_abc_impl", "__parameters__", "__orig_bases__", "__type_params__"),
        *("__dataclass_fields__", "__dataclass_params__", "__conditional_annotations__", "__signature__"),
        *("__class_vars__", "__private_attributes__", "__abstract__", "__protocol_attrs__"),
        *("__non_callable_proto_members__", "_is_protocol", "_is_runtime_protocol", "__classcell__"),
        *("__readonly_keys__", "__mutable_keys__", "__closed__", "__extra_items__"),
    ]
)
"""Members that Python or a library derives from the others."""
MADE_LATER = frozenset(
    {"__annotations__", "__annotations_cache__", "__signature__", "__abstractmethods__", "__slotnames__"}
)
"""Members that Python may add to a class at any time, and that do not count."""
NO_METADATA: MappingProxyType[object, object] = MappingProxyType({})
"""Stands for the metadata of a field without any."""
PARAMETERS = ("init", "repr", "eq", "order", "unsafe_hash", "frozen")
"""Parameters of a dataclass that count."""
ENUM_DERIVED = frozenset(
    [
        *("_member_map_", "_value2member_map_", "_member_names_", "_member_type_", "_value_repr_"),
        *("_unhashable_values_", "_unhashable_values_map_", "_hashable_values_", "_new_member_", "_use_args_"),
        *("_flag_mask_", "_all_bits_", "_singles_mask_", "_inverted_", "_boundary_", "__new__", "__new_member__"),
        *("_sort_order_", "_generate_next_value_", "__set_name__"),
    ]
)
"""Members that `enum` derives from the others."""
GENERATED = frozenset(
    [
        *("__init__", "__repr__", "__eq__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__setattr__"),
        *("__delattr__", "__replace__", "__getstate__", "__setstate__", "__new__", "_make", "_replace"),
        *("__getnewargs__", "_asdict", "__match_args__"),
    ]
)
"""Members that a library may generate for a class with a schema."""


def fields_declared(cls: type) -> set[str]:
    """Return the names of a class's own members and of its own fields."""
    names = {*vars(cls), *_field_names(cls, "__annotations__")}
    for fields in ("__dataclass_fields__", "__pydantic_fields__"):
        own, *inherited = (_field_names(base, fields) for base in cls.__mro__)
        names.update(own.difference(*inherited))
    return names


def _field_names(cls: type, attribute: str) -> set[str]:
    fields = vars(cls).get(attribute)
    return set(fields) if isinstance(fields, dict) else set()  # in `type` itself it is a descriptor


def describe_class(walk: Walk, cls: type, name: str) -> GraphRecord:
    """Return the record of a class of the user's."""
    alike = walk.reached.setdefault(qualified_name(cls), [])
    if not any(known_class is cls for known_class in alike):
        alike.append(cls)
    members = vars(cls)
    schema = _is_schema(cls)
    if members.get("_is_runtime_protocol"):
        walk.facts.looks.add(FIELDS)  # `isinstance` asks objects for the names in it
    own = (
        tokens("class", module_name(cls), qualified_name(cls)[1])
        + written_text(walk, cls)
        + registered_names(walk, cls, name)
    )
    is_whole = not are_methods_named(walk, cls)
    bases = [walk.link(each, f"{name}.base", whole=is_whole) for each in cls.__bases__]
    links = [(f"base {number}", base) for number, base in enumerate(bases)]
    walk.guard.attribute(cls, "__bases__", cls.__bases__)
    if type(cls) is not type:
        links.append(("metaclass", walk.link(type(cls), f"{name}.metaclass")))
    if _shows_docstring(cls) or DOCS in walk.facts.looks:
        doc = members.get("__doc__")
        own += tokens(doc if isinstance(doc, str) else None)
        walk.guard.item(members, "__doc__", doc)
    if schema or ANNOTATIONS in walk.facts.looks:
        links += annotation_links(walk, cls, name)
    if is_struct(cls):
        links += struct_links(walk, cls, name)
    if schema:
        params = members.get("__dataclass_params__")
        own += tokens(*(getattr(params, parameter, None) for parameter in PARAMETERS))
        for field, each in (members.get("__dataclass_fields__") or {}).items():
            # A ClassVar does not say whether it is given by keyword alone.
            kw_only = each.kw_only if isinstance(each.kw_only, bool) else None
            own += tokens(field, each.init, each.repr, each.hash, each.compare, kw_only)
            for part in ("default", "default_factory", "metadata"):
                value = getattr(each, part)
                if part == "metadata" and not value:
                    value = NO_METADATA  # fields without metadata share one object, except fields that were sent
                if type(value).__name__ != "_MISSING_TYPE":
                    links.append((f"{field} {part}", walk.link(value, f"{name}.{field}")))
        for field, each in (members.get("__private_attributes__") or {}).items():
            for part in ("default", "default_factory"):
                value = getattr(each, part)
                walk.guard.attribute(each, part, value)
                if type(value).__name__ != "PydanticUndefinedType" and (part == "default" or value is not None):
                    links.append((f"{field} {part}", walk.link(value, f"{name}.{field}")))
        for field, each in (members.get("__pydantic_fields__") or {}).items():
            if _is_inherited(walk, cls, field, each):
                own += tokens("inherited", field, *_plain_settings(each))
                continue
            links.append((f"{field} field", walk.link(each, f"{name}.{field}")))
            links.append((f"{field} annotation", walk.link(each.annotation, f"{name}.{field}:")))
    derived = {each for each, value in list(members.items()) if _is_derived(cls, each, value)}
    for each, value in walk.read.each_field(cls, members, name, MADE_LATER | derived):
        can_run = _can_run(walk, cls, each, value)
        if not (is_whole or can_run) and is_unread_method(walk, each, value):
            continue
        _note_owner(walk, cls, value)
        if each in walk.facts.handed:
            mark_introspectable(walk, value)
        links.append((each, walk.constant(value, f"{name}.{each}", runs=can_run)))
    links += settings_links(walk, cls, name)
    if isinstance(cls, EnumMeta):
        links += walk.links(cls._member_map_.items(), name)
    links += order_links(walk, cls, members, DERIVED, name)
    links += subclass_links(walk, cls)
    links += written_base_links(walk, cls, name)
    return GraphRecord(own, links)


def _is_inherited(walk: Walk, cls: type, name: str, field: Any) -> bool:
    """Return whether a field of a pydantic model is that of a base: then it counts there.

    pydantic copies the fields of the bases into each model. A base of a package that is not in its module was made at
    run time, perhaps of the user's things, and counts by its name alone.
    """
    base = next((base for base in cls.__mro__[1:] if name in _pydantic_fields(base)), None)
    if base is None or (walk.origins.of_class(base) is not Owner.USER and not lies_in_its_module(base)):
        return False
    theirs = _pydantic_fields(base)[name]
    factory = field.default_factory
    is_own = isinstance(factory, FunctionType) and walk.origins.of_function(factory) is Owner.USER
    if (
        type(theirs) is not type(field)
        or is_own
        or any(getattr(each, name, None) for each in (field, theirs) for name in COPIED)
    ):
        return False
    slots = [slot for slot in type(field).__slots__ if slot not in STATED and slot not in COPIED]
    values = [getattr(field, slot, ABSENT) for slot in slots]
    if not all(value is getattr(theirs, slot, ABSENT) for slot, value in zip(slots, values, strict=True)):
        return False
    for slot, value in zip(slots, values, strict=True):
        walk.guard.attribute(field, slot, value)
    walk.guard.same(lambda: field.metadata, [])
    return True


def _plain_settings(field: Any) -> Iterator[object]:
    """Yield the settings of a field that are constants: somebody may have set them in a package's model."""
    for slot in type(field).__slots__:
        value = getattr(field, slot, None)
        if type(value) in ATOMS and slot not in STATED:
            yield from (slot, value)


def _pydantic_fields(cls: type) -> dict[str, Any]:
    return vars(cls).get("__pydantic_fields__") or {}


def _can_run(walk: Walk, cls: type, name: str, member: Any) -> bool:
    """Return whether code that can run seems to use a member: by its name, or by an operator that calls it."""
    facts = walk.facts
    if name in NEVER:
        return False
    if name in CONSTRUCTORS:
        return id(cls) in facts.made
    if name == "__call__" and name not in facts.mentioned:
        return id(cls) in facts.called
    if isinstance(member, type):
        if name in facts.limits.called_names and walk.live:
            walk.note_call(member)
        return True
    if name in facts.mentioned or name in facts.limits.fields or _overrides(walk, cls, name):
        return True
    # If a class stands for an argument, any of its methods may be called, but not what sets up the class itself.
    argument = walk.function
    return isinstance(argument, type) and cls in argument.__mro__ and not _is_class_setup(member)


def _overrides(walk: Walk, cls: type, name: str) -> bool:
    """Return whether a base of another package's may call the member under a name of its own."""
    others = (base for base in cls.__mro__[1:-1] if module_name(base) != "builtins" and name in vars(base))
    return not name.startswith("__") and any(walk.origins.of_class(other) is not Owner.USER for other in others)


def _is_class_setup(member: Any) -> bool:
    return isinstance(member, classmethod) and isinstance(member.__func__, FunctionType)


def _shows_docstring(cls: type) -> bool:
    """Return whether a class's docstring is part of the schema that a model is shown."""
    return any(attribute in dir(cls) for attribute in ("__pydantic_fields__", "__total__"))


def _is_schema(cls: type) -> bool:
    return is_struct(cls) or any(
        attribute in dir(cls)
        for attribute in ("__dataclass_fields__", "__pydantic_fields__", "__total__", "_field_defaults")
    )


def _is_derived(cls: type, name: str, value: Any) -> bool:
    if name in DERIVED or name.startswith("__pydantic_"):
        return True
    if isinstance(cls, EnumMeta) and (name in cls._member_map_ or name in ENUM_DERIVED):
        function = getattr(value, "__func__", value)
        own = isinstance(function, FunctionType) and function.__globals__.get("__name__") != "enum"
        return name in cls._member_map_ or not own
    if isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType):
        return True
    if name not in GENERATED or not _is_schema(cls):
        return False
    function = getattr(value, "__func__", value)
    if not isinstance(function, FunctionType):
        return value is None or name == "__match_args__"
    return _is_generated(function, f"{qualified_name(cls)[1]}.{name}")


def _is_generated(function: FunctionType, qualname: str) -> bool:
    """Return whether the standard library wrote a function for the class that has it under this name.

    The function's code says where it was compiled, in any process. The function's name says for which class it was
    written.
    """
    module, code = function.__globals__.get("__name__"), function.__code__
    if isinstance(module, str) and module.startswith("namedtuple_"):
        return code.co_name == "<lambda>"
    wrapped = function.__dict__.get("__wrapped__")
    if module in ("dataclasses", "reprlib") and isinstance(wrapped, FunctionType):
        code = wrapped.__code__  # a __repr__ that is kept from entering itself
    elif module in ("dataclasses", "collections"):
        return True
    return function.__qualname__ == qualname and code.co_qualname == f"__create_fn__.<locals>.{function.__name__}"


def _note_owner(walk: Walk, cls: type, member: Any) -> None:
    """Note the class whose methods the functions of a member are, so that their writes to the receiver are known."""
    step = step_of(member)
    inner = None if step is None else step.function
    for each in (
        member,
        inner,
        *(getattr(member, part, None) for part in ("__func__", "fget", "fset", "fdel", "func", "__wrapped__")),
    ):
        if isinstance(each, FunctionType):
            walk.owners.setdefault(
                id(each), (cls, isinstance(member, classmethod) or each.__name__ == "__init_subclass__")
            )
