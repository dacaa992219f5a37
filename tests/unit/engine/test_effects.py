"""External effects, one by one: when they run, when they are replayed, and when nobody knows."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from musubito import (
    EffectHappened,
    EffectNeverHappened,
    EffectOutcomeUnknown,
    MusubitoEngine,
    MusubitoWarning,
    ReplayReason,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    StoreError,
    current_idempotency_key,
    musubito_step,
    run,
    use_musubito_engine,
)
from musubito.engine.maintenance import LEASE_SECONDS
from musubito.testing.reference_store import MemoryStore
from tests.fresh import fresh
from tests.logged import fault_said

EFFECT = StepType.EXTERNAL_EFFECT
KEYS: list[str | None] = []
BEHAVIOUR: list[Callable[[Any], Any]] = []


class Refused(Exception):
    """Certainly nothing has happened."""


def act(x):
    KEYS.append(current_idempotency_key())
    return BEHAVIOUR.pop(0)(x) if BEHAVIOUR else f"sent {getattr(x, 'value', x)}"


def sender(*, version: str | None = None, function=act, **policy):
    """The same effect, each time with the policy that is asked for."""
    return musubito_step(StepConfiguration(step_type=EFFECT, **policy), name="send", operation_version=version)(
        function
    )


def boom(error: BaseException) -> Callable[[Any], Any]:
    def behave(_x):
        raise error

    return behave


@pytest.fixture(params=["sqlite", "memory"])
def engine(request, tmp_path):
    KEYS.clear(), BEHAVIOUR.clear()
    store = SQLiteStorage(fresh(tmp_path / "musubito.db")) if request.param == "sqlite" else MemoryStore()
    with MusubitoEngine(store) as engine, use_musubito_engine(engine):
        yield engine


# -- once is enough --------------------------------------------------------------------------------------------------
def test_what_is_done_is_replayed_and_has_one_key(engine):
    send = sender()
    assert send("ann").value == send("ann").value == "sent ann"
    assert len(KEYS) == 1
    assert KEYS[0] is not None
    assert len(KEYS[0]) == 64
    send("bob")
    assert len(set(KEYS)) == 2
    assert current_idempotency_key() is None


def test_an_edit_of_its_code_or_of_a_helper_does_not_repeat_it(engine):
    sender()("ann")

    def edited(x):
        KEYS.append("edited")
        return helper(x)

    def helper(x):
        return x

    assert sender(function=edited)("ann").value == "sent ann"
    assert KEYS != ["edited"]
    assert len(KEYS) == 1


def test_an_edit_of_anything_upstream_does_not_repeat_it(engine):
    @musubito_step(name="up")
    def first():
        return "ann"

    sender()(first())

    @musubito_step(name="up")
    def edited():
        return "an" + "n"

    assert sender()(edited()).value.startswith("sent")
    assert len(KEYS) == 1


def test_another_version_is_another_effect(engine):
    sender(version="1")("ann")
    sender(version="1")("ann")
    assert len(KEYS) == 1
    sender(version="2")("ann")
    assert len(KEYS) == 2
    assert len(set(KEYS)) == 2


def test_another_namespace_is_another_effect(tmp_path):
    KEYS.clear()
    for namespace in ("a", "b", "a"):
        with (
            MusubitoEngine(SQLiteStorage(tmp_path / "m.db"), namespace=namespace) as engine,
            use_musubito_engine(engine),
        ):
            sender()("ann")
    assert len(KEYS) == len(set(KEYS)) == 2


def test_equal_effects_of_one_run_are_two_and_a_second_run_replays_both(engine):
    send = sender()
    BEHAVIOUR[:] = [lambda _x: "first", lambda _x: "second"]
    for _ in range(2):
        with run():
            assert [send("ann").value, send("ann").value] == ["first", "second"]
    assert len(KEYS) == len(set(KEYS)) == 2
    with run():
        assert [send("ann").value for _ in range(3)] == ["first", "second", "sent ann"]
    assert len(KEYS) == 3


def test_force_runs_what_is_done_again_with_a_new_key(engine):
    sender()("ann")
    assert sender(force_reexecution=True)("ann").value == "sent ann"
    assert len(KEYS) == len(set(KEYS)) == 2
    sender()("ann")
    assert len(KEYS) == 2


def test_an_age_runs_what_is_done_again(tmp_path):
    KEYS.clear()
    now = [1000.0]
    with MusubitoEngine(MemoryStore(), now_provider=lambda: now[0]) as engine, use_musubito_engine(engine):
        send = sender(ttl_seconds=10)
        send("ann")
        now[0] += 9
        send("ann")
        assert len(KEYS) == 1
        now[0] += 1
        send("ann")
        assert len(KEYS) == len(set(KEYS)) == 2


def test_invalidated_by_hand_it_runs_again(engine):
    send = sender()
    result = send("ann")
    engine.invalidate(send)
    send("ann")
    send("ann")
    assert len(KEYS) == 2
    engine.invalidate(result.node_id)
    send("ann")
    assert len(KEYS) == 3


def test_what_was_done_stays_done_when_what_it_called_is_replaced_meanwhile(engine):
    """Its execution would be INVALID as that of any other step; the effect has taken place all the same."""
    answers = iter(["first", "second", "third"])

    def inner():
        return next(answers)

    plain = musubito_step(name="inner")(inner)
    forced = musubito_step(StepConfiguration(force_reexecution=True), name="inner")(inner)

    def behave(x):
        value = plain().value
        # Somebody else, in a thread that is not part of this call.
        thread = threading.Thread(target=lambda: use(engine, forced))
        thread.start()
        thread.join()
        return value

    def use(engine, step):
        with use_musubito_engine(engine):
            step()

    BEHAVIOUR[:] = [behave]
    send = sender()
    assert send("ann").value == "first"
    assert send("ann").value == "first"
    assert len(KEYS) == 1


# -- nobody knows ----------------------------------------------------------------------------------------------------
def fail_once(error: BaseException, **policy) -> None:
    BEHAVIOUR[:] = [boom(error)]
    with pytest.raises(type(error)) as raised:
        sender(**policy)("ann")
    assert raised.value is error


def test_any_exception_leaves_it_unknown_and_the_next_call_says_so(engine):
    fail_once(ValueError("timed out"))
    for _ in range(2):
        with pytest.raises(EffectOutcomeUnknown) as raised:
            sender()("ann")
        assert raised.value.operation == "send"
        assert len(raised.value.idempotency_key) == 64
    assert len(KEYS) == 1
    # Another one is not concerned.
    sender()("bob")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(2), asyncio.CancelledError(), GeneratorExit()])
def test_what_cuts_it_off_leaves_it_unknown(engine, error):
    fail_once(error)
    with pytest.raises(EffectOutcomeUnknown):
        sender()("ann")
    assert len(KEYS) == 1


def test_force_does_not_override_it(engine):
    fail_once(ValueError())
    with pytest.raises(EffectOutcomeUnknown):
        sender(force_reexecution=True)("ann")
    assert len(KEYS) == 1


def test_an_age_does_not_override_it(engine):
    fail_once(ValueError())
    with pytest.raises(EffectOutcomeUnknown):
        sender(ttl_seconds=0)("ann")
    assert len(KEYS) == 1


def test_a_definite_failure_may_run_again_with_a_new_key(engine):
    fail_once(Refused(), definite_failures=(Refused,))
    assert sender()("ann").value == "sent ann"
    assert len(KEYS) == len(set(KEYS)) == 2


def test_rerun_keeps_the_key_until_an_outcome_is_known(engine):
    send = sender(on_unknown="rerun", definite_failures=(Refused,))
    for error in (ValueError(), KeyError(), Refused()):
        BEHAVIOUR[:] = [boom(error)]
        with pytest.raises(type(error)):
            send("ann")
    assert len(set(KEYS)) == 1
    send("ann")
    assert len(KEYS) == 4
    assert len(set(KEYS)) == 2
    send("ann")
    assert len(KEYS) == 4


def test_a_callable_finds_out_that_it_happened(engine):
    asked = []

    def reconcile(key):
        asked.append(key)
        return EffectHappened({"found": True})

    fail_once(ValueError())
    with run() as ledger:
        assert sender(on_unknown=reconcile)("ann").value == {"found": True}
    assert asked == KEYS
    assert len(KEYS) == 1
    assert len(ledger.calls) == 1
    assert sender()("ann").value == {"found": True}
    assert len(asked) == 1


def test_a_callable_finds_out_that_it_never_happened(engine):
    asked = []

    def reconcile(key):
        asked.append(key)
        return EffectNeverHappened()

    fail_once(ValueError())
    assert sender(on_unknown=reconcile)("ann").value == "sent ann"
    assert asked == KEYS[:1]
    assert len(KEYS) == 2
    sender(on_unknown=reconcile)("ann")
    assert (len(asked), len(KEYS)) == (1, 2)


@pytest.mark.parametrize("answer", [None, True, "yes", EffectHappened, EffectNeverHappened])
def test_a_callable_that_answers_something_else_is_an_error_and_nothing_runs(engine, answer):
    fail_once(ValueError())
    with pytest.raises(TypeError, match="on_unknown must give back"):
        sender(on_unknown=lambda _key: answer)("ann")
    assert len(KEYS) == 1
    with pytest.raises(EffectOutcomeUnknown):
        sender()("ann")


def test_a_callable_that_raises_is_an_error_and_nothing_runs(engine):
    fail_once(ValueError())
    error = ConnectionError("cannot ask")

    def reconcile(_key):
        raise error

    with pytest.raises(ConnectionError) as raised:
        sender(on_unknown=reconcile)("ann")
    assert raised.value is error
    assert len(KEYS) == 1
    with pytest.raises(EffectOutcomeUnknown):
        sender()("ann")


async def test_an_async_callable_is_awaited(engine):
    async def effect(x):
        return act(x)

    async def reconcile(_key):
        await asyncio.sleep(0)
        return EffectHappened("found out")

    BEHAVIOUR[:] = [boom(ValueError())]
    with pytest.raises(ValueError):
        await sender(function=effect)("ann")
    assert (await sender(function=effect, on_unknown=reconcile)("ann")).value == "found out"
    assert len(KEYS) == 1


def test_a_sync_step_cannot_await_and_says_so(engine):
    async def reconcile(_key):
        return EffectNeverHappened()

    fail_once(ValueError())
    with pytest.raises(TypeError, match="async"):
        sender(on_unknown=reconcile)("ann")
    assert len(KEYS) == 1


# -- the store -------------------------------------------------------------------------------------------------------
class Broken(MemoryStore):
    """Fails where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.fails: Callable[[Any], bool] = lambda _change: False

    def write(self, changes):
        if any(map(self.fails, changes)):
            raise StoreError("full")
        return super().write(changes)


def test_without_a_store_it_is_refused(engine):
    store = Broken()
    store.fails = lambda change: type(change).__name__ == "BeginEffect"
    with MusubitoEngine(store) as broken, use_musubito_engine(broken):
        with pytest.raises(StoreError, match="refused"):
            sender()("ann")
        assert KEYS == []
        store.fails = lambda _change: False
        sender()("ann")
    assert len(KEYS) == 1


def test_an_outcome_that_cannot_be_recorded_is_unknown(engine):
    store = Broken()
    store.fails = lambda change: type(change).__name__ == "Commit"
    with MusubitoEngine(store) as broken, use_musubito_engine(broken):
        with fault_said("full"):
            assert sender()("ann").value == "sent ann"
        store.fails = lambda _change: False
        began = time.monotonic()
        with pytest.raises(EffectOutcomeUnknown):
            sender()("ann")
        # Its lease would last for longer.
        assert time.monotonic() - began < LEASE_SECONDS / 2
    assert len(KEYS) == 1


def test_an_effect_that_is_refused_is_in_the_ledger(engine):
    send = sender()
    BEHAVIOUR.append(boom(ConnectionError("reset")))
    with run() as ledger:
        with pytest.raises(ConnectionError):
            send("ann")
        with pytest.raises(EffectOutcomeUnknown):
            send("ann")
        with pytest.raises(OSError, match="no answer"):
            sender(on_unknown=boom(OSError("no answer")))("ann")
    assert [(call.outcome, call.reason) for call in ledger.calls] == [
        ("failed", ReplayReason.NODE_NOT_FOUND),
        ("failed", ReplayReason.OUTCOME_UNKNOWN),
        ("failed", ReplayReason.OUTCOME_UNKNOWN),
    ]


def test_a_result_that_is_lost_is_not_got_by_repeating_it(tmp_path):
    KEYS.clear()
    path = tmp_path / "musubito.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        sender()("ann")
    for spoil in ("UPDATE _executions SET payload = x'00'", "UPDATE _executions SET payload = NULL"):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(spoil)
            connection.commit()
        with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
            with pytest.raises(EffectOutcomeUnknown, match="its result is lost"):
                sender()("ann")
            with pytest.raises(EffectOutcomeUnknown):
                sender(on_unknown="rerun")("ann")
            assert len(KEYS) == 1
    asked = []

    def reconcile(key):
        asked.append(key)
        return EffectHappened("sent ann")

    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        assert sender(on_unknown=reconcile)("ann").value == "sent ann"
        assert sender()("ann").value == "sent ann"
    assert asked == KEYS


def test_an_output_that_cannot_be_stored_is_returned_and_not_got_again(engine):
    BEHAVIOUR[:] = [lambda _x: object()]
    with pytest.warns(MusubitoWarning, match="cannot be stored"):
        sender()("ann")
    with pytest.raises(EffectOutcomeUnknown):
        sender()("ann")
    assert len(KEYS) == 1


def test_intent_and_outcome_are_on_the_disk_when_they_are_committed(tmp_path):
    KEYS.clear()
    storage = SQLiteStorage(tmp_path / "musubito.db")
    statements: list[str] = []

    def behave(x):
        statements.append("-- the function runs")
        return x

    with MusubitoEngine(storage) as engine, use_musubito_engine(engine):
        musubito_step(name="warm up")(act)("x")
        storage._writer.connection.set_trace_callback(statements.append)
        BEHAVIOUR[:] = [behave]
        sender()("ann")
        storage._writer.connection.set_trace_callback(None)
        BEHAVIOUR[:] = []
        musubito_step(name="warm up")(act)("y")
        assert storage._writer.execute("PRAGMA synchronous").fetchone() == (1,)
    level, seen = "NORMAL", []
    for statement in statements:
        if statement.startswith("PRAGMA synchronous"):
            level = statement.split("=")[1].strip()
        elif statement.startswith("INSERT INTO _effects"):
            seen.append("outcome" if "'done'" in statement else "intent")
        elif statement == "COMMIT" and seen and seen[-1] in ("intent", "outcome"):
            seen.append(level)
        elif statement == "-- the function runs":
            seen.append("run")
    assert seen == ["intent", "FULL", "run", "outcome", "FULL"]


# -- side by side ----------------------------------------------------------------------------------------------------
def test_threads_are_one_effect(engine):
    send = sender()

    def ask(_n):
        with use_musubito_engine(engine), run():
            return send("ann").value

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(16))) == {"sent ann"}
    assert len(KEYS) == 1


async def test_tasks_of_runs_of_their_own_are_one_effect(engine):
    async def effect(x):
        await asyncio.sleep(0.01)
        return act(x)

    send = sender(function=effect)

    async def ask():
        with run():
            return (await send("ann")).value

    assert set(await asyncio.gather(*(ask() for _ in range(8)))) == {"sent ann"}
    assert len(KEYS) == 1


async def test_cancelled_before_it_ran_it_may_run(engine):
    """The cancellation comes while the intent is written: nothing has happened, and that is certain."""

    async def effect(x):
        return act(x)

    send = sender(function=effect)
    task = asyncio.create_task(send("ann"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if not KEYS:
        assert (await send("ann")).value == "sent ann"
        assert len(KEYS) == 1


def test_what_explain_and_the_ledger_say(engine):
    send = sender()
    with run() as ledger:
        send("ann")
    with run() as again:
        send("ann")
    assert [call.outcome for call in ledger.calls] == ["ran"]
    assert again.calls[0].reason is ReplayReason.EXACT_HIT


def test_inside_an_outer_step_that_is_replayed_it_is_not_repeated(engine):
    send = sender()

    @musubito_step()
    def outer(x):
        return send(x).value + "!"

    assert outer("ann").value == outer("ann").value == "sent ann!"
    assert len(KEYS) == 1

    @musubito_step(name=outer.__musubito_step__.name)
    def edited(x):
        return send(x).value + "?"

    assert edited("ann").value == "sent ann?"
    assert len(KEYS) == 1


def test_a_generator_is_refused():
    with pytest.raises(TypeError, match="generator"):

        @musubito_step(StepConfiguration(step_type=EFFECT))
        def stream():
            yield 1
