"""Read what a function does with the functions that it calls: whether it returns their answers or passes all on."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

from musubito.code.syntax.expressions import attribute_chain, body_of, parameters_of
from musubito.code.syntax.single_function import FunctionNode

Path: TypeAlias = tuple[str, ...]
"""A name and the attributes after it; empty for an expression that is no such path."""
LOOKS_AROUND: Final = frozenset({"locals", "vars", "dir", "eval", "exec", "_getframe", "currentframe", "stack"})
"""Names by which code reads its arguments without naming them."""
DEEPEST: Final = 10
"""The number of expressions that are followed, one inside the other."""


class ReturnedCall(NamedTuple):
    """A call whose answer a function returns."""

    called: Path
    inside: frozenset[Path]
    """What is called inside of the call, in locals that it is given as well."""
    depth: int
    """The number of expressions around it."""


def returned_calls(function: FunctionNode) -> list[Iterator[ReturnedCall | None]]:
    """Return the alternatives for each value that a function returns; None stands for a value that is no call."""
    nodes = list(_own_nodes(function))
    assigned: dict[str, list[ast.expr]] = {}
    for node in nodes:
        match node:
            case ast.Assign([ast.Name(name)], value) | ast.NamedExpr(ast.Name(name), value):
                assigned.setdefault(name, []).append(value)
    returned = [node.value for node in nodes if isinstance(node, ast.Return) and node.value is not None]
    values = [function.body] if isinstance(function, ast.Lambda) else returned
    return [_alternatives(value, assigned, 0) for value in values]


def _alternatives(node: ast.expr, assigned: dict[str, list[ast.expr]], depth: int) -> Iterator[ReturnedCall | None]:
    inner: list[ast.expr] = []
    match node:
        case ast.IfExp(body=body, orelse=orelse):
            inner = [body, orelse]
        case ast.NamedExpr(value=value):
            inner = [value]
        case ast.Name(id=name) if name in assigned:
            inner = assigned[name]
        case ast.Call(func=func):
            yield ReturnedCall(_path(func), frozenset(_called_inside(node, assigned)), depth)
        case _:
            yield None
    for statement in inner if depth < DEEPEST else ():
        yield from _alternatives(statement, assigned, depth + 1)


def _called_inside(node: ast.Call, assigned: dict[str, list[ast.expr]]) -> Iterator[Path]:
    pending: list[ast.AST] = list(ast.iter_child_nodes(node))
    looked_up = set[str]()
    while pending:
        part = pending.pop()
        if isinstance(part, ast.Call):
            yield _path(part.func)
        if isinstance(part, ast.Name) and part.id in assigned and part.id not in looked_up:
            looked_up.add(part.id)
            pending += assigned[part.id]
        pending += ast.iter_child_nodes(part)


def _path(node: ast.expr) -> Path:
    root, attributes = attribute_chain(node)
    return (root.id, *attributes) if isinstance(root, ast.Name) else ()


def _own_nodes(node: FunctionNode) -> Iterator[ast.AST]:
    """Yield the nodes of a function, without the insides of functions and classes in it."""
    pending: list[ast.AST] = [*body_of(node)]
    while pending:
        inner = pending.pop()
        yield inner
        if not isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            pending.extend(ast.iter_child_nodes(inner))


def only_passes_on(function: FunctionNode, callee: str, rest: str, named: str) -> bool:
    """Tell whether a function does nothing with `*rest` and `**named` but to call `callee` with them."""
    allowed: set[ast.AST] = set()
    for node in ast.walk(function):
        match node:
            case ast.Call(
                func=ast.Name(id=called) as first,
                args=[ast.Starred(value=ast.Name(id=args) as second)],
                keywords=[ast.keyword(arg=None, value=ast.Name(id=keywords) as third)],
            ) if (called, args, keywords) == (callee, rest, named):
                allowed |= {first, second, third}
    for node in ast.walk(function):
        match node:
            case ast.Name(id=name) if name in (rest, named) and node not in allowed:
                return False
            case ast.Name(id=name, ctx=ctx) if name == callee and not isinstance(ctx, ast.Load):
                return False
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in LOOKS_AROUND:
                return False
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda() if node is not function and (
                {rest, named, callee} & {parameter.arg for parameter in parameters_of(node.args)}
            ):
                return False
    return True
