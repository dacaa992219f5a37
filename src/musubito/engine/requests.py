"""Define the requests that a call makes of its driver.

The protocol is a generator that yields these requests and never blocks. A driver performs each request and sends the
answer back. A store's fault is thrown into the generator. The outcome of the user's function travels as a value,
`Returned` or `Raised`. If it were thrown into a generator, a `StopIteration` would turn into a `RuntimeError`.

The requests are NamedTuples and no dataclasses, because each replay makes one or more.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from musubito.engine.frame import Frame
from musubito.engine.scope import Scope
from musubito.store.changes import Change, Claim
from musubito.store.protocol import SupportsFetchOrClaim
from musubito.store.queries import Query
from musubito.store.rows import CallKeys

T = TypeVar("T")


class FetchLatest(NamedTuple):
    """Fetch the newest execution, as every replay does -> Candidate | None."""

    keys: CallKeys
    namespace: str


class FetchOrClaim(NamedTuple):
    """Fetch the newest execution of a store that is far away, or claim the result -> Candidate | Moment | None.

    Once begun, the request is finished even if the caller is cancelled.
    """

    store: SupportsFetchOrClaim
    claim: Claim
    namespace: str


class RunQuery(NamedTuple):
    """Make any other read -> the answer that the query's class names."""

    query: Query


class Write(NamedTuple):
    """Write one change -> its answer. Once begun, the write is finished even if the caller is cancelled."""

    change: Change


class Invoke(NamedTuple):
    """Call the user's function in this scope -> Returned | Raised."""

    function: Callable[[], Any]
    scope: Scope


class CheckDependency(NamedTuple):
    """Ask the adapter, which may block or return an awaitable -> Returned | Raised."""

    function: Callable[[], Any]


class Offload(NamedTuple):
    """Do work that takes long or touches files -> the function's value.

    Once begun, the work is finished even if the caller is cancelled. An error of the function is thrown in.
    """

    function: Callable[[], Any]


class Join(NamedTuple):
    """Begin the flight of this key, or wait until its present flight lands -> Start | Landed."""

    key: bytes
    frame: Frame


class Sleep(NamedTuple):
    """Wait some seconds -> None."""

    seconds: float


Request: TypeAlias = FetchLatest | FetchOrClaim | RunQuery | Write | Invoke | CheckDependency | Offload | Join | Sleep
CallSteps: TypeAlias = Generator[Request, Any, T]
"""A part of the protocol: it yields requests and returns a result."""


class Returned(NamedTuple, Generic[T]):
    """The value that the function returned."""

    value: T


class Raised(NamedTuple):
    """The error that the function raised."""

    error: BaseException
