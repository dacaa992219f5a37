"""Draw a large run in few boxes: one for each step, or those of the graph that ran."""

from __future__ import annotations

import json
from typing import NamedTuple

from musubito.lineage.corruption import reports_damage
from musubito.lineage.readers.reader import Lineage


class GraphShape(NamedTuple):
    """The shape of a graph as its framework draws it.

    `nodes` are pairs of a node's name and its step, None for a node that is no step. `edges` lead from a node to a
    node, each with whether the graph decides when it runs, and with the label of that decision.
    """

    nodes: list[tuple[str, str | None]]
    edges: list[tuple[str, str, bool, str]]


@reports_damage
def folded_edges(lineage: Lineage, run_id: str) -> list[tuple[str, str, str]]:
    """Return pairs of operations of a run with the kind of their edge, each once.

    "data" leads from a result to its consumer, "call" from a step to the step that it called.
    """
    return [(source, target, kind) for source, target, kind in lineage.rows("folded_edges", run=bytes.fromhex(run_id))]


@reports_damage
def shape_of_run(lineage: Lineage, run_id: str) -> GraphShape | None:
    """Return the shape of the graph that a run is of; None if none is stored."""
    rows = lineage.rows("shape_of_run", run=bytes.fromhex(run_id))
    return GraphShape(**json.loads(rows[0][0])) if rows else None
