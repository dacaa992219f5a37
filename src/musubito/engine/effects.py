"""What the protocol asks of whoever drives it.

The protocol is a generator that yields these and never blocks; a driver performs each and sends the answer back. A
store's fault is thrown into the generator. What the user's function did travels as a value, `Returned` or `Raised`:
thrown into a generator, a `StopIteration` would turn into a `RuntimeError`.

NamedTuples and no dataclasses: one or more is made on every replay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from musubito.engine.context import Frame, Scope
from musubito.store.base import Change, Claim, Distant, Keys, Query

__all__ = [
    "Aside",
    "Effect",
    "Find",
    "Invoke",
    "Join",
    "Newest",
    "NewestOrClaim",
    "Pause",
    "Probe",
    "Raised",
    "Returned",
    "Write",
]

T = TypeVar("T")


class Newest(NamedTuple):
    """The hot read -> Found | None."""

    keys: Keys
    namespace: str


class NewestOrClaim(NamedTuple):
    """The hot read of a store that is far away -> Found | Claimed | None. Once begun it is finished, even if the caller
    is cancelled."""

    store: Distant
    claim: Claim
    namespace: str


class Find(NamedTuple):
    """Any other read -> what the query's class names."""

    query: Query


class Write(NamedTuple):
    """One change -> its answer. Once begun it is finished, even if the caller is cancelled."""

    change: Change


class Invoke(NamedTuple):
    """The user's function, run in this scope -> Returned | Raised."""

    function: Callable[[], Any]
    scope: Scope


class Probe(NamedTuple):
    """A question to the adapter that may block or be awaitable -> Returned | Raised."""

    function: Callable[[], Any]


class Aside(NamedTuple):
    """Work that takes long or touches files -> what the function gives. Once begun it is finished, even if the caller
    is cancelled; what it raises is thrown in."""

    function: Callable[[], Any]


class Join(NamedTuple):
    """Begin the flight of this key, or wait until whoever has begun it lands -> Start | Landed."""

    key: bytes
    frame: Frame


class Pause(NamedTuple):
    """Some seconds -> None."""

    seconds: float


Effect: TypeAlias = Newest | NewestOrClaim | Find | Write | Invoke | Probe | Aside | Join | Pause


@dataclass(frozen=True, slots=True)
class Returned(Generic[T]):
    """The function came back with this."""

    value: T


@dataclass(frozen=True, slots=True)
class Raised:
    """The function raised this."""

    error: BaseException
