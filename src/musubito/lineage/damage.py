"""What readers say of rows that hold what nobody has written there.

A damaged database gives text where numbers belong, or rows that are missing. To look at each value of each row as it is
read would be most of the reading code; what comes of such a one is an error of Python's, which is told as what it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from musubito.errors import MusubitoError
from musubito.lineage.records import LineageError

__all__ = ["binary", "tells_damage"]

P = ParamSpec("P")
T = TypeVar("T")
_DAMAGE = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError, OSError)
"""An OSError is what dates that no calendar has come to."""


def binary(value: object) -> bytes:
    """An id as bytes. Of a number, `bytes` would make so many zeros."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"{value!r:.50} is no id")


def tells_damage(function: Callable[P, T]) -> Callable[P, T]:
    """The same function; what damaged rows make it raise is a `LineageError`."""

    @wraps(function)
    def told(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except MusubitoError:
            raise
        except _DAMAGE as error:
            what = f"{type(error).__name__}: {error}"
            raise LineageError(f"what is stored cannot be read ({what}); see 'musubito verify'") from error

    return told
