"""Tell which fields of packages' objects hold a value that the package itself made at random, or took from the clock.

    class Predict:
        def __init__(self):
            self.stage = random.randbytes(8).hex()

Such a value differs in each process, whatever the user sets. If it counted, no other process would ever replay. The
package's own text decides: every statement that sets the field must make the value in this way.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from datetime import datetime
from random import Random
from types import FunctionType
from typing import Final
from uuid import UUID
from weakref import WeakKeyDictionary

from musubito.code.syntax.function_text import text_of
from musubito.code.syntax.occurrences import Occurrences, Resolved
from musubito.code.syntax.source import codes
from musubito.code.world.unrepeatable import TABLE, source_of

MAY_BE: Final = re.compile(r"[0-9A-Za-z_=+/.:-]{8,}")
"""Matches what texts made at random look like."""
OLDEST: Final = 1_000_000_000
"""The smallest number that may be a time: seconds since the epoch, or parts of one."""
KINDS: Final = frozenset({"clock", "random", "ids"})
WORDS: Final = frozenset(
    {name.rpartition(".")[2] for name in TABLE} | {name for name in dir(Random) if not name.startswith("_")}
)
"""Names of functions that answer otherwise each time."""
HARMLESS: Final = frozenset({"str", "int", "float", "hex", "abs", "round", "format", "bytes"})
"""Builtins that make a random value of a random value."""

_known: Final[WeakKeyDictionary[type, dict[str, bool]]] = WeakKeyDictionary()
"""By class and field, whether the class sets the field to nothing but values made at random."""


def is_made_at_random(cls: type, field: str, value: object) -> bool:
    """Tell whether the methods of a package's class set this field to nothing but values made at random."""
    return _may_be(value) and _sets_at_random(cls, field)


def is_variable_made_at_random(function: FunctionType, variable: str, value: object) -> bool:
    """Tell whether the code around a package's function sets this variable to nothing but values made at random."""
    if not _may_be(value):
        return False
    around = function.__globals__.get(function.__code__.co_qualname.partition(".")[0])
    return type(around) is FunctionType and _all_at_random([around], variable, of_fields=False)


def _may_be(value: object) -> bool:
    """Tell whether a value may have been made at random: most values need no look at any text."""
    if type(value) is str:
        return MAY_BE.fullmatch(value) is not None and any(map(str.isdigit, value))
    if type(value) is int or type(value) is float:
        return value > OLDEST
    return type(value) in (bytes, UUID, datetime)


def _sets_at_random(cls: type, field: str) -> bool:
    known = _known.setdefault(cls, {})
    if field not in known:
        known[field] = _all_methods_set_at_random(cls, field)
    return known[field]


def _all_methods_set_at_random(cls: type, field: str) -> bool:
    members = (member for base in cls.__mro__ for member in vars(base).values())
    functions = (getattr(member, "__func__", member) for member in members)
    naming = [each for each in functions if type(each) is FunctionType and field in each.__code__.co_names]
    return _all_at_random(naming, field, of_fields=True)


def _all_at_random(functions: Collection[FunctionType], name: str, *, of_fields: bool) -> bool:
    if not any(WORDS.intersection(code.co_names) for function in functions for code in codes(function.__code__)):
        return False
    found = False
    for function in functions:
        source = text_of(function).source
        if source is None:
            return False
        values = [*(_fields_set if of_fields else _variables_set)(source.node, name)]
        if values:
            found = True
            at_random = {id(each.node) for each in Occurrences(source.node, function).all if _is_random(each.resolved)}
            if not all(value is not None and _is_made(value, at_random) for value in values):
                return False
    return found


def _is_random(resolved: Resolved) -> bool:
    source = source_of(resolved)
    return source is not None and source.kind in KINDS


def _fields_set(node: ast.AST, name: str) -> Iterator[ast.expr | None]:
    """Yield the values that statements set a field to; None for a value that is not known."""
    values = _values(node)
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and each.attr == name and not isinstance(each.ctx, ast.Load):
            yield values.get(id(each))


def _variables_set(node: ast.AST, name: str) -> Iterator[ast.expr | None]:
    """Yield the values that statements set a variable to; None for a value that is not known."""
    values = _values(node)
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and each.id == name and not isinstance(each.ctx, ast.Load):
            yield values.get(id(each))
        elif isinstance(each, ast.arg) and each.arg == name:
            yield None


def _values(node: ast.AST) -> dict[int, ast.expr | None]:
    """Return the values of assignments to one target, by the id of the target."""
    values: dict[int, ast.expr | None] = {}
    for each in ast.walk(node):
        if isinstance(each, ast.Assign):
            values.update((id(target), each.value) for target in each.targets)
        elif isinstance(each, (ast.AnnAssign, ast.NamedExpr)):
            values[id(each.target)] = each.value
    return values


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
