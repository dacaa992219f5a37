"""Read annotations, and the expressions that stand as text inside of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache

from musubito.code.syntax.expressions import parameters_of
from musubito.code.syntax.statements import names_used
from musubito.parsing import parsed


def annotation_nodes(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.expr]:
    """Yield the annotations of a function, and what is written as text inside of them."""
    pending = [parameter.annotation for parameter in parameters_of(function.args) if parameter.annotation is not None]
    pending += [function.returns] if function.returns is not None else []
    for annotation in pending:
        yield annotation
        yield from written_in(annotation)


def written_in(annotation: ast.AST) -> Iterator[ast.expr]:
    """Yield the expressions that stand as text in an annotation, at any depth. The texts of a `Literal` are values."""
    pending = [annotation]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("Literal"):
            continue
        pending += ast.iter_child_nodes(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                inner: ast.expr = parsed(node.value.strip(), "eval").body
            except (SyntaxError, ValueError):
                continue  # a text that is no expression names nothing
            yield inner
            yield from written_in(inner)


@lru_cache(maxsize=4096)
def named_in(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the names in the text of an annotation, and in texts inside of it, each with the attributes that follow.

    The same text stands at the fields of many classes. A text that is no expression names nothing.
    """
    return tuple(name for expression in written_in(ast.Constant(text)) for name in names_used(expression))
