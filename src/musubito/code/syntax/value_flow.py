"""Follow a value in the function that asked for it: whether anything but a logger receives it.

The value is followed by operators, texts and locals, within this one function. Anything else that is done with it
counts as a use.
"""

from __future__ import annotations

import ast
import logging
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final

from musubito.code.live import ABSENT
from musubito.code.ownership import module_name
from musubito.code.syntax.occurrences import Occurrences, Resolved

LOGS: Final = frozenset(
    "trace debug info success warning warn error exception critical fatal log write_log".split()  # noqa: SIM905
)
"""Methods of loggers that take what is logged."""
LOGGERS: Final = frozenset({"logging", "loguru", "structlog"})
"""Packages of loggers."""
PASSED_THROUGH: Final = frozenset(
    f"builtins.{name}"
    for name in "abs divmod float format int max min repr round str sum".split()  # noqa: SIM905
)
"""Builtins whose result is another form of their argument."""
SINKS: Final = frozenset(
    ["builtins.print", "time.sleep", "asyncio.tasks.sleep", "_warnings.warn", "warnings.warn"]
    + [f"logging.{name}" for name in LOGS]
)
"""Functions whose arguments reach nothing that a caller sees."""
FORMS: Final = (
    *(ast.Attribute, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.JoinedStr, ast.FormattedValue),
    *(ast.keyword, ast.Starred, ast.Subscript, ast.Tuple, ast.List, ast.Dict, ast.Set),
)
"""Nodes that make another form of a value of theirs, or pass it on."""


class Escapes:
    """Follows values through one function."""

    def __init__(self, occurrences: Occurrences) -> None:
        self._occurrences = occurrences

    def from_function(self, node: ast.AST) -> bool:
        """Return whether the value of an expression reaches anything but a logger, a screen or a clock that waits."""
        return self._escapes(node, set())

    def _escapes(self, node: ast.AST, seen: set[str]) -> bool:
        while True:
            around = self._occurrences.parent(node)
            match around:
                case ast.Expr():
                    return False
                case ast.Assign(targets=targets):
                    return not all(self._stays(each, seen) for each in targets)
                case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
                    return not self._stays(target, seen)
                case ast.NamedExpr(target=target):
                    if not self._stays(target, seen):
                        return True
                case ast.If(test=test, body=body, orelse=orelse) if test is node:
                    return not all(map(self._only_tells, (*body, *orelse)))
                case ast.Call(func=func):
                    if func is not node:
                        if self._is_sink(func):
                            return False
                        if not self._passes_through(func):
                            return True
                case _ if not isinstance(around, FORMS):
                    return True
            node = around

    def _stays(self, target: ast.AST, seen: set[str]) -> bool:
        """Return whether the value of a local reaches nothing from there."""
        if not isinstance(target, ast.Name) or self._is_outer(target.id):
            return False
        if target.id in seen:
            return True
        seen.add(target.id)
        return not any(self._escapes(load, seen) for load in self._occurrences.loads(target.id))

    def _is_outer(self, name: str) -> bool:
        return any(
            name in node.names
            for node in ast.walk(self._occurrences.node)
            if isinstance(node, ast.Global | ast.Nonlocal)
        )

    def _only_tells(self, statement: ast.stmt) -> bool:
        match statement:
            case ast.Pass():
                return True
            case ast.Expr(value=ast.Call(func=func)):
                return self._is_sink(func)
            case _:
                return False

    def _passes_through(self, func: ast.expr) -> bool:
        if isinstance(func, ast.Attribute) and func.attr == "format" and isinstance(func.value, ast.Constant):
            return True
        resolved = self._occurrences.resolved.get(id(func))
        return resolved is not None and not resolved.rest and definition_of(resolved.value) in PASSED_THROUGH

    def _is_sink(self, func: ast.expr) -> bool:
        """Return whether a call hands its arguments to a logger, a screen or a clock that waits."""
        resolved = self._occurrences.resolved.get(id(func), Resolved(ABSENT, ()))
        if resolved.value is ABSENT:
            # Only the name of a local or a field is known.
            if not isinstance(func, ast.Attribute) or func.attr not in LOGS:
                return False
            holder = func.value
            name = getattr(holder, "attr", getattr(holder, "id", ""))
            return name.lower().endswith(("log", "logger"))
        if resolved.rest:
            return resolved.rest[-1] in LOGS and _is_logger(type(resolved.value))
        if _is_logger(type(receiver_of(resolved.value))):
            return resolved.value.__name__ in LOGS
        return definition_of(resolved.value) in SINKS


def _is_logger(cls: type) -> bool:
    return issubclass(cls, (logging.Logger, logging.LoggerAdapter)) or any(
        module_name(base).partition(".")[0] in LOGGERS for base in cls.__mro__
    )


def receiver_of(value: Any) -> Any:
    """Return the object that a method is bound to, or None for anything else."""
    return value.__self__ if type(value) in (BuiltinFunctionType, MethodType) else None


def definition_of(value: Any) -> str:
    """Return the module and the name under which a function or a class was defined, or "" for anything else."""
    cls = type(value)
    if issubclass(cls, type):
        return f"{module_name(value).removesuffix('.mtrand')}.{value.__qualname__}"
    if cls is FunctionType:
        return f"{value.__globals__.get('__name__')}.{value.__code__.co_qualname}"
    if cls.__name__ in ("builtin_function_or_method", "cython_function_or_method"):
        return f"{value.__module__}.{value.__name__}"
    return ""
