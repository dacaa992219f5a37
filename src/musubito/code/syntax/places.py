"""Find where expressions of a function lead, as Python resolves names (`musubito.code.syntax.scopes`)."""

from __future__ import annotations

import ast
from types import CodeType
from typing import Final

from musubito.code.syntax.expressions import module_imported_by
from musubito.code.syntax.name_usage import NameRead, Place, Root
from musubito.code.syntax.scopes import Scope, mangled, private_class
from musubito.code.syntax.single_function import FunctionNode

IMPORTERS: Final = frozenset({"import_module", "__import__"})
"""Functions that import a module by its name as a text."""


class PlaceFinder:
    """Tells where expressions lead, in the scope that is visited: to a local, or to a place outside of the function."""

    def __init__(self, function: FunctionNode, code: CodeType) -> None:
        self.function = function
        first = [*function.args.posonlyargs, *function.args.args][:1]
        self.receiver = first[0].arg if first else None
        """The name of the first parameter."""
        self.private_class = private_class(code.co_qualname)
        """The class with which private names are mangled in the scope."""
        self.scope = self._root = Scope(None, function)
        self._free = frozenset(code.co_freevars)

    def resolve(self, name: str) -> tuple[Scope | None, Root | None]:
        """Return (the scope whose local the name is, None), or (None, the root outside of the function)."""
        scope: Scope | None = self.scope
        first = True
        while scope is not None:
            if scope.outer.get(name):
                return None, Root.GLOBAL
            if name in scope.locals and (first or not scope.is_class):
                return scope, None
            first = False
            scope = scope.parent
        name = mangled(name, self.private_class)
        return None, Root.CLOSURE if name in self._free else Root.GLOBAL

    def place(self, node: ast.expr, depth: int = 0) -> Place | None:
        """Return where an expression leads, if it is a path of attributes and items from outside the function."""
        match node:
            case ast.Name(id=name):
                scope, root = self.resolve(name)
                if root is not None:
                    return Place(NameRead(root, mangled(name, self.private_class)))
                if scope is None:
                    return None
                if (imported := scope.imports.get(name)) is not None:
                    return Place(NameRead(Root.IMPORT, *imported))
                if scope is self._root and name == self.receiver and len(scope.locals[name]) == 1:
                    return Place(NameRead(Root.RECEIVER, name))
                value = scope.alias(name)
                return self.place(value, depth + 1) if value is not None and depth < 8 else None
            case ast.Attribute(value=value, attr=attr):
                place = self.place(value, depth)
                return place and place.attribute(mangled(attr, self.private_class))
            case ast.Subscript(value=value):
                place = self.place(value, depth)
                return place and place._replace(exact=False)
            case ast.Call(func=ast.Attribute(value=value, attr="setdefault" | "get" | "values" | "items")):
                place = self.place(value, depth)
                return place and place._replace(exact=False)
            case ast.Call(func=ast.Name(id="super")):
                return Place(NameRead(Root.SUPER, "super"))
            case ast.Call(func=called, args=[ast.Constant(value=str(module)), *_]) if self.imports(called):
                return Place(NameRead(Root.IMPORT, module_imported_by(node, module)))
            case ast.Call(func=ast.Name(id="type"), args=[value]):
                place = self.place(value, depth)
                return place if place is not None and place.read.root is Root.RECEIVER else None
            case ast.Call(func=ast.Name(id="getattr"), args=[value, ast.Constant(value=str(attr)), *_]):
                place = self.place(value, depth)
                return place and place.attribute(attr)
            case _:
                return None

    def imports(self, called: ast.expr) -> bool:
        """Return whether an expression is `importlib.import_module` or `__import__`, under whatever name."""
        if isinstance(called, ast.Attribute):
            return called.attr in IMPORTERS
        if not isinstance(called, ast.Name):
            return False
        scope, _ = self.resolve(called.id)
        imported = None if scope is None else scope.imports.get(called.id)
        return called.id in IMPORTERS or (imported is not None and imported[1][-1:] == ("import_module",))

    def is_alias(self, node: ast.Assign | ast.NamedExpr) -> bool:
        """Return whether a statement binds a local that stands for the value wherever it is read."""
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if not isinstance(target, ast.Name):
            return isinstance(target, ast.Attribute | ast.Subscript)
        scope, _ = self.resolve(target.id)
        return scope is not None and scope.alias(target.id) is node.value

    def is_builtin(self, name: str) -> bool:
        """Return whether a name is that of no local and of no closure."""
        return self.resolve(name) == (None, Root.GLOBAL)
