"""Count all that a store contains, and how each operation did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from musubito.lineage.corruption import reports_damage
from musubito.lineage.readers.blobs import blobs
from musubito.lineage.readers.prices import dollars
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.readers.savings import day_of
from musubito.lineage.reports import Cost, Tokens

COUNTED: Final = ("nodes", "executions", "artifacts", "runs", "calls", "inputs", "parts")
"""The kinds of things that `sizes` counts."""
COUNTS: Final = (("how_many", dict[str, Any]()), ("how_many_executions", dict[str, Any]()))
"""The queries of all counts but those of operations."""
OF_OPERATIONS: Final = tuple(
    (query, dict[str, Any]())
    for query in ("all_operations", "executions_of_operations", "calls_of_operations", "usage_of_operations")
)
"""The queries of the statistics of operations."""


@dataclass(frozen=True, slots=True)
class StoredSize:
    """The number of stored things of one kind, and their bytes as stored."""

    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class StepStatistics:
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
class StoreContents:
    """The contents of a store, counted.

    A call outside of runs counts as a run. `inputs` share their `parts`. A small artifact is stored with each execution
    that returned it, and counts as often; equal large artifacts are stored once. The bytes of artifacts that lie in
    blobs are counted in `blobs`.
    """

    nodes: int
    executions: int
    failed: int
    artifacts: StoredSize
    blobs: StoredSize
    inputs: StoredSize
    parts: StoredSize
    code: StoredSize
    runs: int
    calls: int


@dataclass(frozen=True, slots=True)
class StoreStatistics(StoreContents):
    """The contents of a store, counted, and the statistics of its operations.

    Operations with the most executions come first.
    """

    operations: tuple[StepStatistics, ...]


@reports_damage
def statistics(lineage: Lineage) -> StoreStatistics:
    """Count all that a store contains, and how each operation did. The time grows with the store."""
    counts, executions, *of_operations = lineage.ask(*COUNTS, *OF_OPERATIONS)
    return StoreStatistics(**_counted(lineage, counts, executions), operations=_operations(*of_operations))


@reports_damage
def contents(lineage: Lineage) -> StoreContents:
    """Count all that a store contains. The time grows with the store."""
    return StoreContents(**_counted(lineage, *lineage.ask(*COUNTS)))


@reports_damage
def growth(lineage: Lineage) -> dict[str, int]:
    """Return for each day how many bytes of the stored outputs had been made at its end."""
    total, days = 0, dict[str, int]()
    for quarter, size in lineage.rows("growth"):
        total += size
        days[day_of(quarter)] = total
    return days


def _counted(
    lineage: Lineage, counts: Sequence[tuple[Any, ...]], executions: Sequence[tuple[Any, ...]]
) -> dict[str, Any]:
    """Return the fields of `StoreContents`, from the rows of `COUNTS`."""
    ((number, failed, small, size),) = executions
    files = blobs(lineage).all
    sizes_by_kind = _sizes_by_kind(counts, StoredSize(small, int(size)))
    return {
        **{kind: sizes_by_kind[kind].count for kind in ("nodes", "runs", "calls")},
        **{kind: sizes_by_kind[kind] for kind in ("artifacts", "inputs", "parts", "code")},
        "blobs": StoredSize(len(files), sum(file.size for file in files)),
        "executions": number,
        "failed": int(failed),
    }


@reports_damage
def step_statistics(lineage: Lineage) -> tuple[StepStatistics, ...]:
    """Return the statistics of all operations, those with the most executions first."""
    return _operations(*lineage.ask(*OF_OPERATIONS))


def sizes(lineage: Lineage) -> dict[str, int]:
    """Return the number of things of each kind, counted as in `StoreStatistics`."""
    counts, ((executions, _, small, size),) = lineage.ask(*COUNTS)
    sizes_by_kind = _sizes_by_kind(counts, StoredSize(small, int(size))) | {"executions": StoredSize(executions, 0)}
    return {kind: sizes_by_kind[kind].count for kind in COUNTED}


def _sizes_by_kind(rows: Sequence[tuple[Any, ...]], small: StoredSize) -> dict[str, StoredSize]:
    """Return the sizes of all but executions. `small` are the artifacts that lie in the rows of executions."""
    sizes_by_kind = {name: StoredSize(count, size or 0) for name, count, size in rows}
    large, named, lone = (sizes_by_kind[kind] for kind in ("artifacts", "named runs", "lone calls"))
    sizes_by_kind["artifacts"] = StoredSize(large.count + small.count, large.bytes + small.bytes)
    sizes_by_kind["runs"] = StoredSize(named.count + lone.count, 0)
    return sizes_by_kind


def _operations(
    operations: Sequence[tuple[Any, ...]],
    executions: Sequence[tuple[Any, ...]],
    calls: Sequence[tuple[Any, ...]],
    usage: Sequence[tuple[Any, ...]],
) -> tuple[StepStatistics, ...]:
    ran = {operation: rest for operation, *rest in executions}
    called = {operation: rest for operation, *rest in calls}
    tokens: defaultdict[int, dict[str, Tokens]] = defaultdict(dict)
    for operation, model, tokens_in, tokens_out in usage:
        tokens[operation][model] = Tokens(tokens_in, tokens_out)
    rows: list[StepStatistics] = []
    for operation, namespace, name in operations:
        count, failed, mean_ms, last_ms = ran.get(operation, (0, 0, None, None))
        number, replays = called.get(operation, (0, 0))
        if not count and not number:
            continue  # all of it was pruned
        spent = Cost((mean_ms or 0.0) * (count - failed), tokens[operation])
        rows.append(
            StepStatistics(
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
