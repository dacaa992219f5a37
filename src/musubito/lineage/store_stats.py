"""Counts and sizes of all that a store contains, and how each operation did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from musubito.lineage.blobs import blobs
from musubito.lineage.corruption import tells_damage
from musubito.lineage.prices import dollars
from musubito.lineage.reader import Lineage
from musubito.lineage.reports import Cost, Tokens

__all__ = ["Kept", "OperationStatistics", "Statistics", "sizes", "statistics"]

KINDS: Final = ("nodes", "executions", "artifacts", "runs", "calls", "inputs", "parts")
"""The kinds of things that `sizes` counts."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The number of stored things of one kind, and their bytes as stored."""

    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class OperationStatistics:
    """The statistics of one operation.

    `executions` counts the stored executions, `failed` those that did not succeed. `mean_ms` and `last_ms` are
    durations of successful executions, None if there are none. `calls` and `replays` are counted in the history.
    `hit_rate` is replays per call, None without calls. The tokens of `spent` are those that the executions used
    themselves, by model.
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
    """The contents of a store, counted.

    A call outside of runs counts as a run. `inputs` share their `parts`. Equal artifacts are counted once, and the
    bytes of those that lie in blobs are counted in `blobs`. Operations with the most executions come first.
    """

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
    """Count all that a store contains.

    The more the store contains, the longer this takes.
    """
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
    """Return the number of things of each kind, counted as in `Statistics`."""
    many = _many(lineage.rows("how_many"))
    return {kind: many[kind].count for kind in KINDS}


def _many(rows: Sequence[tuple[Any, ...]]) -> dict[str, Kept]:
    many = {name: Kept(count, size or 0) for name, count, size in rows}
    # Small artifacts lie in the rows of their executions, and a call outside of runs is a run.
    for kind, parts in (("artifacts", ("artifacts", "small artifacts")), ("runs", ("named runs", "lone calls"))):
        sizes_of_parts = [many[part] for part in parts]
        many[kind] = Kept(sum(kept.count for kept in sizes_of_parts), sum(kept.bytes for kept in sizes_of_parts))
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
    rows: list[OperationStatistics] = []
    for operation, namespace, name in operations:
        count, failed, mean_ms, last_ms = ran.get(operation, (0, 0, None, None))
        number, replays = called.get(operation, (0, 0))
        if not count and not number:
            continue  # all of it was pruned
        spent = Cost((mean_ms or 0.0) * (count - failed), tokens[operation])
        rows.append(
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
    return tuple(sorted(rows, key=lambda row: (-row.executions, row.operation, row.namespace)))
