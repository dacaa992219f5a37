"""Count the calls of one operation by day, and the reasons for which it ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.reader import Lineage
from musubito.lineage.savings import QUARTER
from musubito.reasons import ReplayReason


@dataclass(frozen=True, slots=True)
class DayOfOperation:
    """The calls of one day of local time, by outcome."""

    day: str
    calls: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class OperationHistory:
    """The calls of one operation since a time, in all namespaces.

    `reasons` counts the calls that ran, by reason, the most frequent first. `newest` is the node of the newest call,
    None without any call.
    """

    is_known: bool
    days: tuple[DayOfOperation, ...]
    reasons: tuple[tuple[ReplayReason, int], ...]
    newest: str | None
    counts: Counter[str] = field(default_factory=Counter)


@reports_damage
def history_of(lineage: Lineage, operation: str, since: float) -> OperationHistory:
    """Return the history of an operation since a time, in seconds since the epoch."""
    known, rows, newest = lineage.ask(
        ("operation_named", {"operation": operation}),
        ("calls_by_quarter", {"operation": operation, "since": since}),
        ("newest_call_of", {"operation": operation}),
    )
    days: dict[str, Counter[str]] = {}
    reasons, counts = Counter[ReplayReason](), Counter[str]()
    for quarter, outcome, reason, number in rows:
        day = datetime.fromtimestamp(quarter * QUARTER, UTC).astimezone().date().isoformat()
        days.setdefault(day, Counter())[outcome] += number
        counts[outcome] += number
        if outcome == "ran":
            reasons[ReplayReason[reason]] += number
    return OperationHistory(
        bool(known),
        tuple(DayOfOperation(day, calls) for day, calls in sorted(days.items())),
        tuple(reasons.most_common()),
        binary(newest[0][0]).hex() if newest else None,
        counts,
    )
