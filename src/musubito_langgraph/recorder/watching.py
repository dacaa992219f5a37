"""Give a node a config that records what the node does."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config

from musubito.adapter import (
    SCOPE,
    Frame,
    ReplayReason,
    at_line_of_user,
    not_replayable,
)
from musubito_langgraph import _compat, _task_config
from musubito_langgraph.lineage_channel import INSIDE
from musubito_langgraph.observed_config import ObservedConfig
from musubito_langgraph.recorder.config import handlers, with_handler
from musubito_langgraph.recorder.events import CopiedAsItself, EventRecorder
from musubito_langgraph.recorder.store import noting
from musubito_langgraph.stand_in import StandIn

# -- a config that watches ---------------------------------------------------------------------------------------------


def watched(config: RunnableConfig, calls: Callable[[Any], Any] | None) -> tuple[RunnableConfig, EventRecorder]:
    """Return the config that a node is given instead of `config`, and the recorder of what the node emits.

    `calls` replaces the function that calls `@task`s by one that is told what was emitted. If `calls` is None, that
    function stays as it is.
    """
    events = EventRecorder(config)
    conf = dict(config.get("configurable") or {})
    runtime = _task_config.runtime_in(config)
    if runtime is not None:
        conf[_compat.CONFIG_KEY_RUNTIME] = _watched_runtime(runtime, events)
    if _compat.CONFIG_KEY_STREAM in conf:
        conf[_compat.CONFIG_KEY_STREAM] = _watched_stream(conf[_compat.CONFIG_KEY_STREAM], events)
    callbacks = with_handler(config.get("callbacks"), events)
    changed: RunnableConfig = {**config, "callbacks": callbacks, "configurable": conf}
    around = [handler for handler in handlers(changed) if isinstance(handler, EventRecorder)]
    scratchpad = conf.get(_compat.CONFIG_KEY_SCRATCHPAD)
    if scratchpad is not None:
        counter = _watched_counter(config, scratchpad.subgraph_counter, events, around)
        conf[_compat.CONFIG_KEY_SCRATCHPAD] = _compat.with_fields(scratchpad, {"subgraph_counter": counter})
    if _compat.CONFIG_KEY_SEND in conf:
        conf[_compat.CONFIG_KEY_SEND] = _WatchedSend(around, events, conf[_compat.CONFIG_KEY_SEND])
    if calls is not None and conf.get(_compat.CONFIG_KEY_CALL) is not None:
        conf[_compat.CONFIG_KEY_CALL] = calls(conf[_compat.CONFIG_KEY_CALL])
    return changed, events


def _watched_likewise(around: RunnableConfig, config: RunnableConfig) -> RunnableConfig:
    """Return the config `around` a call, watched as `config` is watched, which was made for the call.

    The parent run in `around` stays: in a tracer's tree, the runs that follow keep their place.
    """
    callbacks = around.get("callbacks")
    for handler in handlers(config):
        if isinstance(handler, EventRecorder):
            callbacks = with_handler(callbacks, handler)
    changed: RunnableConfig = {**around, "callbacks": callbacks, "configurable": config["configurable"]}
    for handler in handlers(config)[-1:]:
        if isinstance(handler, EventRecorder):
            handler.observe(changed)
    return changed


@contextmanager
def within(config: RunnableConfig, given: RunnableConfig | None = None) -> Iterator[None]:
    """Run in a context in which the surrounding config is watched, as `config` is.

    `get_config` and `interrupt` find that config. Outside of any run there is no surrounding config. `given` is the
    config that `config` was made of. LangGraph mostly gives a node the surrounding config itself, and `config` is that
    one, watched. If `config` is not watched, the context stays as it is.
    """
    if given is not None and config.get("configurable") is given.get("configurable"):
        yield
        return
    around = var_child_runnable_config.get()
    watching: Any = None
    if around is not None:
        watching = ObservedConfig(config if around is given else _watched_likewise(around, config))
    token, inner = var_child_runnable_config.set(watching), INSIDE.set(None)
    try:
        yield
    finally:
        INSIDE.reset(inner)
        var_child_runnable_config.reset(token)


def _watched_runtime(runtime: Any, events: EventRecorder) -> Any:
    changes: dict[str, Any] = {"stream_writer": _WatchedWriter(events, runtime.stream_writer)}
    if runtime.store is not None:
        changes["store"] = noting(runtime.store, SCOPE.get().frame, events.found)
    if getattr(runtime, "control", None) is not None:  # since LangGraph 1.2
        changes["control"] = _WatchedControl(runtime.control, musubito_body=SCOPE.get().frame)
    return _compat.with_fields(runtime, changes)


def _watched_stream(stream: Any, events: EventRecorder) -> Any:
    """Return LangGraph's function for what graphs inside a task stream; each chunk is recorded."""

    def put(chunk: Any) -> None:
        events.streamed(*chunk)
        stream(chunk)

    return type(stream)(put, stream.modes)


class _WatchedWriter(CopiedAsItself):
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


class _WatchedControl(StandIn):
    """LangGraph's control, with which a run is asked to end, recorded while the node runs.

    A node that learned of such a request may have done less than it does otherwise, so its result is not replayed.
    """

    musubito_behind: Any
    musubito_body: Frame | None

    def request_drain(self, reason: str = "shutdown") -> None:
        not_replayable(ReplayReason.OTHER.of("it stopped its run; let another node do that"), self.musubito_body)
        self.musubito_behind.request_drain(reason)

    @property
    def drain_requested(self) -> bool:
        return self.drain_reason is not None

    @property
    def drain_reason(self) -> str | None:
        reason: str | None = self.musubito_behind.drain_reason
        if reason is not None:
            not_replayable(
                ReplayReason.OTHER.of("it asked whether its run was stopped, and may have done less for it"),
                self.musubito_body,
            )
        return reason

    def __reduce_ex__(self, _protocol: Any) -> Any:
        _ = self.drain_reason  # a copy holds the reason, too
        return copy.copy, (self.musubito_behind,)


class _WatchedSend(CopiedAsItself):
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
        if self._events.in_order and _answers(writes):
            self._events.note_answers()
        self._write(writes, is_seen=SCOPE.get().frame is self._events.frame)

    def _write(self, writes: Sequence[tuple[str, Any]], *, is_seen: bool) -> None:
        """Record the writes, then write them.

        `is_seen` tells whether every open step between this one and the writing code watches, too.
        """
        body = self._events.frame
        if _answers(writes):
            if not self._events.in_order:
                not_replayable(ReplayReason.INTERRUPT_ANSWERED.of(at_line_of_user("interrupt")))
            self._events.answered_beside(self._around)
        elif writes and not all(_task_config.is_of_state(self._events.config, channel) for channel, _ in writes):
            keys = ", ".join(dict.fromkeys(channel for channel, _ in writes))
            not_replayable(ReplayReason.STATE_WRITTEN.of(at_line_of_user(keys)))
        elif writes and not is_seen:
            keys = ", ".join(dict.fromkeys(channel for channel, _ in writes))
            not_replayable(ReplayReason.STATE_WRITTEN.of(f"{keys}, by a plain step inside it"), body)
        else:
            for write in writes:
                self._events.writes(*write)
        outer = self._send
        if isinstance(outer, _WatchedSend):
            outside = outer._events.frame
            outer._write(writes, is_seen=body is outside or (body is not None and outside in body.around))
        else:
            outer(writes)


def _answers(writes: Sequence[tuple[str, Any]]) -> bool:
    """Tell whether `interrupt` writes with these writes that it has used answers."""
    return any(channel == _compat.RESUME for channel, _ in writes)


def _watched_counter(
    config: RunnableConfig, count: Callable[[], int], events: EventRecorder, around: Sequence[EventRecorder]
) -> Callable[[], int]:
    """Return a counter that notes when a graph inside a task may use an answer to an interrupt.

    LangGraph takes a number from the counter each time that a graph is invoked inside a task.
    """

    def counting() -> int:
        if _task_config.is_resuming(config) and events.in_order:
            if _task_config.has_answer(config):
                events.note_answers(("answers", "answers_by_id"))
                events.answered_beside(around)
        elif _task_config.is_resuming(config):
            not_replayable(
                ReplayReason.GRAPH_INSIDE.of(at_line_of_user("it may have been given an answer to an interrupt"))
            )
            if _task_config.has_answer(config):
                events.answered_beside(around)
        return count()

    return counting
