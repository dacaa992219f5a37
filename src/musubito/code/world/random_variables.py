"""Tell which variables of packages' functions hold an id that the package itself made at random.

    def patch(client):
        scope = uuid4().hex

        def create(**arguments):
            ...  # uses `scope`

Such a value differs in each process, whatever the user sets. If it counted, no other process would ever replay. The
package's own text decides: every statement that sets the variable must make the value in this way. Nobody else can set
it. A field of an object is another matter, since anybody may set it to a value of theirs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from types import FunctionType
from typing import Final

from musubito.code.syntax.function_text import text_of
from musubito.code.syntax.occurrences import Occurrences, Resolved
from musubito.code.syntax.source import codes
from musubito.code.world.unrepeatable import ALWAYS, source_of

WORDS: Final = frozenset(name.rpartition(".")[2] for name in (*ALWAYS["ids"], *ALWAYS["random"]))
"""Names of functions that make another value each time, whatever was seeded."""
HARMLESS: Final = frozenset({"str", "bytes"})
"""Builtins that make a random value of a random value."""


def is_made_at_random(function: FunctionType, variable: str, value: object) -> bool:
    """Tell whether the code around a package's function sets this variable to nothing but ids made at random."""
    if not isinstance(value, str | bytes):
        return False
    around = function.__globals__.get(function.__code__.co_qualname.partition(".")[0])
    if type(around) is not FunctionType or not any(
        WORDS.intersection(code.co_names) for code in codes(around.__code__)
    ):
        return False
    source = text_of(around).source
    if source is None:
        return False
    at_random = {id(each.node) for each in Occurrences(source.node, around).all if _is_random(each.resolved)}
    values = [*_values_of(source.node, variable)]
    return bool(values) and all(made is not None and _is_made(made, at_random) for made in values)


def _is_random(resolved: Resolved) -> bool:
    source = source_of(resolved)
    return source is not None and source.kind in ("ids", "random") and source.generator == 0 and source.fewer is None


def _values_of(node: ast.AST, name: str) -> Iterator[ast.expr | None]:
    """Yield the values that statements set a variable to; None for a value that is not known."""
    values: dict[int, ast.expr | None] = {}
    for each in ast.walk(node):
        if isinstance(each, ast.Assign):
            values.update((id(target), each.value) for target in each.targets)
        elif isinstance(each, (ast.AnnAssign, ast.NamedExpr)):
            values[id(each.target)] = each.value
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and each.id == name and not isinstance(each.ctx, ast.Load):
            yield values.get(id(each))
        elif (isinstance(each, ast.arg) and each.arg == name) or (
            isinstance(each, ast.Global | ast.Nonlocal) and name in each.names
        ):
            yield None


def _is_made(value: ast.expr, at_random: set[int]) -> bool:
    """Tell whether an expression names a random source, and nothing else that could lead to a setting."""
    is_drawn = False
    ahead: list[ast.AST] = [value]
    for each in ahead:
        if id(each) in at_random:
            is_drawn = True  # the names in it lead to the source
        elif isinstance(each, ast.Name) and each.id not in HARMLESS:
            return False
        else:
            ahead += ast.iter_child_nodes(each)
    return is_drawn
