"""The rules of writing: all changes of a write happen, or none."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from musubito.errors import StoreError
from musubito.store.changes import (
    Change,
    Committed,
    Invalidate,
    InvalidateMarked,
    LeaseHeld,
    MarkForPruning,
    Moment,
    Prune,
    RecordReplay,
    Release,
    Superseded,
)
from musubito.store.protocol import Store
from musubito.store.queries import CurrentMoment
from musubito.store.rows import CallLine, Ledger, RunLine
from musubito.testing.changes import claim, commit, digest, fail, found, intent, place, ran, use
from musubito.testing.conformance.rules import AN_EFFECT, EFFECT, F, G, H, Rules, one


class WritingRules(Rules):
    """The rules of writing: all changes of a write happen, or none."""

    # -- writing -------------------------------------------------------------------------------------------------------
    def test_changes_are_made_and_answered_in_order(self, store: Store) -> None:
        answers = store.write(
            [
                claim(F, "me"),
                commit(F, "x"),
                RecordReplay(F, 1, 100.0),
                claim(F, "you"),
                Invalidate("default", "f", None),
            ]
        )
        assert answers == [Moment(0, 0), Committed(1, False), True, Superseded(), 1]
        assert store.write([]) == []

    def test_what_was_built_on_something_that_was_pruned_meanwhile_is_invalid(self, store: Store) -> None:
        ran(store, F, "x")
        ran(store, G, "y")
        began = store.find(CurrentMoment())
        store.write([MarkForPruning([1], b"prune"), InvalidateMarked([1], b"prune")])
        assert one(store.write([Prune(2, executions=[1])])).executions == 1
        assert one(store.write([commit(H, "z", uses=[use(F, 1)], began=began)])) == Committed(3, invalid=True)
        # An effect stays done, and a failure stays a failure.
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
        assert isinstance(one(store.write([claim(G, "you")])), LeaseHeld)
        assert self.effect(store) is None
        assert store.find(CurrentMoment()) == Moment(1, 0)
        # The numbers of names that a store keeps in memory are rolled back, too.
        assert ran(store, H, "z") == 2

    def test_a_ledger_is_taken_and_taken_again(self, store: Store) -> None:
        run = RunLine(digest("run"), "name", None, 1.0, None, "running")
        call = CallLine(digest("run"), 1, None, "f", F.keys.node, None, "ran", "node not found", 1.0, 2.0, 0.0, 0, 5)
        assert store.write([Ledger("default", [run], [call])]) == [None]
        assert store.write(
            [Ledger("default", [run._replace(finished_at=2.0, status="done")], [call._replace(call=2)])]
        ) == [None]

    def test_the_shape_of_a_graph_comes_with_a_run_or_at_its_end(self, store: Store) -> None:
        for name, shape in (("a", "{}"), ("b", None)):
            run = RunLine(digest(name), name, None, 1.0, None, "open", shape=shape)
            for line in (run, run._replace(finished_at=2.0, shape="{}")):
                assert store.write([Ledger("default", [line], [])]) == [None]

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
        assert store.find(CurrentMoment()).executions == 241

    def test_closing_twice_does_nothing(self, store: Store) -> None:
        store.close()
        store.close()
        with pytest.raises(StoreError):
            store.write([commit(F, "x")])
        with pytest.raises(StoreError):
            store.newest(F.keys, "default")
