"""The kind of answer that a call gives: a value, an awaitable, an iterator, a context manager.

Coroutine functions and generator functions declare their kind. A wrapper of one is mostly a plain function, which gives
the same as the function below. So its `return` statements are followed to the functions that they call.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import inspect
from collections.abc import Iterator
from enum import Enum
from types import FunctionType, ModuleType
from typing import Any, Final

from musubito.code.live import ABSENT, contents, function_below
from musubito.code.syntax.expressions import body_of
from musubito.code.syntax.function_text import text_of
from musubito.code.syntax.source import FunctionNode
from musubito.model import StepDefinition

DEEPEST: Final = 10
"""The number of functions and expressions that are followed, one inside the other."""
MOST_NAMES: Final = 2
"""Number of functions through which an answer is followed by their names."""
CONTEXT_MANAGERS: Final = frozenset(
    decorator(abs).__code__ for decorator in (contextlib.contextmanager, contextlib.asynccontextmanager)
)
"""The code of the functions that the standard library makes from generator functions."""


class Answer(Enum):
    """The kind of answer that a call gives."""

    VALUE = "a value"
    AWAITABLE = "something to await"
    CHUNKS = "a generator"
    ASYNC_CHUNKS = "an async generator"
    CONTEXT_MANAGER = "a context manager"


def declared_answer(function: Any) -> Answer | None:
    """Return the kind of answer that a callable declares; None if it declares none. No source is read."""
    inner = function_below(function)
    if inner is None:
        return None
    if inspect.iscoroutinefunction(inner):
        return Answer.AWAITABLE
    if inspect.isasyncgenfunction(inner):
        return Answer.ASYNC_CHUNKS
    if inspect.isgeneratorfunction(inner):
        return Answer.CHUNKS
    return Answer.CONTEXT_MANAGER if inner.__code__ in CONTEXT_MANAGERS else None


def answer_of(function: Any) -> Answer:
    """Return the kind of answer of a call; a value, if the kind cannot be told without a call."""
    return _answer(function, DEEPEST) or Answer.VALUE


def _answer(function: Any, depth: int) -> Answer | None:
    """Return the kind of answer of a call; None if it cannot be told without a call."""
    declared = declared_answer(function)
    if declared is not None:
        return declared
    inner = function_below(function)
    if inner is None or depth == 0:
        return None
    step = inner.__dict__.get("__musubito_step__")
    if isinstance(step, StepDefinition):
        return Answer.AWAITABLE if _answer(step.function, depth - 1) is Answer.AWAITABLE else Answer.VALUE
    wrapped = inner.__dict__.get("__wrapped__")
    if not _leads_further(inner, MOST_NAMES, set()):
        return None  # its source need not be read
    source = text_of(inner).source
    if source is None:
        return None if wrapped is None else _answer(wrapped, depth - 1)
    names = _Names(source.node, inner)
    returned = [_answer_of_expression(value, names, wrapped, depth - 1) for value in _returned_expressions(source.node)]
    answers = [answer for answer in returned if answer is not None]
    return next((answer for answer in answers if answer is not Answer.VALUE), answers[0] if answers else None)


def _leads_further(function: FunctionType, depth: int, seen: set[int]) -> bool:
    """Return whether a function leads to one that declares another answer than a value.

    It leads to the functions that it holds or names, and to those that these hold or name. `depth` is the number of
    names that are followed.
    """
    if id(function) in seen:
        return False
    seen.add(id(function))
    contained = [function.__dict__.get("__wrapped__"), *(contents(cell) for cell in function.__closure__ or ())]
    for further, values in ((depth, contained), (depth - 1, _named_values(function) if depth else ())):
        for value in values:
            inner = function_below(value)
            if inner is not None and (declared_answer(inner) is not None or _leads_further(inner, further, seen)):
                return True
    return False


def _named_values(function: FunctionType) -> Iterator[Any]:
    names = function.__code__.co_names
    for name in names:
        value = function.__globals__.get(name)
        yield value
        if isinstance(value, ModuleType):
            yield from (vars(value).get(attribute) for attribute in names)


def _own_nodes(node: FunctionNode) -> Iterator[ast.AST]:
    """Yield the nodes of a function, without the insides of functions and classes in it."""
    pending: list[ast.AST] = [*body_of(node)]
    while pending:
        inner = pending.pop()
        yield inner
        if not isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            pending.extend(ast.iter_child_nodes(inner))


def _returned_expressions(node: FunctionNode) -> Iterator[ast.expr]:
    if isinstance(node, ast.Lambda):
        yield node.body
        return
    for inner in _own_nodes(node):
        if isinstance(inner, ast.Return) and inner.value is not None:
            yield inner.value


class _Names:
    """The values that the names of a function have when it runs, as far as they are known before."""

    def __init__(self, node: FunctionNode, function: FunctionType) -> None:
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
        self._known = {name: contents(cell) for name, cell in cells}
        self._local = frozenset(function.__code__.co_varnames) | frozenset(function.__code__.co_cellvars)
        self._globals = function.__globals__
        self.assigned: dict[str, list[ast.expr]] = {}
        for inner in _own_nodes(node):
            match inner:
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=value)
                    | ast.NamedExpr(target=ast.Name(id=name), value=value)
                ):
                    self.assigned.setdefault(name, []).append(value)

    def of(self, node: ast.expr) -> Any:
        """Return the value of a name or of a module's attribute; ABSENT if only a run of the function would show it."""
        match node:
            case ast.Name(id=name) if name in self._known:
                return self._known[name]
            case ast.Name(id=name) if name not in self._local:
                return self._globals.get(name, getattr(builtins, name, ABSENT))
            case ast.Attribute(value=value, attr=attr):
                module = self.of(value)
                return vars(module).get(attr, ABSENT) if isinstance(module, ModuleType) else ABSENT
        return ABSENT


def _answer_of_expression(node: ast.expr, names: _Names, wrapped: Any, depth: int) -> Answer | None:
    """Return the kind of answer that an expression gives; None if it cannot be told."""

    def further(part: ast.expr) -> Answer | None:
        return _answer_of_expression(part, names, wrapped, depth - 1) if depth else None

    match node:
        case ast.IfExp(body=body, orelse=orelse):
            return further(body) or further(orelse)
        case ast.NamedExpr(value=value):
            return further(value)
        case ast.Name(id=name) if name in names.assigned:
            answers = [further(value) for value in names.assigned[name]]
            return next((answer for answer in answers if answer is not None), None)
        case ast.Call(func=callee):
            called = names.of(callee)
            if called is not ABSENT and called is not None:
                return _answer(called, depth - 1) if depth else None
            if wrapped is None or _calls_inside(node, names, wrapped):
                return None
            return _answer(wrapped, depth - 1) if depth else None
    return Answer.VALUE


def _calls_inside(node: ast.Call, names: _Names, wrapped: Any) -> bool:
    """Return whether a call takes the answer of the wrapped function, to drive a coroutine or to collect chunks."""
    pending: list[ast.AST] = list(ast.iter_child_nodes(node))
    looked_up = set[str]()
    while pending:
        part = pending.pop()
        if isinstance(part, ast.Call) and names.of(part.func) is wrapped:
            return True
        if isinstance(part, ast.Name) and part.id in names.assigned and part.id not in looked_up:
            looked_up.add(part.id)
            pending += names.assigned[part.id]
        pending += ast.iter_child_nodes(part)
    return False
