"""Run a step in the mode `off`: its function runs without Musubito. The id of its `MusubitoResult` shows that.

A recorded step around it must not be replayed: a result that ran unrecorded can neither expire there nor be
invalidated.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from musubito.engine.frame import Dependencies
from musubito.engine.scope import SCOPE, in_scope
from musubito.model import UNSTORABLE, MusubitoResult

T = TypeVar("T")


def run_unrecorded(step: str, function: Callable[[], T]) -> MusubitoResult[T]:
    """Call the function of a step and return its value."""
    with _without_merge_context():
        return result_of(step, function())


async def run_unrecorded_async(step: str, function: Callable[[], Awaitable[T]]) -> MusubitoResult[T]:
    """Await the function of a step and return its value."""
    with _without_merge_context():
        return result_of(step, await function())


def result_of(step: str, value: T) -> MusubitoResult[T]:
    """Return the value of a step under ids that never repeat, so that nothing built on it is replayed."""
    node_id = os.urandom(32).hex()
    return MusubitoResult(value, UNSTORABLE + uuid.uuid4().hex, node_id, node_id, step)


def ran_unrecorded() -> None:
    """Mark the recorded step that is open here, if there is one, as never replayed."""
    frame = SCOPE.get().frame
    if frame is not None:
        frame.absorb(Dependencies((), (), None, None, "a call inside it ran unrecorded", samples=False))


def _without_merge_context() -> AbstractContextManager[None]:
    """Run the block without the merge context around it, which does not reach into a step's body."""
    ran_unrecorded()
    return in_scope(SCOPE.get()._replace(parents=None))
