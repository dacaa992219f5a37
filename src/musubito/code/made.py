"""Find the lines of the user's code that made an object: the statements that bind its name or change something by it.

An object that is no data, such as a client or an engine, counts by these lines and by what they name. A global has its
lines in its module, a variable of an enclosing function in that function, and a field in the methods of its class. A
literal credential in such a line does not count.
"""

from __future__ import annotations

import ast
import builtins
import copy
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import CodeType, FunctionType
from typing import Any, Final, NamedTuple, TypeAlias

from musubito.code.secret_fields import is_secret_field
from musubito.code.syntax.ast_digest import normalised_lines
from musubito.code.syntax.expressions import attribute_chain, credentials_in, parameters_of
from musubito.code.syntax.function_text import script_of, text_of
from musubito.code.syntax.source import (
    SENT,
    File,
    FunctionNode,
    cells,
    file_of,
    register_source_text,
    sent_texts,
    source_of,
)
from musubito.values.class_names import find_module, functions_in

MAX_INDEXED: Final = 4096
"""Number of bodies whose statements are kept by name."""
BY_LINES: Final = "the lines that made it"
"""What most objects of packages count by."""
LINES: Final = f", {BY_LINES}"
"""The end of the name of a part that consists of such lines."""
FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
Statements: TypeAlias = "dict[tuple[str, ...], list[Made]]"


class Made(NamedTuple):
    """A statement, and the expressions that decide whether it runs."""

    node: ast.stmt | ast.withitem | ast.expr
    around: tuple[ast.expr, ...]


class Sent(NamedTuple):
    """The texts, classes and digests by which code counts the same in a process that is sent it without its module."""

    texts: tuple[str, ...] = ()
    """The statements of functions and classes, and those that made objects."""
    classes: Mapping[str, type] = {}
    """Classes of the script, by name."""
    values: Mapping[str, tuple[bytes, tuple[str, ...] | None]] = {}
    """The digests of other globals, each with the globals that it leads to; None if it counts by its lines."""

    def receive(self) -> None:
        """Let all this be known in this process."""
        register_source_text(self.texts)
        _classes.update(self.classes)
        _values.update(self.values)


_classes: Final[dict[str, type]] = {}
_values: Final[dict[str, tuple[bytes, tuple[str, ...] | None]]] = {}
"""What came with code from other processes, by the name of the global: the latest is right for what runs next."""


class Lines(NamedTuple):
    """The lines that made an object, and the globals among which their names are looked up."""

    file: File
    made: tuple[Made, ...]
    names: dict[str, Any]
    parameters: frozenset[str] = frozenset()
    """Parameters of the enclosing function that the lines use: no line tells what they were given."""

    def only_import(self) -> bool:
        """Tell whether the lines only import the object, so that it was made elsewhere."""
        return all(isinstance(made.node, ast.Import | ast.ImportFrom) for made in self.made)

    def without_conditions(self) -> Lines:
        """Return the lines without what decides whether they run."""
        return self._replace(made=tuple(Made(made.node, ()) for made in self.made))

    def normal(self) -> bytes:
        """Return what the lines do, without how they are written."""
        return normalised_lines([node for made in self.made for node in (*made.around, made.node)])

    def text(self) -> str:
        """Return the lines as they are written."""
        ordered = sorted(self._nodes(), key=lambda node: node.lineno)
        return "".join(self.file.part(node).rstrip("\n") + "\n" for node in ordered)

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of the lines."""
        for node in self._nodes():
            yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)

    def _nodes(self) -> Iterable[ast.stmt | ast.expr]:
        nodes = {id(made.node): made.node for made in self.made}
        return (node.context_expr if isinstance(node, ast.withitem) else node for node in nodes.values())

    def reads(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield the names that the lines use, but for parameters, each with the attributes that follow it."""
        for made in self.made:
            for part in (*made.around, made.node):
                yield from (read for read in names_used(part) if read[0] not in self.parameters)


def lines_of_global(names: dict[str, Any], name: str) -> Lines | None:
    """Return the lines that made a global of a module, whose globals these are; None if they are not known."""
    file = names.get("__file__")
    if isinstance(file, str) and names.get("__spec__") is None and not file.endswith(".py"):
        return None
    found = file_of(file) if isinstance(file, str) else None
    texts = [found] if found is not None else _last_first(cells(), name)
    for text in [*sent_texts(), *texts] if were_sent(names) else texts:
        made = _by_name(text.tree.body).get((name,))
        if made:
            return Lines(text, tuple(made), names)
    return None


def were_sent(names: dict[str, Any]) -> bool:
    """Tell whether these globals came with code from another process: they are those of no module here."""
    module = find_module(str(names.get("__name__")))
    return module is None or vars(module) is not names


def complete(names: dict[str, Any], name: str) -> None:
    """Bind a global that code was sent without, if it is a class, a plain function or imported.

    cloudpickle sends only those globals that the code of a function names, and no other that lines name.
    """
    if name in names or hasattr(builtins, name) or not were_sent(names):
        return
    if name in _classes:
        names[name] = _classes[name]
    elif (lines := lines_of_global(names, name)) is not None:
        match [made.node for made in lines.made if not made.around]:
            case [ast.FunctionDef(decorator_list=[]) | ast.AsyncFunctionDef(decorator_list=[]) as node]:
                _define(names, node, next(code for code, each in lines.file.functions[name] if each is node))
            case nodes:
                _import(names, name, [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)])


def _define(names: dict[str, Any], node: ast.FunctionDef | ast.AsyncFunctionDef, code: CodeType) -> None:
    """Bind a function again whose defaults are constants; any other counts by its lines."""
    arguments = node.args
    with suppress(ValueError):
        function = FunctionType(code, names, node.name, tuple(map(ast.literal_eval, arguments.defaults)))
        keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        function.__kwdefaults__ = {each.arg: ast.literal_eval(value) for each, value in keywords if value is not None}
        names[node.name] = function


def _import(names: dict[str, Any], name: str, statements: list[ast.stmt]) -> None:
    """Bind a name by the first of these imports that does not fail; without one it counts by its lines."""
    for statement in statements:
        bound: dict[str, Any] = {}
        with suppress(Exception):
            exec(compile(ast.Module([statement], []), SENT, "exec"), names, bound)  # noqa: S102 - its sender has run it
            names[name] = bound[name]
            return


def sent_value(names: dict[str, Any], name: str) -> tuple[bytes, tuple[str, ...], Lines | None]:
    """Return how a global counts that code was sent without: its digest, and what it leads to or its lines."""
    if name in names or not were_sent(names):
        return b"", (), None
    digest, below = _values.get(name, (b"", None))
    return digest, below or (), lines_of_global(names, name) if below is None else None


def _last_first(texts: Iterable[File], name: str) -> list[File]:
    """Return the cells of a notebook that bind or change a name, the latest that binds it first."""
    return [text for text in reversed(list(texts)) if (name,) in _by_name(text.tree.body)]


def lines_of_variable(function: FunctionType, variable: str) -> Lines | None:
    """Return the lines of the function around this one that made a variable, with the lines of what these use."""
    source = text_of(function).source
    outer = None if source is None else enclosing_function(source.file, source.node)
    while source is not None and outer is not None:
        parameters = frozenset(each.arg for each in parameters_of(outer.args))
        statements = _by_name(outer.body)  # type: ignore[arg-type]
        found, given = _lines_in(statements, [variable], parameters)
        if found or given:
            return Lines(source.file, tuple(found), function.__globals__, given)
        outer = enclosing_function(source.file, outer)
    return None


def _lines_in(
    statements: Statements, variables: list[str], parameters: frozenset[str]
) -> tuple[list[Made], frozenset[str]]:
    """Return the statements that made these locals and the locals that they use, and the parameters among them."""
    found: dict[int, Made] = {}
    given: set[str] = set()
    seen = set(variables)
    for variable in variables:
        if variable in parameters:
            given.add(variable)
        for made in statements.get((variable,), ()):
            found[id(made.node)] = made
            for part in (*made.around, made.node):
                for name, _ in names_used(part):
                    if name not in seen and ((name,) in statements or name in parameters):
                        seen.add(name)
                        variables.append(name)
    return list(found.values()), frozenset(given)


def lines_of_field(cls: type, field: str) -> Lines | None:
    """Return the lines in the methods of a class that made a field of its instances."""
    for base in cls.__mro__:
        for function in functions_in(base):
            source = source_of(function.__code__, script_of(function))
            if source is None or isinstance(source.node, ast.Lambda):
                continue
            parameters = parameters_of(source.node.args)
            if not parameters:
                continue
            made = _by_name(source.node.body).get((parameters[0].arg, field))
            if made:
                return Lines(source.file, tuple(made), function.__globals__)
    return None


def lines_around(file: File, statement: ast.ClassDef, names: Collection[str], globals_: dict[str, Any]) -> Lines | None:
    """Return the lines of the function around a class statement that made the locals of these names."""
    outer = enclosing_function(file, statement)
    if outer is None:
        return None
    parameters = frozenset(each.arg for each in parameters_of(outer.args))
    found, given = _lines_in(_by_name(outer.body), sorted(names), parameters)  # type: ignore[arg-type]
    found = [made for made in found if made.node is not statement]
    return Lines(file, tuple(found), globals_, given) if found else None


def enclosing_function(file: File, node: ast.AST) -> FunctionNode | None:
    """Return the function in which a node of a file stands directly, or None."""
    outer = file.parents.get(id(node))
    while outer is not None and not isinstance(outer, (*FUNCTIONS, ast.Lambda)):
        if isinstance(outer, ast.ClassDef):
            return None
        outer = file.parents.get(id(outer))
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


# -- which statement makes what ----------------------------------------------------------------------------------------
_indexed: Final[dict[int, tuple[Sequence[ast.stmt], Statements]]] = {}
"""The statements of bodies by the chains of names that they bind or change something by."""


def _by_name(body: Sequence[ast.stmt]) -> Statements:
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


def _made_in(body: Iterable[ast.stmt], around: tuple[ast.expr, ...]) -> Iterator[tuple[Made, tuple[str, ...]]]:
    """Yield each statement with each chain of names that it binds, or by which it changes something."""
    for node in body:
        made = Made(node, around)
        match node:
            case ast.If(test=test) | ast.While(test=test):
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
                yield from _made_in([inner for case in cases for inner in case.body], (*around, subject))
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                for alias in names:  # the other names in the statement have nothing to do with this one
                    one = copy.copy(node)
                    one.names = [alias]
                    yield Made(one, around), (alias.asname or alias.name.partition(".")[0],)
            case _:
                for chain in dict.fromkeys(_chains(node)):
                    yield made, chain


def _chains(node: ast.stmt) -> Iterator[tuple[str, ...]]:
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
        case _:
            return


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
