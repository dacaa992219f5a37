"""Write code as bytes that say what a function does, without how it was written down.

With a syntax tree, comments, layout, docstrings and annotations do not count. The walk is our own and skips empty
fields. So a field that a newer Python adds to its nodes leaves the bytes of older code as they are. Annotations and
docstrings do count where a program can tell:

- in the bodies of nested classes with bases or decorators, where they make fields and schemas;
- in nested functions that are decorated or handed on;
- everywhere, if the caller asks for `docs`.

Code that `python -O` leaves out does not run, and does not count there.

Without a source, the bytecode is written: instructions, constants and names, with the version of the interpreter.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from types import CodeType, EllipsisType
from typing import Any

from musubito.code.secret_fields import without_secrets
from musubito.code.syntax.expressions import credentials_in
from musubito.code.syntax.same_code import codes
from musubito.code.syntax.single_function import FunctionNode
from musubito.locks import cached_property
from musubito.parsing import nodes_in

MAX_KEPT = 4096
"""Number of functions whose bytecode is kept in its normal form."""
SKIPPED = frozenset(
    {
        *("ctx", "type_comment", "kind", "type_ignores", "type_params", "returns", "annotation", "simple"),
        "decorator_list",
    }
)
"""Fields of nodes that do not count, or that are written by themselves."""
CALLERS = frozenset(
    {
        *("map", "filter", "sorted", "min", "max", "len", "bool", "iter", "callable", "isinstance", "issubclass"),
        *("repr", "id"),
    }
)
"""Builtins that call their argument, or look at it, and neither read its docstring nor hand it to others."""
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SPECIAL = frozenset(
    [
        *(*FUNCTIONS, ast.Lambda, ast.ClassDef, ast.Constant),
        *(ast.AnnAssign, ast.Assert),
    ]
)
"""Nodes that are not written field by field."""
END = object()
"""Marks the end of a node or a list on the stack."""
WITHOUT_DOCS = 2
"""Level of optimisation from which on (`python -OO`) there are no docstrings."""


def normalised(function: FunctionNode, *, docs: bool = False, signature: bool = False) -> bytes:
    """Return what `function` does, without its own decorators and defaults: those count as values.

    `docs` keeps every docstring; `signature` keeps the function's own docstring and annotations.
    """
    writer = _Writer(docs, function)
    writer.function(function, signature)
    return bytes(writer.out)


def normalised_lines(nodes: Iterable[ast.AST]) -> bytes:
    """Return what statements and expressions do. Credentials in them do not count, by their names or their looks."""
    writer = _Writer(docs=False, hides=True)
    for node in nodes:
        writer.add(node)
    return bytes(writer.out)


def normalised_class(node: ast.ClassDef, methods: frozenset[str]) -> bytes:
    """Return the statement of a class without its docstring and without the methods of these names."""
    writer = _Writer(docs=True)
    writer.add([node.bases, node.keywords, node.decorator_list])
    for number, statement in enumerate(node.body):
        is_doc = not number and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if not is_doc and not (isinstance(statement, FUNCTIONS) and statement.name in methods):
            writer.add(_annotated(statement))
    return bytes(writer.out)


def tokens(*values: object) -> bytes:
    """Return constants as bytes, different for any two rows of them; types and the sign of zero count."""
    out = bytearray()
    for value in values:
        if type(value) is str:  # most values are
            payload = value.encode("utf-8", "surrogatepass")
            out += b"s%d:%b" % (len(payload), payload)
        else:
            _constant(out, value)
    return bytes(out)


def handed_on(function: ast.AST) -> frozenset[str]:
    """Return the names and attributes whose values are used in other ways than to call or to compare them.

    Code that is given such a value may read its docstring.
    """
    merely: set[ast.AST] = set()
    loaded: list[ast.Name | ast.Attribute] = []
    for node in nodes_in(function):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in CALLERS:
                merely.update((node.func, *node.args, *(keyword.value for keyword in node.keywords)))
            case ast.Call():
                merely.add(node.func)
            case ast.Compare():
                merely.update((node.left, *node.comparators))
            case ast.Attribute(value=value):
                merely.add(value)
                loaded.append(node)
            case ast.Name():
                loaded.append(node)
    return frozenset(
        part.id if isinstance(part, ast.Name) else part.attr
        for part in loaded
        if isinstance(part.ctx, ast.Load) and part not in merely
    )


@lru_cache(MAX_KEPT)
def normalised_bytecode(code: CodeType) -> bytes:
    """Return what `code` does on this version of Python; neither its file nor its line counts."""
    out = bytearray(tokens("bytecode", sys.implementation.name, *sys.version_info[:2]))
    for inner in codes(code):
        fixed = inner.co_code, inner.co_argcount, inner.co_posonlyargcount, inner.co_kwonlyargcount, inner.co_flags
        out += tokens(inner.co_name, *fixed, inner.co_exceptiontable)
        for names in (inner.co_names, inner.co_varnames, inner.co_freevars, inner.co_cellvars):
            out += tokens(len(names), *names)
        nested = [constant for constant in inner.co_consts if isinstance(constant, CodeType)]
        out += tokens(*(None if isinstance(constant, CodeType) else constant for constant in inner.co_consts))
        out += tokens(len(nested))
    return bytes(out)


class _Writer:
    """Writes a tree as tagged tokens, with a stack of its own: long expressions nest deeper than Python recurses."""

    def __init__(self, docs: bool, within: FunctionNode | None = None, *, hides: bool = False) -> None:
        self.out = bytearray()
        self._docs = docs
        self._within = within
        """The function that is written."""
        self._hides = hides
        """Whether credentials are left out."""
        self._credentials: set[ast.AST] = set()
        """The nodes that are credentials."""
        self._stack: list[Any] = []

    @cached_property
    def _given(self) -> frozenset[str]:
        return frozenset() if self._within is None else handed_on(self._within)

    def add(self, node: Any) -> None:
        self._stack.append(node)
        self._drain()

    def function(self, node: FunctionNode, signature: bool) -> None:
        self._open(type(node).__name__)
        self._arguments(node.args, annotated=signature, defaults=False)
        if isinstance(node, ast.Lambda):
            body: list[ast.AST] = [node.body]
        else:
            body = list(self._body(node, signature))
            if signature and node.returns is not None:
                body.insert(0, node.returns)
        self._stack += [END, *reversed(body)]
        self._drain()

    def _drain(self) -> None:
        while self._stack:
            node = self._stack.pop()
            if node is END:
                self.out += b")"
            elif type(node) is bytes:  # the name of a field
                self.out += node
            elif type(node) is ast.Name:
                self.out += _name(node.id)
            elif isinstance(node, ast.AST):
                if self._hides:
                    self._credentials.update(credentials_in(node))
                if node in self._credentials:
                    self.out += b"(credential)"
                else:
                    self._node(node) if type(node) in SPECIAL else self._plain(node)
            elif isinstance(node, list):
                self.out += b"["
                self._stack += [END, *reversed(node)]
            else:
                _constant(self.out, node)

    def _open(self, name: str) -> None:
        self.out += b"("
        _constant(self.out, name)

    def _node(self, node: ast.AST) -> None:
        match node:
            case ast.AnnAssign(value=None):
                self._open("Declared")
                self._stack += [END, node.target]
            case ast.AnnAssign():
                self._open("Assign")
                self._stack += [END, node.value, "value", [node.target], "targets"]
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                signature = self._docs or bool(node.decorator_list) or node.name in self._given
                self._open(type(node).__name__)
                _constant(self.out, node.name)
                self._arguments(node.args, annotated=signature, defaults=True)
                returns = [node.returns] if signature and node.returns is not None else []
                self._stack += [END, list(self._body(node, signature)), returns, node.decorator_list]
            case ast.Lambda():
                self._open("Lambda")
                self._arguments(node.args, annotated=False, defaults=True)
                self._stack += [END, node.body]
            case ast.ClassDef():
                telling = bool(self._docs or node.bases or node.keywords or node.decorator_list)
                self._open("ClassDef")
                _constant(self.out, node.name)
                body = [_annotated(statement) if telling else statement for statement in self._body(node, telling)]
                self._stack += [END, body, node.decorator_list, node.keywords, node.bases]
            case ast.Constant():
                _constant(self.out, without_secrets(node.value) if self._hides else node.value)
            case ast.Assert() if not __debug__:
                pass  # `python -O` leaves it out
            case _:
                self._plain(node)

    def _plain(self, node: ast.AST) -> None:
        kind: Any = type(node)
        opening, names = _shape(kind)
        self.out += opening
        self._stack.append(END)
        fields = vars(node)
        for name, token in names:
            value = fields.get(name)
            if value is not None and value != []:
                self._stack += [value, token]

    def _body(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, keep: bool) -> Iterator[ast.stmt]:
        for number, each in enumerate(node.body):
            doc = (
                isinstance(each, ast.Expr)
                and isinstance(each.value, ast.Constant)
                and isinstance(each.value.value, str)
            )
            counts = not number and (keep or self._docs) and sys.flags.optimize < WITHOUT_DOCS
            if not isinstance(each, ast.Pass) and not (doc and not counts):
                yield each

    def _arguments(self, node: ast.arguments, *, annotated: bool, defaults: bool) -> None:
        child: Any
        parts: list[Any] = []
        for kind in ("posonlyargs", "args", "vararg", "kwonlyargs", "kwarg"):
            arguments = getattr(node, kind)
            for child in arguments if isinstance(arguments, list) else [arguments] if arguments else []:
                parts += [kind, child.arg]
                if annotated and child.annotation is not None:
                    parts.append(child.annotation)
        if defaults:
            parts += [node.defaults, [None if default is None else [default] for default in node.kw_defaults]]
        self.out += b"["
        waiting, self._stack = self._stack, [END, *reversed(parts)]
        self._drain()
        self._stack = waiting


def _annotated(node: ast.stmt) -> Any:
    """Return a statement of a class body, with its annotation if it has one."""
    return [node, node.annotation] if isinstance(node, ast.AnnAssign) else node


@cache
def _shape(kind: type[ast.AST]) -> tuple[bytes, tuple[tuple[str, bytes], ...]]:
    """Return how a node of this kind begins, and its fields that count, the last one first, each with its token."""
    names = [name for name in reversed(kind._fields) if name not in SKIPPED]
    return b"(" + tokens(kind.__name__), tuple((name, tokens(name)) for name in names)


@lru_cache(MAX_KEPT)
def _name(name: str) -> bytes:
    """Return a name as it is written: half of all nodes are names."""
    return b"(" + tokens("Name", "id", name) + b")"


def _constant(out: bytearray, value: object) -> None:
    match value:
        # The most frequent type first.
        case str():
            tag, payload = b"s", value.encode("utf-8", "surrogatepass")
        case bytes():
            tag, payload = b"b", value
        case None | bool() | EllipsisType():
            tag, payload = b"n", repr(value).encode()
        case int():
            tag, payload = b"i", hex(value).encode()
        case float():
            tag, payload = b"f", value.hex().encode()
        case complex():
            tag, payload = b"c", f"{value.real.hex()},{value.imag.hex()}".encode()
        case tuple():
            tag, payload = b"t", tokens(*value)
        case frozenset():
            tag, payload = b"z", b"".join(sorted(tokens(item) for item in value))
        case slice():
            tag, payload = b"l", tokens(value.start, value.stop, value.step)
        case _:
            raise TypeError(f"not a constant of a program: {value!r}")
    out += b"%b%d:%b" % (tag, len(payload), payload)
