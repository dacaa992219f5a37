"""Find what a file of the user's defines, and say how each definition reads: functions, classes and other names.

All of it is read from the file's text. Nothing is imported or called. Comments, layout and docstrings do not count.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from musubito.code.syntax.ast_digest import normalised, tokens
from musubito.code.syntax.single_function import FAILURES
from musubito.parsing import nodes_in, parsed

MODULE: Final = "<module>"
"""The name of the statements of a module, without its functions and classes. Python gives it to their code."""
IMPORTS: Final = "import"
"""Stands for the name of all imports."""
_DEFINITIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_NOTHING: Final = ast.arguments([], [], None, [], [], None, [])


class Definitions(NamedTuple):
    """The definitions in a file, by qualified name, and what its imports bind.

    A name may be bound by several statements: all of them count, in order. The statements inside of a class count for
    the class, but for its methods and inner classes, which have names of their own. An import counts for what names it.
    """

    nodes: dict[str, list[ast.stmt]]
    imports: dict[str, list[tuple[str, str]]]
    """By bound name, the modules with the names there; the latter is empty if the module itself is bound."""
    digests: dict[str, bytes]
    """The digests that were asked for."""

    def digest(self, name: str) -> bytes | None:
        """Return the digest of a definition; None if there is none of this name."""
        if name in self.digests or name not in self.nodes:
            return self.digests.get(name)
        nodes = self._own(name)
        around = ast.FunctionDef("", _NOTHING, [ast.Pass(), *nodes], [], lineno=0, col_offset=0)
        imported = sorted({each for each, _ in _names_in(nodes)} & self.imports.keys()) if name != MODULE else []
        told = tokens(*(text for each in imported for pair in self.imports[each] for text in (each, *pair)))
        self.digests[name] = digest = sha256(normalised(around) + told).digest()
        return digest

    def is_function(self, name: str) -> bool:
        """Tell whether a name is that of a function alone."""
        return name in self.nodes and all(isinstance(node, _DEFINITIONS[:2]) for node in self.nodes[name])

    def name_at(self, line: int) -> str | None:
        """Return the name that the statement at this line binds, such as that of a table of lambdas."""
        for name, nodes in self.nodes.items():
            if name != MODULE and any(node.lineno <= line <= (node.end_lineno or node.lineno) for node in nodes):
                return name
        return None

    def named_by(self, name: str) -> Iterator[tuple[str | None, str]]:
        """Yield what a definition names: the module, None for this one, and the name there."""
        for each, attribute in () if name == MODULE else _names_in(self._own(name)):
            if each in self.nodes and each != name:
                yield None, each
            for home, there in self.imports.get(each, ()):
                if there:
                    yield home, there
                if attribute:
                    yield f"{home}.{there}".rstrip("."), attribute

    def _own(self, name: str) -> list[ast.stmt]:
        return [_without_methods(node) if isinstance(node, ast.ClassDef) else node for node in self.nodes.get(name, ())]


def _names_in(nodes: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Yield the names in statements, each with the attribute that is taken of it, or with an empty text."""
    for each in (each for node in nodes for each in nodes_in(node)):
        if isinstance(each, ast.Name):
            yield each.id, ""
        elif isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name):
            yield each.value.id, each.attr


def definitions_of(text: str) -> Definitions | None:
    """Return the definitions in the text of a file; None if it cannot be parsed."""
    try:
        tree = parsed(text)
    except FAILURES:
        return None
    nodes: defaultdict[str, list[ast.stmt]] = defaultdict(list)
    nodes[MODULE] = [node for node in tree.body if not isinstance(node, _DEFINITIONS)]
    imports: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, node in _bound(tree.body, ""):
        nodes[name].append(node)
    for node in nodes.pop(IMPORTS, []):
        for alias in getattr(node, "names", ()):
            if isinstance(node, ast.ImportFrom):
                imports[alias.asname or alias.name].append(("." * node.level + (node.module or ""), alias.name))
            else:
                bound = alias.asname or alias.name.partition(".")[0]
                imports[bound].append((alias.name if alias.asname else bound, ""))
    return Definitions(dict(nodes), dict(imports), {})


def _bound(statements: Sequence[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.stmt]]:
    """Yield the names that statements bind or change, each with the statement."""
    for node in statements:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield prefix + node.name, node
            yield from (
                (name, each)
                for name, each in _bound(node.body, f"{prefix}{node.name}.")
                if isinstance(each, _DEFINITIONS)
            )
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield IMPORTS, node
        elif any(isinstance(each, (*_DEFINITIONS, ast.Import, ast.ImportFrom)) for each in nodes_in(node)):
            parts = (node, *getattr(node, "handlers", ()), *getattr(node, "cases", ()))
            blocks = [getattr(part, block, []) for part in parts for block in ("body", "orelse", "finalbody")]
            yield from _bound([each for block in blocks for each in block], prefix)
        else:
            yield from ((name, node) for name in dict.fromkeys(_changed_by(node)))


def _changed_by(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a plain statement binds, or whose objects it changes, as by `a.add(...)`."""
    targets: list[ast.AST] = [each for each in nodes_in(node) if isinstance(getattr(each, "ctx", None), ast.Store)]
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        targets += [node.value.func, *node.value.args]
    for each in targets:
        target = each
        while isinstance(target, (ast.Attribute, ast.Subscript, ast.Starred)):
            target = target.value
        if isinstance(target, ast.Name):
            yield target.id


def _without_methods(node: ast.ClassDef) -> ast.ClassDef:
    """Return a class statement with the names of its methods and inner classes in place of these."""
    body = [ast.Expr(ast.Constant(each.name)) if isinstance(each, _DEFINITIONS) else each for each in node.body]
    return ast.ClassDef(node.name, node.bases, node.keywords, [ast.Pass(), *body], node.decorator_list)
