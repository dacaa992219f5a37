"""Make the graphs that pages draw: boxes and arrows, with where a click on a box leads."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from musubito.lineage import Lineage, NodeReport, RunReport
from musubito.lineage.readers.folded_graph import GraphShape, folded_edges, shape_of_run
from musubito.lineage.readers.formatting import MARKS, clean, count, mark, short
from musubito.lineage.transfer.export import Graph, graph_of_node, graph_of_run
from musubito.web.links import Links

MAX_BOXES: Final = 150
"""Boxes of a graph at most: nobody reads more."""
WORST: Final = ("failed", "suspended", "cancelled", "ran", "replayed")
"""Outcomes, the one that says most of a box with several first."""
Drawing = dict[str, Any]
"""The boxes and the arrows of a graph, as JSON."""


def drawn_run(lineage: Lineage, report: RunReport, links: Links) -> Drawing | None:
    """Return the graph of a run; None if it is too large to be read.

    A run of a LangGraph graph is drawn as LangGraph draws it. If that is not known, it has a box for each step, as a
    large run has.
    """
    shape = shape_of_run(lineage, report.summary.run_id)
    if shape is not None and len(shape.nodes) <= MAX_BOXES:
        return _drawn_shape(shape, report, links)
    is_of_graph = any("/" in call.operation for call in report.calls)
    if not is_of_graph and len({call.node_id for call in report.calls}) <= MAX_BOXES:
        return _drawn(graph_of_run(lineage, report), links)
    outcomes = _outcomes(report)
    if len(outcomes) > MAX_BOXES:
        return None
    boxes = [
        {
            "id": operation,
            "label": clean(operation) or "external",
            "says": _counted(counts),
            "outcome": _worst(counts),
            "key": operation,
            "href": links.operation(operation),
        }
        for operation, counts in outcomes.items()
    ]
    return {
        "kind": "steps",
        "boxes": boxes,
        "arrows": [edge for edge in folded_edges(lineage, report.summary.run_id) if set(edge[:2]) <= outcomes.keys()],
    }


def _drawn_shape(shape: GraphShape, report: RunReport, links: Links) -> Drawing:
    """Return the nodes of a graph, each with what became of its calls in a run. A node leads to the first of them."""
    outcomes, run = _outcomes(report), links.run(report.summary.run_id)
    firsts: dict[str, int] = {}
    for call in report.calls:
        firsts.setdefault(call.operation, call.number)
    boxes = []
    for name, step in shape.nodes:
        # The steps inside a node that is no step itself stand for it.
        steps = [step] if step in outcomes else [inner for inner in outcomes if step and inner.startswith(f"{step}/")]
        counts = sum((outcomes[inner] for inner in steps), Counter())
        boxes.append(
            {
                "id": name,
                "label": clean(name.replace(":", "/")),
                "says": _counted(counts) or (step and "not reached") or "",
                "outcome": _worst(counts),
                "key": steps[0] if steps else name,
                "href": f"{run}?like={firsts[steps[0]]}" if run and steps else "",
            }
        )
    arrows = [
        (source, target, "decided" if is_decided else "data", clean(label))
        for source, target, is_decided, label in shape.edges
    ]
    return {"kind": "graph", "boxes": boxes, "arrows": arrows}


def _outcomes(report: RunReport) -> dict[str, Counter[str]]:
    """Return how many calls of each operation of a run ended how."""
    outcomes: dict[str, Counter[str]] = {}
    for call in report.calls:
        outcomes.setdefault(call.operation, Counter())[call.outcome] += 1
    return outcomes


def _counted(outcomes: Counter[str]) -> str:
    return ", ".join(f"{count(number)} {outcome}" for outcome, number in outcomes.items())


def drawn_result(lineage: Lineage, node: NodeReport, links: Links) -> Drawing | None:
    """Return the graph of a result with all that it came from and all that came from it; None if it is too large."""
    graph = graph_of_node(lineage, node)
    return _drawn(graph, links) if len(graph.nodes) <= MAX_BOXES else None


def _drawn(graph: Graph, links: Links) -> Drawing:
    boxes = [
        {
            "id": vertex.node_id,
            "label": clean(vertex.operation) or "external",
            "says": f"{mark(vertex.outcome) if vertex.outcome in MARKS else vertex.outcome} {short(vertex.node_id)}",
            "outcome": vertex.outcome,
            "key": vertex.node_id,
            "href": links.result(vertex.node_id),
        }
        for vertex in graph.nodes
    ]
    return {
        "kind": "calls",
        "boxes": boxes,
        "arrows": [(edge.source, edge.target, edge.kind) for edge in graph.edges],
    }


def _worst(outcomes: Counter[str]) -> str:
    return next((outcome for outcome in WORST if outcome in outcomes), next(iter(outcomes), ""))
