"""The reasons why calls of a run ran, from a comparison with what was stored before the run."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Final

from musubito.engine.explain import why_missing
from musubito.lineage.reader import Lineage
from musubito.lineage.reports import RunReport
from musubito.model import ReplayReason

__all__ = ["compared"]

NOT_FOUND: Final = ReplayReason.NODE_NOT_FOUND


def compared(lineage: Lineage, report: RunReport) -> RunReport:
    """Return a run whose calls without a stored result say what differs.

    Such a call is compared with the nearest call that ran before this run. Without such a call, the reason stays.
    """
    missing: defaultdict[tuple[str, str], set[bytes]] = defaultdict(set)
    for call in report.calls:
        if call.reason is NOT_FOUND and call.namespace:
            missing[call.namespace, call.operation].add(bytes.fromhex(call.node_id))
    reasons: dict[str, ReplayReason] = {}
    for (namespace, operation), nodes in missing.items():
        engine = lineage.engine.in_namespace(namespace)
        for node, reason in why_missing(engine, operation, nodes, report.summary.started_at).items():
            reasons[node.hex()] = reason
    calls = tuple(
        replace(call, reason=reasons.get(call.node_id, NOT_FOUND)) if call.reason is NOT_FOUND else call
        for call in report.calls
    )
    return RunReport(report.summary, calls)
