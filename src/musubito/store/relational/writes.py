"""The writes of every relational store, in terms of named queries.

The rules of the data stand here once, as plain sequences of queries inside the open transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, assert_never

from musubito.errors import StoreError
from musubito.reasons import ReplayReason
from musubito.store.changes import (
    BeginEffect,
    Change,
    Claim,
    CleanUp,
    Commit,
    CommitFailure,
    Committed,
    Forget,
    Invalidate,
    InvalidateMarked,
    LearnState,
    LeaseHeld,
    MarkForPruning,
    Moment,
    OpenNamespace,
    Prune,
    RecordReplay,
    RegisterWait,
    Release,
    Renew,
    SettleEffect,
    Superseded,
)
from musubito.store.protocol import Row
from musubito.store.relational import history, prune
from musubito.store.relational.by_hand import set_invalid, steps_of
from musubito.store.relational.leases import begin_to_wait, claim_of, lease_of
from musubito.store.relational.sql_session import IdCache, SqlSession
from musubito.store.rows import (
    BLOB,
    FORGOTTEN,
    CallDependency,
    ExecutionFlags,
    LeaseOwner,
    Ledger,
    NodeSpec,
    Outcome,
    Used,
)

INLINE: Final = 1000
"""Bytes up to which a payload lies in its execution's row: a page of its own costs a call that runs some 10 us."""
# A plain integer: an operator of an IntFlag costs a microsecond.
EFFECT: Final = int(ExecutionFlags.EFFECT)


def perform(db: SqlSession, numbers: IdCache, change: Change) -> Any:
    """Perform one change inside the open transaction, and return its answer."""
    match change:
        case Claim():
            return claim_of(db, change)
        case Commit():
            return _commit(db, numbers, change)
        case CommitFailure():
            return _fail(db, numbers, change)
        case RecordReplay():
            return _point(db, numbers, change)
        case Release((key, owner)):
            db.rows("release", {"key": key, "owner": owner})
        case Renew(holder, keys, now):
            db.many("renew", [lease_of(holder, key, operation, now) for key, operation in keys])
        case RegisterWait():
            return begin_to_wait(db, change)
        case Invalidate() | Forget() | CleanUp():
            return next(answers for answers in steps_of(db, numbers, change) if answers)[0]
        case BeginEffect():
            return _intend(db, numbers, change)
        case SettleEffect():
            happened = None if change.happened is None else int(change.happened)
            params = {**change._asdict(), "happened": happened, "undo": int(happened is None)}
            return bool(db.rows("settle_effect", params))
        case Ledger():
            history.add(db, numbers, change)
        case OpenNamespace(namespace, key_check):
            db.rows("begin_namespace", {"name": namespace, "key_check": key_check})
            return bytes(db.rows("key_check", {"name": namespace})[0][0])
        case LearnState():
            _learn(db, numbers, change)
        case MarkForPruning():
            return prune.retire(db, change)
        case InvalidateMarked():
            prune.dismiss(db, change)
        case Prune():
            return prune.prune(db, change)
        case _:
            assert_never(change)
    return None


def _commit(db: SqlSession, numbers: IdCache, change: Commit) -> Committed:
    place, artifact = change.place, change.artifact
    row, node_rows = db.before_commit(place.keys)
    execution, new, invalidations, before, asked, _, retired = row
    by_hand = _by_hand_since(db, numbers, change.began, invalidations, place, node_rows)
    if by_hand == FORGOTTEN:
        change = prune.without_contents(change)
        place = change.place
    node = _stored_node(db, numbers, place, node_rows)
    uses, began = change.uses, change.began
    # An effect stays done, whatever became of the steps inside it.
    invalid = by_hand is not None or (
        not change.holds & EFFECT
        and (
            invalidations < began.invalidations
            or bool(uses and (execution <= began.executions or any(_is_outdated(db, began, use) for use in uses)))
        )
    )
    if node is None:
        number = _add_node(db, numbers, place, new, None if invalid else execution, ran=True)
    else:
        number = node.number
        if change.edit is None:
            # The texts of the code may have been erased: they are stored again. An edit does not know them.
            numbers.code(db, place.code)
    inline = is_inline(change)
    if change.payload is not None and not inline:
        db.rows(
            "add_artifact",
            {
                "namespace": numbers.namespace(db, place.namespace),
                "digest": artifact,
                "codec": change.codec,
                "payload": change.payload,
                "size": size_of(change),
                "created_at": change.started_at,
            },
        )
    added = {
        "execution": execution,
        "node": number,
        "outcome": Outcome.SUCCEEDED,
        "artifact": artifact,
        "payload": change.payload if inline else None,
        "error": None,
        "valid_from": change.valid_from,
        "valid_until": change.valid_until,
        "not_replayable": change.not_replayable,
        "invalid": int(invalid),
        "holds": change.holds,
        "codec": change.codec,
    }
    _add_execution(db, change, added, retired=retired)
    for kind, key, digest in change.reads:
        db.rows("add_read", {"execution": execution, "kind": kind, "key": key, "digest": digest or b""})
    for attempt in change.attempts:
        db.rows("add_attempt", {"execution": execution, **attempt._asdict()})
    if not invalid:
        if before or asked or (uses and any(use.asked == place.keys.reuse for use in uses)):
            _invalidate_callers_of_others(db, place.keys.reuse, execution, artifact, own=True)
            # The new execution may have called an execution that it replaces.
            invalid = bool(db.rows("used", {"execution": execution})[0][2])
        if invalid and node is None:
            db.rows(
                "point", {"id": number, "execution": None, "reuse": _none_if_same(place.keys.reuse, place.keys.node)}
            )
        elif not invalid and node is not None:
            _answer_at(db, place, node, execution, artifact)
    _end(db, numbers, change, execution)
    if change.learned is not None:
        _learn(db, numbers, change.learned)
    if change.edit is not None:
        db.rows("add_edit", {"execution": execution, **change.edit._asdict()})
        if change.holds & EFFECT and not invalid:
            db.rows("correct_effect", {"execution": execution, "before": change.edit.before})
    return Committed(execution, invalid, _is_forgotten(db, numbers, by_hand, place))


def _learn(db: SqlSession, numbers: IdCache, change: LearnState) -> None:
    operation = numbers.operation(db, change.namespace, change.operation)
    db.many("learn_state", [{"operation": operation, "code": change.code, "part": part} for part in change.parts])


def is_inline(change: Commit) -> bool:
    """Return whether the payload lies in the execution's row."""
    return change.payload is not None and len(change.payload) <= INLINE and not change.codec.endswith(BLOB)


def size_of(change: Commit) -> int:
    """Return the number of bytes of the encoded payload."""
    return len(change.payload or b"") if change.size is None else change.size


def _fail(db: SqlSession, numbers: IdCache, change: CommitFailure) -> Committed:
    place = change.place
    row, node_rows = db.before_commit(place.keys)
    execution, new, invalidations, *_, retired = row
    by_hand = _by_hand_since(db, numbers, change.began, invalidations, place, node_rows)
    if by_hand == FORGOTTEN:
        change = prune.without_contents(change)
        place = change.place
    node = _stored_node(db, numbers, place, node_rows)
    numbers.code(db, place.code)
    added = {
        "execution": execution,
        "node": _add_node(db, numbers, place, new, None, ran=True) if node is None else node.number,
        "outcome": Outcome.FAILED,
        "artifact": None,
        "payload": None,
        "error": change.error,
        "valid_from": None,
        "valid_until": None,
        "not_replayable": FORGOTTEN if by_hand == FORGOTTEN else ReplayReason.FAILED.sentence,
        "invalid": int(by_hand == FORGOTTEN),
        "holds": ExecutionFlags.ERASED if by_hand == FORGOTTEN else ExecutionFlags.NOTHING,
        "codec": "msgpack",
    }
    _add_execution(db, change, added, retired=retired)
    _end(db, numbers, change, execution)
    forgotten = _is_forgotten(db, numbers, by_hand, place)
    return Committed(execution, forgotten, forgotten)


def _add_execution(db: SqlSession, change: Commit | CommitFailure, row: dict[str, Any], *, retired: int) -> None:
    """Add an execution, with the executions and the tokens that it used. `retired`: any of these may be retired."""
    keys = change.place.keys
    row |= {
        "reuse": keys.reuse,
        "cross": _none_if_same(keys.cross, keys.reuse),
        "pool": change.pool,
        "sample": change.place.sample,
        "started_at": change.started_at,
        "duration_ms": change.duration_ms,
        "tokens": tokens_of(change.usage),
        "saved_ms": change.saved_ms,
        "compute_ms": change.compute_ms,
    }
    db.rows("add_execution", row)
    called = _add_uses(db, row["execution"], change.uses)
    if retired:
        prune.revive(db, called)
    for used in change.usage:
        db.rows("add_usage", {"execution": row["execution"], **used._asdict()})


def tokens_of(usage: Sequence[Used]) -> int | None:
    """Return all tokens that an execution took; None if no usage was recorded."""
    return sum(used.total for used in usage) if usage else None


def _point(db: SqlSession, numbers: IdCache, change: RecordReplay) -> bool:
    params = {"execution": change.execution}
    rows, retired = db.run_pair(("used", params), ("is_retired", params))
    used = _row_of_use(rows, change.started_at)
    if used is None or used[2]:
        return False
    if retired:
        prune.revive(db, [change.execution])
    reuse, artifact, *_ = used
    place, asked = change.place, change.place.keys.reuse
    node = _stored_node(db, numbers, place, db.rows("node", {"node": place.keys.node}))
    if node is None or (node.pointed, node.asked) != (change.execution, asked):
        _invalidate_callers_of_others(db, asked, change.execution, artifact, own=reuse == asked)
        db.rows("add_answer", {"asked": asked, "artifact": artifact, "across": reuse != asked})
    if node is None:
        new = db.rows("ahead", {"reuse": asked})[0][1]
        _add_node(db, numbers, place, new, change.execution, ran=False)
    else:
        _answer_at(db, place, node, change.execution, artifact)
    return True


def _none_if_same(key: bytes, same: bytes) -> bytes | None:
    return None if key == same else key


class _Node(NamedTuple):
    number: int
    pointed: int | None
    asked: bytes


def _stored_node(db: SqlSession, numbers: IdCache, place: NodeSpec, rows: list[Row]) -> _Node | None:
    """Return a stored node, with the edges added that this call sees; None if the node has to be added."""
    if not rows:
        return None
    number, pointed, asked, stub, _ = rows[0]
    if stub:
        db.rows("fill_stub", {"id": number, **_node_columns(db, numbers, place)})
    if stub or asked != place.keys.reuse:
        _add_edges(db, number, place)
    return _Node(number, pointed, asked)


def _add_node(
    db: SqlSession, numbers: IdCache, place: NodeSpec, number: int, execution: int | None, *, ran: bool
) -> int:
    keys = place.keys
    listed = None if ran and keys.node == keys.reuse else 1
    node = {
        "id": number,
        "node": keys.node,
        "execution": execution,
        "listed": listed,
        **_node_columns(db, numbers, place),
    }
    db.rows("add_node", node)
    db.note_node(keys.node, number)
    _add_edges(db, number, place)
    return number


def _node_columns(db: SqlSession, numbers: IdCache, place: NodeSpec) -> dict[str, Any]:
    return {
        "reuse": _none_if_same(place.keys.reuse, place.keys.node),
        "operation": numbers.operation(db, place.namespace, place.operation),
        "code": numbers.code(db, place.code),
        "input_hash": place.input_hash,
        "step_type": place.step_type,
        "sample": place.sample,
        "arguments": _as_json(place.arguments),
    }


_quoted: Final = lru_cache(maxsize=4096)(json.dumps)
"""Writes the name of an argument as JSON; the same few names come at each call."""


def _as_json(arguments: Mapping[str, bytes]) -> str:
    """Return the digests of arguments as `json.dumps` writes them, in less than half its time."""
    pairs = [f'{_quoted(name)}: "{digest.hex()}"' for name, digest in arguments.items()]
    return f"{{{', '.join(pairs)}}}"


def _add_edges(db: SqlSession, child: int, place: NodeSpec) -> None:
    for parent in place.parents:
        params = {
            "parent": _node_number(db, parent.node),
            "child": child,
            "kind": parent.kind,
            "artifact": parent.artifact,
        }
        db.rows("add_edge", params)


def _node_number(db: SqlSession, node: bytes) -> int:
    number: int | None = db.known_node(node)
    if number is None:
        rows = db.rows("node", {"node": node}) or db.rows("add_stub", {"node": node})
        number = rows[0][0]
        db.note_node(node, number)
    return number


def _add_uses(db: SqlSession, execution: int, uses: Sequence[CallDependency]) -> list[int]:
    """Add the uses of executions that are still there; return the numbers of these executions."""
    called: list[int] = []
    for use in uses:
        used = _used(db, use)
        if used is None:
            continue
        reuse = used[0]
        db.rows(
            "add_use",
            {
                "execution": execution,
                "called": use.execution,
                "node": _node_number(db, use.node),
                "asked": b"" if use.asked == reuse else use.asked,
            },
        )
        called.append(use.execution)
    return called


def _used(db: SqlSession, use: CallDependency) -> Row | None:
    """Return (reuse key, artifact, invalid, live) of a used execution; None if that execution is gone."""
    used = _row_of_use(db.rows("used", {"execution": use.execution}), use.started_at)
    if used is None and use.execution > db.rows("began", {})[0][0]:
        raise StoreError(f"execution {use.execution}, which was used, is not in this store")
    return used


def _row_of_use(rows: list[Row], started_at: float) -> Row | None:
    """Return (reuse key, artifact, invalid, live) from the rows of the query `used`.

    None: the execution that began at this time is gone (see `CallDependency`).
    """
    return rows[0][:4] if rows and rows[0][4] == started_at else None


def _by_hand_since(
    db: SqlSession, numbers: IdCache, began: Moment | None, newest: int, place: NodeSpec, node_rows: list[Row]
) -> str | None:
    """Return how the operation or the node was changed by hand since the execution began.

    The answer is "invalidated" or `FORGOTTEN`; None if neither happened.
    """
    if began is None or newest <= began.invalidations:
        return None
    operation = numbers.operation(db, place.namespace, place.operation)
    params = {"since": began.invalidations, "operation": operation, "node": node_rows[0][0] if node_rows else None}
    ((forgotten,),) = db.rows("invalidated_since", params)
    return None if forgotten is None else FORGOTTEN if forgotten else "invalidated"


def _is_forgotten(db: SqlSession, numbers: IdCache, by_hand: str | None, place: NodeSpec) -> bool:
    """Return whether a commit was of something forgotten; if so, its code goes as after `Forget`."""
    if by_hand != FORGOTTEN:
        return False
    # Texts of this code may be left of an execution that is gone.
    code = numbers.code(db, place.code)
    db.rows("forget_code_unless_in_use", {"code": code, "erased": ExecutionFlags.ERASED})
    # The next commit with this code has to store its texts.
    numbers.codes.pop(place.code.fingerprint, None)
    return True


def _is_outdated(db: SqlSession, began: Moment, use: CallDependency) -> bool:
    """Return whether a used execution is INVALID or gone, or was replaced since its caller began.

    It was replaced if another artifact came in its place. That of a LIVE step is not replaced (see `ExecutionFlags`).
    """
    used = _used(db, use)
    if used is None or used[2]:
        return True
    reuse, artifact, _, live = used
    if live:
        return False
    since = max(began.executions, use.execution)
    for key in {use.asked, reuse}:
        if db.rows("newer_with_another_artifact", {"reuse": key, "since": since, "artifact": artifact}):
            return True
    return bool(db.rows("answered_since", {"asked": use.asked, "since": began.invalidations, "artifact": artifact}))


def _invalidate_callers_of_others(
    db: SqlSession, reuse: bytes, execution: int, artifact: bytes | None, *, own: bool
) -> None:
    """Set INVALID on the callers of another artifact under this reuse key, and on their callers."""
    params = {"reuse": reuse, "execution": execution, "artifact": artifact, "own": own}
    set_invalid(db, db.rows("callers_of_others", params))


def _answer_at(db: SqlSession, place: NodeSpec, node: _Node, execution: int, artifact: bytes | None) -> None:
    """Make a node point at an execution.

    All nodes below become STALE if the node had another artifact before.
    """
    if node.pointed is not None and node.pointed != execution:
        # The execution that the node pointed at may just have been pruned.
        before = db.rows("used", {"execution": node.pointed})
        if not before or before[0][1] is None or before[0][1] != artifact:
            db.rows("mark_stale", {"node": node.number})
    db.rows("unstale", {"node": node.number})
    reuse = _none_if_same(place.keys.reuse, place.keys.node)
    db.rows("point", {"id": node.number, "execution": execution, "reuse": reuse})


def _end(db: SqlSession, numbers: IdCache, change: Commit | CommitFailure, execution: int) -> None:
    """End the lease of an execution, and its attempt at an effect."""
    if change.lease is not None and db.may_show(change.lease[0]):
        db.rows("release", {"key": change.lease[0], "owner": change.lease[1]})
    effect = change.effect
    if effect is not None:
        ended = {
            "effect_key": effect.effect_key,
            "operation": numbers.operation(db, change.place.namespace, change.place.operation),
            "attempt": effect.attempt,
            "settled": int(effect.settles),
            "began_at": change.started_at,
            "outcome": effect.outcome,
            "at": change.started_at + change.duration_ms / 1000,
            "execution": execution,
        }
        db.rows("end_effect", ended)


def _intend(db: SqlSession, numbers: IdCache, intent: BeginEffect) -> Moment | LeaseHeld | Superseded:
    lease = lease_of(intent.holder, intent.effect_key, intent.operation, intent.at)
    operation = numbers.operation(db, intent.namespace, intent.operation)
    given = intent.input
    params = {"operation": operation, "attempt": intent.attempt, "at": intent.at}
    rows = db.rows("intend", {**lease, **params, "input_hash": given and given.input_hash})
    if rows:
        db.rows("renew", lease)
        history.keep_inputs(db, numbers, intent.namespace, () if given is None else (given,))
        return Moment(*rows[0])
    attempts = db.rows("effect", {"effect_key": intent.effect_key})
    if attempts and attempts[0][0] >= intent.attempt:
        return Superseded()
    # The database compares the times, since it may use a clock of its own.
    owners = db.rows("other_holder", {"key": intent.effect_key, "owner": intent.holder.owner, "now": intent.at})
    return LeaseHeld(LeaseOwner(*owners[0]))
