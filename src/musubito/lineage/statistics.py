"""What there is in a store, and how each operation did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from musubito.lineage.blobs import blobs
from musubito.lineage.prices import dollars
from musubito.lineage.reader import Lineage
from musubito.lineage.records import Cost, Tokens

__all__ = ["Kept", "OperationStatistics", "Statistics", "statistics"]


@dataclass(frozen=True, slots=True)
class Kept:
    """How many things of a kind are stored, and their bytes as they lie there."""

    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class OperationStatistics:
    """How one operation did.

    `executions` counts what is stored, `failed` those that did not succeed; mean and last duration are of those that
    did, None if none has. `calls` and `replays` are those of the ledger, `hit_rate` is replays per call, None without
    calls. `tokens` are those that the executions used themselves, by model.
    """

    namespace: str
    operation: str
    executions: int
    failed: int
    calls: int
    replays: int
    hit_rate: float | None
    mean_ms: float | None
    last_ms: float | None
    spent: Cost
    spent_dollars: float | None


@dataclass(frozen=True, slots=True)
class Statistics:
    """All that is in a store. A call outside of runs counts as a run; `inputs` share their `parts`; equal artifacts are
    counted once, and the bytes of those that lie in `blobs` are counted there. Operations come with the most executions
    first."""

    nodes: int
    executions: int
    failed: int
    artifacts: Kept
    blobs: Kept
    inputs: Kept
    parts: Kept
    code: Kept
    runs: int
    calls: int
    operations: tuple[OperationStatistics, ...]


def statistics(lineage: Lineage) -> Statistics:
    """Counts everything, so it takes longer the more there is."""
    counts, operations, executions, calls, usage = lineage.ask(
        ("how_many", {}),
        ("all_operations", {}),
        ("executions_of_operations", {}),
        ("calls_of_operations", {}),
        ("usage_of_operations", {}),
    )
    many = {name: Kept(count, size or 0) for name, count, size in counts}
    small, files = many["small artifacts"], blobs(lineage).all
    return Statistics(
        many["nodes"].count,
        many["executions"].count,
        many["failed"].count,
        Kept(many["artifacts"].count + small.count, many["artifacts"].bytes + small.bytes),
        Kept(len(files), sum(file.size for file in files)),
        many["inputs"],
        many["parts"],
        many["code"],
        many["named runs"].count + many["lone calls"].count,
        many["calls"].count,
        _operations(operations, executions, calls, usage),
    )


def _operations(
    operations: Sequence[tuple[Any, ...]],
    executions: Sequence[tuple[Any, ...]],
    calls: Sequence[tuple[Any, ...]],
    usage: Sequence[tuple[Any, ...]],
) -> tuple[OperationStatistics, ...]:
    ran = {operation: rest for operation, *rest in executions}
    called = {operation: rest for operation, *rest in calls}
    tokens: defaultdict[int, dict[str, Tokens]] = defaultdict(dict)
    for operation, model, tokens_in, tokens_out in usage:
        tokens[operation][model] = Tokens(tokens_in, tokens_out)
    found: list[OperationStatistics] = []
    for operation, namespace, name in operations:
        count, failed, mean_ms, last_ms = ran.get(operation, (0, 0, None, None))
        number, replays = called.get(operation, (0, 0))
        spent = Cost((mean_ms or 0.0) * (count - failed), tokens[operation])
        found.append(
            OperationStatistics(
                namespace,
                name,
                count,
                failed,
                number,
                replays,
                replays / number if number else None,
                mean_ms,
                last_ms,
                spent,
                dollars(spent),
            )
        )
    return tuple(sorted(found, key=lambda each: (-each.executions, each.operation, each.namespace)))
