"""Find the operations whose results are never replayed, with the reason, the remedy and the cost."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.readers.why import whys
from musubito.lineage.reports import Cost, Tokens
from musubito.reasons import NeverReplayed, ReplayReason, never_replayed
from musubito.store.rows import ExecutionFlags

RUNS: Final = 3
"""Runs that called an operation without a replay, before the operation is reported."""
COMPARED: Final = 20
"""Operations whose differing inputs are looked up, the most expensive first."""
LEFT_OUT: Final = ExecutionFlags.ERASED | ExecutionFlags.LIVE
"""Flags of executions that are not reported."""
WANTED: Final = (
    ReplayReason.LIVE,
    ReplayReason.LIVE_INSIDE,
    ReplayReason.TTL_EXPIRED,
    ReplayReason.DEPENDENCY_EXPIRED,
)
"""Reasons that somebody has configured."""


@dataclass(frozen=True, slots=True)
class Unreplayed:
    """Executions of an operation that no call can be replayed with, for one reason.

    - `reason`: why they are never replayed; if each call differs from all before it, the reason of the newest call.
    - `parts`: the parts that the reason names, each once.
    - `says`: the sentence of the newest execution.
    - `remedy`: what to do about it; "" if nothing can or need be done.
    - `executions`: how many there are; if each call differs, how many calls ran.
    - `cost`: the cost without that of the calls inside.
    """

    namespace: str
    operation: str
    reason: ReplayReason
    parts: tuple[str, ...]
    says: str
    remedy: str
    executions: int
    cost: Cost


@reports_damage
def unreplayed(lineage: Lineage) -> list[Unreplayed]:
    """Return the executions that are never replayed, the most expensive first.

    Live steps, steps in which one ran, and results with a time to live are left out: somebody has configured that.
    """
    refused = _refused(lineage)
    names = {(entry.namespace, entry.operation) for entry in refused}
    unwanted = (entry for entry in refused if entry.reason not in WANTED)
    entries = [*unwanted, *_with_changing_input(lineage, names)]
    return sorted(entries, key=lambda entry: (-entry.cost.total_tokens, -entry.cost.compute_ms, entry.operation))


def _refused(lineage: Lineage) -> list[Unreplayed]:
    """Return the executions for which a reason is stored why they are never replayed."""
    rows = lineage.rows("never_replayed", left_out=LEFT_OUT)
    usage = lineage.rows("usage_of_never_replayed", left_out=LEFT_OUT) if rows else ()
    tokens: defaultdict[tuple[str, str, str], dict[str, Tokens]] = defaultdict(dict)
    for namespace, operation, says, model, tokens_in, tokens_out in usage:
        tokens[namespace, operation, says][model] = Tokens(tokens_in, tokens_out)
    groups: defaultdict[tuple[str, str, str], list[tuple[NeverReplayed, int, Cost]]] = defaultdict(list)
    for namespace, operation, says, count, milliseconds in rows:
        never = never_replayed(says)
        cost = Cost(milliseconds, tokens[namespace, operation, says])
        groups[namespace, operation, never.group].append((never, count, cost))
    entries = []
    for (namespace, operation, _), members in groups.items():
        newest = members[0][0]
        parts = tuple(dict.fromkeys(never.part for never, _, _ in members if never.part))
        executions, cost = sum(count for _, count, _ in members), sum((cost for _, _, cost in members), Cost())
        entries.append(
            Unreplayed(namespace, operation, newest.reason, parts, newest.says, newest.remedy, executions, cost)
        )
    return entries


def _with_changing_input(lineage: Lineage, reported: set[tuple[str, str]]) -> list[Unreplayed]:
    """Return the operations that several runs called and never replayed, since each call differed.

    Their costs are those of the calls in the history.
    """
    rows = [row for row in lineage.rows("without_replays", runs=RUNS) if row[1:3] not in reported]
    tokens: defaultdict[int, dict[str, Tokens]] = defaultdict(dict)
    for number, model, tokens_in, tokens_out in lineage.about("usage_of_calls", (row[0] for row in rows)):
        tokens[number][model] = Tokens(tokens_in, tokens_out)
    candidates = [
        (Cost(milliseconds, tokens[number]), (namespace, operation), binary(node).hex(), count)
        for number, namespace, operation, node, count, milliseconds in rows
    ]
    candidates.sort(key=lambda candidate: (candidate[0].total_tokens, candidate[0].compute_ms), reverse=True)
    entries = []
    del candidates[COMPARED:]
    numbers = lineage.numbers(node for _, _, node, _ in candidates)
    reports = whys(lineage, [(numbers[node], None) for _, _, node, _ in candidates])
    for (cost, name, _, count), report in zip(candidates, reports, strict=True):
        if report.remedy and report.reason not in WANTED:
            reason = report.reason
            entries.append(Unreplayed(*name, reason, report.parts, reason.sentence, report.remedy, count, cost))
    return entries
