"""The tests that every store passes.

Derive a class from them in a module of your tests::

    class TestMine(StoreConformance):
        def open_store(self, directory):
            return MyStore(directory / "mine.db")

`StoreConformance` has a test for each rule of a store, named after the rule. Three suites add rules:

- `PersistentStoreConformance` is for a store that outlives its process. It tests a store that is opened again, so
  `open_store` must open the same store for the same directory.
- `LeaseConformance` is for a store whose claims are leases.
- `DistantConformance` is for a store that returns a result, or the right to compute it, in one answer
  (`SupportsFetchOrClaim`).

The tests use a store by its protocol alone. They tell an INVALID execution or a STALE node by the store's answers.
They do not test what readers alone see: inputs, tags of runs, and the sizes of what a prune removes. The repository
states the rules in plain Python, too: `tests/reference/rules.py`.

A store that passes serves steps. `musubito.lineage`, the command and the page read a store by SQL (`Readable`). For a
store without it they raise TypeError.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from musubito.store.changes import Claim, Committed, LeaseHeld, Moment, Renew
from musubito.store.protocol import Store, SupportsFetchOrClaim
from musubito.store.queries import CurrentMoment, LeaseOwnerOf, ReadsOf
from musubito.store.rows import Candidate, EffectRow, ExternalRead
from musubito.testing.changes import claim, commit, failed, found, held, holder, intent, place, pointed, ran, steady
from musubito.testing.conformance.answers import AnswerRules
from musubito.testing.conformance.claims import ClaimRules
from musubito.testing.conformance.edits import EditRules
from musubito.testing.conformance.removal import RemovalRules
from musubito.testing.conformance.rules import BELOW_ONE, BELOW_TWO, ELSEWHERE, LONGER, SHORT, F, G, H, invalidate, one
from musubito.testing.conformance.validity import ValidityRules
from musubito.testing.conformance.writing import WritingRules

__all__ = ["DistantConformance", "LeaseConformance", "PersistentStoreConformance", "StoreConformance"]


class StoreConformance(AnswerRules, ValidityRules, RemovalRules, EditRules, ClaimRules, WritingRules):
    """The tests of every store. A subclass defines `open_store`, which opens a fresh store."""


class LeaseConformance(StoreConformance):
    """The tests of a store that claims by leases, which run out."""

    def test_a_lease_that_ran_out_is_taken(self, store: Store) -> None:
        store.write([claim(F, "me", holder=holder("me", SHORT))])
        assert isinstance(one(store.write([claim(F, "you")])), LeaseHeld)
        time.sleep(LONGER)
        assert one(store.write([claim(F, "you", holder=holder("you", 30.0))])) == Moment(0, 0)
        assert one(store.write([claim(F, "me")])) == LeaseHeld(held("you", 30))

    def test_the_lease_of_a_dead_holder_is_taken_and_of_no_other(self, store: Store) -> None:
        store.write([claim(F, "me")])
        assert one(store.write([claim(F, "you", over=b"she")])) == LeaseHeld(held("me"))
        assert one(store.write([claim(F, "you", over=b"me")])) == Moment(0, 0)

    def test_leases_are_renewed_that_are_not_held_by_another(self, store: Store) -> None:
        store.write([claim(F, "me", holder=holder("me", SHORT)), claim(G, "you", holder=holder("you", SHORT))])
        later, keys = holder("me", 50.0), [(at.keys.reuse, at.operation) for at in (F, G, H)]
        assert store.write([Renew(later, keys, time.time())]) == [None]
        assert one(store.write([claim(G, "she")])) == LeaseHeld(held("you", 0))
        time.sleep(LONGER)
        assert one(store.write([claim(F, "she")])) == LeaseHeld(held("me", 50))
        assert one(store.write([claim(H, "she")])) == LeaseHeld(held("me", 50))
        store.write([Renew(later, keys, time.time())])
        assert one(store.write([claim(G, "she")])) == LeaseHeld(held("me", 50))

    def test_the_holder_of_a_lease_is_known(self, store: Store) -> None:
        store.write([claim(F, "me")])
        assert steady(store.find(LeaseOwnerOf(F.keys.reuse))) == held("me")
        assert store.find(LeaseOwnerOf(G.keys.reuse)) is None

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
    """The tests of a store that returns a stored result, or the right to compute it, in one answer."""

    def ask(self, store: Store, asked: Claim) -> Candidate | Moment | None:
        assert isinstance(store, SupportsFetchOrClaim)
        return store.newest_or_claim(asked, "default")

    def test_what_nobody_has_recorded_is_claimed_with_the_moment(self, store: Store) -> None:
        ran(store, G, "y")
        invalidate(store, "g")
        assert self.ask(store, claim(F, "me")) == Moment(1, 1)
        assert steady(store.find(LeaseOwnerOf(F.keys.reuse))) == held("me")
        assert one(store.write([commit(F, "x", lease=(F.keys.reuse, b"me"))])) == Committed(2, invalid=False)
        assert store.find(LeaseOwnerOf(F.keys.reuse)) is None

    def test_what_there_is_is_found_and_not_claimed(self, store: Store) -> None:
        ran(store, BELOW_ONE, "x")
        failed(store, F)
        pointed(store, BELOW_TWO, 1)
        for at in (BELOW_ONE, BELOW_TWO, F):
            assert self.ask(store, claim(at, "me")) == found(store, at)
            assert store.find(LeaseOwnerOf(at.keys.reuse)) is None
        invalidate(store, "child")
        assert self.ask(store, claim(BELOW_ONE, "me")) == found(store, BELOW_ONE)

    def test_what_somebody_holds_is_neither_found_nor_claimed(self, store: Store) -> None:
        store.write([claim(F, "you"), claim(G, "you", holder=holder("you", SHORT))])
        time.sleep(LONGER)
        for at in (F, G):
            assert self.ask(store, claim(at, "me")) is None
            assert self.ask(store, claim(at, "me", over=b"you")) is None
        assert steady(store.find(LeaseOwnerOf(F.keys.reuse))) == held("you")

    def test_what_there_is_across_is_not_claimed(self, store: Store) -> None:
        for other in (ELSEWHERE, place("child")):
            ran(store, other, "x")
            across = {"key": BELOW_ONE.keys.cross, "across": True}
            assert self.ask(store, claim(BELOW_ONE, "me", **across)) is None
            assert store.find(LeaseOwnerOf(BELOW_ONE.keys.cross)) is None
        assert isinstance(self.ask(store, claim(BELOW_ONE, "me")), Moment)

    def test_nothing_comes_between_the_look_and_the_claim(self, store: Store) -> None:
        """Four workers ask again and again while one result after the other is claimed and recorded."""
        places = [place("f", argument=f"{number}") for number in range(60)]

        def worker(name: str) -> list[int]:
            ran_here = []
            for number, at in enumerate(places):
                while not isinstance(answer := self.ask(store, claim(at, name)), Candidate):
                    if isinstance(answer, Moment):
                        ran_here.append(number)
                        store.write([commit(at, "x", lease=(at.keys.reuse, name.encode()))])
            return ran_here

        with ThreadPoolExecutor(4) as threads:
            numbers = [number for some in threads.map(worker, ["a", "b", "c", "d"]) for number in some]
        assert sorted(numbers) == list(range(60))


class PersistentStoreConformance(StoreConformance):
    """The tests of a store that is still there when it is opened again."""

    def test_what_was_written_is_there_when_it_is_opened_again(self, store: Store, tmp_path: Path) -> None:
        ran(store, BELOW_ONE, "x", reads=[ExternalRead("store", "k", None)])
        pointed(store, BELOW_TWO, 1)
        store.write([claim(F, "me"), intent("send", "me")])
        invalidate(store, "g")
        before = found(store, BELOW_TWO)
        store.close()
        again = self.open_store(tmp_path)
        try:
            assert found(again, BELOW_TWO) == before
            assert list(again.find(ReadsOf(1))) == [ExternalRead("store", "k", None)]
            assert isinstance(one(again.write([claim(F, "you")])), LeaseHeld)
            assert self.effect(again) == EffectRow(1, 0, None, held("me"), None)
            assert again.find(CurrentMoment()) == Moment(1, 1)
        finally:
            again.close()

    def test_two_that_are_open_at_once_see_each_others_writes(self, store: Store, tmp_path: Path) -> None:
        other = self.open_store(tmp_path)
        try:
            assert other.newest(F.keys, "default") is None
            ran(store, F, "x")
            assert found(other, F).payload == b"x"
            assert one(store.write([claim(G, "me")])) == Moment(1, 0)
            assert isinstance(one(other.write([claim(G, "you")])), LeaseHeld)
            invalidate(other, "f")
            assert found(store, F).invalid == 1
        finally:
            other.close()
