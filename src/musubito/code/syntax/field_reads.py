"""Find which of some fields a program reads, and by which literal keys."""

from __future__ import annotations

import ast
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Final

from musubito.code.syntax.single_function import FAILURES
from musubito.parsing import nodes_in, parsed

LINES: Final = re.compile(r"\r\n|\r|\n")
"""Pattern of the ends of lines that Python counts."""
EVERY: Final = "*"
"""Stands for all keys of a field: all of the field counts."""


def fields_read(text: str, fields: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield those of the fields that a program reads, each with the literal key that is read of it, or `EVERY`."""
    if not _mentions(text, fields):
        return
    try:
        tree = parsed(text)
    except FAILURES:  # no whole program, but a lambda or a prompt
        yield from ((field, EVERY) for field in fields if field in text)
    else:
        lines = [number for number, line in enumerate(LINES.split(text), 1) if _mentions(line, fields)]
        yield from _named_in(tree, lines, fields)


def _mentions(text: str, fields: Collection[str]) -> bool:
    return any(field in text for field in fields)


def _named_in(tree: ast.AST, lines: Sequence[int], fields: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the fields that a program reads, each with a key of it or `EVERY`; `lines` are those that name a field."""
    literal: dict[ast.AST, str] = {}
    named = re.compile(rf"\S*({'|'.join(fields)})\S*")
    constants = cache(partial(_constants, tree))
    for node in nodes_in(tree, partial(_spans, lines)):
        match node:
            case ast.Subscript(ast.Attribute(attr=name) as field, key) if name in fields:
                if (text := _literal(key, constants)) is not None:
                    literal[field] = text
            case ast.Call(ast.Attribute(ast.Attribute(attr=name) as field, "get" | "pop"), [key, *_]) if (
                name in fields and (text := _literal(key, constants)) is not None
            ):
                literal[field] = text
            case ast.Expr(ast.Constant() as text):
                literal[text] = ""  # a docstring
        for name in _names_of(node, fields):
            if not _mentions(name, fields):
                continue
            match = named.fullmatch(name) if literal.get(node) != "" else None
            if match is not None:
                yield match[1], literal.get(node, EVERY) if name == match[1] else EVERY


def _spans(lines: Sequence[int], node: ast.AST) -> bool:
    """Tell whether a statement has one of these lines; any other node may have one.

    Until Python 3.12, expressions in the texts of f-strings have wrong line numbers.
    """
    if not isinstance(node, ast.stmt) or node.end_lineno is None:
        return True
    # The decorators of a function or class stand above its first line.
    first = min((node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))))
    place = bisect_left(lines, first)
    return place < len(lines) and lines[place] <= node.end_lineno


def _constants(tree: ast.AST) -> dict[str, str]:
    """Return the texts of a module's constants, for names that the module binds once."""
    bound = Counter(name for node in nodes_in(tree) for name in _bound_by(node))
    assigned = (statement for statement in getattr(tree, "body", ()) if isinstance(statement, ast.Assign))
    return {
        name: text
        for statement in assigned
        if isinstance(statement.value, ast.Constant) and isinstance(text := statement.value.value, str)
        for target in statement.targets
        if isinstance(target, ast.Name) and bound[name := target.id] == 1
    }


def _bound_by(node: ast.AST) -> Iterable[str]:
    if isinstance(node, ast.Constant | ast.Attribute | ast.keyword) or isinstance(getattr(node, "ctx", None), ast.Load):
        return ()
    return (value for _, value in ast.iter_fields(node) if isinstance(value, str))


def _literal(key: ast.expr, constants: Callable[[], Mapping[str, str]]) -> str | None:
    match key:
        case ast.Constant(str(text)):
            return text
        case ast.Name(name):
            return constants().get(name)
    return None


def _names_of(node: ast.AST, fields: Collection[str]) -> Iterable[str]:
    match node:
        case ast.Attribute(attr=name) | ast.Constant(value=str(name)) | ast.alias(name=name) | ast.arg(arg=name):
            return (name,)
        case ast.Name(id=name):
            return (name,)
        case ast.keyword(arg=str(name)) if name not in fields:  # otherwise the field is written, and not read
            return (name,)
        case ast.MatchClass(kwd_attrs=names):
            return names
    return ()
