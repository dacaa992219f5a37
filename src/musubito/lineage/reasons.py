"""Why the calls of a run ran: compared with what there was before the run."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Final

from musubito.engine.explain import why_missing
from musubito.lineage.reader import Lineage
from musubito.lineage.records import RunReport

__all__ = ["compared"]

NOT_FOUND: Final = "node not found"


def compared(lineage: Lineage, report: RunReport) -> RunReport:
    """The same run; where nothing was found for a call, its reason says what differs from the nearest node that ran
    before this run ("code changed", "input changed", "upstream changed"), if there is one."""
    missing: defaultdict[tuple[str, str], set[bytes]] = defaultdict(set)
    for call in report.calls:
        if call.reason == NOT_FOUND and call.namespace:
            missing[call.namespace, call.operation].add(bytes.fromhex(call.node_id))
    reasons: dict[str, str] = {}
    for (namespace, operation), nodes in missing.items():
        engine = lineage.engine.in_namespace(namespace)
        for node, reason in why_missing(engine, operation, nodes, report.summary.started_at).items():
            reasons[node.hex()] = reason.name.lower().replace("_", " ")
    calls = tuple(
        replace(call, reason=reasons.get(call.node_id, NOT_FOUND)) if call.reason == NOT_FOUND else call
        for call in report.calls
    )
    return RunReport(report.summary, calls)
