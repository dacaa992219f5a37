"""A run, or the whole lineage of a node, as a graph for Mermaid, Graphviz and programs.

A data edge leads from a result to its consumer, a call edge from the outer step to the step that it called. Replayed
nodes have rounded corners, failed ones six corners, all others four, so that no colour is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from musubito.lineage.corruption import reports_damage
from musubito.lineage.readers.formatting import mark, short
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.readers.store_reader import batches, by_first
from musubito.lineage.reports import CallReport, NodeReport, RunReport
from musubito.model import NodeStatus

AT_ONCE: Final = 200
"""Nodes whose inputs and outputs are read together."""


@dataclass(frozen=True, slots=True)
class Vertex:
    """A node of the graph.

    `outcomes` counts how the calls of the node ended. Outside of a run, it holds the status of the node.
    """

    node_id: str
    namespace: str
    operation: str
    outcomes: Mapping[str, int]

    @property
    def outcome(self) -> str:
        """Return the outcome that says most.

        A call that ran decides, else one that failed, else one that was replayed, else the first call.
        """
        return next(
            (outcome for outcome in ("ran", "failed", "replayed") if outcome in self.outcomes),
            next(iter(self.outcomes)),
        )

    @property
    def says(self) -> str:
        """Return the outcomes in words, behind the mark of the one that says most."""
        counts = (outcome if count == 1 else f"{outcome} {count} times" for outcome, count in self.outcomes.items())
        return f"{mark(self.outcome)} {', '.join(counts)}"


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge of the graph.

    `kind` is "data" if `source` is the consumed node, and "call" if `source` is the caller.
    """

    source: str
    target: str
    kind: str


@dataclass(frozen=True, slots=True)
class Graph:
    """The nodes and edges of a run, or of the lineage of a node.

    `calls` are the calls of a run, in the order in which they began; a node has none.
    """

    title: str
    nodes: tuple[Vertex, ...]
    edges: tuple[Edge, ...]
    calls: tuple[CallReport, ...]


@reports_damage
def graph_of_run(lineage: Lineage, report: RunReport) -> Graph:
    """Return the graph of the nodes that a run called.

    A node that the run did not call is left out, even if it depends on the run's results.
    """
    nodes: dict[str, Vertex] = {}
    for call in report.calls:
        vertex = nodes.get(call.node_id) or Vertex(call.node_id, call.namespace, call.operation, {})
        counts = {**vertex.outcomes, call.outcome: vertex.outcomes.get(call.outcome, 0) + 1}
        nodes[call.node_id] = replace(vertex, outcomes=counts)
    of_call = {call.number: call.node_id for call in report.calls}
    calls = [Edge(of_call[call.parent], call.node_id, "call") for call in report.calls if call.parent is not None]
    run = report.summary
    title = f"run {short(run.run_id)} {run.name or ''}".strip()
    numbers = {number: node for node, number in lineage.numbers(nodes).items()}
    return Graph(title, tuple(nodes.values()), _edges((*_data(lineage, numbers), *calls)), report.calls)


@reports_damage
def graph_of_node(lineage: Lineage, node: NodeReport) -> Graph:
    """Return the graph of a node, everything upstream and everything downstream of it."""
    above, below = lineage.ancestors(node.node_id), lineage.descendants(node.node_id)
    reports = {
        report.node_id: report
        for report in (*(relative.node for relative in above), node, *(relative.node for relative in below))
    }
    numbers = {number: node_id for node_id, number in lineage.numbers(reports).items()}
    inner = by_first(lineage.about("inner_calls", numbers))
    calls = [
        Edge(node_id, numbers[called], "call")
        for number, node_id in numbers.items()
        for (called,) in inner[number]
        if called in numbers
    ]
    nodes = (
        Vertex(report.node_id, report.namespace, report.operation, {_status(report): 1}) for report in reports.values()
    )
    title = f"call {short(node.node_id)} {node.operation}"
    return Graph(title, tuple(nodes), _edges((*_data(lineage, numbers), *calls)), ())


def _status(node: NodeReport) -> str:
    return "failed" if node.status is NodeStatus.FAILED else node.status.value.lower()


def _data(lineage: Lineage, numbers: Mapping[int, str]) -> list[Edge]:
    edges = by_first(lineage.about("data_edges", numbers))
    return [
        Edge(numbers[parent], child, "data")
        for number, child in numbers.items()
        for parent, _ in edges[number]
        if parent in numbers
    ]


def _edges(edges: Iterable[Edge]) -> tuple[Edge, ...]:
    return tuple(dict.fromkeys(edges))


# -- as text -----------------------------------------------------------------------------------------------------------
_SHAPES: Final = {"replayed": ('(["', '"])'), "failed": ('{{"', '"}}')}
_PLAIN: Final = re.compile(r"(?<=[A-Za-z0-9])[_.-]+(?=[A-Za-z0-9])|[A-Za-z0-9 /:,]+")
"""Pieces of a text that Mermaid, Markdown and HTML take as they are."""


def mermaid(graph: Graph) -> str:
    """Return a graph as a flowchart of Mermaid."""
    names = {node.node_id: f"n{number}" for number, node in enumerate(graph.nodes)}
    lines = ["---", f"title: {_quoted(graph.title)}", "---", "flowchart TD"]
    for node in graph.nodes:
        opening, closing = _SHAPES.get(node.outcome, ('["', '"]'))
        label = "<br/>".join(map(_mermaid, (node.operation or "external", node.says, short(node.node_id))))
        lines.append(f"  {names[node.node_id]}{opening}{label}{closing}")
    for edge in graph.edges:
        arrow = "-->" if edge.kind == "data" else "-. calls .->"
        lines.append(f"  {names[edge.source]} {arrow} {names[edge.target]}")
    return "\n".join(lines) + "\n"


def _mermaid(text: str) -> str:
    """Replace by their numbers the characters that Mermaid, Markdown or HTML would interpret."""
    pieces, at = [], 0
    text = _one_line(text)
    for plain in _PLAIN.finditer(text):
        pieces += [_entity(character) for character in text[at : plain.start()]]
        pieces.append(plain[0])
        at = plain.end()
    return "".join((*pieces, *map(_entity, text[at:])))


def _entity(character: str) -> str:
    return f"#{ord(character)};" if character.isascii() else character


def dot(graph: Graph) -> str:
    """Return a graph in DOT, the language of Graphviz."""
    names = {node.node_id: f"n{number}" for number, node in enumerate(graph.nodes)}
    lines = [f"digraph {_quoted(graph.title)} {{", "  node [shape=box];"]
    for node in graph.nodes:
        label = _quoted(node.operation or "external", node.says, short(node.node_id))
        shape = {"replayed": "shape=box, style=rounded", "failed": "shape=hexagon"}.get(node.outcome, "shape=box")
        lines.append(f"  {names[node.node_id]} [label={label}, {shape}];")
    for edge in graph.edges:
        style = "" if edge.kind == "data" else ' [style=dashed, label="calls"]'
        lines.append(f"  {names[edge.source]} -> {names[edge.target]}{style};")
    return "\n".join((*lines, "}")) + "\n"


def _quoted(*lines: str) -> str:
    """Return lines as one text in quotation marks, as YAML and DOT write it."""
    escaped = (_one_line(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(escaped) + '"'


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


# -- as data -----------------------------------------------------------------------------------------------------------
@reports_damage
def document(lineage: Lineage, graph: Graph, *, contents: bool) -> dict[str, Any]:
    """Return the nodes, edges and calls of a graph as data for programs.

    With `contents`, each node has its input and its output.
    """
    read = _contents(lineage, [vertex.node_id for vertex in graph.nodes]) if contents else {}
    nodes = []
    for vertex in graph.nodes:
        node: dict[str, Any] = {
            "node_id": vertex.node_id,
            "namespace": vertex.namespace,
            "operation": vertex.operation,
            "outcomes": dict(vertex.outcomes),
        }
        if contents:
            node["input"], node["output"] = read.get(vertex.node_id, (None, None))
        nodes.append(node)
    return {"title": graph.title, "nodes": nodes, "edges": graph.edges, "calls": graph.calls}


def _contents(lineage: Lineage, nodes: Iterable[str]) -> dict[str, tuple[Any, Any]]:
    """Return the inputs and outputs of nodes, by their ids."""
    read: dict[str, tuple[Any, Any]] = {}
    for numbers in batches(list(lineage.numbers(nodes).values()), AT_ONCE):
        reports = lineage.nodes(numbers)
        inputs = lineage.inputs((node.namespace, node.operation, bytes.fromhex(node.input_hash)) for node in reports)
        outputs = lineage.outputs(reports)
        read |= {node.node_id: (given, output) for node, given, output in zip(reports, inputs, outputs, strict=True)}
    return read
