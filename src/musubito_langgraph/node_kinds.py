"""Define the kinds of things in a graph, and for each kind how it becomes steps.

To add a kind of node, add a class here and an instance of it to `KINDS`. A kind has three methods:

- `step_names` yields the names by which `musubito_graph(steps=...)` can configure its steps.
- `wrap` returns what stands in its place in a wrapped graph. LangGraph cannot distinguish the two: a function keeps its
  type, name and signature, and the parts of a sequence are replaced one by one, so that tracers see no other runs.
- `plan` returns what stands in its place in a graph that is only planned.

The modules of the code that it runs are found by `musubito_langgraph.user_modules`.

Tasks of the functional API are known only when they are called: `musubito_langgraph.tasks` makes steps of them then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

from langchain_core.runnables import Runnable, RunnableSequence

from musubito.adapter import ReplayReason
from musubito_langgraph import _compat, _graph_parts
from musubito_langgraph.graph_step import GraphStep
from musubito_langgraph.lineage_channel import LINEAGE
from musubito_langgraph.node import Node
from musubito_langgraph.nodes import Answering, NodeRunnable, RecordedCallable, Router, Subgraph
from musubito_langgraph.planning.lookup import OpaqueNode, PlannedGraph, planned_step
from musubito_langgraph.planning.record import GraphOutline, PlanRecord, Site
from musubito_langgraph.settings import Settings
from musubito_langgraph.tasks import recorded_calls, recorded_entrypoint
from musubito_langgraph.tools import recorded_tools

WrapGraph = Callable[[Any, str, str, Settings], Any]
"""Wraps a graph: the graph, the name of the outermost graph, the path of its nodes with a slash, its settings."""


PlanGraph = Callable[[Any, str, PlanRecord], tuple[Any, GraphOutline]]
"""Copies a wrapped graph for a plan: the graph, its name in the plan, the record of the plan."""


class NodeKind:
    """A Runnable of no particular kind, such as a model or a prompt. The other kinds say how they differ."""

    def matches(self, bound: Any, graph: Any) -> bool:
        """Tell whether a node's Runnable is of this kind; `graph` is the node's graph, None for a part of a node."""
        return isinstance(bound, Runnable)

    def step_names(self, bound: Any, path: str) -> Iterator[tuple[str, bool]]:
        """Yield the names of the steps of the node at `path`, each with True if it may call tasks."""
        yield path, True

    def wrap(self, bound: Any, node: Node, wrap_graph: WrapGraph) -> Any:
        """Return a Runnable that does the same as `bound`, as a step; `wrap_graph` wraps a graph that is a node."""
        return NodeRunnable(bound, node, _step(bound, node))

    def plan(self, recorded: Any, site: Site, plan_graph: PlanGraph) -> Any:
        """Return a copy of what `wrap` returned that is looked up; `plan_graph` copies a graph that is a node."""
        planned = _graph_parts.copied(recorded)
        planned._step = planned_step(recorded._step, site, is_last=recorded._node.is_last)
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
            yield from ((f"{path}.{tool}", False) for tool in bound.tools_by_name)

    def wrap(self, bound: Any, node: Node, wrap_graph: WrapGraph) -> Any:
        """Return a stand-in for the function, which counts only the keys of the state that the function reads."""
        inner = recorded_tools(bound, node) if _graph_parts.runs_tools_alone(bound) else Answering(bound)
        return RecordedCallable(inner, musubito_node=node, musubito_step=_step(bound, node, state_of=bound))

    def plan(self, recorded: Any, site: Site, plan_graph: PlanGraph) -> Any:
        """Return a copy of the stand-in that is looked up."""
        planned, step = _graph_parts.copied(recorded), recorded.musubito_step
        planned.musubito_step = planned_step(step, site, tools=recorded if step.is_tool_node else None)
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

    def wrap(self, bound: Any, node: Node, wrap_graph: WrapGraph) -> Any:
        """Return the sequence of the wrapped parts.

        A function in it counts its whole input, as any Runnable does: it need not be given a state. A sequence in it is
        one step.
        """

        def wrapped(part: Any, number: int, count: int) -> Any:
            kind = kind_of(part)
            of_part = RUNNABLE if isinstance(kind, Function | Sequence) else kind
            return of_part.wrap(part, node.part(number, count), wrap_graph)

        return self._replaced(bound, wrapped)

    def plan(self, recorded: Any, site: Site, plan_graph: PlanGraph) -> Any:
        """Return the sequence of the planned parts."""
        # The output parsers of LangChain only read their input, so they may run.
        return self._replaced(recorded, lambda part, *_: kind_of(part).plan(part, site, plan_graph))

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

    def wrap(self, bound: Any, node: Node, wrap_graph: WrapGraph) -> Any:
        """Return the wrapped graph as a node."""
        if LINEAGE not in bound.channels:
            bound = wrap_graph(bound, node.graph, f"{node.path}/", node.settings)
        return Subgraph(bound, node)

    def plan(self, recorded: Any, site: Site, plan_graph: PlanGraph) -> Any:
        """Return the planned graph as a node."""
        graph, outline = plan_graph(recorded._graph, site.name, site.record)
        site.add(outline)
        node = replace(recorded._node, settings=site.settings(recorded._node.settings))
        return Subgraph(
            PlannedGraph(graph, musubito_site=site, musubito_outline=outline, musubito_is_last=node.is_last), node
        )


class RemoteGraph(NodeKind):
    """A graph that runs elsewhere, which is left as it is."""

    def matches(self, bound: Any, graph: Any) -> bool:
        """Recognise what implements LangGraph's protocol of graphs."""
        return _graph_parts.is_remote(bound)

    def wrap(self, bound: Any, node: Node, wrap_graph: WrapGraph) -> Any:
        """Return the graph as it is."""
        return bound

    def plan(self, recorded: Any, site: Site, plan_graph: PlanGraph) -> Any:
        """Return a node that stops the plan: nobody knows here what the graph would do."""
        return OpaqueNode(site.name, ReplayReason.RUNS_ELSEWHERE, site, site.outline.settings)


class EntrypointBody(Function):
    """The body of an `@entrypoint`: it is no step; the tasks that it calls are steps."""

    def matches(self, bound: Any, graph: Any) -> bool:
        """Recognise a function in a graph that was made of an entrypoint."""
        return super().matches(bound, graph) and graph is not None and _graph_parts.is_functional(graph)

    def wrap(self, bound: Any, node: Node, wrap_graph: WrapGraph) -> Any:
        """Return the body, whose tasks are steps."""
        return recorded_entrypoint(bound, node)

    def plan(self, recorded: Any, site: Site, plan_graph: PlanGraph) -> Any:
        """Return a node that stops the plan: the body runs again at each invocation."""
        settings = site.settings(recorded.musubito_node.settings)
        return OpaqueNode(recorded.place, ReplayReason.BODY_RUNS, site, settings)


class NoRunnable(NodeKind):
    """LangGraph's placeholder in a node that only writes, such as the first node of a graph."""

    def matches(self, bound: Any, graph: Any) -> bool:
        """Recognise the placeholder, which may be unpickled."""
        return _graph_parts.only_writes(bound)

    def step_names(self, bound: Any, path: str) -> Iterator[tuple[str, bool]]:
        """Yield nothing."""
        return iter(())

    def wrap(self, bound: Any, node: Node, wrap_graph: WrapGraph) -> Any:
        """Return the placeholder as it is."""
        return bound

    def plan(self, recorded: Any, site: Site, plan_graph: PlanGraph) -> Any:
        """Return the placeholder as it is."""
        return recorded


RUNNABLE: Final = NodeKind()
KINDS: Final = (
    NoRunnable(),
    EntrypointBody(),
    Function(),
    Sequence(),
    Graph(),
    RemoteGraph(),
    RUNNABLE,
)
"""All kinds of nodes. The first one that matches is the kind of a node."""


def recorded_writer(writer: Any, node: Node) -> Any:
    """Return a writer that does the same; if it is one of a conditional edge, its router is a step."""
    branch = _graph_parts.branch_of(writer)
    if branch is None:
        return writer
    path, name = branch.path, _router_name(branch)
    # The `inputs` of a node do not hold for the router that decides after the node.
    semantics = node.settings.semantics(f"{node.path}:{name}", replace(node.semantics, inputs=None))
    step = GraphStep(f"{node.operation}:{name}", path, semantics, node.settings, state_of=path)
    decides: Any = Answering(path) if isinstance(path, _compat.RunnableCallable) else path
    router = Router(decides, replace(node, semantics=semantics), step)
    return _graph_parts.writer_of(writer, branch._replace(path=router))


def planned_writer(writer: Any, site: Site) -> Any:
    """Return a writer that does what a recorded writer does; the decision of its router is looked up."""
    branch = _graph_parts.branch_of(writer)
    if branch is None:
        return writer
    recorded: Any = branch.path
    router = _graph_parts.copied(recorded)
    router._step = planned_step(recorded._step, site, router=branch)
    site.successors.routers[router._step.operation.name] = None if branch.ends is None else [*branch.ends.values()]
    return _graph_parts.writer_of(writer, branch._replace(path=router))


def _router_name(branch: _compat.BranchSpec) -> str:
    return getattr(branch.path, "name", None) or "condition"


def kind_of(bound: Any, graph: Any = None) -> NodeKind:
    """Return the kind of a node's Runnable; `graph` is the node's graph, None for a part of a node."""
    return next(kind for kind in KINDS if kind.matches(bound, graph))


def step_names(graph: Any, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Yield the names of a graph's steps, without the graph's own name, each with True if it may call tasks."""
    for name, node in graph.nodes.items():
        path = prefix + name
        yield from kind_of(node.bound, graph).step_names(node.bound, path)
        branches = filter(None, map(_graph_parts.branch_of, node.flat_writers))
        yield from ((f"{path}:{_router_name(branch)}", False) for branch in branches)


def replaced(spec: _compat.PregelNode, bound: Any, **changes: Any) -> _compat.PregelNode:
    """Return a node with another Runnable, and with other changes."""
    if isinstance(bound, Subgraph):
        changes["subgraphs"] = [bound._graph]
    return spec.copy({"bound": bound, **changes})


def _step(code: Any, node: Node, state_of: Any = None) -> GraphStep:
    calls, anew = recorded_calls(node), not node.has_its_own_say
    return GraphStep(node.step_name, code, node.semantics, node.settings, calls, is_done_anew=anew, state_of=state_of)
