"""The kind of answer that a call gives: a value, an awaitable, an iterator, a context manager.

Coroutine functions and generator functions declare their kind. A wrapper of one is mostly a plain function, which gives
the same as the function below. So its `return` statements are followed to the functions that they call.
"""

from __future__ import annotations

import builtins
import contextlib
import inspect
from collections.abc import Iterator
from enum import Enum
from types import FunctionType, ModuleType
from typing import Any, Final

from musubito.code.live import ABSENT, contents, function_below
from musubito.code.syntax.function_text import text_of
from musubito.code.syntax.wrappers import Path, ReturnedCall, returned_calls
from musubito.model import StepDefinition

DEEPEST: Final = 10
"""The number of functions and expressions that are followed, one inside the other."""
MAX_NAMES: Final = 2
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
    if not _leads_further(inner, MAX_NAMES, set()):
        return None  # its source need not be read
    source = text_of(inner).source
    if source is None:
        return None if wrapped is None else _answer(wrapped, depth - 1)
    names = _Names(inner)
    returned = [
        next(filter(None, (_answer_of(alternative, names, wrapped, depth - 1) for alternative in alternatives)), None)
        for alternatives in returned_calls(source.node)
    ]
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


class _Names:
    """The values that the names of a function have when it runs, as far as they are known before."""

    def __init__(self, function: FunctionType) -> None:
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
        self._known = {name: contents(cell) for name, cell in cells}
        self._local = frozenset(function.__code__.co_varnames) | frozenset(function.__code__.co_cellvars)
        self._globals = function.__globals__

    def of(self, path: Path) -> Any:
        """Return the value of a name or of a module's attribute; ABSENT if only a run of the function would show it."""
        name, *attributes = path or ("",)
        if name in self._known:
            value = self._known[name]
        elif not name or name in self._local:
            return ABSENT
        else:
            value = self._globals.get(name, getattr(builtins, name, ABSENT))
        for attribute in attributes:
            value = vars(value).get(attribute, ABSENT) if isinstance(value, ModuleType) else ABSENT
        return value


def _answer_of(returned: ReturnedCall | None, names: _Names, wrapped: Any, depth: int) -> Answer | None:
    """Return the kind of answer that a returned expression gives; None if it cannot be told."""
    if returned is None:
        return Answer.VALUE
    called = names.of(returned.called)
    if called is ABSENT or called is None:
        # It may take the answer of the wrapped function, to drive a coroutine or to collect chunks.
        is_inside = any(names.of(path) is wrapped for path in returned.inside)
        called = None if is_inside else wrapped
    depth -= returned.depth
    return _answer(called, depth - 1) if called is not None and depth > 0 else None
