"""Resolve names as Python does: scopes, `global`, `nonlocal`, class bodies, comprehensions and private names."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Final

from musubito.code.syntax.expressions import body_of, parameters_of
from musubito.parsing import children_of, nodes_in

BINDING: Final = frozenset(
    [
        *(ast.Global, ast.Nonlocal, ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef),
        *(ast.Lambda, ast.For, ast.AsyncFor, ast.comprehension, ast.Name, ast.Assign, ast.AugAssign),
        *(ast.ExceptHandler, ast.MatchAs, ast.MatchStar, ast.MatchMapping),
        *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
    ]
)
"""Nodes that may bind names, or that have a scope of their own."""


def private_class(qualname: str) -> str | None:
    """Return the class with which Python mangles private names in a function of this qualified name."""
    parts = qualname.split(".")
    for here, following in zip(reversed(parts[:-1]), reversed(parts[1:]), strict=True):
        if here != "<locals>" and following != "<locals>":
            return here
    return None


def mangled(name: str, cls: str | None) -> str:
    """Return a private name as objects of the class hold it."""
    if cls is None or not name.startswith("__") or name.endswith("__") or not cls.strip("_"):
        return name
    return f"_{cls.lstrip('_')}{name}"


class Scope:
    """The names that one function, class body or comprehension binds."""

    def __init__(self, parent: Scope | None, node: ast.AST) -> None:
        self.parent = parent
        self.is_class = isinstance(node, ast.ClassDef)
        self.locals: dict[str, list[ast.expr | None]] = {}
        """The locals, each with the expressions that it is bound to; None stands for any other binding."""
        self.bound: set[str] = set()
        """Names that a class body has bound so far; before that, the body reads the global of the name."""
        self.outer: dict[str, bool] = {}
        """Declared names, each with whether it is declared `global` (True) or `nonlocal` (False)."""
        self.imports: dict[str, tuple[str, tuple[str, ...]]] = {}
        """Imported names, each with the module and the attribute that it stands for."""
        self._bind(node)

    def _bind(self, node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for parameter in parameters_of(node.args):
                self._local(parameter.arg, None)
            body: Iterable[ast.AST] = body_of(node)
        elif isinstance(node, ast.ClassDef):
            body = node.body
        else:
            body = node.generators  # type: ignore[attr-defined]
        pending = list(body)
        while pending:
            inner = pending.pop()
            if type(inner) in BINDING:
                self._statement(inner, pending)
            else:
                pending += children_of(inner)
        for name in self.outer:
            self.locals.pop(name, None)

    def _local(self, name: str, value: ast.expr | None) -> None:
        self.locals.setdefault(name, []).append(value)

    def _statement(self, node: ast.AST, pending: list[ast.AST]) -> None:
        match node:
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                self.outer.update(dict.fromkeys(names, isinstance(node, ast.Global)))
            case ast.Import(names=names):
                for alias in names:
                    bound = alias.asname or alias.name.partition(".")[0]
                    self._local(bound, None)
                    self.imports[bound] = (alias.name if alias.asname else bound), ()
            case ast.ImportFrom(names=names):
                for each in names:
                    self._local(each.asname or each.name, None)
                    module = "." * node.level + (node.module or "")
                    self.imports[each.asname or each.name] = module, (each.name,)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self._local(node.name, None)
                pending += node.decorator_list
            case ast.Lambda():
                pass
            case ast.For() | ast.AsyncFor() | ast.comprehension():
                item = ast.Subscript(value=node.iter, slice=ast.Constant(0), ctx=ast.Load())
                for target in nodes_in(node.target):
                    if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store):
                        self._local(target.id, item)
                if not isinstance(node, ast.comprehension):
                    pending += (node.iter, *node.body, *node.orelse)
            case ast.Name(ctx=ast.Store() | ast.Del()):
                self._local(node.id, None)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AugAssign(target=ast.Name(id=name)):
                self._local(name, node.value if isinstance(node, ast.Assign) else node)  # type: ignore[arg-type]
                pending.append(node.value)
            case (
                ast.ExceptHandler(name=str(name))
                | ast.MatchAs(name=str(name))
                | ast.MatchStar(name=str(name))
                | ast.MatchMapping(rest=str(name))
            ):
                self._local(name, None)
                pending += children_of(node)
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                for inner in nodes_in(node):
                    if isinstance(inner, ast.NamedExpr):
                        self._local(inner.target.id, None)
            case _:
                pending += children_of(node)

    def alias(self, name: str) -> ast.expr | None:
        """Return the expression that a local stands for, if the local is bound once and to an expression."""
        bound = self.locals.get(name, [])
        return bound[0] if len(bound) == 1 else None


def names_bound_by(node: ast.AST) -> set[str]:
    """Return the names that a statement of a class body binds whenever it runs."""
    match node:
        case ast.Assign(targets=targets):
            return {target.id for target in targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
            return {name}
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case _:
            return set()
