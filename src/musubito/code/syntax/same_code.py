"""Tell whether two code objects do the same, and which lambda a code object was compiled from."""

from __future__ import annotations
import __future__

import ast
from collections.abc import Iterator
from types import CodeType
from typing import Any, Final

REMARKS: Final = __future__.annotations.compiler_flag
"""Flags that do not change what the code does; `exec` hands this one down to the code that it compiles."""


def codes(code: CodeType) -> Iterator[CodeType]:
    """Yield the code itself and all code nested in it."""
    pending = [code]
    while pending:
        each = pending.pop()
        yield each
        pending += [constant for constant in each.co_consts if isinstance(constant, CodeType)]


def same_code(a: CodeType, b: CodeType) -> bool:
    """Return whether two code objects do the same, wherever they were written."""
    return (
        a.co_code == b.co_code
        and a.co_name == b.co_name
        and a.co_names == b.co_names
        and a.co_varnames == b.co_varnames
        and a.co_freevars == b.co_freevars
        and a.co_cellvars == b.co_cellvars
        and a.co_argcount == b.co_argcount
        and a.co_posonlyargcount == b.co_posonlyargcount
        and a.co_kwonlyargcount == b.co_kwonlyargcount
        and (a.co_flags ^ b.co_flags) | REMARKS == REMARKS
        and a.co_exceptiontable == b.co_exceptiontable
        and len(a.co_consts) == len(b.co_consts)
        and all(map(_same_constant, a.co_consts, b.co_consts))
    )


def _same_constant(a: Any, b: Any) -> bool:
    if isinstance(a, CodeType) and isinstance(b, CodeType):
        return same_code(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(_same_constant, a, b))
    if isinstance(a, frozenset):
        return sorted(map(_typed_text, a)) == sorted(map(_typed_text, b))
    return _typed_text(a) == _typed_text(b)


def _typed_text(value: Any) -> str:
    """Return a constant as text, which unlike `==` tells 1, 1.0 and True apart, and 0.0 from -0.0."""
    return f"{type(value).__name__}:{value.hex() if isinstance(value, float) else repr(value)}"


def first_position(code: CodeType) -> tuple[int | None, ...]:
    """Return the first lines and columns that are known of a code."""
    return next((p for p in code.co_positions() if p[0] is not None and p[2] is not None), ())


def is_code_of_lambda(code: CodeType, node: ast.Lambda) -> bool:
    """Return whether a lambda's code was compiled from this node: the widest place in the code is the node's body."""
    body = node.body
    span = (body.lineno, body.col_offset), (body.end_lineno or 0, body.end_col_offset or 0)
    places = [(p[0], p[2], p[1], p[3]) for p in code.co_positions() if None not in p and p[3] != 0]
    starts = [(line, column) for line, column, _, _ in places]
    ends = [(line, column) for _, _, line, column in places]
    if not places:  # the lambda only returns a constant, of which Python 3.12 keeps no place
        return any(same_code(alone, code) for alone in _compiled_alone(node))
    return (min(starts), max(ends)) == span


def _compiled_alone(node: ast.Lambda) -> Iterator[CodeType]:
    """Yield the code of a lambda outside of any function, and inside of one."""
    alone = compile(ast.Expression(node), "", "eval")
    yield from _directly_in(alone)
    nothing = ast.arguments([], [], None, [], [], None, [])
    around = ast.fix_missing_locations(ast.Expression(ast.copy_location(ast.Lambda(nothing, node), node)))
    for outer in _directly_in(compile(around, "", "eval")):
        yield from _directly_in(outer)


def _directly_in(code: CodeType) -> Iterator[CodeType]:
    return (constant for constant in code.co_consts if isinstance(constant, CodeType))
