"""Count the calls of one operation by day, and tell why it ran last."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from musubito.engine.nearest import COMPARED, Reasons
from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.reader import Lineage
from musubito.lineage.savings import QUARTER
from musubito.reasons import ReplayReason
from musubito.store.relational.reads import neighbour, neighbours_of

NEWEST: Final = 20
"""Calls whose reasons are told at most."""
LOOKED_AT: Final = 1_000
"""Calls that were not replayed, among which the newest that ran are looked for."""


@dataclass(frozen=True, slots=True)
class DayOfOperation:
    """The calls of one day of local time, by outcome."""

    day: str
    calls: Mapping[str, int]


class RanCall(NamedTuple):
    """A call that ran, with its reason."""

    run_id: str
    node_id: str
    at: float
    reason: ReplayReason


@dataclass(frozen=True, slots=True)
class OperationHistory:
    """The calls of one operation since a time, in all namespaces.

    `ran` are the newest calls that ran, the newest first. `newest` is the node of the newest call, None without any.
    """

    is_known: bool
    days: tuple[DayOfOperation, ...]
    ran: tuple[RanCall, ...]
    newest: str | None


@reports_damage
def history_of(lineage: Lineage, operation: str, since: float) -> OperationHistory:
    """Return the history of an operation since a time, in seconds since the epoch."""
    known, rows, newest, ran = lineage.ask(
        ("operation_named", {"operation": operation}),
        ("calls_by_quarter", {"operation": operation, "since": since}),
        ("newest_call_of", {"operation": operation}),
        ("newest_that_ran", {"operation": operation, "since": since, "limit": NEWEST, "looked_at": LOOKED_AT}),
    )
    days: dict[str, Counter[str]] = {}
    for quarter, outcome, number in rows:
        day = datetime.fromtimestamp(quarter * QUARTER, UTC).astimezone().date().isoformat()
        days.setdefault(day, Counter())[outcome] += number
    return OperationHistory(
        bool(known),
        tuple(DayOfOperation(day, calls) for day, calls in sorted(days.items())),
        _with_reasons(lineage, operation, ran),
        binary(newest[0][0]).hex() if newest else None,
    )


def _with_reasons(lineage: Lineage, operation: str, rows: Sequence[tuple[Any, ...]]) -> tuple[RanCall, ...]:
    """Return calls, with the difference from the nearest earlier call as the reason if nothing was stored for them."""
    missing: defaultdict[str, defaultdict[tuple[bytes, float], set[bytes]]] = defaultdict(lambda: defaultdict(set))
    for run, namespace, began, node, reason, _ in rows:
        if ReplayReason[reason] is ReplayReason.NODE_NOT_FOUND:
            missing[namespace][binary(run), began].add(binary(node))
    # Calls of all runs are compared with the same earlier calls, so these are read once.
    stored = lineage.ask(*(neighbours_of(namespace, operation, COMPARED + NEWEST) for namespace in missing))
    compared: dict[tuple[bytes, bytes], ReplayReason] = {}
    for (namespace, runs), neighbours in zip(missing.items(), stored, strict=True):
        calls = list(map(neighbour, neighbours))
        for (run, began), nodes in runs.items():
            found = Reasons(calls, nodes, began)
            inputs = lineage.inputs((namespace, operation, digest) for digest in found.hashes())
            compared |= {(run, node): reason for node, reason in found.by_inputs(inputs).items()}
    return tuple(
        RanCall(
            binary(run).hex(),
            binary(node).hex(),
            at,
            compared.get((binary(run), binary(node)), ReplayReason[reason]),
        )
        for run, _, _, node, reason, at in rows
    )
