"""Changes by hand that may concern any number of executions, in terms of named queries.

Each change is made in small steps, and others can write between the steps. An execution that is committed meanwhile
does not escape: the invalidation is stored first, and a commit of what began before sees it.

A process may be killed between any two steps, so the order of the steps matters:

- A caller becomes INVALID before what it called does. No valid result is built on an INVALID one.
- An execution loses its contents in the step in which it becomes INVALID. It is never replayed without contents.
- Contents that several executions share go last. If they are left, the same change finds them again.
"""

from __future__ import annotations

import json
import time
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from musubito.store.changes import CleanUp, Forget, Forgotten, Invalidate
from musubito.store.protocol import Row
from musubito.store.relational import history
from musubito.store.relational.sql_session import IdCache, SqlSession
from musubito.store.rows import FORGOTTEN, ExecutionFlags

ERASED: Final = ExecutionFlags.ERASED
AT_ONCE: Final = 200
"""Rows that one step changes at most."""
LOOKED_AT: Final = 1_000
"""Rows that one step looks at in a pass through a table."""
NODES: Final = 50
"""Nodes that one step finds by their ids."""
BYTES: Final = 1_000_000
"""Bytes of contents that one step erases, if it erases several."""
STEP: Final[list[Any]] = []
"""What each step yields but for the last one."""
Steps = Iterator[list[Any]]
TURN: Final = 0.01
"""Seconds after which a transaction of small steps ends, so that others can write."""
ByHand = Invalidate | Forget | CleanUp
T = TypeVar("T")


def steps_of(db: SqlSession, numbers: IdCache, change: ByHand) -> Iterator[list[Any]]:
    """Perform a change in steps, any number of which may be a transaction of their own.

    The last step yields a list with the answer, and every other step yields an empty list. An execution that runs when
    its operation or node is named is committed INVALID when it ends.
    """
    match change:
        case Invalidate():
            return _invalidate(db, numbers, change)
        case Forget() if change.inputs:
            return _drop_inputs(db, change.inputs)
        case Forget():
            return _forget(db, numbers, change)
        case CleanUp():
            return _clean_up(db, numbers)


def turn(steps: Iterator[list[Any]]) -> list[Any]:
    """Perform steps for about `TURN` seconds. Return a list with the answer; it is empty if more turns are needed."""
    until = time.perf_counter() + TURN
    while True:
        answers = next(steps)
        if answers or time.perf_counter() > until:
            return answers


def set_invalid(db: SqlSession, executions: Sequence[tuple[int]]) -> None:
    """Set INVALID on executions and on all that called them."""
    if executions:
        db.rows("set_invalid", _named([execution for (execution,) in executions]))


# -- to invalidate -----------------------------------------------------------------------------------------------------
def _invalidate(db: SqlSession, numbers: IdCache, change: Invalidate) -> Steps:
    named: set[int] = set()
    nodes = () if change.node is None else (change.node,)
    for executions in _targets(db, numbers, change.namespace, change.operation, nodes, forgotten=0):
        for batch in _batches(executions):
            since = _newest(db)
            yield from _invalidate_callers(db, batch, since)
            for query in ("set_invalid_by_hand", "effects_may_run_again"):
                db.rows(query, _named(batch))
            _invalidate_callers_since(db, batch, since)
            named.update(batch)
            yield STEP
        yield STEP
    yield from _mark_stale(db)
    yield [len(named)]


def _targets(
    db: SqlSession, numbers: IdCache, namespace: str, operation: str | None, nodes: Sequence[bytes], *, forgotten: int
) -> Iterator[list[int]]:
    """Store what is changed by hand, and yield the executions that it concerns in lists, some of which are empty.

    A node that is not there may be running for the first time: a stub lets its commit see the invalidation.
    """
    if operation is not None:
        params = {"operation": numbers.operation(db, namespace, operation), "node": None}
        db.rows("add_invalidation", {**params, "forgotten": forgotten})
        newest = _newest(db)
        for span in _spans(newest):
            yield [execution for (execution,) in db.rows("executions_of_operation", {**params, **span})]
    for start in range(0, len(nodes), NODES):
        executions: set[int] = set()
        for node in nodes[start : start + NODES]:
            node_rows = db.rows("node", {"node": node}) or db.rows("add_stub", {"node": node})
            params = {"operation": None, "node": node_rows[0][0]}
            db.rows("add_invalidation", {**params, "forgotten": forgotten})
            executions.update(execution for (execution,) in db.rows("invalidate_node", params))
        yield sorted(executions)


def _invalidate_callers(db: SqlSession, executions: Sequence[int], since: int) -> Steps:
    """Set INVALID on all that called these executions, directly or through others, the outermost first.

    An execution has a higher number than all that it called. External effects stand.
    """
    callers: set[int] = set()
    ahead = list(executions)
    while ahead:
        for rows in _pages(db, "callers_after", _taken(ahead)):
            new = {caller for _, caller, stands in rows if not stands} - callers
            callers |= new
            ahead += new
            yield STEP
    yield from _set_invalid(db, callers, since)


def _set_invalid(db: SqlSession, executions: Collection[int], since: int) -> Steps:
    """Set INVALID on executions all of whose callers up to a moment are INVALID or among them."""
    for batch in _batches(sorted(executions, reverse=True)):
        db.rows("set_invalid_alone", _named(batch))
        _invalidate_callers_since(db, batch, since)
        yield STEP


def _invalidate_callers_since(db: SqlSession, executions: Sequence[int], since: int) -> None:
    """Set INVALID on what was committed after a moment and called one of these executions."""
    set_invalid(db, db.rows("callers_since", {**_named(executions), "since": since}))


def _mark_stale(db: SqlSession) -> Steps:
    """Set STALE on all nodes below those whose answer is INVALID, along data edges.

    A node that is answered again meanwhile is left alone, and so is what lies below it.
    """
    below: set[int] = set()
    ahead: list[int] = []
    for span in _spans(db.rows("newest_node", {})[0][0]):
        ahead += [node for (node,) in db.rows("parents_with_invalid_answer", span)]
        yield STEP
    while ahead:
        for rows in _pages(db, "children_after", _taken(ahead)):
            new = {child for _, child in rows} - below
            db.rows("mark_stale_alone", {"nodes": json.dumps(sorted(new))})
            below |= new
            ahead += new
            yield STEP


# -- to forget ---------------------------------------------------------------------------------------------------------
def _forget(db: SqlSession, numbers: IdCache, change: Forget) -> Steps:
    contents = _Contents()
    named: set[int] = set()
    size = 0
    of_runs: list[int] = []
    if change.run is not None:
        of_runs += history.forget_runs(db, "input_of_run", "forget_run", {"run": change.run})
    for executions in _forget_targets(db, numbers, change):
        edited = [execution for (execution,) in db.rows("edited_from", _named(executions))]
        for batch in _batches(sorted({*executions, *edited} - named)):
            since = _newest(db)
            # What these executions had replaced would answer in their place.
            replaced = [execution for (execution,) in db.rows("replaced", _named(batch))]
            yield from _invalidate_callers(db, [*batch, *replaced], since)
            yield from _set_invalid(db, replaced, since)
            contents.add_those_of(db, batch)
            size += db.rows("size_of_executions", _named(batch))[0][0]
            db.rows("forget_executions", {"forgotten": FORGOTTEN, "erased": ERASED, **_named(batch)})
            db.rows("forget_edits", {"forgotten": FORGOTTEN, **_named(batch)})
            db.rows("forget_traces", _named(batch))
            params = {**_named(batch), "first": batch[0], "last": batch[-1]}
            of_runs += history.forget_runs(db, "inputs_of_callers", "forget_callers", params)
            _invalidate_callers_since(db, batch, since)
            named.update(batch)
            yield STEP
        yield STEP
    yield from _mark_stale(db)
    if change.operation is not None:
        # Inputs of calls that were never recorded are erased, too.
        yield from contents.add_inputs_of(db, numbers.operation(db, change.namespace, change.operation))
        for query in ("forget_settled", "forget_state"):
            db.rows(query, {"operation": numbers.operation(db, change.namespace, change.operation)})
    yield from contents.erase(db)
    # The next commit with one of these fingerprints has to store its texts again.
    numbers.codes.clear()
    # Reads name texts of files, and by its inputs a search finds an execution: they go after what they lead to.
    for batch in _batches(sorted(named)):
        while len(db.rows("forget_reads", {**_named(batch), "limit": AT_ONCE})) == AT_ONCE:
            yield STEP
        yield STEP
    yield from contents.erase_inputs(db)
    inputs = contents.inputs | contents.texts
    size += sum(contents.artifacts.values()) + sum(inputs.values()) + sum(of_runs)
    artifacts = [(contents.namespaces[namespace], digest) for namespace, digest in contents.artifacts]
    yield [Forgotten(len(named), len(inputs) + len(of_runs), size, artifacts)]


def _drop_inputs(db: SqlSession, inputs: Sequence[bytes]) -> Steps:
    db.many("drop_input", [{"input_hash": digest} for digest in inputs])
    yield [Forgotten(0, 0, 0)]


def _forget_targets(db: SqlSession, numbers: IdCache, change: Forget) -> Iterator[list[int]]:
    if change.run is None:
        yield from _targets(db, numbers, change.namespace, change.operation, change.nodes, forgotten=1)
        return
    yield [execution for (execution,) in db.rows("executions_of_run", {"run": change.run})]


class _Contents:
    """Contents of erased executions that other executions may have, too. `erase` leaves those that it erased."""

    def __init__(self) -> None:
        self.artifacts: dict[tuple[int, bytes], int] = {}
        """Bytes, by namespace and digest."""
        self.namespaces: dict[int, str] = {}
        self.inputs: dict[tuple[int, bytes], int] = {}
        """Bytes, by operation and digest."""
        self.texts: dict[tuple[int, bytes], int] = {}
        """Bytes of texts of files, by operation and digest."""
        self.codes: set[int] = set()
        self._passed = 0

    def add_those_of(self, db: SqlSession, executions: Sequence[int]) -> None:
        """Add what these executions have."""
        params = _named(executions)
        for namespace, digest, size, name in db.rows("artifacts_of", params):
            self.artifacts[namespace, bytes(digest)] = size
            self.namespaces[namespace] = name
        for contents, query in ((self.inputs, "inputs_of"), (self.texts, "texts_of")):
            contents |= {(operation, bytes(digest)): size for operation, digest, size in db.rows(query, params)}
        self.codes.update(code for (code,) in db.rows("codes_of", params))

    def add_inputs_of(self, db: SqlSession, operation: int) -> Steps:
        """Add all inputs of an operation."""
        after = b""
        while rows := db.rows("some_inputs_of", {"operation": operation, "after": after, "limit": LOOKED_AT}):
            self.inputs |= {(operation, bytes(digest)): size for digest, size in rows}
            after = rows[-1][0]
            yield STEP

    def erase(self, db: SqlSession) -> Steps:
        """Erase all but the inputs of what no execution has that is not erased.

        An execution may come between any two steps.
        """
        elsewhere: set[tuple[int, tuple[int, bytes]]] = set()
        for span in _spans(db.rows("newest_node", {})[0][0]):
            for erased, operation, input_hash, code, size in db.rows("answered_elsewhere", {**span, "erased": ERASED}):
                key = operation, bytes(input_hash)
                if not erased:
                    elsewhere.add((code, key))
                    continue
                self.codes.add(code)
                if size is not None:
                    self.inputs[key] = size
            yield STEP
        for code, key in elsewhere:
            self._keep(code, key)
        for span in _spans(_newest(db)):
            self._keep_those_in(db, span["first"], span["last"])
            yield STEP
        self._catch_up(db)
        db.rows("forget_code", {"codes": json.dumps(sorted(self.codes))})
        yield STEP
        yield from self._erase(db, self.artifacts, "forget_artifact", ("namespace", "digest"))
        yield from self._erase(db, self.texts, "forget_input", ("operation", "input_hash"))

    def erase_inputs(self, db: SqlSession) -> Steps:
        """Erase the inputs, after `erase`."""
        yield from self._erase(db, self.inputs, "forget_input", ("operation", "input_hash"))

    def _erase(
        self, db: SqlSession, contents: dict[tuple[int, bytes], int], query: str, names: tuple[str, str]
    ) -> Steps:
        for batch in _small_batches(contents.copy()):
            self._catch_up(db)
            db.many(query, [dict(zip(names, key, strict=True)) for key in batch if key in contents])
            yield STEP

    def _catch_up(self, db: SqlSession) -> None:
        """Keep what executions have that were committed since the last look."""
        newest = _newest(db)
        if newest > self._passed:
            self._keep_those_in(db, self._passed + 1, newest)

    def _keep_those_in(self, db: SqlSession, first: int, last: int) -> None:
        span = {"first": first, "last": last, "erased": ERASED}
        for namespace, artifact, operation, input_hash, code in db.rows("contents_in_use", span):
            self.artifacts.pop((namespace, artifact), None)
            self._keep(code, (operation, input_hash))
        if self.texts:
            for operation, digest in db.rows("texts_in_use", span):
                self.texts.pop((operation, bytes(digest)), None)
        self._passed = last

    def _keep(self, code: int, input_: tuple[int, bytes]) -> None:
        self.codes.discard(code)
        self.inputs.pop(input_, None)
        self.texts.pop(input_, None)


# -- to clean up -------------------------------------------------------------------------------------------------------
def _clean_up(db: SqlSession, numbers: IdCache) -> Steps:
    codes = {code for (code,) in db.rows("codes_with_texts", {})}
    learned = {operation for (operation,) in db.rows("operations_with_state", {})}
    since = _newest(db)
    yield STEP
    for span in _spans(db.rows("newest_node", {})[0][0]):
        db.rows("unpoint", span)
        for code, operation in db.rows("codes_of_nodes", span):
            codes.discard(code)
            learned.discard(operation)
        yield STEP
    # A node that has got its code since was answered by an execution since, or by one whose node has that code.
    codes.difference_update(code for (code,) in db.rows("codes_since", {"since": since}))
    db.rows("forget_code", {"codes": json.dumps(sorted(codes))})
    db.many("forget_state", [{"operation": operation} for operation in sorted(learned)])
    # The next commit with one of these fingerprints has to store its texts again.
    numbers.codes.clear()
    db.rows("prune_shapes", {})
    for _ in history.sum_ended(db):
        yield STEP
    yield [None]


# -- slices ------------------------------------------------------------------------------------------------------------
def _newest(db: SqlSession) -> int:
    newest: int = db.rows("began", {})[0][0]
    return newest


def _named(executions: Sequence[int]) -> Mapping[str, Any]:
    return {"executions": json.dumps(executions)}


def _spans(last: int | None) -> Iterator[dict[str, int]]:
    """Yield the first and the last number of slices of a table."""
    for first in range(1, (last or 0) + 1, LOOKED_AT):
        yield {"first": first, "last": min(first + LOOKED_AT - 1, last or 0)}


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]


def _small_batches(sizes: Mapping[T, int]) -> Iterator[list[T]]:
    """Yield keys in batches of at most `AT_ONCE`, and of about `BYTES` bytes."""
    batch: list[T] = []
    room = BYTES
    for key, size in sizes.items():
        batch.append(key)
        room -= size
        if room <= 0 or len(batch) == AT_ONCE:
            yield batch
            batch, room = [], BYTES
    if batch:
        yield batch


def _taken(ahead: list[int]) -> list[int]:
    """Take the last `AT_ONCE` numbers out of a list, and return them sorted."""
    taken = sorted(set(ahead[-AT_ONCE:]))
    del ahead[-AT_ONCE:]
    return taken


def _pages(db: SqlSession, query: str, numbers: Sequence[int]) -> Iterator[list[Row]]:
    """Yield the rows of a query that begin with one of these numbers, which are sorted, in pages."""
    first = second = 0
    while numbers:
        params = {"numbers": json.dumps(numbers), "first": first, "second": second, "limit": AT_ONCE}
        rows = db.rows(query, params)
        if rows:
            yield rows
        if len(rows) < AT_ONCE:
            break
        first, second = rows[-1][:2]
        numbers = numbers[bisect_left(numbers, first) :]
