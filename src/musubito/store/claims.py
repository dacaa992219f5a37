"""Who computes what: leases as rows, and who waits for whom."""

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
    """Take the lease, unless there is something newer to look at."""
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
    """What the query of a claim is told."""
    lease = lease_of(claim.holder, claim.key, claim.operation, claim.now)
    return {"reuse": claim.keys.reuse, "seen": claim.seen, "over": claim.over, **lease}


def moment_unless_newer(db: Database, claim: Claim) -> Claimed | None:
    """The moment at which a claimed execution begins; None if there is something newer to look at."""
    if claim.across and db.rows("newer_across", {"seen": claim.seen, "cross": claim.keys.cross}):
        return None
    newer, executions, invalidations = db.rows("moment", {"reuse": claim.keys.reuse, "seen": claim.seen})[0]
    return None if newer else Claimed(executions, invalidations)


def keeping(changes: Sequence[Release | Renew]) -> list[tuple[str, Mapping[str, Any]]]:
    """The query for each lease that goes on or ends."""
    asked: list[tuple[str, Mapping[str, Any]]] = []
    for change in changes:
        if isinstance(change, Release):
            asked.append(("release", {"key": change.lease[0], "owner": change.lease[1]}))
        else:
            holder, held, now = change.holder, change.held, change.now
            asked += [("renew", lease_of(holder, key, operation, now)) for key, operation in held]
    return asked


def leases_of(change: Change) -> Sequence[bytes]:
    """The keys of the leases that a change looks for to change them."""
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
    """What queries that write a lease are told."""
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
    """See `Waits`."""
    if change.awaited is None:
        for held in change.held:
            db.rows("wait_over", {"held": held, "owner": change.owner})
        return False
    for held in change.held:
        db.rows("wait_for", {"held": held, "owner": change.owner, "awaited": change.awaited})
    reached = {key for (key,) in db.rows("waits_from", {"awaited": change.awaited, "now": change.now})}
    return not reached.isdisjoint(change.held)
