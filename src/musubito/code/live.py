"""Look at live objects without running their code."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Mapping
from contextvars import Context, ContextVar
from types import CellType, EllipsisType, FunctionType, MethodType
from typing import Any

from musubito.model import StepDefinition

ABSENT: Any = object()
"""Stands for a value that is not there."""
ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, EllipsisType})
"""Types of the constants that hold nothing and cannot change."""
CONTAINERS = (dict, list, tuple, set, frozenset, deque)
"""Builtin types of the containers whose items are entered."""


def static(value: Any, name: str) -> Any:
    """Return an attribute that is really there, or ABSENT, without running a `__getattr__`."""
    for cls in type(value).__mro__:
        if name in vars(cls):
            return vars(cls)[name]
    fields = fields_of(value) if not isinstance(value, type) else None
    return ABSENT if fields is None else fields.get(name, ABSENT)


def fields_of(value: Any, attribute: str = "__dict__") -> dict[Any, Any] | None:
    """Return an object's `__dict__`, or another dict in which it keeps fields, or None without one."""
    try:
        fields = object.__getattribute__(value, attribute)
    except AttributeError:
        return None
    return fields if isinstance(fields, dict) else None


def of_this_thread(value: Any) -> dict[str, Any]:
    """Return the dict of the fields that a `threading.local` has in this thread."""
    fields: dict[str, Any] = threading.local.__getattribute__(value, "__dict__")
    return fields


def of_context(variable: ContextVar[Any]) -> Any:
    """Return the value that a context variable was set to in this context, or ABSENT."""
    return variable.get(ABSENT)


def default_of(variable: ContextVar[Any]) -> Any:
    """Return the default of a context variable, or ABSENT."""
    try:
        return Context().run(variable.get)
    except LookupError:
        return ABSENT


def contents(cell: CellType | None) -> Any:
    """Return the value in a cell, or ABSENT."""
    try:
        return ABSENT if cell is None else cell.cell_contents
    except ValueError:
        return ABSENT


def below(function: Any) -> tuple[Any, tuple[Any, ...], Mapping[str, Any]] | None:
    """Return the callable that Python calls for this one, with the arguments that are added.

    Return None for a function, and for a callable that is not written in Python.
    """
    cls = type(function)
    if issubclass(cls, functools.partial):
        return function.func, function.args, function.keywords
    if cls is MethodType:
        return function.__func__, (function.__self__,), {}
    if cls is functools._lru_cache_wrapper:
        return function.__wrapped__, (), {}
    if cls is FunctionType or issubclass(cls, type):
        return None
    called = next((vars(base)["__call__"] for base in cls.__mro__ if "__call__" in vars(base)), None)
    return (called, (function,), {}) if type(called) is FunctionType else None


def function_below(function: Any) -> FunctionType | None:
    """Return the function that Python calls when this is called; None if it is not written in Python.

    No code of the object runs.
    """
    while type(function) is not FunctionType:
        inner = below(function)
        if inner is None:
            return None
        function = inner[0]
    return function


def step_of(value: Any) -> StepDefinition | None:
    """Return the definition that a step carries, or None for anything else."""
    if static(value, "__musubito_step__") is ABSENT:
        return None
    step = value.__musubito_step__
    return step if isinstance(step, StepDefinition) else None
