"""Parse a function apart from the file in which it stands."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from inspect import CO_OPTIMIZED
from itertools import islice
from types import CodeType
from typing import Final, TypeAlias

from musubito.parsing import parsed

FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
LAMBDA: Final = "<lambda>"
"""The name that Python gives the code of a lambda."""
FAILURES: Final = (SyntaxError, ValueError, RecursionError, MemoryError)
"""What the parser raises for a text that it cannot parse."""
MAX_TRIES: Final = 4
"""Ends of a function that are tried: a text or brackets in it may have lines that are not indented."""
_BEGINS: Final = re.compile(r"[ \t]*(?:async\s+def|def|@)(?!\w)")
"""Matches the first line of a function that stands alone in its lines."""


def is_of_function(code: CodeType) -> bool:
    """Tell whether a code is that of a function or a lambda, and not of a class, a module or a comprehension."""
    name = code.co_name
    is_named = not name.startswith("<") and name != "__annotate__"
    return bool(code.co_flags & CO_OPTIMIZED) and (is_named or name == LAMBDA)


def begins_line(lines: Sequence[str], code: CodeType) -> bool:
    """Tell whether a function begins the first of its lines, as all do but lambdas."""
    return code.co_name != LAMBDA and _BEGINS.match(lines[code.co_firstlineno - 1]) is not None


def function_at(lines: Sequence[str], code: CodeType) -> tuple[FunctionNode, str] | None:
    """Return the tree of a function and its lines; None if it cannot be parsed apart from its file."""
    if not begins_line(lines, code):
        return None
    first = code.co_firstlineno - 1
    indent = len(lines[first]) - len(lines[first].lstrip(" \t"))
    for end in islice(_ends(lines, first, indent), MAX_TRIES):
        try:
            body = parsed("if 1:\n" * (indent > 0) + "".join(lines[first:end])).body
        except FAILURES:
            continue
        node = body[0].body[0] if indent else body[0]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == code.co_name:
            return node, "".join(lines[first : first + (node.end_lineno or 0) - (indent > 0)])
    return None


def _ends(lines: Sequence[str], first: int, indent: int) -> Iterator[int]:
    """Yield the places where a function may end: before lines that are not indented further than it is."""
    is_begun = False
    for number in range(first, len(lines)):
        start = lines[number][: indent + 1].lstrip(" \t")
        if not is_begun:
            is_begun = lines[number].lstrip(" \t").startswith(("def", "async"))
        elif start and start[0] not in "#)]}\f\r\n\\":
            yield number
    yield len(lines)
