"""Tell which fields a method sets to what it is given: `def use(self, database): self.database = database`."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from types import FunctionType
from typing import Final

from musubito.code.syntax.function_text import text_of

CONVERTERS: Final = frozenset({"str", "int", "float", "bool", "dict", "list", "tuple", "set", "frozenset"})
"""Builtins that make a setting of what a method is given."""


def is_set_by(cls: type, field: object, methods: Iterable[str]) -> bool:
    """Return whether one of these methods of a class sets the field, or calls a method of its own that does."""
    ahead, seen = list(methods), set[str]()
    while ahead:
        method = ahead.pop()
        member = next((vars(base)[method] for base in cls.__mro__ if method in vars(base)), None)
        if method in seen or type(member) is not FunctionType:
            continue
        seen.add(method)
        source = text_of(member).source
        for name, is_call in () if source is None else _passed_on(source.node):
            if is_call:
                ahead.append(name)
            elif name == field:
                return True
    return False


def _passed_on(function: ast.AST) -> Iterator[tuple[str, bool]]:
    """Yield fields that a method sets to its arguments (False), and methods of its own that it hands them to (True)."""
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    arguments = function.args
    names = [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    if not names:
        return
    receiver, given = names[0], frozenset(names[1:])
    for node in ast.walk(function):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method), args=args, keywords=keywords):
                values = [*args, *(each.value for each in keywords)]
                if name == receiver and any(_is_given(value, given) for value in values):
                    yield method, True
            case ast.Assign(targets=targets, value=value):
                yield from ((field, False) for target in targets for field in _set(target, value, receiver, given))
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                yield from ((field, False) for field in _set(target, value, receiver, given))


def _set(target: ast.expr, value: ast.expr, receiver: str, given: frozenset[str]) -> Iterator[str]:
    match target, value:
        case ast.Tuple(elts=targets), ast.Tuple(elts=values):
            for each, its in zip(targets, values, strict=False):
                yield from _set(each, its, receiver, given)
        case ast.Attribute(value=ast.Name(id=name), attr=field), _ if name == receiver and _is_given(value, given):
            yield field


def _is_given(value: ast.expr, given: frozenset[str]) -> bool:
    match value:
        case ast.Name(id=name):
            return name in given
        case ast.BoolOp(values=values):
            return any(_is_given(each, given) for each in values)
        case ast.IfExp(body=body, orelse=orelse):
            return _is_given(body, given) or _is_given(orelse, given)
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            return name in CONVERTERS and _is_given(argument, given)
    return False
