"""Leases as rows, and the waits of one lease for another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from musubito.errors import StoreError
from musubito.store.changes import (
    BeginEffect,
    Change,
    Claim,
    Commit,
    CommitFailure,
    LeaseHeld,
    Moment,
    RegisterWait,
    Release,
    Renew,
    Superseded,
)
from musubito.store.relational.reads import holder_of
from musubito.store.relational.sql_session import SqlSession
from musubito.store.rows import LeaseOwner


def claim_of(db: SqlSession, claim: Claim) -> Moment | LeaseHeld | Superseded:
    """Take the lease, unless the store has something newer to look at."""
    if claim.across and db.rows("newer_across", {"seen": claim.seen, "cross": claim.keys.cross}):
        return Superseded()
    rows = db.rows("claim", claimed(claim))
    if rows:
        return Moment(*rows[0])
    if moment_unless_newer(db, claim) is None:
        return Superseded()
    holder = holder_of(db, claim.key)
    if holder is None:
        raise StoreError("a claim was refused, and nobody holds it")
    return LeaseHeld(holder)


def claimed(claim: Claim) -> dict[str, Any]:
    """Return the parameters of the query that takes a lease."""
    lease = lease_of(claim.holder, claim.key, claim.operation, claim.now)
    return {"reuse": claim.keys.reuse, "seen": claim.seen, "over": claim.over, **lease}


def moment_unless_newer(db: SqlSession, claim: Claim) -> Moment | None:
    """Return the moment at which a claimed execution begins; None if there is something newer to look at."""
    if claim.across and db.rows("newer_across", {"seen": claim.seen, "cross": claim.keys.cross}):
        return None
    newer, executions, invalidations = db.rows("moment", {"reuse": claim.keys.reuse, "seen": claim.seen})[0]
    return None if newer else Moment(executions, invalidations)


def keeping(changes: Sequence[Release | Renew]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return a query with its parameters for each lease that is extended or returned."""
    queries: list[tuple[str, Mapping[str, Any]]] = []
    for change in changes:
        if isinstance(change, Release):
            queries.append(("release", {"key": change.lease[0], "owner": change.lease[1]}))
        else:
            holder, keys, now = change.holder, change.held, change.now
            queries += [("renew", lease_of(holder, key, operation, now)) for key, operation in keys]
    return queries


def leases_of(change: Change) -> Sequence[bytes]:
    """Return the keys of the leases that a change reads in order to change them."""
    match change:
        case Commit() | CommitFailure() | Release():
            return [change.lease[0]] if change.lease is not None else []
        case Claim():
            return [change.key]
        case BeginEffect():
            return [change.effect_key]
        case Renew():
            return [key for key, _ in change.held]
        case RegisterWait():
            return change.held
        case _:
            return []


def lease_of(holder: LeaseOwner, key: bytes, operation: str, now: float) -> dict[str, Any]:
    """Return the parameters of a query that writes a lease."""
    return {
        "key": key,
        "owner": holder.owner,
        "operation": operation,
        "host": holder.host,
        "pid": holder.pid,
        "process": holder.process,
        "now": now,
        "expires_at": holder.expires_at,
    }


def begin_to_wait(db: SqlSession, change: RegisterWait) -> bool:
    """Record a wait, or its end; return whether the wait closes a cycle. See `RegisterWait`."""
    if change.awaited is None:
        for waiting in change.held:
            db.rows("wait_over", {"held": waiting, "owner": change.owner})
        return False
    for waiting in change.held:
        db.rows("wait_for", {"held": waiting, "owner": change.owner, "awaited": change.awaited})
    reached = {key for (key,) in db.rows("waits_from", {"awaited": change.awaited, "now": change.now})}
    return not reached.isdisjoint(change.held)
