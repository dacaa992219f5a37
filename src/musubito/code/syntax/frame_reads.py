"""Tell from the syntax around the place where a frame stands how its code uses what it reads there."""

from __future__ import annotations

import ast
from itertools import islice
from types import FrameType

from musubito.code.syntax.expressions import COMPREHENSIONS
from musubito.code.syntax.source import source_of


def filters(frame: FrameType | None) -> bool:
    """Tell whether the frame begins an iteration that first asks of each key whether the key is wanted."""
    tree, place = _standing(frame)
    return any(
        place in (_place(node), _place(first.iter))
        for node in ast.walk(tree)
        if isinstance(node, COMPREHENSIONS)
        for first in node.generators[:1]
        if any(asks_for(test, _key(first.target)) for test in first.ifs[:1])
    )


def _standing(frame: FrameType | None) -> tuple[ast.AST, tuple[int | None, ...] | None]:
    """Return the tree of the function that a frame runs, and the position of the frame's current call in it."""
    source = None if frame is None else source_of(frame.f_code)
    if frame is None or source is None:
        return ast.Module([], []), None
    return source.node, next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None), None)


def _place(node: ast.expr) -> tuple[int | None, ...]:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def _key(target: ast.expr) -> str:
    first = target.elts[0] if isinstance(target, ast.Tuple) else target
    return first.id if isinstance(first, ast.Name) else ""


def asks_for(test: ast.expr, key: str) -> bool:
    """Tell whether a condition asks first whether a mapping has a key."""
    match test:
        case ast.Compare(ast.Name(name), [ast.In()], [_]):
            return name == key
        case ast.BoolOp(ast.And(), [first, *_]):
            return asks_for(first, key)
    return False
