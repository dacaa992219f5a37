"""The parts that the tests of all rules share: nodes in a lineage, and short functions that change it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from musubito.store.changes import (
    Committed,
    Forget,
    Forgotten,
    Invalidate,
    InvalidateMarked,
    LeaseHeld,
    MarkForPruning,
    Moment,
    Prune,
    Pruned,
    RegisterWait,
    Renew,
)
from musubito.store.protocol import Store
from musubito.store.queries import CurrentMoment, EffectQuery, PayloadOf
from musubito.store.rows import CallDependency, EffectOutcome, ExecutionFlags, NodeSpec, Stored
from musubito.testing.changes import claim, commit, digest, found, holder, parent, place, steady

F, G, H = place("f"), place("g"), place("h")
ONE, TWO = place("one"), place("two")
BELOW_ONE = place("child", [parent(ONE, "same")])
BELOW_TWO = place("child", [parent(TWO, "same")])
"""A call below another parent with the same output: another node, the same reuse key."""
ELSEWHERE = place("child", [parent(ONE, "other")])
"""The node of BELOW_ONE, asked under another reuse key."""
EFFECT = place("send")
SAMPLES, A_CALL, AN_EFFECT = ExecutionFlags.SAMPLES, ExecutionFlags.CALLS, ExecutionFlags.EFFECT
OWNERS = {"f": "me", "g": "you", "h": "she"}
"""The owner of the lease of an operation, unless a test names another one."""
SHORT, LONGER = 0.5, 0.6
"""Seconds that a lease lasts which runs out during a test, and seconds to wait until it has run out."""


def done(effect: NodeSpec, outcome: str = "done", attempt: int = 1) -> EffectOutcome:
    """Return the outcome of an attempt at an effect."""
    return EffectOutcome(digest(effect.operation), attempt, outcome)


def invalidate(
    store: Store, operation: str | None = None, node: NodeSpec | None = None, namespace: str = "default"
) -> int:
    """Invalidate all executions of an operation, or at a node; return how many there were."""
    (count,) = store.write([Invalidate(namespace, operation, node.keys.node if node else None)])
    assert isinstance(count, int)
    return count


def forget(
    store: Store, operation: str | None = None, node: NodeSpec | None = None, run: bytes | None = None
) -> Forgotten:
    """Forget the contents of an operation, of a node, or of all that a run asked for; return the extent."""
    forgotten = one(store.write([Forget("default", operation, [node.keys.node] if node else [], run)]))
    assert isinstance(forgotten, Forgotten)
    return forgotten


def payload_of(store: Store, execution: int) -> bytes | None:
    """Return the output of an execution; None if there is none."""
    stored = store.find(PayloadOf(execution))
    assert stored is None or isinstance(stored, Stored)
    return None if stored is None else stored.payload


def prune(store: Store, executions: Sequence[int] = (), nodes: Sequence[NodeSpec] = (), **more: Any) -> Pruned:
    """Prune in the order of a real prune: nodes, then executions, the latest first."""
    names = [node.keys.node for node in nodes]
    pruned = one(store.write([Prune(0, names, sorted(executions, reverse=True), **more)]))
    assert isinstance(pruned, Pruned)
    return pruned


def retired(store: Store, executions: Sequence[int]) -> Pruned:
    """Retire, dismiss and prune executions."""
    store.write([MarkForPruning(executions, b"prune"), InvalidateMarked(executions, b"prune")])
    return prune(store, executions)


def one(answers: list[Any]) -> Any:
    """Return the answer to the only change of a write. The times of a lease are rounded."""
    (answer,) = answers
    return LeaseHeld(steady(answer.holder)) if isinstance(answer, LeaseHeld) else answer


class Rules:
    """The base of all tests, with a fresh store for each test."""

    def open_store(self, directory: Path) -> Store:
        """Open a store that keeps its files in this directory."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        store = self.open_store(tmp_path)
        yield store
        store.close()

    def effect(self, store: Store) -> Any:
        row = store.find(EffectQuery(digest("send"), EFFECT.keys, "default"))
        return row and row._replace(holder=row.holder and steady(row.holder))

    def wait(self, store: Store, held: NodeSpec, awaited: NodeSpec | None, owner: str | None = None) -> bool:
        by, key = (owner or OWNERS[held.operation]).encode(), awaited.keys.reuse if awaited else None
        closes: bool = one(store.write([RegisterWait([held.keys.reuse], by, key, time.time())]))
        return closes

    def hold(self, store: Store, *held: tuple[NodeSpec, str]) -> None:
        """Claim the results of these calls, and make the claims visible to other processes."""
        for at, owner in held:
            store.write([claim(at, owner), Renew(holder(owner), [(at.keys.reuse, at.operation)], time.time())])

    def outer(self, store: Store, *uses: CallDependency, began: Moment | None = None, **more: Any) -> bool:
        """Commit an outer execution; return whether it was committed INVALID."""
        answer = one(store.write([commit(H, "out", uses=uses, began=began or store.find(CurrentMoment()), **more)]))
        assert answer == Committed(found(store, H).execution, bool(found(store, H).invalid))
        invalid: bool = answer.invalid
        return invalid
