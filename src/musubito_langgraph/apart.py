"""What the user keeps, as what only looks may use it: checkpoints and caches that are read, and not written to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.cache.base import BaseCache
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver

from musubito_langgraph import _compat

__all__ = ["Apart", "OnlyRead"]


class Apart(InMemorySaver):
    """Goes on from another saver's checkpoints, and keeps its own for itself."""

    def __init__(self, behind: BaseCheckpointSaver[Any], pending: dict[str, list[str]]) -> None:
        """`pending` takes, by place of an invocation, the channels that are written there already, and the nodes that
        are sent to."""
        super().__init__(serde=behind.serde)
        self._behind = behind
        self._pending = pending

    @property
    def config_specs(self) -> list[Any]:
        """The other's."""
        return self._behind.config_specs

    def get_next_version(self, current: Any, channel: None) -> Any:
        """The other's."""
        return self._behind.get_next_version(current, channel)

    def get_tuple(self, config: RunnableConfig) -> Any:
        """Its own, else the other's."""
        found = super().get_tuple(config)
        if found is None and not _compat.has_no_tables(self._behind):
            found = self._behind.get_tuple(config)
            if found is not None:
                place = str(config["configurable"].get("checkpoint_ns", ""))
                writes = [(channel, value) for _, channel, value in found.pending_writes or ()]
                self._pending[place] = [channel for channel, _ in writes] + _compat.sends_in(writes)
        return found

    def list(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Its own, and the other's."""
        yield from super().list(*args, **kwargs)
        if not _compat.has_no_tables(self._behind):
            yield from self._behind.list(*args, **kwargs)

    def put(self, config: RunnableConfig, checkpoint: Any, metadata: Any, new_versions: Any) -> RunnableConfig:
        """A whole checkpoint: the other does not have the parts of it that are older."""
        return super().put(config, checkpoint, metadata, dict(checkpoint["channel_versions"]))


class OnlyRead(BaseCache[Any]):
    """LangGraph's cache, to which nothing is added."""

    def __init__(self, behind: BaseCache[Any]) -> None:
        super().__init__(serde=behind.serde)
        self._behind = behind

    def get(self, keys: Sequence[Any]) -> dict[Any, Any]:
        """What is there."""
        return self._behind.get(keys)

    async def aget(self, keys: Sequence[Any]) -> dict[Any, Any]:
        """What is there."""
        return await self._behind.aget(keys)

    def set(self, pairs: Mapping[Any, Any]) -> None:
        """Nothing."""

    async def aset(self, pairs: Mapping[Any, Any]) -> None:
        """Nothing."""

    def clear(self, namespaces: Sequence[Any] | None = None) -> None:
        """Nothing."""

    async def aclear(self, namespaces: Sequence[Any] | None = None) -> None:
        """Nothing."""
