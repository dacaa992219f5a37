"""Describe the shape of a graph as LangGraph draws it, so that the page can show what happened in a run of it."""

from __future__ import annotations

import copy
import json
from typing import Any

from musubito.errors import LOGGER
from musubito_langgraph import _graph_parts
from musubito_langgraph.nodes import Subgraph


class GraphShape:
    """The shape of a wrapped graph: asked of LangGraph when its first run is recorded, and then kept as text."""

    def __init__(self, graph: Any = None, name: str = "", text: str | None = None) -> None:
        self._graph = graph
        self._name = name
        self._text = text

    def text(self) -> str | None:
        """Return the shape as JSON (see `GraphShape` of `musubito.lineage`); None if there is no drawing."""
        graph = self._graph
        if graph is not None and not _graph_parts.is_functional(graph):  # the tasks of an entrypoint are in no drawing
            try:
                self._text = _text_of(graph, self._name)
            except Exception as error:  # whatever a drawing raises, the graph runs
                LOGGER.info("the page does not draw the graph %s: LangGraph says %r", self._name, error)
        self._graph = None  # at last: another thread may ask at the same time
        return self._text

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (None, self._name, self.text())


def _text_of(graph: Any, name: str) -> str:
    drawing = _with_steps_alone(graph).get_graph(xray=True)
    nodes = [(node, _step_of(node, drawn.data, name)) for node, drawn in drawing.nodes.items()]
    edges = [(edge.source, edge.target, bool(edge.conditional), str(edge.data or "")) for edge in drawing.edges]
    return json.dumps({"nodes": nodes, "edges": sorted(edges)}, ensure_ascii=False, separators=(",", ":"))


def _with_steps_alone(graph: Any) -> Any:
    """Return a copy in which only nodes that are graphs have subgraphs.

    LangGraph looks for more of them in the code of functions. A node with such a function is a step, and a graph that
    runs elsewhere would be asked for over the network.
    """
    copied = copy.copy(graph)
    copied.nodes = {
        node: spec.copy(
            {"subgraphs": [_with_steps_alone(spec.bound._graph)] if isinstance(spec.bound, Subgraph) else []}
        )
        for node, spec in graph.nodes.items()
    }
    return copied


def _step_of(node: str, drawn: Any, name: str) -> str | None:
    """Return the step of a node; None for a node that only begins or ends a graph."""
    if node.rpartition(":")[2] in ("__start__", "__end__"):
        return None
    known = getattr(drawn, "musubito_node", None)
    return known.operation if known is not None else f"{name}/{node.replace(':', '/')}"
