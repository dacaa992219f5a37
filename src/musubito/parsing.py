"""Parse source texts, also in threads that parse at once, and walk through syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple

TRIES: Final = 20
"""Attempts to parse a text when CPython fails with `SystemError`."""


def parsed(text: str, mode: str = "exec") -> Any:
    """Return the syntax tree of a text; raise what `ast.parse` raises."""
    for _ in range(TRIES):
        try:
            return ast.parse(text, mode=mode)
        except SystemError:
            continue  # in CPython 3.11, threads that parse at once share one count of their depth
    return ast.parse(text, mode=mode)


NO_NODES: Final = frozenset(
    [
        *("ctx", "op", "ops", "id", "attr", "arg", "name", "asname", "module", "level", "kind", "type_comment"),
        *("conversion", "simple", "is_async", "kwd_attrs", "rest"),
    ]
)
"""Fields of syntax nodes that hold no nodes, or those without anything in them, such as operators."""


_FIELDS: Final[dict[type[ast.AST], tuple[str, ...]]] = {ast.Constant: ()}
"""The fields of each kind of node that may hold nodes."""


def _fields_with_nodes(kind: type[ast.AST]) -> tuple[str, ...]:
    is_alias = kind.__name__ == "TypeAlias"  # its name is a node; it is new in Python 3.12
    fields = tuple(name for name in kind._fields if name not in NO_NODES or (is_alias and name == "name"))
    return _FIELDS.setdefault(kind, fields)


def children_of(node: ast.AST) -> list[ast.AST]:
    """Return the nodes directly in a node, as `ast.iter_child_nodes` does, but for contexts and operators."""
    kind = type(node)
    children: list[ast.AST] = []
    for name in _FIELDS[kind] if kind in _FIELDS else _fields_with_nodes(kind):
        value = getattr(node, name, None)
        if type(value) is list:
            children += [item for item in value if isinstance(item, ast.AST)]
        elif isinstance(value, ast.AST):
            children.append(value)
    return children


def parents_in(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    """Return the node around each node of a tree, by the inner node.

    Nodes are hashed by what they are. `id(node)` would raise an audit event for each, as `id` does in CPython.
    """
    parents: dict[ast.AST, ast.AST] = {}
    ahead = [tree]
    while ahead:
        node = ahead.pop()
        for inner in children_of(node):
            parents[inner] = node
            ahead.append(inner)
    return parents


def nodes_in(tree: ast.AST, enters: Callable[[ast.AST], bool] | None = None) -> Iterator[ast.AST]:
    """Yield all nodes of a syntax tree, each before those inside it: as `ast.walk` does, in a third of the time.

    Nodes for which `enters` returns false are left out, with all that is inside of them.
    """
    ahead = [tree]
    while ahead:
        node = ahead.pop()
        if enters is not None and not enters(node):
            continue
        yield node
        ahead += children_of(node)


# -- literal texts -----------------------------------------------------------------------------------------------------
_STATEMENTS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.Assign, ast.Call, ast.Dict)
"""Nodes by which a text is known to be code."""


class Literal(NamedTuple):
    """A literal text in code, by the number of its line, from 0, and its byte there, where it starts and ends."""

    start: tuple[int, int]
    end: tuple[int, int]
    value: str | None
    """The text itself; None in a literal that is listed for what it is bound to."""
    name: str = ""
    """The name, the attribute or the key that it is bound to or compared with."""
    called: str = ""
    """The function or class that it is given to."""


def literals_in(code: str) -> list[Literal] | None:
    """Return the literal texts in code, once for each name that they are bound to and once alone; None for no code."""
    nodes: list[Any] = []
    above = 0
    for text in (code, f"if 1:\n{code}"):  # a method is indented
        above += not nodes
        with suppress(SyntaxError, ValueError, RecursionError, MemoryError, SystemError):
            nodes = nodes or [*ast.walk(parsed(text))]
    if not any(isinstance(node, _STATEMENTS) for node in nodes):
        return None
    bound = [(None, *each) for node in nodes for each in _bound_in(node)]
    alone = [(n.value, "", "", n) for n in nodes if isinstance(n, ast.Constant) and type(n.value) is str]
    return [
        Literal(
            (node.lineno - above, node.col_offset),
            ((node.end_lineno or 0) - above, node.end_col_offset or 0),
            *(value, name, called),
        )
        for value, name, called, node in (*bound, *alone)
    ]


def _bound_in(node: ast.AST) -> Iterator[tuple[str, str, ast.expr]]:
    """Yield the names, or the functions that are called, with the texts that a node binds to them or gives them."""
    pairs: list[tuple[ast.expr | str | None, ast.expr | None]] = []
    match node:
        case ast.Assign(targets=targets, value=value):
            pairs = [pair for target in targets for pair in _unpacked(target, value)]
        case ast.AnnAssign(target=target, value=value) | ast.NamedExpr(target=target, value=value):
            pairs = [(target, value)]
        case ast.keyword(arg=name, value=value):
            pairs = [(name, value)]
        case ast.Dict(keys=keys, values=values):
            pairs = [*zip(map(_text_of, keys), values, strict=True)]
        case ast.Tuple(elts=[name, value]) | ast.List(elts=[name, value]):
            pairs = [(_text_of(name), value)]
        case ast.Compare(left=left, comparators=others):
            pairs = [(left, other) for other in others]
        case ast.arguments():
            positional = [inner.arg for inner in (*node.posonlyargs, *node.args)]
            pairs = [*zip(positional[::-1], node.defaults[::-1], strict=False)]
            pairs += zip([kwonlyarg.arg for kwonlyarg in node.kwonlyargs], node.kw_defaults, strict=True)
        case ast.Call(func=func, args=args):
            called = str(getattr(func, "id", getattr(func, "attr", "")))
            yield from (("", called, text) for value in args for text in _texts(value))
            pairs = [(_text_of(args[0]), args[1])] if len(args) > 1 else []
    for name, value in pairs:
        known = name if isinstance(name, str) or name is None else _name_of(name)
        if known and value is not None:
            yield from ((known, "", text) for text in _texts(value))


def _unpacked(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr | str | None, ast.expr | None]]:
    match target, value:
        case ((ast.Tuple(elts=names) | ast.List(elts=names)), (ast.Tuple(elts=parts) | ast.List(elts=parts))):
            return [pair for name, part in zip(names, parts, strict=False) for pair in _unpacked(name, part)]
    return [(target, value)]


def _name_of(target: ast.expr) -> str | None:
    match target:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(slice=key):
            return _text_of(key)
    return None


def _text_of(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and type(node.value) is str else None


def _texts(value: ast.expr) -> Iterator[ast.expr]:
    """Yield the literal texts that a value may be made of, without the arguments of calls."""
    match value:
        case ast.Constant(value=str() | bytes() as text) if text:
            yield value
        case ast.JoinedStr():
            yield value
        case ast.BinOp(left=one, right=other) | ast.IfExp(body=one, orelse=other):
            yield from _texts(one)
            yield from _texts(other)
        case (
            ast.BoolOp(values=parts)
            | ast.Dict(values=parts)
            | ast.List(elts=parts)
            | ast.Tuple(elts=parts)
            | ast.Set(elts=parts)
        ):
            for part in parts:
                yield from _texts(part)
        case ast.Call(func=ast.Attribute(value=owner)):
            yield from _texts(owner)
