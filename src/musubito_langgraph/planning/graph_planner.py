"""Copy a wrapped graph so that it only looks up what would be replayed.

The nodes and routers of the copy return what would be replayed; LangGraph itself makes the next tasks of it. Where
something would run, the copy stops: a step that runs may write to all of the state, so the state is unknown from there.

The copy leaves nothing behind. It goes on from the user's checkpoints and keeps its own apart. It adds nothing to
caches, and its engine only reads.
"""

from __future__ import annotations

import copy
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.runnables import RunnableConfig, RunnableSequence
from langgraph.checkpoint.base import BaseCheckpointSaver

from musubito import MusubitoEngine, ReplayReason
from musubito.adapter import ReadOnlyEngine, current_engine
from musubito.lineage.plan import Estimates, PlanLine
from musubito_langgraph import _compat, _graph_parts
from musubito_langgraph.node import Node
from musubito_langgraph.nodes import NodeRunnable, RecordedCallable, Router, Subgraph
from musubito_langgraph.planning.checkpoint_overlay import OnlyRead, OverlaySaver
from musubito_langgraph.planning.planning_nodes import (
    Ground,
    LookingSubgraph,
    OpaqueNode,
    PlanningStep,
    Site,
    Visit,
    Ways,
)
from musubito_langgraph.settings import Settings
from musubito_langgraph.tasks import RecordedEntrypoint

__all__ = ["GraphPlanner"]


class GraphPlanner:
    """The copy of a graph that is looked up, and the results of looking it up."""

    def __init__(self, graph: Any) -> None:
        self.visits: defaultdict[str, list[Visit]] = defaultdict(list)
        """The tasks that were looked up, for each invocation of a graph."""
        self.pending: dict[str, list[str]] = {}
        """For each invocation: the channels and nodes that earlier tasks of its first superstep have written to
        already."""
        self._lines: list[tuple[tuple[Any, ...], int, PlanLine]] = []
        self._tasks: dict[tuple[str, str], Visit] = {}
        self._orders: dict[str, tuple[Any, ...]] = {}
        self._engines: dict[MusubitoEngine, ReadOnlyEngine] = {}
        self._estimates: dict[MusubitoEngine, Estimates] = {}
        self._savers: dict[int, OverlaySaver] = {}
        self._lock = threading.Lock()
        self.graph, self.ground = self._copy(graph, graph.get_name())

    # -- what is told of it --------------------------------------------------------------------------------------------
    def lines(self) -> list[PlanLine]:
        """Return the calls that were looked up, in the order in which they would be made."""
        return [line for _, _, line in sorted(self._lines, key=lambda each: each[:2])]

    def estimates(self, engine: MusubitoEngine) -> Estimates:
        """Return the estimates that come from the records of an engine."""
        engine = engine.behind if isinstance(engine, ReadOnlyEngine) else engine
        with self._lock:
            if engine not in self._estimates:
                self._estimates[engine] = Estimates(engine)
            return self._estimates[engine]

    def visit(self, config: RunnableConfig, site: Site) -> Visit:
        """Return the task that runs with this config."""
        place, step = _compat.checkpoint_ns_in(config), _compat.step_in(config)
        task = place, str(_compat.task_in(config))
        around = place.rpartition("|")[0]
        with self._lock:
            if task not in self._tasks:
                before = self._orders.get(_unnumbered(around), ())
                order = (*before, (step, *map(_sortable, _compat.place_of_task(config))))
                self._tasks[task] = Visit(site, step, order)
                self._orders[place] = order
                self.visits[around].append(self._tasks[task])
            return self._tasks[task]

    def saw(self, visit: Visit, *lines: PlanLine) -> None:
        """Note what a step of this task would do."""
        with self._lock:
            self._lines += [(visit.order, len(self._lines) + number, line) for number, line in enumerate(lines)]

    def apart(self, saver: BaseCheckpointSaver[Any]) -> OverlaySaver:
        """Return the saver that stands for this one from now on."""
        return self._savers.setdefault(id(saver), OverlaySaver(saver, self.pending))

    # -- the copy ------------------------------------------------------------------------------------------------------
    def _copy(self, graph: Any, name: str) -> tuple[Any, Ground]:
        made = copy.copy(graph)
        made.debug = False
        if graph.config:
            made.config = _compat.without_callbacks(graph.config)
        if isinstance(graph.checkpointer, BaseCheckpointSaver):
            made.checkpointer = self.apart(graph.checkpointer)
        if graph.cache is not None:
            made.cache = OnlyRead(graph.cache)
        ground = Ground(name, Settings())
        made.nodes = {}
        for node, spec in graph.nodes.items():
            ground.ways[node] = ways = Ways()
            ground.parts[node] = []
            site = Site(ground, node)
            writers = [self._writer(writer, site, ways) for writer in spec.flat_writers]
            changes: dict[str, Any] = {"writers": writers, "bound": self._bound(spec.bound, site)}
            if getattr(spec, "timeout", None) is not None:
                # Timeouts are for async invocations alone, and the copy is invoked synchronously.
                changes["timeout"] = None
            if isinstance(changes["bound"], Subgraph):
                changes["subgraphs"] = [changes["bound"]._graph]
            made.nodes[node] = spec.copy(changes)
        by_channel: defaultdict[str, list[str]] = defaultdict(list)
        for node, spec in graph.nodes.items():
            for channel in spec.triggers:
                by_channel[channel].append(node)
        for ways in ground.ways.values():
            self._resolve(ways, by_channel, graph.channels)
        return made, ground

    def _resolve(self, ways: Ways, by_channel: Mapping[str, Sequence[str]], channels: Mapping[str, Any]) -> None:
        """Replace channels by the nodes that they trigger."""
        edges, commands = ways.edges, ways.commands
        ways.edges = [node for channel in edges for node in by_channel.get(channel, ())]
        ways.commands = [node for channel in commands for node in by_channel.get(channel, ())]
        ways.waiting = [
            node
            for channel in edges
            if not isinstance(channels.get(channel), _compat.EphemeralValue)
            for node in by_channel.get(channel, ())
        ]

    def _writer(self, writer: Any, site: Site, ways: Ways) -> Any:
        branch = _graph_parts.branch_of(writer)
        if branch is None:
            if isinstance(writer, _compat.ChannelWrite):
                always, declared = _graph_parts.declared_ends(writer)
                ways.edges += always
                ways.commands += declared
            return writer
        router: Any = branch.path
        if not isinstance(router, Router):
            return writer
        made = _graph_parts.copied(router)
        made._node = self.node(router._node, site)
        made._step = PlanningStep(router._step, self, site, router=branch)
        ends = None if branch.ends is None else list(branch.ends.values())
        ways.routers[router._step.operation.name] = ends
        return _graph_parts.writer_of(writer, branch._replace(path=made))

    def _bound(self, bound: Any, site: Site) -> Any:
        if _graph_parts.only_writes(bound):
            return bound
        if isinstance(bound, RunnableSequence):
            return RunnableSequence(*self._parts(bound.steps, site), name=bound.name)
        if isinstance(bound, _compat.RunnableSeq):
            made = _graph_parts.copied(bound)
            made.steps = self._parts(bound.steps, site)
            return made
        return self._part(bound, site)

    def _parts(self, parts: Sequence[Any], site: Site) -> list[Any]:
        steps = set(_graph_parts.recorded_parts(parts))
        # LangChain's own output parsers only read their input, so they may run.
        return [self._part(part, site) if number in steps else part for number, part in enumerate(parts)]

    def _part(self, bound: Any, site: Site) -> Any:
        parts = site.ground.parts[site.node]
        if isinstance(bound, Subgraph):
            graph, ground = self._copy(bound._graph, f"{site.ground.name}/{site.node}")
            parts.append(ground)
            return LookingSubgraph(bound, graph, ground, self, site)
        made: Any
        if isinstance(bound, RecordedCallable):
            made = _graph_parts.copied(bound)
            made.musubito_node = self.node(bound.musubito_node, site)
            made.musubito_step = PlanningStep(bound.musubito_step, self, site, runnable=bound)
            parts.append(made.musubito_step)
        elif isinstance(bound, NodeRunnable):
            made = _graph_parts.copied(bound)
            made._node = self.node(bound._node, site)
            made._step = PlanningStep(bound._step, self, site, last=bound._node.is_last)
            parts.append(made._step)
        elif isinstance(bound, RecordedEntrypoint):
            made = OpaqueNode(
                bound._place, ReplayReason.BODY_RUNS, self, site, self.node(bound.musubito_node, site).settings
            )
            parts.append(made)
        else:
            made = OpaqueNode(
                f"{site.ground.name}/{site.node}", ReplayReason.RUNS_ELSEWHERE, self, site, site.ground.settings
            )
            parts.append(made)
        return made

    def node(self, node: Node, site: Site) -> Node:
        """Return the same node with an engine that only reads."""
        made = replace(node, settings=self.settings(node.settings))
        site.ground.settings = made.settings
        return made

    def settings(self, settings: Settings) -> Settings:
        """Return the same settings with an engine that only reads."""
        engine = settings.engine or current_engine()
        if isinstance(engine, ReadOnlyEngine):
            return settings
        if engine not in self._engines:
            self._engines[engine] = ReadOnlyEngine(engine)
        return replace(settings, engine=self._engines[engine])


def _sortable(part: Any) -> str:
    return f"{part:08}" if isinstance(part, int) else str(part)


def _unnumbered(place: str) -> str:
    """Return the place without the numbers that distinguish the graphs which one task runs."""
    head, _, last = place.rpartition("|")
    return _unnumbered(head) if last.isdigit() else place
