"""The rules of what people say: corrections of results, and what became of effects."""

from __future__ import annotations

from musubito.store.changes import Committed, Forget, SettleEffect
from musubito.store.protocol import Store
from musubito.store.queries import AnswerOf, CommitOf, CurrentMoment, EffectQuery, PayloadOf, UsageOf
from musubito.store.rows import (
    FORGOTTEN,
    Edit,
    EffectOutcome,
    ExecutionFlags,
    ExternalRead,
    FoundOut,
    NodeSpec,
    SampleRef,
    Stored,
    Used,
)
from musubito.testing.changes import commit, digest, found, intent, is_invalid, is_stale, parent, place, ran, use
from musubito.testing.conformance.rules import EFFECT, F, G, Rules, one, prune


def edited(store: Store, at: NodeSpec, output: str, before: int, **more: object) -> int:
    """Commit a correction; return its execution."""
    edit = Edit(before, "Anna", 150.0, "it was wrong")
    return ran(store, at, output, **{"started_at": 150.0, "edit": edit, **more})


class EditRules(Rules):
    """The rules of what people say."""

    def test_what_answers_at_a_node_is_told_with_its_payload(self, store: Store) -> None:
        assert store.find(AnswerOf(F.keys.node, "default")) is None
        execution = ran(store, F, "x")
        answer = store.find(AnswerOf(F.keys.node, "default"))
        assert (answer.candidate.execution, answer.candidate.payload, answer.asked) == (execution, b"x", F.keys.reuse)
        edited(store, F, "y", execution)
        assert store.find(AnswerOf(F.keys.node, "default")).candidate.payload == b"y"

    def test_a_commit_is_told_as_it_was_made(self, store: Store) -> None:
        child = place("child", [parent(F, "x")], sample=2)
        inner, _ = ran(store, G, "inner"), ran(store, F, "x")
        facts = {
            "valid_from": 1.0,
            "valid_until": 900.0,
            "pool": b"p" * 32,
            "uses": [use(G, inner)],
            "reads": [ExternalRead("store", "k", None), ExternalRead("store", "l", b"l" * 32)],
            "attempts": [SampleRef(b"q" * 32, 1)],
            "holds": ExecutionFlags.CALLS | ExecutionFlags.READS,
            "usage": [Used("m", 1, 2, 3, 4)],
            "saved_ms": 5.0,
            "compute_ms": 9.0,
        }
        for output in ("x", "x" * 100_000):
            execution = ran(store, child, output, **facts)
            told = store.find(CommitOf(execution, "default"))
            code = child.code._replace(parts=[], untracked=(), state=())
            wanted = commit(child._replace(code=code, parents=()), output, **{**facts, "size": len(output)})
            assert told.commit._replace(reads=sorted(told.commit.reads, key=str)) == wanted._replace(
                reads=sorted(wanted.reads, key=str)
            )
            assert not told.invalid
            assert store.find(CommitOf(execution, "another")) is None
            assert store.find(CommitOf(execution + 1, "default")) is None

    def test_a_correction_is_told_with_its_reason(self, store: Store) -> None:
        first = ran(store, F, "x")
        execution = edited(store, F, "y", first)
        assert store.find(CommitOf(execution, "default")).commit.edit == Edit(first, "Anna", 150.0, "it was wrong")
        assert store.find(CommitOf(first, "default")).commit.edit is None

    def test_a_correction_takes_the_place_of_the_result(self, store: Store) -> None:
        first = ran(store, F, "x")
        child, outer = place("child", [parent(F, "x")]), place("outer")
        ran(store, child, "c")
        built = ran(store, outer, "o", uses=[use(F, first)], holds=ExecutionFlags.CALLS)
        execution = edited(store, F, "y", first)
        assert found(store, F).execution == execution
        assert is_stale(store, child)
        assert is_invalid(store, outer, built)
        assert not store.find(CommitOf(first, "default")).invalid

    def test_a_correction_of_an_effect_is_its_record(self, store: Store) -> None:
        store.write([intent("send", "me")])
        effect = EffectOutcome(digest("send"), 1, "done")
        first = ran(store, EFFECT, "x", effect=effect, holds=ExecutionFlags.EFFECT)
        execution = edited(store, EFFECT, "y", first, holds=ExecutionFlags.EFFECT)
        row = store.find(EffectQuery(digest("send"), EFFECT.keys, "default"))
        assert (row.outcome, row.attempt, row.settled_attempts) == ("done", 1, 1)
        assert (row.candidate.execution, row.candidate.payload) == (execution, b"y")

    def test_what_was_made_of_a_forgotten_result_is_forgotten(self, store: Store) -> None:
        first = ran(store, F, "x")
        elsewhere = place("f", [parent(G, "g")])
        again = edited(store, elsewhere._replace(keys=elsewhere.keys._replace(reuse=F.keys.reuse)), "y", first)
        store.write([Forget("default", nodes=[F.keys.node])])
        assert store.find(PayloadOf(again)) is None
        told = store.find(CommitOf(again, "default"))
        assert told.commit.edit == Edit(first, "Anna", 150.0, FORGOTTEN)
        assert told.invalid

    def test_what_is_forgotten_while_it_is_corrected_is_not_stored(self, store: Store) -> None:
        first = ran(store, F, "x")
        began = store.find(CurrentMoment())
        store.write([Forget("default", operation="f")])
        made = one(store.write([commit(F, "y", began=began, edit=Edit(first, "Anna", 1.0, "why"))]))
        assert made == Committed(first + 1, invalid=True, forgotten=True)
        assert store.find(PayloadOf(made.execution)) is None
        assert store.find(CommitOf(made.execution, "default")).commit.edit.reason == FORGOTTEN

    def test_a_correction_is_pruned_with_its_execution(self, store: Store) -> None:
        first = ran(store, F, "x")
        second = edited(store, F, "y", first)
        third = edited(store, F, "z", second)
        store.write([Forget("default", operation="f")])
        ran(store, G, "g")
        for execution in (third, second, first):
            assert prune(store, executions=[execution]).executions == 1
            assert store.find(CommitOf(execution, "default")) is None
            assert store.find(UsageOf(execution)) == []

    # -- effects in doubt ----------------------------------------------------------------------------------------------
    def test_what_was_found_out_of_an_effect_is_told_until_it_is_begun_again(self, store: Store) -> None:
        key = digest("send")

        def told() -> FoundOut | None:
            found_out: FoundOut | None = store.find(EffectQuery(key, EFFECT.keys, "default")).found_out
            return found_out

        happened = SettleEffect(key, 1, happened=True, payload=b"x", codec="msgpack")
        assert store.write([happened]) == [False]
        store.write([intent("send", "me")])
        assert told() is None
        assert store.write([happened._replace(attempt=2)]) == [False]
        assert store.write([happened]) == [True]
        assert told() == FoundOut(happened=True, stored=Stored(b"x", "msgpack"))
        never, undo = SettleEffect(key, 1, happened=False), SettleEffect(key, 1, happened=None)
        assert store.write([never]) == [False]
        assert told() == FoundOut(happened=True, stored=Stored(b"x", "msgpack"))
        assert store.write([undo, undo]) == [True, False]
        assert told() is None
        assert store.write([never]) == [True]
        assert told() == FoundOut(happened=False, stored=None)
        store.write([intent("send", "me", attempt=2)])
        assert told() is None

    def test_only_an_effect_in_doubt_is_settled(self, store: Store) -> None:
        store.write([intent("send", "me")])
        ran(store, EFFECT, "x", effect=EffectOutcome(digest("send"), 1, "done"), holds=ExecutionFlags.EFFECT)
        assert store.write([SettleEffect(digest("send"), 1, happened=False)]) == [False]
        store.write([intent("send", "me", attempt=2)])
        ran(store, EFFECT, "x", effect=EffectOutcome(digest("send"), 2, "unknown"), holds=ExecutionFlags.EFFECT)
        assert store.write([SettleEffect(digest("send"), 2, happened=False)]) == [True]

    def test_what_an_effect_gave_is_forgotten_with_its_operation(self, store: Store) -> None:
        store.write([intent("send", "me")])
        store.write([SettleEffect(digest("send"), 1, happened=True, payload=b"x", codec="msgpack")])
        store.write([Forget("default", operation="another"), Forget("elsewhere", operation="send")])
        assert store.find(EffectQuery(digest("send"), EFFECT.keys, "default")).found_out is not None
        store.write([Forget("default", operation="send")])
        assert store.find(EffectQuery(digest("send"), EFFECT.keys, "default")).found_out is None
