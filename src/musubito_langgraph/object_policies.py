"""Say which parts of LangChain's and LangGraph's objects count as code.

These objects count by their fields:

- functions, with all that they reach
- bound models, with their parameters and tools
- prompts and middleware
- the nodes and edges of a graph
- values that are bound with `with_config`

Credentials, clients, callbacks and caches do not count. Neither do fields that only say how often something is tried,
or who watches it.

Such fields are known only in classes of other packages. A field that a class of the user's declares or sets itself
counts, whatever its name. There is one exception: in a model, a field whose name looks like a credential is taken for
one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final

from langchain_core.caches import BaseCache
from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages import BaseMessage
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.configurable import DynamicRunnable
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.tools import BaseTool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.store.base import BaseStore

from musubito import EncodingError
from musubito.adapter import Fingerprint, Shown, register_display, register_policy
from musubito.code.client_settings import counts
from musubito.code.ownership import Owner, Owners
from musubito.values.canonical import canonical
from musubito_langgraph import _compat, _graph_parts
from musubito_langgraph.message_ids.random_ids import is_random
from musubito_langgraph.message_walk import messages_in
from musubito_langgraph.settings import KEY, VOLATILE

if TYPE_CHECKING:
    from musubito.code.policies import Reach

MAX_NAMES: Final = 4096
"""Number of names of fields for which it is kept whether they are credentials."""
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
"""Names of fields that hold credentials, or the last words of such names."""
WATCHED_BY: Final = frozenset({"callbacks", "callback_manager", "rate_limiter"})
"""Fields of packages' classes that hold observers or limits, which decide nothing."""
IF_READ: Final = frozenset({"tags", "metadata", "verbose", "cache"})
"""Fields of LangChain's classes for observers. They count only if code reads an attribute of that name."""
READ_BY_OTHERS: Final = frozenset({"profile", "custom_get_token_ids"})
"""Fields that models exclude from their own description, and that middleware reads."""
OF_A_CONFIG: Final = frozenset(
    {"config.callbacks", "config.run_name", "config.run_id", "config.max_concurrency"}
    | {f"config.configurable.{KEY}", f"config.metadata.{KEY}"}
)
"""Parts of a bound config that say who watches, and how."""
LISTENS: Final = re.compile(r"\bwith_a?listeners\b")
"""Pattern of the names of functions that make callbacks for listeners. Listeners decide nothing, and may collect what
they hear."""
ADDED: Final = ("ls_", "lc_", "langgraph_", "checkpoint_", "musubito")
"""Prefixes of the metadata that frameworks add."""
TOOLS_NAME: Final = "tools"
"""The name of a node of tools that nobody has named."""
OFFERED: Final = frozenset({"tool", "tools", "tools_by_name"})
"""Attributes with which code reaches tools that it does not hold."""
RUNS: Final = frozenset(
    {"invoke", "ainvoke", "run", "arun", "_run", "_arun", "func", "coroutine"}
    | {"batch", "abatch", "batch_as_completed", "abatch_as_completed", "stream", "astream", "transform", "atransform"}
)
"""Attributes with which code runs a tool."""
OF_A_NODE: Final = frozenset(
    {"retry_policy", "cache_policy", "timeout", "tags", "metadata", "trace_policy", "flat_writers", "node"}
    | {"input_cache_key"}
)
"""Fields of a node that do not count as code."""
OF_A_GRAPH: Final = frozenset(
    {"checkpointer", "store", "cache", "cache_policy", "retry_policy", "step_timeout", "stream_mode", "stream_eager"}
    | {"stream_transformers", "debug", "builder", "name", "schema_to_mapper", "trigger_to_nodes"}
    | {"_serde_allowlist", "_output_mapper", "_state_mapper", "__orig_class__"}
)
"""Fields of a graph that do not count as code."""


def all_fields(value: Any, _walk: Reach) -> Collection[str]:
    """Return the names of the fields of any object."""
    slots = (slot for cls in type(value).__mro__ for slot in vars(cls).get("__slots__", ()))
    return {*getattr(value, "__dict__", ()), *slots}


def of_runnable(value: Any, walk: Reach) -> set[str]:
    """Return the fields of a Runnable that do not count.

    These hold its observers and its credentials. Fields that the Runnable itself excludes are left out, too.
    """
    fields: dict[str, Any] = getattr(value, "__dict__", {})
    cls: type = type(value)
    others, excluded, never = _of_class(walk.origins, cls)
    # A field that is excluded and empty is a place for a client.
    left_out = never | {name for name in excluded if fields.get(name) is None or not is_data(fields[name])}
    if cls in others:
        left_out |= {name for name in fields if is_credential(name)} | (IF_READ - walk.mentions(IF_READ))
        # The arguments of a model that is chosen for each call.
        left_out |= {f"_default_config.{name}" for name in fields.get("_default_config") or () if is_credential(name)}
    if isinstance(value, RunnableLambda):
        left_out.add("_repr")  # LangChain sets it when it is first printed
    return left_out


@lru_cache(MAX_NAMES)
def _of_class(origins: Owners, cls: type) -> tuple[list[type], set[str], set[str]]:
    """Return the classes of packages in the MRO of `cls`, the fields that they exclude, and those that never count."""
    others = [base for base in reversed(cls.__mro__) if origins.of_class(base) is not Owner.USER]
    declared = {name: field for base in others for name, field in vars(base).get("__pydantic_fields__", {}).items()}
    excluded = {name for name, field in declared.items() if field.exclude} - READ_BY_OTHERS - IF_READ
    never = {name for name in declared if name in WATCHED_BY or is_credential(name)}
    # A property that LangChain's own classes compute when it is first read says no more than the other fields.
    never |= {name for base in others for name, member in vars(base).items() if isinstance(member, cached_property)}
    return others, excluded, never


def _of_watcher(value: Any, walk: Reach) -> set[str]:
    # An observer decides nothing. But code may decide by a field of the observer that the code names.
    fields = set(all_fields(value, walk))
    return fields - walk.mentions(fields)


def is_data(value: object) -> bool:
    """Tell whether a value is data, and not an object such as a client."""
    try:
        canonical(value)
    except EncodingError:
        return False
    return True


@lru_cache(MAX_NAMES)
def is_credential(name: str) -> bool:
    """Tell whether a field of this name holds a secret that must not be shown."""
    name = re.sub(r"\W", "_", name.lower())
    return any(name == word or name.endswith(f"_{word}") for word in CREDENTIALS)


def _of_model(value: Any, walk: Reach) -> set[str]:
    cls: type = type(value)
    fields: Mapping[str, Any] = vars(cls)["__pydantic_fields__"]
    left_out = of_runnable(value, walk) | {name for name in fields if is_credential(name)}
    others, _, _ = _of_class(walk.origins, cls)
    declared = {name for base in others for name in vars(base).get("__pydantic_fields__", ())}
    left_out |= {name for name in declared if not counts(walk, name, fields[name].alias or name)}
    # LangChain's fake models count their answers in `i`, which changes with each call.
    return left_out | {"i"} if _is_fake(value) else left_out


def _is_fake(model: Any) -> bool:
    return any(cls.__module__.startswith("langchain_core.language_models.fake") for cls in type(model).__mro__)


def _never(_value: Any) -> bool:
    """Return False: such an object has no memory, but has to be registered as if it had one.

    Only then a fingerprint names it (see `held_messages` and `may_run_tools`).
    """
    return False


def _of_message(value: Any, _walk: Reach) -> set[str]:
    # Code that is given a held message may set its id: a random id and no id have to be the same.
    return {"id"} if value.id is None or is_random(value.id) else set()


def _is_chosen_by_run(value: Any) -> bool:
    ids = {spec.id for spec in value.config_specs}
    return any(name in VOLATILE or name.startswith("__") for name in ids)


def may_run_tools(code: Fingerprint) -> bool:
    """Return whether code holds tools for more than to show them."""
    return any(isinstance(thing, BaseTool) for thing in code.met)


def held_messages(code: Fingerprint) -> Collection[int]:
    """Return the `id()` of each message that the code holds and that has no id, or a random id.

    The answers of LangChain's fake models are left out, since each stands for a new message.
    """
    ids = {id(thing) for thing in code.met if isinstance(thing, BaseMessage) and (not thing.id or is_random(thing.id))}
    if ids:
        fakes = (vars(thing) for thing in code.met if isinstance(thing, BaseLanguageModel) and _is_fake(thing))
        ids -= {id(message) for fields in fakes for message in messages_in(fields)}
    return ids


def _of_binding(value: Any, walk: Reach) -> set[str]:
    left_out = of_runnable(value, walk) | _of_config(value.config) | {"custom_input_type", "custom_output_type"}
    if _bound_tools(value) is not None:
        left_out.add("kwargs.tools")
    if all(LISTENS.search(getattr(factory, "__qualname__", "")) for factory in value.config_factories):
        left_out.add("config_factories")
    return left_out


def _bound_tools(value: Any) -> object:
    """Return the tools that a model is shown, sorted; None if they are no plain data."""
    return in_any_order(value.kwargs.get("tools"))


def in_any_order(tools: Any) -> list[Any] | None:
    """Return tools, sorted; None if they are no plain data.

    The order in which tools are bound is often the order of a set, which differs between processes.
    """
    return sorted(tools, key=canonical) if isinstance(tools, list) and is_data(tools) else None


def _of_callable(value: Any, walk: Reach) -> set[str]:
    """Return the fields of a function that LangGraph calls that do not count.

    The async version that LangGraph makes of a sync function only hands it to a thread.
    """
    left_out = of_runnable(value, walk)
    is_made = all(function is not value.afunc for function in _graph_parts.functions_of(value))
    return left_out | {"afunc"} if is_made else left_out


def _of_middleware(value: Any, walk: Reach) -> set[str]:
    if any(base.__module__.startswith("langchain.agents.middleware.") for base in type(value).__mro__[:-3]):
        return set()
    # It may run the tools that it was given itself.
    fields = set(all_fields(value, walk)) - {"_tools"}
    return fields - walk.mentions(fields)


def _of_config(config: Any) -> frozenset[str]:
    """Return the parts of a bound config that do not count: those for observers, and those that frameworks add."""
    metadata = (config or {}).get("metadata") or ()
    return OF_A_CONFIG | {f"config.metadata.{key}" for key in metadata if str(key).startswith(ADDED)}


def _schema(tool: Any) -> object:
    """Return the schema that a model is told of a tool; it is made of annotations, which do not count as code."""
    schema = tool.tool_call_schema
    return schema if isinstance(schema, dict) else schema.model_json_schema()


def _tool_shown(tool: Any, walk: Reach) -> Shown | None:
    """Return what a model is told about a tool, and what decides where the tool's answer goes.

    User's code may run a tool that a model is offered if it names the tools of something, and a way to run a tool, or
    gets at fields without their names. So may a model of the user's that is given tools. Then return None.
    """
    if walk.reads_fields() or (walk.mentions(OFFERED) and walk.mentions(RUNS)):
        return None
    extras = getattr(tool, "extras", None)  # since langchain-core 1.1
    return Shown([tool.name, tool.description, tool.return_direct, extras, _schema(tool)], {})


def _tools_shown(node: Any, _walk: Reach) -> Shown | None:
    if not _graph_parts.is_tool_node(node):
        return None
    return Shown(None if node.name == TOOLS_NAME else node.name, node.tools_by_name)


register_policy(Runnable, of_runnable)
register_policy(BaseLanguageModel, _of_model, remembers=_never)
register_policy(BaseMessage, _of_message, remembers=_never)
register_policy(RunnableBindingBase, _of_binding, _bound_tools)
register_policy(RunnableWithMessageHistory, _of_binding, remembers=lambda _value: True)
# A Runnable may be chosen by the thread, which differs from run to run.
register_policy(
    DynamicRunnable,
    lambda value, walk: of_runnable(value, walk) | _of_config(value.config),
    remembers=_is_chosen_by_run,
)
register_policy(BaseTool, of_runnable, _schema, _never, shows=_tool_shown)
register_policy(_compat.RunnableCallable, _of_callable, shows=_tools_shown)
register_display(
    modules=("langchain.agents", "langgraph.prebuilt.chat_agent_executor"),
    # The middleware there holds the tools of sub-agents, and the function of its own tool runs them. Other middlewares
    # of deepagents run the tools that they hold.
    holders={"deepagents.middleware.subagents": ("_subagents",)},
    methods=("bind_tools",),
    fields=("name", "description"),
)
register_policy(("langchain.agents.middleware.types", "AgentMiddleware"), _of_middleware)
register_policy(
    _compat.Pregel,
    lambda graph, _walk: OF_A_GRAPH | _of_config(graph.config),
    remembers=lambda graph: graph.checkpointer not in (None, False) or graph.store is not None,
)
register_policy(_compat.PregelNode, lambda _value, _walk: OF_A_NODE)
register_policy(_compat.BaseChannel)
for watcher in (BaseCache, BaseCallbackHandler, BaseCallbackManager, BaseRateLimiter):
    register_policy(watcher, _of_watcher)
for memory in (BaseCheckpointSaver, BaseStore):
    register_policy(memory, all_fields, remembers=lambda _value: True)
