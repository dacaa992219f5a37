"""Copy a wrapped graph so that it only looks up what would be replayed.

The nodes and routers of the copy return what would be replayed; LangGraph itself makes the next tasks of it. Where
something would run, the copy stops: a step that runs may write to all of the state, so the state is unknown from there.

The copy leaves nothing behind. It goes on from the user's checkpoints and keeps its own apart. It adds nothing to
caches, and its engine only reads.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from musubito_langgraph import _compat, _graph_parts
from musubito_langgraph.node_kinds import kind_of, planned_writer, replaced
from musubito_langgraph.planning.checkpoint_overlay import OnlyRead
from musubito_langgraph.planning.record import GraphOutline, PlanRecord, Site, Successors


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
        writers.append(planned_writer(writer, site))
    changes: dict[str, Any] = {"writers": writers}
    if getattr(spec, "timeout", None) is not None:
        # Timeouts are for async invocations alone, and the copy is invoked synchronously.
        changes["timeout"] = None
    return replaced(spec, kind_of(spec.bound, graph).plan(spec.bound, site, planned_graph), **changes)


def _resolve(successors: Successors, triggered: dict[str, list[str]], channels: dict[str, Any]) -> None:
    """Replace channels by the nodes that they trigger."""

    def nodes(names: list[str]) -> list[str]:
        return [node for channel in names for node in triggered.get(channel, ())]

    lasting = [name for name in successors.edges if not isinstance(channels.get(name), _compat.EphemeralValue)]
    successors.waiting = nodes(lasting)
    successors.edges, successors.commands = nodes(successors.edges), nodes(successors.commands)
