"""Find unrepeatable things that executions asked for.

The clock, random numbers, ids, the network and processes answer differently each time. Files are written once.
"""

from __future__ import annotations

from typing import NamedTuple

from musubito.code.unrepeatable import NOTICES, Unrepeatable
from musubito.errors import ArtifactUnreadable, WrongKey
from musubito.lineage.corruption import reports_damage
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.reports import NodeReport
from musubito.payloads.codec import READ
from musubito.store.rows import ExecutionFlags


class UnrepeatableOfStep(NamedTuple):
    """One unrepeatable thing that executions of an operation asked for."""

    namespace: str
    operation: str
    thing: Unrepeatable
    is_unsettled: bool
    """Whether a replay skips the thing although nobody has said how the step is replayed."""


@reports_damage
def unrepeatable_of(lineage: Lineage, node: NodeReport) -> list[Unrepeatable]:
    """Return the unrepeatable things that the execution at a node asked for."""
    if node.execution is None:
        return []
    reads = sorted((kind, key) for _, kind, key, _ in lineage.about("reads_of_executions", [node.execution.number]))
    return [_opened(lineage, node.namespace, kind, key) for kind, key in reads if kind in NOTICES]


@reports_damage
def unrepeatable_of_operations(lineage: Lineage) -> list[UnrepeatableOfStep]:
    """Return the unrepeatable things that stored executions asked for, each once for each operation."""
    return [
        UnrepeatableOfStep(namespace, operation, _opened(lineage, namespace, kind, key), bool(unsettled))
        for namespace, operation, kind, key, unsettled in lineage.rows(
            "asked_by_operations", outside=ExecutionFlags.OUTSIDE.value, configured=ExecutionFlags.CONFIGURED.value
        )
    ]


def _opened(lineage: Lineage, namespace: str, kind: str, key: str) -> Unrepeatable:
    try:
        return Unrepeatable(kind, lineage.contents(namespace).opened_text(READ, key))
    except (ArtifactUnreadable, WrongKey):
        return Unrepeatable(kind, "(encrypted)")
