"""Tell from the syntax around the place where a frame stands how its code uses what it reads there."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from itertools import islice
from types import FrameType
from typing import Final

from musubito.code.syntax.expressions import COMPREHENSIONS, literal_key
from musubito.code.syntax.source import source_of

SEES_VARIABLES: Final = frozenset({"locals", "vars", "eval", "exec", "dir"})
"""Functions with which code reads variables that it does not name."""


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


def drops(frame: FrameType | None, key: object) -> bool:
    """Tell whether the frame reads `key` into a variable that nothing uses."""
    tree, place = _standing(frame)
    for node in ast.walk(tree):
        match node:
            case ast.Assign([ast.Name(name)], value) if frame is not None and _place(value) == place:
                return literal_key(value) == key and not is_used(name, tree, frame)
    return False


def is_used(name: str, tree: ast.AST, frame: FrameType) -> bool:
    """Tell whether a variable of a function is used in a branch that the function may take."""
    if name not in frame.f_code.co_varnames:
        return True  # a global variable, or one that another function shares
    set_here = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    ahead = [tree]
    while ahead:
        match ahead.pop():
            case ast.Name(used, ast.Load()) if used == name or used in SEES_VARIABLES:
                return True
            case ast.If(test, body, orelse) | ast.IfExp(test, body, orelse):
                match _decided(test, frame, set_here):
                    case None:
                        ahead += (test, *_nodes(body), *_nodes(orelse))
                    case taken:
                        ahead += _nodes(body if taken else orelse)
            case node:
                ahead += ast.iter_child_nodes(node)
    return False


def _nodes(branch: ast.expr | list[ast.stmt]) -> Sequence[ast.AST]:
    return branch if isinstance(branch, list) else [branch]


def _decided(test: ast.expr, frame: FrameType, set_here: set[str]) -> bool | None:
    """Return the result of a test of a type; None for any other test, and if the function sets a name in it."""
    match test:
        case ast.Call(ast.Name("isinstance" as asks), [ast.Name(name), ast.Name(of)], []):
            thing, cls, function = (_bound(word, frame, set_here) for word in (name, of, asks))
            if function is isinstance and thing is not None and isinstance(cls, type):
                return isinstance(thing, cls)
    return None


def _bound(name: str, frame: FrameType, set_here: set[str]) -> object:
    """Return the object that a name of an enclosing function or of a module is bound to; None for any other name."""
    if name in frame.f_code.co_freevars and name not in set_here:
        return frame.f_locals.get(name)
    if name in frame.f_code.co_varnames or name in set_here:
        return None
    return frame.f_globals.get(name, frame.f_builtins.get(name))


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
