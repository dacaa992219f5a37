"""Find which statements of a body bind a name or change something by it, and which names a statement uses."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Sequence
from types import CodeType
from typing import Any, Final, NamedTuple, TypeAlias

from musubito.code.secret_fields import is_secret_field
from musubito.code.syntax.ast_digest import FUNCTIONS
from musubito.code.syntax.expressions import attribute_chain, credentials_in, parameters_of
from musubito.code.syntax.source import File

MAX_INDEXED: Final = 4096
"""Number of bodies whose statements are kept by name."""
Body: TypeAlias = Sequence[ast.stmt] | Sequence[ast.expr]
Statements: TypeAlias = "dict[tuple[str, ...], list[Made]]"


class Made(NamedTuple):
    """A statement, and the expressions that decide whether it runs."""

    node: ast.stmt | ast.withitem | ast.expr
    around: tuple[ast.expr, ...]
    maker: str = ""
    """The function in which the statement stands, whose parameters it uses."""

    def written(self) -> ast.stmt | ast.expr:
        """Return the statement, or the expression that stands for it."""
        return self.node.context_expr if isinstance(self.node, ast.withitem) else self.node

    def is_import(self) -> bool:
        """Tell whether the statement imports something."""
        return isinstance(self.node, ast.Import | ast.ImportFrom)

    def is_plain_function(self) -> bool:
        """Tell whether the statement defines a function without decorators."""
        return isinstance(self.node, FUNCTIONS) and not self.node.decorator_list

    def literal_defaults(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the defaults of a function; raise ValueError if one is no literal."""
        arguments: ast.arguments = self.node.args  # type: ignore[union-attr]
        keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        literals = {each.arg: ast.literal_eval(value) for each, value in keywords if value is not None}
        return tuple(map(ast.literal_eval, arguments.defaults)), literals

    def compiled(self, name: str) -> CodeType:
        """Return the code of the statement alone, as that of a file of this name."""
        return compile(ast.Module([self.node], []), name, "exec")  # type: ignore[list-item]


def statements_behind(
    statements: Statements, variables: list[str], parameters: frozenset[str]
) -> tuple[list[Made], frozenset[str]]:
    """Return the statements that made these locals and the locals that they use, and the parameters among them."""
    found: dict[ast.AST, Made] = {}
    given: set[str] = set()
    seen = set(variables)
    for variable in variables:
        if variable in parameters:
            given.add(variable)
        for made in statements.get((variable,), ()):
            found[made.node] = made
            for part in (*made.around, made.node):
                for name, _ in names_used(part):
                    if name not in seen and ((name,) in statements or name in parameters):
                        seen.add(name)
                        variables.append(name)
    return list(found.values()), frozenset(given)


def plain_statements(body: Body) -> tuple[Made, ...]:
    """Return the statements of a body that are no imports and define no function and no class."""
    defined = (*FUNCTIONS, ast.ClassDef, ast.Import, ast.ImportFrom)
    return tuple(Made(node, ()) for node in body if not isinstance(node, defined))


def enclosing_function(file: File, node: ast.AST) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """Return the function in which a node of a file stands directly, or None."""
    outer = file.parents.get(node)
    while outer is not None and not isinstance(outer, (*FUNCTIONS, ast.Lambda)):
        if isinstance(outer, ast.ClassDef):
            return None
        outer = file.parents.get(outer)
    return outer if isinstance(outer, FUNCTIONS) else None


def names_used(node: ast.AST) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the names that a node reads, each with the attributes that follow it."""
    pending = [node]
    while pending:
        root, attributes = attribute_chain(pending.pop())
        if isinstance(root, ast.keyword) and is_secret_field(root.arg, ""):
            continue
        if isinstance(root, ast.Name):
            if isinstance(root.ctx, ast.Load) or attributes:
                yield root.id, attributes
        else:
            credentials = credentials_in(root)
            pending += (child for child in ast.iter_child_nodes(root) if child not in credentials)


def variables_in_lines(node: ast.AST) -> Iterator[str]:
    """Yield the variables that a line of a module reads by a literal name."""
    for inner in ast.walk(node):
        match inner:
            case ast.Subscript(
                value=ast.Attribute(attr="environ") | ast.Name(id="environ"), slice=ast.Constant(value=str(name))
            ):
                yield name
            case ast.Call(
                func=ast.Attribute(attr="getenv") | ast.Name(id="getenv"), args=[ast.Constant(value=str(name)), *_]
            ):
                yield name
            case ast.Call(
                func=ast.Attribute(value=ast.Attribute(attr="environ") | ast.Name(id="environ")),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name


_indexed: Final[dict[int, tuple[Body, Statements]]] = {}
"""The statements of bodies by the chains of names that they bind or change something by."""


def statements_by_name(body: Body) -> Statements:
    """Return the statements of a body by the chains of names that they bind or change something by."""
    known = _indexed.get(id(body))
    if known is None or known[0] is not body:
        statements: Statements = {}
        for made, chain in _made_in(body, ()):
            for end in range(1, min(len(chain), 2) + 1):
                listed = statements.setdefault(chain[:end], [])
                if not listed or listed[-1] is not made:
                    listed.append(made)
        if len(_indexed) >= MAX_INDEXED:
            _indexed.clear()
        known = _indexed[id(body)] = body, statements
    return known[1]


def _made_in(body: Body, around: tuple[ast.expr, ...]) -> Iterator[tuple[Made, tuple[str, ...]]]:
    """Yield each statement with each chain of names that it binds, or by which it changes something."""
    for node in body:
        made = Made(node, around)
        match node:
            case ast.If(test=test) | ast.While(test=test):
                yield from ((Made(test, around), chain) for chain in _assigned_in(test))
                yield from _made_in((*node.body, *node.orelse), (*around, test))
            case ast.For(iter=source) | ast.AsyncFor(iter=source):
                yield from ((Made(source, around), chain) for chain in _targets(node.target))
                yield from _made_in((*node.body, *node.orelse), (*around, source))
            case ast.With(items=items) | ast.AsyncWith(items=items):
                for item in items:
                    if item.optional_vars is not None:
                        yield from ((Made(item, around), chain) for chain in _targets(item.optional_vars))
                yield from _made_in(node.body, around)
            case ast.Try() | ast.TryStar():
                handled = [statement for handler in node.handlers for statement in handler.body]
                yield from _made_in((*node.body, *handled, *node.orelse, *node.finalbody), around)
            case ast.Match(subject=subject, cases=cases):
                patterns = [inner for case in cases for inner in ast.walk(case.pattern)]
                captured: list[str | None] = [
                    getattr(inner, "name", getattr(inner, "rest", None)) for inner in patterns
                ]
                yield from ((Made(subject, around), (name,)) for name in filter(None, captured))
                yield from _made_in([inner for case in cases for inner in case.body], (*around, subject))
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                for alias in names:  # the other names in the statement have nothing to do with this one
                    one = copy.copy(node)
                    one.names = [alias]
                    yield Made(one, around), (alias.asname or alias.name.partition(".")[0],)
            case _:
                for chain in dict.fromkeys(_chains(node)):
                    yield made, chain
                if isinstance(node, FUNCTIONS):
                    yield from _made_outside(node, around)


def _made_outside(
    function: ast.FunctionDef | ast.AsyncFunctionDef, around: tuple[ast.expr, ...]
) -> Iterator[tuple[Made, tuple[str, ...]]]:
    """Yield the statements by which a function binds globals, with those that made what they use."""
    for name in _globals_of(function):
        parameters = frozenset(parameter.arg for parameter in parameters_of(function.args))
        found, given = statements_behind(statements_by_name(function.body), [name], parameters)
        for made in found:
            yield Made(made.node, (*around, *made.around), function.name if given else ""), (name,)


def _chains(node: ast.stmt | ast.expr) -> Iterator[tuple[str, ...]]:
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr) and node.value is not None:
        yield from _assigned_in(node.value)
    match node:
        case ast.Assign(targets=targets):
            for target in targets:
                yield from _targets(target)
        case ast.AnnAssign(target=target, value=ast.expr()) | ast.AugAssign(target=target):
            yield from _targets(target)
        case ast.Delete(targets=targets):
            for target in targets:
                yield from _targets(target)
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield (name,)
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call):
                    yield from _changed_by(decorator)
                elif isinstance(decorator, ast.Attribute):
                    yield from _chain(decorator.value)
        case ast.Expr(value=value):
            call = value.value if isinstance(value, ast.Await) else value
            if isinstance(call, ast.Call):
                yield from _changed_by(call)
                if isinstance(call.func, ast.Name):
                    yield (f"{call.func.id}()",)
        case _:
            return


def _assigned_in(node: ast.expr) -> Iterator[tuple[str, ...]]:
    """Yield the names that an expression binds by `:=`."""
    return ((inner.target.id,) for inner in ast.walk(node) if isinstance(inner, ast.NamedExpr))


def _globals_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Yield the names that a function declares as global."""
    pending: list[ast.AST] = [*function.body]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Global):
            yield from node.names
        elif isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case) and hasattr(node, "body"):
            for field in ("body", "orelse", "handlers", "finalbody"):
                pending += getattr(node, field, ())


def _changed_by(call: ast.Call) -> Iterator[tuple[str, ...]]:
    """Yield the chains of names that lead to what a call may change: its receiver and its arguments."""
    if isinstance(call.func, ast.Attribute):
        yield from _chain(call.func.value)
    for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
        yield from _chain(argument)


def _targets(target: ast.expr) -> Iterator[tuple[str, ...]]:
    if isinstance(target, ast.Tuple | ast.List):
        for inner in target.elts:
            yield from _targets(inner)
    elif isinstance(target, ast.Starred):
        yield from _targets(target.value)
    else:
        yield from _chain(target)


def _chain(node: ast.expr) -> Iterator[tuple[str, ...]]:
    """Yield the chain of names that leads to an expression, through its items and the results of its methods."""
    attributes: list[str] = []
    while not isinstance(node, ast.Name):
        match node:
            case ast.Attribute(value=value, attr=attr):
                attributes.append(attr)
                node = value
            case ast.Subscript(value=value):
                attributes.clear()
                node = value
            case ast.Call(func=ast.Attribute(value=value)):
                attributes.clear()
                node = value
            case _:
                return
    yield (node.id, *reversed(attributes))
