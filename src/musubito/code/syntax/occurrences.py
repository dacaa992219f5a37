"""Find where the text of one function uses outside names, and what each such expression leads to now.

`musubito.code.syntax.names` tells that a name is read. This module tells where, for the few functions of which
more must be known. It serves to follow the value there, and to find the key by which a mapping is looked into.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any, Final, NamedTuple

from musubito.code.live import ABSENT, contents
from musubito.code.syntax.expressions import attribute_chain
from musubito.code.syntax.name_usage import NameRead, Root
from musubito.code.syntax.names import NameVisitor
from musubito.code.syntax.source import Source

OF_PYTHON: Final = frozenset({"datetime", "logging", "os", "random", "secrets", "time", "uuid"})
"""Modules that are imported to look into them: their import does nothing else."""


class Resolved(NamedTuple):
    """The end of a chain of names: `value`, and in `rest` the attributes after it that are no module's."""

    value: Any
    rest: tuple[str, ...]


class Occurrence(NamedTuple):
    """An expression that leads to something outside of the function."""

    node: ast.expr
    resolved: Resolved


def absolute(name: str, function: FunctionType) -> str:
    """Return the full name of a module that `function` imports by a name that may be relative."""
    if not name.startswith("."):
        return name
    package = function.__globals__.get("__package__")
    if not isinstance(package, str):
        package = str(function.__globals__.get("__name__", "")).rpartition(".")[0]
    try:
        return importlib.util.resolve_name(name, package)
    except ImportError:
        return name  # beyond the top: the import would fail in the same way


def resolve(function: FunctionType, read: NameRead) -> Resolved:
    """Return what `read` leads to now, or ABSENT if only a run of the function could tell."""
    value: Any = ABSENT
    match read.root:
        case Root.GLOBAL:
            builtins: Mapping[str, Any] = getattr(function, "__builtins__", {})
            value = function.__globals__.get(read.name, builtins.get(read.name, ABSENT))
        case Root.CLOSURE:
            names = function.__code__.co_freevars
            if read.name in names:
                value = contents((function.__closure__ or ())[names.index(read.name)])
        case Root.IMPORT:
            module = absolute(read.name, function)
            value = importlib.import_module(module) if module in OF_PYTHON else sys.modules.get(module, ABSENT)
        case _:
            pass
    return _through_modules(value, read.attributes)


def _through_modules(value: Any, attributes: tuple[str, ...]) -> Resolved:
    rest = list(attributes)
    while rest and issubclass(type(value), ModuleType):  # a proxy may claim another class
        value = value.__dict__.get(rest.pop(0), ABSENT)
    return Resolved(value, tuple(rest))


def defaults_of(function: FunctionType) -> dict[str, Any]:
    """Return the defaults of a function's parameters, by name."""
    code, values = function.__code__, function.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount]
    return {**dict(zip(names[len(names) - len(values) :], values, strict=False)), **(function.__kwdefaults__ or {})}


class Occurrences:
    """The expressions of one function that lead outside, and the code around each."""

    def __init__(self, source: Source, function: FunctionType) -> None:
        finder = _Finder(source, function)
        finder.run()
        self.node = source.node
        self.all = finder.occurrences
        self.resolved = {id(occurrence.node): occurrence.resolved for occurrence in finder.occurrences}
        """The ends of the expressions, by the id of the expression."""
        self.aliased = finder.aliased
        """The ids of expressions that a local stands for wherever it is read."""
        self._parents = source.file.parents

    def parent(self, node: ast.AST) -> ast.AST | None:
        """Return the node that directly contains a node."""
        return self._parents.get(id(node))

    def loads(self, name: str) -> Iterator[ast.Name]:
        """Yield every place where a name is read."""
        for node in ast.walk(self.node):
            if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load):
                yield node


class _Finder(NameVisitor):
    def __init__(self, source: Source, function: FunctionType) -> None:
        super().__init__(source.node, function.__code__, source.file.parents)
        self.occurrences: list[Occurrence] = []
        self.aliased: set[int] = set()
        self._callable = function
        self._defaults = defaults_of(function)

    def _step(self, node: ast.AST) -> Iterator[ast.AST]:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                scope, _ = self._resolve(name)
                if scope is not None and scope.alias(name) is value:
                    self.aliased.add(id(value))
            case ast.Name(ctx=ast.Load()) | ast.Attribute(ctx=ast.Load()) | ast.Call(func=ast.Name(id="getattr")):
                resolved = self._resolved(node)
                if resolved is not None and resolved.value is not ABSENT:
                    self.occurrences.append(Occurrence(node, resolved))
            case _:
                pass
        return super()._step(node)

    def _resolved(self, node: ast.expr) -> Resolved | None:
        place = self._place(node)
        if place is not None and (place.read.root is not Root.RECEIVER or place.read.name not in self._defaults):
            return resolve(self._callable, place.read) if place.exact else None
        root, attributes = attribute_chain(node)
        if not isinstance(root, ast.Name) or root.id not in self._defaults:
            return None
        scope, _ = self._resolve(root.id)
        if scope is None or scope is not self._root or scope.locals[root.id] != [None]:
            return None
        return _through_modules(self._defaults[root.id], attributes)
