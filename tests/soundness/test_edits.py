"""A result that a person has corrected answers in the place of the earlier one, for as long as that would have."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from musubito import (
    MusubitoEngine,
    MusubitoResult,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    WrongKey,
    musubito_step,
    record_usage,
    run,
    use_musubito_engine,
)
from musubito.adapter import not_replayable, note_read
from musubito.engine.override import by_hand, override, replace_payload, result_to_edit
from musubito.errors import NotEdited
from musubito.lineage import Lineage
from musubito.lineage.readers.unknown_effects import settle, unknown_effects
from musubito.lineage.readers.verify import verify
from musubito.lineage.removal.erase import changes_for, forget
from musubito.lineage.removal.prune import prune
from musubito.lineage.removal.rekey import RekeyCounts, rekey
from musubito.store.changes import Commit
from musubito.values.artifact_codec import encode_value
from tests.soundness.world import ACROSS, STOCHASTIC, A, B, World, forced, parent, ttl, under

D = parent("D", content="other")
EFFECT = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT)


@musubito_step(name="below")
def below(result: MusubitoResult[Any]) -> str:
    return f"<{result.value}>"


@contextmanager
def reading(w: World) -> Iterator[Lineage]:
    with MusubitoEngine(SQLiteStorage(w.path), now_provider=w.clock) as engine:
        yield Lineage(engine)


def node_of(w: World, result: MusubitoResult[Any]) -> Any:
    with reading(w) as lineage:
        return lineage.node(result.node_id)


# -- in the place of the result ----------------------------------------------------------------------------------------
def test_the_value_answers_and_what_was_built_on_the_earlier_one_runs_again(w: World) -> None:
    @musubito_step(name="inner")
    def inner(x: int) -> int:
        return w.count("inner")

    @musubito_step(name="outer")
    def outer(x: int) -> int:
        w.count("outer")
        return 10 * inner(x).value

    result, built = inner(1), outer(1)
    consumed = below(result)
    edited = w.engine.override(result, 7, reason="it was wrong")
    assert (edited.value, edited.node_id) == (7, result.node_id)
    assert (w.status(result), w.status(built), w.status(consumed)) == ("SUCCESS", "INVALID", "STALE")
    again = inner(1)
    assert (again.value, again.artifact_id, again.node_id) == (7, edited.artifact_id, result.node_id)
    assert outer(1).value == 70
    assert below(again).value == "<7>"
    assert w.ran == {"inner": 1, "outer": 2}


def test_an_equal_value_changes_nothing(w: World) -> None:
    step = musubito_step(name="s")(lambda x: [x])
    result = step(1)
    assert w.engine.override(result, [1], reason="").artifact_id == result.artifact_id
    with pytest.raises(NotEdited, match="not edited"):
        w.engine.undo_override(result)


def test_another_engine_and_a_later_process_are_given_it(w: World) -> None:
    step = musubito_step(name="s")(lambda x: x)
    w.engine.override(step(1), 7, reason="")
    with w.another_engine() as other, use_musubito_engine(other):
        assert step(1).value == 7


def test_it_answers_until_the_input_or_the_code_changes(w: World) -> None:
    def define(version: str) -> Any:
        return musubito_step(name="s", operation_version=version)(lambda x: f"{x} {version}")

    w.engine.override(define("1")("a"), "by hand", reason="")
    assert define("1")("a").value == "by hand"
    assert define("1")("b").value == "b 1"
    assert define("2")("a").value == "a 2"


def test_a_read_that_changes_makes_it_run_again(w: World) -> None:
    @musubito_step(name="s")
    def s(x: int) -> Any:
        w.count("s")
        return w.read("key")

    w.data["key"] = 1
    w.engine.override(s(0), 7, reason="")
    assert s(0).value == 7
    w.data["key"] = 2
    assert s(0).value == 2


def test_a_newer_inner_result_makes_it_run_again(w: World) -> None:
    """The person corrected what the step made of an inner result: of another one it may be made otherwise."""

    @musubito_step(name="inner")
    def inner(x: int) -> int:
        return w.draw("inner")

    @musubito_step(name="outer")
    def outer(x: int) -> int:
        w.count("outer")
        return 10 * inner(x).value

    w.engine.override(outer(1), 7, reason="")
    assert outer(1).value == 7
    forced(inner)(1)
    assert outer(1).value == 20
    assert w.ran["outer"] == 2


def test_an_edit_of_an_inner_result_makes_the_edited_outer_one_run_again(w: World) -> None:
    inner = musubito_step(name="inner")(lambda x: x)
    outer = musubito_step(name="outer")(lambda x: 10 * inner(x).value)
    result = outer(1)
    w.engine.override(result, 7, reason="")
    w.engine.override(inner(1), 3, reason="")
    assert outer(1).value == 30


def test_its_time_to_live_counts_from_the_edit_and_that_of_what_is_inside_does_not(w: World) -> None:
    step = musubito_step(ttl(10), name="s")(lambda x: w.draw("s"))
    inner = musubito_step(ttl(10), name="inner")(lambda x: w.draw("inner"))
    outer = musubito_step(name="outer")(lambda x: inner(x).value)
    result, built = step(1), outer(1)
    w.now += 8
    w.engine.override(result, "by hand", reason="")
    w.engine.override(built, "by hand", reason="")
    assert (step(1).value, outer(1).value) == ("by hand", "by hand")
    w.now += 5
    assert step(1).value == "by hand"
    assert outer(1).value != "by hand"
    w.now += 6
    assert step(1).value != "by hand"


def test_it_answers_wherever_the_result_did(w: World) -> None:
    """The corrected node was answered across parents, by an execution of another node."""

    @musubito_step(ACROSS, name="s")
    def s(x: int) -> int:
        return w.draw("s")

    first = under([A], s, 1)
    second = under([D], s, 1)
    assert first.value == second.value
    assert first.node_id != second.node_id
    asked = w.rows("SELECT id, reuse_key FROM _nodes")
    w.engine.override(second, 7, reason="")
    assert (w.status(first), w.status(second)) == ("SUCCESS", "SUCCESS")
    assert w.rows("SELECT id, reuse_key FROM _nodes") == asked
    assert {under([each], s, 1).value for each in (A, B, D)} == {7}
    assert w.ran["s"] == 1
    w.engine.undo_override(first)
    assert {under([each], s, 1).value for each in (A, B, D)} == {first.value}


def test_one_of_several_samples_is_edited(w: World) -> None:
    @musubito_step(STOCHASTIC, name="vote")
    def vote(x: int) -> int:
        return w.draw("vote")

    with run():
        votes = [vote(1) for _ in range(3)]
    w.engine.override(votes[1], "by hand", reason="")
    with run():
        assert [vote(1).value for _ in range(3)] == [votes[0].value, "by hand", votes[2].value]
    assert node_of(w, votes[1]).sample == 1


def test_attempts_before_a_result_are_given_with_the_edited_one(w: World) -> None:
    """A retry after a bad answer: the bad one is not given again to what comes after the corrected result."""

    @musubito_step(STOCHASTIC, name="ask")
    def ask(x: int) -> int:
        return w.draw("ask")

    @musubito_step(name="checked")
    def checked(x: int) -> int:
        if w.count("checked") == 1:
            ask(x)
            raise ValueError("a bad answer")
        return ask(x).value

    def work() -> tuple[Any, Any]:
        try:
            result = checked(1)
        except ValueError:
            result = checked(1)
        return result, ask(1)

    with run():
        result, asked = work()
    w.engine.override(result, 7, reason="")
    with run():
        again = work()
    assert [each.value for each in again] == [7, asked.value]


# -- effects -----------------------------------------------------------------------------------------------------------
def test_an_effect_does_not_take_place_again(w: World) -> None:
    def define(version: int) -> Any:
        @musubito_step(EFFECT, name="send")
        def send(x: int) -> str:
            w.count("send")
            return f"sent {version or ''}"

        return send

    result = define(0)(1)
    consumed = below(result)
    w.engine.override(result, "sent to nobody", reason="the server said so")
    assert below(define(0)(1)).value == "<sent to nobody>"
    assert w.status(consumed) == "STALE" or w.status(consumed) == "SUCCESS"
    # Neither does it after an edit of its code.
    assert define(1)(1).value == "sent to nobody"
    w.engine.undo_override(result)
    assert define(1)(1).value == result.value
    assert w.ran["send"] == 1
    # A second one has a number of its own, as before.
    with run():
        define(1)(1)
        define(1)(1)
    assert w.ran["send"] == 2


def test_a_done_effect_is_corrected_whatever_is_replayed_of_it(w: World) -> None:
    @musubito_step(EFFECT, name="send")
    def send(x: int) -> int:
        not_replayable("it wrote to the store")
        if x:
            note_read("answer", "", b"yes")
        return w.count("send")

    w.engine.override(send(0), 7, reason="")
    assert send(0).value == 7
    # Somebody agreed to this one: it asks again, so that no edit of it would be given.
    with pytest.raises(NotEdited, match="would not answer"):
        w.engine.override(send(1), 7, reason="")


# -- undone ------------------------------------------------------------------------------------------------------------
def test_an_edit_is_undone_and_what_was_built_on_the_earlier_result_is_found_again(w: World) -> None:
    step = musubito_step(name="s")(lambda x: w.draw("s"))
    outer = musubito_step(name="outer")(lambda x: step(x).value + 0 * w.count("outer"))
    result = step(1)
    consumed = below(result)
    outer(1)
    w.engine.override(result, 7, reason="")
    assert (below(step(1)).value, outer(1).value) == ("<7>", 7)
    assert w.engine.undo_override(result, reason="it was right") == result.artifact_id
    assert below(step(1)).value == consumed.value
    assert (step(1).value, outer(1).value) == (result.value, result.value)
    # A call inside names executions, and an INVALID one is never valid again.
    assert w.ran == {"s": 1, "outer": 3}


def test_edits_are_undone_one_by_one(w: World) -> None:
    step = musubito_step(name="s")(lambda x: "first")
    result = step(1)
    for value in ("second", "third"):
        w.engine.override(result, value, reason="")
    for value in ("second", "first"):
        w.engine.undo_override(result)
        assert step(1).value == value
    with pytest.raises(NotEdited, match="nothing to undo"):
        w.engine.undo_override(result)
    w.engine.override(result, "fourth", reason="")
    w.engine.undo_override(result)
    assert step(1).value == "first"


def test_what_was_before_an_edit_is_as_old_as_it_was(w: World) -> None:
    step = musubito_step(ttl(10), name="s")(lambda x: w.draw("s"))
    result = step(1)
    w.now += 8
    w.engine.override(result, 7, reason="")
    w.engine.undo_override(result)
    w.now += 1
    assert step(1).value == result.value
    w.now += 2
    assert step(1).value != result.value


def test_what_was_invalidated_does_not_come_back(w: World) -> None:
    @musubito_step(ACROSS, name="s")
    def s(x: int) -> int:
        return w.draw("s")

    first, second = under([A], s, 1), under([B], s, 1)
    w.engine.override(second, 7, reason="")
    w.engine.invalidate(first.node_id)
    assert under([B], s, 1).value == 7
    with pytest.raises(NotEdited, match="is gone"):
        w.engine.undo_override(second)
    assert under([B], s, 1).value == 7


# -- refused -----------------------------------------------------------------------------------------------------------
def test_what_would_never_answer_is_refused(w: World) -> None:
    @musubito_step(name="never")
    def never(x: int) -> int:
        not_replayable("it wrote to the store")
        return x

    fails = musubito_step(name="fails")(lambda x: 1 // x)
    step = musubito_step(name="s")(lambda x: x)
    with pytest.raises(NotEdited, match="never replayed .*it wrote to the store"):
        w.engine.override(never(1), 2, reason="")
    result = step(1)
    w.engine.invalidate(step)
    with pytest.raises(NotEdited, match="not replayed any more"):
        w.engine.override(result, 2, reason="")
    with run() as r, pytest.raises(ZeroDivisionError):
        fails(0)
    with pytest.raises(NotEdited, match="no stored result"):
        w.engine.override(r.calls[0].node_id, 2, reason="")
    with pytest.raises(NotEdited, match="no stored result"):
        w.engine.override("0" * 64, 2, reason="")
    with pytest.raises(ValueError, match="64"):
        w.engine.override("12", 2, reason="")
    with pytest.raises(TypeError, match="not a int"):
        w.engine.override(12, 2, reason="")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="reason takes a text"):
        w.engine.override(step(2), 2, reason=None)  # type: ignore[arg-type]
    with pytest.raises(NotEdited, match="cannot be stored"):
        w.engine.override(step(2), object(), reason="")
    assert step(2).value == 2


def test_a_result_of_another_namespace_is_not_found(w: World) -> None:
    step = musubito_step(name="s")(lambda x: x)
    result = step(1)
    with pytest.raises(NotEdited, match="no stored result in the namespace 'another'"):
        w.engine.in_namespace("another").override(result, 2, reason="")


def test_a_result_that_came_meanwhile_is_not_lost(w: World) -> None:
    inner = musubito_step(name="inner")(lambda x: w.draw("inner"))
    outer = musubito_step(name="outer")(lambda x: inner(x).value)
    result = outer(1)
    w.before_write(Commit, lambda: forced(inner)(1))
    with pytest.raises(NotEdited, match="another result by now"):
        w.engine.override(result, 7, reason="")
    assert outer(1).value == 2


def test_of_two_who_correct_a_result_at_once_the_second_is_told(w: World) -> None:
    step = musubito_step(name="s")(lambda x: x)
    node = bytes.fromhex(step(1).node_id)
    mine = result_to_edit(w.engine, node)
    override(w.engine, node, "hers", by_hand("", "she"))
    with pytest.raises(NotEdited, match="another result by now"):
        replace_payload(w.engine, mine, encode_value("mine"), by_hand("", "I"))
    assert step(1).value == "hers"


# -- who, when and why -------------------------------------------------------------------------------------------------
def test_who_when_and_why_are_kept(w: World) -> None:
    step = musubito_step(name="s")(lambda x: x)
    result = step(1)
    assert node_of(w, result).execution.edit is None
    w.now = 150.0
    w.engine.override(result, 2, reason="a typo", by="Anna")
    edit = node_of(w, result).execution.edit
    assert (edit.person, edit.at, edit.reason, edit.undone) == ("Anna", 150.0, "a typo", False)
    w.now = 160.0
    w.engine.undo_override(result)
    edit = node_of(w, result).execution.edit
    assert (edit.person, edit.at, edit.reason, edit.undone) == (getpass.getuser(), 160.0, "", True)


def test_a_replay_of_it_saves_what_the_run_had_cost(w: World) -> None:
    @musubito_step(name="s")
    def s(x: int) -> int:
        record_usage(input_tokens=10, output_tokens=5, model="m")
        time.sleep(0.02)
        return x

    with run() as first:
        result = s(1)
    w.engine.override(result, 2, reason="")
    with run() as again:
        s(1)
    assert again.calls[0].saved_tokens == 15
    assert again.calls[0].saved_compute_ms == pytest.approx(first.calls[0].compute_ms)
    assert w.rows("SELECT sum(input_tokens), sum(total_input_tokens) FROM usage") == [(10, 20)]


# -- in the store ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("key", [None, b"k" * 32])
def test_large_outputs_and_encrypted_namespaces(tmp_path: Path, key: bytes | None) -> None:
    path, calls = tmp_path / "s.db", []
    large = "x" * 3_000_000

    @musubito_step(name="s")
    def s(x: int) -> str:
        calls.append(x)
        return "".join(chr(33 + (n * n + n // 7) % 90) for n in range(1_500_000))

    with MusubitoEngine(SQLiteStorage(path), key=key) as engine, use_musubito_engine(engine):
        result = s(1)
        engine.override(result, [large, "the secret of a tenant"], reason="the secret of a tenant", by="a tenant")
        assert s(1).value == [large, "the secret of a tenant"]
        edit = Lineage(engine).node(result.node_id).execution.edit
        assert (edit.person, edit.reason) == ("a tenant", "the secret of a tenant")
        assert [finding for checked in verify(Lineage(engine)) for finding in checked.findings] == []
        engine.undo_override(result)
        assert s(1).value == result.value
    assert calls == [1]
    if key is not None:
        stored = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
        assert b"a tenant" not in stored
        with MusubitoEngine(SQLiteStorage(path)) as engine, pytest.raises(WrongKey):
            engine.override(result, 1, reason="")


def test_a_key_that_is_changed_opens_what_people_said(tmp_path: Path) -> None:
    path, key, new = tmp_path / "s.db", b"k" * 32, b"n" * 32
    step = musubito_step(name="s")(lambda x: x)

    @musubito_step(EFFECT, name="send")
    def send(x: int) -> int:
        raise TimeoutError("no answer")

    with MusubitoEngine(SQLiteStorage(path), key=key) as engine, use_musubito_engine(engine):
        result = step(1)
        engine.override(result, 2, reason="why", by="Ada")
        with pytest.raises(TimeoutError):
            send(1)
        lineage = Lineage(engine)
        assert settle(lineage, unknown_effects(lineage)[0], 7, happened=True)
    with MusubitoEngine(SQLiteStorage(path), key=key + new + key) as engine:
        counts = RekeyCounts()
        list(rekey(Lineage(engine), counts))
        assert (counts.sealed["edits"], counts.sealed["effects"], counts.unreadable) == (2, 1, {})
    with MusubitoEngine(SQLiteStorage(path), key=key + new) as engine, use_musubito_engine(engine):
        edit = Lineage(engine).node(result.node_id).execution
        assert edit is not None
        assert edit.edit is not None
        assert (edit.edit.person, edit.edit.reason) == ("Ada", "why")
        assert (step(1).value, send(1).value) == (2, 7)


def test_an_erased_result_takes_its_edits_with_it(w: World) -> None:
    step = musubito_step(name="s")(lambda x: x)
    result = step(1)
    w.engine.override(result, "the secret", reason="the reason")
    w.engine.override(result, "another secret", reason="another reason")
    with reading(w) as lineage:
        forget(lineage, changes_for(lineage, "s"))
        assert lineage.node(result.node_id).is_erased
    assert w.rows("SELECT count(*), max(payload), max(holds), min(holds) FROM _executions") == [(3, None, 16, 16)]
    assert w.rows("SELECT count(*) FROM edits WHERE reason LIKE '%reason%'") == [(0,)]
    assert step(1).value == 1


def test_a_prune_keeps_an_edit_that_answers_and_what_was_before_it(w: World) -> None:
    step = musubito_step(name="s")(lambda x: f"old {x}")
    for x in range(3):
        step(x)
    w.engine.override(step(1), "by hand", reason="why")
    w.engine.override(step(2), "by hand", reason="why")
    w.engine.undo_override(step(2))
    w.engine.invalidate(step(2).node_id)
    with reading(w) as lineage:
        prune(lineage, before=1e12)
    with run() as r:
        assert [step(x).value for x in range(3)] == ["old 0", "by hand", "old 2"]
    assert [call.outcome for call in r.calls] == ["ran", "replayed", "ran"]
    w.engine.undo_override(step(1))
    assert step(1).value == "old 1"


@dataclass
class Report:
    title: str


def test_values_of_classes_and_streams(w: World) -> None:
    @musubito_step(name="report")
    def report(x: int) -> Report:
        return Report(f"report {x}")

    @musubito_step(name="chunks")
    def chunks(x: int) -> Any:
        yield from ("a", "b")

    w.engine.override(report(1), Report("by hand"), reason="")
    assert report(1).value == Report("by hand")
    stream = chunks(1)
    assert list(stream) == ["a", "b"]
    w.engine.override(stream.result, ["by", "hand"], reason="")
    assert list(chunks(1)) == ["by", "hand"]
