"""What readers say of rows that hold what nobody has written there.

A damaged database gives text where numbers belong, or rows that are missing. What stumbles over such a one asks the
store whether its rows are sound: only one that is not is told as damage, and any other error is a bug (see
`musubito.store.damage`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, Protocol, TypeVar, runtime_checkable

from musubito.errors import MusubitoError
from musubito.lineage.records import LineageError
from musubito.store.damage import STUMBLES

__all__ = ["binary", "tells_damage"]

P = ParamSpec("P")
T = TypeVar("T")


@runtime_checkable
class _Reads(Protocol):
    """A `Lineage`."""

    def damage(self) -> str | None:
        """See `Readable.damage`."""


def binary(value: object) -> bytes:
    """An id as bytes. Of a number, `bytes` would make so many zeros."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise LineageError(f"what is stored cannot be read ({value!r:.50} is no id); see 'musubito verify'")


def tells_damage(function: Callable[P, T]) -> Callable[P, T]:
    """The same function, which is given a `Lineage`; what damaged rows make it raise is a `LineageError`."""

    @wraps(function)
    def told(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except MusubitoError:
            raise
        except STUMBLES as error:
            problem = next(each.damage() for each in args if isinstance(each, _Reads))
            if problem is None:
                raise
            raise LineageError(f"what is stored cannot be read ({problem}); see 'musubito verify'") from error

    return told
