"""Fold the calls of a large run by operation: which operation called or consumed which."""

from __future__ import annotations

from musubito.lineage.corruption import reports_damage
from musubito.lineage.readers.reader import Lineage


@reports_damage
def folded_edges(lineage: Lineage, run_id: str) -> list[tuple[str, str, str]]:
    """Return pairs of operations of a run with the kind of their edge, each once.

    "data" leads from a result to its consumer, "call" from a step to the step that it called.
    """
    return [(source, target, kind) for source, target, kind in lineage.rows("folded_edges", run=bytes.fromhex(run_id))]
