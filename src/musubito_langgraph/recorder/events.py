"""Watch a node while it runs, and record what it does besides returning a value.

A replay emits again what was recorded: custom events, message tokens, pushed messages and writes to the state besides
the return value, in their order. After these, callbacks are told what models and tools did.

Some executions are never replayed, and neither is any step that was open at that moment:

- an execution that used an answer to an interrupt
- an execution that wrote to the store
- an execution that invoked a graph inside it that keeps a memory of its own
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial, reduce
from operator import add
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Self
from uuid import UUID, uuid4

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult
from langchain_core.runnables import RunnableConfig, ensure_config
from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.tools import ToolException
from langgraph.graph.message import push_message

from musubito import EncodingError
from musubito.adapter import (
    ANSWER,
    SCOPE,
    Cause,
    Frame,
    at_line_of_user,
    error_as_stored,
    not_replayable,
    note_read,
)
from musubito.code.describers.object_policies import remembers
from musubito.values.canonical import canonical
from musubito_langgraph import _compat
from musubito_langgraph.id_renaming import encodable
from musubito_langgraph.message_walk import messages_in
from musubito_langgraph.object_policies import is_credential
from musubito_langgraph.recorder.store import noting
from musubito_langgraph.token_usage import ModelUsage, used_in

__all__ = ["MODEL", "EventRecorder", "Told", "emit", "retold", "watched", "watched_likewise"]

CUSTOM: Final = "custom"
"""Kind of record: a custom event, and the graph inside the node that emitted it."""
DISPATCHED: Final = "dispatched"
"""Kind of record: an event that LangChain's `dispatch_custom_event` sent to callbacks."""
MODEL: Final = "model"
"""Kind of record: a model begins to answer. The record holds the metadata of its messages that differ from those
around."""
CHUNK: Final = "chunk"
"""Kind of record: a chunk of a model's answer."""
TEXT: Final = "text"
"""Kind of record: a chunk that differs from the previous chunk in its text alone."""
END: Final = "end"
"""Kind of record: a model has answered. The record holds the whole message, or None if the chunks add up to the
message."""
TOOL: Final = "tool"
"""Kind of record: a tool begins. The record holds the metadata that differ from those around, and the tool call. If the
tool call had no id, the recorded id is None."""
DONE: Final = "done"
"""Kind of record: a tool has ended. The record holds its output, or None if its message is in the output of the
node, and the keywords that handlers are told besides."""
FAILED: Final = "failed"
"""Kind of record: a model or a tool has failed. The record holds the text of the error, without secrets."""
LARGEST: Final = 65_536
"""Bytes of a tool's output that are kept at most, if the output of the node does not hold it."""
OMITTED: Final = "(too large to be kept for a replay)"
"""The text that stands for a larger output."""
KEYWORDS: Final = "name", "color"
"""Keywords besides the output that LangChain tells handlers when a tool ends."""
PUSHED: Final = "pushed"
"""Kind of record: a message that `push_message` showed, with the metadata that differ from those around."""
WRITTEN: Final = "written"
"""Kind of record: a channel of the state, and the value that was written to it besides the return value."""
_ASKED: Final[dict[UUID, tuple[EventRecorder, str, Frame | None]]] = {}
"""For each run of a model: the handler that watches it, the model's name, and the frame that its tokens count for."""
NESTED: Final = "langgraph_checkpoint_ns", "checkpoint_ns"
"""Keys of metadata whose values begin with the namespace of the node. Only the rest of such a value is recorded."""


class _CopiedAsItself:
    """An object that is its own copy, as a function is.

    The use of a copy is recorded, too.
    """

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: Any) -> Self:
        return self


class EventRecorder(_CopiedAsItself, BaseCallbackHandler):
    """A recorder of what is emitted while a node runs, as plain data and messages in their order.

    The handlers run in the thread that calls them, so the order of the records is the order of the events.
    """

    run_inline = True
    raise_error = False

    def __init__(self, config: RunnableConfig) -> None:
        """Watch what runs with `config`.

        Metadata that every message has there are not recorded.
        """
        self.recorded: list[list[Any]] = []
        self.found: list[Any] = []
        """The values that were read from the store."""
        self.asked_a_model = False
        self.answered = False
        """True if the step used an answer to an interrupt, itself or in something that it called."""
        self.observe: Callable[[RunnableConfig], None] = _compat.nothing
        """Called with each config that was made from the surrounding config; records what is read of that config."""
        self.config = config
        self.frame = SCOPE.get().frame
        self._models: dict[UUID, _Model] = {}
        self._tools: dict[UUID, int] = {}
        """For each run of a tool: its number among the models and tools."""
        self._inside: dict[UUID, int | None] = {}
        """For each run: the number of the tool that the run is, or is inside of."""
        self._count = 0
        self._lock = threading.Lock()

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return BaseCallbackHandler, ()  # elsewhere there is nothing to record

    def custom(self, value: Any) -> None:
        """Record a custom event as it is now, and the graph inside the node that emitted it."""
        here = f"{_compat.checkpoint_ns_in(self.config)}|"
        there = _compat.checkpoint_ns_in(var_child_runnable_config.get() or {})
        self.recorded.append([CUSTOM, _as_it_is(value), there.removeprefix(here) if there.startswith(here) else ""])

    subgraphs: Final = True
    """`push_message` reads this attribute to learn whether messages of subgraphs are shown."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """Return the class of this handler, or LangGraph's if `push_message` asks.

        `push_message` shows its messages only to handlers of one class of LangGraph.
        """
        return _compat.StreamMessagesHandler if _compat.is_pushing() else EventRecorder

    def _emit(self, meta: Any, message: BaseMessage, *, dedupe: bool = False) -> None:
        """Record a message that `push_message` shows."""
        self.recorded.append(
            [PUSHED, _as_it_is(message), dict(_besides(meta[1], self.config, self.config.get("metadata") or {}))]
        )

    def writes(self, channel: str, value: Any) -> None:
        """Record a write to the state besides the return value, as it is now."""
        self.recorded.append([WRITTEN, channel, _as_it_is(value)])

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Record an event for callbacks as it is now."""
        self.recorded.append([DISPATCHED, name, _as_it_is(data)])

    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: dict[str, Any],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Note that a Runnable begins, and whether it is a graph with a memory of its own.

        The fingerprint of the calling code does not always show such a graph. The code may make the graph only when the
        graph is needed, or may be given the graph.
        """
        graph = _compat.graph_that_begins()
        if graph is not None and remembers(graph):
            not_replayable(Cause.GRAPH_REMEMBERS.of(graph.get_name()))
        self._inside[run_id] = self._around(parent_run_id)
        self._observe_inside()

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        inputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Record that a tool begins."""
        self._observe_inside()
        name = str(kwargs.get("name") or (serialized or {}).get("name") or "")
        # In the shape of a tool call: otherwise its id would not be recognised as an id.
        args = input_str if inputs is None else {key: _kept(value, _type_of) for key, value in inputs.items()}
        call = {"type": "tool_call", "name": name, "args": args}
        self.begins(TOOL, run_id, parent_run_id, tags, metadata, {**call, "id": kwargs.get("tool_call_id")})

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Record that a tool has ended."""
        number = self._tools.pop(run_id, None)
        if number is not None:
            keywords = {key: kwargs[key] for key in KEYWORDS if isinstance(kwargs.get(key), str)}
            self.recorded.append([DONE, number, _kept(output), keywords])

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Record that a tool has failed."""
        number = self._tools.pop(run_id, None)
        if number is not None:
            self.recorded.append([FAILED, number, error_as_stored(str(error))])

    def _around(self, parent_run_id: UUID | None) -> int | None:
        return None if parent_run_id is None else self._inside.get(parent_run_id)

    def _observe_inside(self) -> None:
        # LangChain and LangGraph merge configs into plain dicts, which do not observe what is read of them.
        config = _compat.config_that_begins()
        if config is not None:
            self.observe(config)

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Record that a chat model begins to answer."""
        self._asked(run_id, metadata)
        name = str(kwargs.get("name") or (serialized or {}).get("name") or "")
        self.begins(MODEL, run_id, parent_run_id, tags, metadata, name)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note that a model begins to answer with plain text; its tokens are not streamed as messages."""
        self._asked(run_id, metadata)

    def _asked(self, run_id: UUID, metadata: Mapping[str, Any] | None) -> None:
        # The handler of the innermost watching step is called last, and its step pays for the tokens.
        frame = SCOPE.get().frame
        if frame is None or not any(each is self.frame for each in frame.enclosing()):
            frame = self.frame
        # A step of the core may run inside the node. Such a step has no handler, but the tokens count for it.
        _ASKED[run_id] = self, str((metadata or {}).get("ls_model_name") or ""), frame
        self.asked_a_model = True

    @property
    def told_of_usage(self) -> bool:
        """Tell whether the tokens that were used are reported already.

        A model reports them that is asked or emitted again, or a step inside, or the user's code.
        """
        frame = self.frame
        return self.asked_a_model or (frame is not None and bool(frame.tokens or frame.inside))

    def begins(
        self,
        kind: str,
        run_id: UUID,
        parent_run_id: UUID | None,
        tags: list[str] | None,
        metadata: dict[str, Any] | None,
        what: Any,
    ) -> None:
        """Record that a model or a tool begins, or is emitted again.

        `what` is the model's name, or the tool call.
        """
        said = dict(_besides(metadata or {}, self.config, _metadata_in(self.config)))
        if all(tag in (tags or ()) for tag in said.get("tags") or ()):
            # LangGraph's handler of the stream writes the tags of whoever asks into the metadata of everyone.
            said.pop("tags", None)
        around = _inherited_tags(self.config)
        with self._lock:
            number, self._count = self._count, self._count + 1
            own = [tag for tag in tags or () if tag not in around]
            self.recorded.append([kind, said, own, what, self._around(parent_run_id)])
        if kind == MODEL:
            self.asked_a_model = True
            self._models[run_id] = _Model(number)
        else:
            self._tools[run_id] = self._inside[run_id] = number

    def on_llm_new_token(
        self,
        token: Any,
        *,
        chunk: Any = None,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Record a chunk of a model's answer."""
        model = self._models.get(run_id)
        if model is not None and isinstance(chunk, ChatGenerationChunk):
            self.recorded.append(model.piece(chunk.message))

    def on_llm_end(
        self, response: LLMResult, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """Record the whole answer of a model, and count its tokens."""
        asked = _ASKED.get(run_id)
        if asked is not None and asked[0] is self:
            del _ASKED[run_id]
            self.uses(used_in(response, asked[1]), asked[2])
        model = self._models.pop(run_id, None)
        if model is None or not response.generations or not response.generations[0]:
            return
        generation = response.generations[0][0]
        if isinstance(generation, ChatGeneration):
            message = generation.message
            self.recorded.append([END, model.number, None if message.id in model.ids else _as_it_is(message)])

    def on_llm_error(
        self, error: BaseException, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """Record that a model failed or that nobody read the rest of its answer.

        The chunks that came before are recorded as well, and the tokens that a partial response reports are counted.
        """
        asked = _ASKED.get(run_id)
        if asked is not None and asked[0] is self:
            del _ASKED[run_id]
            response = kwargs.get("response")
            if isinstance(response, LLMResult):
                self.uses(used_in(response, asked[1]), asked[2])
        model = self._models.pop(run_id, None)
        if model is not None:
            self.recorded.append([FAILED, model.number, error_as_stored(str(error))])

    def as_stored(self, chunks: Any, arguments: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> list[list[Any]]:
        """Return the records of a node whose output has these chunks, as they are stored.

        `arguments` returns what is stored of a tool's arguments. An output of a tool is left out if the output of the
        node holds it, or if it is large.
        """
        if not any(record[0] == TOOL for record in self.recorded):
            return self.recorded
        messages = _by_call(chunks)
        calls = [record[3] for record in self.recorded if record[0] in (MODEL, TOOL)]
        stored = []
        for kind, *rest in self.recorded:
            if kind == TOOL:
                given = rest[2]["args"]
                # A tool may be called with a text alone.
                args = arguments(given) if isinstance(given, Mapping) else arguments({"input": given}).get("input", "")
                rest[2] = {**rest[2], "args": args}
            elif kind == DONE:
                number, output, _ = rest
                is_held = isinstance(output, ToolMessage) and output == messages.get(calls[number]["id"])
                rest[1] = None if is_held else _unless_large(output)
            stored.append([kind, *rest])
        return stored

    def uses(self, used: Iterable[ModelUsage], frame: Frame | None = None) -> None:
        """Count these tokens for the given frame, else for the step that is watched."""
        frame = frame or self.frame
        if frame is not None:
            for each in used:
                frame.uses_tokens(*each)


class _Model:
    """A model that answers; `number` is its number among the models and tools of the node."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.ids: set[str | None] = set()
        self._last: BaseMessage | None = None

    def piece(self, message: BaseMessage) -> list[Any]:
        """Return the record of a chunk."""
        last = self._last
        if last is not None and _differ_in_text_alone(last, message):
            return [TEXT, self.number, message.content]
        self._last = kept = _as_it_is(message)
        self.ids.add(message.id)
        return [CHUNK, self.number, kept]


def _as_it_is(value: Any) -> Any:
    """Return a copy of data, which does not change when the original does.

    An object that is not data is returned itself: when a copy of it is finalised, the copy might end something of the
    original's. Then the execution is never replayed.
    """
    try:
        canonical(encodable(value))
        return copy.deepcopy(value)
    except Exception as error:
        # The error names what has no encoding, or what could not be copied.
        not_replayable(Cause.EVENT_NOT_STORABLE.of(error))
        return value


def _type_of(value: object) -> str:
    """Return the type of an argument as a text; the text of the argument might show what `redact` would hide."""
    return f"({type(value).__module__}.{type(value).__qualname__})"


def _kept(value: Any, as_text: Callable[[Any], str] = str) -> Any:
    """Return a copy of a tool's argument or output, or a text if it is not data.

    The text is enough: callbacks are told of it, and it is no part of the output.
    """
    try:
        canonical(encodable(value))
        return copy.deepcopy(value)
    except Exception:  # an object that is not data may raise any error here
        return as_text(value)


def _unless_large(output: Any) -> Any:
    """Return the output of a tool, or what stands for an output that is too large to be kept."""
    if len(canonical(encodable(output))) <= LARGEST:
        return output
    if isinstance(output, ToolMessage):
        return output.model_copy(update={"content": OMITTED, "artifact": None, "additional_kwargs": {}})
    return OMITTED


def _by_call(chunks: Any) -> dict[str, ToolMessage]:
    """Return the messages of tools in an output, by the id of the tool call."""
    return {each.tool_call_id: each for each in messages_in(chunks) if isinstance(each, ToolMessage)}


def _metadata_in(config: RunnableConfig) -> dict[str, Any]:
    """Return the metadata that a model reports when it is invoked with this config.

    LangChain adds to them what is configured.
    """
    callbacks = config.get("callbacks")
    inherited = callbacks.inheritable_metadata if isinstance(callbacks, BaseCallbackManager) else {}
    return {**inherited, **ensure_config(config)["metadata"]}


def _besides(
    metadata: Mapping[str, Any], config: RunnableConfig, around: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Yield the metadata of a run that differ from the metadata `around` it."""
    here = _compat.checkpoint_ns_in(config)
    for key, value in metadata.items():
        # Older versions of LangChain put the whole configuration into the metadata, and keys of services with it.
        if (key in around and around[key] == value) or is_credential(key):
            continue
        if key in NESTED:
            if here and str(value).startswith(here):
                yield key, value.removeprefix(here)
        elif _is_plain(value):
            yield key, value


def _parent_in(config: RunnableConfig) -> UUID | None:
    """Return the run that becomes the parent of what is invoked with this config."""
    callbacks = config.get("callbacks")
    return callbacks.parent_run_id if isinstance(callbacks, BaseCallbackManager) else None


def _inherited_tags(config: RunnableConfig) -> list[str]:
    """Return the tags that everything inherits that runs with this config, at any depth."""
    callbacks = config.get("callbacks")
    inherited = callbacks.inheritable_tags if isinstance(callbacks, BaseCallbackManager) else []
    return list(dict.fromkeys((*inherited, *(config.get("tags") or ()))))


def _is_plain(value: object) -> bool:
    try:
        canonical(value)
    except EncodingError:
        return False
    return True


def _differ_in_text_alone(a: BaseMessage, b: BaseMessage) -> bool:
    if type(a) is not type(b) or not isinstance(a.content, str) or not isinstance(b.content, str):
        return False
    return {**vars(a), "content": ""} == {**vars(b), "content": ""} and a.model_extra == b.model_extra


# -- a config that watches ---------------------------------------------------------------------------------------------


def watched(config: RunnableConfig, calls: Callable[[Any], Any] | None) -> tuple[RunnableConfig, EventRecorder]:
    """Return the config that a node is given instead of `config`, and the recorder of what the node emits.

    `calls` replaces the function that calls `@task`s by one that is told what was emitted. If `calls` is None, that
    function stays as it is.
    """
    events = EventRecorder(config)
    conf = dict(config.get("configurable") or {})
    runtime = _compat.runtime_in(config)
    if runtime is not None:
        _compat.with_runtime(conf, _watched_runtime(runtime, events))
    changed: RunnableConfig = {**config, "callbacks": _with(config.get("callbacks"), events), "configurable": conf}
    around = [each for each in _handlers(changed) if isinstance(each, EventRecorder)]
    if _compat.scratchpad_in(config) is not None:
        _compat.with_scratchpad(conf, subgraph_counter=_watched_counter(config, around))
    _compat.with_send(conf, partial(_WatchedSend, around, events))
    caller = _compat.caller_in(config)
    if caller is not None and calls is not None:
        _compat.with_caller(conf, calls(caller))
    return changed, events


def watched_likewise(around: RunnableConfig, config: RunnableConfig) -> RunnableConfig:
    """Return the config `around` a call, watched as `config` is watched, which was made for the call.

    The parent run in `around` stays: in a tracer's tree, the runs that follow keep their place.
    """
    callbacks = around.get("callbacks")
    for handler in _handlers(config):
        if isinstance(handler, EventRecorder):
            callbacks = _with(callbacks, handler)
    changed: RunnableConfig = {**around, "callbacks": callbacks, "configurable": config["configurable"]}
    for handler in _handlers(config)[-1:]:
        if isinstance(handler, EventRecorder):
            handler.observe(changed)
    return changed


def _handlers(config: RunnableConfig) -> Sequence[BaseCallbackHandler]:
    callbacks = config.get("callbacks")
    return callbacks.handlers if isinstance(callbacks, BaseCallbackManager) else callbacks or ()


def _with(callbacks: Any, handler: BaseCallbackHandler) -> Any:
    if isinstance(callbacks, BaseCallbackManager):
        manager = callbacks.copy()
        manager.add_handler(handler, inherit=True)
        return manager
    return [*(callbacks or ()), handler]


def _watched_runtime(runtime: Any, events: EventRecorder) -> Any:
    changes: dict[str, Any] = {"stream_writer": _WatchedWriter(events, runtime.stream_writer)}
    if runtime.store is not None:
        changes["store"] = noting(runtime.store, SCOPE.get().frame, events.found)
    if _compat.control_in(runtime) is not None:
        changes["control"] = _WatchedControl(runtime.control, SCOPE.get().frame)
    return runtime.override(**changes)


class _WatchedWriter(_CopiedAsItself):
    """LangGraph's function that emits custom events; each event is recorded."""

    def __init__(self, events: EventRecorder, write: Callable[[Any], None]) -> None:
        self._events = events
        self._write = write

    def __call__(self, value: Any) -> None:
        self._events.custom(value)
        self._write(value)

    def __reduce_ex__(self, _protocol: Any) -> Any:
        not_replayable("it pickled its stream writer", self._events.frame)
        return copy.copy, (self._write,)


class _WatchedControl:
    """LangGraph's control, with which a run is asked to end, recorded while the node runs.

    A node that learned of such a request may have done less than it does otherwise, so its result is not replayed.
    """

    def __init__(self, control: Any, body: Frame | None) -> None:
        self._control = control
        self._body = body

    def __getattr__(self, name: str) -> Any:
        if name in ("_control", "_body"):
            raise AttributeError(name)
        return getattr(self._control, name)

    def request_drain(self, reason: str = "shutdown") -> None:
        not_replayable(Cause.RUN_ENDED.of(), self._body)
        self._control.request_drain(reason)

    @property
    def drain_requested(self) -> bool:
        return self.drain_reason is not None

    @property
    def drain_reason(self) -> str | None:
        reason: str | None = self._control.drain_reason
        if reason is not None:
            not_replayable(Cause.RUN_END_SEEN.of(), self._body)
        return reason

    def __reduce_ex__(self, _protocol: Any) -> Any:
        _ = self.drain_reason  # a copy holds the reason, too
        return copy.copy, (self._control,)


class _WatchedSend(_CopiedAsItself):
    """LangGraph's function that writes to the state; all handlers that watch record each write."""

    def __init__(
        self, around: Sequence[EventRecorder], events: EventRecorder, send: Callable[[Sequence[tuple[str, Any]]], None]
    ) -> None:
        self._around = around
        self._events = events
        self._send = send

    def __reduce_ex__(self, _protocol: Any) -> Any:
        not_replayable("it pickled the function that writes to the state", self._events.frame)
        return copy.copy, (self._send,)

    def __call__(self, writes: Sequence[tuple[str, Any]]) -> None:
        self._write(writes, is_seen=SCOPE.get().frame is self._events.frame)

    def _write(self, writes: Sequence[tuple[str, Any]], *, is_seen: bool) -> None:
        """Record the writes, then write them.

        `is_seen` tells whether every open step between this one and the writing code watches, too.
        """
        body = self._events.frame
        if any(_compat.is_answer(channel) for channel, _ in writes):
            not_replayable(Cause.INTERRUPT_ANSWERED.of(at_line_of_user("interrupt")))
            _note_answer(self._around)
        elif writes and not all(_compat.is_of_state(self._events.config, channel) for channel, _ in writes):
            keys = ", ".join(dict.fromkeys(channel for channel, _ in writes))
            not_replayable(Cause.STATE_WRITTEN.of(at_line_of_user(keys)))
        elif writes and not is_seen:
            keys = ", ".join(dict.fromkeys(channel for channel, _ in writes))
            not_replayable(Cause.STATE_WRITTEN.of(f"{keys}, by a plain step inside it"), body)
        else:
            for write in writes:
                self._events.writes(*write)
        outer = self._send
        if isinstance(outer, _WatchedSend):
            outside = outer._events.frame
            outer._write(writes, is_seen=body is outside or (body is not None and outside in body.around))
        else:
            outer(writes)


def _note_answer(around: Sequence[EventRecorder]) -> None:
    note_read(ANSWER, "", None)
    for events in around:
        events.answered = True


def _watched_counter(config: RunnableConfig, around: Sequence[EventRecorder]) -> Callable[[], int]:
    """Return a counter that notes when a graph inside a task may use an answer to an interrupt.

    LangGraph takes a number from the counter each time that a graph is invoked inside a task.
    """
    count = _compat.scratchpad_in(config).subgraph_counter

    def counting() -> int:
        if _compat.is_resuming(config):
            not_replayable(Cause.INTERRUPT_ANSWERED_INSIDE.of(at_line_of_user("invoked")))
            if _compat.has_answer(config):
                _note_answer(around)
        number: int = count()
        return number

    return counting


# -- again -------------------------------------------------------------------------------------------------------------


class Told(NamedTuple):
    """One message for callbacks; `kind` is the kind of a record, and decides what `what` holds."""

    kind: str
    number: int
    """Number of the model or tool."""
    what: Any
    metadata: Mapping[str, Any] = MappingProxyType({})
    tags: Sequence[str] = ()
    inside: int | None = None
    """Number of the tool that this happened in, None if it happened in no tool."""


def emit(config: RunnableConfig, events: Sequence[Sequence[Any]], chunks: Any) -> list[Told]:
    """Emit the recorded events again, and return the messages that callbacks are still to be told (see `retold`).

    The stream, the state and the recorders of enclosing steps are told here. `chunks` is the output. Some of the
    returned messages may have to be awaited.
    """
    if not events:
        return []
    listening = [each for each in _handlers(config) if isinstance(each, (EventRecorder, *_compat.STREAM_HANDLERS))]
    around, tags = _parent_in(config), _inherited_tags(config)
    runs: list[UUID] = []
    begins: list[Told] = []
    pieces: list[list[Any]] = []
    told: list[Told] = []
    for kind, *rest in events:
        match kind:
            case "custom":
                _write(config, *rest)
            case "dispatched":
                name, data = rest
                told.append(Told(kind, -1, (name, data)))
            case "pushed":
                message, said = rest
                if listening:
                    _push(config, message, said)
            case "written":
                _compat.send(config, [(rest[0], rest[1])])
            case "model" | "tool":
                said, own, what, *inside = rest  # earlier versions did not record the tool around it
                begun = Told(kind, len(runs), what, _metadata(config, said), own, *inside)
                runs.append(uuid4())
                begins.append(begun)
                pieces.append([])
                told.append(begun)
                parent = around if begun.inside is None else runs[begun.inside]
                for handler in listening:
                    _begin(handler, begun, runs[-1], parent, [*tags, *own])
            case "end":
                number, message = rest
                message = message or message_chunk_to_message(reduce(add, pieces[number]))
                told.append(Told(kind, number, message))
                for handler in listening:
                    handler.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]), run_id=runs[number])
            case "done":
                number, output, *keywords = rest  # earlier versions did not record the keywords
                more = keywords[0] if keywords else {}
                if output is None:
                    # A copy: LangGraph sets the id of the message in place
                    output = _by_call(chunks)[begins[number].what["id"]].model_copy()
                told.append(Told(kind, number, (output, more)))
                for handler in listening:
                    handler.on_tool_end(output, run_id=runs[number], **more)
            case "failed":
                number, error = rest[0], ToolException(rest[1])
                told.append(Told(kind, number, error))
                for handler in listening:
                    fails = handler.on_llm_error if begins[number].kind == MODEL else handler.on_tool_error
                    fails(error, run_id=runs[number])
            case _:
                number, said = rest
                before = pieces[number]
                piece = before[-1].model_copy(update={"content": said}, deep=True) if kind == TEXT else said
                before.append(piece)
                told.append(Told(CHUNK, number, piece))
                for handler in listening:
                    handler.on_llm_new_token(piece.text, chunk=ChatGenerationChunk(message=piece), run_id=runs[number])
    return told


def _begin(handler: Any, begun: Told, run_id: UUID, parent_run_id: UUID | None, tags: list[str]) -> None:
    metadata = dict(begun.metadata)
    if isinstance(handler, EventRecorder):
        handler.begins(begun.kind, run_id, parent_run_id, tags, metadata, begun.what)
    elif begun.kind == TOOL:
        given, more = _given(begun.what)
        handler.on_tool_start(*given, run_id=run_id, tags=tags, metadata=metadata, **more)
    elif isinstance(handler, _compat.StreamMessagesHandler):
        handler.on_chat_model_start({}, [], run_id=run_id, tags=tags, metadata=metadata)


def _given(call: Mapping[str, Any]) -> tuple[tuple[dict[str, Any], str], dict[str, Any]]:
    """Return the arguments for a handler's `on_tool_start`."""
    args = call["args"]
    more = {"inputs": None if isinstance(args, str) else args, "tool_call_id": call["id"]}
    return ({"name": call["name"]}, str(args)), more


def retold(manager: Any, told: Sequence[Told]) -> Generator[Any, Any]:
    """Tell the callbacks of a manager what happened when the step ran; yield what may have to be awaited.

    Handlers that `emit` has told of models and tools are left out. The metadata say that this is a replay. The usage of
    tokens is left out, so that nobody counts the tokens twice.
    """
    others = _without(manager, EventRecorder, *_compat.STREAM_HANDLERS)
    others.tags = list(others.inheritable_tags)  # each record holds its own tags
    ended = {each.number for each in told if each.kind in (END, DONE, FAILED)}
    running: dict[int, Any] = {}
    streamed: set[int] = set()
    for kind, number, what, metadata, tags, inside in told:
        if kind == DISPATCHED:
            name, data = what
            yield manager.on_custom_event(name, data, run_id=manager.parent_run_id)
        elif not others.handlers or number not in ended:
            continue  # earlier versions did not record that a model failed
        elif kind in (MODEL, TOOL):
            asked = (running[inside].get_child() if inside in running else others).copy()
            asked.add_tags(list(tags), inherit=False)
            asked.add_metadata({**metadata, "musubito_replayed": True}, inherit=False)
            if kind == MODEL:
                (running[number],) = yield asked.on_chat_model_start({"name": what}, [[]], name=what)
            else:
                given, more = _given(what)
                running[number] = yield asked.on_tool_start(*given, **more)
        elif kind == CHUNK:
            streamed.add(number)
            piece = _unpaid(what)
            yield running[number].on_llm_new_token(piece.text, chunk=ChatGenerationChunk(message=piece))
        elif kind == END:
            message = _unpaid(what)
            if number not in streamed:
                piece = _as_piece(message)
                yield running[number].on_llm_new_token(piece.text, chunk=ChatGenerationChunk(message=piece))
            yield running[number].on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]))
        elif kind == DONE:
            output, more = what
            yield running[number].on_tool_end(output, **more)
        elif hasattr(running[number], "on_llm_error"):
            yield running[number].on_llm_error(what)
        else:
            yield running[number].on_tool_error(what)


def _push(config: RunnableConfig, message: BaseMessage, said: Mapping[str, Any]) -> None:
    metadata = {**(config.get("metadata") or {}), **_said_here(config, said)}
    token = var_child_runnable_config.set({**config, "metadata": metadata})
    try:
        push_message(message, state_key=None)
    finally:
        var_child_runnable_config.reset(token)


def _without(manager: Any, *kinds: type) -> Any:
    others = manager.copy()
    others.handlers = [each for each in manager.handlers if not isinstance(each, kinds)]
    others.inheritable_handlers = [each for each in manager.inheritable_handlers if not isinstance(each, kinds)]
    return others


def _unpaid(message: BaseMessage) -> Any:
    """Return a copy of a message without the tokens that its answer has used."""
    said = {key: each for key, each in message.response_metadata.items() if key not in ("token_usage", "usage")}
    used = {"usage_metadata": None} if isinstance(message, AIMessage) else {}
    return message.model_copy(update={"response_metadata": said, **used})


def _as_piece(message: BaseMessage) -> Any:
    if not isinstance(message, AIMessage):
        return message
    return AIMessageChunk(**{name: getattr(message, name) for name in AIMessage.model_fields if name != "type"})


def _write(config: RunnableConfig, value: Any, inside: str) -> None:
    runtime = _compat.runtime_in(config)
    if runtime is None:
        return
    if not inside:
        runtime.stream_writer(value)
    elif _compat.streams_subgraphs(config):
        # LangGraph's writer takes the namespace from the config of the context.
        conf = dict(config.get("configurable") or {})
        _compat.with_checkpoint_ns(conf, f"{_compat.checkpoint_ns_in(config)}|{inside}")
        token = var_child_runnable_config.set({**config, "configurable": conf})
        try:
            runtime.stream_writer(value)
        finally:
            var_child_runnable_config.reset(token)


def _metadata(config: RunnableConfig, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata that the messages of a model have when it is emitted with this config."""
    return {**_metadata_in(config), **_said_here(config, said)}


def _said_here(config: RunnableConfig, said: Mapping[str, Any]) -> dict[str, Any]:
    here = _compat.checkpoint_ns_in(config)
    return {key: f"{here}{value}" if key in NESTED else value for key, value in said.items()}
