"""What there is in a store, and how each operation did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from musubito.lineage.blobs import blobs
from musubito.lineage.damage import tells_damage
from musubito.lineage.prices import dollars
from musubito.lineage.reader import Lineage
from musubito.lineage.records import Cost, Tokens

__all__ = ["Kept", "OperationStatistics", "Statistics", "sizes", "statistics"]

KINDS: Final = ("nodes", "executions", "artifacts", "runs", "calls", "inputs", "parts")


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


@tells_damage
def statistics(lineage: Lineage) -> Statistics:
    """Counts everything, so it takes longer the more there is."""
    counts, operations, executions, calls, usage = lineage.ask(
        ("how_many", {}),
        ("all_operations", {}),
        ("executions_of_operations", {}),
        ("calls_of_operations", {}),
        ("usage_of_operations", {}),
    )
    many = _many(counts)
    files = blobs(lineage).all
    return Statistics(
        many["nodes"].count,
        many["executions"].count,
        many["failed"].count,
        many["artifacts"],
        Kept(len(files), sum(file.size for file in files)),
        many["inputs"],
        many["parts"],
        many["code"],
        many["runs"].count,
        many["calls"].count,
        _operations(operations, executions, calls, usage),
    )


def sizes(lineage: Lineage) -> dict[str, int]:
    """How many of each kind there are, as `Statistics` counts them."""
    many = _many(lineage.rows("how_many"))
    return {kind: many[kind].count for kind in KINDS}


def _many(rows: Sequence[tuple[Any, ...]]) -> dict[str, Kept]:
    many = {name: Kept(count, size or 0) for name, count, size in rows}
    # Small ones lie in the rows of their executions; a call outside of runs is one.
    for kind, parts in (("artifacts", ("artifacts", "small artifacts")), ("runs", ("named runs", "lone calls"))):
        found = [many[part] for part in parts]
        many[kind] = Kept(sum(each.count for each in found), sum(each.bytes for each in found))
    return many


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
        if not count and not number:
            continue  # all of it was pruned
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
