"""Share the trackers of nodes that a program makes again and again of the same functions.

A program may build its graph anew for each request. Then each node is a new object around the same function. To walk
all that the function reaches takes about a millisecond. So a node of a module's function uses the tracker of an earlier
node, as long as the fields of both nodes are alike. Both then reach the same code.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache, partial
from types import FunctionType, NoneType
from typing import Any, Final

from langchain_core.tools import StructuredTool

from musubito import StepConfiguration
from musubito.code.fingerprint import Fingerprint
from musubito.code.live import fields_of
from musubito.code.tracker import CodeTracker
from musubito.values.class_names import find_module
from musubito_langgraph import _compat

MAX_KEPT: Final = 1024
"""Number of steps whose trackers are kept."""
ATOMS: Final = frozenset({str, bytes, int, bool, NoneType})
"""Types of values that are alike if they are equal."""


def tracker_of(step: str, code: Any, home: str, semantics: StepConfiguration, released: tuple[str, ...]) -> CodeTracker:
    """Return a tracker of a step's code; `CodeTracker` explains the arguments."""
    function, ignored = _function_of(code), semantics.ignore_settings
    how: dict[str, Any] = {"packages": semantics.packages, "released": released, "ignore_settings": ignored}
    kept = [] if function is None else _kept(function, step, home, *how.values())
    if kept and _are_alike(code, kept[0].function):
        return _Shared(kept[0], code, module=home, **how)
    # Only the latest is kept, so a function that is wrapped in several ways in turn is walked each time.
    kept[:] = [CodeTracker(code, module=home, **how)]
    return kept[0]


class _Shared(CodeTracker):
    """A tracker that answers what another tracker does, as long as the code of both is alike."""

    def __init__(self, other: CodeTracker, code: Any, **how: Any) -> None:
        super().__init__(code, **how)
        self._other = other

    def current(self) -> Fingerprint:
        other = self._other
        return other.current() if _are_alike(self.function, other.function) else super().current()

    def learn_state(self, code: Fingerprint, parts: Collection[str]) -> None:
        super().learn_state(code, parts)
        self._other.learn_state(code, parts)

    def learn_own_values(self, before: Fingerprint, after: Fingerprint) -> None:
        super().learn_own_values(before, after)
        self._other.learn_own_values(before, after)


@lru_cache(MAX_KEPT)
def _kept(*_key: object) -> list[CodeTracker]:
    """Return the list that holds the tracker which is kept for a function and a step."""
    return []


def _function_of(code: Any) -> FunctionType | None:
    """Return the function of a node or tool that a module holds; a tracker that is kept keeps no other one alive."""
    if type(code) not in (_compat.RunnableCallable, StructuredTool):
        return None
    function = code.func if code.func is not None else getattr(code, "afunc", None) or getattr(code, "coroutine", None)
    if type(function) is not FunctionType:
        return None
    module = find_module(str(function.__module__))
    held = None if module is None else vars(module).get(function.__qualname__)
    return function if held is function or held is code else None


def _are_alike(one: Any, other: Any) -> bool:
    """Tell whether two nodes have the same fields, so that a walk finds the same in both."""
    return _is_alike(fields_of(one), fields_of(other))


def _is_alike(one: Any, other: Any) -> bool:
    kind = type(one)
    if one is other:
        return True
    if kind is not type(other):
        return False
    if kind in ATOMS:
        return bool(one == other)
    if kind is tuple or kind is list:
        return len(one) == len(other) and all(map(_is_alike, one, other))
    if kind is dict:
        return len(one) == len(other) and all(map(_is_alike, one.items(), other.items()))
    if kind is partial:
        return all(map(_is_alike, _made_of(one), _made_of(other)))
    return False


def _made_of(function: partial[Any]) -> tuple[object, ...]:
    return function.func, function.args, function.keywords, fields_of(function)
