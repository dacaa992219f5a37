"""Make steps of the tools of a `ToolNode`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, Final, NoReturn

from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command

from musubito import StepConfiguration
from musubito.adapter import ReplayReason, not_replayable
from musubito_langgraph import _graph_parts, _task_config
from musubito_langgraph.call_site import CallSite
from musubito_langgraph.graph_step import GraphStep, counted_keys
from musubito_langgraph.node_call import NodeCall
from musubito_langgraph.stand_in import StandIn
from musubito_langgraph.task_lineage import task_context
from musubito_langgraph.tool_failures import NotCalled, was_called

if TYPE_CHECKING:
    from musubito_langgraph.node import Node

MAX_TOOLS: Final = 256
"""Number of tools that are kept as steps; middleware may make tools anew for each request."""


def recorded_tools(tools: Any, node: Node) -> Any:
    """Return a tool node like this one, whose tools are steps called `<node>.<tool>`."""
    steps = _Tools(tools, node)
    return StandIn(tools, _execute_tool_sync=steps.execute, _execute_tool_async=steps.aexecute)


class _Tools:
    """The tool calls of a tool node: each is executed as a step, and as the tool node itself would execute it."""

    def __init__(self, tools: Any, node: Node) -> None:
        self._tools = tools
        self._raising = StandIn(tools, _handle_tool_errors=False)
        self._node = node
        self._steps: dict[int, tuple[Any, GraphStep]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # The keys of `_steps` are ids of objects, which mean nothing in another process.
        return {**vars(self), "_steps": {}}

    def execute(self, request: Any, input_type: Any, config: RunnableConfig) -> Any:
        """Return what the tool returns, or what it returned earlier."""
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
            return _as_message(attempt.run(go), request.tool_call)
        except Exception as error:
            return self._tools._execute_tool_sync(_failing(request, error, go), input_type, config)

    async def aexecute(self, request: Any, input_type: Any, config: RunnableConfig) -> Any:
        """Execute a tool call as `execute` does, with an async tool."""
        if request.tool is None:
            return await self._tools._execute_tool_async(request, input_type, config)
        attempt, around = self._attempt(request, config), config
        if not attempt.step.is_effect:
            return await attempt.arun(
                lambda config: self._tools._execute_tool_async(_told(request, around, config), input_type, config)
            )

        async def go(config: RunnableConfig) -> Any:
            with _as_it_failed():
                return await self._raising._execute_tool_async(_told(request, around, config), input_type, config)

        try:
            return _as_message(await attempt.arun(go), request.tool_call)
        except Exception as error:
            return await self._tools._execute_tool_async(_failing(request, error, go), input_type, config)

    def _attempt(self, request: Any, config: RunnableConfig) -> NodeCall:
        call = request.tool_call
        others: dict[str, object] = {}
        step = self._step(request.tool)
        if _graph_parts.tool_sees_state(self._tools, call["name"]):
            others["state"] = getattr(request.runtime, "state", request.state)
            around, runtime = _task_config.runtime_in(config), request.runtime
            if around is not None and runtime.context is not around.context:
                # A wrapper of tool calls has replaced the context.
                others["context"] = runtime.context
            tools = getattr(runtime, "tools", None)
            if tools and any(
                part.is_function and (part.source is None or "tools" in part.source)
                for part in step.operation.fingerprint().parts
            ):  # such code may ask its runtime for the tools
                others["tools"] = [self._step(tool).operation.fingerprint().digest for tool in tools]
        task = task_context(config)
        is_released = task is not None and self._node.is_released(task, self._node.parents(task))
        return NodeCall(step, call, config, CallSite(None, self._node.run(task), None, is_released), others)

    def _step(self, tool: Any) -> GraphStep:
        cached = self._steps.get(id(tool))
        if cached is None:
            node = self._node
            path = f"{node.path}.{tool.name}"
            semantics, is_configured = semantics_of(tool, node)
            semantics = replace(semantics, definite_failures=(*semantics.definite_failures, NotCalled))
            step = GraphStep(
                *(f"{node.graph}/{path}", tool, semantics, node.settings),
                counting=_counted_call,
                is_done_anew=path not in node.settings.steps,
                is_configured=is_configured,
            )
            if len(self._steps) >= MAX_TOOLS:
                self._steps.clear()
            cached = self._steps[id(tool)] = tool, step
        return cached[1]


def _as_message(output: Any, call: Any) -> Any:
    """Return the output of a tool node; a person who says what an effect gave need not make a message of it."""
    if isinstance(output, ToolMessage | Command | list):
        return output
    content = output if isinstance(output, str) else json.dumps(output)
    return ToolMessage(content, name=call["name"], tool_call_id=call["id"])


def semantics_of(tool: Any, node: Node) -> tuple[StepConfiguration, bool]:
    """Return how a tool of this tool node may be replayed, and whether the user said so."""
    said = replace(node.semantics, inputs=None) if node.has_own_config else None
    return node.settings.of_tool(f"{node.path}.{tool.name}", tool, said)


def calls_live_tool(tools: Any, node: Node, value: Any) -> bool:
    """Tell whether this input of a tool node calls a tool that runs each time, or once in each run."""
    called = [tools.tools_by_name.get(name) for name in _graph_parts.tools_called(tools, value) or ()]
    policies = [semantics_of(tool, node)[0] for tool in called if tool is not None]
    return any(policy.runs_each_time or policy.once_per == "run" for policy in policies)


def _counted_call(call: Any, names: tuple[str, ...]) -> Any:
    return {**call, "args": counted_keys(call["args"], names)}


def _told(request: Any, around: RunnableConfig, config: RunnableConfig) -> Any:
    """Return the request as the tool is to see it, watched as `config` is watched.

    `config` was made of the config `around` the call.
    """
    runtime, before = _task_config.runtime_in(config), _task_config.runtime_in(around)
    runtime_of_tool = request.runtime
    if runtime is None or before is None or runtime_of_tool is None:
        return request
    changes: dict[str, object] = {}
    for name, was, now in (
        ("config", around, config),
        ("store", before.store, runtime.store),
        ("stream_writer", before.stream_writer, runtime.stream_writer),
    ):
        if getattr(runtime_of_tool, name) is was:
            changes[name] = now
        else:
            not_replayable(
                ReplayReason.OTHER.of(
                    f"a wrapper of tool calls gave the tool another {name}; hand on what it was given"
                )
            )
    return replace(request, runtime=replace(runtime_of_tool, **changes))


def _failing(request: Any, error: Exception, go: Any) -> Any:
    """Return the request for a tool that fails with this error, so that the tool node handles the error as usual.

    An error that `go` did not raise is no failure of the tool, but of its record: that error is raised.
    """
    if not any(frame.f_code is go.__code__ for frame, _ in walk_tb(error.__traceback__)):
        raise error
    failed = error.__cause__ if isinstance(error, NotCalled) and error.__cause__ else error

    def fail(*_: Any) -> NoReturn:
        raise failed

    return replace(request, tool=StandIn(request.tool, invoke=fail, ainvoke=fail))


@contextmanager
def _as_it_failed() -> Iterator[None]:
    """Raise `NotCalled` instead of an error of a tool that was not called.

    From this the record of an effect learns that nothing happened.
    """
    try:
        yield
    except Exception as error:
        if was_called(error):
            raise
        raise NotCalled(str(error)) from error


def seen_by_tools(tools: Any, value: Any, config: RunnableConfig) -> Mapping[str, object]:
    """Return the state, if a called tool or a wrapper of all tools sees it: they read it besides their input."""
    names = _graph_parts.tools_called(tools, value)
    if (
        names is None
        or _graph_parts.has_wrapper(tools)
        or any(_graph_parts.tool_sees_state(tools, name) for name in names)
    ):
        return {"state": _graph_parts.state_of_tools(tools, value, config)}
    return {}
