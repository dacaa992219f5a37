"""Find the runs in which a result was used."""

from __future__ import annotations

from typing import NamedTuple

from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.readers.reader import Lineage
from musubito.reasons import ReplayReason
from musubito.values.redaction import scrubbed


class UseOfResult(NamedTuple):
    """The calls of a result in one run that ended alike. `at` is the time of the last one, `calls` counts them."""

    run_id: str
    name: str | None
    outcome: str
    reason: ReplayReason
    at: float
    calls: int


@reports_damage
def runs_with(lineage: Lineage, node_id: str, most: int) -> list[UseOfResult]:
    """Return how the calls of a node ended in each run, the newest first, `most` of them at most."""
    rows = lineage.rows("runs_with_node", node=bytes.fromhex(node_id), limit=most)
    return [
        UseOfResult(binary(run).hex(), name and scrubbed(name), outcome, ReplayReason[reason], at, calls)
        for run, name, outcome, reason, at, calls in rows
    ]
