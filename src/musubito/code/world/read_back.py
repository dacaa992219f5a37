"""Find the state of a step that its answer depends on: a counter that it returns, a queue that it takes from, a quota.

What a step itself changes does not count for it, so a replay gives the first answer again. State that the step only
adds to is fine, and so is a cache.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from musubito.parsing import nodes_in, parsed

TAKES: Final = frozenset({"pop", "popleft", "popitem", "get_nowait"})
"""Methods that remove a thing and return it."""
COMPARES: Final = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
"""Comparisons of values. A cache is asked by `in` and `is`."""
KEY: Final = re.compile(r"\[[^]]*\]")


@lru_cache(256)
def read_back(state: tuple[str, ...], sources: tuple[str, ...]) -> Sequence[str]:
    """Return the places of a step's state whose changed values its functions use. `sources` are their texts."""
    used = {name for text in sources for name in _used_in(text)}
    return [place for place in state if KEY.sub("", place).rpartition(".")[2] in used]


def _used_in(text: str) -> Iterator[str]:
    """Yield the last names of the places that a function changes and whose changed values it uses."""
    try:
        nodes = [*nodes_in(parsed(textwrap.dedent(text)))]
    except SyntaxError:
        return  # the lines of a lambda may be a part of a statement
    shared = {name for node in nodes if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names}
    local = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)} - shared
    local |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    counted = {_text(node.target) for node in nodes if isinstance(node, ast.AugAssign)}
    changed = counted | {_text(each) for node in nodes if isinstance(node, ast.Assign) for each in node.targets}
    dropped = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    used: list[ast.AST] = []
    for node in nodes:
        match node:
            case ast.Return(value=ast.expr() as value) | ast.Yield(value=ast.expr() as value):
                used += [each for each in nodes_in(value) if _text(each) in counted - {""}]
            case ast.Compare(left=left, ops=[operator], comparators=[right]) if isinstance(operator, COMPARES):
                used += [each for each in (left, right) if _text(each) in changed - {""}]
            case ast.Call(func=ast.Attribute(value=owner, attr=method)) if method in TAKES and id(node) not in dropped:
                used.append(owner)
    for place in map(_without_keys, used):
        if isinstance(place, ast.Attribute):
            yield place.attr
        elif isinstance(place, ast.Name) and place.id not in local:
            yield place.id


def _without_keys(node: ast.AST) -> ast.AST:
    return _without_keys(node.value) if isinstance(node, ast.Subscript) else node


def _text(node: ast.AST) -> str:
    """Return the text of a place, "" for any other node."""
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute | ast.Subscript) else ""
