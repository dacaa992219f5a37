"""A run, or all that a node came of and that came of it, as a graph: for Mermaid, Graphviz and programs.

Data edges lead from what was consumed to what consumed it, call edges from the outer step to the one that it called.
What was replayed has rounded corners, what failed six, what ran four, so that no colour is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from musubito.lineage.damage import tells_damage
from musubito.lineage.reader import Lineage, short_id
from musubito.lineage.records import CallReport, NodeReport, RunReport
from musubito.model import NodeStatus

__all__ = ["Edge", "Graph", "Vertex", "document", "dot", "graph_of_node", "graph_of_run", "mermaid"]

MARKS: Final = {"replayed": "●", "ran": "○", "failed": "✗"}


@dataclass(frozen=True, slots=True)
class Vertex:
    """A node. `outcomes`: how its calls ended, and how often; of a node outside of a run, its status."""

    node_id: str
    namespace: str
    operation: str
    outcomes: Mapping[str, int]

    @property
    def outcome(self) -> str:
        """The one that says most: it ran, failed, or was only replayed."""
        return next(
            (each for each in ("ran", "failed", "replayed") if each in self.outcomes), next(iter(self.outcomes))
        )

    @property
    def says(self) -> str:
        """Its outcomes in words."""
        told = (outcome if count == 1 else f"{outcome} {count} times" for outcome, count in self.outcomes.items())
        return f"{MARKS.get(self.outcome, '·')} {', '.join(told)}"


@dataclass(frozen=True, slots=True)
class Edge:
    """`kind`: "data", from what was consumed; or "call", from what called."""

    source: str
    target: str
    kind: str


@dataclass(frozen=True, slots=True)
class Graph:
    """`calls` are those of a run, in the order in which they began."""

    title: str
    nodes: tuple[Vertex, ...]
    edges: tuple[Edge, ...]
    calls: tuple[CallReport, ...]


@tells_damage
def graph_of_run(lineage: Lineage, report: RunReport) -> Graph:
    """The nodes of its calls. What it did not call is not there, though it may have come of it."""
    nodes: dict[str, Vertex] = {}
    for call in report.calls:
        known = nodes.get(call.node_id) or Vertex(call.node_id, call.namespace, call.operation, {})
        counts = {**known.outcomes, call.outcome: known.outcomes.get(call.outcome, 0) + 1}
        nodes[call.node_id] = replace(known, outcomes=counts)
    of_call = {call.number: call.node_id for call in report.calls}
    calls = [Edge(of_call[call.parent], call.node_id, "call") for call in report.calls if call.parent is not None]
    run = report.summary
    title = f"run {short_id(run.run_id)} {run.name or ''}".strip()
    found = lineage.ask(*(("numbers_of_node", {"node": bytes.fromhex(node)}) for node in nodes))
    numbers = {rows[0][0]: node for node, rows in zip(nodes, found, strict=True) if rows}
    return Graph(title, tuple(nodes.values()), _edges((*_data(lineage, numbers), *calls)), report.calls)


@tells_damage
def graph_of_node(lineage: Lineage, node: NodeReport) -> Graph:
    """The node, all that it came of, and all that came of it."""
    above, below = lineage.ancestors(node.node_id), lineage.descendants(node.node_id)
    reports = {each.node_id: each for each in (*(one.node for one in above), node, *(one.node for one in below))}
    numbers = {lineage.number(each): each for each in reports}
    inner = lineage.ask(*(("inner_calls", {"id": number}) for number in numbers))
    calls = [
        Edge(outer, numbers[called], "call")
        for outer, rows in zip(numbers.values(), inner, strict=True)
        for (called,) in rows
        if called in numbers
    ]
    nodes = (Vertex(each.node_id, each.namespace, each.operation, {_status(each): 1}) for each in reports.values())
    title = f"node {short_id(node.node_id)} {node.operation}"
    return Graph(title, tuple(nodes), _edges((*_data(lineage, numbers), *calls)), ())


def _status(node: NodeReport) -> str:
    return "failed" if node.status is NodeStatus.FAILED else node.status.value.lower()


def _data(lineage: Lineage, numbers: Mapping[int, str]) -> list[Edge]:
    found = lineage.ask(*(("data_edges", {"id": number}) for number in numbers))
    return [
        Edge(numbers[parent], child, "data")
        for child, rows in zip(numbers.values(), found, strict=True)
        for parent, _ in rows
        if parent in numbers
    ]


def _edges(edges: Iterable[Edge]) -> tuple[Edge, ...]:
    return tuple(dict.fromkeys(edges))


# -- as text -----------------------------------------------------------------------------------------------------------
_SHAPES: Final = {"replayed": ('(["', '"])'), "failed": ('{{"', '"}}')}
_PLAIN: Final = re.compile(r"(?<=[A-Za-z0-9])[_.-]+(?=[A-Za-z0-9])|[A-Za-z0-9 /:,]+")


def mermaid(graph: Graph) -> str:
    """As a flowchart of Mermaid."""
    names = {node.node_id: f"n{number}" for number, node in enumerate(graph.nodes)}
    lines = ["---", f"title: {_yaml(graph.title)}", "---", "flowchart TD"]
    for node in graph.nodes:
        opening, closing = _SHAPES.get(node.outcome, ('["', '"]'))
        label = "<br/>".join(map(_mermaid, (node.operation or "external", node.says, short_id(node.node_id))))
        lines.append(f"  {names[node.node_id]}{opening}{label}{closing}")
    for edge in graph.edges:
        arrow = "-->" if edge.kind == "data" else "-. calls .->"
        lines.append(f"  {names[edge.source]} {arrow} {names[edge.target]}")
    return "\n".join(lines) + "\n"


def _mermaid(text: str) -> str:
    """What Mermaid would read as its own, as Markdown or as HTML is written by its number."""
    pieces, at = [], 0
    text = _one_line(text)
    for plain in _PLAIN.finditer(text):
        pieces += [_entity(each) for each in text[at : plain.start()]]
        pieces.append(plain[0])
        at = plain.end()
    return "".join((*pieces, *map(_entity, text[at:])))


def _entity(character: str) -> str:
    return f"#{ord(character)};" if character.isascii() else character


def _yaml(text: str) -> str:
    escaped = _one_line(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def dot(graph: Graph) -> str:
    """As a graph of Graphviz."""
    names = {node.node_id: f"n{number}" for number, node in enumerate(graph.nodes)}
    lines = [f"digraph {_dot(graph.title)} {{", "  node [shape=box];"]
    for node in graph.nodes:
        label = _dot(node.operation or "external", node.says, short_id(node.node_id))
        shape = {"replayed": "shape=box, style=rounded", "failed": "shape=hexagon"}.get(node.outcome, "shape=box")
        lines.append(f"  {names[node.node_id]} [label={label}, {shape}];")
    for edge in graph.edges:
        style = "" if edge.kind == "data" else ' [style=dashed, label="calls"]'
        lines.append(f"  {names[edge.source]} -> {names[edge.target]}{style};")
    return "\n".join((*lines, "}")) + "\n"


def _dot(*lines: str) -> str:
    escaped = (_one_line(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(escaped) + '"'


def _one_line(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)


# -- as data -----------------------------------------------------------------------------------------------------------
@tells_damage
def document(lineage: Lineage, graph: Graph, *, contents: bool) -> dict[str, Any]:
    """For programs: nodes, edges and calls; with what each node was given and gave if `contents` are wanted."""
    nodes = []
    for vertex in graph.nodes:
        node: dict[str, Any] = {
            "node_id": vertex.node_id,
            "namespace": vertex.namespace,
            "operation": vertex.operation,
            "outcomes": dict(vertex.outcomes),
        }
        if contents:
            report = _report(lineage, vertex.node_id)
            node["input"] = None if report is None else lineage.input(report)
            node["output"] = None if report is None else lineage.output(report)
        nodes.append(node)
    return {"title": graph.title, "nodes": nodes, "edges": graph.edges, "calls": graph.calls}


def _report(lineage: Lineage, node: str) -> NodeReport | None:
    rows = lineage.rows("numbers_of_node", node=bytes.fromhex(node))
    return lineage.nodes([rows[0][0]])[0] if rows else None
