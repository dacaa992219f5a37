"""Find what a file of the user's defines, and say how each definition reads: functions, classes and other names.

All of it is read from the file's text. Nothing is imported or called. Comments, layout and docstrings do not count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Final

from musubito.code.syntax.ast_digest import FUNCTIONS, normalised, tokens
from musubito.code.syntax.single_function import FAILURES
from musubito.code.syntax.statements import Made, statements_by_name
from musubito.parsing import nodes_in, parsed

MODULE: Final = "<module>"
"""The name of the statements of a module, without its functions and classes. Python gives it to their code."""
_DEFINITIONS: Final = (*FUNCTIONS, ast.ClassDef)
_NOTHING: Final = ast.arguments([], [], None, [], [], None, [])


class Definitions:
    """The definitions in a file, by qualified name.

    A name may be bound by several statements: all of them count, in order. The statements inside of a class count for
    the class, but for its methods and inner classes, which have names of their own. An import counts for what names it.
    """

    def __init__(self, tree: ast.Module) -> None:
        self._body = tree.body
        self._digests: dict[str, bytes | None] = {}
        """The digests that were asked for."""

    def digest(self, name: str) -> bytes | None:
        """Return the digest of a definition; None if there is none of this name."""
        if name not in self._digests:
            self._digests[name] = self._digest(name)
        return self._digests[name]

    def _digest(self, name: str) -> bytes | None:
        nodes = self._nodes(name)
        if not nodes and name != MODULE:
            return None
        around = ast.FunctionDef("", _NOTHING, [ast.Pass(), *nodes], [], lineno=0, col_offset=0)
        names = {each for each, _ in _names_in(nodes)} if name != MODULE else ()
        told = tokens(*(text for alias in sorted(names) for pair in self._imports(alias) for text in (alias, *pair)))
        return sha256(normalised(around) + told).digest()

    def is_function(self, name: str) -> bool:
        """Tell whether a name is that of a function alone."""
        return name != MODULE and all(isinstance(made.node, FUNCTIONS) for made in self._made(name))

    def name_at(self, line: int) -> str | None:
        """Return the name that the statement at this line binds, such as that of a table of lambdas."""
        for (name, *attributes), made in statements_by_name(self._body).items():
            places = [] if attributes else [statement.written() for statement in made]
            if any(node.lineno <= line <= (node.end_lineno or node.lineno) for node in places):
                return name
        return None

    def named_by(self, name: str) -> Iterator[tuple[str | None, str]]:
        """Yield what a definition names: the module, None for this one, and the name there."""
        for each, attribute in () if name == MODULE else _names_in(self._nodes(name)):
            if each != name and self._nodes(each):
                yield None, each
            for home, there in self._imports(each):
                if there:
                    yield home, there
                if attribute:
                    yield f"{home}.{there}".rstrip("."), attribute

    def _made(self, name: str) -> list[Made]:
        """Return the statements that bind a qualified name or change something by it."""
        *classes, last = name.split(".")
        bodies = [self._body]
        for cls in classes:
            found = [made.node for body in bodies for made in statements_by_name(body).get((cls,), ())]
            bodies = [node.body for node in found if isinstance(node, ast.ClassDef)]
        return [made for body in bodies for made in statements_by_name(body).get((last,), ())]

    def _nodes(self, name: str) -> list[ast.stmt]:
        """Return the statements of a definition, with what decides whether they run."""
        if name == MODULE:
            return [node for node in self._body if not isinstance(node, _DEFINITIONS)]
        made = [statement for statement in self._made(name) if not statement.is_import()]
        nodes = [node for statement in made for node in (*statement.around, statement.written())]
        return [
            _without_methods(node) if isinstance(node, ast.ClassDef) else node  # type: ignore[misc]
            for node in nodes
        ]

    def _imports(self, name: str) -> Iterator[tuple[str, str]]:
        """Yield the modules with the names there that a name is imported from; the latter is empty for a module."""
        for made in self._made(name):
            match made.node:
                case ast.ImportFrom(names=[alias], module=module, level=level):
                    yield "." * level + (module or ""), alias.name
                case ast.Import(names=[alias]):
                    yield (alias.name if alias.asname else name), ""


def _names_in(nodes: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Yield the names in statements, each with the attribute that is taken of it, or with an empty text."""
    for each in (inner for node in nodes for inner in nodes_in(node)):
        if isinstance(each, ast.Name):
            yield each.id, ""
        elif isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name):
            yield each.value.id, each.attr


def definitions_of(text: str) -> Definitions | None:
    """Return the definitions in the text of a file; None if it cannot be parsed."""
    try:
        return Definitions(parsed(text))
    except FAILURES:
        return None


def _without_methods(node: ast.ClassDef) -> ast.ClassDef:
    """Return a class statement with the names of its methods and inner classes in place of these."""
    body = [
        ast.Expr(ast.Constant(statement.name)) if isinstance(statement, _DEFINITIONS) else statement
        for statement in node.body
    ]
    return ast.ClassDef(node.name, node.bases, node.keywords, [ast.Pass(), *body], node.decorator_list)
