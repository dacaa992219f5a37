"""Say where a call stands in its graph, and what it becomes in the lineage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from musubito import MusubitoEngine
from musubito.adapter import Run, Scope, SiblingOrder
from musubito_langgraph.graph_invocation import UpstreamRef, external


class CallSite(NamedTuple):
    """The place of a call in its graph.

    If `parents` is None, the arguments tell the parents. If `run` is None, the call belongs to the surrounding run.
    """

    parents: tuple[UpstreamRef, ...] | None = None
    run: Callable[[MusubitoEngine, Scope], Run] | None = None
    turn: Callable[[Callable[[Any], Any]], SiblingOrder | None] | None = None
    """The turn of a call among tasks that run side by side and whose counted inputs are equal."""
    is_released: bool = False
    """True if somebody's answer to an interrupt released the call."""
    is_live: bool = False
    """True if the call runs each time, as it calls a tool that does."""
    is_inner: bool = False
    """True if a step made the call by itself. Without an identity, the call is a part of that step."""


ANYWHERE: Final = CallSite()


class LineageOrigin:
    """The origin of a call in the lineage, as far as it is known. It holds nothing of the call itself."""

    __slots__ = ("node", "origin")

    def __init__(self) -> None:
        self.node: bytes | None = None
        self.origin: UpstreamRef | None = None

    def refs(self) -> tuple[UpstreamRef, ...]:
        """Return the origin, even if the call failed; nothing if it has none."""
        if self.origin is not None:
            return (self.origin,)
        if self.node is None:
            return ()
        node = self.node.hex()
        return (UpstreamRef(node, external(node).artifact),)
