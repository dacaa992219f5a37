"""Count the calls of one operation by day, tell why it ran last, and which versions of its code ran."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from musubito.engine.code_diff import ChangedCode, changed_code
from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.readers.savings import day_of
from musubito.lineage.readers.store_reader import by_first
from musubito.lineage.readers.why import codes_of, reasons_before
from musubito.lineage.reports import Cost, Tokens
from musubito.reasons import ReplayReason
from musubito.store.protocol import Row

NEWEST: Final = 20
"""Calls whose reasons are told at most."""
VERSIONS: Final = 10
"""Versions of the code that are told at most."""
RESULTS: Final = 10_000
"""The newest step results of an operation, whose versions are told."""
LOOKED_AT: Final = 1_000
"""Calls that were not replayed, among which the newest that ran are looked for."""


@dataclass(frozen=True, slots=True)
class DayOfOperation:
    """The calls of one day of local time, by outcome. `mean_ms` is of those that ran, None without any."""

    day: str
    calls: Mapping[str, int]
    mean_ms: float | None


class RanCall(NamedTuple):
    """A call that ran, with its reason."""

    run_id: str
    node_id: str
    at: float
    reason: ReplayReason


class VersionOfOperation(NamedTuple):
    """The stored executions of one version of the code, from the first to the last, in seconds since the epoch.

    `changed` are the parts that differ from the version before it, None without one. `mean_ms` is of executions that
    succeeded. `spent` has no calls inside.
    """

    first: float
    last: float
    executions: int
    failed: int
    mean_ms: float | None
    spent: Cost
    changed: tuple[ChangedCode, ...] | None


@dataclass(frozen=True, slots=True)
class OperationHistory:
    """The calls of one operation since a time, in all namespaces, and the versions of its code.

    `versions` are those of the `RESULTS` newest step results, the newest first.

    `ran` are the newest calls that ran, the newest first. `newest` is the node of the newest call, None without any.
    """

    is_known: bool
    days: tuple[DayOfOperation, ...]
    ran: tuple[RanCall, ...]
    newest: str | None
    versions: tuple[VersionOfOperation, ...]


@reports_damage
def history_of(lineage: Lineage, operation: str, since: float) -> OperationHistory:
    """Return the history of an operation since a time, in seconds since the epoch."""
    known, rows, newest, ran, versions, usage = lineage.ask(
        ("operation_named", {"operation": operation}),
        ("calls_by_quarter", {"operation": operation, "since": since}),
        ("newest_call_of", {"operation": operation}),
        ("newest_that_ran", {"operation": operation, "since": since, "limit": NEWEST, "looked_at": LOOKED_AT}),
        ("versions_of_operation", {"operation": operation, "looked_at": RESULTS, "limit": VERSIONS + 1}),
        ("usage_of_versions", {"operation": operation, "looked_at": RESULTS}),
    )
    days: dict[str, Counter[str]] = {}
    took: defaultdict[str, float] = defaultdict(float)
    for quarter, outcome, number, milliseconds in rows:
        day = day_of(quarter)
        days.setdefault(day, Counter())[outcome] += number
        took[day] += milliseconds if outcome == "ran" else 0.0
    return OperationHistory(
        bool(known),
        tuple(
            DayOfOperation(day, calls, took[day] / calls["ran"] if calls["ran"] else None)
            for day, calls in sorted(days.items())
        ),
        _with_reasons(lineage, operation, ran),
        binary(newest[0][0]).hex() if newest else None,
        tuple(_versions(lineage, versions, by_first(usage))),
    )


def _versions(
    lineage: Lineage, rows: Sequence[Row], usage: Mapping[int, Sequence[Row]]
) -> Iterator[VersionOfOperation]:
    """Yield versions of the code, the newest first. Of the last row, it is only told how the one after it differs."""
    codes = codes_of(lineage, [binary(fingerprint) for _, fingerprint, *_ in rows])
    before = [*(codes[binary(fingerprint)] for _, fingerprint, *_ in rows[1:]), None]
    for (code, fingerprint, first, last, number, failed, mean_ms), old in zip(rows[:VERSIONS], before, strict=False):
        spent = Cost((mean_ms or 0.0) * (number - failed), {model: Tokens(*used) for model, *used in usage[code]})
        changed = None if old is None else changed_code(old, codes[binary(fingerprint)])
        yield VersionOfOperation(first, last, number, failed, mean_ms, spent, changed)


def _with_reasons(lineage: Lineage, operation: str, rows: Sequence[tuple[Any, ...]]) -> tuple[RanCall, ...]:
    """Return calls, with the difference from the nearest earlier call as the reason if nothing was stored for them."""
    missing: defaultdict[tuple[str, str, float], set[str]] = defaultdict(set)
    for _, namespace, began, node, reason, _ in rows:
        if ReplayReason[reason] is ReplayReason.NODE_NOT_FOUND:
            missing[namespace, operation, began].add(binary(node).hex())
    compared = reasons_before(lineage, missing)
    return tuple(
        RanCall(
            binary(run).hex(),
            binary(node).hex(),
            at,
            compared.get((binary(node).hex(), began), ReplayReason[reason]),
        )
        for run, _, began, node, reason, at in rows
    )
