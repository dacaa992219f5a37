"""Know functions with `lru_cache` by the code that runs when their cache has no answer.

A wrapper leaves no frame, and it may have any name: an attribute, a factory's result. So the cached functions that a
step's code reaches are recognised by the code that runs below them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import _lru_cache_wrapper
from types import CodeType
from typing import Any, Final
from weakref import WeakKeyDictionary

from musubito.code.live import function_below

KNOWN_CODE: Final[set[CodeType]] = set()
"""The code below every cached function that was ever known."""
_known: Final[WeakKeyDictionary[_lru_cache_wrapper[Any], CodeType]] = WeakKeyDictionary()
"""The cached functions that are known, each with the code below it."""


def know(cached: _lru_cache_wrapper[Any]) -> None:
    """Know a function with a cache from now on, as long as it lives."""
    if cached not in _known:
        code = code_below(cached.__wrapped__)
        if code is not None:
            _known[cached] = code
            KNOWN_CODE.add(code)


def cached_functions() -> Iterator[tuple[_lru_cache_wrapper[Any], CodeType]]:
    """Yield each known function with the code that runs below it."""
    # Asked first: the dict of weak references is slow, and most programs know no such function.
    return iter(list(_known.items()) if KNOWN_CODE else ())


def code_below(function: Any) -> CodeType | None:
    """Return the code that runs first when `function` is called, or None if it is not written in Python."""
    inner = function_below(getattr(function, "__init__", None) if isinstance(function, type) else function)
    return None if inner is None else inner.__code__
