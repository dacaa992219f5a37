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
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Self
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.errors import GraphInterrupt

from musubito.adapter import (
    ANSWER,
    SCOPE,
    Frame,
    ReplayReason,
    error_as_stored,
    not_replayable,
    note_read,
)
from musubito.code.policies import remembers
from musubito.values.canonical import canonical
from musubito_langgraph import _compat, _task_config
from musubito_langgraph.id_renaming import encodable
from musubito_langgraph.message_ids.known_messages import copy_of
from musubito_langgraph.message_walk import messages_in
from musubito_langgraph.recorder import event_kinds as kinds
from musubito_langgraph.recorder.asked import References
from musubito_langgraph.recorder.config import inherited_tags, metadata_besides, metadata_in
from musubito_langgraph.token_usage import ModelUsage, used_in

_ASKED: Final[dict[UUID, tuple[EventRecorder, str, Frame | None]]] = {}
"""For each run of a model: the handler that watches it, the model's name, and the frame that its tokens count for."""


class CopiedAsItself:
    """An object that is its own copy, as a function is.

    The use of a copy is recorded, too.
    """

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: Any) -> Self:
        return self


class EventRecorder(CopiedAsItself, BaseCallbackHandler):
    """A recorder of what is emitted while a node runs, as plain data and messages in their order.

    The handlers run in the thread that calls them, so the order of the records is the order of the events.
    """

    run_inline = True
    raise_error = False
    copies = True
    """True if an answer may be changed before its record is stored."""

    def __init__(self, config: RunnableConfig) -> None:
        """Watch what runs with `config`.

        Metadata that every message has there are not recorded.
        """
        self.recorded: list[list[Any]] = []
        self.written: list[tuple[str, Any]] = []
        """The writes to the state besides the return value."""
        self.found: list[Any] = []
        """The values that were read from the store."""
        self.asked_a_model = False
        self.answered = False
        """True if the step used an answer to an interrupt, itself or in something that it called."""
        self.observe: Callable[[RunnableConfig], None] = _compat.nothing
        """Called with each config that was made from the surrounding config; records what is read of that config."""
        self.note_answers: Callable[..., None] = _compat.nothing
        """Called in a recorded test where the step asks a person or is answered."""
        self.config = config
        self.frame = SCOPE.get().frame
        self.in_order = self.frame is not None and self.frame.engine._answers_in_order
        """True in a recorded test, where answers of persons are given again in their order."""
        self._metadata: dict[str, Any] | None = None
        """The metadata of everything that runs with the config, once a model or a tool has begun."""
        self._tags: list[str] = []
        self._models: dict[UUID, ModelCall] = {}
        self._tools: dict[UUID, int] = {}
        """For each run of a tool: its number among the models and tools."""
        self._inside: dict[UUID, int | None] = {}
        """For each run: the number of the tool that the run is, or is inside of."""
        self._nodes: dict[UUID, tuple[Mapping[str, Any], set[str | None]]] = {}
        """For each node of a graph inside: its metadata, and the ids of the messages that the node was given."""
        self._count = 0
        self._lock = threading.Lock()

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return BaseCallbackHandler, ()  # elsewhere there is nothing to record

    def custom(self, value: Any) -> None:
        """Record a custom event as it is now, and the graph inside the node that emitted it."""
        here = f"{_task_config.checkpoint_ns_in(self.config)}|"
        there = _task_config.checkpoint_ns_in(var_child_runnable_config.get() or {})
        inside = there.removeprefix(here) if there.startswith(here) else ""
        self._emitted(kinds.CUSTOM, as_it_is(value), inside)

    def streamed(self, graph: Sequence[str], mode: str, value: Any) -> None:
        """Record what a graph inside the node streams, unless it is large or no data."""
        if mode in kinds.OF_GRAPHS:
            self._keep(
                kinds.STREAMED, value, "|".join(graph).removeprefix(_task_config.checkpoint_ns_in(self.config)), mode
            )

    def _keep(self, kind: str, value: Any, *more: Any) -> None:
        with suppress(Exception):  # an object that is not data may raise any error here
            if len(canonical(encodable(value))) <= kinds.LARGEST:
                self.recorded.append([kind, copy.deepcopy(value), *more])

    def _emitted(self, *record: Any) -> None:
        if getattr(getattr(SCOPE.get().ambient, "step", None), "is_question", False):
            not_replayable("it asked a model that emitted an event")
        self.recorded.append([*record])

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
        own = dict(metadata_besides(meta[1], self.config, self.config.get("metadata") or {}))
        self._emitted(kinds.PUSHED, as_it_is(message), own)

    def answered_beside(self, around: Sequence[EventRecorder]) -> None:
        """Record that the step was given a person's answer, as were those of these recorders, which are around it."""
        if self.in_order:
            self.recorded.append([kinds.ANSWERED])
        else:
            note_read(ANSWER, "", None)
        for events in around:
            events.answered = True

    def writes(self, channel: str, value: Any) -> None:
        """Record a write to the state besides the return value, as it is now."""
        self.written.append((channel, as_it_is(value)))

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Record an event for callbacks as it is now."""
        self._emitted(kinds.DISPATCHED, name, as_it_is(data))

    def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """Note that a Runnable begins, and whether it is a graph with a memory of its own.

        The fingerprint of the calling code does not always show such a graph. The code may make the graph only when the
        graph is needed, or may be given the graph.
        """
        graph = _compat.graph_that_begins()
        if graph is not None and remembers(graph):
            not_replayable(ReplayReason.GRAPH_INSIDE.of(f"{graph.get_name()}, which has a memory of its own"))
        self._inside[run_id] = self._around(parent_run_id)
        self._observe_inside()
        metadata = kwargs.get("metadata") or {}
        if _task_config.shows_graphs(self.config) and metadata and kwargs.get("name") == metadata.get("langgraph_node"):
            self._nodes[run_id] = metadata, {message.id for message in messages_in(inputs)}

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Record the messages that a node of a graph inside returned: LangGraph streams those that no model wrote."""
        metadata, given = self._nodes.pop(run_id, (None, set()))
        messages = [] if metadata is None else [message for message in messages_in(outputs) if message.id not in given]
        if metadata is not None and messages:
            self.returned(metadata, messages)

    def returned(self, metadata: Mapping[str, Any], messages: list[BaseMessage]) -> None:
        """Record messages that a node with these metadata returned, unless they are large or no data."""
        own = dict(metadata_besides(metadata, self.config, self.config.get("metadata") or {}))
        self._keep(kinds.RETURNED, messages, own)

    def on_tool_start(self, serialized: Any, input_str: str, *, inputs: Any = None, **kwargs: Any) -> None:
        """Record that a tool begins."""
        self._observe_inside()
        # In the shape of a tool call: otherwise its id would not be recognised as an id.
        args = input_str if inputs is None else {key: kept_value(value, type_name) for key, value in inputs.items()}
        call = {"type": "tool_call", "name": _name_of(serialized, kwargs), "args": args}
        self.begins(kinds.TOOL, {**call, "id": kwargs.get("tool_call_id")}, **kwargs)

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Record that a tool has ended."""
        if (number := self._tools.pop(run_id, None)) is not None:
            keywords = {key: kwargs[key] for key in kinds.KEYWORDS if isinstance(kwargs.get(key), str)}
            self.recorded.append([kinds.DONE, number, kept_value(output), keywords])

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Record that a tool has failed."""
        if (number := self._tools.pop(run_id, None)) is not None:
            # The text of a question holds an id, which differs each time.
            text = "asked a person" if isinstance(error, GraphInterrupt) else str(error)
            self.recorded.append([kinds.FAILED, number, error_as_stored(text)])

    def _around(self, parent_run_id: UUID | None) -> int | None:
        return None if parent_run_id is None else self._inside.get(parent_run_id)

    def _observe_inside(self) -> None:
        # LangChain and LangGraph merge configs into plain dicts, which do not observe what is read of them.
        config = _compat.config_that_begins()
        if config is not None:
            self.observe(config)

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        """Record that a chat model begins to answer."""
        self._asked(**kwargs)
        self.begins(kinds.MODEL, _name_of(serialized, kwargs), asked=messages[0], **kwargs)

    def on_llm_start(self, serialized: Any, prompts: list[str], **kwargs: Any) -> None:
        """Note that a model begins to answer with plain text; its tokens are not streamed as messages."""
        self._asked(**kwargs)

    def _asked(self, run_id: UUID, metadata: Mapping[str, Any] | None = None, **_: Any) -> None:
        # The recorder of the innermost watching step is called last, and its step pays for the tokens.
        frame = SCOPE.get().frame
        if frame is None or not any(open_frame is self.frame for open_frame in frame.enclosing()):
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
        what: Any,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        asked: Sequence[BaseMessage] = (),
        **_: Any,
    ) -> None:
        """Record that a model or a tool begins, or is emitted again.

        `what` is the model's name, or the tool call. `asked` are the messages that the model is asked with. The others
        are what LangChain hands to a handler.
        """
        if self._metadata is None:
            self._metadata, self._tags = metadata_in(self.config), inherited_tags(self.config)
        own = dict(metadata_besides(metadata or {}, self.config, self._metadata))
        if all(tag in (tags or ()) for tag in own.get("tags") or ()):
            # LangGraph's handler of the stream writes the tags of whoever asks into the metadata of everyone.
            own.pop("tags", None)
        own_tags = [tag for tag in tags or () if tag not in self._tags]
        with self._lock:
            number, self._count = self._count, self._count + 1
            record = [kind, own, own_tags, what, self._around(parent_run_id)]
            self.recorded.append([*record, asked] if kind == kinds.MODEL else record)
        if kind == kinds.MODEL:
            self.asked_a_model = True
            self._models[run_id] = ModelCall(number)
        else:
            self._tools[run_id] = self._inside[run_id] = number

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, run_id: UUID, **kwargs: Any) -> None:
        """Record a chunk of a model's answer."""
        model = self._models.get(run_id)
        if model is not None and isinstance(chunk, ChatGenerationChunk):
            self.recorded.append(model.piece(chunk.message))

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Record the whole answer of a model, and count its tokens."""
        self._answered(run_id, response)
        model = self._models.pop(run_id, None)
        if model is None or not response.generations or not response.generations[0]:
            return
        generation = response.generations[0][0]
        if isinstance(generation, ChatGeneration):
            message = generation.message
            whole = None if message.id in model.ids else as_it_is(message) if self.copies else message
            self.recorded.append([kinds.END, model.number, whole])

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Record that a model failed or that nobody read the rest of its answer.

        The chunks that came before are recorded as well, and the tokens that a partial response reports are counted.
        """
        self._answered(run_id, kwargs.get("response"))
        if (model := self._models.pop(run_id, None)) is not None:
            self.recorded.append([kinds.FAILED, model.number, error_as_stored(str(error))])

    def _answered(self, run_id: UUID, response: Any) -> None:
        """Count the tokens of a model's answer, for the step that asked the model."""
        recorder, model, frame = _ASKED.get(run_id, (None, "", None))
        if recorder is self:
            del _ASKED[run_id]
            if isinstance(response, LLMResult):
                self.uses(used_in(response, model), frame)

    def as_stored(
        self,
        chunks: Any,
        arguments: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        known: Callable[[], Sequence[BaseMessage]],
    ) -> list[list[Any]]:
        """Return the records of a node whose output has these chunks, as they are stored.

        `arguments` returns what is stored of a tool's arguments. An output of a tool is left out if the output of the
        node holds it, or if it is large. `known` returns the messages that a replay knows (see `known_messages`).
        """
        if not self._count:
            return self.recorded
        references = References(known() if self.asked_a_model else (), arguments)
        messages = by_call(chunks)
        calls = [record[3] for record in self.recorded if record[0] in (kinds.MODEL, kinds.TOOL)]
        stored = []
        for kind, *rest in self.recorded:
            if kind == kinds.TOOL:
                value = rest[2]["args"]
                # A tool may be called with a text alone.
                args = arguments(value) if isinstance(value, Mapping) else arguments({"input": value}).get("input", "")
                rest[2] = {**rest[2], "args": args}
            elif kind == kinds.MODEL:
                rest[-1] = references.of(rest[-1])
            elif kind == kinds.DONE:
                number, output, _ = rest
                is_held = isinstance(output, ToolMessage) and output == messages.get(calls[number]["id"])
                rest[1] = None if is_held else unless_large(output)
            stored.append([kind, *rest])
        return stored

    def uses(self, used: Iterable[ModelUsage], frame: Frame | None = None) -> None:
        """Count these tokens for the given frame, else for the step that is watched."""
        frame = frame or self.frame
        if frame is not None:
            for usage in used:
                frame.uses_tokens(*usage)


class AnswerRecorder(EventRecorder):
    """A recorder of one call of a model, whose answer mostly is the output of the call."""

    copies = False

    def as_stored(self, chunks: Any, *more: Any) -> list[list[Any]]:
        """Return the records as they are stored, without the message that is the output."""
        records = super().as_stored(chunks, *more)
        return [[*record[:-1], None] if record[-1] is chunks else record for record in records]


class ModelCall:
    """A model that answers; `number` is its number among the models and tools of the node."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.ids: set[str | None] = set()
        self._last: BaseMessage | None = None

    def piece(self, message: BaseMessage) -> list[Any]:
        """Return the record of a chunk."""
        last = self._last
        if last is not None and differ_in_text_alone(last, message):
            return [kinds.TEXT, self.number, message.content]
        self._last = kept = as_it_is(message)
        self.ids.add(message.id)
        return [kinds.CHUNK, self.number, kept]


def as_it_is(value: Any) -> Any:
    """Return a copy of data, which does not change when the original does.

    An object that is not data is returned itself: when a copy of it is finalised, the copy might end something of the
    original's. Then the execution is never replayed.
    """
    try:
        return _copied(value)
    except Exception as error:
        # The error names what has no encoding, or what could not be copied.
        not_replayable(ReplayReason.NOT_STORABLE.of(f"what it emitted: {error}"))
        return value


def _name_of(serialized: Any, kwargs: Mapping[str, Any]) -> str:
    """Return the name of the model or tool for which LangChain calls a handler."""
    return str(kwargs.get("name") or (serialized or {}).get("name") or "")


def type_name(value: object) -> str:
    """Return the type of an argument as a text; the text of the argument might show what `redact` would hide."""
    return f"({type(value).__module__}.{type(value).__qualname__})"


def kept_value(value: Any, as_text: Callable[[Any], str] = str) -> Any:
    """Return a copy of a tool's argument or output, or a text if it is not data.

    The text is enough: callbacks are told of it, and it is no part of the output.
    """
    try:
        return _copied(value)
    except Exception:  # an object that is not data may raise any error here
        return as_text(value)


def _copied(value: Any) -> Any:
    copied = copy_of(value)
    if copied is None:
        canonical(encodable(value))  # raises an error for an object that is not data
        copied = copy.deepcopy(value)
    return copied


def unless_large(output: Any) -> Any:
    """Return the output of a tool, or what stands for an output that is too large to be kept."""
    if len(canonical(encodable(output))) <= kinds.LARGEST:
        return output
    if isinstance(output, ToolMessage):
        return output.model_copy(update={"content": kinds.OMITTED, "artifact": None, "additional_kwargs": {}})
    return kinds.OMITTED


def by_call(chunks: Any) -> dict[str, ToolMessage]:
    """Return the messages of tools in an output, by the id of the tool call."""
    return {message.tool_call_id: message for message in messages_in(chunks) if isinstance(message, ToolMessage)}


def differ_in_text_alone(a: BaseMessage, b: BaseMessage) -> bool:
    """Tell whether two messages are equal but for their texts."""
    if type(a) is not type(b) or not isinstance(a.content, str) or not isinstance(b.content, str):
        return False
    return {**vars(a), "content": ""} == {**vars(b), "content": ""} and a.model_extra == b.model_extra
