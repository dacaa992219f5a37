"""Define the record of a reached thing, and look at things without running their code."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from types import CellType, EllipsisType, FunctionType, MemberDescriptorType, MethodType
from typing import Any, NamedTuple

from musubito.model import StepDefinition

ABSENT: Any = object()
"""Stands for a value that is not there."""
ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, EllipsisType})
"""Types of the constants that hold nothing and cannot change."""


class GraphRecord(NamedTuple):
    """A record: bytes of its own, and labelled references to what the thing reaches.

    `named`: the thing counts by its name alone.
    """

    own: bytes
    links: list[tuple[str, bytes]]
    named: bool = False


class Namespace:
    """The globals of a function that are the globals of no module."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names


class Emptied:
    """Stands for a container to which code only adds: it counts as if it were empty."""

    def __init__(self, name: str) -> None:
        self.name = name
        """The name of the container's builtin class."""


def is_module_globals(value: Any) -> bool:
    """Return whether a value is the globals of a module.

    `exec` adds `__builtins__` to any dict that it is given as globals, so that alone does not tell.
    """
    return type(value) is dict and "__builtins__" in value and "__name__" in value


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


def of_this_thread(value: Any) -> Any:
    """Return the dict of the fields that a `threading.local` has in this thread, and any other value as it is."""
    return threading.local.__getattribute__(value, "__dict__") if issubclass(type(value), threading.local) else value


def slot_of(value: Any, name: str) -> Any:
    """Return the value in a slot of an object, or in its class, or ABSENT, without running the object's code."""
    member = static(value, name)
    if isinstance(member, MemberDescriptorType):
        try:
            return member.__get__(value)
        except AttributeError:
            return ABSENT
    return ABSENT if hasattr(type(member), "__get__") else member


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
