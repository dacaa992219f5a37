"""Hold every private part of LangGraph and LangChain that the adapter relies on.

Besides it, only `_graph_parts` and `_task_config` touch a private part of them. This module checks the installed
LangGraph when it is imported. If the installed LangGraph does not fit, the import fails at once; otherwise the lineage
would be wrong later.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import fields
from functools import cache, partial, wraps
from importlib.metadata import version
from inspect import getclosurevars, isasyncgenfunction, iscoroutinefunction, unwrap
from itertools import islice
from types import FrameType, FunctionType
from typing import Any, Final

from musubito.deferred import loaded_class

__all__ = [
    "CONF",
    "CONFIG_KEY_CALL",
    "CONFIG_KEY_CHECKPOINTER",
    "CONFIG_KEY_CHECKPOINT_NS",
    "CONFIG_KEY_READ",
    "CONFIG_KEY_RESUME_MAP",
    "CONFIG_KEY_RESUMING",
    "CONFIG_KEY_RUNTIME",
    "CONFIG_KEY_SCRATCHPAD",
    "CONFIG_KEY_SEND",
    "CONFIG_KEY_STREAM",
    "CONFIG_KEY_TASK_ID",
    "DEFAULT_BOUND",
    "INTERRUPT",
    "MISSING",
    "PASSTHROUGH",
    "PREVIOUS",
    "PUSH",
    "RESUME",
    "SKIP_WRITE",
    "TASKS",
    "BaseChannel",
    "BranchSpec",
    "ChannelWrite",
    "ChannelWriteEntry",
    "ChannelWriteTupleEntry",
    "EmptyChannelError",
    "EphemeralValue",
    "GraphBubbleUp",
    "GraphRecursionError",
    "ParentCommand",
    "Pregel",
    "PregelNode",
    "PregelProtocol",
    "RunnableCallable",
    "RunnableSeq",
    "StreamMessagesHandler",
]
"""The names that are handed on from LangGraph; everything else is defined here."""

FITS: Final = "langgraph>=1.0,<2 with langchain-core>=1.0,<2"

try:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage, BaseMessageChunk
    from langchain_core.outputs import ChatGenerationChunk
    from langchain_core.runnables.config import var_child_runnable_config
    from langchain_core.tracers.context import _configure_hooks, tracing_v2_callback_var
    from langgraph._internal._constants import (
        CONF,
        CONFIG_KEY_CALL,
        CONFIG_KEY_CHECKPOINT_NS,
        CONFIG_KEY_CHECKPOINTER,
        CONFIG_KEY_READ,
        CONFIG_KEY_RESUME_MAP,
        CONFIG_KEY_RESUMING,
        CONFIG_KEY_RUNTIME,
        CONFIG_KEY_SCRATCHPAD,
        CONFIG_KEY_SEND,
        CONFIG_KEY_STREAM,
        CONFIG_KEY_TASK_ID,
        INTERRUPT,
        PREVIOUS,
        PUSH,
        RESUME,
        TASKS,
    )
    from langgraph._internal._runnable import RunnableCallable, RunnableSeq
    from langgraph._internal._scratchpad import PregelScratchpad
    from langgraph._internal._typing import MISSING
    from langgraph.channels.base import BaseChannel
    from langgraph.channels.ephemeral_value import EphemeralValue
    from langgraph.checkpoint.base import WRITES_IDX_MAP
    from langgraph.errors import EmptyChannelError, GraphBubbleUp, GraphRecursionError, ParentCommand
    from langgraph.graph._branch import BranchSpec
    from langgraph.graph.message import push_message
    from langgraph.pregel import Pregel
    from langgraph.pregel._messages import StreamMessagesHandler
    from langgraph.pregel._read import DEFAULT_BOUND, PregelNode
    from langgraph.pregel._write import (
        PASSTHROUGH,
        SKIP_WRITE,
        ChannelWrite,
        ChannelWriteEntry,
        ChannelWriteTupleEntry,
    )
    from langgraph.pregel.protocol import PregelProtocol
    from langgraph.runtime import Runtime
    from langsmith.run_helpers import tracing_context
except ImportError as error:
    raise ImportError(f"musubito_langgraph needs {FITS} (pip install 'musubito[langgraph]'): {error}") from error

READ: Final = CONFIG_KEY_READ
try:
    from langgraph.pregel._tools import StreamToolCallHandler
except ImportError:  # before LangGraph 1.2
    STREAM_HANDLERS: tuple[type, ...] = (StreamMessagesHandler,)
else:
    STREAM_HANDLERS = (StreamMessagesHandler, StreamToolCallHandler)
"""The classes of handlers with which LangGraph streams what models and tools do."""
try:
    from langchain_core.language_models._compat_bridge import chunks_to_events, message_to_events
    from langgraph.pregel._messages import StreamMessagesHandlerV2
except ImportError:  # before LangGraph 1.2
    IN_EVENTS: tuple[type, ...] = ()
else:
    IN_EVENTS = (StreamMessagesHandlerV2,)
"""The classes of those of them that are told a model's answer in events (`version="v3"`), and not in chunks."""

CONFIG_KEY_NODE_ERROR: Final = "__pregel_node_error"
"""Key of the error that an error handler is given. LangGraph sets the key since 1.2; no task of earlier versions has
it."""

APART: Final = -1_000
"""The number under which savers keep the lineage of a task."""
READS_STATE: Final = frozenset({"do_read", CONFIG_KEY_READ})
"""Names with which code reads channels, whatever input the code was given."""
BEGINS: Final = frozenset(unwrap(method).__code__ for method in (Pregel.stream, Pregel.astream))
"""Code objects that call the handlers of `on_chain_start` when a graph begins."""
BEGIN_CONFIGS: Final = frozenset(
    {"langchain_core.runnables.base", "langchain_core.runnables.branch", "langchain_core.runnables.fallbacks"}
    | {"langchain_core.tools.base", "langgraph._internal._runnable", "langgraph.pregel.main"}
)
"""Names of the modules whose functions call the handlers of `on_chain_start` and `on_tool_start`."""
FRAMES: Final = 9
"""The largest number of stack frames from a handler to the function that calls it, with both."""


def events_of(message: BaseMessage | None, chunks: Sequence[BaseMessageChunk]) -> list[Any]:
    """Return the events that tell of a model's answer: of its chunks, or of the whole message if it has none.

    Without a message the model has failed, and its answer has no end.
    """
    if not chunks:
        return [] if message is None else list(message_to_events(message))
    pieces = [ChatGenerationChunk(message=chunk) for chunk in chunks]
    if message is None:
        return [event for event in chunks_to_events(iter(pieces)) if not event["event"].endswith("finish")]
    # What the server reports of the whole answer came beside the chunks.
    reported = {key: value for key, value in message.response_metadata.items() if key != "output_version"}
    pieces[-1].generation_info = reported
    return list(chunks_to_events(iter(pieces), message_id=message.id))


Config = Mapping[str, Any]


def _check() -> None:
    fits = {
        "PregelNode.copy": hasattr(PregelNode, "copy"),
        "PregelNode.flat_writers": hasattr(PregelNode, "flat_writers"),
        "ChannelWrite._write": hasattr(ChannelWrite, "_write") and hasattr(ChannelWrite, "_awrite"),
        "BranchSpec.path": {"path", "ends"} <= set(BranchSpec._fields),
        "PregelScratchpad": {"get_null_resume", "resume", "subgraph_counter"}
        <= set(PregelScratchpad.__dataclass_fields__),
        "Runtime.__init__": not any(hasattr(cls, "__post_init__") for cls in (Runtime, PregelScratchpad)),
        "BaseChannel.copy": hasattr(BaseChannel, "copy"),
    }
    missing = [name for name, there in fits.items() if not there]
    if missing:
        raise ImportError(
            f"musubito_langgraph needs {FITS}; langgraph {version('langgraph')} is installed, and in it "
            f"{', '.join(missing)} is not what it was"
        )


_check()


def keep_apart(channel: str) -> None:
    """Let savers keep the write of a task to this channel under a number of its own.

    They keep all others by their place, and the first of each place: with one write more in between, a task that runs
    again at the same checkpoint and writes more than before would lose a write.
    """
    WRITES_IDX_MAP[channel] = APART


# -- what begins, as a handler sees it ---------------------------------------------------------------------------------


def is_pushing() -> bool:
    """Tell whether `push_message` asks for the class of a handler; the handler calls this function."""
    # In between are at most the two functions of `isinstance` for a protocol.
    return push_message.__code__ in [frame.f_code for frame in islice(_around(sys._getframe(2)), 3)]


def graph_that_begins() -> Pregel[Any] | None:
    """Return the graph that begins, None if another Runnable begins; a handler of `on_chain_start` calls this function.

    LangGraph does not hand the graph to the handler. The graph's own method has called the handler, so the graph is
    found on the stack.
    """
    return next((frame.f_locals["self"] for frame in _around(sys._getframe(1)) if frame.f_code in BEGINS), None)


def config_that_begins() -> Any:
    """Return the config of the Runnable or tool that begins, None if there is none.

    A handler of `on_chain_start` or `on_tool_start` calls this function. The config was made for this Runnable or tool
    alone, and its function will be given the same config.
    """
    frames = (frame for frame in _around(sys._getframe(1)) if frame.f_globals.get("__name__") in BEGIN_CONFIGS)
    configs = (frame.f_locals.get("config") for frame in frames)
    return next((config for config in configs if isinstance(config, dict)), None)


def _around(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the frame of a handler and the frames around it, as far as the function that calls the handler."""
    for _ in range(FRAMES):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def nothing(_config: Config) -> None:
    """Do nothing."""


# -- what a node is told instead ---------------------------------------------------------------------------------------


@cache
def _fields_of(cls: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(cls))


def with_fields(instance: Any, changes: Mapping[str, Any], cls: Any = None) -> Any:
    """Return a copy of a dataclass of LangGraph's with these attributes changed, as `dataclasses.replace` does.

    These classes have no code of their own that runs when an object is made, and a node would pay for its detour. `cls`
    is the class of the copy, by default the same class.
    """
    kind: Any = type(instance)
    twin = object.__new__(cls or kind)
    for name in _fields_of(kind):
        if name not in changes:
            object.__setattr__(twin, name, object.__getattribute__(instance, name))
    for name, value in changes.items():
        object.__setattr__(twin, name, value)
    return twin


def with_read(conf: dict[str, Any], note: Callable[[Sequence[str], bool], None]) -> None:
    """Make the function in `conf` that reads the state report to `note`.

    The function reports the keys that it reads, and whether it read a value that the task itself has written.
    """
    read = conf.get(CONFIG_KEY_READ)
    if not isinstance(read, partial):
        return

    def noting(scratchpad: Any, channels: Any, managed: Any, task: Any, select: Any, fresh: bool = False) -> Any:  # noqa: FBT002 - as LangGraph's
        keys = [select] if isinstance(select, str) else [*select]
        note(keys, fresh and any(channel in keys for channel, _ in task.writes))
        return read.func(scratchpad, channels, managed, task, select, fresh)

    conf[CONFIG_KEY_READ] = partial(noting, *read.args)


# -- without a trace ---------------------------------------------------------------------------------------------------


@contextmanager
def unseen() -> Iterator[None]:
    """Hide what is invoked here: it belongs to no run around it, and no tracer sees it.

    Tracers that the environment or the context names are turned off. Use this in a context of its own.
    """
    var_child_runnable_config.set(None)
    tracing_v2_callback_var.set(None)
    for variable, *_ in _configure_hooks:
        variable.set(None)
    with tracing_context(enabled=False):
        yield


def without_callbacks(config: Config) -> dict[str, Any]:
    """Return a copy of the config without callbacks, run id and private keys of LangGraph.

    A Runnable that is invoked with the copy reports to nobody and belongs to no run around it.
    """
    kept = {key: value for key, value in config.items() if key not in ("callbacks", "run_id")}
    if CONF in kept:
        kept[CONF] = {key: value for key, value in kept[CONF].items() if not key.startswith("__pregel_")}
    return kept


# -- models and tools that a step asks by itself -----------------------------------------------------------------------


def request_of(model: Any, value: Any) -> Any:
    """Return what a model is asked, in one form for all forms in which LangChain takes it."""
    prompt = model._convert_input(value)
    return prompt.to_messages() if isinstance(model, BaseChatModel) else prompt.to_string()


_BEHIND: Final = "musubito_behind"


def stand_before(cls: type, functions: Mapping[str, Callable[..., Any]]) -> None:
    """Let each of these functions stand before the method of its name, which it is given as its first argument."""
    for name, function in functions.items():
        method = vars(cls).get(name)
        if isinstance(method, FunctionType):
            # If this package is imported anew, its functions replace the earlier ones: both would call each other.
            setattr(cls, name, _before(vars(method).get(_BEHIND, method), function))


def stand_before_each(
    base: Any, functions: Mapping[str, Callable[..., Any]], applies_to: Callable[[type], bool]
) -> None:
    """Do as `stand_before` does for all classes below an abstract class, also for those that are made later."""

    def stand(cls: type) -> None:
        if applies_to(cls):
            stand_before(cls, functions)

    def is_made(cls: type, /, **kwargs: Any) -> None:
        super(base, cls).__init_subclass__(**kwargs)
        stand(cls)

    ahead = [base]
    for cls in ahead:
        stand(cls)
        ahead += cls.__subclasses__()
    base.__init_subclass__ = classmethod(is_made)


def _before(method: FunctionType, function: Callable[..., Any]) -> Any:
    # Frameworks ask whether a method is a coroutine function, or gives an async generator.
    if isasyncgenfunction(method):

        @wraps(method)
        async def before(self: Any, *args: Any, **kwargs: Any) -> Any:
            async with aclosing(function(method, self, *args, **kwargs)) as chunks:
                async for chunk in chunks:
                    yield chunk

    elif iscoroutinefunction(method):

        @wraps(method)
        async def before(self: Any, *args: Any, **kwargs: Any) -> Any:
            return await function(method, self, *args, **kwargs)

    else:

        @wraps(method)
        def before(self: Any, *args: Any, **kwargs: Any) -> Any:
            return function(method, self, *args, **kwargs)

    vars(before)[_BEHIND] = method
    return before


# -- sessions with MCP servers -----------------------------------------------------------------------------------------


def session_of(tool: Any) -> Any:
    """Return the session that a tool of `load_mcp_tools` holds, None for any other tool."""
    function: Any = getattr(tool, "coroutine", None)
    if getattr(function, "__module__", None) != "langchain_mcp_adapters.tools":
        return None
    return getclosurevars(function).nonlocals.get("session")


def stream_of(session: Any) -> Any:
    """Return the stream from which a session reads, None if the session has no such stream."""
    return _as_stream(getattr(session, "_read_stream", None))


def _as_stream(value: Any) -> Any:
    return value if isinstance(value, loaded_class("anyio.streams.memory", "MemoryObjectReceiveStream")) else None


def server_that_starts() -> tuple[Any, dict[str, Any]] | None:
    """Return the stream and the parameters of the MCP server whose process is about to start.

    None: it is another process. `stdio_client` hands the parameters to nobody else.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "stdio_client" and frame.f_globals.get("__name__") == "mcp.client.stdio":
            stream, server = (frame.f_locals.get(name) for name in ("read_stream", "server"))
            return None if _as_stream(stream) is None else (stream, dict(vars(server)))
        frame = frame.f_back
    return None
