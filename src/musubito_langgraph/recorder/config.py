"""Read and change the callbacks, tags and metadata of a config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.runnables import RunnableConfig, ensure_config

from musubito_langgraph import _task_config
from musubito_langgraph.object_policies import is_credential, is_data
from musubito_langgraph.recorder import event_kinds as kinds


def metadata_in(config: RunnableConfig) -> dict[str, Any]:
    """Return the metadata that a model reports when it is invoked with this config.

    LangChain adds to them what is configured.
    """
    callbacks = config.get("callbacks")
    inherited = callbacks.inheritable_metadata if isinstance(callbacks, BaseCallbackManager) else {}
    return {**inherited, **ensure_config(config)["metadata"]}


def metadata_besides(
    metadata: Mapping[str, Any], config: RunnableConfig, around: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Yield the metadata of a run that differ from the metadata `around` it."""
    here = _task_config.checkpoint_ns_in(config)
    for key, value in metadata.items():
        # Older versions of LangChain put the whole configuration into the metadata, and keys of services with it.
        if (key in around and around[key] == value) or is_credential(key):
            continue
        if key in kinds.NESTED:
            if here and str(value).startswith(here):
                yield key, value.removeprefix(here)
        elif is_data(value):
            yield key, value


def parent_in(config: RunnableConfig) -> UUID | None:
    """Return the run that becomes the parent of what is invoked with this config."""
    callbacks = config.get("callbacks")
    return callbacks.parent_run_id if isinstance(callbacks, BaseCallbackManager) else None


def inherited_tags(config: RunnableConfig) -> list[str]:
    """Return the tags that everything inherits that runs with this config, at any depth."""
    callbacks = config.get("callbacks")
    inherited = callbacks.inheritable_tags if isinstance(callbacks, BaseCallbackManager) else []
    return list(dict.fromkeys((*inherited, *(config.get("tags") or ()))))


def handlers(config: RunnableConfig) -> Sequence[BaseCallbackHandler]:
    """Return the handlers that are told of what runs with this config."""
    callbacks = config.get("callbacks")
    return callbacks.handlers if isinstance(callbacks, BaseCallbackManager) else callbacks or ()


def with_handler(callbacks: Any, handler: BaseCallbackHandler) -> Any:
    """Return the callbacks of a config with one handler more, which what runs inside inherits."""
    if isinstance(callbacks, BaseCallbackManager):
        manager = callbacks.copy()
        manager.add_handler(handler, inherit=True)
        return manager
    return [*(callbacks or ()), handler]
