"""The rules of claims, of waits, and of effects."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from musubito.store.changes import LeaseHeld, Moment, RegisterWait, Release, Superseded
from musubito.store.protocol import Store
from musubito.store.queries import EffectQuery
from musubito.store.rows import EffectRow
from musubito.testing.changes import claim, commit, digest, fail, failed, held, holder, intent, place, ran, use
from musubito.testing.conformance.rules import (
    AN_EFFECT,
    BELOW_ONE,
    BELOW_TWO,
    EFFECT,
    ELSEWHERE,
    LONGER,
    SHORT,
    F,
    G,
    H,
    Rules,
    done,
    invalidate,
    one,
)


class ClaimRules(Rules):
    """The rules of claims, of waits, and of effects."""

    # -- leases --------------------------------------------------------------------------------------------------------
    def test_a_missing_result_is_claimed_by_one(self, store: Store) -> None:
        assert one(store.write([claim(F, "me")])) == Moment(0, 0)
        assert isinstance(one(store.write([claim(F, "you")])), LeaseHeld)
        assert isinstance(one(store.write([claim(F, "me")])), LeaseHeld)
        assert one(store.write([claim(G, "you")])) == Moment(0, 0)

    def test_a_claim_tells_the_moment(self, store: Store) -> None:
        ran(store, F, "x")
        invalidate(store, "f")
        assert one(store.write([claim(G, "me")])) == Moment(1, 1)

    def test_a_claim_is_done_if_there_is_something_newer(self, store: Store) -> None:
        ran(store, BELOW_TWO, "x")
        assert one(store.write([claim(BELOW_ONE, "me")])) == Superseded()
        assert one(store.write([claim(BELOW_ONE, "me", seen=1)])) == Moment(1, 0)
        failed(store, BELOW_TWO)
        assert one(store.write([claim(BELOW_ONE, "you", seen=1)])) == Superseded()
        assert isinstance(one(store.write([claim(BELOW_ONE, "you", seen=2)])), LeaseHeld)

    def test_a_claim_across_is_done_if_there_is_something_newer_across(self, store: Store) -> None:
        for other in (ELSEWHERE, place("child")):
            e = ran(store, other, "x")
            key = {"key": BELOW_ONE.keys.cross, "seen": e - 1}
            assert one(store.write([claim(BELOW_ONE, "me", **key, across=True)])) == Superseded()
            assert one(store.write([claim(BELOW_ONE, "me", **{**key, "seen": e}, across=True)])) == Moment(e, 0)
            store.write([Release((BELOW_ONE.keys.cross, b"me"))])
            assert one(store.write([claim(BELOW_ONE, "me", **key)])) == Moment(e, 0)
            store.write([Release((BELOW_ONE.keys.cross, b"me"))])

    def test_a_success_and_a_failure_end_the_lease_of_their_owner(self, store: Store) -> None:
        for change in (commit(F, "x", lease=(F.keys.reuse, b"me")), fail(F, lease=(F.keys.reuse, b"me"))):
            store.write([claim(F, "me", seen=9), change])
            assert isinstance(one(store.write([claim(F, "you", seen=9)])), Moment)
            store.write([change])
            assert isinstance(one(store.write([claim(F, "me", seen=9)])), LeaseHeld)
            store.write([Release((F.keys.reuse, b"you"))])

    def test_a_lease_is_released_by_its_owner_alone(self, store: Store) -> None:
        store.write([claim(F, "me")])
        assert store.write([Release((F.keys.reuse, b"you")), Release((G.keys.reuse, b"me"))]) == [None, None]
        assert isinstance(one(store.write([claim(F, "you")])), LeaseHeld)
        store.write([Release((F.keys.reuse, b"me"))])
        assert one(store.write([claim(F, "you")])) == Moment(0, 0)

    def test_of_many_threads_one_claims(self, store: Store) -> None:
        with ThreadPoolExecutor(8) as threads:
            answers = [a for [a] in threads.map(lambda i: store.write([claim(F, f"worker {i}")]), range(24))]
        assert sum(isinstance(a, Moment) for a in answers) == 1
        assert sum(isinstance(a, LeaseHeld) for a in answers) == 23

    # -- waits ---------------------------------------------------------------------------------------------------------
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
        assert not one(store.write([RegisterWait([F.keys.reuse, G.keys.reuse], b"me", H.keys.reuse, 10.0)]))
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

    def test_an_intent_is_known_with_its_holder(self, store: Store) -> None:
        ran(store, F, "x")
        assert one(store.write([intent("send", "me")])) == Moment(1, 0)
        assert self.effect(store) == EffectRow(1, 0, None, held("me"), None)

    def test_an_attempt_that_was_made_already_is_done(self, store: Store) -> None:
        store.write([intent("send", "me", 2)])
        for attempt in (1, 2):
            assert one(store.write([intent("send", "you", attempt)])) == Superseded()
            assert one(store.write([intent("send", "me", attempt)])) == Superseded()
        assert self.effect(store) == EffectRow(2, 0, None, held("me"), None)

    def test_an_intent_is_busy_while_another_holds_the_lease(self, store: Store) -> None:
        store.write([intent("send", "me")])
        assert one(store.write([intent("send", "you", 2)])) == LeaseHeld(held("me"))
        assert self.effect(store) == EffectRow(1, 0, None, held("me"), None)
        assert one(store.write([intent("send", "me", 2, holder=holder("me", SHORT))])) == Moment(0, 0)
        time.sleep(LONGER)
        assert one(store.write([intent("send", "you", 3)])) == Moment(0, 0)
        assert self.effect(store) == EffectRow(3, 0, None, held("you"), None)

    def test_a_done_effect_is_found_with_its_payload(self, store: Store) -> None:
        store.write([intent("send", "me")])
        lease = (digest("send"), b"me")
        store.write([commit(EFFECT, "sent", holds=AN_EFFECT, effect=done(EFFECT), lease=lease)])
        ran(store, EFFECT, "later")
        row = self.effect(store)
        assert row[:4] == (1, 1, "done", None)
        assert (row.candidate.execution, row.candidate.payload, row.candidate.holds) == (1, b"sent", AN_EFFECT)
        assert store.find(EffectQuery(digest("send"), F.keys, "default")).candidate == row.candidate._replace(settled=0)

    def test_an_effect_that_failed_or_is_unknown_or_withdrawn_is_known_as_such(self, store: Store) -> None:
        store.write([intent("send", "me"), fail(EFFECT, effect=done(EFFECT, "failed"))])
        assert self.effect(store) == EffectRow(1, 1, "failed", held("me"), None)
        store.write([intent("send", "me", 2), fail(EFFECT, effect=done(EFFECT, "unknown", 2))])
        assert self.effect(store) == EffectRow(2, 1, "unknown", held("me"), None)
        store.write([intent("send", "me", 3), fail(EFFECT, effect=done(EFFECT, "withdrawn", 3))])
        assert self.effect(store) == EffectRow(3, 1, "withdrawn", held("me"), None)
        store.write([intent("send", "me", 4)])
        assert self.effect(store) == EffectRow(4, 1, None, held("me"), None)

    def test_attempts_that_settled_are_counted(self, store: Store) -> None:
        store.write([intent("send", "me"), fail(EFFECT, effect=done(EFFECT, "unknown"))])
        store.write([intent("send", "me", 2), fail(EFFECT, effect=done(EFFECT, "failed", 2))])
        assert self.effect(store) == EffectRow(2, 1, "failed", held("me"), None)

    def test_what_became_of_an_earlier_attempt_says_nothing_of_the_present_one(self, store: Store) -> None:
        store.write([intent("send", "me"), intent("send", "me", 2), commit(EFFECT, "sent", effect=done(EFFECT))])
        assert self.effect(store) == EffectRow(2, 0, None, held("me"), None)

    def test_what_became_of_an_attempt_is_known_though_its_intent_was_lost(self, store: Store) -> None:
        """This happens if a server crashed before the intent was on its disk."""
        store.write([commit(EFFECT, "sent", holds=AN_EFFECT, effect=done(EFFECT))])
        row = self.effect(store)
        assert (row.attempt, row.settled_attempts, row.outcome, row.candidate.payload) == (1, 1, "done", b"sent")
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
