"""Run the nodes and conditional edges of a wrapped graph as steps.

`musubito_langgraph.node_kinds` decides which of these classes stands for which node.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Mapping
from dataclasses import is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable, RunnableConfig, ensure_config
from langchain_core.utils.aiter import aclosing
from pydantic import BaseModel

from musubito.adapter import ANY, SCOPE, Mode, Scope, in_scope, off_loop, register_policy, standing_engine
from musubito_langgraph import _compat, _graph_parts, _task_config
from musubito_langgraph.ambient_inputs import given_whole
from musubito_langgraph.call_site import CallSite
from musubito_langgraph.graph_invocation import RELEASED
from musubito_langgraph.graph_step import GraphStep
from musubito_langgraph.lineage_channel import INSIDE, SubgraphContext, inside
from musubito_langgraph.node_call import NodeCall
from musubito_langgraph.recorded_runnable import RecordedRunnable, of_recorded
from musubito_langgraph.settings import invocation_of
from musubito_langgraph.shield import shielded
from musubito_langgraph.stand_in import BEHIND, StandIn
from musubito_langgraph.task_lineage import TaskContext, origins_of, run_id_in, task_context
from musubito_langgraph.tool_failures import identity_of_error
from musubito_langgraph.tools import calls_live_tool, seen_by_tools

if TYPE_CHECKING:
    from musubito.code.policies import Reach
    from musubito_langgraph.node import Node

# -- functions ---------------------------------------------------------------------------------------------------------


class Answering(StandIn):
    """A function that reads keys of its state.

    If the function returns a Runnable, LangGraph gives the whole state to that Runnable.
    """

    musubito_behind: Any

    def __init__(self, function: Any) -> None:
        super().__init__(function, recurse=False)  # then LangGraph does not invoke the Runnable itself

    def _to_call(self) -> Any:
        """Return the object whose call returns what the function returns."""
        behind = self.musubito_behind
        if type(behind) is not _compat.RunnableCallable:
            return self
        # LangGraph reads six attributes for a call, and the way through the stand-in is long.
        twin = object.__new__(_compat.RunnableCallable)
        vars(twin).update(vars(behind), recurse=False)
        return twin

    def _asks(self, answer: Any) -> bool:
        return self.musubito_behind.recurse and isinstance(answer, Runnable)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Return what the function returns; if that is a Runnable, return what this Runnable returns."""
        answer = type(self.musubito_behind).invoke(self._to_call(), input, config, **kwargs)
        if not self._asks(answer):
            return answer
        with given_whole():
            return answer.invoke(input, config)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Do as `invoke` does, with an async function."""
        answer = await type(self.musubito_behind).ainvoke(self._to_call(), input, config, **kwargs)
        if not self._asks(answer):
            return answer
        with given_whole():
            return await answer.ainvoke(input, config)


class RecordedCallable(StandIn):
    """A function that is a node, or another callable that LangGraph knows by its class."""

    musubito_behind: Any
    musubito_node: Node
    musubito_step: GraphStep

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Return what the function returns, or what it returned earlier."""
        call, task = self._begin_call(input, config, kwargs)
        ended = partial(_note_origins, self.musubito_node, task, call)
        return call.run(lambda config: self.musubito_behind.invoke(input, config, **kwargs), ended)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Make the call as `invoke` does, with an async function."""
        call, task = self._begin_call(input, config, kwargs)
        ended = partial(_note_origins, self.musubito_node, task, call)
        return await call.arun(lambda config: self.musubito_behind.ainvoke(input, config, **kwargs), ended)

    def _begin_call(
        self, value: Any, config: RunnableConfig | None, kwargs: Mapping[str, Any]
    ) -> tuple[NodeCall, TaskContext | None]:
        config = ensure_config() if config is None else config
        node, task = self.musubito_node, task_context(config)
        others, site = self._besides(value, config, kwargs), node.place(task)
        if self.musubito_step.is_tool_node and not node.has_own_config:
            site = site._replace(is_live=calls_live_tool(self, node, value))
        call = NodeCall(self.musubito_step, _held(value, config), config, site, others)
        node.on_failure(task, call.origin_ref.refs)
        return call, task

    def _besides(self, value: Any, config: RunnableConfig, kwargs: Mapping[str, Any]) -> dict[str, object]:
        """Return what the node sees besides its input and its surroundings."""
        others: dict[str, object] = {}
        if kwargs:
            others["keywords"] = dict(kwargs)
        error = _task_config.error_in(config)
        if error is not None:
            others["error"] = [error.node, identity_of_error(error.error)]
        if self.musubito_step.is_tool_node:
            others.update(seen_by_tools(self, value, config))
        return others


def _of_stand_in(value: StandIn, walk: Reach) -> set[str]:
    step = vars(value).get("musubito_step")
    if step is not None:
        walk.steps.add(step.operation.name)
    return vars(value).keys() - {BEHIND}


register_policy(StandIn, _of_stand_in, lambda value: getattr(vars(value).get("musubito_step"), "opted_in", None))


def _held(state: Any, config: RunnableConfig) -> Any:
    """Return the state that a node is given, as it is now.

    LangGraph makes the state object for this task alone, so a node may assign to its fields. The values of the fields
    belong to all tasks. The input that a `Send` brings is no copy, and is returned as it is.
    """
    if _task_config.position_of_send(config) is not None:
        return state
    if type(state) is dict:
        return dict(state)
    return copy.copy(state) if isinstance(state, BaseModel) or is_dataclass(state) else state


def _note_origins(node: Node, task: TaskContext | None, attempt: NodeCall, output: Any) -> None:
    origins = attempt.origin_ref.refs()
    if attempt.releases:
        origins = tuple(origin._replace(releases=True) for origin in origins)
        if task is not None:
            task.loop.releasing.add(task.id)
    if not origins:
        return
    node.note_origins(task, origins)
    attempt.tell_tracers()
    around = INSIDE.get()
    if around is not None and _graph_parts.leaves_graph(output):
        around.left_by = origins


# -- other Runnables ---------------------------------------------------------------------------------------------------


class NodeRunnable(RecordedRunnable):
    """A Runnable that is a node, or a part of a sequence that is a node."""

    def __init__(self, bound: Runnable[Any, Any], node: Node, step: GraphStep) -> None:
        super().__init__(bound, step)
        _graph_parts.drawn_as(self, bound)
        self._node = node

    def _place(self, config: RunnableConfig) -> CallSite:
        return self._node.place(task_context(config))

    def _attempt(self, value: Any, config: RunnableConfig | None, kwargs: dict[str, Any]) -> NodeCall:
        attempt = super()._attempt(value, config, kwargs)
        self._node.on_failure(task_context(attempt.config), attempt.origin_ref.refs)
        return attempt

    def _ended(self, attempt: NodeCall, output: Any) -> None:
        _note_origins(self._node, task_context(attempt.config), attempt, output)


# -- subgraphs ---------------------------------------------------------------------------------------------------------


class Subgraph(Runnable[Any, Any]):
    """A node that is a graph, or a graph that is a part of a node.

    It is not a step; the nodes in it are steps. The first tasks of the subgraph have the parents of its task. The last
    steps of the subgraph become the parents of what follows it.
    """

    def __init__(self, graph: Any, node: Node) -> None:
        _graph_parts.drawn_as(self, graph)
        self._graph = graph
        self._node = node

    def __getattr__(self, name: str) -> Any:
        if name in ("_graph", "_node"):
            raise AttributeError(name)
        return getattr(self._graph, name)

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """Return the name of the graph."""
        return str(self._graph.get_name(suffix, name=name))

    def _around(self, config: RunnableConfig) -> tuple[SubgraphContext | None, Scope]:
        scope, invocation = SCOPE.get(), invocation_of(config)
        if invocation.mode is Mode.OFF:
            return None, scope
        engine = self._node.settings.engine_for(invocation)
        task = task_context(config)
        run = self._node.run(task)(engine, scope)
        parents = self._node.parents(task)
        if self._node.is_released(task, parents):
            parents = tuple(parent._replace(releases=True) for parent in parents) or (RELEASED,)
        within = SubgraphContext(parents, run_id_in(config))
        self._node.on_failure(task, within.failed)
        return within, Scope(engine, run, scope.frame, None, scope.ambient, invocation.said or scope.mode)

    def _to_run(self) -> Any:
        return self._graph if standing_engine() is None else shielded(self._graph)

    def _left(self, config: RunnableConfig, within: SubgraphContext | None) -> None:
        if within is not None:
            self._node.note_origins(task_context(config), within.ends())

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Invoke the graph."""
        config = ensure_config() if config is None else config
        within, scope = self._around(config)
        try:
            with in_scope(scope), inside(within):
                return self._to_run().invoke(input, config, **kwargs)
        finally:
            self._left(config, within)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Invoke the graph, as `invoke` does."""
        config = ensure_config() if config is None else config
        within, scope = await off_loop(lambda: self._around(config))
        try:
            with in_scope(scope), inside(within):
                return await self._to_run().ainvoke(input, config, **kwargs)
        finally:
            self._left(config, within)

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """Stream what the graph streams, which may differ from its output."""
        config = ensure_config() if config is None else config
        within, scope = await off_loop(lambda: self._around(config))
        chunks, ended = self._to_run().astream(input, config, **kwargs), object()
        try:
            async with aclosing(chunks):
                while True:
                    with in_scope(scope), inside(within):  # for each chunk: the code that iterates has another scope
                        chunk = await anext(chunks, ended)
                    if chunk is ended:
                        return
                    yield chunk
        finally:
            self._left(config, within)


def _of_subgraph(value: Subgraph, walk: Reach) -> tuple[str, ...]:
    walk.steps.add(f"{value._node.operation}/{ANY}")
    return ("_node",)


register_policy(Subgraph, _of_subgraph)


# -- conditional edges -------------------------------------------------------------------------------------------------


class Router(RecordedRunnable):
    """The function that decides on a conditional edge; its parent is the node that the edge comes from."""

    def __init__(self, path: Runnable[Any, Any], node: Node, step: GraphStep) -> None:
        super().__init__(path, step)
        self._node = node

    def _place(self, config: RunnableConfig) -> CallSite:
        task = task_context(config)
        if task is not None and self._node.name == "__start__":
            # New input begins new samples: the samples that its thread was given before do not count any more.
            task.loop.known.clear()
        return CallSite(origins_of(task, config, self._node.name), self._node.run(task))

    def _ended(self, attempt: NodeCall, output: Any) -> None:
        task = task_context(attempt.config)
        if task is None or not attempt.releases:
            return
        # Somebody has answered the router: what follows its node is released.
        task.loop.releasing.add(task.id)
        if task.id in task.loop.done:
            task.loop.done[task.id] = tuple(origin._replace(releases=True) for origin in task.loop.done[task.id])


for cls in (NodeRunnable, Router):
    register_policy(cls, lambda value, walk: ("_node", *of_recorded(value, walk)))
