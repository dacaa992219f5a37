"""Report damaged rows to readers as a `LineageError`.

A damaged database returns text in place of numbers, or lacks rows. If a reader stumbles over such a row, the store is
asked whether its rows are sound (see `musubito.store.corruption`). If a row is damaged, the error says so. Otherwise
the error is a bug and is raised as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from musubito.errors import MusubitoError
from musubito.lineage.reports import LineageError
from musubito.store.corruption import STUMBLES

P = ParamSpec("P")
T = TypeVar("T")


def binary(value: object) -> bytes:
    """Return an id as bytes.

    Raises `LineageError` for another type: `bytes(5)` would be five zeros.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise LineageError(f"what is stored cannot be read ({value!r:.50} is no id); see 'musubito verify'")


def reports_damage(function: Callable[P, T]) -> Callable[P, T]:
    """Wrap a function that takes a `Lineage` first: its errors from damaged rows become `LineageError`."""

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except MusubitoError:
            raise
        except STUMBLES as error:
            lineage: Any = args[0]
            problem = lineage.damage()
            if problem is None:
                raise
            raise LineageError(f"what is stored cannot be read ({problem}); see 'musubito verify'") from error

    return guarded
