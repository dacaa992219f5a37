"""Find the tests that are quick, by what their code names: they start no process and no server."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

import pytest

__all__ = ["is_quick"]

_SLOW: Final = frozenset(
    {
        "concurrent.futures.process",
        "distributed",
        "multiprocessing",
        "nbclient.client",
        "subprocess",
        "tests.faults.children",
        "tests.langgraph.equivalence",
        "tests.launcher",
        "tests.server",
    }
)
"""Modules that start processes and servers, or that compare graphs in many ways."""


def is_quick(item: pytest.Function) -> bool:
    """Tell whether a test names none of these modules, and nothing that is defined in them.

    Its fixtures count too, and so do the functions and classes of the tests that any of these name.
    """
    fixtures = (each.func for some in item._fixtureinfo.name2fixturedefs.values() for each in some)
    # Fixtures of a class are bound to an instance of it.
    return _are_quick(frozenset(getattr(each, "__func__", each) for each in (item.function, *fixtures)))


@cache
def _are_quick(functions: frozenset[Any]) -> bool:
    left, seen = list(functions), set(functions)
    while left:
        for each in _named_by(left.pop()):
            if getattr(each, "__module__", None) in _SLOW or each in _SLOW:
                return False
            if isinstance(each, FunctionType | type) and each not in seen:
                seen.add(each)
                left.append(each)
    return True


@cache
def _named_by(each: Any) -> tuple[Any, ...]:
    """Return what a function or a class of the tests names: modules by their names, functions and classes as they are."""
    if not each.__module__.startswith("tests."):
        return ()
    if isinstance(each, type):
        return tuple(value for value in vars(each).values() if isinstance(value, FunctionType))
    function = inspect.unwrap(each)
    named = [(name, function.__globals__.get(name)) for name in _names(function.__code__)]
    return tuple(
        value if isinstance(value, FunctionType | type) else value.__name__ if isinstance(value, ModuleType) else name
        for name, value in named
    )


def _names(code: CodeType) -> Iterator[str]:
    """Yield the names in a function's code and in that of the functions inside."""
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _names(each)
