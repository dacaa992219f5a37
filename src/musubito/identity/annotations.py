"""The classes that the annotations of a function name, and those that their fields name in turn.

They are how stored results are rebuilt. Annotations that are text are taken apart, never evaluated.
"""

from __future__ import annotations

import ast
import builtins
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

from musubito.identity.classes import annotations_of
from musubito.identity.origin import module_name

__all__ = ["annotated_classes"]


def annotated_classes(function: Any, owner: type | None, reached: Iterable[type]) -> dict[tuple[str, str], type]:
    """By module and qualname; builtins are left out."""
    found: dict[tuple[str, str], type] = {}
    pending: list[type] = []
    names = getattr(function, "__globals__", {})
    local = _closure(function)
    if owner is not None:
        local[owner.__name__] = owner
    for annotation in annotations_of(function).values() if isinstance(function, FunctionType) else ():
        pending += _classes(annotation, names, local)
    pending += reached
    while pending:
        cls = pending.pop()
        key = module_name(cls), cls.__qualname__
        if key in found or key[0] in ("builtins", "typing"):
            continue
        found[key] = cls
        module = sys.modules.get(key[0])
        for each in cls.__mro__[1:]:
            pending.append(each)
        for annotation in annotations_of(cls).values():
            pending += _classes(annotation, vars(module) if module is not None else names, {**local, cls.__name__: cls})
    return found


def _closure(function: Any) -> dict[str, Any]:
    code, held = getattr(function, "__code__", None), {}
    for name, cell in zip(getattr(code, "co_freevars", ()), getattr(function, "__closure__", None) or (), strict=False):
        try:
            held[name] = cell.cell_contents
        except ValueError:
            continue  # not bound yet, so it names no class
    return held


def _classes(annotation: Any, names: Mapping[str, Any], local: Mapping[str, Any]) -> Iterator[type]:
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        try:
            tree = ast.parse(annotation.strip(), mode="eval")
        except (SyntaxError, ValueError):
            return  # not an expression, so it names no class
        for node in ast.walk(tree):
            if isinstance(node, ast.Name | ast.Attribute):
                value = _named(node, names, local)
                if value is not None and not isinstance(value, str):
                    yield from _classes(value, names, local)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value != annotation:
                yield from _classes(node.value, names, local)
    elif typing.get_origin(annotation) is not None:
        for each in (typing.get_origin(annotation), *typing.get_args(annotation)):
            yield from _classes(each, names, local)
    elif isinstance(annotation, list | tuple):
        for each in annotation:
            yield from _classes(each, names, local)
    elif isinstance(annotation, type):
        yield annotation


def _named(node: ast.expr, names: Mapping[str, Any], local: Mapping[str, Any]) -> Any:
    match node:
        case ast.Name(id=name):
            return local.get(name, names.get(name, getattr(builtins, name, None)))
        case ast.Attribute(value=value, attr=attr):
            of = _named(value, names, local)
            return vars(of).get(attr) if isinstance(of, ModuleType | type) else None
        case _:
            return None
