"""The writes of the history of every relational store: runs, calls and their inputs, in terms of named queries.

Each run of which calls are stored has either its own row or one in the table of calls outside of runs, which triggers
of the schema keep. When a run has ended, its calls are summed up, so that readers need not look at them. Triggers
remove the sums of a run if a call is added to it, and with anything that they were made of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from musubito.store.part_codec import joined
from musubito.store.relational.sql_session import IdCache, SqlSession
from musubito.store.rows import ExecutionFlags, InputLine, Ledger, Part

LOOKED_BACK: Final = 2000
"""Items by which a list may have grown and still share its beginning with the shorter list."""
SUMMED: Final = 20
"""Runs that are found together to sum up their calls."""


def add(db: SqlSession, numbers: IdCache, change: Ledger) -> None:
    """See `Ledger`."""
    namespace, runs, calls, inputs, traces = change
    for run in runs:
        shape = run.shape and sha256(run.shape.encode()).digest()
        if shape:
            db.rows("add_shape", {"digest": shape, "body": run.shape})
        db.rows("add_run", {**run._asdict(), "namespace": numbers.namespace(db, namespace), "shape": shape})
    operations = {name: numbers.operation(db, namespace, name) for name in {call.operation for call in calls}}
    db.bulk("add_call", [(*call[:3], operations[call[3]], *call[4:]) for call in calls])
    for run_id in _ended(db, {call.run_id for call in calls} | {run.run_id for run in runs}):
        _drop_sums(db, run_id)
        _add_sums(db, run_id)
    there = _not_forgotten(db, [line.execution for line in inputs if line.run is None])
    wanted = [line for line in inputs if (line.execution in there if line.run is None else _has_input(db, line))]
    keep_inputs(db, numbers, namespace, wanted)
    there = _not_forgotten(db, [line.execution for line in traces])
    db.many("add_trace", [line._asdict() for line in traces if line.execution in there])


def _ended(db: SqlSession, runs: Collection[bytes]) -> list[bytes]:
    """Return those of these runs that have a row and have ended."""
    by_size: defaultdict[int, list[bytes]] = defaultdict(list)
    for run in runs:
        by_size[len(run)].append(run)
    return [
        bytes(run)
        for size, names in by_size.items()
        for (run,) in db.rows("ended_among", {"runs": b"".join(names), "bytes": size})
    ]


def _add_sums(db: SqlSession, run: bytes) -> None:
    """Sum up the calls of a run that has ended and has no sums. Nobody may be erased and readable in its tags."""
    for query in ("add_sums", "add_token_sums"):
        db.rows(query, {"run": run})
    if db.rows("is_forgotten_late", {"run": run, "erased": ExecutionFlags.ERASED}):
        forget_runs(db, "input_of_run", "forget_run", {"run": run})


def forget_runs(db: SqlSession, inputs: str, forget: str, params: Mapping[str, Any]) -> list[int]:
    """Remove what users said of runs, and their inputs, unless other runs have these; return how long the inputs are.

    `inputs` is the query for the inputs of the runs, and `forget` the query that takes them from the runs.
    """
    names = db.rows(inputs, params)
    db.rows(forget, params)
    keys = [{"operation": operation, "input_hash": digest} for operation, digest in names]
    return [size for key in keys for (size,) in db.rows("forget_input_of_runs", key)]


def _has_input(db: SqlSession, line: InputLine) -> bool:
    return bool(db.rows("has_input", {"run": line.run, "input_hash": line.input_hash}))


def _drop_sums(db: SqlSession, run: bytes) -> None:
    """Remove the sums of a run."""
    for query in ("prune_sums", "prune_token_sums"):
        db.rows(query, {"run": run})


def sum_ended(db: SqlSession) -> Iterator[None]:
    """Sum up the calls of all runs that have ended and have no sums, in steps."""
    after = b""
    while rows := db.rows("ended_without_sums", {"after": after, "limit": SUMMED}):
        for (run,) in rows:
            _add_sums(db, run)
        after = rows[-1][0]
        yield


def _not_forgotten(db: SqlSession, executions: Sequence[int]) -> set[int]:
    """Return executions that are stored and were not forgotten, those of `executions` among them."""
    if not executions:
        return set()
    params = {"first": min(executions), "last": max(executions), "erased": ExecutionFlags.ERASED}
    return {row[0] for row in db.rows("not_forgotten_among", params)}


def keep_inputs(db: SqlSession, numbers: IdCache, namespace: str, inputs: Sequence[InputLine]) -> None:
    """Store inputs that are not stored yet."""
    whole = [line for line in inputs if line.body]
    rows = [(numbers.operation(db, namespace, line.operation), line.input_hash, line.body) for line in whole]
    db.bulk("add_input", rows)
    for line in inputs:
        for chain in line.chains:
            _keep_chain(db, numbers.namespace(db, namespace), chain)


def _keep_chain(db: SqlSession, namespace: int, chain: Sequence[Part]) -> None:
    """Add the parts that follow the last stored one, as one part.

    All parts are added if none of the last `LOOKED_BACK` parts is stored.
    """
    for place in range(len(chain), max(0, len(chain) - LOOKED_BACK), -1):
        if db.rows("part", {"namespace": namespace, "digest": chain[place - 1].digest}):
            new = place
            break
    else:
        new = 0
    tail = chain[new:]
    if tail:
        params = {"namespace": namespace, "digest": tail[-1].digest, "before": tail[0].before}
        db.rows("add_part", {**params, "items": len(tail), "body": joined([part.body for part in tail])})
