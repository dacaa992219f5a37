"""The removal of what nothing needs, in terms of named queries.

`musubito.lineage.removal.prune` finds what a prune may remove. It only reads, so that others can write meanwhile.
Inside the transaction, only facts that can have changed since are checked again.
"""

from __future__ import annotations

import json
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
OF_EXECUTIONS: Final = (
    *("prune_uses", "prune_reads", "prune_attempts", "prune_usage"),
    *("forget_traces", "prune_edits", "prune_retired", "prune_executions"),
)
"""The queries that remove executions with what belongs to them alone."""
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
    marked = _marked(change)
    db.rows("retire", marked)
    return len(db.rows("still_retired", marked))


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
    marked = _marked(change)
    db.rows("dismiss", marked)
    # What is left has an older one of its key. That became INVALID just now, or stays.
    db.many("dismiss", [marked | {"executions": f"[{left}]"} for (left,) in db.rows("still_retired", marked)])
    db.rows("forget_retired", marked)


def _marked(change: MarkForPruning | InvalidateMarked) -> dict[str, Any]:
    return {"executions": json.dumps(list(change.executions)), "prune": change.prune}


def prune(db: SqlSession, change: Prune) -> Pruned:
    """See `Prune`."""
    nodes = _prune_nodes(db, change)
    executions, size = _prune_executions(db, change.executions)
    runs = _prune_runs(db, change.runs)
    for run, call in change.calls:
        db.rows("prune_call", {"run": run, "call": call})
    artifacts = _prune_named(db, "prune_artifacts", "namespace", change.artifacts, change.since)
    inputs = _prune_named(db, "prune_inputs", "operation", change.inputs, change.since)
    parts = db.rows("prune_parts", {"parts": json.dumps(list(change.parts))}) if change.parts else []
    size += sum(row[0] for rows in (artifacts, inputs, parts) for row in rows)
    return Pruned(nodes, executions, runs, len(artifacts), len(inputs), len(parts), size)


def _prune_nodes(db: SqlSession, change: Prune) -> int:
    """Remove nodes; return how many were removed."""
    if not change.nodes:
        return 0
    bare = {
        name: number for number, name in db.rows("bare_nodes", {"nodes": _in_hex(change.nodes), "since": change.since})
    }
    below = db.rows("edges_below", _numbers("nodes", bare.values()))
    gone = _unneeded([bare[name] for name in change.nodes if name in bare], below)
    stubs = gone & {row[0] for row in db.rows("invalidated_nodes", {})}
    removed = gone - stubs
    db.rows("prune_edges", _numbers("nodes", gone))
    db.rows("prune_stale", _numbers("nodes", gone))
    db.rows("strip_nodes", _numbers("nodes", stubs))
    db.rows("prune_nodes", _numbers("nodes", removed))
    return len(removed)


def _prune_runs(db: SqlSession, runs: Sequence[bytes]) -> int:
    """Remove up to `CALLS` calls of runs, and the runs that have none left; return the number of these."""
    left = CALLS
    for count, run in enumerate(runs):
        left -= len(db.rows("prune_calls", {"run": run, "limit": left}))
        if left == 0:
            return count
        db.rows("prune_run", {"run": run})
    return len(runs)


def _prune_executions(db: SqlSession, executions: Sequence[int]) -> tuple[int, int]:
    """Remove executions; return how many were removed, and the size of what lay in their rows."""
    if not executions:
        return 0, 0
    span = {"first": min(executions), "last": max(executions)}
    of_effects = {row[0] for row in db.rows("executions_of_effects", span)}
    removable = {row[0]: row for row in db.rows("removable_executions", _numbers("executions", executions))}
    wanted = [number for number in executions if number in removable and number not in of_effects]
    gone = _unneeded(wanted, db.rows("callers_of", _numbers("executions", wanted)))
    names = _numbers("executions", gone)
    for query in OF_EXECUTIONS:
        db.rows(query, names)
    db.rows("list_nodes", names | _numbers("nodes", {removable[number][1] for number in gone}))
    return len(gone), sum(removable[number][2] for number in gone)


def _unneeded(wanted: Iterable[int], needs: Iterable[tuple[Any, ...]]) -> set[int]:
    """Return those of the wanted ones that are needed, if at all, only by some that come before and go as well.

    `needs` are pairs of one that is needed and one that needs it.
    """
    needed_by: dict[int, set[int]] = {}
    for needed, by in needs:
        needed_by.setdefault(needed, set()).add(by)
    gone: set[int] = set()
    for number in wanted:
        if needed_by.get(number, gone) <= gone:
            gone.add(number)
    return gone


def _prune_named(
    db: SqlSession, query: str, group: str, names: Sequence[tuple[int, bytes]], since: int
) -> list[tuple[Any, ...]]:
    """Run a query for the names of each group; return the rows of all that it removed."""
    digests: dict[int, list[bytes]] = {}
    for number, digest in names:
        digests.setdefault(number, []).append(digest)
    return [
        row
        for number, some in digests.items()
        for row in db.rows(query, {group: number, "digests": _in_hex(some), "since": since})
    ]


def _numbers(name: str, numbers: Iterable[int]) -> dict[str, str]:
    return {name: json.dumps(list(numbers))}


def _in_hex(digests: Iterable[bytes]) -> str:
    """Return bytes as a query takes them."""
    return json.dumps([digest.hex() for digest in digests])
