"""The removal of what nothing needs, in terms of named queries.

`musubito.lineage.removal.prune` finds what a prune may remove. It only reads, so that others can write meanwhile.
Inside the transaction, only facts that can have changed since are checked again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

from musubito.store.changes import (
    Commit,
    CommitFailure,
    InvalidateMarked,
    MarkForPruning,
    Prune,
    Pruned,
)
from musubito.store.relational.sql_session import SqlSession
from musubito.store.rows import ANSWER, FORGOTTEN, ExecutionFlags

ERASED: Final = ExecutionFlags.ERASED
CALLS: Final = 5_000
"""Calls of runs that are removed in one transaction."""
BESIDE_EXECUTIONS: Final = (
    *("prune_uses", "prune_reads", "prune_attempts", "prune_usage"),
    *("prune_trace", "prune_edit", "prune_retired"),
)
"""The queries that remove what belongs to one execution alone."""
Record = TypeVar("Record", Commit, CommitFailure)


def without_contents(change: Record) -> Record:
    """Return the record, without its contents, of an execution that was forgotten while it ran."""
    place = change.place._replace(code=change.place.code._replace(parts=()))
    if isinstance(change, Commit):
        answers = [read for read in change.reads if read.kind == ANSWER]
        return change._replace(
            place=place,
            payload=None,
            reads=answers,
            not_replayable=FORGOTTEN,
            holds=change.holds | ERASED,
            edit=change.edit and change.edit._replace(reason=FORGOTTEN),
            learned=None,
        )
    return change._replace(place=place, error=FORGOTTEN)


def retire(db: SqlSession, change: MarkForPruning) -> int:
    """See `MarkForPruning`."""
    if not change.executions:
        return 0
    db.many("retire", [{"execution": execution, "prune": change.prune} for execution in change.executions])
    span = {"first": min(change.executions), "last": max(change.executions), "prune": change.prune}
    return len(set(change.executions).intersection(row[0] for row in db.rows("retired_among", span)))


def revive(db: SqlSession, executions: Iterable[int]) -> None:
    """Clear the marks of retired executions.

    The marks of all that they were built on are cleared, too, and of all that came after any of these under its widest
    key.
    """
    ahead = list(executions)
    while ahead:
        for (revived,) in db.rows("revive", {"execution": ahead.pop()}):
            ahead += [called for (called,) in db.rows("called", {"execution": revived})]


def dismiss(db: SqlSession, change: InvalidateMarked) -> None:
    """See `InvalidateMarked`."""
    db.many("dismiss", [{"execution": execution, "prune": change.prune} for execution in change.executions])
    db.many("forget_retired", [{"execution": execution, "prune": change.prune} for execution in change.executions])


def prune(db: SqlSession, change: Prune) -> Pruned:
    """See `Prune`."""
    since = {"since": change.since}
    nodes = _prune_nodes(db, change)
    sizes = _prune_executions(db, change.executions)
    runs = _prune_runs(db, change.runs)
    for run, call in change.calls:
        db.rows("prune_call", {"run": run, "call": call})
    artifacts, inputs, parts = (
        [row for params in wanted for row in db.rows(query, params)]
        for query, wanted in (
            ("prune_artifact", [{"namespace": name, "digest": digest, **since} for name, digest in change.artifacts]),
            ("prune_input", [{"operation": name, "input_hash": digest, **since} for name, digest in change.inputs]),
            ("prune_part", [{"id": number} for number in change.parts]),
        )
    )
    size = sum(sizes) + _sum(artifacts) + _sum(inputs) + _sum(parts)
    return Pruned(nodes, len(sizes), runs, len(artifacts), len(inputs), len(parts), size)


def _prune_nodes(db: SqlSession, change: Prune) -> int:
    """Remove nodes; return how many were removed."""
    if not change.nodes:
        return 0
    invalidated = set(db.rows("invalidated_nodes", {}))
    count = 0
    for node in change.nodes:
        for (number,) in db.rows("bare_node", {"node": node, "since": change.since}):
            db.rows("prune_edges", {"node": number})
            db.rows("unstale", {"node": number})
            if (number,) in invalidated:
                db.rows("strip_node", {"node": number})
            else:
                db.rows("prune_node", {"node": number})
                count += 1
    return count


def _prune_runs(db: SqlSession, runs: Sequence[bytes]) -> int:
    """Remove up to `CALLS` calls of runs, and the runs that have none left; return the number of these."""
    left = CALLS
    for count, run in enumerate(runs):
        left -= len(db.rows("prune_calls", {"run": run, "limit": left}))
        if left == 0:
            return count
        db.rows("prune_run", {"run": run})
    return len(runs)


def _prune_executions(db: SqlSession, executions: Sequence[int]) -> list[int]:
    """Remove executions; return the size of each that was removed."""
    if not executions:
        return []
    span = {"first": min(executions), "last": max(executions)}
    of_effects = {row[0] for row in db.rows("executions_of_effects", span)}
    sizes: list[int] = []
    for execution in executions:
        if execution in of_effects:
            continue
        for node, size in db.rows("prune_execution", {"execution": execution}):
            for query in BESIDE_EXECUTIONS:
                db.rows(query, {"execution": execution})
            db.rows("list_node", {"node": node, "execution": execution})
            sizes.append(size)
    return sizes


def _sum(rows: Sequence[tuple[Any, ...]]) -> int:
    return sum(row[0] for row in rows)
