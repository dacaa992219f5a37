"""Short functions for changes to a store, with keys that fit together like those of real calls."""

from __future__ import annotations

import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from musubito.store.changes import BeginEffect, Claim, Commit, CommitFailure, LearnState, Moment, RecordReplay
from musubito.store.protocol import Store
from musubito.store.queries import CurrentMoment, OlderCandidates, StatePlaces
from musubito.store.rows import (
    CallDependency,
    CallKeys,
    Candidate,
    CodeRecord,
    ExecutionFlags,
    LeaseOwner,
    NodeSpec,
    ParentRef,
)

START = Moment(0, 0)
"""The moment before anything was stored."""


def digest(*parts: object) -> bytes:
    """Return 32 bytes that stand for these parts."""
    return sha256(repr(parts).encode()).digest()


def place(
    operation: str,
    parents: Sequence[ParentRef] = (),
    *,
    argument: str = "",
    sample: int = 0,
    namespace: str = "default",
) -> NodeSpec:
    """Return the node of a call of an operation. Without parents its three keys are one and the same."""
    data = [p for p in parents if not p.kind]
    base = (namespace, operation, argument, sample)
    node = digest(*base, *sorted(p.node for p in data))
    reuse = digest(*base, *sorted(p.artifact for p in data))
    return NodeSpec(
        keys=CallKeys(node, reuse, digest(*base)),
        namespace=namespace,
        operation=operation,
        code=CodeRecord(digest("code", operation), [(operation, digest("part", operation), "pass")], [], []),
        input_hash=digest("input", argument),
        step_type="deterministic",
        sample=sample,
        arguments={"argument": digest("argument", argument)},
        parents=parents,
    )


def parent(of: NodeSpec, output: str) -> ParentRef:
    """Return a data parent with this output."""
    return ParentRef(of.keys.node, digest(output))


def use(of: NodeSpec, execution: int, started_at: float = 100.0) -> CallDependency:
    """Return a call that was answered by this execution."""
    return CallDependency(of.keys.node, of.keys.reuse, execution, started_at)


def commit(at: NodeSpec, output: str | None, **more: Any) -> Commit:
    """Return a success with this output, begun before anything was stored.

    None stands for an output that could not be stored.
    """
    plain = {
        "place": at,
        "began": START,
        "started_at": 100.0,
        "duration_ms": 1.0,
        "artifact": None if output is None else digest(output),
        "payload": None if output is None else output.encode(),
        "valid_from": None,
        "valid_until": None,
        "not_replayable": None,
        "pool": None,
        "uses": (),
        "reads": (),
        "attempts": (),
        "holds": ExecutionFlags.NOTHING,
        "usage": (),
        "lease": None,
    }
    return Commit(**{**plain, **more})


def learned(at: NodeSpec, *parts: str, code: str = "code") -> LearnState:
    """Return the change that a step with this code changes these parts itself."""
    return LearnState(at.namespace, at.operation, digest(code), parts)


def state_places(store: Store, at: NodeSpec, code: str = "code") -> object:
    """Return the names of what a step with this code changes itself."""
    return store.find(StatePlaces(at.namespace, at.operation, digest(code)))


def fail(at: NodeSpec, **more: Any) -> CommitFailure:
    """Return a failure."""
    plain = {
        "place": at,
        "started_at": 100.0,
        "duration_ms": 1.0,
        "error": "ValueError: no",
        "pool": None,
        "uses": (),
        "usage": (),
        "lease": None,
    }
    return CommitFailure(**{**plain, **more})


def holder(owner: str, lasts: float = 20.0) -> LeaseOwner:
    """Return the owner of a lease that is renewed now, for so many seconds from now on."""
    return LeaseOwner(owner.encode(), "host", 17, "started then", time.time() + lasts)


def held(owner: str, lasts: int = 20) -> LeaseOwner:
    """Return what `steady` makes of such an owner."""
    return LeaseOwner(owner.encode(), "host", 17, "started then", lasts)


def steady(holder: LeaseOwner) -> LeaseOwner:
    """Return the owner, with the seconds that the lease still lasts, rounded to tens, in place of its end.

    They are rounded, since a store may use a clock of its own.
    """
    return holder._replace(expires_at=round(holder.expires_at - time.time(), -1))


def claim(at: NodeSpec, owner: str, **more: Any) -> Claim:
    """Return a claim of the result of a call, made now."""
    plain = {
        "key": at.keys.reuse,
        "keys": at.keys,
        "across": False,
        "seen": 0,
        "holder": holder(owner),
        "operation": at.operation,
        "now": time.time(),
    }
    return Claim(**{**plain, **more})


def intent(effect: str, owner: str, attempt: int = 1, **more: Any) -> BeginEffect:
    """Return an attempt at an effect, made now."""
    plain = {
        "effect_key": digest(effect),
        "operation": effect,
        "namespace": "default",
        "attempt": attempt,
        "at": time.time(),
        "holder": holder(owner),
    }
    return BeginEffect(**{**plain, **more})


# -- with a store ------------------------------------------------------------------------------------------------------
def ran(store: Store, at: NodeSpec, output: str | None, **more: Any) -> int:
    """Commit a success, which begins now unless `more` says otherwise; return its execution."""
    (answer,) = store.write([commit(at, output, **{"began": store.find(CurrentMoment()), **more})])
    execution: int = answer.execution
    return execution


def failed(store: Store, at: NodeSpec, **more: Any) -> int:
    """Commit a failure; return its execution."""
    (answer,) = store.write([fail(at, **more)])
    execution: int = answer.execution
    return execution


def pointed(store: Store, at: NodeSpec, execution: int, started_at: float = 100.0) -> bool:
    """Point a node at an execution; return whether that was allowed."""
    (answer,) = store.write([RecordReplay(at, execution, started_at)])
    allowed: bool = answer
    return allowed


def found(store: Store, at: NodeSpec) -> Candidate:
    """Return the newest execution for a call, which must be there."""
    newest = store.newest(at.keys, at.namespace)
    assert newest is not None
    return newest


def others(store: Store, at: NodeSpec, *, across: bool = False, oldest: float = float("-inf")) -> list[Candidate]:
    """Return what a call finds: executions under its reuse key and then, if `across`, others under its cross key."""
    ways = (False, True) if across else (False,)
    found = (entry for way in ways for entry in store.find(OlderCandidates(at.keys, at.namespace, way, oldest)))
    return list({entry.execution: entry for entry in found}.values())


def is_invalid(store: Store, at: NodeSpec, execution: int) -> bool:
    """Return whether a success that ran for this call is INVALID."""
    return bool(next(f.invalid for f in others(store, at) if f.execution == execution))


def is_stale(store: Store, at: NodeSpec) -> bool:
    """Return whether a node that is answered by its newest execution is STALE."""
    return not found(store, at).settled
