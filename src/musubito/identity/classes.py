"""What one of the user's classes amounts to: its bases, its metaclass and every member of its own.

Annotations and the docstring count where they are more than remarks: in dataclasses, pydantic models, typed
dicts and named tuples, whose fields and schemas are made of them. What Python or a library derives from the
rest does not.
"""

from __future__ import annotations

import sys
import types
from enum import EnumMeta
from types import FunctionType
from typing import TYPE_CHECKING, Any

from musubito.identity.description import Description, step_of
from musubito.identity.normalise import tokens
from musubito.identity.origin import module_name

if TYPE_CHECKING:
    from musubito.identity.closure import Walk

__all__ = ["annotations_of", "describe_class"]

DERIVED = frozenset(
    [
        "__dict__",
        "__weakref__",
        "__module__",
        "__qualname__",
        "__doc__",
        "__annotations__",
        "__annotate__",
        "__annotate_func__",
        "__annotations_cache__",
        "__static_attributes__",
        "__firstlineno__",
        "__abstractmethods__",
        "_abc_impl",
        "__parameters__",
        "__orig_bases__",
        "__type_params__",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__conditional_annotations__",
        "__signature__",
        "__class_vars__",
        "__private_attributes__",
        "__abstract__",
        "__protocol_attrs__",
        "__non_callable_proto_members__",
        "_is_protocol",
        "_is_runtime_protocol",
        "__classcell__",
        "__readonly_keys__",
        "__mutable_keys__",
        "__closed__",
        "__extra_items__",
    ]
)
PARAMETERS = ("init", "repr", "eq", "order", "unsafe_hash", "frozen")
ENUM_DERIVED = frozenset(
    [
        "_member_map_",
        "_value2member_map_",
        "_member_names_",
        "_member_type_",
        "_value_repr_",
        "_unhashable_values_",
        "_unhashable_values_map_",
        "_hashable_values_",
        "_new_member_",
        "_use_args_",
        "_flag_mask_",
        "_all_bits_",
        "_singles_mask_",
        "_inverted_",
        "_boundary_",
        "__new__",
        "__new_member__",
        "_sort_order_",
        "_generate_next_value_",
        "__set_name__",
    ]
)
GENERATED = frozenset(
    [
        "__init__",
        "__repr__",
        "__eq__",
        "__lt__",
        "__le__",
        "__gt__",
        "__ge__",
        "__hash__",
        "__setattr__",
        "__delattr__",
        "__replace__",
        "__getstate__",
        "__setstate__",
        "__new__",
        "_make",
        "_replace",
        "__getnewargs__",
        "_asdict",
        "__match_args__",
    ]
)


def describe_class(walk: Walk, cls: type, name: str) -> Description:
    """The record of a class of the user's."""
    walk.classes[module_name(cls), cls.__qualname__] = cls
    members, exempt = vars(cls), walk.written.names(cls)
    schema = _is_schema(cls)
    own = tokens("class", module_name(cls), cls.__qualname__)
    links = [(f"base {number}", walk.link(each, f"{name}.base")) for number, each in enumerate(cls.__bases__)]
    walk.guard.attribute(cls, "__bases__", cls.__bases__)
    if type(cls) is not type:
        links.append(("metaclass", walk.link(type(cls), f"{name}.metaclass")))
    if _is_described(cls) or walk.docs:
        doc = members.get("__doc__")
        own += tokens(doc if isinstance(doc, str) else None)
        walk.guard.item(members, "__doc__", doc)
    if schema:
        for field, annotation in annotations_of(cls).items():
            text = annotation if isinstance(annotation, str) else None
            links.append(
                (
                    f"{field}:",
                    b"s" + tokens(text) if text is not None else walk.link(annotation, f"{name}.{field}:"),
                )
            )
        params = members.get("__dataclass_params__")
        own += tokens(*(getattr(params, each, None) for each in PARAMETERS))
        for field, each in (members.get("__dataclass_fields__") or {}).items():
            own += tokens(field, each.init, each.repr, each.hash, each.compare, each.kw_only)
            for part in ("default", "default_factory", "metadata"):
                value = getattr(each, part)
                if type(value).__name__ != "_MISSING_TYPE":
                    links.append((f"{field} {part}", walk.link(value, f"{name}.{field}")))
        for field, each in (members.get("__pydantic_fields__") or {}).items():
            links.append((f"{field} field", walk.link(each, f"{name}.{field}")))
    walk.guard.within(
        members,
        [
            *members,
            *exempt,
            "__annotations__",
            "__annotations_cache__",
            "__signature__",
            "__abstractmethods__",
        ],
    )
    for each in sorted(members):
        value = members[each]
        if _is_derived(cls, each, value):
            continue
        if each in exempt:
            walk.is_state(f"{name}.{each}")
            continue
        walk.guard.item(members, each, value)
        _claim(walk, cls, value)
        links.append((each, walk.constant(value, f"{name}.{each}")))
    return Description(own, links)


def _is_described(cls: type) -> bool:
    """Whether its docstring is part of the schema that a model is shown."""
    return any(each in dir(cls) for each in ("__pydantic_fields__", "__total__"))


def _is_schema(cls: type) -> bool:
    return any(
        each in dir(cls) for each in ("__dataclass_fields__", "__pydantic_fields__", "__total__", "_field_defaults")
    )


def _is_derived(cls: type, name: str, value: Any) -> bool:
    if name in DERIVED or name.startswith("__pydantic_"):
        return True
    if isinstance(cls, EnumMeta) and name in ENUM_DERIVED:
        return True
    if isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType):
        return True
    if name not in GENERATED or not _is_schema(cls):
        return False
    made = getattr(value, "__func__", value)
    if not isinstance(made, FunctionType):
        return value is None or name == "__match_args__"
    return made.__code__.co_filename == "<string>" or made.__globals__.get("__name__") in (
        "dataclasses",
        "collections",
        "reprlib",
    )


def _claim(walk: Walk, cls: type, member: Any) -> None:
    """Says whose methods the functions of a member are, so that what they write in it is known."""
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


def annotations_of(cls: Any) -> dict[str, Any]:
    """The annotations that a class or function has itself, as they are: text, or objects."""
    if sys.version_info >= (3, 14):
        import annotationlib  # noqa: PLC0415 - new in 3.14

        return annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)
    held = vars(cls).get("__annotations__") if isinstance(cls, type) else getattr(cls, "__annotations__", None)
    return dict(held) if isinstance(held, dict) else {}
