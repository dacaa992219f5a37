"""Find the `class` statement of a class, and read its parts."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from musubito.code.syntax.annotation_text import written_in
from musubito.code.syntax.ast_digest import FUNCTIONS, normalised_class
from musubito.code.syntax.expressions import attribute_chain
from musubito.code.syntax.function_text import script_of
from musubito.code.syntax.source import File, cells, file_of, first_line, sent_texts, source_of
from musubito.values.class_names import functions_in, module_of_class, qualified_name, was_sent

PLAIN_DECORATORS: Final = frozenset(
    [
        *("property", "setter", "getter", "deleter", "cached_property", "classmethod", "staticmethod"),
        *("abstractmethod", "override", "overload", "final", "wraps", "cache", "lru_cache"),
    ]
)
"""Decorators that register a method nowhere."""


class ClassText(NamedTuple):
    """The `class` statement of a class."""

    file: File
    node: ast.ClassDef
    methods: frozenset[str]
    """The names of its functions, each of which counts by itself."""
    registered: frozenset[str]
    """The names of its functions that a decorator was given, which may call them or register them: a validator."""

    def normal(self) -> bytes:
        """Return the statement without its methods and its docstring, without how it is written."""
        return normalised_class(self.node, self.methods)

    def text(self) -> str:
        """Return the lines of the statement that are no method's."""
        methods = [statement for statement in self.node.body if isinstance(statement, FUNCTIONS)]
        left_out = {
            line for method in methods for line in range(first_line(method), (method.end_lineno or method.lineno) + 1)
        }
        first, last = first_line(self.node), self.node.end_lineno or self.node.lineno
        return "".join(self.file.lines[number - 1] for number in range(first, last + 1) if number not in left_out)


_texts: Final[WeakKeyDictionary[type, ClassText | None]] = WeakKeyDictionary()


def class_text(cls: type) -> ClassText | None:
    """Return the statement of a class, or None for a class that was made in another way."""
    if cls not in _texts:
        found = _find(cls)
        methods = [] if found is None else [node for node in found[1].body if isinstance(node, FUNCTIONS)]
        registered = frozenset(node.name for node in methods if not all(map(_is_plain, node.decorator_list)))
        names = frozenset(node.name for node in methods)
        _texts[cls] = None if found is None else ClassText(*found, names, registered)
    return _texts[cls]


def _is_plain(decorator: ast.expr) -> bool:
    root, attributes = attribute_chain(decorator.func if isinstance(decorator, ast.Call) else decorator)
    return (attributes[-1] if attributes else getattr(root, "id", None)) in PLAIN_DECORATORS


def _find(cls: type) -> tuple[File, ast.ClassDef] | None:
    name = cls.__name__
    for function in functions_in(cls):
        if function.__code__.co_qualname.rpartition(".")[0].rpartition(".")[2] == name:
            source = source_of(function.__code__, script_of(function))
            outer = None if source is None else source.file.parents.get(source.node)
            if source is not None and isinstance(outer, ast.ClassDef) and outer.name == name:
                return source.file, outer
    codes = [function.__code__ for function in functions_in(cls)]
    place = qualified_name(cls)[1]
    own = {code.co_name for code in codes if code.co_qualname.startswith(place)}
    methods = {method for method in own if not method.startswith(("_", "<"))}
    file = None if was_sent(cls) else getattr(module_of_class(cls), "__file__", None)
    found = file_of(file) if isinstance(file, str) else None
    for text in [found] if found is not None else [*reversed([*cells()]), *sent_texts()]:
        nodes = _classes_at(text.tree, [part for part in place.split(".") if part != "<locals>"])
        # Another class of this name may stand in another cell: it has no such methods.
        if nodes and methods <= {getattr(inner, "name", "") for inner in _defined_in(nodes[-1])}:
            return text, nodes[-1]
    return None


def _classes_at(node: ast.AST, path: list[str]) -> list[ast.ClassDef]:
    """Return the class statements at a path of names below a node."""
    nodes: list[ast.AST] = [node]
    for name in path:
        nodes = [inner for outer in nodes for inner in _defined_in(outer) if inner.name == name]  # type: ignore[attr-defined]
    return [found for found in nodes if isinstance(found, ast.ClassDef)]


def _defined_in(node: ast.AST) -> Iterator[ast.AST]:
    pending = [*ast.iter_child_nodes(node)]
    while pending:
        each = pending.pop(0)
        if isinstance(each, (*FUNCTIONS, ast.ClassDef)):
            yield each
        elif isinstance(each, ast.stmt | ast.ExceptHandler | ast.match_case):
            pending += ast.iter_child_nodes(each)


def class_level(text: ClassText) -> Iterator[ast.AST]:
    """Yield the parts of a class statement that ran when the class was made."""
    node = text.node
    yield from (*node.bases, *node.keywords, *node.decorator_list)
    for statement in node.body:
        if isinstance(statement, FUNCTIONS):
            yield from statement.decorator_list
            continue
        yield statement
        if isinstance(statement, ast.AnnAssign):
            yield from written_in(statement.annotation)
