"""Tell the own members of a class from those that a library generates, and what a class shows."""

from __future__ import annotations

import functools
import sys
from types import FunctionType, MethodType
from typing import Any, Final

from musubito.code.cached_functions import know
from musubito.code.live import step_of
from musubito.code.ownership import Owner, Owners, module_name
from musubito.code.syntax.class_statement import ClassText
from musubito.code.syntax.function_text import text_of
from musubito.code.syntax.source import SENT

UNUSED: Final = frozenset({"__init_subclass__", "__set_name__", "__setstate__", "__prepare__", "__class_getitem__"})
"""Methods that Python calls while classes and objects are made, and not for the step."""
SHOWING: Final = ("__pydantic_fields__", "__total__", "__struct_fields__")
"""Attributes of classes whose docstring is part of the schema that a model is shown."""
SCHEMAS: Final = (*SHOWING, "__dataclass_fields__", "__attrs_attrs__", "_field_defaults")
"""Attributes by which classes keep a schema of their fields."""
PASSIVE: Final = frozenset({"abc", "builtins", "enum", "typing", "typing_extensions", "pydantic.main"})
"""Modules with base classes that call no method of the user's by a name of their own."""


def functions_below(member: Any) -> list[FunctionType]:
    """Return the functions that a member of a class runs: its own, or those below decorators that show them."""
    found: list[FunctionType] = []
    pending, seen = [member], set[int]()
    while pending:
        value = pending.pop(0)
        if id(value) in seen or value is None:
            continue
        seen.add(id(value))
        kind = type(value)
        if kind is FunctionType:
            found.append(value)
        elif (step := step_of(value)) is not None:
            pending.append(step.function)
        elif issubclass(kind, classmethod | staticmethod | MethodType):
            pending.append(value.__func__)
        elif issubclass(kind, property):
            pending += (value.fget, value.fset, value.fdel)
        elif issubclass(kind, functools.cached_property | functools.partialmethod | functools.partial):
            pending.append(value.func)
        elif kind is functools._lru_cache_wrapper:
            know(value)
            pending.append(value.__wrapped__)
        elif kind is functools.singledispatchmethod:
            pending.append(value.func)
    return found


def is_generated(origins: Owners, function: FunctionType, text: ClassText | None) -> bool:
    """Return whether a library wrote a function for a class that has a text."""
    if text is None or function.__name__ in text.methods:
        return False
    file = function.__code__.co_filename
    is_written = text_of(function).source is not None if file == SENT else not file.startswith("<")
    return not is_written or origins.of_function(function) is not Owner.USER


def is_schema(cls: type) -> bool:
    """Return whether a class declares its fields: a dataclass, a model, a named tuple, a typed dict."""
    return any(attribute in vars(base) for base in cls.__mro__ for attribute in SCHEMAS)


def shows_docstring(cls: type) -> bool:
    """Return whether a class's docstring is part of the schema that a model is shown."""
    return any(attribute in vars(base) for base in cls.__mro__ for attribute in SHOWING)


def overrides(origins: Owners, cls: type, name: str) -> bool:
    """Return whether a base of another package's may call the member under a name of its own."""
    others = (base for base in cls.__mro__[1:-1] if module_name(base) not in PASSIVE and name in vars(base))
    return any(origins.of_class(base) is not Owner.USER for base in others)


def fields_declared(cls: type) -> set[str]:
    """Return the names of a class's own members and of its own fields."""
    names = {*vars(cls), *annotations_of(cls)}
    for fields in ("__dataclass_fields__", "__pydantic_fields__"):
        own, *inherited = (set(vars(base).get(fields) or ()) for base in cls.__mro__)
        names.update(own.difference(*inherited))
    return names


def annotations_of(thing: Any) -> dict[str, Any]:
    """Return the annotations that a class or function itself has, as they are: text or objects."""
    if sys.version_info >= (3, 14):
        import annotationlib  # noqa: PLC0415 - new in 3.14

        if not callable(getattr(thing, "__annotate__", None) or dict):
            return {}  # a class of Cython's, whose instances have annotations
        return annotationlib.get_annotations(thing, format=annotationlib.Format.FORWARDREF)
    members = vars(thing).get("__annotations__") if isinstance(thing, type) else getattr(thing, "__annotations__", None)
    return dict(members) if isinstance(members, dict) else {}
