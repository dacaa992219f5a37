"""Make steps of the tasks of the functional API.

A `@task` is a step, wherever it is called. An `@entrypoint` is no step, since LangGraph runs its body again whenever it
resumes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Final

from langchain_core.runnables import RunnableConfig, ensure_config
from langgraph.config import get_config

from musubito.adapter import ANY, SCOPE, Mode, Operation, Scope, in_scope, off_loop, register_policy
from musubito_langgraph import _compat, _graph_parts, _task_config
from musubito_langgraph.ambient_inputs import NodeAmbient
from musubito_langgraph.call_site import CallSite
from musubito_langgraph.graph_step import GraphStep, counted_keys
from musubito_langgraph.node_call import NodeCall
from musubito_langgraph.object_policies import of_runnable
from musubito_langgraph.recorder.watching import watched, within
from musubito_langgraph.settings import invocation_of
from musubito_langgraph.task_lineage import task_context

if TYPE_CHECKING:
    from musubito.code.policies import Reach
    from musubito_langgraph.node import Node

Caller = Callable[..., Any]
_TASKS: Final[dict[tuple[int, int, frozenset[str]], tuple[Callable[..., Any], Node, Callable[..., Any]]]] = {}
"""The step that was made of each task's function, so that its code need not be looked through again. The key is the
function, the node and the arguments that the caller fills in. Function and node are kept, so that their ids stay
theirs. If tasks are defined anew again and again, the oldest entries are removed."""
MOST: Final = 1_000
"""Number of functions of tasks that are kept."""
INJECTED: Final = frozenset({"config", "writer", "store", "runtime", "error"})
"""Arguments that LangGraph fills in without being asked, unless the caller has."""


def recorded_calls(node: Node, place: str | None = None) -> Callable[[Caller], Caller]:
    """Return a function that replaces LangGraph's function for calling tasks, and calls them as steps.

    The names of the steps begin with `place`, by default with the node's name.
    """
    place = node.operation if place is None else place

    def recorded(caller: Caller) -> Caller:
        def call(function: Callable[..., Any], arguments: Any, **options: Any) -> Any:
            return caller(_recorded_task(function, node, place, arguments[1]), arguments, **options)

        return call

    return recorded


def _recorded_task(function: Callable[..., Any], node: Node, place: str, filled: Collection[str]) -> Callable[..., Any]:
    if hasattr(function, "__musubito_task__"):
        return function
    key = id(function), id(node), INJECTED.intersection(filled)
    cached = _TASKS.get(key)
    if cached is None:
        while len(_TASKS) >= MOST:
            _TASKS.pop(next(iter(_TASKS)), None)
        cached = _TASKS[key] = function, node, _task(function, node, place, key[2])
    return cached[2]


def _name_of(function: Any) -> str:
    """Return the name that LangGraph gives the task."""
    if hasattr(function, "__name__"):
        return str(function.__name__)
    return str(function.func.__name__ if hasattr(function, "func") else type(function).__name__)


def _task(function: Callable[..., Any], node: Node, place: str, filled: Collection[str]) -> Callable[..., Any]:
    """Return a function that makes a step of each call of `function`.

    `filled` are the arguments that LangGraph would fill in and that the caller has filled in; they count like others.
    """
    name = _name_of(function)
    semantics = node.settings.semantics(f"{node.path}/{name}")

    def counting(inputs: Any, names: tuple[str, ...]) -> Any:
        try:
            bound = inspect.signature(function).bind_partial(*inputs["args"], **inputs["kwargs"]).arguments
        except TypeError:
            return inputs  # the arguments do not fit; the call itself will raise the error
        return {"args": (), "kwargs": counted_keys(bound, names)}

    step = GraphStep(
        f"{place}/{name}",
        function,
        semantics,
        node.settings,
        recorded_calls(node, place),
        counting,
        is_configured=f"{node.path}/{name}" in node.settings.steps,
    )
    injected = _graph_parts.injected_into(function).difference(filled)

    def attempt(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[NodeCall, Callable[[RunnableConfig], Any]]:
        config = get_config()
        counts = {key: value for key, value in kwargs.items() if key == "previous" or key not in injected}
        site = CallSite(None, node.run(task_context(config)))
        call = NodeCall(step, {"args": args, "kwargs": counts}, config, site)
        return call, lambda config: function(*args, **injections(config, kwargs))

    def injections(config: RunnableConfig, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return what LangGraph hands to the function besides its arguments, as a step is to see it."""
        runtime = _task_config.runtime_in(config)
        watching = {"config": config, "runtime": runtime}
        if runtime is not None:
            watching |= {"store": runtime.store, "writer": runtime.stream_writer}
        return {key: watching.get(key, value) if key in injected else value for key, value in kwargs.items()}

    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):

        @functools.wraps(function)
        async def task(*args: Any, **kwargs: Any) -> Any:
            call, go = attempt(args, kwargs)
            output = await call.arun(go)
            call.tell_tracers()
            return output

    else:

        @functools.wraps(function)
        def task(*args: Any, **kwargs: Any) -> Any:
            call, go = attempt(args, kwargs)
            output = call.run(go)
            call.tell_tracers()
            return output

    task.__name__ = name
    task.__musubito_task__ = True  # type: ignore[attr-defined]
    return task


class RecordedEntrypoint(_compat.RunnableCallable):
    """The body of an `@entrypoint`, which runs as it is; the tasks that it calls are steps."""

    musubito_node: Node
    musubito_source: Operation
    """Never called: the steps of the tasks are made when they are called. It brings the source of the body along when
    the entrypoint is pickled."""

    @property
    def place(self) -> str:
        """Return the place of the entrypoint's tasks.

        An entrypoint that is no part of a graph has its own name alone.
        """
        node = self.musubito_node
        return node.operation if "/" in node.path else node.path

    def _config_and_scope(self, config: RunnableConfig) -> tuple[RunnableConfig, Scope]:
        node, scope, invocation = self.musubito_node, SCOPE.get(), invocation_of(config)
        if invocation.mode is Mode.OFF:
            return config, scope
        engine = node.settings.engine_for(invocation)
        around = NodeAmbient(config, node.settings.ignore_config)
        inner, _ = watched(config, recorded_calls(node, self.place))
        task = task_context(config)
        if task is not None:
            task.channel.run_id = task.id  # no task took the input before this one
        run = node.run(task)(engine, scope)
        return inner, Scope(engine, run, scope.frame, None, around, invocation.said or scope.mode)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Return what the body returns."""
        config, scope = self._config_and_scope(ensure_config() if config is None else config)
        with in_scope(scope), within(config):
            return super().invoke(input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Return what the body returns."""
        whole = ensure_config() if config is None else config
        config, scope = await off_loop(lambda: self._config_and_scope(whole))
        with in_scope(scope), within(config):
            return await super().ainvoke(input, config, **kwargs)


def _of_entrypoint(value: RecordedEntrypoint, walk: Reach) -> set[str]:
    # The tasks that the body calls are known only when it runs, so any task counts as reached.
    walk.steps.add(f"{value.place}/{ANY}")
    return of_runnable(value, walk) | {"musubito_source"}


register_policy(RecordedEntrypoint, _of_entrypoint)


def recorded_entrypoint(bound: _compat.RunnableCallable, node: Node) -> RecordedEntrypoint:
    """Return the same body, whose tasks are steps."""
    body: Any = _graph_parts.copied(bound)
    body.__class__ = RecordedEntrypoint
    _graph_parts.drawn_as(body, bound)
    body.musubito_node = node
    body.musubito_source = Operation(node.operation, body.func or body.afunc, node.semantics, node.settings.home)
    entrypoint: RecordedEntrypoint = body
    return entrypoint
