"""Find texts in stored code that read like prompts, with secrets hidden."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from musubito.parsing import parsed
from musubito.values.redaction import without_secrets_in

WORDS: Final = 4
"""The fewest words of a prompt: a shorter text is a label or a separator."""
_FUNCTION: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def prompts_in(text: str) -> list[str]:
    """Return the texts in a part of code that may be prompts, with secrets hidden.

    The part is a function, a class, or the text of a value. Docstrings, texts of errors and
    texts of few words are left out. The fields of an f-string stand as they do in the code.
    """
    try:
        tree = parsed(textwrap.dedent(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError, SystemError):
        tree = None
    if tree is not None and tree.body and isinstance(tree.body[0], _FUNCTION):
        texts = list(_texts(tree))
    elif tree is not None and all(isinstance(node, (ast.Expr, ast.Assign, ast.Return)) for node in tree.body):
        # The source of a constant that is no text itself, the line of a lambda, or the lines that made an object.
        texts = list(_texts(tree))
    else:
        texts = [text]
    return [without_secrets_in(prompt) for prompt in dict.fromkeys(texts) if len(prompt.split()) >= WORDS]


def _texts(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=values):
            yield "".join(_piece(value) for value in values)
        case ast.Raise() | ast.Assert():
            return
        case _:
            for name, below in ast.iter_fields(node):
                yield from _below(below if name != "body" else _undocumented(node, below))


def _below(below: Any) -> Iterator[str]:
    for node in below if isinstance(below, list) else [below]:
        if isinstance(node, ast.AST):
            yield from _texts(node)


def _undocumented(node: ast.AST, body: Any) -> Any:
    if not isinstance(node, _FUNCTION) or not body or not isinstance(body[0], ast.Expr):
        return body
    first = body[0].value
    return body[1:] if isinstance(first, ast.Constant) and isinstance(first.value, str) else body


def _piece(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    return f"{{{ast.unparse(part.value)}}}" if isinstance(part, ast.FormattedValue) else ast.unparse(part)
