"""Find the texts that code writes: literals, and f-strings with their fields as they stand in the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any, Final

from musubito.code.syntax.ast_digest import FUNCTIONS
from musubito.code.syntax.single_function import FAILURES
from musubito.parsing import parsed

DOCUMENTED: Final = (*FUNCTIONS, ast.ClassDef)
"""Statements that may have a docstring."""
LINES: Final = (ast.Expr, ast.Assign, ast.Return)
"""Statements of a constant that is no text itself, of the line of a lambda, or of the lines that made an object."""


def texts_written_in(code: str) -> list[str] | None:
    """Return the texts in a function, a class or a few plain lines; None for any other text.

    Docstrings, the texts of errors and what is printed are left out.
    """
    try:
        tree = parsed(code)
    except (*FAILURES, SystemError):
        return None
    is_definition = tree.body and isinstance(tree.body[0], DOCUMENTED)
    return list(_texts(tree)) if is_definition or all(isinstance(node, LINES) for node in tree.body) else None


def _texts(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=values):
            yield "".join(_piece(value) for value in values)
        case ast.Raise() | ast.Assert() | ast.Call(func=ast.Name(id="print")):
            return
        case _:
            for name, below in ast.iter_fields(node):
                yield from _below(below if name != "body" else _undocumented(node, below))


def _below(below: Any) -> Iterator[str]:
    for node in below if isinstance(below, list) else [below]:
        if isinstance(node, ast.AST):
            yield from _texts(node)


def _undocumented(node: ast.AST, body: Any) -> Any:
    if not isinstance(node, DOCUMENTED) or not body or not isinstance(body[0], ast.Expr):
        return body
    first = body[0].value
    return body[1:] if isinstance(first, ast.Constant) and isinstance(first.value, str) else body


def _piece(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    return f"{{{ast.unparse(part.value)}}}" if isinstance(part, ast.FormattedValue) else ast.unparse(part)
