"""Emit recorded events again."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial, reduce
from operator import add
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

from langchain_core.messages import AIMessage, BaseMessage, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import (
    get_async_callback_manager_for_config,
    get_callback_manager_for_config,
    var_child_runnable_config,
)
from langchain_core.tools import ToolException
from langgraph.graph.message import push_message

from musubito_langgraph import _compat, _task_config
from musubito_langgraph.message_walk import chunk_of
from musubito_langgraph.recorder import event_kinds as kinds
from musubito_langgraph.recorder.asked import told
from musubito_langgraph.recorder.config import handlers, inherited_tags, metadata_in, parent_in
from musubito_langgraph.recorder.events import EventRecorder, by_call

USAGE: Final = frozenset({"token_usage", "usage"})
"""Keys under which servers report in `response_metadata` what an answer has used."""


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
    asked: Callable[[], list[BaseMessage]] = list
    """Returns the messages that a model was asked with."""


def emit(
    config: RunnableConfig, events: Sequence[Sequence[Any]], chunks: Any, known: Callable[[], Sequence[BaseMessage]]
) -> list[Told]:
    """Emit the recorded events again, and return the messages that callbacks are still to be told (see `retold`).

    The stream, the state and the recorders of enclosing steps are told here. `chunks` is the output, and `known`
    returns the messages that are known (see `known_messages`). Some of the returned messages may have to be awaited.
    """
    if not events:
        return []
    told_here = EventRecorder, *_compat.STREAM_HANDLERS
    listening = [handler for handler in handlers(config) if isinstance(handler, told_here)]
    around, tags = parent_in(config), inherited_tags(config)
    runs: list[UUID] = []
    begins: list[Told] = []
    pieces: list[list[Any]] = []
    reports: list[Told] = []
    new: list[bytes] = []
    known = cache(known)
    for kind, *rest in events:
        match kind:
            case kinds.CUSTOM:
                _write(config, *rest)
            case kinds.STREAMED:
                _stream(config, *rest)
            case kinds.RETURNED:
                messages, own_metadata = rest
                metadata = {**metadata_in(config), **_said_here(config, own_metadata)}
                for handler in listening:
                    _return(handler, metadata, messages)
            case kinds.ANSWERED:
                _task_config.take_answer(config)
            case kinds.DISPATCHED:
                name, data = rest
                reports.append(Told(kind, -1, (name, data)))
            case kinds.PUSHED:
                message, own_metadata = rest
                if listening:
                    _push(config, message, own_metadata)
            case kinds.MODEL | kinds.TOOL:
                own_metadata, own, what, inside, *asked = rest
                new += [reference for references in asked for reference in references if type(reference) is bytes]
                metadata = {**metadata_in(config), **_said_here(config, own_metadata)}
                messages_asked = partial(told, asked[0] if asked else (), new, known)
                begun = Told(kind, len(runs), what, metadata, own, inside, messages_asked)
                runs.append(uuid4())
                begins.append(begun)
                pieces.append([])
                reports.append(begun)
                parent = around if begun.inside is None else runs[begun.inside]
                for handler in listening:
                    _begin(handler, begun, runs[-1], parent, [*tags, *own])
            case kinds.END:
                number, message = rest
                if message is None:
                    message = message_chunk_to_message(reduce(add, pieces[number])) if pieces[number] else chunks
                reports.append(Told(kind, number, message))
                _tell_events(listening, message, pieces[number], runs[number])
                for handler in listening:
                    handler.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]), run_id=runs[number])
            case kinds.DONE:
                number, output, more = rest
                if output is None:
                    output = by_call(chunks)[begins[number].what["id"]]
                reports.append(Told(kind, number, (output, more)))
                for handler in listening:
                    handler.on_tool_end(output, run_id=runs[number], **more)
            case kinds.FAILED:
                number, error = rest[0], ToolException(rest[1])
                reports.append(Told(kind, number, error))
                _tell_events(listening, None, pieces[number], runs[number])
                for handler in listening:
                    fails = handler.on_llm_error if begins[number].kind == kinds.MODEL else handler.on_tool_error
                    fails(error, run_id=runs[number])
            case _:
                number, content = rest
                before = pieces[number]
                piece = before[-1].model_copy(update={"content": content}, deep=True) if kind == kinds.TEXT else content
                before.append(piece)
                reports.append(Told(kinds.CHUNK, number, piece))
                for handler in listening:
                    handler.on_llm_new_token(piece.text, chunk=ChatGenerationChunk(message=piece), run_id=runs[number])
    return reports


def _begin(handler: Any, begun: Told, run_id: UUID, parent_run_id: UUID | None, tags: list[str]) -> None:
    metadata = dict(begun.metadata)
    if isinstance(handler, EventRecorder):
        handler.begins(begun.kind, begun.what, run_id, parent_run_id, tags, metadata, begun.asked())
    elif begun.kind == kinds.TOOL:
        args, more = _given(begun.what)
        handler.on_tool_start(*args, run_id=run_id, tags=tags, metadata=metadata, **more)
    elif isinstance(handler, _compat.StreamMessagesHandler):
        handler.on_chat_model_start({}, [], run_id=run_id, tags=tags, metadata=metadata)


def _tell_events(listening: Sequence[Any], message: Any, chunks: Sequence[Any], run_id: UUID) -> None:
    """Tell the handlers that take a model's answer in events of one answer; without a message the model has failed."""
    for handler in listening:
        if isinstance(handler, _compat.IN_EVENTS):
            for event in _compat.events_of(message, chunks):
                handler.on_stream_event(event, run_id=run_id)  # type: ignore[attr-defined]


def _return(handler: Any, metadata: dict[str, Any], messages: list[BaseMessage]) -> None:
    if isinstance(handler, EventRecorder):
        handler.returned(metadata, messages)
    elif isinstance(handler, _compat.StreamMessagesHandler):
        run_id = uuid4()
        handler.on_chain_start({}, {}, run_id=run_id, metadata=metadata, name=metadata["langgraph_node"])
        handler.on_chain_end(messages, run_id=run_id)


def _given(call: Mapping[str, Any]) -> tuple[tuple[dict[str, Any], str], dict[str, Any]]:
    """Return the arguments for a handler's `on_tool_start`."""
    args = call["args"]
    more = {"inputs": None if isinstance(args, str) else args, "tool_call_id": call["id"]}
    return ({"name": call["name"]}, str(args)), more


def retold(manager: Any, reports: Sequence[Told]) -> Generator[Any, Any]:
    """Tell the callbacks of a manager what happened when the step ran; yield what may have to be awaited.

    Handlers that `emit` has told of models and tools are left out. The metadata say that this is a replay. The usage of
    tokens is left out, so that nobody counts the tokens twice.
    """
    others = _without(manager, EventRecorder, *_compat.STREAM_HANDLERS)
    others.tags = list(others.inheritable_tags)  # each record holds its own tags
    ended = {report.number for report in reports if report.kind in (kinds.END, kinds.DONE, kinds.FAILED)}
    running: dict[int, Any] = {}
    streamed: set[int] = set()
    for kind, number, what, metadata, tags, inside, messages in reports:
        if kind == kinds.DISPATCHED:
            name, data = what
            yield manager.on_custom_event(name, data, run_id=manager.parent_run_id)
        elif not others.handlers or number not in ended:
            continue  # its end was not recorded, so callbacks would wait for it
        elif kind in (kinds.MODEL, kinds.TOOL):
            asked = (running[inside].get_child() if inside in running else others).copy()
            asked.add_tags(list(tags), inherit=False)
            asked.add_metadata({**metadata, "musubito_replayed": True}, inherit=False)
            if kind == kinds.MODEL:
                (running[number],) = yield asked.on_chat_model_start({"name": what}, [messages()], name=what)
            else:
                args, more = _given(what)
                running[number] = yield asked.on_tool_start(*args, **more)
        elif kind == kinds.CHUNK:
            streamed.add(number)
            piece = _unpaid(what)
            yield running[number].on_llm_new_token(piece.text, chunk=ChatGenerationChunk(message=piece))
        elif kind == kinds.END:
            message = _unpaid(what)
            if number not in streamed:
                piece = chunk_of(message) if isinstance(message, AIMessage) else message
                yield running[number].on_llm_new_token(piece.text, chunk=ChatGenerationChunk(message=piece))
            yield running[number].on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]))
        elif kind == kinds.DONE:
            output, more = what
            yield running[number].on_tool_end(output, **more)
        elif hasattr(running[number], "on_llm_error"):
            yield running[number].on_llm_error(what)
        else:
            yield running[number].on_tool_error(what)


def tell(config: RunnableConfig, reports: Sequence[Told]) -> None:
    """Tell the callbacks of a config what happened when the step ran (see `retold`)."""
    if reports:
        telling, heard = retold(get_callback_manager_for_config(config), reports), None
        with suppress(StopIteration):
            while True:
                heard = telling.send(heard)


async def atell(config: RunnableConfig, reports: Sequence[Told]) -> None:
    """Tell callbacks as `tell` does; some of them may have to be awaited."""
    if reports:
        telling, heard = retold(get_async_callback_manager_for_config(config), reports), None
        with suppress(StopIteration):
            while True:
                heard = await telling.send(heard)


def _push(config: RunnableConfig, message: BaseMessage, own: Mapping[str, Any]) -> None:
    metadata = {**(config.get("metadata") or {}), **_said_here(config, own)}
    token = var_child_runnable_config.set({**config, "metadata": metadata})
    try:
        push_message(message, state_key=None)
    finally:
        var_child_runnable_config.reset(token)


def _without(manager: Any, *classes: type) -> Any:
    others = manager.copy()
    others.handlers = [handler for handler in manager.handlers if not isinstance(handler, classes)]
    others.inheritable_handlers = [
        handler for handler in manager.inheritable_handlers if not isinstance(handler, classes)
    ]
    return others


def _unpaid(message: BaseMessage) -> Any:
    """Return a copy of a message without the tokens that its answer has used."""
    reported = message.response_metadata
    unpaid: dict[str, Any] = {} if getattr(message, "usage_metadata", None) is None else {"usage_metadata": None}
    if not reported.keys().isdisjoint(USAGE):
        unpaid["response_metadata"] = {key: value for key, value in reported.items() if key not in USAGE}
    return message.model_copy(update=unpaid)


def _write(config: RunnableConfig, value: Any, inside: str) -> None:
    runtime = _task_config.runtime_in(config)
    if runtime is None:
        return
    conf = config.get("configurable") or {}
    if not inside:
        runtime.stream_writer(value)
    elif _compat.CONFIG_KEY_STREAM in conf:  # the caller is shown what graphs inside the task emit
        # LangGraph's writer takes the namespace from the config of the context.
        conf = {**conf, _compat.CONFIG_KEY_CHECKPOINT_NS: f"{_task_config.checkpoint_ns_in(config)}|{inside}"}
        token = var_child_runnable_config.set({**config, "configurable": conf})
        try:
            runtime.stream_writer(value)
        finally:
            var_child_runnable_config.reset(token)


def _stream(config: RunnableConfig, value: Any, inside: str, mode: str) -> None:
    stream = (config.get("configurable") or {}).get(_compat.CONFIG_KEY_STREAM)
    if stream is not None and mode in stream.modes:
        stream((tuple(f"{_task_config.checkpoint_ns_in(config)}{inside}".split("|")), mode, value))


def _said_here(config: RunnableConfig, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return recorded metadata as a run with this config has them."""
    here = _task_config.checkpoint_ns_in(config)
    return {key: f"{here}{value}" if key in kinds.NESTED else value for key, value in own.items()}
