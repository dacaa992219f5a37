"""Tell from syntax which methods change a container, and which expressions only look at a value or make a new one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

ADDERS: Final = frozenset({"setdefault", "pop", "__setitem__", "__delitem__"})
"""Methods that change one item of a container, at the key in their first argument."""
MUTATORS: Final = ADDERS | frozenset(
    [
        *("append", "appendleft", "extend", "extendleft", "insert", "remove", "popleft", "popitem", "clear", "sort"),
        *("reverse", "rotate", "add", "discard", "update", "subtract", "intersection_update", "difference_update"),
        *("symmetric_difference_update", "move_to_end", "set"),
    ]
)
"""Methods that change a container."""
ADDS: Final = frozenset({"add", "append", "appendleft", "extend", "extendleft", "insert", "discard", "clear", "update"})
"""Mutators that work whatever the container holds, and return nothing about its content."""
LOOKS: Final = frozenset(
    {
        *("len", "bool", "str", "repr", "format", "print", "isinstance", "issubclass", "callable", "id", "type"),
        *("sum", "hash"),
    }
)
"""Builtins that look at their arguments and keep nothing of them."""
MAKERS: Final = frozenset(
    {"list", "dict", "set", "bytearray", "deque", "defaultdict", "Counter", "OrderedDict", "sorted"}
)
"""Builtins that make a new container."""
FRESH = (
    *(ast.List, ast.Dict, ast.Set, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.JoinedStr),
    *(ast.Constant, ast.BinOp, ast.Compare, ast.AugAssign),
)
"""Expressions that make a new value."""


def only_looked_at(function: ast.AST) -> Iterator[ast.AST]:
    """Yield the expressions whose values are only looked at, by the code around them."""
    for node in ast.walk(function):
        match node:
            case ast.Attribute(value=value) | ast.FormattedValue(value=value) | ast.Expr(value=value):
                yield value
            case ast.Subscript(value=value, slice=index):
                yield from (value, index)
            case ast.Call(func=ast.Name(id=name)) if name in LOOKS:
                yield from (node.func, *node.args)
            case ast.Call(func=ast.Attribute(value=ast.Constant(value=str()))):
                yield from (node.func, *node.args)
            case ast.Call(func=func):
                yield func
            case ast.Compare():
                yield from (node.left, *node.comparators)
            case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
                yield test
            case ast.UnaryOp(operand=operand):
                yield operand


def names_checked(function: ast.AST) -> Iterator[str]:
    """Yield the names of things whose existence a function checks, as it does before it makes them."""
    for node in ast.walk(function):
        match node:
            case ast.Compare(left=left, ops=[ast.Is() | ast.IsNot()], comparators=[ast.Constant(value=None)]):
                yield from _names_of(left)
            case ast.Compare(ops=[ast.In() | ast.NotIn()], comparators=[container]):
                yield from _names_of(container)
            case ast.If(test=test) | ast.IfExp(test=test) | ast.UnaryOp(op=ast.Not(), operand=test):
                yield from _names_of(test)
            case ast.BoolOp(values=values):
                for value in values:
                    yield from _names_of(value)
            case ast.Call(func=ast.Name(id="hasattr" | "getattr"), args=[_, ast.Constant(value=str(name)), *_]):
                yield name
            case ast.Try(body=body, handlers=handlers) if any(map(_is_of_absence, handlers)):
                for statement in body:
                    for inner in ast.walk(statement):
                        if isinstance(inner, ast.Subscript | ast.Attribute):
                            yield from _names_of(inner.value if isinstance(inner, ast.Subscript) else inner)


def _names_of(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr


def _is_of_absence(handler: ast.ExceptHandler) -> bool:
    return isinstance(handler.type, ast.Name) and handler.type.id in ("KeyError", "AttributeError", "NameError")


def makes_new_value(node: ast.AST) -> bool:
    """Return whether an expression returns a value that no other code has, or one that cannot be changed."""
    match node:
        case ast.Call(func=ast.Name(id=name)):
            return name in MAKERS
        case ast.Call(func=ast.Attribute(attr=name)):
            return name in ("copy", "deepcopy", "split", "splitlines", "join", "strip")
        case _:
            return isinstance(node, FRESH)
