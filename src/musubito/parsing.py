"""Parse source texts, also in threads that parse at once, and walk through syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any, Final

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


def children_of(node: ast.AST) -> list[ast.AST]:
    """Return the nodes directly in a node, as `ast.iter_child_nodes` does, in a fourth of the time."""
    children: list[ast.AST] = []
    for value in vars(node).values():
        if type(value) is list:
            children += [each for each in value if isinstance(each, ast.AST)]
        elif isinstance(value, ast.AST):
            children.append(value)
    return children


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
