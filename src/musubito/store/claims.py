"""Leases as rows, and the waits of one lease for another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from musubito.errors import StoreError
from musubito.store.answers import holder_of
from musubito.store.base import (
    Busy,
    Change,
    Claim,
    Claimed,
    Commit,
    Done,
    Fail,
    Holder,
    Intent,
    Release,
    Renew,
    Waits,
)
from musubito.store.database import Database

__all__ = ["begin_to_wait", "claim_of", "claimed", "keeping", "lease_of", "leases_of", "moment_unless_newer"]


def claim_of(db: Database, claim: Claim) -> Claimed | Busy | Done:
    """Take the lease, unless the store has something newer to look at."""
    if claim.across and db.rows("newer_across", {"seen": claim.seen, "cross": claim.keys.cross}):
        return Done()
    rows = db.rows("claim", claimed(claim))
    if rows:
        return Claimed(*rows[0])
    if moment_unless_newer(db, claim) is None:
        return Done()
    holder = holder_of(db, claim.key)
    if holder is None:
        raise StoreError("a claim was refused, and nobody holds it")
    return Busy(holder)


def claimed(claim: Claim) -> dict[str, Any]:
    """Return the parameters of the query that takes a lease."""
    lease = lease_of(claim.holder, claim.key, claim.operation, claim.now)
    return {"reuse": claim.keys.reuse, "seen": claim.seen, "over": claim.over, **lease}


def moment_unless_newer(db: Database, claim: Claim) -> Claimed | None:
    """Return the moment at which a claimed execution begins; None if there is something newer to look at."""
    if claim.across and db.rows("newer_across", {"seen": claim.seen, "cross": claim.keys.cross}):
        return None
    newer, executions, invalidations = db.rows("moment", {"reuse": claim.keys.reuse, "seen": claim.seen})[0]
    return None if newer else Claimed(executions, invalidations)


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
        case Commit() | Fail() | Release():
            return [change.lease[0]] if change.lease is not None else []
        case Claim():
            return [change.key]
        case Intent():
            return [change.effect_key]
        case Renew():
            return [key for key, _ in change.held]
        case Waits():
            return change.held
        case _:
            return []


def lease_of(holder: Holder, key: bytes, operation: str, now: float) -> dict[str, Any]:
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


def begin_to_wait(db: Database, change: Waits) -> bool:
    """Record a wait, or its end; return whether the wait closes a cycle. See `Waits`."""
    if change.awaited is None:
        for waiting in change.held:
            db.rows("wait_over", {"held": waiting, "owner": change.owner})
        return False
    for waiting in change.held:
        db.rows("wait_for", {"held": waiting, "owner": change.owner, "awaited": change.awaited})
    reached = {key for (key,) in db.rows("waits_from", {"awaited": change.awaited, "now": change.now})}
    return not reached.isdisjoint(change.held)
