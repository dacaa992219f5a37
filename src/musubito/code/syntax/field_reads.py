"""Find the names by which the syntax of code may read fields, and whether it may read them without names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from musubito.deferred import deferred_pattern

GETTERS: Final = frozenset(
    [
        *("vars", "attrgetter", "getmembers", "__dict__", "__getattribute__", "__getstate__", "__slots__"),
        *("__reduce__", "__reduce_ex__", "eval", "exec", "globals", "locals"),
    ]
)
"""Names by which code gets at the fields of an object without naming the fields."""
_WORD: Final = deferred_pattern(r"[^\W\d]\w*")
"""A name within a text."""


def field_names(code: ast.AST) -> Iterator[str]:
    """Yield the names of fields that code may have in its texts and patterns."""
    for node in ast.walk(code):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _WORD.findall(node.value)
        elif isinstance(node, ast.MatchClass):
            yield from node.kwd_attrs


def fields_taken_out(code: ast.AST) -> Iterator[str]:
    """Yield the names of fields that code takes out of objects without an attribute of that name."""
    for node in ast.walk(code):
        match node:
            case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str(name)), *_]):
                yield name
            case ast.MatchClass():
                yield from node.kwd_attrs


def hands_super(code: ast.AST) -> bool:
    """Return whether code does more with `super()` than to get an attribute of it."""
    nodes = list(ast.walk(code))
    looked_up = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    calls = (node for node in nodes if isinstance(node, ast.Call))
    return any(
        isinstance(call.func, ast.Name) and call.func.id == "super" and id(call) not in looked_up for call in calls
    )


def gets_at_fields(code: ast.AST) -> bool:
    """Return whether code may get at fields in other ways than by names in it."""
    for node in ast.walk(code):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in GETTERS:
                return True
            case ast.Call(func=ast.Name(id="getattr" | "hasattr"), args=[_, ast.Constant(value=str()), *_]):
                pass
            case ast.Call(func=ast.Name(id="getattr" | "hasattr")):
                return True
            case ast.Call(args=args) if any(
                isinstance(argument, ast.Name) and argument.id == "getattr" for argument in args
            ):
                return True
            case ast.ImportFrom(names=names) if any(alias.name in GETTERS for alias in names):
                return True
            case ast.MatchClass(patterns=[_, *_]):
                return True
    return False
