"""The tools of a `ToolNode` as steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, Final

from langchain_core.runnables import RunnableConfig

from musubito.adapter import Fingerprint, not_replayable
from musubito_langgraph import _compat
from musubito_langgraph.failures import NotCalled, was_called
from musubito_langgraph.parents import standing_in
from musubito_langgraph.stand_in import StandIn
from musubito_langgraph.steps import Attempt, Place, RecordedStep, counted_keys

if TYPE_CHECKING:
    from musubito_langgraph.nodes import Node

__all__ = ["recorded_tools", "seen_by_tools"]

MOST_TOOLS: Final = 256
"""So many are kept as steps: middleware may make tools anew for each request."""


def recorded_tools(tools: Any, node: Node) -> Any:
    """A tool node like this one, whose tools are steps called `<node>.<tool>`."""
    steps = _Tools(tools, node)
    return StandIn(tools, _execute_tool_sync=steps.execute, _execute_tool_async=steps.aexecute)


class _Tools:
    """Executes tool calls, each as a step, as the tool node itself would."""

    def __init__(self, tools: Any, node: Node) -> None:
        self._tools = tools
        self._raising = _compat.raising(tools)
        self._node = node
        self._steps: dict[int, tuple[Any, RecordedStep]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # What goes by where things lie in this process says nothing in another.
        return {**vars(self), "_steps": {}}

    def execute(self, request: Any, input_type: Any, config: RunnableConfig) -> Any:
        """What the tool gives back, or gave back earlier."""
        if request.tool is None:
            return self._tools._execute_tool_sync(request, input_type, config)
        attempt, around = self._attempt(request, config), config
        if not attempt.step.is_effect:
            return attempt.run(
                lambda config: self._tools._execute_tool_sync(_told(request, around, config), input_type, config)
            )

        def go(config: RunnableConfig) -> Any:
            with _as_it_failed():
                return self._raising._execute_tool_sync(_told(request, around, config), input_type, config)

        try:
            return attempt.run(go)
        except Exception as error:
            return self._tools._execute_tool_sync(_failing(request, error, go), input_type, config)

    async def aexecute(self, request: Any, input_type: Any, config: RunnableConfig) -> Any:
        """What the tool gives back, or gave back earlier."""
        if request.tool is None:
            return await self._tools._execute_tool_async(request, input_type, config)
        attempt, around = self._attempt(request, config), config

        if not attempt.step.is_effect:

            async def leniently(config: RunnableConfig) -> Any:
                return await self._tools._execute_tool_async(_told(request, around, config), input_type, config)

            return await attempt.arun(leniently)

        async def go(config: RunnableConfig) -> Any:
            with _as_it_failed():
                return await self._raising._execute_tool_async(_told(request, around, config), input_type, config)

        try:
            return await attempt.arun(go)
        except Exception as error:
            return await self._tools._execute_tool_async(_failing(request, error, go), input_type, config)

    def _attempt(self, request: Any, config: RunnableConfig) -> Attempt:
        call = request.tool_call
        others: dict[str, object] = {}
        step = self._step(request.tool)
        if _compat.tool_sees_state(self._tools, call["name"]):
            others["state"] = _compat.state_told(request)
            given, told = _compat.runtime_in(config), request.runtime
            if given is not None and told.context is not given.context:
                # A wrapper of tool calls has put another in its place.
                others["context"] = told.context
            tools = getattr(told, "tools", None)
            if tools and _looks_at_tools(step.operation.fingerprint()):
                others["tools"] = [self._step(tool).operation.fingerprint().digest for tool in tools]
        standing = standing_in(config)
        is_released = standing is not None and self._node.is_released(standing, self._node.parents(standing))
        return step.attempt(call, config, Place(None, self._node.run(standing), None, is_released), others)

    def _step(self, tool: Any) -> RecordedStep:
        known = self._steps.get(id(tool))
        if known is None:
            node = self._node
            path = f"{node.path}.{tool.name}"
            semantics = node.settings.semantics(path, replace(node.semantics, inputs=None))
            semantics = replace(semantics, definite_failures=(*semantics.definite_failures, NotCalled))
            name, said = f"{node.graph}/{path}", path in node.settings.steps
            step = RecordedStep(name, tool, semantics, node.settings, counting=_counted_call, is_done_anew=not said)
            if len(self._steps) >= MOST_TOOLS:
                self._steps.clear()
            known = self._steps[id(tool)] = tool, step
        return known[1]


def _counted_call(call: Any, names: tuple[str, ...]) -> Any:
    return {**call, "args": counted_keys(call["args"], names)}


def _looks_at_tools(code: Fingerprint) -> bool:
    """Whether it may ask its runtime which tools there are."""
    return any(part.is_function and (part.source is None or "tools" in part.source) for part in code.parts)


def _told(request: Any, around: RunnableConfig, config: RunnableConfig) -> Any:
    """The request as the tool is to see it: watched, as `config` is, which was made of the one `around` the call."""
    runtime, before = _compat.runtime_in(config), _compat.runtime_in(around)
    told = request.runtime
    if runtime is None or before is None or told is None:
        return request
    changes: dict[str, object] = {}
    for name, was, now in (
        ("config", around, config),
        ("store", before.store, runtime.store),
        ("stream_writer", before.stream_writer, runtime.stream_writer),
    ):
        if getattr(told, name) is was:
            changes[name] = now
        else:
            not_replayable(f"a wrapper of tool calls gave the tool another {name}")
    return replace(request, runtime=replace(told, **changes))


class _Failing:
    """Stands for a tool of which it is known already how it fails."""

    def __init__(self, tool: Any, error: BaseException) -> None:
        self._tool = tool
        self._error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tool, name)

    def invoke(self, *_: Any) -> Any:
        """Fails so."""
        raise self._error

    async def ainvoke(self, *_: Any) -> Any:
        """Fails so."""
        raise self._error


def _failing(request: Any, error: Exception, go: Any) -> Any:
    """The request, to a tool that fails with this error, so that the tool node does with it what it does. What was not
    raised in `go` is no failure of the tool, but one of its record: it is raised."""
    if not any(frame.f_code is go.__code__ for frame, _ in walk_tb(error.__traceback__)):
        raise error
    failed = error.__cause__ if isinstance(error, NotCalled) and error.__cause__ else error
    return replace(request, tool=_Failing(request.tool, failed))


@contextmanager
def _as_it_failed() -> Iterator[None]:
    """What the record of an effect is told of a failure: that nothing happened, where the tool was not called."""
    try:
        yield
    except Exception as error:
        if was_called(error):
            raise
        raise NotCalled(str(error)) from error


def seen_by_tools(tools: Any, value: Any, config: RunnableConfig) -> Mapping[str, object]:
    """The state, if a tool that is called sees it, or something that is around all tools: it is read past the input."""
    names = _compat.tools_called(tools, value)
    if names is None or _compat.has_wrapper(tools) or any(_compat.tool_sees_state(tools, name) for name in names):
        return {"state": _compat.state_of_tools(tools, value, config)}
    return {}
