"""Say which parts of the reports in messages count: ids, times, headers and tokens that a server adds to its answer.

These differ each time that a model is asked, so they count for a step only if code names them. That code is the user's
own code that the step reaches, and the modules of other packages that mention LangChain. If a literal key follows a
field, that key alone counts; any other mention of a field makes all of it count. Modules that define models are not
read: they write these fields, and their clients do not send them.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from langchain_core.language_models import BaseLanguageModel

from musubito.adapter import Fingerprint
from musubito.code.classes import fields_declared
from musubito.parsing import nodes_in, parsed

REPORTS: Final[Mapping[str, Any]] = {"response_metadata": {}, "usage_metadata": None}
"""The fields of reports, each with the value that it has if nothing was reported."""
NAMED: Final = re.compile(r"\S*(response_metadata|usage_metadata)\S*")
"""Pattern of a text that holds the name of a field."""
LINES: Final = re.compile(r"\r\n|\r|\n")
"""Pattern of the ends of lines that Python counts."""
FRAMEWORKS: Final = re.compile(r"(langchain|langgraph|langsmith|musubito)(_\w+)?")
"""Pattern of the packages whose modules are not read."""
SHOWING: Final = ("langchain_core", "langsmith")
"""Packages whose modules are not read even where code reaches them: they write reports, or show them in traces."""
READ_BY_LANGCHAIN: Final = frozenset({"model_provider", "output_version"})
"""Keys by which LangChain decides how the blocks of a content are read."""
EVERY: Final = "*"
"""Stands for all keys of a field: all of the field counts."""
MOST_KEPT: Final = 256
"""Number of results that are kept."""
_KEPT: Final[dict[tuple[bytes, int], Reports]] = {}
"""The parts that code reads, by the digest of the code and the number of loaded modules."""


_SAME: Final[dict[tuple[tuple[str, frozenset[str]], ...], Reports]] = {}
"""One of all equal `Reports`, by the keys that count."""


class Reports:
    """The keys that count in each field; `EVERY` stands for all keys."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Mapping[str, frozenset[str]]) -> None:
        self._keys = keys

    def counted(self, field: str, value: Any) -> Any:
        """Return the part of a field that counts: the very value if that is all of it."""
        keys = self._keys[field]
        if EVERY in keys or type(value) is not dict:
            return value
        chosen = {key: part for key, part in value.items() if key in keys}
        return value if len(chosen) == len(value) else chosen or REPORTS[field]


ALL: Final = Reports(dict.fromkeys(REPORTS, frozenset((EVERY,))))


def reports_read(code: Fingerprint) -> Reports:
    """Return the parts of servers' reports that the code of a step reads."""
    key = code.digest, len(sys.modules)  # each further module that is loaded may read more
    reports = _KEPT.get(key)
    if reports is None:
        if len(_KEPT) >= MOST_KEPT:
            _KEPT.clear()
        keys = _read_by(code)
        # What is kept of a message is kept by these reports, for all code that reads the same.
        reports = _KEPT[key] = _SAME.setdefault(tuple(sorted(keys.items())), Reports(keys))
    return reports


def _read_by(code: Fingerprint) -> dict[str, frozenset[str]]:
    read = {field: set(READ_BY_LANGCHAIN) for field in REPORTS}
    for field, key in (*_by_users_code(code), *_by_packages(code)):
        read[field].add(key)
    return {field: frozenset(keys) for field, keys in read.items()}


def _by_users_code(code: Fingerprint) -> Iterator[tuple[str, str]]:
    for part in code.parts:
        if part.source is None:
            if part.is_function:
                yield from ((field, EVERY) for field in REPORTS)
        elif _mentions(part.source):
            yield from _named_in_text(textwrap.dedent(part.source))
    for classes in code.reached.values():
        for cls in classes:
            # Such an object may be built from all fields of a message.
            yield from ((field, EVERY) for field in REPORTS if field in fields_declared(cls))


def _by_packages(code: Fingerprint) -> Iterator[tuple[str, str]]:
    packages = {name for name in code.others if not FRAMEWORKS.fullmatch(name)}
    modules = [name for name in list(sys.modules) if name.partition(".")[0] in packages] if packages else []
    modules += [name for name in code.modules if name.partition(".")[0] not in (*packages, *SHOWING)]
    for name in modules:
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if module is None or not isinstance(file, str) or not file.endswith(".py"):
            continue
        if _speaks(file) and not _makes_models(module):
            yield from _named_in_file(file)


def _makes_models(module: ModuleType) -> bool:
    return any(
        isinstance(member, type) and member.__module__ == module.__name__ and issubclass(member, BaseLanguageModel)
        for member in list(vars(module).values())
    )


def _bytes_of(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError:  # for example in an archive: its reads cannot be found
        return b""


@cache
def _speaks(file: str) -> bool:
    """Tell whether a module mentions a field of reports, and LangChain."""
    text = _bytes_of(file)
    return any(field.encode() in text for field in REPORTS) and (b"langchain" in text or b"langgraph" in text)


@cache
def _named_in_file(file: str) -> tuple[tuple[str, str], ...]:
    return tuple(set(_named_in_text(_bytes_of(file).decode("utf-8", "replace"))))


def _mentions(text: str) -> bool:
    return any(field in text for field in REPORTS)


def _named_in_text(text: str) -> Iterator[tuple[str, str]]:
    try:
        tree = parsed(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # no whole program, but a lambda or a prompt
        yield from ((field, EVERY) for field in REPORTS if field in text)
    else:
        lines = [number for number, line in enumerate(LINES.split(text), 1) if _mentions(line)]
        yield from _named_in(tree, lines)


def _named_in(tree: ast.AST, lines: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Yield the fields that a program reads, each with a key of it or `EVERY`; `lines` are those that name a field."""
    literal: dict[int, str] = {}
    constants = cache(partial(_constants, tree))
    for node in nodes_in(tree, partial(_spans, lines)):
        match node:
            case ast.Subscript(ast.Attribute(attr=name) as field, key) if name in REPORTS:
                if (text := _literal(key, constants)) is not None:
                    literal[id(field)] = text
            case ast.Call(ast.Attribute(ast.Attribute(attr=name) as field, "get" | "pop"), [key, *_]) if (
                name in REPORTS and (text := _literal(key, constants)) is not None
            ):
                literal[id(field)] = text
            case ast.Expr(ast.Constant() as text):
                literal[id(text)] = ""  # a docstring
        for name in _names_of(node):
            if not _mentions(name):
                continue
            match = NAMED.fullmatch(name) if literal.get(id(node)) != "" else None
            if match is not None:
                yield match[1], literal.get(id(node), EVERY) if name == match[1] else EVERY


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


def _names_of(node: ast.AST) -> Iterable[str]:
    match node:
        case ast.Attribute(attr=name) | ast.Constant(value=str(name)) | ast.alias(name=name) | ast.arg(arg=name):
            return (name,)
        case ast.Name(id=name):
            return (name,)
        case ast.keyword(arg=str(name)) if name not in REPORTS:  # otherwise the field is written, and not read
            return (name,)
        case ast.MatchClass(kwd_attrs=names):
            return names
    return ()
