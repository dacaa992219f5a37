"""What LangChain's and LangGraph's objects amount to as code.

They count by their fields: functions with all that they reach, bound models with their parameters and tools, prompts,
middleware, the nodes and edges of a graph. Credentials, clients, callbacks and caches do not count, nor what only says
how often something is tried or who watches it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection
from types import FunctionType, MethodType
from typing import Any, Final

from langchain_core.caches import BaseCache
from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableLambda, RunnableSequence
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.tools import BaseTool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.store.base import BaseStore

from musubito.adapter import register_kind
from musubito_langgraph import _compat
from musubito_langgraph.messages import is_random

__all__ = ["all_fields", "is_credential", "module_of"]

FRAMEWORKS: Final = ("langchain", "langgraph", "langsmith", "musubito")
CREDENTIALS: Final = (
    "api_key",
    "apikey",
    "api_token",
    "access_token",
    "auth_token",
    "password",
    "secret",
    "secret_key",
    "secret_access_key",
    "credentials",
)
WATCHED_BY: Final = frozenset({"callbacks", "callback_manager", "tags", "metadata", "verbose", "cache", "rate_limiter"})
OF_A_NODE: Final = frozenset(
    {"retry_policy", "cache_policy", "timeout", "tags", "metadata", "trace_policy", "flat_writers", "node"}
    | {"input_cache_key"}
)
OF_A_GRAPH: Final = frozenset(
    {"checkpointer", "store", "cache", "cache_policy", "retry_policy", "step_timeout", "stream_mode", "stream_eager"}
    | {"stream_transformers", "debug", "config", "builder", "name", "schema_to_mapper", "trigger_to_nodes"}
    | {"_serde_allowlist", "_output_mapper", "_state_mapper", "__orig_class__"}
)


def all_fields(value: Any) -> Collection[str]:
    """The names of the fields of any object."""
    slots = (slot for cls in type(value).__mro__ for slot in vars(cls).get("__slots__", ()))
    return {*getattr(value, "__dict__", ()), *slots}


def _of_runnable(value: Any) -> set[str]:
    """Who watches it, what it authenticates with, and what it says itself that it must not be told apart by."""
    declared: dict[str, Any] = getattr(type(value), "__pydantic_fields__", {})
    left_out = {name for name, field in declared.items() if getattr(field, "exclude", None)} | WATCHED_BY
    left_out |= {name for name in (*declared, *getattr(value, "__dict__", ())) if is_credential(name)}
    return left_out


def is_credential(name: str) -> bool:
    """Whether what is called so is not to be told to anybody."""
    name = re.sub(r"\W", "_", name.lower())
    return any(name == word or name.endswith(f"_{word}") for word in CREDENTIALS)


def _of_model(value: Any) -> set[str]:
    # LangChain's fake models count in `i` how often they have answered.
    module = type(value).__module__
    return _of_runnable(value) | ({"i"} if module.startswith("langchain_core.language_models.fake") else set())


def _of_message(value: Any) -> set[str]:
    # Whoever is given a message that the code holds may give it an id: to have a random one or none is the same.
    return {"id"} if value.id is None or is_random(value.id) else set()


def _of_binding(value: Any) -> set[str]:
    return _of_runnable(value) | {"config", "custom_input_type", "custom_output_type"}


def _configured(value: Any) -> object:
    """What a binding says in its config, without who watches it."""
    return {"configurable": {key: repr(each) for key, each in (value.config.get("configurable") or {}).items()}}


def _schema(tool: Any) -> object:
    """What a model is told about a tool: it is made of annotations, which do not count as code."""
    schema = tool.tool_call_schema
    return schema if isinstance(schema, dict) else schema.model_json_schema()


def _remembers(graph: Any) -> bool:
    return graph.checkpointer not in (None, False) or graph.store is not None


register_kind(Runnable, _of_runnable)
register_kind(BaseLanguageModel, _of_model)
register_kind(BaseMessage, _of_message)
register_kind(RunnableBindingBase, _of_binding, _configured)
register_kind(BaseTool, _of_runnable, _schema)
register_kind(_compat.Pregel, lambda _value: OF_A_GRAPH, remembers=_remembers)
register_kind(_compat.PregelNode, lambda _value: OF_A_NODE)
register_kind(_compat.BaseChannel)
for watcher in (BaseCache, BaseCallbackHandler, BaseCallbackManager):
    register_kind(watcher, all_fields)
for memory in (BaseCheckpointSaver, BaseStore):
    register_kind(memory, all_fields, remembers=lambda _value: True)


def module_of(code: Any) -> str:
    """The module in which the user's code begins that this Runnable runs; empty if it cannot be said, or if it is a
    framework's."""
    while True:
        if isinstance(code, RunnableSequence | _compat.RunnableSeq):
            code = code.steps[0]
        elif _compat.is_tool_node(code):
            code = next(iter(_compat.tools_of(code).values()), None)
        elif isinstance(code, _compat.RunnableCallable | RunnableLambda):
            code = getattr(code, "func", None) or getattr(code, "afunc", None)
        elif isinstance(code, functools.partial):
            code = code.func
        elif isinstance(code, MethodType):
            code = code.__func__
        elif isinstance(code, BaseTool):
            code = getattr(code, "func", None) or getattr(code, "coroutine", None) or type(code)
        else:
            break
    module = code.__module__ if isinstance(code, FunctionType | type) else type(code).__module__
    return "" if str(module).startswith(FRAMEWORKS) else str(module)
