"""An external effect is never repeated because something was edited, nor when nobody knows whether it took place."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from musubito import (
    EffectHappened,
    EffectNeverHappened,
    EffectOutcomeUnknown,
    MusubitoEngine,
    NotReplayed,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    StoreError,
    current_idempotency_key,
    musubito_step,
    run,
    use_musubito_engine,
)
from musubito.adapter import ANSWER, add_control_flow, not_replayable, note_read
from musubito.engine import scope
from musubito.lineage import Lineage
from musubito.lineage.readers.unknown_effects import settle, unknown_effects
from musubito.model import ReplayDecision, ReplayReason
from musubito.store.changes import BeginEffect, Commit, CommitFailure
from tests.soundness.test_failures import Faulty
from tests.soundness.test_single_flight import Gate
from tests.soundness.world import A, Failing, World, forced, in_a_run, parent, under, with_policy

EFFECT = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT)


@dataclass
class Given:
    x: int


def sending(w: World, *, fails: int = 0, **policy: Any) -> Callable[..., Any]:
    """A step that sends something, and fails after it has the first times."""

    @musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT, **policy), name="send")
    def send(x: object) -> int:
        number = w.count("send")
        w.data.setdefault("keys", []).append(current_idempotency_key())
        if number <= w.data["fails"]:
            raise Failing
        return number

    w.data["fails"] = fails
    return send


def test_an_edit_of_its_code_does_not_repeat_an_effect(w: World) -> None:
    def edited(x: int) -> int:
        return w.count("send") + 100

    assert sending(w)(0).value == 1
    assert musubito_step(EFFECT, name="send")(edited)(0).value == 1
    assert w.ran["send"] == 1


def test_nothing_upstream_repeats_an_effect(w: World) -> None:
    send = sending(w)
    for parents in ([A], [parent("P", 1)], []):
        assert under(parents, send, 0).value == 1
    assert w.ran["send"] == 1


def test_other_input_and_another_operation_version_are_other_effects(w: World) -> None:
    def send(x: int) -> int:
        return w.count("send")

    one = musubito_step(EFFECT, name="send")(send)
    two = musubito_step(EFFECT, name="send", operation_version="2")(send)
    assert [one(0).value, one(1).value, two(0).value, one(0).value, two(0).value] == [1, 2, 3, 1, 3]


def test_identical_effects_of_one_run_are_numbered(w: World) -> None:
    send = sending(w)
    for _ in range(2):
        assert in_a_run(lambda: send(0), lambda: send(0)) == [1, 2]
    assert len(set(w.data["keys"])) == 2


# -- once in each run --------------------------------------------------------------------------------------------------
def test_an_effect_of_each_run_is_done_again_in_another_run_alone(w: World) -> None:
    send = sending(w, once_per="run")
    with run():
        assert send(0).value == 1
    with run():
        assert [send(0).value, send(0).value] == [2, 3], "equal calls of one run are several effects"
    # Without a run, each call is a run of its own.
    assert [send(0).value, send(0).value] == [4, 5]
    assert len(set(w.data["keys"])) == 5


def test_a_retry_in_a_run_repeats_no_effect_of_it(w: World) -> None:
    send = sending(w, once_per="run")

    @musubito_step(name="outer")
    def outer() -> int:
        sent = send(0).value
        if w.count("outer") == 1:
            raise Failing
        return sent

    assert in_a_run(outer) == [1]
    assert (w.ran["outer"], w.ran["send"]) == (2, 1)


def test_an_effect_of_each_run_in_doubt_is_in_doubt_in_its_run_alone(w: World) -> None:
    send = sending(w, fails=1, once_per="run")
    with run():
        with pytest.raises(Failing):
            send(0)
        with pytest.raises(EffectOutcomeUnknown):
            send(0)
    with run():
        assert send(0).value == 2


def test_a_step_around_an_effect_of_each_run_runs_in_each(w: World) -> None:
    send = sending(w, once_per="run")

    @musubito_step(name="outer")
    def outer() -> int:
        return send(0).value

    assert [outer().value for _ in range(2)] == [1, 2], "the outermost call is the run"
    with run():
        assert [outer().value for _ in range(2)] == [3, 4]
    assert w.engine.explain(outer).decision.reason is ReplayReason.EFFECT_OF_RUN


def test_that_an_effect_is_one_of_each_run_counts_for_the_steps_around_it(w: World) -> None:
    for policy, value in (({}, 1), ({"once_per": "run"}, 2)):
        send = sending(w, **policy)

        @musubito_step(name="outer")
        def outer() -> int:
            return send(0).value  # noqa: B023 - it is called here

        assert outer().value == value


def test_replay_only_gives_what_another_run_has_recorded(w: World) -> None:
    send = sending(w, once_per="run")
    with run():
        send(0)
    with run(mode="replay_only"):
        assert send(0).value == 1
        with pytest.raises(NotReplayed):
            send(1)
    assert w.ran["send"] == 1


def test_an_error_leaves_the_outcome_unknown(w: World) -> None:
    send = sending(w, fails=1)
    with pytest.raises(Failing):
        send(0)
    for _ in range(2):
        with pytest.raises(EffectOutcomeUnknown):
            send(0)
    assert w.ran["send"] == 1


def test_neither_force_nor_an_age_overrides_an_unknown_outcome(w: World) -> None:
    send = sending(w, fails=1)
    with pytest.raises(Failing):
        send(0)
    for again in (forced(send), with_policy(send, ttl_seconds=0)):
        with pytest.raises(EffectOutcomeUnknown):
            again(0)
    assert w.ran["send"] == 1


def test_force_repeats_what_was_done(w: World) -> None:
    send = sending(w)
    assert [send(0).value, forced(send)(0).value, send(0).value] == [1, 2, 2]
    assert len(set(w.data["keys"])) == 2, "a new effect has a new idempotency key"


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, SystemExit, asyncio.CancelledError])
def test_an_effect_that_was_cut_short_is_unknown(w: World, error: type[BaseException]) -> None:
    @musubito_step(EFFECT, name="send")
    def send(x: int) -> int:
        w.count("send")
        raise w.data["error"]

    w.data["error"] = error()
    with pytest.raises(error):
        send(0)
    with pytest.raises(EffectOutcomeUnknown):
        send(0)
    assert w.ran["send"] == 1


def test_what_a_person_found_out_settles_an_effect_in_doubt(w: World) -> None:
    send = sending(w, fails=1)
    for found_out, given in (({"happened": False}, 2), ({"value": [7], "happened": True}, [7])):
        w.data["fails"] = w.ran["send"] + 1
        with pytest.raises(Failing):
            forced(send)(0)
        with MusubitoEngine(SQLiteStorage(w.path)) as engine:
            lineage = Lineage(engine)
            (effect,) = unknown_effects(lineage)
            assert settle(lineage, effect, **found_out)
        # Neither force nor an edit of the code makes it run once more if it happened.
        assert [send(0).value, send(0).value] == [given, given]
        with MusubitoEngine(SQLiteStorage(w.path)) as engine:
            assert unknown_effects(Lineage(engine)) == []
            assert not settle(Lineage(engine), effect, happened=False)
    assert w.ran["send"] == 3
    # As after the answer of a callable, the key stays the same until the effect is done.
    assert w.data["keys"][0] == w.data["keys"][1] != w.data["keys"][2]


def test_a_definite_failure_may_run_again(w: World) -> None:
    send = sending(w, fails=1, definite_failures=(Failing,))
    with pytest.raises(Failing):
        send(0)
    assert [send(0).value, send(0).value] == [2, 2]
    assert len(set(w.data["keys"])) == 2


def test_rerun_repeats_with_the_same_idempotency_key(w: World) -> None:
    send = sending(w, fails=2, on_unknown="rerun")
    for _ in range(2):
        with pytest.raises(Failing):
            send(0)
    assert [send(0).value, send(0).value] == [3, 3]
    assert len(set(w.data["keys"])) == 1
    assert None not in w.data["keys"]


def test_reconcile_says_that_it_happened(w: World) -> None:
    asked = []

    def reconcile(key: str) -> EffectHappened:
        asked.append(key)
        return EffectHappened(70)

    send = sending(w, fails=9, on_unknown=reconcile)
    with pytest.raises(Failing):
        send(0)
    assert [send(0).value, send(0).value] == [70, 70]
    assert (w.ran["send"], asked) == (1, w.data["keys"])


def test_reconcile_says_that_it_did_not(w: World) -> None:
    send = sending(w, fails=1, on_unknown=lambda key: EffectNeverHappened())
    with pytest.raises(Failing):
        send(0)
    assert [send(0).value, send(0).value] == [2, 2]


def test_reconcile_that_says_something_else_is_an_error(w: World) -> None:
    send = sending(w, fails=1, on_unknown=lambda key: True)
    with pytest.raises(Failing):
        send(0)
    with pytest.raises(TypeError, match="EffectHappened"):
        send(0)
    assert w.ran["send"] == 1


def test_reconcile_that_fails_leaves_it_in_doubt(w: World) -> None:
    def unreachable(key: str) -> EffectHappened:
        raise ConnectionError("cannot ask")

    with pytest.raises(Failing):
        sending(w, fails=1)(0)
    with run() as ledger, pytest.raises(ConnectionError):
        sending(w, fails=9, on_unknown=unreachable)(0)
    assert w.ran["send"] == 1
    assert [(call.outcome, call.reason) for call in ledger.calls] == [("failed", ReplayReason.OUTCOME_UNKNOWN)]


async def test_an_async_effect_awaits_who_is_asked_and_no_other_can(w: World) -> None:
    async def reconcile(key: str) -> EffectHappened:
        await asyncio.sleep(0)
        return EffectHappened(70)

    @musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT, on_unknown=reconcile), name="post")
    async def post(x: int) -> int:
        w.count("post")
        raise Failing

    with pytest.raises(Failing):
        await post(0)
    assert (await post(0)).value == 70
    send = sending(w, fails=1, on_unknown=reconcile)
    with pytest.raises(Failing):
        send(0)
    with pytest.raises(TypeError, match="async"):
        send(0)
    assert w.ran == {"post": 1, "send": 1}


async def test_an_effect_that_was_cancelled_before_it_ran_may_run(w: World) -> None:
    @musubito_step(EFFECT, name="send")
    async def send(x: int) -> int:
        return w.count("send")

    task = asyncio.create_task(send(0))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await send(0)).value == 1


def test_a_result_that_is_lost_is_not_got_by_repeating_the_effect(w: World) -> None:
    send = sending(w)
    send(0)
    for damaged in ("x'00'", "NULL"):
        with closing(sqlite3.connect(w.path)) as connection:
            connection.execute(f"UPDATE _executions SET payload = {damaged}")
            connection.commit()
        with w.another_engine() as other, use_musubito_engine(other):
            for again in (send, with_policy(send, on_unknown="rerun")):
                with pytest.raises(EffectOutcomeUnknown, match="its result is lost"):
                    again(0)
    happened = with_policy(send, on_unknown=lambda key: EffectHappened(1))
    assert [happened(0).value, send(0).value, w.ran["send"]] == [1, 1, 1]


@pytest.mark.parametrize("fails", ["newest", BeginEffect])
def test_an_effect_that_cannot_be_recorded_is_refused(w: World, fails: str | type) -> None:
    send = sending(w)
    store = Faulty(SQLiteStorage(w.path), fails)
    if fails == "newest":
        store.find = _gone  # type: ignore[method-assign]
    with use_musubito_engine(MusubitoEngine(store)) as engine:
        with pytest.raises(StoreError, match="refused"):
            send(0)
        assert w.ran["send"] == 0
        engine.close()


def _gone(query: object) -> object:
    raise StoreError("the disk is gone")


@pytest.mark.filterwarnings("ignore::musubito.MusubitoWarning")
def test_an_outcome_that_could_not_be_recorded_is_unknown(w: World) -> None:
    send = sending(w)
    store = Faulty(SQLiteStorage(w.path), Commit)
    with use_musubito_engine(MusubitoEngine(store)) as engine:
        assert send(0).value == 1
        store.fails = None
        with pytest.raises(EffectOutcomeUnknown):
            send(0)
        engine.close()
    assert w.ran["send"] == 1


def test_an_outer_step_that_replays_does_not_repeat_the_effect_inside(w: World) -> None:
    send = sending(w)

    @musubito_step(name="o")
    def o(x: int) -> int:
        return send(x).value

    o(0)
    o(0)
    forced(o)(0)
    w.engine.invalidate(o)
    o(0)
    assert w.ran["send"] == 1


@pytest.mark.parametrize("deep", [False, True])
def test_what_was_built_inside_an_effect_and_replaced_does_not_repeat_it(w: World, *, deep: bool) -> None:
    """And what was built on the effect stands with it."""

    @musubito_step(name="s")
    def s(x: int) -> int:
        return w.draw("s")

    @musubito_step(name="middle")
    def middle(x: int) -> int:
        return s(0).value

    inside = middle if deep else s

    @musubito_step(EFFECT, name="send")
    def send(x: int) -> int:
        w.count("send")
        return inside(0).value

    @musubito_step(name="o")
    def o(x: int) -> int:
        w.count("o")
        return send(x).value

    o(0)
    forced(s)(0)
    assert send(0).value == 1
    assert o(0).value == 1
    assert w.ran == {"o": 1, "send": 1, "s": 2}


def test_an_effect_invalidated_by_hand_may_run_again(w: World) -> None:
    send = sending(w)
    send(0)
    w.engine.invalidate(send)
    assert send(0).value == 2


def test_the_ttl_of_an_effect_lets_it_run_again(w: World) -> None:
    send = with_policy(sending(w), ttl_seconds=5)
    assert send(0).value == 1
    w.now += 4
    assert send(0).value == 1
    w.now += 1
    assert send(0).value == 2


@pytest.mark.filterwarnings("ignore::musubito.MusubitoWarning")
def test_an_effect_whose_output_cannot_be_stored_is_not_repeated(w: World) -> None:
    @musubito_step(EFFECT, name="send")
    def send(x: int) -> object:
        w.count("send")
        return threading.Lock()

    send(0)
    with pytest.raises(EffectOutcomeUnknown, match="result is lost"):
        send(0)
    assert w.ran["send"] == 1


def test_an_effect_asked_for_at_once_happens_once(w: World) -> None:
    gate = Gate()

    @musubito_step(EFFECT, name="send")
    def send(x: int) -> int:
        number = w.count("send")
        gate.pass_through()
        return number

    def elsewhere() -> int:
        with use_musubito_engine(w.another_engine()) as engine:
            value = send(0).value
            engine.close()
            return int(value)

    workers = [w.start(lambda: send(0).value)]
    assert gate.reached.wait(20)
    workers += [w.start(lambda: send(0).value), w.start(elsewhere)]
    threading.Event().wait(0.1)
    gate.opened.set()
    assert [worker.result() for worker in workers] == [1, 1, 1]


def test_there_is_no_idempotency_key_outside_of_an_effect(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> str | None:
        return current_idempotency_key()

    assert current_idempotency_key() is None
    assert f(0).value is None


# -- a framework that interrupts an effect -----------------------------------------------------------------------------
class Suspended(Exception):
    """A framework interrupts what it will run again."""


class Left(Exception):
    """A framework is told to go on elsewhere."""


@pytest.fixture
def steered(monkeypatch: pytest.MonkeyPatch) -> None:
    for registered in ("_CONTROL_FLOW", "_LEAVING"):
        monkeypatch.setattr(scope, registered, ())
    add_control_flow(Suspended, leaving=[Left])


def asking(w: World) -> Callable[..., Any]:
    """A step that sends something once somebody has agreed."""

    @musubito_step(EFFECT, name="send")
    def send(x: int) -> int:
        w.data.setdefault("keys", []).append(current_idempotency_key())
        if not w.data["answered"]:
            raise Suspended
        not_replayable("it was given an answer")
        note_read(ANSWER, "", None)
        return w.count("send")

    w.data["answered"] = False
    return send


@pytest.mark.usefixtures("steered")
def test_an_effect_that_was_interrupted_is_run_again_with_its_key(w: World) -> None:
    send = asking(w)
    for _ in range(2):
        with pytest.raises(Suspended):
            send(0)
    w.data["answered"] = True
    assert send(0).value == 1
    assert len(set(w.data["keys"])) == 1


@pytest.mark.usefixtures("steered")
def test_another_process_goes_on_with_an_effect_that_was_interrupted(w: World) -> None:
    send = asking(w)
    with pytest.raises(Suspended):
        send(0)
    w.data["answered"] = True
    with w.another_engine() as another, use_musubito_engine(another):
        assert send(0).value == 1


@pytest.mark.usefixtures("steered")
def test_what_one_has_agreed_to_another_has_not(w: World) -> None:
    send = asking(w)
    w.data["answered"] = True
    assert send(0).value == 1
    w.data["answered"] = False
    with pytest.raises(Suspended):
        send(0)
    w.data["answered"] = True
    assert send(0).value == 2
    first, *asked_again = w.data["keys"]
    assert first not in asked_again
    assert len(set(asked_again)) == 1


@pytest.mark.usefixtures("steered")
def test_an_effect_around_one_that_was_agreed_to_asks_again(w: World) -> None:
    send = asking(w)

    @musubito_step(EFFECT, name="outer")
    def outer(x: int) -> int:
        return send(x).value

    w.data["answered"] = True
    assert [outer(0).value, outer(0).value] == [1, 2]


@pytest.mark.usefixtures("steered")
def test_an_effect_that_was_left_for_good_is_unknown(w: World) -> None:
    @musubito_step(EFFECT, name="send")
    def send(x: int) -> int:
        w.count("send")
        raise Left

    with pytest.raises(Left):
        send(0)
    with pytest.raises(EffectOutcomeUnknown):
        send(0)
    assert w.ran["send"] == 1


@pytest.mark.filterwarnings("ignore::musubito.MusubitoWarning")
@pytest.mark.usefixtures("steered")
def test_an_interruption_that_could_not_be_recorded_leaves_it_unknown(w: World) -> None:
    send = asking(w)
    store = Faulty(SQLiteStorage(w.path), CommitFailure)
    with use_musubito_engine(MusubitoEngine(store)) as engine:
        with pytest.raises(Suspended):
            send(0)
        store.fails = None
        with pytest.raises(EffectOutcomeUnknown):
            send(0)
        engine.close()


@pytest.mark.usefixtures("steered")
def test_explain_tells_of_interrupted_effects(w: World) -> None:
    send = asking(w)
    with pytest.raises(Suspended):
        send(0)
    assert w.engine.explain(send, 0).decision == ReplayDecision(False, ReplayReason.NODE_NOT_FOUND)
    w.data["answered"] = True
    send(0)
    assert w.engine.explain(send, 0).decision == ReplayDecision(False, ReplayReason.RELEASED_BY_ANSWER)


def test_a_generator_cannot_be_an_effect() -> None:
    with pytest.raises(TypeError, match="EXTERNAL_EFFECT"):

        @musubito_step(EFFECT)
        def send():  # type: ignore[no-untyped-def]
            yield 1


def test_explain_tells_of_effects_without_running_them(w: World) -> None:
    send = sending(w, fails=1, definite_failures=())
    assert not w.engine.explain(send, 0).decision.replay
    with pytest.raises(Failing):
        send(0)
    assert not w.engine.explain(send, 0).decision.replay
    with run():
        send(1)
    assert w.engine.explain(send, 1).decision.replay
    assert w.ran["send"] == 2


def test_a_further_attempt_repeats_no_effect_and_draws_further_samples(w):
    sent, drawn = [], []

    @musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="mail")
    def mail(text):
        sent.append(text)
        return len(sent)

    @musubito_step(StepConfiguration(step_type=StepType.STOCHASTIC), name="draw")
    def draw(text):
        drawn.append(text)
        return len(drawn)

    @musubito_step
    def notify(text, times):
        numbers = [mail(text).value for _ in range(times)]
        if draw(text).value < 3:
            raise ConnectionError("not now")
        return numbers

    with run():
        for _ in range(2):
            with pytest.raises(ConnectionError):
                notify("hello", 2)
        assert notify("hello", 2).value == [1, 2]
    # Two of a kind were meant, and each was done once.
    assert sent == ["hello", "hello"]
    assert len(drawn) == 3


def test_an_effect_of_no_module_needs_a_name(w: World) -> None:
    """Else two programs that are run as text, each with an `f`, would share one: what one has done, the other had."""
    made: dict[str, Any] = {}
    exec("def f(x): return x", made)
    with pytest.raises(TypeError, match="in no module needs a name"):
        musubito_step(EFFECT)(made["f"])


def test_code_of_no_module_is_given_objects_of_classes(w: World) -> None:
    for factor in (1, 2, 1):
        made: dict[str, Any] = {"w": w}
        exec(f"def f(given):\n    return w.count('{factor}') and given.x * {factor}", made)
        with use_musubito_engine(w.engine):
            assert w.engine.execute("f", {"given": Given(5)}, made["f"]).value == 5 * factor
    assert w.ran == {"1": 1, "2": 1}
