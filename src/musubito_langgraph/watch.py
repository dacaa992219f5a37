"""What a node does besides returning: it is watched while it runs, so that a replay can do the same or is not made.

Custom events and message tokens are recorded, in their order, and emitted again; what was dispatched to callbacks
follows. An answer to an interrupt, a write to
the state past the return value or to the store, a graph inside that has a memory of its own: such executions are never
replayed, nor is any step that was open then.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial, reduce
from operator import add
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult
from langchain_core.runnables import RunnableConfig, ensure_config
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.constants import TAG_NOSTREAM

from musubito import EncodingError
from musubito.adapter import ANSWER, SCOPE, Cause, Frame, at_line_of_user, not_replayable, note_read
from musubito.identity.canonical import canonical
from musubito.identity.foreign import remembers
from musubito_langgraph import _compat
from musubito_langgraph.fingerprint import is_credential
from musubito_langgraph.messages import encodable
from musubito_langgraph.store import noting
from musubito_langgraph.usage import ModelUsage, used_in

__all__ = ["MODEL", "Answer", "Dispatched", "Events", "emit", "retold", "watched", "watched_likewise"]

CUSTOM: Final = "custom"
DISPATCHED: Final = "dispatched"
"""What LangChain's `dispatch_custom_event` told to callbacks."""
MODEL: Final = "model"
"""A model begins to answer: what its messages say of it besides what all say here."""
CHUNK: Final = "chunk"
TEXT: Final = "text"
"""A chunk that differs from the one before in its text alone."""
END: Final = "end"
"""A model has answered: its whole message, None if that is what its chunks add up to."""
_ASKED: Final[dict[UUID, tuple[Events, str, Frame | None]]] = {}
"""By a model's run: who watches it, what the model is called, and who pays for it."""
NESTED: Final = "langgraph_checkpoint_ns", "checkpoint_ns"
"""Metadata that begin with where the node is: what follows is recorded."""


class Events(BaseCallbackHandler):
    """What was emitted while something ran, in that order, as plain data and messages.

    Runs in the thread that calls it, so that the order is that of what happened.
    """

    run_inline = True
    raise_error = False

    def __init__(self, config: RunnableConfig) -> None:
        """`config`: where it runs; what every message says there is not recorded."""
        self.recorded: list[list[Any]] = []
        self.found: list[Any] = []
        """What was read from the store."""
        self.asked_a_model = False
        self.answered = False
        """Whether it used an answer to an interrupt, itself or by what it called."""
        self.observe: Callable[[RunnableConfig], None] = _compat.nothing
        """Notes what is read of a config that was made of the one around."""
        self._config = config
        self._frame = SCOPE.get().frame
        self._models: dict[UUID, _Model] = {}
        self._count = 0
        self._lock = threading.Lock()

    def custom(self, value: Any) -> None:
        """A custom event, as it is now, and in which graph inside it was emitted."""
        here = f"{_compat.checkpoint_ns_in(self._config)}|"
        there = _compat.checkpoint_ns_in(var_child_runnable_config.get() or {})
        self.recorded.append([CUSTOM, _as_it_is(value), there.removeprefix(here) if there.startswith(here) else ""])

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """An event for callbacks, as it is now."""
        self.recorded.append([DISPATCHED, name, _as_it_is(data)])

    def on_chain_start(self, serialized: dict[str, Any], inputs: dict[str, Any], **kwargs: Any) -> None:
        """A Runnable begins. That a graph remembers cannot be told by the code that runs it, if that makes it only when
        it is needed, or is given it."""
        graph = _compat.graph_that_begins()
        if graph is not None and remembers(graph):
            not_replayable(Cause.GRAPH_REMEMBERS.of(graph.get_name()))
        self._observe_inside()

    def on_tool_start(self, serialized: dict[str, Any], input_str: str, **kwargs: Any) -> None:
        """A tool begins."""
        self._observe_inside()

    def _observe_inside(self) -> None:
        # LangChain and LangGraph make plain dicts of the parts of configs that they merge.
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
        """A model begins to answer."""
        self._asked(run_id, metadata)
        self.begins(run_id, tags, metadata, str(kwargs.get("name") or (serialized or {}).get("name") or ""))

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
        """One that answers with plain text; its tokens are not streamed as messages."""
        self._asked(run_id, metadata)

    def _asked(self, run_id: UUID, metadata: Mapping[str, Any] | None) -> None:
        # The innermost step that watches is told last, and is the one that pays.
        frame = SCOPE.get().frame
        if frame is None or not any(each is self._frame for each in frame.enclosing()):
            frame = self._frame
        # A step of the core may run inside, which watches nothing.
        _ASKED[run_id] = self, str((metadata or {}).get("ls_model_name") or ""), frame
        self.asked_a_model = True

    @property
    def told_of_usage(self) -> bool:
        """Whether anybody said what was used: a model that was asked or answers once more, a step inside, the code."""
        frame = self._frame
        return self.asked_a_model or (frame is not None and bool(frame.tokens or frame.inside))

    def begins(self, run_id: UUID, tags: list[str] | None, metadata: dict[str, Any] | None, name: str) -> None:
        """A model's answer begins, or one that is emitted again."""
        self.asked_a_model = True
        if metadata is None or TAG_NOSTREAM in (tags or ()):
            return
        said, around = dict(_besides(metadata, self._config)), _tags_in(self._config)
        with self._lock:
            self._models[run_id] = _Model(self._count)
            self._count += 1
            self.recorded.append([MODEL, said, [tag for tag in tags or () if tag not in around], name])

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
        """A piece of its answer."""
        model = self._models.get(run_id)
        if model is not None and isinstance(chunk, ChatGenerationChunk):
            self.recorded.append(model.piece(chunk.message))

    def on_llm_end(
        self, response: LLMResult, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """All of it."""
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
        """It failed, or nobody wanted the rest of its answer; what came until then is told besides."""
        asked = _ASKED.get(run_id)
        if asked is not None and asked[0] is self:
            del _ASKED[run_id]
            response = kwargs.get("response")
            if isinstance(response, LLMResult):
                self.uses(used_in(response, asked[1]), asked[2])
        self._models.pop(run_id, None)

    def uses(self, used: Iterable[ModelUsage], frame: Frame | None = None) -> None:
        """A step inside, or the one that is watched, has used these tokens."""
        frame = frame or self._frame
        if frame is not None:
            for each in used:
                frame.uses_tokens(*each)


class _Model:
    """A model that answers: the how many-th of those that did."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.ids: set[str | None] = set()
        self._last: BaseMessage | None = None

    def piece(self, message: BaseMessage) -> list[Any]:
        """What is recorded of a chunk."""
        last = self._last
        if last is not None and _differ_in_text_alone(last, message):
            return [TEXT, self.number, message.content]
        self._last = kept = _as_it_is(message)
        self.ids.add(message.id)
        return [CHUNK, self.number, kept]


def _as_it_is(value: Any) -> Any:
    """A copy of data, which does not change when the original does. An object that is no data may end something when
    its copy ends."""
    try:
        canonical(encodable(value))
        return copy.deepcopy(value)
    except Exception as error:
        # The encoder says what is wrong with it, if anything is.
        not_replayable(Cause.EVENT_NOT_STORABLE.of(error))
        return value


def _metadata_in(config: RunnableConfig) -> dict[str, Any]:
    """What a model that is invoked here says: LangChain adds what is configured."""
    callbacks = config.get("callbacks")
    inherited = callbacks.inheritable_metadata if isinstance(callbacks, BaseCallbackManager) else {}
    return {**inherited, **ensure_config(config)["metadata"]}


def _besides(metadata: Mapping[str, Any], config: RunnableConfig) -> Iterator[tuple[str, Any]]:
    """What metadata say that is not said of everything here."""
    around, here = _metadata_in(config), _compat.checkpoint_ns_in(config)
    for key, value in metadata.items():
        # Older LangChains say all that is configured, keys of services among it.
        if (key in around and around[key] == value) or is_credential(key):
            continue
        if key in NESTED:
            if here and str(value).startswith(here):
                yield key, value.removeprefix(here)
        elif _is_plain(value):
            yield key, value


def _tags_in(config: RunnableConfig) -> list[str]:
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


def watched(config: RunnableConfig, calls: Callable[[Any], Any] | None) -> tuple[RunnableConfig, Events]:
    """The config that a node is given instead of this one, and what it will have emitted.

    `calls` makes of the function that calls `@task`s another one, which is told what was emitted; None leaves it.
    """
    events = Events(config)
    conf = dict(config.get("configurable") or {})
    runtime = _compat.runtime_in(config)
    if runtime is not None:
        _compat.with_runtime(conf, _watched_runtime(runtime, events))
    changed: RunnableConfig = {**config, "callbacks": _with(config.get("callbacks"), events), "configurable": conf}
    around = [each for each in _handlers(changed) if isinstance(each, Events)]
    if _compat.scratchpad_in(config) is not None:
        _compat.with_scratchpad(conf, subgraph_counter=_watched_counter(config, around))
    _compat.with_send(conf, partial(_watched_send, around))
    caller = _compat.caller_in(config)
    if caller is not None and calls is not None:
        _compat.with_caller(conf, calls(caller))
    return changed, events


def watched_likewise(around: RunnableConfig, config: RunnableConfig) -> RunnableConfig:
    """The config around a call, watched as `config` is, which was made for the call. Whose runs follow in a tracer's
    tree stays as it is there."""
    callbacks = around.get("callbacks")
    for handler in _handlers(config):
        if isinstance(handler, Events):
            callbacks = _with(callbacks, handler)
    changed: RunnableConfig = {**around, "callbacks": callbacks, "configurable": config["configurable"]}
    for handler in _handlers(config)[-1:]:
        if isinstance(handler, Events):
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


def _watched_runtime(runtime: Any, events: Events) -> Any:
    write = runtime.stream_writer

    def stream_writer(value: Any) -> None:
        events.custom(value)
        write(value)

    changes: dict[str, Any] = {"stream_writer": stream_writer}
    if runtime.store is not None:
        changes["store"] = noting(runtime.store, SCOPE.get().frame, events.found)
    if _compat.control_in(runtime) is not None:
        changes["control"] = _WatchedControl(runtime.control, SCOPE.get().frame)
    return runtime.override(**changes)


class _WatchedControl:
    """By this a run is asked to come to an end. What heard of it may have done less than it does else."""

    def __init__(self, control: Any, body: Frame | None) -> None:
        self._control = control
        self._body = body

    def __getattr__(self, name: str) -> Any:
        if name in ("_control", "_body"):
            raise AttributeError(name)
        return getattr(self._control, name)

    def request_drain(self, reason: str = "shutdown") -> None:
        not_replayable("it asked its run to come to an end", self._body)
        self._control.request_drain(reason)

    @property
    def drain_requested(self) -> bool:
        return self.drain_reason is not None

    @property
    def drain_reason(self) -> str | None:
        reason: str | None = self._control.drain_reason
        if reason is not None:
            not_replayable("its run was asked to come to an end, and it asked whether it was", self._body)
        return reason


def _watched_send(
    around: Sequence[Events], send: Callable[[Sequence[tuple[str, Any]]], None]
) -> Callable[[Sequence[tuple[str, Any]]], None]:
    def sending(writes: Sequence[tuple[str, Any]]) -> None:
        if any(_compat.is_answer(channel) for channel, _ in writes):
            not_replayable(Cause.INTERRUPT_ANSWERED.of(at_line_of_user("interrupt")))
            _note_answer(around)
        elif writes:
            keys = ", ".join(dict.fromkeys(channel for channel, _ in writes))
            not_replayable(Cause.STATE_WRITTEN.of(at_line_of_user(keys)))
        send(writes)

    return sending


def _note_answer(around: Sequence[Events]) -> None:
    note_read(ANSWER, "", None)
    for events in around:
        events.answered = True


def _watched_counter(config: RunnableConfig, around: Sequence[Events]) -> Callable[[], int]:
    """LangGraph asks for a number whenever a graph is invoked inside a task."""
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


class Dispatched(NamedTuple):
    """An event that was dispatched to callbacks."""

    name: str
    data: Any


class Answer(NamedTuple):
    """What a model answered, with the name that it goes by, what it said of itself, and the pieces that came."""

    name: str
    metadata: dict[str, Any]
    tags: list[str]
    pieces: list[BaseMessage]
    messages: list[BaseMessage]
    """The whole answer, once it is known."""


def emit(config: RunnableConfig, events: Sequence[Sequence[Any]]) -> list[Dispatched | Answer]:
    """Emit what was recorded to whoever listens now: to the stream, and to those that record what encloses this. Gives
    back what callbacks are to be told (see `retold`), some of which may have to be awaited."""
    listening = [each for each in _handlers(config) if isinstance(each, Events | _compat.StreamMessagesHandler)]
    tags = _tags_in(config)
    runs: list[UUID] = []
    answers: list[Answer] = []
    told: list[Dispatched | Answer] = []
    for kind, *rest in events:
        if kind == CUSTOM:
            _write(config, *rest)
        elif kind == DISPATCHED:
            told.append(Dispatched(*rest))
        elif kind == MODEL:
            said, own, *name = rest
            metadata = _metadata(config, said)
            runs.append(uuid4())
            answers.append(Answer("".join(name), metadata, own, [], []))
            told.append(answers[-1])
            for handler in listening:
                if isinstance(handler, Events):
                    handler.begins(runs[-1], [*tags, *own], metadata, answers[-1].name)
                else:
                    handler.on_chat_model_start({}, [], run_id=runs[-1], tags=[*tags, *own], metadata=metadata)
        elif kind == END:
            number, message = rest
            message = message or message_chunk_to_message(reduce(add, answers[number].pieces))
            answers[number].messages.append(message)
            for handler in listening:
                handler.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]), run_id=runs[number])
        else:
            number, said = rest
            before: list[Any] = answers[number].pieces
            piece = before[-1].model_copy(update={"content": said}, deep=True) if kind == TEXT else said
            before.append(piece)
            for handler in listening:
                handler.on_llm_new_token(piece.text, chunk=ChatGenerationChunk(message=piece), run_id=runs[number])
    return told


def retold(manager: Any, told: Iterable[Dispatched | Answer]) -> Generator[Any, Any]:
    """Tell the callbacks of a manager what happened when it ran; yields what may have to be awaited.

    Of models hear all that have not heard of them by `emit`. That it is a replay is said in the metadata. What was used
    is left out, so that nobody counts it twice.
    """
    others = _without(manager, Events, _compat.StreamMessagesHandler)
    for each in told:
        if isinstance(each, Dispatched):
            yield manager.on_custom_event(each.name, each.data, run_id=manager.parent_run_id)
        elif others.handlers and each.messages:
            asked = others.copy()
            asked.add_tags(each.tags, inherit=False)
            asked.add_metadata({**each.metadata, "musubito_replayed": True}, inherit=False)
            (answering,) = yield asked.on_chat_model_start({"name": each.name}, [[]], name=each.name)
            message = _unpaid(each.messages[0])
            for piece in map(_unpaid, each.pieces) if each.pieces else (_as_piece(message),):
                yield answering.on_llm_new_token(piece.text, chunk=ChatGenerationChunk(message=piece))
            yield answering.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]))


def _without(manager: Any, *kinds: type) -> Any:
    others = manager.copy()
    others.handlers = [each for each in manager.handlers if not isinstance(each, kinds)]
    others.inheritable_handlers = [each for each in manager.inheritable_handlers if not isinstance(each, kinds)]
    return others


def _unpaid(message: BaseMessage) -> Any:
    """A message without what its answer has used."""
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
        # LangGraph's writer asks where it is called.
        conf = dict(config.get("configurable") or {})
        _compat.with_checkpoint_ns(conf, f"{_compat.checkpoint_ns_in(config)}|{inside}")
        token = var_child_runnable_config.set({**config, "configurable": conf})
        try:
            runtime.stream_writer(value)
        finally:
            var_child_runnable_config.reset(token)


def _metadata(config: RunnableConfig, said: Mapping[str, Any]) -> dict[str, Any]:
    """What a model's messages say of it, where this config is."""
    here = _compat.checkpoint_ns_in(config)
    return {
        **_metadata_in(config),
        **{key: f"{here}{value}" if key in NESTED else value for key, value in said.items()},
    }
