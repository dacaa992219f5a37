"""Define the kinds of things in a graph, and for each kind how it becomes steps; wrap and plan whole graphs of them.

To add a kind of node, add a class here and an instance of it to `NODE_KINDS`. A kind has three methods:

- `step_names` yields the names by which `musubito_graph(steps=...)` can configure its steps.
- `wrap` returns what stands in its place in a wrapped graph. LangGraph cannot distinguish the two: a function keeps its
  type, name and signature, and the parts of a sequence are replaced one by one, so that tracers see no other runs.
- `plan` returns what stands in its place in a graph that is only planned.

The nodes and routers of a planned graph return what would be replayed; LangGraph itself makes the next tasks of it.
Where something would run, the graph stops: a step that runs may write to all of the state, so the state is unknown from
there. A planned graph leaves nothing behind. It goes on from the user's checkpoints and keeps its own apart. It adds
nothing to caches, and its engine only reads.

The modules of the code that it runs are found by `musubito_langgraph.user_modules`.

Tasks of the functional API are known only when they are called: `musubito_langgraph.tasks` makes steps of them then.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

from langchain_core.runnables import Runnable, RunnableSequence
from langgraph.checkpoint.base import BaseCheckpointSaver

from musubito.adapter import ReplayReason, check_inputs
from musubito_langgraph import _compat, _graph_parts
from musubito_langgraph.graph_shape import GraphShape
from musubito_langgraph.graph_step import GraphStep
from musubito_langgraph.lineage_channel import LINEAGE, LineageChannel
from musubito_langgraph.node import Node
from musubito_langgraph.nodes import Answering, NodeRunnable, RecordedCallable, Router, Subgraph
from musubito_langgraph.planning.checkpoint_overlay import OnlyRead
from musubito_langgraph.planning.lookup import FollowedRouter, OpaqueNode, PlannedGraph, StepLookup
from musubito_langgraph.planning.record import GraphOutline, PlanRecord, Site, Successors
from musubito_langgraph.settings import KEY, SAMPLE, Settings, configuration_in
from musubito_langgraph.task_lineage import LineageWrite
from musubito_langgraph.tasks import recorded_calls, recorded_entrypoint
from musubito_langgraph.tools import recorded_tools


class NodeKind:
    """A Runnable of no particular kind, such as a model or a prompt. The other kinds say how they differ."""

    def matches(self, bound: Any, graph: Any) -> bool:
        """Tell whether a node's Runnable is of this kind; `graph` is the node's graph, None for a part of a node."""
        return isinstance(bound, Runnable)

    def step_names(self, bound: Any, path: str) -> Iterator[tuple[str, bool]]:
        """Yield the names of the steps of the node at `path`, each with True if it may call tasks, models or tools."""
        yield path, True

    def wrap(self, bound: Any, node: Node) -> Any:
        """Return a Runnable that does the same as `bound`, as a step."""
        return NodeRunnable(bound, node, _step(bound, node))

    def plan(self, recorded: Any, site: Site) -> Any:
        """Return a copy of what `wrap` returned that is looked up."""
        planned = _graph_parts.copied(recorded)
        planned._step = StepLookup(recorded._step, site, is_last=recorded._node.is_last).step
        return planned


class Function(NodeKind):
    """A function, or another `RunnableCallable`: each tool of a `ToolNode` is a step inside the step of the node."""

    def matches(self, bound: Any, graph: Any) -> bool:
        """Recognise the class in which LangGraph puts functions."""
        return isinstance(bound, _compat.RunnableCallable)

    def step_names(self, bound: Any, path: str) -> Iterator[tuple[str, bool]]:
        """Yield the name of the node, and `<node>.<tool>` for each tool."""
        yield path, True
        if _graph_parts.runs_tools_alone(bound):
            yield from ((f"{path}.{tool}", True) for tool in bound.tools_by_name)

    def wrap(self, bound: Any, node: Node) -> Any:
        """Return a stand-in for the function, which counts only the keys of the state that the function reads."""
        inner = recorded_tools(bound, node) if _graph_parts.runs_tools_alone(bound) else Answering(bound)
        return RecordedCallable(inner, musubito_node=node, musubito_step=_step(bound, node, state_of=bound))

    def plan(self, recorded: Any, site: Site) -> Any:
        """Return a copy of the stand-in that is looked up."""
        planned, step = _graph_parts.copied(recorded), recorded.musubito_step
        planned.musubito_step = StepLookup(step, site, tools=recorded if step.is_tool_node else None).step
        return planned


class Sequence(NodeKind):
    """A sequence of Runnables: each part is a step, but for the output parsers of LangChain."""

    def matches(self, bound: Any, graph: Any) -> bool:
        """Recognise the sequences of LangChain and of LangGraph."""
        return isinstance(bound, RunnableSequence | _compat.RunnableSeq)

    def step_names(self, bound: Any, path: str) -> Iterator[tuple[str, bool]]:
        """Yield the name of the node for the last part, and `<node>:<number>` for each other part."""
        last = len(_graph_parts.recorded_parts(bound.steps)) - 1
        yield from ((f"{path}:{number + 1}", False) for number in range(last))
        for part in bound.steps:
            yield from kind_of(part).step_names(part, path)

    def wrap(self, bound: Any, node: Node) -> Any:
        """Return the sequence of the wrapped parts.

        A function in it counts its whole input, as any Runnable does: it need not be given a state. A sequence in it is
        one step.
        """

        def wrapped(part: Any, number: int, count: int) -> Any:
            kind = kind_of(part)
            of_part = RUNNABLE if isinstance(kind, Function | Sequence) else kind
            return of_part.wrap(part, node.part(number, count))

        return self._replaced(bound, wrapped)

    def plan(self, recorded: Any, site: Site) -> Any:
        """Return the sequence of the planned parts."""
        # The output parsers of LangChain only read their input, so they may run.
        return self._replaced(recorded, lambda part, *_: kind_of(part).plan(part, site))

    def _replaced(self, bound: Any, replacement: Callable[[Any, int, int], Any]) -> Any:
        places = _graph_parts.recorded_parts(bound.steps)
        parts = list(bound.steps)
        for number, place in enumerate(places):
            parts[place] = replacement(parts[place], number, len(places))
        if isinstance(bound, RunnableSequence):
            return RunnableSequence(*parts, name=bound.name)
        sequence = _graph_parts.copied(bound)
        sequence.steps = parts
        return sequence


class Graph(NodeKind):
    """A graph: it is no step; its nodes are steps."""

    def matches(self, bound: Any, graph: Any) -> bool:
        """Recognise a compiled graph, and what stands for one in a wrapped graph."""
        return isinstance(bound, _compat.Pregel | Subgraph)

    def step_names(self, bound: Any, path: str) -> Iterator[tuple[str, bool]]:
        """Yield the names of the steps in the graph, unless it was wrapped by itself and has settings of its own."""
        if LINEAGE not in bound.channels:
            yield from step_names(bound, f"{path}/")

    def wrap(self, bound: Any, node: Node) -> Any:
        """Return the wrapped graph as a node."""
        if LINEAGE not in bound.channels:
            bound = wrapped_graph(bound, node.graph, f"{node.path}/", node.settings)
        return Subgraph(bound, node)

    def plan(self, recorded: Any, site: Site) -> Any:
        """Return the planned graph as a node."""
        graph, outline = planned_graph(recorded._graph, site.name, site.record)
        site.add(outline)
        node = replace(recorded._node, settings=site.settings(recorded._node.settings))
        return Subgraph(
            PlannedGraph(graph, musubito_site=site, musubito_outline=outline, musubito_is_last=node.is_last), node
        )


class RemoteGraph(NodeKind):
    """A graph that runs elsewhere, which is left as it is."""

    def matches(self, bound: Any, graph: Any) -> bool:
        """Recognise what implements LangGraph's protocol of graphs, and is no graph of this process."""
        return isinstance(bound, _compat.PregelProtocol)

    def wrap(self, bound: Any, node: Node) -> Any:
        """Return the graph as it is."""
        return bound

    def plan(self, recorded: Any, site: Site) -> Any:
        """Return a node that stops the plan: nobody knows here what the graph would do."""
        return OpaqueNode(site.name, ReplayReason.RUNS_ELSEWHERE, site)


class EntrypointBody(Function):
    """The body of an `@entrypoint`: it is no step; the tasks that it calls are steps."""

    def matches(self, bound: Any, graph: Any) -> bool:
        """Recognise a function in a graph that was made of an entrypoint."""
        return super().matches(bound, graph) and graph is not None and _graph_parts.is_functional(graph)

    def wrap(self, bound: Any, node: Node) -> Any:
        """Return the body, whose tasks are steps."""
        return recorded_entrypoint(bound, node)

    def plan(self, recorded: Any, site: Site) -> Any:
        """Return a node that stops the plan: the body runs again at each invocation."""
        site.settings(recorded.musubito_node.settings)
        return OpaqueNode(recorded.place, ReplayReason.BODY_RUNS, site)


class NoRunnable(NodeKind):
    """LangGraph's placeholder in a node that only writes, such as the first node of a graph."""

    def matches(self, bound: Any, graph: Any) -> bool:
        """Recognise the placeholder, which may be unpickled."""
        return _graph_parts.only_writes(bound)

    def step_names(self, bound: Any, path: str) -> Iterator[tuple[str, bool]]:
        """Yield nothing."""
        return iter(())

    def wrap(self, bound: Any, node: Node) -> Any:
        """Return the placeholder as it is."""
        return bound

    def plan(self, recorded: Any, site: Site) -> Any:
        """Return the placeholder as it is."""
        return recorded


RUNNABLE: Final = NodeKind()
NODE_KINDS: Final = (
    NoRunnable(),
    EntrypointBody(),
    Function(),
    Sequence(),
    Graph(),
    RemoteGraph(),
    RUNNABLE,
)
"""All kinds of nodes. The first one that matches is the kind of a node."""


def _recorded_writer(writer: Any, node: Node) -> Any:
    """Return a writer that does the same; if it is one of a conditional edge, its router is a step.

    A router that only looks is no step. One that begins a graph is, since it begins new samples.
    """
    branch = _graph_parts.branch_of(writer)
    if branch is None or not _is_step(branch, node.name):
        return writer
    path, name = branch.path, _router_name(branch)
    # The `inputs` of a node do not hold for the router that decides after the node.
    semantics = node.settings.semantics(f"{node.path}:{name}", replace(node.semantics, inputs=None))
    is_configured = f"{node.path}:{name}" in node.settings.steps
    step = GraphStep(
        f"{node.operation}:{name}", path, semantics, node.settings, is_configured=is_configured, state_of=path
    )
    decides: Any = Answering(path) if isinstance(path, _compat.RunnableCallable) else path
    router = Router(decides, replace(node, semantics=semantics), step)
    return _graph_parts.writer_of(writer, branch._replace(path=router))


def _is_step(branch: _compat.BranchSpec, node: str) -> bool:
    return node == "__start__" or not _graph_parts.only_looks(branch.path)


def _planned_writer(writer: Any, site: Site) -> Any:
    """Return a writer that does what a recorded writer does; the decision of its router is looked up.

    A router that is no step decides.
    """
    branch = _graph_parts.branch_of(writer)
    if branch is None:
        return writer
    recorded: Any = branch.path
    ends = None if branch.ends is None else [*branch.ends.values()]
    if isinstance(recorded, Router):
        router = _graph_parts.copied(recorded)
        router._step = StepLookup(recorded._step, site, router=branch).step
        site.successors.routers[router._step.operation.name] = ends
    else:
        router = FollowedRouter(branch, site)
        site.successors.looks[router.name] = ends
    return _graph_parts.writer_of(writer, branch._replace(path=router))


def _router_name(branch: _compat.BranchSpec) -> str:
    return getattr(branch.path, "name", None) or "condition"


def kind_of(bound: Any, graph: Any = None) -> NodeKind:
    """Return the kind of a node's Runnable; `graph` is the node's graph, None for a part of a node."""
    return next(kind for kind in NODE_KINDS if kind.matches(bound, graph))


def step_names(graph: Any, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Yield the names of a graph's steps, without the graph's own name, each with True if it may call tasks."""
    for name, node in graph.nodes.items():
        path = prefix + name
        yield from kind_of(node.bound, graph).step_names(node.bound, path)
        branches = filter(None, map(_graph_parts.branch_of, node.flat_writers))
        yield from ((f"{path}:{_router_name(branch)}", False) for branch in branches if _is_step(branch, name))


def _replaced(spec: _compat.PregelNode, bound: Any, **changes: Any) -> _compat.PregelNode:
    """Return a node with another Runnable, and with other changes."""
    if isinstance(bound, Subgraph) and spec.subgraphs:  # without a checkpointer it keeps no state that could be shown
        changes["subgraphs"] = [bound._graph]
    return spec.copy({"bound": bound, **changes})


def _step(code: Any, node: Node, state_of: Any = None) -> GraphStep:
    calls, said = recorded_calls(node), node.has_own_config
    return GraphStep(
        *(node.step_name, code, node.semantics, node.settings, calls),
        is_done_anew=not said,
        is_configured=said,
        state_of=state_of,
    )


# -- whole graphs ------------------------------------------------------------------------------------------------------


def wrapped_graph(graph: Any, name: str, prefix: str, settings: Settings) -> Any:
    """Return the same graph with other nodes and a hidden channel.

    This is a plain copy: `graph.copy()` loses what `compile` added. Of a graph inside another one, `prefix` says where.
    """
    wrapped = copy.copy(graph)
    triggers = {node: tuple(spec.triggers) for node, spec in graph.nodes.items()}
    lasting = frozenset(
        channel
        for names in triggers.values()
        for channel in names
        if not isinstance(graph.channels.get(channel), _compat.EphemeralValue)
    )
    inputs = frozenset([graph.input_channels] if isinstance(graph.input_channels, str) else graph.input_channels)
    wrapped.nodes = {
        node: _wrapped_node(graph, Node(name, prefix + node, triggers, SAMPLE, settings), spec)
        for node, spec in graph.nodes.items()
    }
    if graph.stream_channels is None:
        # Otherwise streams would show the hidden channel.
        wrapped.stream_channels = [
            channel for channel, value in graph.channels.items() if isinstance(value, _compat.BaseChannel)
        ]
    shape = None if prefix else GraphShape(wrapped, name)
    wrapped.channels = {**graph.channels, LINEAGE: LineageChannel(lasting, inputs, shape=shape)}
    return wrapped


def _wrapped_node(graph: Any, bare: Node, spec: _compat.PregelNode) -> _compat.PregelNode:
    own = configuration_in(spec.metadata, f"node {bare.path!r}")
    has_own_config = own is not None or bare.path in bare.settings.steps
    node = replace(bare, semantics=bare.settings.semantics(bare.path, own), has_own_config=has_own_config)
    if node.semantics.inputs is not None and not _graph_parts.is_functional(graph):
        keys = [name for name in graph.channels if not name.startswith(("__", "branch:"))]
        check_inputs(node.operation, node.semantics.inputs, keys)
    writers: list[Any] = [_recorded_writer(writer, node) for writer in spec.flat_writers]
    # A node with one writer keeps one writer, see LineageWrite.
    last = writers.pop().writes if writers and type(writers[-1]) is _compat.ChannelWrite else []
    changes: dict[str, Any] = {"writers": [*writers, LineageWrite(last, node.name, node.triggers)]}
    if own is not None:
        changes["metadata"] = {key: value for key, value in (spec.metadata or {}).items() if key != KEY} or None
    return _replaced(spec, kind_of(spec.bound, graph).wrap(spec.bound, node), **changes)


def planned_graph(graph: Any, name: str, record: PlanRecord) -> tuple[Any, GraphOutline]:
    """Return the copy of a graph, which notes in `record` what it looks up, and the outline of the graph."""
    planned = copy.copy(graph)
    planned.debug = False
    if graph.config:
        planned.config = _compat.without_callbacks(graph.config)
    if isinstance(graph.checkpointer, BaseCheckpointSaver):
        planned.checkpointer = record.overlay(graph.checkpointer)
    if graph.cache is not None:
        planned.cache = OnlyRead(graph.cache)
    outline = GraphOutline(name, {node: [] for node in graph.nodes}, {node: Successors() for node in graph.nodes})
    triggered: defaultdict[str, list[str]] = defaultdict(list)
    planned.nodes = {}
    for node, spec in graph.nodes.items():
        planned.nodes[node] = _planned_node(graph, spec, Site(record, outline, node))
        for channel in spec.triggers:
            triggered[channel].append(node)
    for successors in outline.successors.values():
        _resolve(successors, triggered, graph.channels)
    return planned, outline


def _planned_node(graph: Any, spec: _compat.PregelNode, site: Site) -> _compat.PregelNode:
    successors = site.successors
    writers: list[Any] = []
    for writer in spec.flat_writers:
        if isinstance(writer, _compat.ChannelWrite):
            always, declared = _graph_parts.declared_ends(writer)
            successors.edges += always
            successors.commands += declared
        writers.append(_planned_writer(writer, site))
    changes: dict[str, Any] = {"writers": writers}
    if getattr(spec, "timeout", None) is not None:
        # Timeouts are for async invocations alone, and the copy is invoked synchronously.
        changes["timeout"] = None
    return _replaced(spec, kind_of(spec.bound, graph).plan(spec.bound, site), **changes)


def _resolve(successors: Successors, triggered: dict[str, list[str]], channels: dict[str, Any]) -> None:
    """Replace channels by the nodes that they trigger."""

    def nodes(names: list[str]) -> list[str]:
        return [node for channel in names for node in triggered.get(channel, ())]

    lasting = [name for name in successors.edges if not isinstance(channels.get(name), _compat.EphemeralValue)]
    successors.waiting = nodes(lasting)
    successors.edges, successors.commands = nodes(successors.edges), nodes(successors.commands)
