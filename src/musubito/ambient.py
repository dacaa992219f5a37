"""For adapters of frameworks: what holds around steps without being an argument, and exceptions that steer.

A framework's context, configuration and store are inputs of every step that runs inside it, though no step is given
them as arguments. An adapter says so here, and the core does the rest: they enter the identity of every step in scope,
what was read is checked again before a replay, and what cannot be repeated makes every step that is open not
replayable.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from musubito.engine.context import SCOPE, Ambient, HandUp, add_control_flow
from musubito.store.base import Read

__all__ = ["Ambient", "add_control_flow", "ambient", "not_replayable", "note_read"]


@contextmanager
def ambient(around: Ambient) -> Iterator[None]:
    """Steps called inside have this around them, at any depth."""
    token = SCOPE.set(SCOPE.get()._replace(ambient=around))
    try:
        yield
    finally:
        SCOPE.reset(token)


def note_read(kind: str, key: str, digest: bytes | None) -> None:
    """The step that is open here read this besides its input (None: it was not there). Outside a step, nothing."""
    frame = SCOPE.get().frame
    if frame is not None:
        frame.take(HandUp((), (Read(kind, key, digest),), None, None, None, samples=False))


def not_replayable(why: str) -> None:
    """Every step that is open here did what a replay would not repeat. Outside a step, nothing."""
    frame = SCOPE.get().frame
    if frame is not None:
        frame.take(HandUp((), (), None, None, why, samples=False))
