"""Find the runs in which a result was used."""

from __future__ import annotations

from typing import NamedTuple

from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.reader import Lineage
from musubito.values.redaction import scrubbed


class UseOfResult(NamedTuple):
    """A run in which a result was made or replayed. `at` is the time of its last call there, `calls` counts them."""

    run_id: str
    name: str | None
    outcome: str
    at: float
    calls: int


@reports_damage
def runs_with(lineage: Lineage, node_id: str, most: int) -> list[UseOfResult]:
    """Return the runs with calls of a node, the newest first, `most` of them at most."""
    rows = lineage.rows("runs_with_node", node=bytes.fromhex(node_id), limit=most)
    return [
        UseOfResult(binary(run).hex(), name and scrubbed(name), outcome, at, calls)
        for run, name, outcome, at, calls in rows
    ]
