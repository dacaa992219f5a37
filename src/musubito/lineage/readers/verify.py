"""Verify stored data against its checksums: artifacts, inputs, and rows that name other rows.

The tables are read in slices, each as of one moment, so that others may go on. Nothing is changed. A damaged artifact
is not replayed anyway, since each replay checks its artifact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NamedTuple

from musubito.engine.recorded_inputs import digests_in
from musubito.errors import ArtifactMissing, ArtifactUnreadable, MusubitoError, StoreError
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.reports import LineageError
from musubito.payloads.blobs import BlobUnreachable
from musubito.store.protocol import Row
from musubito.store.rows import Stored
from musubito.store.sqlite.storage import SQLiteStorage
from musubito.values.display import plain

SLICE: Final = 200
"""Rows that are read at a time; a payload may be large."""
RUNS_AGAIN: Final = "It runs again when it is called; 'musubito invalidate {node}' makes its callers run again, too."
ELSEWHERE: Final = (
    "If large outputs lie elsewhere (ObjectBlobs), say where: 'musubito --blobs URL verify'. If it is lost, {lost}."
)
UNREACHED: Final = "Where large outputs lie could not be read: see to that, and verify again."
LOST: Final = "it runs again when it is called"
LOST_EFFECT: Final = "a call of it raises EffectOutcomeUnknown, or asks on_unknown"
ONLY_SHOWN: Final = "No replay needs it; it is only not shown. 'musubito forget {node}' removes it."
EFFECT: Final = f"It took place, and its result is lost: {LOST_EFFECT}."
TABLE: Final = "The database itself is damaged: restore a copy, or move it away to begin anew."
FILE: Final = "file"
"""What stands for a table where the pages of a database file are checked."""
NOWHERE: Final = "?"
"""The namespace of an artifact whose own one is not there."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A damaged row.

    `table` is the table of the row. `node_id` is the node concerned, "" if that cannot be told. `remedy` says what to
    do.
    """

    table: str
    node_id: str
    operation: str
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """The progress in one table.

    `done` rows out of `total` were checked. `findings` are those of the last slice.
    """

    table: str
    done: int
    total: int
    findings: tuple[Finding, ...]


class _Table(NamedTuple):
    """A table and its check.

    `query` returns the next slice, and `begin` holds the parameters of the first slice. `check` yields the problems of
    the rows of a slice.
    """

    name: str
    query: str
    begin: dict[str, Any]
    check: Callable[[Lineage, Sequence[Row]], Iterator[Finding]]


def verify(lineage: Lineage) -> Iterator[VerifyProgress]:
    """Check all that is stored, and yield the progress after each slice.

    Data that cannot be read is a finding, too.
    """
    try:
        totals: Sequence[int] = lineage.rows("rows_to_verify")[0]
    except StoreError as fault:
        yield VerifyProgress("database", 0, 0, (_unreadable("database", fault),))
        return
    yield from _file(lineage)
    for table, total in zip(_TABLES, totals, strict=True):
        yield from _checked(lineage, table, total)


def _file(lineage: Lineage) -> Iterator[VerifyProgress]:
    """Check the pages of a database file; a server checks its own."""
    storage = lineage.engine.storage
    if isinstance(storage, SQLiteStorage):
        yield VerifyProgress(FILE, 0, 1, ())
        faults = tuple(Finding(FILE, "", "", fault, TABLE) for fault in storage.faults())
        yield VerifyProgress(FILE, 1, 1, faults)


def _checked(lineage: Lineage, table: _Table, total: int) -> Iterator[VerifyProgress]:
    params, done = table.begin, 0
    yield VerifyProgress(table.name, 0, total, ())
    while True:
        try:
            rows = lineage.rows(table.query, **params, limit=SLICE)
            findings = tuple(table.check(lineage, rows))
        except StoreError as fault:
            yield VerifyProgress(table.name, done, total, (_unreadable(table.name, fault),))
            return
        if not rows:
            return
        done += len(rows)
        yield VerifyProgress(table.name, done, max(done, total), findings)
        params = dict(zip(params, rows[-1], strict=False))


def _unreadable(table: str, fault: StoreError) -> Finding:
    """Return the finding that a table cannot be read.

    If the text of the store's error ends with a remedy of its own, that remedy is used.
    """
    problem, _, remedy = str(fault).rstrip(".").rpartition(". ")
    return Finding(table, "", "", problem, f"{remedy}.") if problem else Finding(table, "", "", remedy, TABLE)


def _finding(table: str, node: bytes | None, operation: str | None, problem: str, remedy: str) -> Finding:
    node_id = node.hex() if node else ""
    return Finding(table, node_id, operation or "", problem, remedy.format(node=node_id[:10] or "CALL"))


# -- contents ----------------------------------------------------------------------------------------------------------
class _Problem(NamedTuple):
    """A problem with a payload.

    A blob that was not found may lie in another place, so the remedy depends on `error`.
    """

    says: str
    error: MusubitoError | None = None

    def remedy(self, effect: object) -> str:
        if isinstance(self.error, ArtifactMissing):
            return ELSEWHERE.format(lost=LOST_EFFECT if effect else LOST)
        if isinstance(self.error, BlobUnreachable):
            return UNREACHED
        return EFFECT if effect else RUNS_AGAIN


def _problem_with(lineage: Lineage, namespace: str | None, stored: Stored, digest: Any) -> _Problem | None:
    if type(stored.codec) is not str:
        return _Problem("it does not say how its artifact is stored")
    try:
        contents = lineage.contents(namespace or NOWHERE)
        if not contents.reads(stored.codec):
            # Without the key, a payload cannot be opened: only the presence of its blob is checked.
            contents.look_for(stored.codec, digest)
            return None
        payload = contents.open(stored.codec, stored.payload, digest)
    except (ArtifactUnreadable, LineageError) as error:
        return _Problem(str(error), error)
    try:
        plain(memoryview(payload)[1:])
    except ArtifactUnreadable as error:
        return _Problem(f"its artifact does not decode: {error}")
    return None


def _execution(lineage: Lineage, row: Row) -> Iterator[Finding]:
    (
        number,
        node,
        operation,
        outcome,
        artifact,
        payload,
        not_replayable,
        invalid,
        effect,
        elsewhere,
        codec,
        namespace,
    ) = row
    if node is None:
        yield _finding(
            "executions", None, None, f"execution {number} belongs to a step result that is not there", RUNS_AGAIN
        )
    problem = None
    if payload is not None:
        problem = _problem_with(lineage, namespace, Stored(payload, codec), artifact)
    elif outcome == 1 and not invalid and not_replayable is None and not elsewhere:
        problem = _Problem("its artifact is missing")
    if problem is not None:
        yield _finding("executions", node, operation, problem.says, problem.remedy(effect))


def _artifacts(lineage: Lineage, rows: Sequence[Row]) -> Iterator[Finding]:
    problems = [
        _problem_with(lineage, name, Stored(payload, codec), digest) for _, digest, payload, codec, name in rows
    ]
    damaged = [(row, problem) for row, problem in zip(rows, problems, strict=True) if problem is not None]
    givers = lineage.ask(*(("giver_of_artifact", {"namespace": row[0], "digest": row[1]}) for row, _ in damaged))
    for (_, problem), found in zip(damaged, givers, strict=True):
        node, operation, effect = found[0] if found else (None, None, 0)
        yield _finding("artifacts", node, operation, problem.says, problem.remedy(effect))


def _problems_with_pieces(lineage: Lineage, bodies: Sequence[tuple[int, Any, bytes | None]]) -> list[str | None]:
    """Return the problem with each stored body or with the pieces that it refers to, or None.

    A body is given with its namespace, and the piece before it if it is one of a chain.
    """
    problems: list[str | None] = [None] * len(bodies)
    digests: list[list[bytes]] = [[] for _ in bodies]
    for number, (_, body, before) in enumerate(bodies):
        try:
            digests[number] = digests_in(body) + ([before] if before else [])
        except (ArtifactUnreadable, TypeError) as error:
            problems[number] = f"its stored input does not decode: {error}"
    names = {(body[0], digest): None for body, own in zip(bodies, digests, strict=True) for digest in own}
    there = lineage.ask(*(("part", {"namespace": namespace, "digest": digest}) for namespace, digest in names))
    gone_parts = {name for name, rows in zip(names, there, strict=True) if not rows}
    for number, (namespace, *_) in enumerate(bodies):
        gone = sum((namespace, digest) in gone_parts for digest in digests[number])
        if gone:
            problems[number] = f"of its stored input {gone} {'piece is' if gone == 1 else 'pieces are'} missing"
    return problems


def _inputs(lineage: Lineage, rows: Sequence[Row]) -> Iterator[Finding]:
    problems = _problems_with_pieces(lineage, [(namespace, body, None) for _, _, namespace, body in rows])
    damaged = [(row, problem) for row, problem in zip(rows, problems, strict=True) if problem is not None]
    nodes = lineage.ask(*(("node_of_input", {"operation": row[0], "input_hash": row[1]}) for row, _ in damaged))
    for (_, problem), found in zip(damaged, nodes, strict=True):
        node, name = found[0] if found else (None, None)
        yield _finding("inputs", node, name, problem, ONLY_SHOWN)


def _parts(lineage: Lineage, rows: Sequence[Row]) -> Iterator[Finding]:
    bodies = [(namespace, body, before) for _, namespace, _, before, _, body in rows]
    for (number, *_), problem in zip(rows, _problems_with_pieces(lineage, bodies), strict=True):
        if problem is not None:
            says = problem.replace("its stored input", f"part {number} of stored inputs")
            yield _finding("parts", None, None, says, ONLY_SHOWN)


def _each(check: Callable[[Lineage, Row], Iterator[Finding]]) -> Callable[[Lineage, Sequence[Row]], Iterator[Finding]]:
    """Return the check of a slice that checks row by row."""
    return lambda lineage, rows: (finding for row in rows for finding in check(lineage, row))


# -- rows that name others ---------------------------------------------------------------------------------------------
def _node(_: Lineage, row: Row) -> Iterator[Finding]:
    number, node, operation, gone = row
    if gone is not None:
        yield _finding(
            "nodes", node, operation, f"step result {number} names its {gone}, which is not there", RUNS_AGAIN
        )


def _edge(_: Lineage, row: Row) -> Iterator[Finding]:
    parent, child, operation = row[3:]
    if parent is None or child is None:
        end = "from" if parent is None else "to"
        yield _finding(
            "edges", child or parent, operation, f"an edge leads {end} a step result that is not there", RUNS_AGAIN
        )


def _use(_: Lineage, row: Row) -> Iterator[Finding]:
    (execution, called), (caller, callee, asked, node, operation) = row[:2], row[4:]
    gone = "an execution" if caller is None or callee is None else "a step result" if asked is None else None
    if gone is not None:
        problem = f"that execution {execution} called {called} names {gone} that is not there"
        yield _finding("uses", node, operation, problem, RUNS_AGAIN)


def _effect(_: Lineage, row: Row) -> Iterator[Finding]:
    key, operation, execution, existing = row
    if execution is not None and existing is None:
        problem = f"the effect {key.hex()[:10]} names an execution that is not there"
        yield _finding("effects", None, operation, problem, EFFECT)


def _shape(_: Lineage, row: Row) -> Iterator[Finding]:
    digest, body = row
    if sha256(body.encode()).digest() != digest:
        problem = f"the shape {digest.hex()[:10]} of a graph is not the one that was stored"
        yield _finding("shapes", None, None, problem, "No replay needs it; only the graph of its runs is drawn by it.")


_TABLES: Final = (
    _Table("executions", "executions_after", {"after": 0}, _each(_execution)),
    _Table("artifacts", "artifacts_after", {"namespace": 0, "digest": b""}, _artifacts),
    _Table("inputs", "inputs_after", {"operation": 0, "input_hash": b""}, _inputs),
    _Table("parts", "parts_after", {"after": 0}, _parts),
    _Table("nodes", "nodes_after", {"after": 0}, _each(_node)),
    _Table("edges", "edges_after", {"parent": 0, "child": 0, "kind": -1}, _each(_edge)),
    _Table("uses", "uses_after", {"execution": 0, "called": 0, "node": 0, "asked": b""}, _each(_use)),
    _Table("effects", "effects_after", {"after": b""}, _each(_effect)),
    _Table("shapes", "shapes_after", {"after": b""}, _each(_shape)),
)
"""The tables, in the order of the columns of `rows_to_verify`.

The first columns of a row are the parameters for the next slice.
"""
