"""Read the user's checkpoints and caches without writing to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.cache.base import BaseCache
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver

from musubito_langgraph import _graph_parts, _task_config


class OverlaySaver(InMemorySaver):
    """A saver that goes on from another saver's checkpoints, and keeps its own apart."""

    def __init__(self, behind: BaseCheckpointSaver[Any], pending: dict[str, list[str]]) -> None:
        """Make a saver; `pending` collects what was written already, by the place of an invocation.

        It holds the channels that are written there, and the nodes that a `Send` goes to.
        """
        super().__init__(serde=behind.serde)
        self._behind = behind
        self._pending = pending

    def get_next_version(self, current: Any, channel: None) -> Any:
        """Return the next version as the other saver makes it."""
        return self._behind.get_next_version(current, channel)

    def get_tuple(self, config: RunnableConfig) -> Any:
        """Return a checkpoint of its own, else the other saver's checkpoint."""
        checkpoint = super().get_tuple(config)
        if checkpoint is None and not _graph_parts.has_no_tables(self._behind):
            checkpoint = self._behind.get_tuple(config)
            if checkpoint is not None:
                place = str(config["configurable"].get("checkpoint_ns", ""))
                writes = [(channel, value) for _, channel, value in checkpoint.pending_writes or ()]
                self._pending[place] = [channel for channel, _ in writes] + _task_config.sends_in(writes)
        return checkpoint

    def put(self, config: RunnableConfig, checkpoint: Any, metadata: Any, new_versions: Any) -> RunnableConfig:
        """Store a whole checkpoint, since the other saver's older parts are not stored here."""
        return super().put(config, checkpoint, metadata, dict(checkpoint["channel_versions"]))


class OnlyRead(InMemoryCache[Any]):
    """A view of LangGraph's cache: what the plan adds stays in the view, and is never found."""

    def __init__(self, behind: BaseCache[Any]) -> None:
        super().__init__(serde=behind.serde)
        self._behind = behind

    def get(self, keys: Sequence[Any]) -> dict[Any, Any]:
        """Return what the cache holds for these keys."""
        return self._behind.get(keys)
