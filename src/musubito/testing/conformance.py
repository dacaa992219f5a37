"""What every store passes, ours and anyone's.

    class TestMine(StoreConformance):
        def open_store(self, directory): return MyStore(directory / "mine.db")

`StoreConformance` holds a test for each rule of `musubito.store.base`, named after it. For a store that
outlives its process `PersistentStoreConformance` adds what holds when it is opened again; there `open_store`
with the same directory opens the same store. `LeaseConformance` adds what holds for a store whose claims are
leases, `DistantConformance` what holds for one that is asked for a result or the right to compute it at once
(`Distant`). The tests know a store by its protocol alone, and an execution that is INVALID or a node that is
STALE by what they answer.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest

from musubito.errors import StoreError
from musubito.store.base import (
    BLOB,
    FORGOTTEN,
    Attempted,
    Began,
    Begin,
    Busy,
    CallLine,
    Change,
    Claim,
    Claimed,
    CodeOf,
    Committed,
    Dismiss,
    Distant,
    Done,
    EdgeKind,
    EffectOutcome,
    EffectQuery,
    EffectRow,
    Forget,
    Forgotten,
    Found,
    HolderOf,
    Holds,
    Invalidate,
    KeyCheckOf,
    Ledger,
    Neighbour,
    Neighbours,
    Outcome,
    ParentRef,
    PayloadOf,
    Place,
    Point,
    Prune,
    Pruned,
    Read,
    ReadsOf,
    Release,
    Renew,
    Retire,
    RunLine,
    SampleNode,
    SampleTree,
    Store,
    Stored,
    Tidy,
    UsageOf,
    Use,
    Used,
    Waits,
)
from musubito.testing.changes import (
    START,
    claim,
    commit,
    digest,
    fail,
    failed,
    found,
    held,
    holder,
    intent,
    is_invalid,
    is_stale,
    others,
    parent,
    place,
    pointed,
    ran,
    steady,
    use,
)

__all__ = ["DistantConformance", "LeaseConformance", "PersistentStoreConformance", "StoreConformance"]

F, G, H = place("f"), place("g"), place("h")
ONE, TWO = place("one"), place("two")
BELOW_ONE = place("child", [parent(ONE, "same")])
BELOW_TWO = place("child", [parent(TWO, "same")])
"""A call below another parent that gave the same: another node, one reuse key."""
ELSEWHERE = place("child", [parent(ONE, "other")])
"""The node of BELOW_ONE, asked under another reuse key."""
EFFECT = place("send")
BEGINNING = [
    commit(F, "x"),
    fail(F),
    intent("send", "me"),
    Invalidate("default", "f", None),
    Ledger("default", [RunLine(b"run", "name", None, 1.0, 2.0, "finished")], []),
]
"""Changes each of which may be the first in its namespace."""
SAMPLES, A_CALL, AN_EFFECT = Holds.SAMPLES, Holds.CALLS, Holds.EFFECT


def done(effect: Place, outcome: str = "done", attempt: int = 1) -> EffectOutcome:
    return EffectOutcome(digest(effect.operation), attempt, outcome)


def invalidate(
    store: Store, operation: str | None = None, node: Place | None = None, namespace: str = "default"
) -> int:
    (count,) = store.write([Invalidate(namespace, operation, node.keys.node if node else None)])
    assert isinstance(count, int)
    return count


def forget(
    store: Store, operation: str | None = None, node: Place | None = None, run: bytes | None = None
) -> Forgotten:
    forgotten = one(store.write([Forget("default", operation, [node.keys.node] if node else [], run)]))
    assert isinstance(forgotten, Forgotten)
    return forgotten


def payload_of(store: Store, execution: int) -> bytes | None:
    stored = store.find(PayloadOf(execution))
    assert stored is None or isinstance(stored, Stored)
    return None if stored is None else stored.payload


def prune(store: Store, executions: Sequence[int] = (), nodes: Sequence[Place] = (), **more: Any) -> Pruned:
    """As whoever prunes does: nodes, then executions, the latest first."""
    names = [node.keys.node for node in nodes]
    pruned = one(store.write([Prune(0, names, sorted(executions, reverse=True), **more)]))
    assert isinstance(pruned, Pruned)
    return pruned


def retired(store: Store, executions: Sequence[int]) -> Pruned:
    """Retired, dismissed and pruned."""
    store.write([Retire(executions, b"prune"), Dismiss(executions, b"prune")])
    return prune(store, executions)


SHORT, LONGER = 0.5, 0.6
"""A lease that runs out in the course of a test, and how long that takes, in seconds."""


def one(answers: list[Any]) -> Any:
    (answer,) = answers
    return Busy(steady(answer.holder)) if isinstance(answer, Busy) else answer


class StoreConformance:
    """Subclass it and say how a fresh store is opened."""

    def open_store(self, directory: Path) -> Store:
        """A store that keeps what it has to keep in this directory."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        store = self.open_store(tmp_path)
        yield store
        store.close()

    # -- the newest ----------------------------------------------------------------------------------------------------
    def test_nothing_is_found_in_an_empty_store(self, store: Store) -> None:
        assert store.newest(F.keys, "default") is None
        assert others(store, F, across=True) == []
        assert store.find(PayloadOf(1)) is None
        assert list(store.find(ReadsOf(1))) == []
        assert dict(store.find(SampleTree(1))) == {}
        assert store.find(EffectQuery(digest("send"), EFFECT.keys, "default")) is None
        assert store.find(Began()) == START

    def test_executions_are_numbered_in_the_order_of_commits_failed_ones_included(self, store: Store) -> None:
        assert [ran(store, F, "x"), failed(store, G), ran(store, H, "y")] == [1, 2, 3]
        assert store.find(Began()) == Claimed(3, 0)

    def test_a_success_is_found_with_all_that_was_committed(self, store: Store) -> None:
        at = place("f", [parent(ONE, "same")], sample=3)
        more = {
            "valid_from": 90.0,
            "valid_until": 200.0,
            "not_replayable": "why not",
            "pool": digest("pool"),
            "usage": [Used("a", 1, 2, 3, 4), Used("b", 0, 0, 5, 0)],
        }
        ran(store, at, "x", **more, duration_ms=2.5, holds=SAMPLES | Holds.READS)
        assert found(store, at) == Found(
            1,
            at.keys.node,
            digest("x"),
            b"x",
            100.0,
            2.5,
            90.0,
            200.0,
            "why not",
            0,
            Outcome.SUCCEEDED,
            3,
            digest("pool"),
            3,
            12,
            1,
        )

    def test_what_an_execution_used_is_found_by_model(self, store: Store) -> None:
        usage = [Used("a", 1, 2, 3, 4), Used("b", 0, 0, 5, 0)]
        assert ran(store, F, "x", usage=usage) == 1
        failed(store, G, usage=usage[:1])
        assert [list(store.find(UsageOf(number))) for number in (1, 2, 3)] == [usage, usage[:1], []]

    def test_a_failure_is_found_if_it_is_the_newest(self, store: Store) -> None:
        ran(store, F, "x")
        failed(store, F, pool=digest("pool"), usage=[Used("", 1, 0, 1, 2)])
        newest = found(store, F)
        assert (newest.execution, newest.outcome, newest.artifact, newest.payload) == (
            2,
            Outcome.FAILED,
            None,
            None,
        )
        assert (newest.producer, newest.pool, newest.tokens, newest.settled) == (
            F.keys.node,
            digest("pool"),
            3,
            0,
        )
        assert (newest.invalid, newest.holds) == (0, 0)
        failed(store, G)
        assert found(store, G).settled == 0

    def test_the_newest_with_the_reuse_key_is_found_whichever_node_it_ran_under(self, store: Store) -> None:
        ran(store, BELOW_ONE, "x")
        ran(store, BELOW_TWO, "y")
        assert (found(store, BELOW_ONE).execution, found(store, BELOW_ONE).producer) == (
            2,
            BELOW_TWO.keys.node,
        )
        assert store.newest(ELSEWHERE.keys, "default") is None

    def test_an_invalid_execution_is_found_as_such(self, store: Store) -> None:
        ran(store, F, "x")
        invalidate(store, "f")
        assert found(store, F).invalid == 1

    # -- settled -------------------------------------------------------------------------------------------------------
    def test_a_commit_settles_the_node_it_ran_at(self, store: Store) -> None:
        ran(store, BELOW_ONE, "x")
        assert found(store, BELOW_ONE).settled == 1
        assert found(store, BELOW_TWO).settled == 0

    def test_a_point_settles_the_node_that_was_asked(self, store: Store) -> None:
        e = ran(store, BELOW_ONE, "x")
        assert pointed(store, BELOW_TWO, e)
        assert found(store, BELOW_TWO).settled == found(store, BELOW_ONE).settled == 1

    def test_a_node_that_was_last_asked_under_another_reuse_key_is_not_settled(self, store: Store) -> None:
        e = ran(store, BELOW_ONE, "x")
        assert pointed(store, ELSEWHERE, e)
        assert found(store, BELOW_ONE).settled == 0
        assert pointed(store, BELOW_ONE, e)
        assert found(store, BELOW_ONE).settled == 1

    def test_a_node_that_points_elsewhere_is_not_settled(self, store: Store) -> None:
        ran(store, BELOW_ONE, "x")
        ran(store, BELOW_TWO, "x")
        assert found(store, BELOW_ONE).settled == 0

    def test_others_and_effects_say_whether_they_are_settled(self, store: Store) -> None:
        store.write([intent("send", "me"), commit(EFFECT, "sent", holds=AN_EFFECT, effect=done(EFFECT))])
        failed(store, EFFECT)
        assert others(store, EFFECT)[0].settled == 1
        assert self.effect(store).found.settled == 1

    # -- others --------------------------------------------------------------------------------------------------------
    def test_others_are_the_successes_newest_first_without_payloads(self, store: Store) -> None:
        ran(store, BELOW_ONE, "x")
        ran(store, BELOW_TWO, "y")
        failed(store, BELOW_ONE)
        assert [
            (f.execution, f.producer, f.artifact, f.payload) for f in others(store, BELOW_ONE) if f.execution < 2
        ] == [(1, BELOW_ONE.keys.node, digest("x"), None)]
        assert [f.execution for f in others(store, BELOW_ONE)] == [2, 1]

    def test_others_leave_out_what_started_before_the_oldest(self, store: Store) -> None:
        ran(store, F, "x", started_at=99.0)
        ran(store, F, "y", started_at=100.0)
        ran(store, F, "z", started_at=101.0)
        assert [f.execution for f in others(store, F, oldest=100.0)] == [3, 2]

    def test_others_go_across_if_asked_after_those_with_the_reuse_key_none_twice(self, store: Store) -> None:
        ran(store, BELOW_ONE, "x")
        ran(store, ELSEWHERE, "y")
        failed(store, ELSEWHERE)
        ran(store, BELOW_TWO, "z")
        ran(store, ELSEWHERE, "old", started_at=1.0)
        assert [f.execution for f in others(store, ELSEWHERE, oldest=50.0)] == [2]
        assert [f.execution for f in others(store, ELSEWHERE, across=True, oldest=50.0)] == [2, 4, 1]

    def test_a_call_without_parents_is_found_across(self, store: Store) -> None:
        ran(store, place("child"), "x")
        ran(store, BELOW_ONE, "y")
        assert [f.execution for f in others(store, ELSEWHERE, across=True)] == [2, 1]
        assert [f.execution for f in others(store, place("child"), across=True)] == [1, 2]

    # -- artifacts, reads, samples -------------------------------------------------------------------------------------
    @pytest.mark.parametrize("size", [1, 100_000])
    def test_a_payload_is_that_of_its_execution(self, store: Store, size: int) -> None:
        ran(store, F, "x" * size)
        ran(store, G, "y" * size)
        assert payload_of(store, 1) == found(store, F).payload == b"x" * size
        assert payload_of(store, 2) == found(store, G).payload == b"y" * size

    @pytest.mark.parametrize("size", [1, 100_000])
    def test_a_bad_payload_spoils_no_later_execution(self, store: Store, size: int) -> None:
        ran(store, F, "x" * size, payload=b"bad" * size)
        ran(store, G, "x" * size)
        assert payload_of(store, 2) == found(store, G).payload == b"x" * size

    @pytest.mark.parametrize("size", [1, 100_000])
    def test_how_a_payload_is_stored_is_kept_beside_it(self, store: Store, size: int) -> None:
        ran(store, F, "x" * size, payload=b"packed" * size, codec="any+how", size=7)
        ran(store, G, "y" * size)
        assert (found(store, F).payload, found(store, F).codec) == (b"packed" * size, "any+how")
        assert store.find(PayloadOf(1)) == Stored(b"packed" * size, "any+how")
        assert (found(store, G).payload, found(store, G).codec) == (b"y" * size, "msgpack")

    @pytest.mark.parametrize("size", [1, 100_000])
    def test_an_artifact_that_is_stored_otherwise_later_is_what_was_stored_last(self, store: Store, size: int) -> None:
        ran(store, F, "x" * size, payload=b"one" * size, codec="one")
        ran(store, G, "x" * size, payload=b"two" * size, codec="two")
        assert (found(store, G).payload, found(store, G).codec) == (b"two" * size, "two")
        ran(store, H, "x" * size, payload=b"", codec="three" + BLOB, size=size)
        assert store.find(PayloadOf(3)) == Stored(b"", "three" + BLOB)
        assert (found(store, H).payload, found(store, H).codec) == (b"", "three" + BLOB)
        ran(store, BELOW_ONE, "x" * size, payload=b"", codec="four" + BLOB, size=size)
        assert store.find(PayloadOf(4)) == Stored(b"", "four" + BLOB)

    def test_an_empty_payload_is_a_payload(self, store: Store) -> None:
        ran(store, F, "")
        assert found(store, F).payload == payload_of(store, 1) == b""

    def test_an_artifact_of_none_is_found_as_none(self, store: Store) -> None:
        ran(store, F, None)
        assert (found(store, F).artifact, found(store, F).payload, found(store, F).settled) == (None, None, 1)

    # -- namespaces ----------------------------------------------------------------------------------------------------
    def test_a_namespace_is_begun_with_a_check_of_its_key_or_without(self, store: Store) -> None:
        assert store.find(KeyCheckOf("default")) is None
        assert store.write([Begin("default", b"check")]) == [b"check"]
        assert store.write([Begin("default", b"another")]) == [b"check"]
        ran(store, F, "x")
        assert store.find(KeyCheckOf("default")) == b"check"
        assert store.find(KeyCheckOf("other")) is None
        assert store.write([Begin("other", b""), Begin("other", b"late")]) == [b"", b""]

    @pytest.mark.parametrize(
        "change", [commit(F, "x"), fail(F), intent("send", "me"), Invalidate("default", "f", None)]
    )
    def test_a_namespace_that_was_begun_by_something_else_has_no_key(self, store: Store, change: Change) -> None:
        store.write([change])
        assert store.find(KeyCheckOf("default")) == b""
        assert store.write([Begin("default", b"check")]) == [b""]

    def test_reads_are_kept_absent_ones_included(self, store: Store) -> None:
        reads = [
            Read("store", "k", digest("v")),
            Read("store", "gone", None),
            Read("config", "k", digest("w")),
        ]
        ran(store, F, "x", reads=reads)
        ran(store, G, "y")
        assert set(store.find(ReadsOf(1))) == set(reads)
        assert list(store.find(ReadsOf(2))) == []

    def test_two_reads_of_one_key_that_saw_different_values_are_both_kept(self, store: Store) -> None:
        reads = [Read("store", "k", digest("v")), Read("store", "k", None), Read("store", "k", digest("w"))]
        ran(store, F, "x", reads=[*reads, *reads])
        assert set(store.find(ReadsOf(1))) == set(reads)

    def test_a_sample_tree_holds_all_below_that_hold_samples(self, store: Store) -> None:
        pool = digest("pool")
        tried = [Attempted(pool, 2), Attempted(pool, 1), Attempted(pool, 1)]
        leaf = ran(store, place("leaf", sample=4), "x", pool=pool, attempts=tried)
        plain = ran(store, F, "x")
        under_plain = ran(store, place("under", sample=1), "x", pool=pool)
        middle = ran(store, G, "x", holds=SAMPLES | A_CALL, uses=[use(F, plain), use(F, leaf), use(H, leaf)])
        hidden = ran(store, ONE, "x", holds=A_CALL, uses=[use(F, under_plain)])
        root = ran(store, H, "x", holds=SAMPLES, uses=[use(G, middle), use(F, leaf), use(ONE, hidden)])
        attempts = (Attempted(pool, 1), Attempted(pool, 2))
        assert dict(store.find(SampleTree(root))) == {
            root: SampleNode(root, None, 0, (), (leaf, middle)),
            middle: SampleNode(middle, None, 0, (), (leaf,)),
            leaf: SampleNode(leaf, pool, 4, attempts, ()),
        }
        assert dict(store.find(SampleTree(plain))) == {plain: SampleNode(plain, None, 0, (), ())}

    # -- what else is asked --------------------------------------------------------------------------------------------
    def test_neighbours_are_the_nodes_of_an_operation_newest_first(self, store: Store) -> None:
        first, second, third = (place("f", [parent(ONE, "x")], argument=a) for a in "123")
        ran(store, first, "x", started_at=1.0)
        ran(store, G, "x")
        ran(store, place("f", namespace="another"), "x")
        ran(store, second, "x", started_at=2.0)
        failed(store, third)
        ran(store, first, "y", started_at=3.0)
        expected = [
            Neighbour(
                p.keys.node,
                p.code.fingerprint,
                p.input_hash,
                p.arguments,
                frozenset([ONE.keys.node]),
                started_at,
            )
            for p, started_at in ((third, None), (second, 2.0), (first, 3.0))
        ]
        assert list(store.find(Neighbours("default", "f", None, 9))) == expected
        assert list(store.find(Neighbours("default", "f", None, 2))) == expected[:2]
        assert list(store.find(Neighbours("default", "f", second.keys.node, 9))) == expected[2:]
        assert list(store.find(Neighbours("default", "f", F.keys.node, 9))) == expected
        assert list(store.find(Neighbours("default", "never", None, 9))) == []

    def test_a_stub_is_no_neighbour_and_a_state_edge_no_parent(self, store: Store) -> None:
        state = ParentRef(TWO.keys.node, digest("x"), EdgeKind.STATE)
        ran(store, place("one", [parent(ONE, "x"), state]), "y")
        (only,) = store.find(Neighbours("default", "one", None, 9))
        assert only.parents == {ONE.keys.node}
        failed(store, ONE)
        known = store.find(Neighbours("default", "one", None, 9))
        assert {n.node for n in known} == {only.node, ONE.keys.node}

    def test_the_code_of_a_fingerprint_is_kept(self, store: Store) -> None:
        ran(store, F, "x")
        failed(store, G)
        for at in (F, G):
            assert dict(store.find(CodeOf(at.code.fingerprint))) == {p: d for p, d, _ in at.code.parts}
        assert dict(store.find(CodeOf(H.code.fingerprint))) == {}

    # -- committed INVALID ---------------------------------------------------------------------------------------------
    def outer(self, store: Store, *uses: Use, began: Claimed | None = None, **more: Any) -> bool:
        """Commits an outer execution; whether it was committed INVALID."""
        answer = one(store.write([commit(H, "out", uses=uses, began=began or store.find(Began()), **more)]))
        assert answer == Committed(found(store, H).execution, bool(found(store, H).invalid))
        invalid: bool = answer.invalid
        return invalid

    def test_what_used_something_current_is_committed_valid(self, store: Store) -> None:
        assert not self.outer(store, use(F, ran(store, F, "x")))

    def test_what_used_something_invalid_by_now_is_committed_invalid(self, store: Store) -> None:
        e = ran(store, F, "x")
        invalidate(store, "f")
        assert self.outer(store, use(F, e))

    def test_what_used_something_replaced_since_is_committed_invalid(self, store: Store) -> None:
        e, began = ran(store, F, "x"), store.find(Began())
        ran(store, F, "y")
        assert self.outer(store, use(F, e), began=began)

    def test_an_equal_artifact_since_replaces_nothing(self, store: Store) -> None:
        e, began = ran(store, F, "x"), store.find(Began())
        ran(store, F, "x")
        assert not self.outer(store, use(F, e), began=began)

    def test_a_failure_since_replaces_nothing(self, store: Store) -> None:
        e, began = ran(store, F, "x"), store.find(Began())
        failed(store, F)
        assert not self.outer(store, use(F, e), began=began)

    def test_what_was_committed_invalid_since_replaces_nothing(self, store: Store) -> None:
        e, began = ran(store, F, "x"), store.find(Began())
        gone = ran(store, G, "x")
        invalidate(store, "g")
        ran(store, F, "y", uses=[use(G, gone)])
        assert not self.outer(store, use(F, e), began=began)

    def test_what_is_newer_but_older_than_its_beginning_does_not_count(self, store: Store) -> None:
        e = ran(store, BELOW_ONE, "x")
        ran(store, BELOW_TWO, "y")
        assert not self.outer(store, use(BELOW_ONE, e))

    def test_what_is_older_than_what_was_used_does_not_count(self, store: Store) -> None:
        ran(store, F, "y")
        assert not self.outer(store, use(F, ran(store, F, "x")), began=START)

    def test_what_could_not_be_stored_equals_no_other(self, store: Store) -> None:
        e, began = ran(store, F, None), store.find(Began())
        assert not self.outer(store, use(F, e), began=began)
        ran(store, F, None)
        assert self.outer(store, use(F, e), began=began)

    def test_what_asked_for_a_key_that_was_answered_otherwise_since_is_committed_invalid(self, store: Store) -> None:
        e, began = ran(store, BELOW_ONE, "x"), store.find(Began())
        # At another node, so that only the key tells.
        ran(store, place("child", [parent(TWO, "other")]), "y")
        assert not self.outer(store, use(BELOW_ONE, e), began=began)
        assert self.outer(store, use(ELSEWHERE, e), began=began)

    def test_what_was_used_counts_under_its_own_key_too(self, store: Store) -> None:
        e, began = ran(store, BELOW_ONE, "x"), store.find(Began())
        ran(store, BELOW_TWO, "y")
        assert self.outer(store, use(ELSEWHERE, e), began=began)

    def test_what_asked_a_node_that_moved_to_another_artifact_is_committed_invalid(self, store: Store) -> None:
        old, e = ran(store, BELOW_ONE, "x"), ran(store, BELOW_TWO, "y")
        began = store.find(Began())
        assert not self.outer(store, use(BELOW_TWO, e), began=began)
        pointed(store, BELOW_TWO, old)
        assert self.outer(store, use(BELOW_TWO, e), began=began)

    def test_a_node_that_was_asked_under_another_key_since_does_not_count(self, store: Store) -> None:
        across = ran(store, place("child"), "y")
        e, began = ran(store, BELOW_ONE, "x"), store.find(Began())
        pointed(store, ELSEWHERE, across)
        assert not self.outer(store, use(BELOW_ONE, e), began=began)

    def test_a_node_that_failed_since_does_not_count(self, store: Store) -> None:
        e, began = ran(store, BELOW_ONE, "x"), store.find(Began())
        pointed(store, ELSEWHERE, e)
        failed(store, BELOW_ONE)
        assert others(store, ELSEWHERE, across=True)[0].settled == 1
        assert not self.outer(store, use(BELOW_ONE, e), began=began)

    def test_what_began_before_its_operation_was_invalidated_is_committed_invalid(self, store: Store) -> None:
        began = store.find(Began())
        assert invalidate(store, "h") == 0
        assert store.find(Began()) == Claimed(0, 1)
        assert self.outer(store, began=began)
        assert not self.outer(store)

    def test_what_began_before_its_node_was_invalidated_is_committed_invalid(self, store: Store) -> None:
        ran(store, H, "x")
        began = store.find(Began())
        assert invalidate(store, node=H) == 1
        assert self.outer(store, began=began)
        assert not self.outer(store)

    def test_a_node_that_is_not_there_yet_can_be_invalidated_while_it_runs(self, store: Store) -> None:
        began = store.find(Began())
        assert invalidate(store, node=H) == 0
        assert store.find(Began()).invalidations == 1
        assert self.outer(store, began=began)

    def test_invalidating_something_else_does_not_count(self, store: Store) -> None:
        ran(store, H, "x")
        began = store.find(Began())
        invalidate(store, "h", namespace="another")
        invalidate(store, "f")
        invalidate(store, node=F)
        assert not self.outer(store, began=began)

    def test_what_is_committed_invalid_replaces_nothing(self, store: Store) -> None:
        e = ran(store, H, "x")
        caller = ran(store, G, "z", uses=[use(H, e)])
        child = place("child", [parent(H, "x")])
        ran(store, child, "c")
        began = store.find(Began())
        gone = ran(store, F, "y")
        invalidate(store, "f")
        assert self.outer(store, use(F, gone), began=began)
        assert not is_invalid(store, G, caller)
        assert not is_stale(store, child)
        # The node keeps its pointer.
        assert [(f.execution, f.settled) for f in others(store, H)][-1] == (e, 1)

    def test_a_commit_that_replaces_what_it_called_itself_is_invalid(self, store: Store) -> None:
        inner = ran(store, H, "x")
        assert self.outer(store, use(H, inner))
        assert found(store, H).settled == 0

    def test_what_used_something_whose_number_is_another_s_by_now_is_committed_invalid(self, store: Store) -> None:
        """As after a crash of a server that had not kept what it had committed."""
        e = ran(store, F, "x", started_at=200.0)
        assert not self.outer(store, use(F, e, 200.0))
        lost = use(F, e, 100.0)
        assert self.outer(store, lost)
        # Nor is it recorded that it had called the other one.
        failed(store, G, uses=[lost])
        invalidate(store, "f")
        assert [found.invalid for found in others(store, H)] == [1, 1]
        caller = ran(store, ONE, "y", uses=[lost], holds=AN_EFFECT)
        assert not is_invalid(store, ONE, caller)

    def test_what_began_at_a_moment_that_is_gone_is_committed_invalid(self, store: Store) -> None:
        ran(store, F, "x")
        assert self.outer(store, use(F, 1), began=Claimed(9, 0))
        assert self.outer(store, began=Claimed(0, 9))
        # Which executions came later concerns only what has used some.
        assert not self.outer(store, began=Claimed(9, 0))
        assert not self.outer(store, use(F, 1), began=Claimed(9, 9), holds=AN_EFFECT)
        # Also where it is the first at its node, and all names are known.
        again = place("f", argument="again")
        store.write([claim(again, "me")])
        first = commit(again, "x", began=Claimed(0, 9), lease=(again.keys.reuse, b"me"))
        assert one(store.write([first])).invalid

    def test_an_unknown_execution_cannot_be_used(self, store: Store) -> None:
        for change in (commit(H, "x", uses=[use(F, 7)]), fail(H, uses=[use(F, 7)])):
            with pytest.raises(StoreError):
                store.write([change])
        assert store.newest(H.keys, "default") is None

    # -- what is replaced makes INVALID --------------------------------------------------------------------------------
    def test_what_called_a_replaced_one_becomes_invalid(self, store: Store) -> None:
        caller = ran(store, G, "out", uses=[use(F, ran(store, F, "x"))])
        ran(store, F, "y")
        assert is_invalid(store, G, caller)
        assert not is_invalid(store, F, 1)

    def test_what_called_it_through_others_becomes_invalid_at_any_depth(self, store: Store) -> None:
        at, inner = F, ran(store, F, "x")
        for level in range(40):
            outer = place("outer", argument=str(level))
            at, inner = outer, ran(store, outer, "out", uses=[use(at, inner)])
        ran(store, F, "y")
        assert is_invalid(store, at, inner)

    def test_an_equal_artifact_makes_nothing_invalid(self, store: Store) -> None:
        caller = ran(store, G, "out", uses=[use(F, ran(store, F, "x"))])
        ran(store, F, "x")
        assert not is_invalid(store, G, caller)

    def test_what_cannot_be_stored_replaces_and_is_replaced(self, store: Store) -> None:
        for before, after in (("x", None), (None, None), (None, "x")):
            caller = ran(store, G, "out", uses=[use(F, ran(store, F, before))])
            ran(store, F, after)
            assert is_invalid(store, G, caller)

    def test_every_earlier_one_is_replaced(self, store: Store) -> None:
        first = ran(store, F, "x")
        ran(store, F, "y")
        caller = ran(store, G, "out", uses=[use(F, first)], began=store.find(Began()))
        pointed(store, F, first)
        again = ran(store, H, "out", uses=[use(F, first)])
        ran(store, F, "y")
        assert is_invalid(store, H, again)
        assert is_invalid(store, G, caller)

    def test_another_node_with_the_reuse_key_replaces_too(self, store: Store) -> None:
        caller = ran(store, G, "out", uses=[use(BELOW_ONE, ran(store, BELOW_ONE, "x"))])
        ran(store, BELOW_TWO, "y")
        assert is_invalid(store, G, caller)

    def test_another_reuse_key_at_the_node_replaces_nothing(self, store: Store) -> None:
        caller = ran(store, G, "out", uses=[use(BELOW_ONE, ran(store, BELOW_ONE, "x"))])
        ran(store, ELSEWHERE, "y")
        assert not is_invalid(store, G, caller)

    def test_what_asked_for_the_key_is_invalid_whatever_answered_it(self, store: Store) -> None:
        e = ran(store, BELOW_ONE, "x")
        caller = ran(store, G, "out", uses=[use(ELSEWHERE, e)])
        ran(store, ELSEWHERE, "y")
        assert is_invalid(store, G, caller)

    def test_each_key_under_which_a_node_was_asked_counts(self, store: Store) -> None:
        e = ran(store, BELOW_ONE, "x")
        caller = ran(store, G, "out", uses=[use(BELOW_ONE, e), use(ELSEWHERE, e)])
        ran(store, ELSEWHERE, "y")
        assert is_invalid(store, G, caller)

    def test_a_failure_makes_nothing_invalid(self, store: Store) -> None:
        caller = ran(store, G, "out", uses=[use(F, ran(store, F, "x"))])
        failed(store, F)
        assert not is_invalid(store, G, caller)

    def test_a_failed_caller_becomes_invalid_too(self, store: Store) -> None:
        e = ran(store, F, "x")
        failed(store, G, uses=[use(F, e)])
        ran(store, F, "y")
        assert found(store, G).invalid == 1

    def test_nothing_that_was_replaced_makes_an_effect_invalid(self, store: Store) -> None:
        inner = ran(store, F, "x")
        effect = ran(store, EFFECT, "sent", holds=AN_EFFECT, uses=[use(F, inner)])
        above = ran(store, G, "out", uses=[use(EFFECT, effect)])
        ran(store, F, "y")
        assert not is_invalid(store, EFFECT, effect)
        assert not is_invalid(store, G, above)

    def test_an_effect_is_not_committed_invalid_for_what_it_used(self, store: Store) -> None:
        e, began = ran(store, F, "x"), store.find(Began())
        ran(store, F, "y")
        assert not self.outer(store, use(F, e), began=began, holds=AN_EFFECT)

    def test_an_effect_that_began_before_it_was_invalidated_is_committed_invalid(self, store: Store) -> None:
        began = store.find(Began())
        invalidate(store, "h")
        assert self.outer(store, began=began, holds=AN_EFFECT)

    # -- pointing ------------------------------------------------------------------------------------------------------
    def test_what_is_unknown_or_invalid_is_not_pointed_at(self, store: Store) -> None:
        assert not pointed(store, F, 7)
        e = ran(store, F, "x")
        other = ran(store, BELOW_ONE, "y")
        invalidate(store, "f")
        assert not pointed(store, BELOW_ONE, e)
        assert found(store, BELOW_ONE) == found(store, BELOW_ONE)._replace(execution=other, settled=1)

    def test_what_has_the_number_of_another_is_not_pointed_at(self, store: Store) -> None:
        e = ran(store, F, "x", started_at=200.0)
        assert not pointed(store, G, e, 100.0)
        assert pointed(store, G, e, 200.0)

    def test_pointing_makes_invalid_what_asked_for_the_key_and_got_another_artifact(self, store: Store) -> None:
        first = ran(store, BELOW_ONE, "x")
        across = ran(store, ELSEWHERE, "y")
        caller = ran(store, G, "out", uses=[use(BELOW_ONE, across)])
        through = ran(store, H, "out", uses=[use(G, caller)])
        pointed(store, BELOW_ONE, first)
        assert is_invalid(store, G, caller)
        assert is_invalid(store, H, through)

    def test_pointing_back_makes_invalid_what_called_its_successor(self, store: Store) -> None:
        first, second = ran(store, BELOW_ONE, "x"), ran(store, BELOW_TWO, "y")
        caller = ran(store, G, "out", uses=[use(place("child", [parent(TWO, "else")]), second)])
        pointed(store, BELOW_TWO, first)
        assert is_invalid(store, G, caller)

    def test_pointing_under_another_key_counts_only_what_asked_for_it(self, store: Store) -> None:
        across = ran(store, ELSEWHERE, "z")
        e = ran(store, BELOW_ONE, "x")
        caller = ran(store, G, "out", uses=[use(ELSEWHERE, e)])
        asked = ran(store, H, "out", uses=[use(BELOW_ONE, e)])
        pointed(store, BELOW_TWO, across)
        assert not is_invalid(store, G, caller)
        assert is_invalid(store, H, asked)

    def test_pointing_at_the_same_under_another_key_makes_invalid_too(self, store: Store) -> None:
        first, second = ran(store, BELOW_TWO, "x"), ran(store, BELOW_ONE, "y")
        caller = ran(store, G, "out", uses=[use(BELOW_ONE, second)])
        pointed(store, ELSEWHERE, first)
        assert not is_invalid(store, G, caller)
        pointed(store, BELOW_ONE, first)
        assert is_invalid(store, G, caller)

    def test_pointing_at_what_is_pointed_at_already_changes_nothing(self, store: Store) -> None:
        first = ran(store, BELOW_ONE, "x")
        second = ran(store, BELOW_TWO, "y")
        caller = ran(store, G, "out", uses=[use(BELOW_TWO, second)])
        assert pointed(store, BELOW_ONE, first)
        assert not is_invalid(store, G, caller)

    # -- failing -------------------------------------------------------------------------------------------------------
    def test_a_failure_leaves_the_node_where_it_pointed(self, store: Store) -> None:
        e = ran(store, BELOW_ONE, "x")
        failed(store, ELSEWHERE)
        assert found(store, BELOW_ONE) == found(store, BELOW_ONE)._replace(execution=e, settled=1)

    # -- STALE ---------------------------------------------------------------------------------------------------------
    CHILD = place("child", [parent(F, "x")])
    GRANDCHILD = place("grandchild", [parent(CHILD, "c")])

    def family(self, store: Store) -> None:
        ran(store, F, "x")
        ran(store, self.CHILD, "c")
        ran(store, self.GRANDCHILD, "g")
        assert not is_stale(store, self.GRANDCHILD)

    def test_another_artifact_makes_all_nodes_below_stale(self, store: Store) -> None:
        self.family(store)
        ran(store, F, "y")
        assert is_stale(store, self.CHILD)
        assert is_stale(store, self.GRANDCHILD)
        assert not is_stale(store, F)

    def test_an_equal_artifact_makes_nothing_stale(self, store: Store) -> None:
        self.family(store)
        ran(store, F, "x")
        failed(store, F)
        assert not is_stale(store, self.CHILD)

    def test_what_cannot_be_stored_makes_stale(self, store: Store) -> None:
        self.family(store)
        ran(store, F, None)
        assert is_stale(store, self.CHILD)
        ran(store, self.CHILD, "c")
        ran(store, F, None)
        assert is_stale(store, self.CHILD)

    def test_being_answered_again_ends_stale(self, store: Store) -> None:
        self.family(store)
        ran(store, F, "y")
        assert pointed(store, self.CHILD, found(store, self.CHILD).execution)
        ran(store, self.GRANDCHILD, "g")
        assert not is_stale(store, self.CHILD)
        assert not is_stale(store, self.GRANDCHILD)

    def test_a_node_that_had_failed_is_not_stale_once_it_succeeds(self, store: Store) -> None:
        ran(store, F, "x")
        failed(store, self.CHILD)
        ran(store, F, "y")
        ran(store, self.CHILD, "c")
        assert not is_stale(store, self.CHILD)

    def test_what_lies_below_a_stale_node_is_made_stale_again(self, store: Store) -> None:
        self.family(store)
        ran(store, F, "y")
        ran(store, self.GRANDCHILD, "g")
        ran(store, F, "z")
        assert is_stale(store, self.GRANDCHILD)

    def test_pointing_at_another_artifact_makes_stale(self, store: Store) -> None:
        first, second = ran(store, BELOW_ONE, "x"), ran(store, BELOW_TWO, "y")
        child = place("grandchild", [parent(BELOW_TWO, "y")])
        ran(store, child, "c")
        assert pointed(store, BELOW_TWO, second)
        assert not is_stale(store, child)
        assert pointed(store, BELOW_TWO, first)
        assert is_stale(store, child)

    def test_another_reuse_key_makes_stale_as_well(self, store: Store) -> None:
        ran(store, BELOW_ONE, "x")
        child = place("grandchild", [parent(BELOW_ONE, "x")])
        ran(store, child, "c")
        ran(store, ELSEWHERE, "y")
        assert is_stale(store, child)

    def test_state_edges_make_nothing_stale(self, store: Store) -> None:
        ran(store, F, "x")
        reader = place("reader", [ParentRef(F.keys.node, digest("x"), EdgeKind.STATE)])
        ran(store, reader, "r")
        ran(store, F, "y")
        assert not is_stale(store, reader)

    def test_an_unknown_parent_becomes_a_node_once_it_runs(self, store: Store) -> None:
        ran(store, self.GRANDCHILD, "g")
        ran(store, self.CHILD, "c")
        ran(store, F, "x")
        assert not is_stale(store, self.GRANDCHILD)
        ran(store, F, "y")
        assert is_stale(store, self.GRANDCHILD)

    # -- by hand -------------------------------------------------------------------------------------------------------
    def test_invalidating_an_operation_concerns_its_executions_in_the_namespace(self, store: Store) -> None:
        ran(store, F, "x")
        ran(store, place("f", argument="other"), "x")
        failed(store, F)
        elsewhere = place("f", namespace="another")
        ran(store, elsewhere, "x")
        ran(store, G, "x")
        assert invalidate(store, "f") == 3
        assert is_invalid(store, F, 1) and found(store, F).invalid
        assert not found(store, elsewhere).invalid and not found(store, G).invalid
        assert store.find(Began()).invalidations == 1

    def test_invalidating_a_node_concerns_what_ran_there_and_what_it_points_at(self, store: Store) -> None:
        here, moved = ran(store, BELOW_ONE, "x"), ran(store, BELOW_TWO, "x")
        pointed(store, BELOW_ONE, moved)
        elsewhere = ran(store, place("child"), "x")
        assert invalidate(store, node=BELOW_ONE) == 2
        assert is_invalid(store, BELOW_ONE, here) and is_invalid(store, BELOW_ONE, moved)
        assert not is_invalid(store, place("child"), elsewhere)

    def test_invalidating_goes_outward_along_calls(self, store: Store) -> None:
        e = ran(store, F, "x")
        caller = ran(store, G, "out", uses=[use(F, e)])
        above = ran(store, H, "out", uses=[use(G, caller)])
        assert invalidate(store, "f") == 1
        assert is_invalid(store, G, caller) and is_invalid(store, H, above)

    def test_invalidating_makes_effects_invalid_that_are_named_and_no_others(self, store: Store) -> None:
        effect = ran(store, EFFECT, "sent", holds=AN_EFFECT, uses=[use(F, ran(store, F, "x"))])
        above = ran(store, G, "out", uses=[use(EFFECT, effect)])
        invalidate(store, "f")
        assert not is_invalid(store, EFFECT, effect) and not is_invalid(store, G, above)
        invalidate(store, "send")
        assert is_invalid(store, EFFECT, effect) and is_invalid(store, G, above)

    def test_invalidating_makes_stale_what_lies_below(self, store: Store) -> None:
        self.family(store)
        invalidate(store, "f")
        assert is_stale(store, self.CHILD) and is_stale(store, self.GRANDCHILD)
        assert not found(store, self.GRANDCHILD).invalid

    def test_invalidating_twice_concerns_the_same(self, store: Store) -> None:
        ran(store, F, "x")
        assert invalidate(store, "f") == invalidate(store, "f") == 1

    # -- forgetting ----------------------------------------------------------------------------------------------------
    @pytest.mark.parametrize("size", [1, 100_000])
    def test_what_is_forgotten_has_no_contents_and_is_not_replayed(self, store: Store, size: int) -> None:
        ran(store, F, "x" * size, reads=[Read("store", "k", None), Read("answer", "", None)])
        ran(store, G, "y")
        assert forget(store, "f")[:3] == (1, 0, size)
        assert (found(store, F).payload, found(store, F).invalid, found(store, F).not_replayable) == (
            None,
            1,
            FORGOTTEN,
        )
        assert found(store, F).artifact == digest("x" * size)
        assert store.find(PayloadOf(1)) is None
        assert list(store.find(ReadsOf(1))) == [Read("answer", "", None)]
        assert (found(store, G).payload, found(store, G).invalid) == (b"y", 0)
        assert forget(store, "f")[:3] == (1, 0, 0)

    def test_forgetting_concerns_failures(self, store: Store) -> None:
        failed(store, F, error="no")
        assert forget(store, "f")[:3] == (1, 0, 2)
        assert (found(store, F).not_replayable, found(store, F).invalid) == (FORGOTTEN, 1)

    def test_forgetting_a_node_concerns_what_ran_there_and_what_it_points_at(self, store: Store) -> None:
        ran(store, BELOW_ONE, "x")
        pointed(store, BELOW_TWO, 1)
        ran(store, ELSEWHERE, "y")
        assert forget(store, node=BELOW_TWO).executions == 1
        assert [found(store, at).invalid for at in (BELOW_ONE, ELSEWHERE)] == [1, 0]
        assert forget(store, node=BELOW_ONE).executions == 2
        assert found(store, ELSEWHERE).payload is None

    def test_forgetting_a_run_concerns_what_its_calls_were_answered_by(self, store: Store) -> None:
        ran(store, F, "x")
        ran(store, G, "y")
        calls = [
            CallLine(b"run", number, None, "f", F.keys.node, execution, "ran", "X", 1.0, 1.0, 0.0, 0, 0)
            for number, execution in enumerate((1, 1, None), 1)
        ]
        store.write([Ledger("default", [RunLine(b"run", "name", "{}", 1.0, 2.0, "finished")], calls)])
        assert forget(store, run=b"run").executions == 1
        assert (found(store, F).payload, found(store, G).payload) == (None, b"y")

    def test_what_was_replaced_does_not_come_back_when_its_successor_is_forgotten(self, store: Store) -> None:
        ran(store, BELOW_ONE, "x")
        ran(store, BELOW_TWO, "y")
        forget(store, node=BELOW_TWO)
        assert is_invalid(store, BELOW_ONE, 1)

    def test_forgetting_goes_outward_along_calls_and_makes_stale_what_lies_below(self, store: Store) -> None:
        ran(store, ONE, "same")
        ran(store, BELOW_ONE, "x")
        ran(store, G, "y", holds=A_CALL, uses=[use(ONE, 1)])
        forget(store, "one")
        assert (found(store, G).invalid, found(store, G).payload) == (1, b"y")
        assert is_stale(store, BELOW_ONE)

    def test_what_began_before_it_was_forgotten_is_committed_invalid(self, store: Store) -> None:
        began = store.find(Began())
        forget(store, "f")
        forget(store, node=G)
        assert [one(store.write([commit(at, "x", began=began)])).invalid for at in (F, G, H)] == [True, True, False]

    @pytest.mark.parametrize("size", [1, 100_000])
    def test_of_what_was_forgotten_while_it_ran_no_contents_are_stored(self, store: Store, size: int) -> None:
        began = store.find(Began())
        forget(store, "f")
        reads = [Read("store", "k", None), Read("answer", "", None)]
        answer = one(store.write([commit(F, "x" * size, began=began, reads=reads)]))
        assert answer == Committed(1, invalid=True, forgotten=True)
        last = found(store, F)
        assert (last.payload, last.invalid, last.not_replayable) == (None, 1, FORGOTTEN)
        assert last.artifact == digest("x" * size)
        assert store.find(PayloadOf(1)) is None
        assert list(store.find(ReadsOf(1))) == [Read("answer", "", None)]
        assert dict(store.find(CodeOf(F.code.fingerprint))) == {}
        # What began since is another matter.
        assert not one(store.write([commit(F, "x" * size, began=store.find(Began()))])).invalid
        assert payload_of(store, 2) == b"x" * size
        assert dict(store.find(CodeOf(F.code.fingerprint))) == {"f": digest("part", "f")}

    def test_what_failed_and_was_forgotten_while_it_ran_leaves_no_text(self, store: Store) -> None:
        began = store.find(Began())
        forget(store, node=F)
        assert one(store.write([fail(F, error="no", began=began)])) == Committed(1, invalid=True, forgotten=True)
        assert (found(store, F).not_replayable, found(store, F).invalid) == (FORGOTTEN, 1)
        assert forget(store, "f").size == len(FORGOTTEN)
        invalidate(store, "g")
        assert one(store.write([fail(G, began=began)])) == Committed(2, invalid=False)

    def test_an_effect_that_was_forgotten_while_it_ran_is_done_without_a_result(self, store: Store) -> None:
        (began,) = store.write([intent("send", "me")])
        forget(store, "send")
        store.write([commit(EFFECT, "sent", began=began, holds=AN_EFFECT, effect=done(EFFECT))])
        row = self.effect(store)
        assert (row.outcome, row.found and row.found.payload) == ("done", None)

    def test_a_forgotten_effect_stays_done_without_a_result(self, store: Store) -> None:
        store.write([intent("send", "me"), commit(EFFECT, "sent", holds=AN_EFFECT, effect=done(EFFECT))])
        forget(store, "send")
        row = self.effect(store)
        assert (row.outcome, row.found and row.found.payload) == ("done", None)

    def test_several_nodes_are_forgotten_at_once(self, store: Store) -> None:
        for number, at in enumerate((F, G, H)):
            ran(store, at, f"x{number}")
        assert one(store.write([Forget("default", nodes=[F.keys.node, H.keys.node])]))[:3] == (2, 0, 4)
        assert [found(store, at).payload for at in (F, G, H)] == [None, b"x1", None]

    def test_code_goes_with_the_last_of_its_executions_that_is_not_forgotten(self, store: Store) -> None:
        ran(store, BELOW_ONE, "x")
        ran(store, BELOW_TWO, "y")
        ran(store, F, "x")
        code = BELOW_ONE.code.fingerprint
        assert code == BELOW_TWO.code.fingerprint
        forget(store, node=BELOW_ONE)
        assert dict(store.find(CodeOf(code))) == {"child": digest("part", "child")}
        forget(store, node=BELOW_TWO)
        assert dict(store.find(CodeOf(code))) == {}
        assert dict(store.find(CodeOf(F.code.fingerprint))) == {"f": digest("part", "f")}
        # Whoever runs it again has it again.
        ran(store, BELOW_TWO, "y")
        assert dict(store.find(CodeOf(code))) == {"child": digest("part", "child")}

    # -- pruning -------------------------------------------------------------------------------------------------------
    def test_what_is_retired_and_dismissed_is_invalid_but_for_effects(self, store: Store) -> None:
        ran(store, F, "x")
        ran(store, EFFECT, "sent", holds=AN_EFFECT)
        ran(store, G, "y", uses=[use(F, 1)])
        assert store.write([Retire([1, 2], b"prune"), Retire([], b"prune")]) == [1, 0]
        assert [found(store, at).invalid for at in (F, EFFECT, G)] == [0, 0, 0]
        store.write([Dismiss([1, 2], b"another"), Dismiss([3], b"prune")])
        assert [found(store, at).invalid for at in (F, EFFECT, G)] == [0, 0, 0]
        store.write([Dismiss([1, 2], b"prune")])
        assert [found(store, at).invalid for at in (F, EFFECT, G)] == [1, 0, 0]
        assert not pointed(store, F, 1)
        assert one(store.write([Retire([1, 3], b"prune")])) == 1

    def test_what_is_retired_is_not_settled_until_somebody_points_at_it(self, store: Store) -> None:
        ran(store, BELOW_ONE, "x")
        pointed(store, BELOW_TWO, 1)
        store.write([Retire([1], b"prune")])
        assert [found(store, at).settled for at in (BELOW_ONE, BELOW_TWO)] == [0, 0]
        assert [each.settled for each in others(store, BELOW_ONE)] == [0]
        assert pointed(store, BELOW_ONE, 1)
        assert found(store, BELOW_ONE).settled == 1
        store.write([Dismiss([1], b"prune")])
        assert found(store, BELOW_ONE).invalid == 0

    @pytest.mark.parametrize("fails", [False, True])
    def test_what_used_something_retired_is_valid_and_that_stays(self, store: Store, fails: bool) -> None:
        ran(store, F, "x")
        ran(store, G, "y", holds=A_CALL, uses=[use(F, 1)])
        store.write([Retire([2, 1], b"prune")])
        more: dict[str, Any] = {"uses": [use(G, 2)]}
        change = fail(H, **more) if fails else commit(H, "z", holds=A_CALL, **more)
        assert not one(store.write([change])).invalid
        store.write([Dismiss([1, 2], b"prune")])
        # With what that was built on.
        assert [found(store, at).invalid for at in (F, G, H)] == [0, 0, 0]
        assert prune(store, [1, 2]).executions == 0

    def test_what_was_retired_and_invalidated_is_invalid_to_whoever_used_it(self, store: Store) -> None:
        ran(store, F, "x")
        store.write([Retire([1], b"prune")])
        invalidate(store, "f")
        assert not pointed(store, F, 1)
        assert self.outer(store, use(F, 1))

    def test_what_was_dismissed_is_invalid_to_whoever_used_it(self, store: Store) -> None:
        ran(store, F, "x")
        retired(store, [1])
        assert self.outer(store, use(F, 1))

    def test_what_is_replaced_while_it_is_retired_makes_its_callers_invalid(self, store: Store) -> None:
        ran(store, F, "x")
        ran(store, G, "y", holds=A_CALL, uses=[use(F, 1)])
        store.write([Retire([2, 1], b"prune")])
        ran(store, F, "other")
        assert is_invalid(store, G, 2)

    def test_an_older_one_is_not_kept_without_those_that_came_after_it(self, store: Store) -> None:
        for at in (BELOW_ONE, BELOW_TWO, ELSEWHERE, place("child")):
            ran(store, at, "x")
        store.write([Retire([4, 3, 2, 1], b"prune")])
        assert pointed(store, BELOW_TWO, 2)
        store.write([Dismiss([1, 2, 3, 4], b"prune")])
        invalid = [each.execution for each in others(store, BELOW_ONE, across=True) if each.invalid]
        assert invalid == [1]

    def test_only_what_is_invalid_is_pruned_and_never_the_newest(self, store: Store) -> None:
        for at in (F, G, H):
            ran(store, at, "x")
        assert prune(store, [1, 2, 3]).executions == 0
        assert retired(store, [1, 2, 3]).executions == 2
        assert store.newest(F.keys, "default") is None
        assert found(store, H).execution == 3
        assert store.find(Began()).executions == 3
        assert ran(store, F, "y") == 4

    def test_what_is_called_by_what_stays_is_not_pruned(self, store: Store) -> None:
        ran(store, F, "x")
        ran(store, G, "y", holds=A_CALL, uses=[use(F, 1)])
        ran(store, H, "z")
        assert retired(store, [1]).executions == 0
        assert retired(store, [1, 2]).executions == 2

    def test_what_an_effect_names_is_not_pruned(self, store: Store) -> None:
        store.write([intent("send", "me"), fail(EFFECT, effect=done(EFFECT, "unknown"))])
        ran(store, F, "x")
        assert retired(store, [1]).executions == 0

    def test_a_node_is_pruned_when_nothing_ran_there_or_hangs_on_it(self, store: Store) -> None:
        ran(store, ONE, "same")
        ran(store, BELOW_ONE, "x")
        ran(store, G, "y", uses=[use(BELOW_ONE, 2)])
        ran(store, H, "z")
        every = [BELOW_ONE, ONE, G]
        assert prune(store, nodes=every).nodes == 0
        retired(store, [1])
        assert prune(store, nodes=every).nodes == 0, "its child is there"
        retired(store, [3, 2])
        assert prune(store, nodes=every).nodes == 3
        assert list(store.find(Neighbours("default", "child", None, 9))) == []

    def test_a_node_that_points_at_something_valid_is_not_pruned(self, store: Store) -> None:
        ran(store, BELOW_ONE, "x")
        pointed(store, BELOW_TWO, 1)
        ran(store, H, "z")
        assert prune(store, nodes=[BELOW_TWO]).nodes == 0
        store.write([Retire([1], b"prune")])
        assert prune(store, nodes=[BELOW_TWO]).nodes == 0
        store.write([Dismiss([1], b"prune")])
        assert prune(store, nodes=[BELOW_TWO]).nodes == 1

    def test_a_node_that_was_invalidated_is_not_pruned(self, store: Store) -> None:
        ran(store, F, "x")
        ran(store, H, "z")
        invalidate(store, node=F)
        retired(store, [1])
        began = store.find(Began())._replace(invalidations=0)
        assert prune(store, nodes=[F]).nodes == 0
        assert list(store.find(Neighbours("default", "f", None, 9))) == []
        assert one(store.write([commit(F, "x", began=began)])).invalid

    def test_a_pruned_node_comes_again_as_itself(self, store: Store) -> None:
        ran(store, F, "x")
        ran(store, BELOW_ONE, "x")
        ran(store, H, "z")
        retired(store, [1, 2])
        for at in (F, BELOW_ONE):
            ran(store, at, "y")
            assert (found(store, at).producer, found(store, at).settled) == (at.keys.node, 1)
        assert len(store.find(Neighbours("default", "f", None, 9))) == 1

    def test_what_pointed_at_something_pruned_is_answered_again(self, store: Store) -> None:
        ran(store, BELOW_ONE, "x")
        ran(store, BELOW_TWO, "x")
        pointed(store, BELOW_ONE, 2)
        ran(store, place("grandchild", [parent(BELOW_ONE, "x")]), "y")
        retired(store, [2])
        assert ran(store, BELOW_ONE, "x") == 4
        assert found(store, BELOW_ONE).settled == 1
        assert is_stale(store, place("grandchild", [parent(BELOW_ONE, "x")]))
        store.write([Tidy()])

    def test_code_that_no_node_has_is_tidied_away_until_it_comes_again(self, store: Store) -> None:
        ran(store, F, "x")
        ran(store, G, "x")
        retired(store, [1])
        prune(store, nodes=[F])
        store.write([Tidy()])
        assert dict(store.find(CodeOf(F.code.fingerprint))) == {}
        assert dict(store.find(CodeOf(G.code.fingerprint))) == {"g": digest("part", "g")}
        ran(store, F, "x")
        assert dict(store.find(CodeOf(F.code.fingerprint))) == {"f": digest("part", "f")}

    def test_runs_are_pruned_with_their_calls(self, store: Store) -> None:
        line = CallLine(b"run", 1, None, "f", F.keys.node, 1, "ran", "X", 1.0, 1.0, 0.0, 0, 0)
        ran(store, F, "x")
        store.write([Ledger("default", [RunLine(b"run", "name", None, 1.0, 2.0, "finished")], [line])])
        assert prune(store, runs=[b"run"]).runs == 1
        assert forget(store, run=b"run").executions == 0

    def test_single_calls_are_pruned(self, store: Store) -> None:
        ran(store, F, "x")
        ran(store, G, "y")
        calls = [
            CallLine(b"run", number, None, "f", at.keys.node, number, "ran", "X", 1.0, 1.0, 0.0, 0, 0)
            for number, at in enumerate((F, G), 1)
        ]
        store.write([Ledger("default", [], calls)])
        prune(store, calls=[(b"run", 1)])
        assert forget(store, run=b"run").executions == 1
        assert found(store, F).payload == b"x"

    # -- leases --------------------------------------------------------------------------------------------------------
    def test_a_missing_result_is_claimed_by_one(self, store: Store) -> None:
        assert one(store.write([claim(F, "me")])) == Claimed(0, 0)
        assert isinstance(one(store.write([claim(F, "you")])), Busy)
        assert isinstance(one(store.write([claim(F, "me")])), Busy)
        assert one(store.write([claim(G, "you")])) == Claimed(0, 0)

    def test_a_claim_tells_the_moment(self, store: Store) -> None:
        ran(store, F, "x")
        invalidate(store, "f")
        assert one(store.write([claim(G, "me")])) == Claimed(1, 1)

    def test_a_claim_is_done_if_there_is_something_newer(self, store: Store) -> None:
        ran(store, BELOW_TWO, "x")
        assert one(store.write([claim(BELOW_ONE, "me")])) == Done()
        assert one(store.write([claim(BELOW_ONE, "me", seen=1)])) == Claimed(1, 0)
        failed(store, BELOW_TWO)
        assert one(store.write([claim(BELOW_ONE, "you", seen=1)])) == Done()
        assert isinstance(one(store.write([claim(BELOW_ONE, "you", seen=2)])), Busy)

    def test_a_claim_across_is_done_if_there_is_something_newer_across(self, store: Store) -> None:
        for other in (ELSEWHERE, place("child")):
            e = ran(store, other, "x")
            key = {"key": BELOW_ONE.keys.cross, "seen": e - 1}
            assert one(store.write([claim(BELOW_ONE, "me", **key, across=True)])) == Done()
            assert one(store.write([claim(BELOW_ONE, "me", **{**key, "seen": e}, across=True)])) == Claimed(e, 0)
            store.write([Release((BELOW_ONE.keys.cross, b"me"))])
            assert one(store.write([claim(BELOW_ONE, "me", **key)])) == Claimed(e, 0)
            store.write([Release((BELOW_ONE.keys.cross, b"me"))])

    def test_a_success_and_a_failure_end_the_lease_of_their_owner(self, store: Store) -> None:
        for change in (commit(F, "x", lease=(F.keys.reuse, b"me")), fail(F, lease=(F.keys.reuse, b"me"))):
            store.write([claim(F, "me", seen=9), change])
            assert isinstance(one(store.write([claim(F, "you", seen=9)])), Claimed)
            store.write([change])
            assert isinstance(one(store.write([claim(F, "me", seen=9)])), Busy)
            store.write([Release((F.keys.reuse, b"you"))])

    def test_a_lease_is_released_by_its_owner_alone(self, store: Store) -> None:
        store.write([claim(F, "me")])
        assert store.write([Release((F.keys.reuse, b"you")), Release((G.keys.reuse, b"me"))]) == [None, None]
        assert isinstance(one(store.write([claim(F, "you")])), Busy)
        store.write([Release((F.keys.reuse, b"me"))])
        assert one(store.write([claim(F, "you")])) == Claimed(0, 0)

    def test_of_many_threads_one_claims(self, store: Store) -> None:
        with ThreadPoolExecutor(8) as threads:
            answers = [a for [a] in threads.map(lambda i: store.write([claim(F, f"worker {i}")]), range(24))]
        assert sum(isinstance(a, Claimed) for a in answers) == 1
        assert sum(isinstance(a, Busy) for a in answers) == 23

    # -- waits ---------------------------------------------------------------------------------------------------------
    OWNERS: ClassVar = {"f": "me", "g": "you", "h": "she"}

    def wait(self, store: Store, held: Place, awaited: Place | None, owner: str | None = None) -> bool:
        by, key = (owner or self.OWNERS[held.operation]).encode(), awaited.keys.reuse if awaited else None
        closes: bool = one(store.write([Waits([held.keys.reuse], by, key, time.time())]))
        return closes

    def hold(self, store: Store, *held: tuple[Place, str]) -> None:
        """Claims, made visible to other processes."""
        for at, owner in held:
            store.write([claim(at, owner), Renew(holder(owner), [(at.keys.reuse, at.operation)], time.time())])

    def test_waits_that_lead_back_close_a_cycle(self, store: Store) -> None:
        self.hold(store, (F, "me"), (G, "you"), (H, "she"))
        assert not self.wait(store, F, G)
        assert not self.wait(store, G, H)
        assert self.wait(store, H, F)

    def test_waiting_for_a_key_that_is_held_closes_a_cycle(self, store: Store) -> None:
        self.hold(store, (F, "me"))
        assert self.wait(store, F, F)

    def test_each_held_key_waits(self, store: Store) -> None:
        self.hold(store, (F, "me"), (G, "me"), (H, "you"))
        assert not one(store.write([Waits([F.keys.reuse, G.keys.reuse], b"me", H.keys.reuse, 10.0)]))
        assert self.wait(store, H, F)
        assert self.wait(store, H, G)

    def test_waits_of_a_key_without_a_lease_lead_nowhere(self, store: Store) -> None:
        self.hold(store, (G, "you"))
        self.wait(store, F, G)
        assert not self.wait(store, G, F)

    def test_a_wait_ends_with_the_lease_of_whoever_waits(self, store: Store) -> None:
        self.hold(store, (F, "me"), (G, "you"))
        self.wait(store, F, G)
        store.write([Release((F.keys.reuse, b"me"))])
        self.hold(store, (F, "me"))
        assert not self.wait(store, G, F)

    def test_a_wait_is_ended_by_its_owner_alone(self, store: Store) -> None:
        self.hold(store, (F, "me"), (G, "you"))
        self.wait(store, F, G)
        self.wait(store, F, None, owner="you")
        assert self.wait(store, G, F)

    def test_waits_end(self, store: Store) -> None:
        self.hold(store, (F, "me"), (G, "you"))
        self.wait(store, F, G)
        assert not self.wait(store, F, None)
        assert not self.wait(store, G, F)

    def test_a_later_wait_takes_the_place_of_an_earlier(self, store: Store) -> None:
        self.hold(store, (F, "me"), (G, "you"), (H, "she"))
        self.wait(store, F, G)
        self.wait(store, F, H)
        assert not self.wait(store, G, F)
        assert self.wait(store, H, F)

    def test_a_cycle_that_is_not_ones_own_ends(self, store: Store) -> None:
        self.hold(store, (F, "me"), (G, "you"), (H, "she"))
        self.wait(store, F, G)
        self.wait(store, G, F)
        assert not self.wait(store, H, F)

    # -- external effects ----------------------------------------------------------------------------------------------
    def effect(self, store: Store) -> Any:
        row = store.find(EffectQuery(digest("send"), EFFECT.keys, "default"))
        return row and row._replace(holder=row.holder and steady(row.holder))

    def test_an_intent_is_known_with_its_holder(self, store: Store) -> None:
        ran(store, F, "x")
        assert one(store.write([intent("send", "me")])) == Claimed(1, 0)
        assert self.effect(store) == EffectRow(1, 0, None, held("me"), None)

    def test_an_attempt_that_was_made_already_is_done(self, store: Store) -> None:
        store.write([intent("send", "me", 2)])
        for attempt in (1, 2):
            assert one(store.write([intent("send", "you", attempt)])) == Done()
            assert one(store.write([intent("send", "me", attempt)])) == Done()
        assert self.effect(store) == EffectRow(2, 0, None, held("me"), None)

    def test_an_intent_is_busy_while_another_holds_the_lease(self, store: Store) -> None:
        store.write([intent("send", "me")])
        assert one(store.write([intent("send", "you", 2)])) == Busy(held("me"))
        assert self.effect(store) == EffectRow(1, 0, None, held("me"), None)
        assert one(store.write([intent("send", "me", 2, holder=holder("me", SHORT))])) == Claimed(0, 0)
        time.sleep(LONGER)
        assert one(store.write([intent("send", "you", 3)])) == Claimed(0, 0)
        assert self.effect(store) == EffectRow(3, 0, None, held("you"), None)

    def test_a_done_effect_is_found_with_its_payload(self, store: Store) -> None:
        store.write([intent("send", "me")])
        lease = (digest("send"), b"me")
        store.write([commit(EFFECT, "sent", holds=AN_EFFECT, effect=done(EFFECT), lease=lease)])
        ran(store, EFFECT, "later")
        row = self.effect(store)
        assert row[:4] == (1, 1, "done", None)
        assert (row.found.execution, row.found.payload, row.found.holds) == (1, b"sent", AN_EFFECT)
        assert store.find(EffectQuery(digest("send"), F.keys, "default")).found == row.found._replace(settled=0)

    def test_an_effect_that_failed_or_is_unknown_or_withdrawn_is_known_as_such(self, store: Store) -> None:
        store.write([intent("send", "me"), fail(EFFECT, effect=done(EFFECT, "failed"))])
        assert self.effect(store) == EffectRow(1, 1, "failed", held("me"), None)
        store.write([intent("send", "me", 2), fail(EFFECT, effect=done(EFFECT, "unknown", 2))])
        assert self.effect(store) == EffectRow(2, 1, "unknown", held("me"), None)
        store.write([intent("send", "me", 3), fail(EFFECT, effect=done(EFFECT, "withdrawn", 3))])
        assert self.effect(store) == EffectRow(3, 1, "withdrawn", held("me"), None)
        store.write([intent("send", "me", 4)])
        assert self.effect(store) == EffectRow(4, 1, None, held("me"), None)

    def test_what_became_of_an_earlier_attempt_says_nothing_of_the_present_one(self, store: Store) -> None:
        store.write([intent("send", "me"), intent("send", "me", 2), commit(EFFECT, "sent", effect=done(EFFECT))])
        assert self.effect(store) == EffectRow(2, 0, None, held("me"), None)

    def test_what_became_of_an_attempt_is_known_though_its_intent_was_lost(self, store: Store) -> None:
        """As with a server that crashed and had not kept it."""
        store.write([commit(EFFECT, "sent", holds=AN_EFFECT, effect=done(EFFECT))])
        row = self.effect(store)
        assert (row.attempt, row.settled_attempts, row.outcome, row.found.payload) == (1, 1, "done", b"sent")
        store.write([fail(EFFECT, effect=done(EFFECT, "unknown", 3))])
        assert self.effect(store)[:3] == (3, 1, "unknown")

    def test_an_effect_that_is_invalidated_may_run_again(self, store: Store) -> None:
        store.write([intent("send", "me"), commit(EFFECT, "sent", holds=AN_EFFECT, effect=done(EFFECT))])
        invalidate(store, "send")
        assert self.effect(store) == EffectRow(1, 1, "failed", held("me"), None)

    def test_an_effect_that_called_what_is_invalidated_may_not(self, store: Store) -> None:
        uses = [use(F, ran(store, F, "x"))]
        store.write([intent("send", "me"), commit(EFFECT, "sent", holds=AN_EFFECT, effect=done(EFFECT), uses=uses)])
        invalidate(store, "f")
        assert self.effect(store).outcome == "done"

    def test_an_attempt_that_runs_while_it_is_invalidated_may_not_run_again(self, store: Store) -> None:
        store.write([intent("send", "me"), fail(EFFECT, effect=done(EFFECT, "failed")), intent("send", "me", 2)])
        invalidate(store, "send")
        assert self.effect(store) == EffectRow(2, 1, None, held("me"), None)

    # -- writing -------------------------------------------------------------------------------------------------------
    def test_changes_are_made_and_answered_in_order(self, store: Store) -> None:
        answers = store.write(
            [claim(F, "me"), commit(F, "x"), Point(F, 1, 100.0), claim(F, "you"), Invalidate("default", "f", None)]
        )
        assert answers == [Claimed(0, 0), Committed(1, False), True, Done(), 1]
        assert store.write([]) == []

    def test_what_was_built_on_something_that_was_pruned_meanwhile_is_invalid(self, store: Store) -> None:
        ran(store, F, "x")
        ran(store, G, "y")
        began = store.find(Began())
        store.write([Retire([1], b"prune"), Dismiss([1], b"prune")])
        assert one(store.write([Prune(2, executions=[1])])).executions == 1
        assert one(store.write([commit(H, "z", uses=[use(F, 1)], began=began)])) == Committed(3, invalid=True)
        # What an effect did stays done, and what failed has failed.
        sent = commit(EFFECT, "sent", uses=[use(F, 1)], began=began, holds=AN_EFFECT)
        assert one(store.write([sent])) == Committed(4, invalid=False)
        assert one(store.write([fail(H, uses=[use(F, 1)])])) == Committed(5, invalid=False)

    def test_a_write_that_raises_has_changed_nothing(self, store: Store) -> None:
        before = ran(store, F, "x")
        store.write([claim(G, "me")])
        changes: list[Change] = [
            commit(H, "z"),
            commit(F, "y"),
            Release((G.keys.reuse, b"me")),
            intent("send", "me"),
        ]
        with pytest.raises(StoreError):
            store.write([*changes, Invalidate("default", "f", None), commit(G, "x", uses=[use(F, 70)])])
        assert found(store, F) == found(store, F)._replace(execution=before, invalid=0, settled=1)
        assert store.newest(H.keys, "default") is None
        assert isinstance(one(store.write([claim(G, "you")])), Busy)
        assert self.effect(store) is None
        assert store.find(Began()) == Claimed(1, 0)
        # Also not in what a store may remember of names.
        assert ran(store, H, "z") == 2

    def test_a_ledger_is_taken_and_taken_again(self, store: Store) -> None:
        run = RunLine(digest("run"), "name", None, 1.0, None, "running")
        call = CallLine(digest("run"), 1, None, "f", F.keys.node, None, "ran", "node not found", 1.0, 2.0, 0.0, 0, 5)
        assert store.write([Ledger("default", [run], [call])]) == [None]
        assert store.write(
            [Ledger("default", [run._replace(finished_at=2.0, status="done")], [call._replace(call=2)])]
        ) == [None]

    def test_reads_go_on_while_others_write(self, store: Store) -> None:
        ran(store, F, "x")

        def work(worker: int) -> bool:
            for turn in range(60):
                ran(store, place("f", argument=f"{worker} {turn}"), "y")
                if found(store, F).payload != b"x":
                    return False
            return True

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(4) as threads:
                assert all(threads.map(work, range(4)))
        finally:
            sys.setswitchinterval(interval)
        assert store.find(Began()).executions == 241

    def test_closing_twice_does_nothing(self, store: Store) -> None:
        store.close()
        store.close()
        with pytest.raises(StoreError):
            store.write([commit(F, "x")])
        with pytest.raises(StoreError):
            store.newest(F.keys, "default")


class LeaseConformance(StoreConformance):
    """For a store that claims by leases, which run out."""

    def test_a_lease_that_ran_out_is_taken(self, store: Store) -> None:
        store.write([claim(F, "me", holder=holder("me", SHORT))])
        assert isinstance(one(store.write([claim(F, "you")])), Busy)
        time.sleep(LONGER)
        assert one(store.write([claim(F, "you", holder=holder("you", 30.0))])) == Claimed(0, 0)
        assert one(store.write([claim(F, "me")])) == Busy(held("you", 30))

    def test_the_lease_of_a_dead_holder_is_taken_and_of_no_other(self, store: Store) -> None:
        store.write([claim(F, "me")])
        assert one(store.write([claim(F, "you", over=b"she")])) == Busy(held("me"))
        assert one(store.write([claim(F, "you", over=b"me")])) == Claimed(0, 0)

    def test_leases_are_renewed_that_are_not_held_by_another(self, store: Store) -> None:
        store.write([claim(F, "me", holder=holder("me", SHORT)), claim(G, "you", holder=holder("you", SHORT))])
        later, keys = holder("me", 50.0), [(at.keys.reuse, at.operation) for at in (F, G, H)]
        assert store.write([Renew(later, keys, time.time())]) == [None]
        assert one(store.write([claim(G, "she")])) == Busy(held("you", 0))
        time.sleep(LONGER)
        assert one(store.write([claim(F, "she")])) == Busy(held("me", 50))
        assert one(store.write([claim(H, "she")])) == Busy(held("me", 50))
        store.write([Renew(later, keys, time.time())])
        assert one(store.write([claim(G, "she")])) == Busy(held("me", 50))

    def test_the_holder_of_a_lease_is_known(self, store: Store) -> None:
        store.write([claim(F, "me")])
        assert steady(store.find(HolderOf(F.keys.reuse))) == held("me")
        assert store.find(HolderOf(G.keys.reuse)) is None

    def test_whoever_takes_a_lease_over_does_not_wait_for_what_the_former_holder_did(self, store: Store) -> None:
        self.hold(store, (F, "me"), (G, "you"))
        self.wait(store, F, G)
        store.write([claim(F, "she", over=b"me"), Renew(holder("she"), [(F.keys.reuse, F.operation)], time.time())])
        assert not self.wait(store, G, F)
        self.wait(store, F, None, owner="me")
        assert not self.wait(store, F, H, owner="me")
        assert not self.wait(store, H, F)

    def test_waits_of_a_lease_that_ran_out_lead_nowhere(self, store: Store) -> None:
        store.write([claim(F, "me", holder=holder("me", SHORT)), claim(G, "you", holder=holder("you", 30.0))])
        self.wait(store, F, G)
        assert self.wait(store, G, F)
        time.sleep(LONGER)
        assert not self.wait(store, G, F)


class DistantConformance(StoreConformance):
    """For a store that gives what there is, or the right to compute it, in one answer."""

    def ask(self, store: Store, asked: Claim) -> Found | Claimed | None:
        assert isinstance(store, Distant)
        return store.newest_or_claim(asked, "default")

    def test_what_nobody_has_recorded_is_claimed_with_the_moment(self, store: Store) -> None:
        ran(store, G, "y")
        invalidate(store, "g")
        assert self.ask(store, claim(F, "me")) == Claimed(1, 1)
        assert steady(store.find(HolderOf(F.keys.reuse))) == held("me")
        assert one(store.write([commit(F, "x", lease=(F.keys.reuse, b"me"))])) == Committed(2, invalid=False)
        assert store.find(HolderOf(F.keys.reuse)) is None

    def test_what_there_is_is_found_and_not_claimed(self, store: Store) -> None:
        ran(store, BELOW_ONE, "x")
        failed(store, F)
        pointed(store, BELOW_TWO, 1)
        for at in (BELOW_ONE, BELOW_TWO, F):
            assert self.ask(store, claim(at, "me")) == found(store, at)
            assert store.find(HolderOf(at.keys.reuse)) is None
        invalidate(store, "child")
        assert self.ask(store, claim(BELOW_ONE, "me")) == found(store, BELOW_ONE)

    def test_what_somebody_holds_is_neither_found_nor_claimed(self, store: Store) -> None:
        store.write([claim(F, "you"), claim(G, "you", holder=holder("you", SHORT))])
        time.sleep(LONGER)
        for at in (F, G):
            assert self.ask(store, claim(at, "me")) is None
            assert self.ask(store, claim(at, "me", over=b"you")) is None
        assert steady(store.find(HolderOf(F.keys.reuse))) == held("you")

    def test_what_there_is_across_is_not_claimed(self, store: Store) -> None:
        for other in (ELSEWHERE, place("child")):
            ran(store, other, "x")
            across = {"key": BELOW_ONE.keys.cross, "across": True}
            assert self.ask(store, claim(BELOW_ONE, "me", **across)) is None
            assert store.find(HolderOf(BELOW_ONE.keys.cross)) is None
        assert isinstance(self.ask(store, claim(BELOW_ONE, "me")), Claimed)

    def test_nothing_comes_between_the_look_and_the_claim(self, store: Store) -> None:
        """Others ask again and again while one result after the other is claimed and recorded."""
        places = [place("f", argument=f"{number}") for number in range(60)]

        def worker(name: str) -> list[int]:
            ran_here = []
            for number, at in enumerate(places):
                while not isinstance(answer := self.ask(store, claim(at, name)), Found):
                    if isinstance(answer, Claimed):
                        ran_here.append(number)
                        store.write([commit(at, "x", lease=(at.keys.reuse, name.encode()))])
            return ran_here

        with ThreadPoolExecutor(4) as threads:
            numbers = [number for some in threads.map(worker, ["a", "b", "c", "d"]) for number in some]
        assert sorted(numbers) == list(range(60))


class PersistentStoreConformance(StoreConformance):
    """For a store that is still there when it is opened again."""

    def test_what_was_written_is_there_when_it_is_opened_again(self, store: Store, tmp_path: Path) -> None:
        ran(store, BELOW_ONE, "x", reads=[Read("store", "k", None)])
        pointed(store, BELOW_TWO, 1)
        store.write([claim(F, "me"), intent("send", "me")])
        invalidate(store, "g")
        before = found(store, BELOW_TWO)
        store.close()
        again = self.open_store(tmp_path)
        try:
            assert found(again, BELOW_TWO) == before
            assert list(again.find(ReadsOf(1))) == [Read("store", "k", None)]
            assert isinstance(one(again.write([claim(F, "you")])), Busy)
            assert self.effect(again) == EffectRow(1, 0, None, held("me"), None)
            assert again.find(Began()) == Claimed(1, 1)
        finally:
            again.close()

    def test_two_that_are_open_at_once_see_each_others_writes(self, store: Store, tmp_path: Path) -> None:
        other = self.open_store(tmp_path)
        try:
            assert other.newest(F.keys, "default") is None
            ran(store, F, "x")
            assert found(other, F).payload == b"x"
            assert one(store.write([claim(G, "me")])) == Claimed(1, 0)
            assert isinstance(one(other.write([claim(G, "you")])), Busy)
            invalidate(other, "f")
            assert found(store, F).invalid == 1
        finally:
            other.close()
