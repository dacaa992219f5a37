"""The rules of queries and their answers."""

from __future__ import annotations

import pytest

from musubito.errors import StoreError
from musubito.store.changes import Change, Invalidate, Moment, OpenNamespace
from musubito.store.protocol import Store
from musubito.store.queries import (
    CodeOf,
    CommitOf,
    CurrentMoment,
    EffectQuery,
    KeyCheckOf,
    OlderCandidates,
    PayloadOf,
    ReadsOf,
    SampleNode,
    SampleTree,
    SimilarNode,
    SimilarNodes,
    UsageOf,
)
from musubito.store.rows import (
    BLOB,
    Candidate,
    EdgeKind,
    ExecutionFlags,
    ExternalRead,
    Outcome,
    ParentRef,
    SampleRef,
    Stored,
    Used,
)
from musubito.testing.changes import (
    START,
    claim,
    commit,
    digest,
    fail,
    failed,
    found,
    intent,
    learned,
    others,
    parent,
    place,
    pointed,
    ran,
    state_places,
    use,
)
from musubito.testing.conformance.rules import (
    A_CALL,
    AN_EFFECT,
    BELOW_ONE,
    BELOW_TWO,
    EFFECT,
    ELSEWHERE,
    ONE,
    SAMPLES,
    TWO,
    F,
    G,
    H,
    Rules,
    done,
    invalidate,
    payload_of,
)


class AnswerRules(Rules):
    """The rules of queries and their answers."""

    # -- the newest ----------------------------------------------------------------------------------------------------
    def test_nothing_is_found_in_an_empty_store(self, store: Store) -> None:
        assert store.newest(F.keys, "default") is None
        assert others(store, F, across=True) == []
        assert store.find(PayloadOf(1)) is None
        assert list(store.find(ReadsOf(1))) == []
        assert dict(store.find(SampleTree(1))) == {}
        assert store.find(EffectQuery(digest("send"), EFFECT.keys, "default")) is None
        assert store.find(CurrentMoment()) == START

    def test_executions_are_numbered_in_the_order_of_commits_failed_ones_included(self, store: Store) -> None:
        assert [ran(store, F, "x"), failed(store, G), ran(store, H, "y")] == [1, 2, 3]
        assert store.find(CurrentMoment()) == Moment(3, 0)

    def test_a_success_is_found_with_all_that_was_committed(self, store: Store) -> None:
        at = place("f", [parent(ONE, "same")], sample=3)
        more = {
            "valid_from": 90.0,
            "valid_until": 200.0,
            "not_replayable": "why not",
            "pool": digest("pool"),
            "usage": [Used("a", 1, 2, 3, 4), Used("b", 0, 0, 5, 0)],
        }
        ran(store, at, "x", **more, duration_ms=2.5, saved_ms=5.0, compute_ms=9.0, holds=SAMPLES | ExecutionFlags.READS)
        assert found(store, at) == Candidate(
            1,
            at.keys.node,
            digest("x"),
            b"x",
            100.0,
            7.5,
            9.0,
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
        assert self.effect(store).candidate.settled == 1

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

    def test_those_with_the_same_reuse_key_are_found_across_too(self, store: Store) -> None:
        e = ran(store, ELSEWHERE, "y")
        across = store.find(OlderCandidates(ELSEWHERE.keys, ELSEWHERE.namespace, True, float("-inf")))
        assert [f.execution for f in across] == [e]

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
        assert store.write([OpenNamespace("default", b"check")]) == [b"check"]
        assert store.write([OpenNamespace("default", b"another")]) == [b"check"]
        ran(store, F, "x")
        assert store.find(KeyCheckOf("default")) == b"check"
        assert store.find(KeyCheckOf("other")) is None
        assert store.write([OpenNamespace("other", b""), OpenNamespace("other", b"late")]) == [b"", b""]

    @pytest.mark.parametrize(
        "change", [commit(F, "x"), fail(F), intent("send", "me"), Invalidate("default", "f", None), learned(F)]
    )
    def test_a_namespace_that_was_begun_by_something_else_has_no_key(self, store: Store, change: Change) -> None:
        store.write([change])
        assert store.find(KeyCheckOf("default")) == b""
        assert store.write([OpenNamespace("default", b"check")]) == [b""]

    def test_reads_are_kept_absent_ones_included(self, store: Store) -> None:
        reads = [
            ExternalRead("store", "k", digest("v")),
            ExternalRead("store", "gone", None),
            ExternalRead("config", "k", digest("w")),
        ]
        ran(store, F, "x", reads=reads)
        ran(store, G, "y")
        assert set(store.find(ReadsOf(1))) == set(reads)
        assert list(store.find(ReadsOf(2))) == []

    def test_two_reads_of_one_key_that_saw_different_values_are_both_kept(self, store: Store) -> None:
        reads = [
            ExternalRead("store", "k", digest("v")),
            ExternalRead("store", "k", None),
            ExternalRead("store", "k", digest("w")),
        ]
        ran(store, F, "x", reads=[*reads, *reads])
        assert set(store.find(ReadsOf(1))) == set(reads)

    def test_a_sample_tree_holds_all_below_that_hold_samples(self, store: Store) -> None:
        pool = digest("pool")
        tried = [SampleRef(pool, 2), SampleRef(pool, 1), SampleRef(pool, 1)]
        leaf = ran(store, place("leaf", sample=4), "x", pool=pool, attempts=tried)
        plain = ran(store, F, "x")
        under_plain = ran(store, place("under", sample=1), "x", pool=pool)
        middle = ran(store, G, "x", holds=SAMPLES | A_CALL, uses=[use(F, plain), use(F, leaf), use(H, leaf)])
        hidden = ran(store, ONE, "x", holds=A_CALL, uses=[use(F, under_plain)])
        root = ran(store, H, "x", holds=SAMPLES, uses=[use(G, middle), use(F, leaf), use(ONE, hidden)])
        attempts = (SampleRef(pool, 1), SampleRef(pool, 2))
        assert dict(store.find(SampleTree(root))) == {
            root: SampleNode(root, None, 0, (), (leaf, middle)),
            middle: SampleNode(middle, None, 0, (), (leaf,)),
            leaf: SampleNode(leaf, pool, 4, attempts, ()),
        }
        assert dict(store.find(SampleTree(plain))) == {plain: SampleNode(plain, None, 0, (), ())}

    # -- what a step changes itself ------------------------------------------------------------------------------------
    def test_what_a_step_changes_itself_is_told_sorted_and_once(self, store: Store) -> None:
        assert state_places(store, F) == ()
        names = ("m.USAGE", "m.Agent.seen[\x00]", "M.Ä", "m.use")
        for _ in range(2):
            assert store.write([learned(F, *names, *names), learned(F, "m.late"), learned(F)]) == [None] * 3
            assert state_places(store, F) == ("M.Ä", "m.Agent.seen[\x00]", "m.USAGE", "m.late", "m.use")

    def test_what_steps_change_is_kept_apart_by_namespace_operation_and_code(self, store: Store) -> None:
        another = place("f", namespace="another")
        store.write([learned(F, "m.a"), learned(another, "m.b"), learned(G, "m.c"), learned(F, "m.d", code="edited")])
        assert [state_places(store, at) for at in (F, another, G, H)] == [("m.a",), ("m.b",), ("m.c",), ()]
        assert state_places(store, F, "edited") == ("m.d",)
        assert state_places(store, G, "edited") == ()

    def test_what_an_execution_has_shown_is_committed_with_it(self, store: Store) -> None:
        assert ran(store, F, "x", learned=learned(F, "m.a")) == 1
        assert ran(store, F, "x", learned=learned(F, "m.b", "m.a")) == 2
        assert state_places(store, F) == ("m.a", "m.b")
        assert found(store, F).settled == 1
        # As most first commits are made.
        another = place("f", argument="another")
        store.write([claim(another, "me")])
        ran(store, another, "x", learned=learned(F, "m.c"), lease=(another.keys.reuse, b"me"))
        assert state_places(store, F) == ("m.a", "m.b", "m.c")
        stored = store.find(CommitOf(2, "default"))
        assert stored.commit.learned is None
        with pytest.raises(StoreError):
            store.write([learned(F, "m.d"), commit(F, "x", uses=[use(G, 99)])])
        assert state_places(store, F) == ("m.a", "m.b", "m.c")

    def test_what_a_step_changes_itself_is_no_answer(self, store: Store) -> None:
        ran(store, F, "x")
        before = found(store, F), store.find(CurrentMoment())
        store.write([learned(F, "m.a")])
        assert (found(store, F), store.find(CurrentMoment())) == before

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
            SimilarNode(
                p.keys.node,
                p.code.fingerprint,
                p.input_hash,
                p.arguments,
                frozenset([ONE.keys.node]),
                p.sample,
                started_at,
            )
            for p, started_at in ((third, None), (second, 2.0), (first, 3.0))
        ]
        assert list(store.find(SimilarNodes("default", "f", None, 9))) == expected
        assert list(store.find(SimilarNodes("default", "f", None, 2))) == expected[:2]
        assert list(store.find(SimilarNodes("default", "f", second.keys.node, 9))) == expected[2:]
        assert list(store.find(SimilarNodes("default", "f", F.keys.node, 9))) == expected
        assert list(store.find(SimilarNodes("default", "never", None, 9))) == []

    def test_a_stub_is_no_neighbour_and_a_state_edge_no_parent(self, store: Store) -> None:
        state = ParentRef(TWO.keys.node, digest("x"), EdgeKind.STATE)
        ran(store, place("one", [parent(ONE, "x"), state]), "y")
        (only,) = store.find(SimilarNodes("default", "one", None, 9))
        assert only.parents == {ONE.keys.node}
        failed(store, ONE)
        neighbours = store.find(SimilarNodes("default", "one", None, 9))
        assert {n.node for n in neighbours} == {only.node, ONE.keys.node}

    def test_the_code_of_a_fingerprint_is_kept(self, store: Store) -> None:
        ran(store, F, "x")
        failed(store, G)
        for at in (F, G):
            assert dict(store.find(CodeOf(at.code.fingerprint))) == {p: d for p, d, _ in at.code.parts}
        assert dict(store.find(CodeOf(H.code.fingerprint))) == {}
