"""Keep what a graph writes in a rerun apart from the user's checkpoints, store and cache."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.store.base import BaseStore, GetOp, PutOp
from langgraph.store.memory import InMemoryStore

from musubito_langgraph.planning.checkpoint_overlay import OverlaySaver


def shielded(graph: Any) -> Any:
    """Return a copy of a graph that reads the user's checkpoints and store, writes to neither, and has no cache."""
    graph = copy.copy(graph)
    graph.cache = None
    if isinstance(graph.checkpointer, BaseCheckpointSaver):
        graph.checkpointer = OverlaySaver(graph.checkpointer, {})
    if graph.store is not None:
        graph.store = ShieldedStore(graph.store)
    return graph


class ShieldedStore(BaseStore):
    """A store that keeps what is written apart: it reads from another, and finds by key what was written here."""

    __slots__ = ("_behind", "_own_keys", "_written")

    def __init__(self, behind: BaseStore) -> None:
        self._behind = behind
        self._written = InMemoryStore()
        self._own_keys: set[tuple[tuple[str, ...], str]] = set()

    def batch(self, ops: Iterable[Any]) -> list[Any]:
        """Do these operations; a search does not find what was written here."""
        return [self._own(op) if self._is_own(op) else self._behind.batch([op])[0] for op in ops]

    async def abatch(self, ops: Iterable[Any]) -> list[Any]:
        """Do these operations as `batch` does."""
        return [self._own(op) if self._is_own(op) else (await self._behind.abatch([op]))[0] for op in ops]

    def _is_own(self, op: Any) -> bool:
        if isinstance(op, PutOp):
            self._own_keys.add((op.namespace, op.key))
        return isinstance(op, PutOp | GetOp) and (op.namespace, op.key) in self._own_keys

    def _own(self, op: Any) -> Any:
        return self._written.batch([op])[0]
