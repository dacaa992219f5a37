"""The rules of forgetting and pruning."""

from __future__ import annotations

from typing import Any

import pytest

from musubito.store.changes import CleanUp, Committed, Forget, InvalidateMarked, MarkForPruning
from musubito.store.protocol import Store
from musubito.store.queries import CodeOf, CurrentMoment, PayloadOf, ReadsOf, SimilarNodes, TraceOf
from musubito.store.rows import FORGOTTEN, CallLine, ExternalRead, Ledger, NodeSpec, RunLine, TraceLine
from musubito.testing.changes import (
    commit,
    digest,
    fail,
    failed,
    found,
    intent,
    is_invalid,
    is_stale,
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
    F,
    G,
    H,
    Rules,
    done,
    forget,
    invalidate,
    one,
    payload_of,
    prune,
    retired,
)


class RemovalRules(Rules):
    """The rules of forgetting and pruning."""

    # -- forgetting ----------------------------------------------------------------------------------------------------
    @pytest.mark.parametrize("size", [1, 100_000])
    def test_what_is_forgotten_has_no_contents_and_is_not_replayed(self, store: Store, size: int) -> None:
        ran(store, F, "x" * size, reads=[ExternalRead("store", "k", None), ExternalRead("answer", "", None)])
        ran(store, G, "y")
        assert forget(store, "f")[:3] == (1, 0, size)
        assert (found(store, F).payload, found(store, F).invalid, found(store, F).not_replayable) == (
            None,
            1,
            FORGOTTEN,
        )
        assert found(store, F).artifact == digest("x" * size)
        assert store.find(PayloadOf(1)) is None
        assert list(store.find(ReadsOf(1))) == [ExternalRead("answer", "", None)]
        assert (found(store, G).payload, found(store, G).invalid) == (b"y", 0)
        assert forget(store, "f")[:3] == (1, 0, 0)

    def test_the_span_of_an_execution_goes_with_it(self, store: Store) -> None:
        for at in (F, G, H):
            ran(store, at, "x")
        spans = [TraceLine(execution, bytes([execution]) * 16, bytes([execution]) * 8) for execution in (1, 2, 3, 4)]
        store.write([Ledger("default", (), (), (), spans)])
        assert [store.find(TraceOf(execution)) for execution in (1, 2, 3, 4)] == [*spans[:3], None]
        forget(store, "f")
        assert retired(store, [2]).executions == 1
        store.write([Ledger("default", (), (), (), spans)])
        assert [store.find(TraceOf(execution)) for execution in (1, 2, 3)] == [None, None, spans[2]]

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
            CallLine(run, number, None, "f", node, execution, "ran", "X", 1.0, 1.0, 0.0, 0, 0)
            for run, node, executions in ((b"run", F.keys.node, (1, 1, None)), (b"other", G.keys.node, (2,)))
            for number, execution in enumerate(executions, 1)
        ]
        runs = [RunLine(run, "name", "{}", 1.0, 2.0, "finished") for run in (b"run", b"other")]
        store.write([Ledger("default", runs, calls)])
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
        began = store.find(CurrentMoment())
        forget(store, "f")
        forget(store, node=G)
        assert [one(store.write([commit(at, "x", began=began)])).invalid for at in (F, G, H)] == [True, True, False]

    @pytest.mark.parametrize("size", [1, 100_000])
    def test_of_what_was_forgotten_while_it_ran_no_contents_are_stored(self, store: Store, size: int) -> None:
        began = store.find(CurrentMoment())
        forget(store, "f")
        reads = [ExternalRead("store", "k", None), ExternalRead("answer", "", None)]
        answer = one(store.write([commit(F, "x" * size, began=began, reads=reads)]))
        assert answer == Committed(1, invalid=True, forgotten=True)
        last = found(store, F)
        assert (last.payload, last.invalid, last.not_replayable) == (None, 1, FORGOTTEN)
        assert last.artifact == digest("x" * size)
        assert store.find(PayloadOf(1)) is None
        assert list(store.find(ReadsOf(1))) == [ExternalRead("answer", "", None)]
        assert dict(store.find(CodeOf(F.code.fingerprint))) == {}
        # An execution that begins after that is not concerned.
        assert not one(store.write([commit(F, "x" * size, began=store.find(CurrentMoment()))])).invalid
        assert payload_of(store, 2) == b"x" * size
        assert dict(store.find(CodeOf(F.code.fingerprint))) == {"f": digest("part", "f")}

    def test_what_failed_and_was_forgotten_while_it_ran_leaves_no_text(self, store: Store) -> None:
        began = store.find(CurrentMoment())
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
        assert (row.outcome, row.candidate and row.candidate.payload) == ("done", None)

    def test_a_forgotten_effect_stays_done_without_a_result(self, store: Store) -> None:
        store.write([intent("send", "me"), commit(EFFECT, "sent", holds=AN_EFFECT, effect=done(EFFECT))])
        forget(store, "send")
        row = self.effect(store)
        assert (row.outcome, row.candidate and row.candidate.payload) == ("done", None)

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
        # The next run of this code stores its texts again.
        ran(store, BELOW_TWO, "y")
        assert dict(store.find(CodeOf(code))) == {"child": digest("part", "child")}

    def test_code_that_a_pruned_execution_left_goes_with_what_is_forgotten_while_it_runs(self, store: Store) -> None:
        ran(store, BELOW_ONE, "x")
        ran(store, H, "z")
        retired(store, [1])
        began = store.find(CurrentMoment())
        assert dict(store.find(CodeOf(BELOW_ONE.code.fingerprint))) == {"child": digest("part", "child")}
        forget(store, node=BELOW_TWO)
        assert one(store.write([commit(BELOW_TWO, "y", began=began)])).forgotten
        assert dict(store.find(CodeOf(BELOW_ONE.code.fingerprint))) == {}

    def test_what_a_step_changes_itself_goes_with_its_operation(self, store: Store) -> None:
        another = place("f", namespace="another")
        store.write([learned(F, "m.a"), learned(F, "m.b", code="edited"), learned(G, "m.c"), learned(another, "m.d")])
        ran(store, F, "x")
        forget(store, node=F)
        invalidate(store, "f")
        assert state_places(store, F) == ("m.a",)
        began = store.find(CurrentMoment())
        forget(store, "f")
        assert (state_places(store, F), state_places(store, F, "edited")) == ((), ())
        assert (state_places(store, G), state_places(store, another)) == (("m.c",), ("m.d",))
        # An execution that ran meanwhile leaves no names either.
        assert one(store.write([commit(F, "x", began=began, learned=learned(F, "m.a"))])).forgotten
        assert state_places(store, F) == ()
        assert not one(
            store.write([commit(F, "x", began=store.find(CurrentMoment()), learned=learned(F, "m.a"))])
        ).invalid
        assert state_places(store, F) == ("m.a",)

    # -- pruning -------------------------------------------------------------------------------------------------------
    def test_what_is_retired_and_dismissed_is_invalid_but_for_effects(self, store: Store) -> None:
        ran(store, F, "x")
        ran(store, EFFECT, "sent", holds=AN_EFFECT)
        ran(store, G, "y", uses=[use(F, 1)])
        assert store.write([MarkForPruning([1, 2], b"prune"), MarkForPruning([], b"prune")]) == [1, 0]
        assert [found(store, at).invalid for at in (F, EFFECT, G)] == [0, 0, 0]
        store.write([InvalidateMarked([1, 2], b"another"), InvalidateMarked([3], b"prune")])
        assert [found(store, at).invalid for at in (F, EFFECT, G)] == [0, 0, 0]
        store.write([InvalidateMarked([1, 2], b"prune")])
        assert [found(store, at).invalid for at in (F, EFFECT, G)] == [1, 0, 0]
        assert not pointed(store, F, 1)
        assert one(store.write([MarkForPruning([1, 3], b"prune")])) == 1

    def test_what_is_retired_is_not_settled_until_somebody_points_at_it(self, store: Store) -> None:
        ran(store, BELOW_ONE, "x")
        pointed(store, BELOW_TWO, 1)
        store.write([MarkForPruning([1], b"prune")])
        assert [found(store, at).settled for at in (BELOW_ONE, BELOW_TWO)] == [0, 0]
        assert [candidate.settled for candidate in others(store, BELOW_ONE)] == [0]
        assert pointed(store, BELOW_ONE, 1)
        assert found(store, BELOW_ONE).settled == 1
        store.write([InvalidateMarked([1], b"prune")])
        assert found(store, BELOW_ONE).invalid == 0

    @pytest.mark.parametrize("fails", [False, True])
    def test_what_used_something_retired_is_valid_and_that_stays(self, store: Store, fails: bool) -> None:
        ran(store, F, "x")
        ran(store, G, "y", holds=A_CALL, uses=[use(F, 1)])
        store.write([MarkForPruning([2, 1], b"prune")])
        more: dict[str, Any] = {"uses": [use(G, 2)]}
        change = fail(H, **more) if fails else commit(H, "z", holds=A_CALL, **more)
        assert not one(store.write([change])).invalid
        store.write([InvalidateMarked([1, 2], b"prune")])
        # The execution on which the used one was built is revived, too.
        assert [found(store, at).invalid for at in (F, G, H)] == [0, 0, 0]
        assert prune(store, [1, 2]).executions == 0

    def test_what_was_retired_and_invalidated_is_invalid_to_whoever_used_it(self, store: Store) -> None:
        ran(store, F, "x")
        store.write([MarkForPruning([1], b"prune")])
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
        store.write([MarkForPruning([2, 1], b"prune")])
        ran(store, F, "other")
        assert is_invalid(store, G, 2)

    def test_an_older_one_is_not_kept_without_those_that_came_after_it(self, store: Store) -> None:
        for at in (BELOW_ONE, BELOW_TWO, ELSEWHERE, place("child")):
            ran(store, at, "x")
        store.write([MarkForPruning([4, 3, 2, 1], b"prune")])
        assert pointed(store, BELOW_TWO, 2)
        store.write([InvalidateMarked([1, 2, 3, 4], b"prune")])
        invalid = [candidate.execution for candidate in others(store, BELOW_ONE, across=True) if candidate.invalid]
        assert invalid == [1]

    @pytest.mark.parametrize("older", [BELOW_ONE, ELSEWHERE])
    def test_what_came_after_one_that_another_prune_has_retired_since_stays(
        self, store: Store, older: NodeSpec
    ) -> None:
        ran(store, older, "old")
        ran(store, BELOW_ONE, "new")
        failed(store, BELOW_ONE)
        store.write(
            [
                MarkForPruning([3, 2, 1], b"prune"),
                MarkForPruning([1], b"another"),
                InvalidateMarked([1, 2, 3], b"prune"),
            ]
        )
        kept = {(candidate.execution, candidate.invalid) for candidate in others(store, BELOW_ONE, across=True)}
        assert kept == {(1, 0), (2, 0)}
        assert one(store.write([MarkForPruning([2, 1], b"prune")])) == 2
        store.write([InvalidateMarked([1, 2], b"prune")])
        assert {candidate.invalid for candidate in others(store, BELOW_ONE, across=True)} == {1}

    def test_only_what_is_invalid_is_pruned_and_never_the_newest(self, store: Store) -> None:
        for at in (F, G, H):
            ran(store, at, "x")
        assert prune(store, [1, 2, 3]).executions == 0
        assert retired(store, [1, 2, 3]).executions == 2
        assert store.newest(F.keys, "default") is None
        assert found(store, H).execution == 3
        assert store.find(CurrentMoment()).executions == 3
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
        assert list(store.find(SimilarNodes("default", "child", None, 9))) == []

    def test_a_node_that_points_at_something_valid_is_not_pruned(self, store: Store) -> None:
        ran(store, BELOW_ONE, "x")
        pointed(store, BELOW_TWO, 1)
        ran(store, H, "z")
        assert prune(store, nodes=[BELOW_TWO]).nodes == 0
        store.write([MarkForPruning([1], b"prune")])
        assert prune(store, nodes=[BELOW_TWO]).nodes == 0
        store.write([InvalidateMarked([1], b"prune")])
        assert prune(store, nodes=[BELOW_TWO]).nodes == 1

    def test_a_node_that_was_invalidated_is_not_pruned(self, store: Store) -> None:
        ran(store, F, "x")
        ran(store, H, "z")
        invalidate(store, node=F)
        retired(store, [1])
        began = store.find(CurrentMoment())._replace(invalidations=0)
        assert prune(store, nodes=[F]).nodes == 0
        assert list(store.find(SimilarNodes("default", "f", None, 9))) == []
        assert one(store.write([commit(F, "x", began=began)])).invalid

    def test_a_pruned_node_comes_again_as_itself(self, store: Store) -> None:
        ran(store, F, "x")
        ran(store, BELOW_ONE, "x")
        ran(store, H, "z")
        retired(store, [1, 2])
        for at in (F, BELOW_ONE):
            ran(store, at, "y")
            assert (found(store, at).producer, found(store, at).settled) == (at.keys.node, 1)
        assert len(store.find(SimilarNodes("default", "f", None, 9))) == 1

    def test_what_pointed_at_something_pruned_is_answered_again(self, store: Store) -> None:
        ran(store, BELOW_ONE, "x")
        ran(store, BELOW_TWO, "x")
        pointed(store, BELOW_ONE, 2)
        ran(store, place("grandchild", [parent(BELOW_ONE, "x")]), "y")
        retired(store, [2])
        assert ran(store, BELOW_ONE, "x") == 4
        assert found(store, BELOW_ONE).settled == 1
        assert is_stale(store, place("grandchild", [parent(BELOW_ONE, "x")]))
        store.write([CleanUp()])

    def test_code_that_no_node_has_is_tidied_away_until_it_comes_again(self, store: Store) -> None:
        ran(store, F, "x")
        ran(store, G, "x")
        retired(store, [1])
        prune(store, nodes=[F])
        store.write([CleanUp()])
        assert dict(store.find(CodeOf(F.code.fingerprint))) == {}
        assert dict(store.find(CodeOf(G.code.fingerprint))) == {"g": digest("part", "g")}
        ran(store, F, "x")
        assert dict(store.find(CodeOf(F.code.fingerprint))) == {"f": digest("part", "f")}

    def test_what_steps_change_themselves_is_tidied_away_with_their_last_node(self, store: Store) -> None:
        for at in (F, G):
            ran(store, at, "x", learned=learned(at, "m.a"))
        retired(store, [1])
        store.write([CleanUp()])
        assert state_places(store, F) == ("m.a",)
        prune(store, nodes=[F])
        store.write([CleanUp()])
        assert (state_places(store, F), state_places(store, G)) == ((), ("m.a",))

    def test_runs_are_pruned_with_their_calls(self, store: Store) -> None:
        line = CallLine(b"run", 1, None, "f", F.keys.node, 1, "ran", "X", 1.0, 1.0, 0.0, 0, 0)
        ran(store, F, "x")
        store.write([Ledger("default", [RunLine(b"run", "name", None, 1.0, 2.0, "finished")], [line])])
        assert prune(store, runs=[b"run"]).runs == 1
        assert forget(store, run=b"run").executions == 0

    def test_the_shape_of_a_graph_without_runs_is_tidied_away_until_it_comes_again(self, store: Store) -> None:
        ledger = Ledger("default", [RunLine(b"run", "name", None, 1.0, 2.0, "finished", shape="{}")], [])
        for _ in range(2):
            store.write([ledger])
            assert prune(store, runs=[b"run"]).runs == 1
            store.write([CleanUp()])

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
