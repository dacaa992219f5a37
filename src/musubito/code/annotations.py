"""Find the classes that annotations name: those that rebuild the stored results of a step.

Annotations that are text are parsed, never evaluated.
"""

from __future__ import annotations

import ast
import builtins
import typing
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from types import FunctionType, MethodType, ModuleType
from typing import Any

from musubito.code.classes import annotations_of
from musubito.code.live import ABSENT, contents
from musubito.parsing import parsed
from musubito.values.class_names import Ambiguous, module_of_class, qualified_name


def classes_that_rebuild(function: Any, owner: type | None, reached: Iterable[type]) -> dict[tuple[str, str], type]:
    """Return the classes that rebuild a step's results, by module and qualified name, without builtins.

    The classes are those in `reached` and in the function's annotations. The bases of each class follow, and the
    classes that its annotations name.
    """
    result: dict[tuple[str, str], type] = {}
    is_code = isinstance(function, FunctionType | MethodType)
    names, local = (function.__globals__, _closure_values(function)) if is_code else ({}, {})
    if owner is not None:
        local[owner.__name__] = owner
    pending: list[type] = []
    for annotation in annotations_of(function).values() if isinstance(function, FunctionType) else ():
        pending += classes_in(annotation, names, local)
    pending += reached
    entered: dict[int, type] = {}
    while pending:
        cls = pending.pop()
        if id(cls) in entered:
            continue  # most classes share bases
        entered[id(cls)] = cls
        key = qualified_name(cls)
        if key[0] in ("builtins", "typing"):
            continue
        if key in result:
            if result[key] is not cls:
                result[key] = Ambiguous
            continue
        result[key] = cls
        pending += cls.__mro__[1:]
        module = module_of_class(cls)
        scope, inner = vars(module) if module is not None else names, {**local, cls.__name__: cls}
        for annotation in annotations_of(cls).values():
            if id(annotation) not in entered:
                pending += classes_in(annotation, scope, inner)
    return result


def _closure_values(function: Any) -> dict[str, Any]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
    return {name: contents(cell) for name, cell in cells if contents(cell) is not ABSENT}


def classes_in(annotation: Any, names: Mapping[str, Any], local: Mapping[str, Any]) -> Iterator[type]:
    """Yield the classes that an annotation names. A type alias may name itself, so each is entered once."""
    seen: set[object] = set()
    pending: list[Any] = [annotation]
    kept: list[Any] = []
    while pending:
        each = pending.pop()
        if isinstance(each, typing.ForwardRef):
            each = each.__forward_arg__
        key = each if type(each) is str else id(each)
        if key in seen:
            continue
        seen.add(key)
        kept.append(each)  # so that its id stays its own
        if isinstance(each, str):
            pending += _things_named_in(each, names, local)
        elif typing.get_origin(each) is not None:
            pending += (*reversed(typing.get_args(each)), typing.get_origin(each))
        elif isinstance(each, list | tuple):
            pending += reversed(each)
        elif isinstance(each, type):
            yield each


@lru_cache(maxsize=4096)
def _naming_nodes(text: str) -> tuple[ast.Name | ast.Attribute | ast.Constant, ...]:
    """Return the nodes of a text that name something, or may. The same text stands at the fields of many classes."""
    tree: ast.Expression = parsed(text, "eval")
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute | ast.Constant))


def _things_named_in(text: str, names: Mapping[str, Any], local: Mapping[str, Any]) -> list[Any]:
    """Return the objects and the inner texts that an annotation's text names, in reverse order."""
    try:
        naming = _naming_nodes(str.strip(text))
    except (SyntaxError, ValueError):
        return []  # the text is not an expression, so it names no class
    result: list[Any] = []
    for node in naming:
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                result.append(node.value)
        else:
            value = _resolve_node(node, names, local)
            if value is not None and not isinstance(value, str):
                result.append(value)
    return result[::-1]


def _resolve_node(node: ast.expr, names: Mapping[str, Any], local: Mapping[str, Any]) -> Any:
    match node:
        case ast.Name(id=name):
            return local.get(name, names.get(name, getattr(builtins, name, None)))
        case ast.Attribute(value=value, attr=attr):
            of = _resolve_node(value, names, local)
            return vars(of).get(attr) if isinstance(of, ModuleType | type) else None
        case _:
            return None
