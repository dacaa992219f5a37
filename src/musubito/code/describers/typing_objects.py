"""Describe the objects that `typing` makes of a definition: new types, type parameters and aliases."""

from __future__ import annotations

import sys
import typing
from typing import Any, Final

from musubito.code.describers.annotations import text_links
from musubito.code.graph_record import ABSENT, GraphRecord
from musubito.code.ownership import module_name
from musubito.code.syntax.ast_digest import tokens
from musubito.code.walk import Walk
from musubito.values.class_names import canonical_module, find_module

PARTS: Final = ("__supertype__", "__bound__", "__constraints__", "__default__", "__value__", "__type_params__")
"""Attributes in which such an object keeps its definition."""
LIBRARIES: Final = ("typing", "typing_extensions")
"""Modules that make such objects."""


def is_of_typing(value: object) -> bool:
    """Return whether `typing` made the value, and it is neither a class nor a generic."""
    return module_name(type(value)) in LIBRARIES


def describe_typing(walk: Walk, value: Any, name: str) -> GraphRecord:
    """Return the record of such an object: its name and its definition."""
    cls = type(value)
    shown = str(getattr(value, "__name__", "")) or repr(value)
    if isinstance(value, typing.ForwardRef) and isinstance(value.__forward_module__, str):
        module = value.__forward_module__
        shown = shown.replace(f"module={module!r}", f"module={canonical_module(module)!r}")
    own = tokens("typevar", shown) if cls is typing.TypeVar else tokens("typing", cls.__qualname__, shown)
    links: list[tuple[str, bytes]] = []
    for part in PARTS:
        each = _part(value, part)
        if each is not ABSENT:
            if cls is typing.NewType:
                walk.guard.attribute(value, part, each)  # an ordinary attribute; those of the others cannot be set
            links.append((part, walk.link(each, walk.part_name(each, f"{name}.{part}"))))
            for text in _texts(each):
                links += text_links(walk, text, _scopes(value), f"{name}.{part}")
    return GraphRecord(own, links)


def _part(value: Any, name: str) -> Any:
    """Return the value of one attribute of the object, or ABSENT without one."""
    try:
        # An alias is evaluated when it is asked for: the things that it names may not be there yet.
        each = getattr(value, name, None)
    except Exception:
        return ABSENT
    if each is None or each == () or type(each).__name__ == "NoDefaultType":
        return ABSENT
    return each


def _texts(each: Any) -> list[str]:
    parts = each if isinstance(each, tuple) else (each,)
    return [
        part.__forward_arg__ if isinstance(part, typing.ForwardRef) else part
        for part in parts
        if isinstance(part, typing.ForwardRef | str)
    ]


def _scopes(value: Any) -> list[dict[str, Any]]:
    module = find_module(str(getattr(value, "__module__", "")))
    return [] if module is None or module is sys.modules.get("typing") else [vars(module)]
