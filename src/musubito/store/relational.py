"""What every relational store does, in terms of named queries: the data rules of the design, once.

A store hands in a `Database`, which runs one named query inside the transaction that is open; everything here is plain
sequence. Nothing is cached but the numbers of namespaces, operations and fingerprints, which never change once they are
committed (`Numbers.forget` after a rollback).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Protocol, assert_never

from musubito.store.base import (
    Attempted,
    Began,
    Busy,
    Change,
    Claim,
    Claimed,
    CodeOf,
    CodeRecord,
    Commit,
    Committed,
    Done,
    EffectOutcome,
    EffectQuery,
    EffectRow,
    Fail,
    Found,
    Holder,
    HolderOf,
    Holds,
    Intent,
    Invalidate,
    Keys,
    Ledger,
    Neighbour,
    Neighbours,
    Others,
    Outcome,
    PayloadOf,
    Place,
    Point,
    Query,
    Read,
    ReadsOf,
    Release,
    Renew,
    SampleNode,
    SampleTree,
    Use,
    Waits,
)

__all__ = ["Database", "Numbers", "answer", "newest", "perform"]

CODEC = "msgpack"
Row = tuple[Any, ...]


class Database(Protocol):
    """One connection inside a transaction."""

    def rows(self, query: str, parameters: Mapping[str, Any]) -> list[Row]:
        """All rows of a named query."""


class Numbers:
    """Names and fingerprints as the integers that stand for them in the tables."""

    def __init__(self) -> None:
        self.namespaces: dict[str, int] = {}
        self.operations: dict[tuple[str, str], int] = {}
        self.codes: dict[bytes, int] = {}

    def forget(self) -> None:
        """After a rollback: what was numbered in that transaction is not there."""
        self.namespaces.clear()
        self.operations.clear()
        self.codes.clear()

    def known_namespace(self, db: Database, name: str) -> int | None:
        """The number of a namespace, None where nothing was stored in it yet."""
        number = self.namespaces.get(name)
        if number is None:
            rows = db.rows("namespace", {"name": name})
            if not rows:
                return None
            number = self.namespaces[name] = rows[0][0]
        return number

    def namespace(self, db: Database, name: str) -> int:
        number = self.known_namespace(db, name)
        if number is None:
            number = self.namespaces[name] = db.rows("add_namespace", {"name": name})[0][0]
        return number

    def operation(self, db: Database, namespace: str, name: str) -> int:
        number = self.operations.get((namespace, name))
        if number is None:
            where = {"namespace": self.namespace(db, namespace), "name": name}
            rows = db.rows("operation", where) or db.rows("add_operation", where)
            number = self.operations[namespace, name] = rows[0][0]
        return number

    def code(self, db: Database, code: CodeRecord) -> int:
        number = self.codes.get(code.fingerprint)
        if number is None:
            rows = db.rows("code", {"fingerprint": code.fingerprint})
            number = rows[0][0] if rows else _add_code(db, code)
            self.codes[code.fingerprint] = number
        return number


def _add_code(db: Database, code: CodeRecord) -> int:
    untracked, state = json.dumps(list(code.untracked)), json.dumps(list(code.state))
    number: int = db.rows("add_code", {"fingerprint": code.fingerprint, "untracked": untracked, "state": state})[0][0]
    for part, digest, source in code.parts:
        db.rows("add_code_part", {"code": number, "part": part, "digest": digest, "source": source})
    return number


# -- queries -------------------------------------------------------------------------------------------------------------
def answer(db: Database, numbers: Numbers, query: Query) -> Any:
    """The answer that the query's class names."""
    match query:
        case Others(keys, _, across, oldest):
            where = {"node": keys.node, "reuse": keys.reuse, "cross": keys.cross, "oldest": oldest}
            rows = db.rows("others", where) + (db.rows("others_across", where) if across else [])
            return [Found(*row) for row in rows]
        case PayloadOf(namespace, artifact):
            where = {"namespace": numbers.known_namespace(db, namespace), "artifact": artifact}
            rows = db.rows("payload", where)
            return rows[0][0] if rows else None
        case ReadsOf(execution):
            return [Read(*row) for row in db.rows("reads", {"execution": execution})]
        case SampleTree(execution):
            return _sample_tree(db, execution)
        case Began():
            return Claimed(*db.rows("began", {})[0])
        case Neighbours():
            return _neighbours(db, query)
        case HolderOf(key):
            return _holder(db, key)
        case CodeOf(fingerprint):
            return dict(db.rows("code_parts", {"fingerprint": fingerprint}))
        case EffectQuery(effect_key, keys, namespace):
            return _effect(db, effect_key, keys, numbers.known_namespace(db, namespace))
        case _:
            assert_never(query)


def newest(db: Database, keys: Keys, namespace: int | None) -> Found | None:
    """See `Store.newest`."""
    rows = db.rows("newest", {"node": keys.node, "reuse": keys.reuse, "namespace": namespace})
    if not rows:
        return None
    found = Found(*rows[0])
    if not found.settled and found.producer != keys.node:
        where = {"node": keys.node, "reuse": keys.reuse, "execution": found.execution}
        if db.rows("settled", where):
            found = found._replace(settled=1)
    return found


def _neighbours(db: Database, query: Neighbours) -> list[Neighbour]:
    rows = db.rows("neighbours", {
        "namespace": query.namespace,
        "operation": query.operation,
        "node": query.node,
        "limit": query.limit,
    })
    return [
        Neighbour(
            node,
            code,
            input_hash,
            {name: bytes.fromhex(digest) for name, digest in json.loads(arguments).items()},
            frozenset(parent for (parent,) in db.rows("parents", {"child": number})),
            started_at,
        )
        for number, node, code, input_hash, arguments, started_at in rows
    ]


def _sample_tree(db: Database, root: int) -> dict[int, SampleNode]:
    about: dict[int, tuple[bytes | None, int]] = {}
    called: defaultdict[int, list[int]] = defaultdict(list)
    for execution, pool, sample, inner in db.rows("sample_tree", {"execution": root}):
        about[execution] = pool, sample
        if inner is not None:
            called[execution].append(inner)
    return {
        execution: SampleNode(
            execution,
            pool,
            sample,
            tuple(Attempted(*row) for row in db.rows("attempts", {"execution": execution})),
            tuple(called[execution]),
        )
        for execution, (pool, sample) in about.items()
    }


def _effect(db: Database, effect_key: bytes, keys: Keys, namespace: int | None) -> EffectRow | None:
    rows = db.rows("effect", {"effect_key": effect_key})
    if not rows:
        return None
    attempt, settled, outcome, execution = rows[0]
    where = {"execution": execution, "node": keys.node, "reuse": keys.reuse, "namespace": namespace}
    found = db.rows("execution", where) if outcome == "done" else []
    return EffectRow(attempt, settled, outcome, _holder(db, effect_key), Found(*found[0]) if found else None)


def _holder(db: Database, key: bytes) -> Holder | None:
    rows = db.rows("holder", {"key": key})
    return Holder(*rows[0]) if rows else None


# -- changes ---------------------------------------------------------------------------------------------------------------
def perform(db: Database, numbers: Numbers, change: Change) -> Any:
    """Perform one change inside the open transaction and give back its answer."""
    match change:
        case Claim():
            return _claim(db, change)
        case Commit():
            return _commit(db, numbers, change)
        case Fail():
            return _fail(db, numbers, change)
        case Point():
            return _point(db, numbers, change)
        case Release((key, owner)):
            db.rows("release", {"key": key, "owner": owner})
        case Renew(owner, expires_at):
            db.rows("renew", {"owner": owner, "expires_at": expires_at})
        case Waits():
            return _waits(db, change)
        case Invalidate():
            return _invalidate(db, numbers, change)
        case Intent():
            return _intend(db, numbers, change)
        case Ledger(runs, calls):
            for run in runs:
                db.rows("add_run", run._asdict())
            for call in calls:
                db.rows("add_call", call._asdict())
        case _:
            assert_never(change)
    return None


def _claim(db: Database, claim: Claim) -> Claimed | Busy | Done:
    if claim.across and db.rows("newer_across", {"seen": claim.seen, "cross": claim.keys.cross}):
        return Done()
    rows = db.rows("claim", {"reuse": claim.keys.reuse, "seen": claim.seen, **_lease(claim)})
    if rows:
        return Claimed(*rows[0])
    holder = _holder(db, claim.key)
    # No lease and none of ours: the claim was refused because there is something newer.
    return Busy(holder) if holder is not None else Done()


def _lease(claim: Claim) -> dict[str, Any]:
    holder = claim.holder
    return {
        "key": claim.key,
        "owner": holder.owner,
        "operation": claim.operation,
        "host": holder.host,
        "pid": holder.pid,
        "process": holder.process,
        "now": claim.now,
        "expires_at": holder.expires_at,
        "over": claim.over,
    }


def _commit(db: Database, numbers: Numbers, change: Commit) -> Committed:
    place = change.place
    node, pointed, _ = _node(db, numbers, place)
    invalid = _outdated(db, numbers, change, node)
    if change.artifact is not None:
        db.rows("add_artifact", {
            "namespace": numbers.namespace(db, place.namespace),
            "digest": change.artifact,
            "codec": CODEC,
            "payload": change.payload,
            "size": len(change.payload or b""),
            "created_at": change.started_at,
        })
    execution: int = db.rows("add_execution", {
        "node": node,
        "reuse": place.keys.reuse,
        "cross": _unless(place.keys.cross, place.keys.reuse),
        "pool": change.pool,
        "sample": place.sample,
        "outcome": Outcome.SUCCEEDED,
        "started_at": change.started_at,
        "duration_ms": change.duration_ms,
        "artifact": change.artifact,
        "error": None,
        "valid_from": change.valid_from,
        "valid_until": change.valid_until,
        "not_replayable": change.not_replayable,
        "invalid": invalid,
        "holds": change.holds,
        "tokens": change.tokens,
    })[0][0]
    _add_uses(db, execution, change.uses)
    for read in change.reads:
        db.rows("add_read", {"execution": execution, **read._asdict()})
    for attempt in change.attempts:
        db.rows("add_attempt", {"execution": execution, **attempt._asdict()})
    if not invalid:
        _replaced(db, place.keys.reuse, execution, change.artifact, own=True)
        _answer_at(db, place, node, pointed, execution, change.artifact)
    _end(db, change.lease, change.effect, execution, change.started_at + change.duration_ms / 1000)
    return Committed(execution, invalid)


def _fail(db: Database, numbers: Numbers, change: Fail) -> Committed:
    place = change.place
    node, _, _ = _node(db, numbers, place)
    execution: int = db.rows("add_execution", {
        "node": node,
        "reuse": place.keys.reuse,
        "cross": _unless(place.keys.cross, place.keys.reuse),
        "pool": change.pool,
        "sample": place.sample,
        "outcome": Outcome.FAILED,
        "started_at": change.started_at,
        "duration_ms": change.duration_ms,
        "artifact": None,
        "error": change.error,
        "valid_from": None,
        "valid_until": None,
        "not_replayable": "it failed",
        "invalid": False,
        "holds": Holds.NOTHING,
        "tokens": change.tokens,
    })[0][0]
    _add_uses(db, execution, change.uses)
    _end(db, change.lease, change.effect, execution, change.started_at + change.duration_ms / 1000)
    return Committed(execution, invalid=False)


def _point(db: Database, numbers: Numbers, change: Point) -> bool:
    used = db.rows("used", {"execution": change.execution})
    if not used or used[0][2]:
        return False
    reuse, artifact, _ = used[0]
    node, pointed, _ = _node(db, numbers, change.place)
    if pointed != change.execution:
        asked = change.place.keys.reuse
        _replaced(db, asked, change.execution, artifact, own=reuse == asked)
    _answer_at(db, change.place, node, pointed, change.execution, artifact)
    return True


def _unless(key: bytes, same: bytes) -> bytes | None:
    return None if key == same else key


def _node(db: Database, numbers: Numbers, place: Place) -> tuple[int, int | None, bytes]:
    """The node's number, the execution it points at, and what it was asked for last; a new one gets its edges."""
    keys = place.keys
    rows = db.rows("node", {"node": keys.node})
    if rows and not rows[0][3]:
        number, pointed, asked, _ = rows[0]
        if asked != keys.reuse:
            _add_edges(db, number, place)
        return number, pointed, asked
    about = {
        "reuse": _unless(keys.reuse, keys.node),
        "operation": numbers.operation(db, place.namespace, place.operation),
        "code": numbers.code(db, place.code),
        "input_hash": place.input_hash,
        "step_type": place.step_type,
        "sample": place.sample,
        "arguments": json.dumps({name: digest.hex() for name, digest in place.arguments.items()}),
    }
    if rows:
        number = rows[0][0]
        db.rows("fill_stub", {"id": number, **about})
    else:
        number = db.rows("add_node", {"node": keys.node, **about})[0][0]
    _add_edges(db, number, place)
    return number, None, keys.reuse


def _add_edges(db: Database, child: int, place: Place) -> None:
    for parent in place.parents:
        where = {"parent": _number_of(db, parent.node), "child": child, "kind": parent.kind, "artifact": parent.artifact}
        db.rows("add_edge", where)


def _number_of(db: Database, node: bytes) -> int:
    rows = db.rows("node", {"node": node}) or db.rows("add_stub", {"node": node})
    number: int = rows[0][0]
    return number


def _add_uses(db: Database, execution: int, uses: tuple[Use, ...] | Any) -> None:
    for use in uses:
        reuse = db.rows("used", {"execution": use.execution})[0][0]
        db.rows("add_use", {
            "execution": execution,
            "called": use.execution,
            "node": _number_of(db, use.node),
            "asked": _unless(use.asked, reuse),
        })


def _outdated(db: Database, numbers: Numbers, change: Commit, node: int) -> bool:
    """Whether what this execution was built on was invalidated, or replaced by another artifact, since it began."""
    place, began = change.place, change.began
    where = {"since": began.invalidations, "operation": numbers.operation(db, place.namespace, place.operation), "node": node}
    if db.rows("invalidated_since", where):
        return True
    for use in change.uses:
        reuse, artifact, invalid = db.rows("used", {"execution": use.execution})[0]
        if invalid:
            return True
        since = max(began.executions, use.execution)
        for key in {use.asked, reuse}:
            if db.rows("newer_with_another_artifact", {"reuse": key, "since": since, "artifact": artifact}):
                return True
        where = {"node": use.node, "reuse": use.asked, "execution": use.execution, "artifact": artifact}
        if db.rows("moved", where):
            return True
    return False


def _replaced(db: Database, reuse: bytes, execution: int, artifact: bytes | None, *, own: bool) -> None:
    """What called another artifact under this reuse key becomes INVALID, and what called that."""
    where = {"reuse": reuse, "execution": execution, "artifact": artifact, "own": own}
    for (caller,) in db.rows("callers_of_others", where):
        db.rows("set_invalid", {"execution": caller})


def _answer_at(db: Database, place: Place, node: int, pointed: int | None, execution: int, artifact: bytes | None) -> None:
    """The node points at this execution; if it answered otherwise before, all nodes below become STALE."""
    if pointed is not None:
        if pointed != execution:
            before = db.rows("used", {"execution": pointed})[0][1]
            if before is None or before != artifact:
                db.rows("mark_stale", {"node": node})
        db.rows("unstale", {"node": node})
    db.rows("point", {"id": node, "execution": execution, "reuse": _unless(place.keys.reuse, place.keys.node)})


def _end(db: Database, lease: tuple[bytes, bytes] | None, effect: EffectOutcome | None, execution: int, at: float) -> None:
    if lease is not None:
        db.rows("release", {"key": lease[0], "owner": lease[1]})
    if effect is not None:
        where = {"effect_key": effect.effect_key, "attempt": effect.attempt, "outcome": effect.outcome}
        db.rows("end_effect", {"execution": execution, "at": at, **where})


def _waits(db: Database, change: Waits) -> bool:
    if change.awaited is None:
        for held in change.held:
            db.rows("wait_over", {"held": held})
        return False
    for held in change.held:
        db.rows("wait_for", {"held": held, "awaited": change.awaited})
    reached = {key for (key,) in db.rows("waits_from", {"awaited": change.awaited, "now": change.now})}
    return not reached.isdisjoint(change.held)


def _invalidate(db: Database, numbers: Numbers, change: Invalidate) -> int:
    if change.operation is not None:
        operation = numbers.operation(db, change.namespace, change.operation)
        where = {"operation": operation, "node": None}
        named = db.rows("invalidate_operation", where)
    else:
        rows = db.rows("node", {"node": change.node})
        if not rows:
            return 0
        where = {"operation": None, "node": rows[0][0]}
        named = db.rows("invalidate_node", where)
    db.rows("add_invalidation", where)
    for (execution,) in named:
        db.rows("set_invalid_by_hand", {"execution": execution})
        db.rows("effect_may_run_again", {"execution": execution})
        for (caller,) in db.rows("callers", {"execution": execution}):
            db.rows("set_invalid", {"execution": caller})
    for (node,) in db.rows("nodes_pointing_at_invalid", {}):
        db.rows("mark_stale", {"node": node})
    return len(named)


def _intend(db: Database, numbers: Numbers, intent: Intent) -> Claimed | Busy | Done:
    held = _holder(db, intent.effect_key)
    if held is not None and held.owner != intent.holder.owner and held.expires_at >= intent.at:
        return Busy(held)
    operation = numbers.operation(db, intent.namespace, intent.operation)
    where = {"effect_key": intent.effect_key, "operation": operation, "attempt": intent.attempt, "at": intent.at}
    if not db.rows("intend", where):
        return Done()
    holder = intent.holder
    db.rows("take", {
        "key": intent.effect_key,
        "owner": holder.owner,
        "operation": intent.operation,
        "host": holder.host,
        "pid": holder.pid,
        "process": holder.process,
        "now": intent.at,
        "expires_at": holder.expires_at,
    })
    return Claimed(*db.rows("began", {})[0])
