"""The tools of a `ToolNode` as steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command

from musubito.adapter import not_replayable
from musubito_langgraph import _compat
from musubito_langgraph.fingerprint import module_of
from musubito_langgraph.parents import standing_in
from musubito_langgraph.steps import Attempt, Place, RecordedStep

if TYPE_CHECKING:
    from musubito_langgraph.nodes import Node

__all__ = ["recorded_tools", "seen_by_tools"]


def recorded_tools(tools: Any, node: Node) -> Any:
    """A tool node like this one, whose tools are steps called `<node>.<tool>`."""
    made = _compat.copied(tools)
    steps = _Tools(tools, node)
    made._execute_tool_sync = steps.execute
    made._execute_tool_async = steps.aexecute
    return made


class _Tools:
    """Executes tool calls, each as a step, as the tool node itself would."""

    def __init__(self, tools: Any, node: Node) -> None:
        self._tools = tools
        self._node = node
        self._steps: dict[int, tuple[Any, RecordedStep]] = {}

    def execute(self, request: Any, input_type: Any, config: RunnableConfig) -> Any:
        """What the tool gives back, or gave back earlier."""
        if request.tool is None:
            return self._tools._execute_tool_sync(request, input_type, config)

        def go(config: RunnableConfig) -> Any:
            return _looked_at(self._tools._execute_tool_sync(_told(request, config), input_type, config))

        return self._attempt(request, config).run(go)

    async def aexecute(self, request: Any, input_type: Any, config: RunnableConfig) -> Any:
        """What the tool gives back, or gave back earlier."""
        if request.tool is None:
            return await self._tools._execute_tool_async(request, input_type, config)

        async def go(config: RunnableConfig) -> Any:
            return _looked_at(await self._tools._execute_tool_async(_told(request, config), input_type, config))

        return await self._attempt(request, config).arun(go)

    def _attempt(self, request: Any, config: RunnableConfig) -> Attempt:
        call = request.tool_call
        others: dict[str, object] = {}
        if _compat.tool_sees_state(self._tools, call["name"]):
            others["state"] = request.state
        return self._step(request.tool).attempt(call, config, Place(None, self._node.run(standing_in(config))), others)

    def _step(self, tool: Any) -> RecordedStep:
        known = self._steps.get(id(tool))
        if known is None:
            node = self._node
            path = f"{node.path}.{tool.name}"
            step = RecordedStep(
                f"{node.graph}/{path}",
                tool,
                module_of(tool),
                node.settings.semantics(path, node.semantics),
                node.settings,
            )
            known = self._steps[id(tool)] = tool, step
        return known[1]


def _told(request: Any, config: RunnableConfig) -> Any:
    """The request as the tool is to see it: watched."""
    runtime = _compat.runtime_in(config)
    if runtime is None:
        return request
    told = replace(request.runtime, config=config, store=runtime.store, stream_writer=runtime.stream_writer)
    return replace(request, runtime=told)


def _looked_at(output: Any) -> Any:
    """A tool's failure is told to the model as a message; it is a failure all the same, and not replayed."""
    for each in output if isinstance(output, list) else [output]:
        messages = (
            each.update.get("messages", ()) if isinstance(each, Command) and isinstance(each.update, dict) else [each]
        )
        if any(isinstance(message, ToolMessage) and message.status == "error" for message in messages):
            not_replayable("a tool failed")
    return output


def seen_by_tools(tools: Any, value: Any, config: RunnableConfig) -> Mapping[str, object]:
    """The state, if a tool that is called sees it, or something that is around all tools: it is read past the input."""
    names = _compat.tools_called(tools, value)
    if names is None or _compat.has_wrapper(tools) or any(_compat.tool_sees_state(tools, name) for name in names):
        return {"state": _compat.state_of_tools(tools, value, config)}
    return {}
