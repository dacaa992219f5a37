"""The rules of INVALID and STALE, and of the execution that a node points at."""

from __future__ import annotations

import pytest

from musubito.errors import StoreError
from musubito.store.changes import Moment
from musubito.store.protocol import Store
from musubito.store.queries import CurrentMoment
from musubito.store.rows import EdgeKind, ExecutionFlags, ParentRef
from musubito.testing.changes import (
    START,
    claim,
    commit,
    digest,
    fail,
    failed,
    found,
    is_invalid,
    is_stale,
    others,
    parent,
    place,
    pointed,
    ran,
    use,
)
from musubito.testing.conformance.rules import (
    AN_EFFECT,
    BELOW_ONE,
    BELOW_TWO,
    EFFECT,
    ELSEWHERE,
    ONE,
    TWO,
    F,
    G,
    H,
    Rules,
    invalidate,
    one,
)


class ValidityRules(Rules):
    """The rules of INVALID and STALE, and of the execution that a node points at."""

    # -- committed INVALID ---------------------------------------------------------------------------------------------

    def test_what_used_something_current_is_committed_valid(self, store: Store) -> None:
        assert not self.outer(store, use(F, ran(store, F, "x")))

    def test_what_used_something_invalid_by_now_is_committed_invalid(self, store: Store) -> None:
        e = ran(store, F, "x")
        invalidate(store, "f")
        assert self.outer(store, use(F, e))

    def test_what_used_something_replaced_since_is_committed_invalid(self, store: Store) -> None:
        e, began = ran(store, F, "x"), store.find(CurrentMoment())
        ran(store, F, "y")
        assert self.outer(store, use(F, e), began=began)

    def test_an_equal_artifact_since_replaces_nothing(self, store: Store) -> None:
        e, began = ran(store, F, "x"), store.find(CurrentMoment())
        ran(store, F, "x")
        assert not self.outer(store, use(F, e), began=began)

    def test_a_newer_answer_of_a_live_step_outdates_nothing(self, store: Store) -> None:
        e, began = ran(store, F, "x", holds=ExecutionFlags.LIVE), store.find(CurrentMoment())
        outer = ran(store, G, "x", uses=[use(F, e)])
        ran(store, F, "y", holds=ExecutionFlags.LIVE)
        assert not is_invalid(store, G, outer)
        assert not self.outer(store, use(F, e), began=began)

    def test_a_failure_since_replaces_nothing(self, store: Store) -> None:
        e, began = ran(store, F, "x"), store.find(CurrentMoment())
        failed(store, F)
        assert not self.outer(store, use(F, e), began=began)

    def test_what_was_committed_invalid_since_replaces_nothing(self, store: Store) -> None:
        e, began = ran(store, F, "x"), store.find(CurrentMoment())
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
        e, began = ran(store, F, None), store.find(CurrentMoment())
        assert not self.outer(store, use(F, e), began=began)
        ran(store, F, None)
        assert self.outer(store, use(F, e), began=began)

    def test_what_asked_for_a_key_that_was_answered_otherwise_since_is_committed_invalid(self, store: Store) -> None:
        e, began = ran(store, BELOW_ONE, "x"), store.find(CurrentMoment())
        # This runs at another node, so that only the reuse key connects the two.
        ran(store, place("child", [parent(TWO, "other")]), "y")
        assert not self.outer(store, use(BELOW_ONE, e), began=began)
        assert self.outer(store, use(ELSEWHERE, e), began=began)

    def test_what_was_used_counts_under_its_own_key_too(self, store: Store) -> None:
        e, began = ran(store, BELOW_ONE, "x"), store.find(CurrentMoment())
        ran(store, BELOW_TWO, "y")
        assert self.outer(store, use(ELSEWHERE, e), began=began)

    def test_what_asked_a_node_that_moved_to_another_artifact_is_committed_invalid(self, store: Store) -> None:
        old, e = ran(store, BELOW_ONE, "x"), ran(store, BELOW_TWO, "y")
        began = store.find(CurrentMoment())
        assert not self.outer(store, use(BELOW_TWO, e), began=began)
        pointed(store, BELOW_TWO, old)
        assert self.outer(store, use(BELOW_TWO, e), began=began)

    def test_a_node_that_was_asked_under_another_key_since_does_not_count(self, store: Store) -> None:
        across = ran(store, place("child"), "y")
        e, began = ran(store, BELOW_ONE, "x"), store.find(CurrentMoment())
        pointed(store, ELSEWHERE, across)
        assert not self.outer(store, use(BELOW_ONE, e), began=began)

    def test_a_node_that_failed_since_does_not_count(self, store: Store) -> None:
        e, began = ran(store, BELOW_ONE, "x"), store.find(CurrentMoment())
        pointed(store, ELSEWHERE, e)
        failed(store, BELOW_ONE)
        assert others(store, ELSEWHERE, across=True)[0].settled == 1
        assert not self.outer(store, use(BELOW_ONE, e), began=began)

    def test_what_began_before_its_operation_was_invalidated_is_committed_invalid(self, store: Store) -> None:
        began = store.find(CurrentMoment())
        assert invalidate(store, "h") == 0
        assert store.find(CurrentMoment()) == Moment(0, 1)
        assert self.outer(store, began=began)
        assert not self.outer(store)

    def test_what_began_before_its_node_was_invalidated_is_committed_invalid(self, store: Store) -> None:
        ran(store, H, "x")
        began = store.find(CurrentMoment())
        assert invalidate(store, node=H) == 1
        assert self.outer(store, began=began)
        assert not self.outer(store)

    def test_a_node_that_is_not_there_yet_can_be_invalidated_while_it_runs(self, store: Store) -> None:
        began = store.find(CurrentMoment())
        assert invalidate(store, node=H) == 0
        assert store.find(CurrentMoment()).invalidations == 1
        assert self.outer(store, began=began)

    def test_invalidating_something_else_does_not_count(self, store: Store) -> None:
        ran(store, H, "x")
        began = store.find(CurrentMoment())
        invalidate(store, "h", namespace="another")
        invalidate(store, "f")
        invalidate(store, node=F)
        assert not self.outer(store, began=began)

    def test_what_is_committed_invalid_replaces_nothing(self, store: Store) -> None:
        e = ran(store, H, "x")
        caller = ran(store, G, "z", uses=[use(H, e)])
        child = place("child", [parent(H, "x")])
        ran(store, child, "c")
        began = store.find(CurrentMoment())
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
        """This happens if a server crashed and lost its last commits."""
        e = ran(store, F, "x", started_at=200.0)
        assert not self.outer(store, use(F, e, 200.0))
        lost = use(F, e, 100.0)
        assert self.outer(store, lost)
        # No call of the other execution is recorded, either.
        failed(store, G, uses=[lost])
        invalidate(store, "f")
        assert [candidate.invalid for candidate in others(store, H)] == [1, 1]
        caller = ran(store, ONE, "y", uses=[lost], holds=AN_EFFECT)
        assert not is_invalid(store, ONE, caller)

    def test_what_began_at_a_moment_that_is_gone_is_committed_invalid(self, store: Store) -> None:
        ran(store, F, "x")
        assert self.outer(store, use(F, 1), began=Moment(9, 0))
        assert self.outer(store, began=Moment(0, 9))
        # The lost executions do not concern a commit that used none.
        assert not self.outer(store, began=Moment(9, 0))
        assert not self.outer(store, use(F, 1), began=Moment(9, 9), holds=AN_EFFECT)
        # The same holds for the first commit at its node, with names that are all numbered already.
        again = place("f", argument="again")
        store.write([claim(again, "me")])
        first = commit(again, "x", began=Moment(0, 9), lease=(again.keys.reuse, b"me"))
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
        caller = ran(store, G, "out", uses=[use(F, first)], began=store.find(CurrentMoment()))
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
        e, began = ran(store, F, "x"), store.find(CurrentMoment())
        ran(store, F, "y")
        assert not self.outer(store, use(F, e), began=began, holds=AN_EFFECT)

    def test_an_effect_that_began_before_it_was_invalidated_is_committed_invalid(self, store: Store) -> None:
        began = store.find(CurrentMoment())
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
        assert store.find(CurrentMoment()).invalidations == 1

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
