"""What a call would do is said before it does it, and what that took earlier."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from musubito import (
    InputError,
    MusubitoEngine,
    ReplayReason,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    musubito_step,
    record_usage,
    run,
    use_musubito_engine,
)
from musubito.lineage import Cost, Plan, Tokens, plan
from musubito.lineage.readers.plan import Estimates
from tests.fresh import fresh
from tests.reference.store import MemoryStore


class Clock:
    """The time, as it is set."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(tmp_path: Path, clock: Clock) -> Iterator[MusubitoEngine]:
    with (
        MusubitoEngine(SQLiteStorage(fresh(tmp_path / "m.db")), now_provider=clock) as engine,
        use_musubito_engine(engine),
    ):
        yield engine


ran: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_ran_yet() -> None:
    ran.clear()


@musubito_step(name="ask")
def ask(question: str) -> str:
    ran.append("ask")
    record_usage(input_tokens=100, output_tokens=10, model="small")
    return f"{question}!"


@musubito_step(name="report")
def report(topic: str) -> str:
    ran.append("report")
    return ask(topic).value + ask(f"{topic}?").value


def said(made: Plan) -> list[tuple[str, str, str | None]]:
    return [(line.operation, line.outcome, line.within) for line in made.lines]


def stored(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def test_a_plan_says_what_the_call_then_does(engine: MusubitoEngine, tmp_path: Path) -> None:
    report("sails")  # a first call shows what a step changes itself
    for topic in ("knots", "knots", "ropes"):
        engine.flush()
        before = stored(tmp_path / "m.db")
        made = plan(engine, report, topic)
        engine.flush()
        assert stored(tmp_path / "m.db") == before
        with run() as r:
            report(topic)
        top = next(call for call in r.calls if call.operation == "report")
        assert made.lines[0].node_id == top.node_id
        assert made.lines[0].outcome == ("would replay" if top.outcome == "replayed" else "would run")
    assert ran == ["report", "ask", "ask"] * 3


def test_what_never_ran_has_no_estimate(engine: MusubitoEngine) -> None:
    made = plan(engine, report, "knots")
    assert said(made) == [("report", "would run", None), ("ask", "unknown", "report")]
    assert [line.estimate for line in made.lines] == [None, None]
    assert made.lines[0].reason == "node not found"
    assert made.estimate == Cost()
    assert made.unknown == ("what report takes: it never ran to its end",)


def test_what_is_inside_is_not_counted_twice(engine: MusubitoEngine) -> None:
    report("knots")
    made = plan(engine, report, "ropes")
    assert made.lines[0].reason == "nothing like it"
    outer, inner = (line.estimate for line in made.lines)
    assert outer is not None
    assert inner is not None
    assert (outer.tokens, inner.tokens) == ({"small": Tokens(200, 20)}, {"small": Tokens(100, 10)})
    assert (made.estimate, made.perhaps, made.unknown) == (outer, Cost(), ())


def test_what_would_be_replayed_costs_nothing(engine: MusubitoEngine) -> None:
    report("knots")
    made = plan(engine, report, topic="knots")
    assert said(made) == [("report", "would replay", None)]
    assert made.lines[0].reason == "exact hit"
    assert made.lines[0].estimate is not None
    assert made.estimate == Cost()


def test_estimates_are_medians_of_the_newest(engine: MusubitoEngine, tmp_path: Path) -> None:
    @musubito_step(name="spends")
    def spends(number: int, tokens: int) -> int:
        record_usage(input_tokens=tokens, output_tokens=1, model="a")
        if number % 2:
            record_usage(input_tokens=7, output_tokens=7, model="b")
        return number

    for number in range(5):
        spends(number, 1_000_000)
    for number in range(20):
        spends(number, number)
    cost = Estimates(engine).of("spends")
    assert cost is not None
    # Of 0 to 19, (9 + 10) / 2; every second one used 7 of the other, the others none.
    assert cost.tokens == {"a": Tokens(10, 1), "b": Tokens(4, 4)}
    with closing(sqlite3.connect(tmp_path / "m.db")) as connection:
        durations = sorted(
            row[0] for row in connection.execute("SELECT duration_ms FROM _executions ORDER BY id DESC LIMIT 20")
        )
    assert cost.compute_ms == pytest.approx((durations[9] + durations[10]) / 2)


def test_failures_are_no_estimate(engine: MusubitoEngine) -> None:
    @musubito_step(name="fails")
    def fails() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        fails()
    made = plan(engine, fails)
    assert (made.lines[0].outcome, made.lines[0].reason, made.lines[0].estimate) == ("would run", "node failed", None)


def test_a_namespace_knows_nothing_of_another(engine: MusubitoEngine) -> None:
    report("knots")
    made = plan(engine.in_namespace("elsewhere"), report, "knots")
    assert made.lines[0].outcome == "would run"
    assert made.lines[0].estimate is None


def test_what_is_too_old_would_run(engine: MusubitoEngine, clock: Clock) -> None:
    @musubito_step(StepConfiguration(ttl_seconds=60), name="fresh")
    def fresh() -> int:
        return 1

    fresh()
    assert plan(engine, fresh).lines[0].outcome == "would replay"
    clock.now += 61
    assert (plan(engine, fresh).lines[0].outcome, plan(engine, fresh).lines[0].reason) == ("would run", "ttl expired")


def test_an_effect(engine: MusubitoEngine, clock: Clock) -> None:
    @musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT, ttl_seconds=60), name="mail")
    def mail(to: str) -> str:
        ran.append("mail")
        if to == "nobody":
            raise ConnectionError
        return f"sent to {to}"

    assert plan(engine, mail, "me").lines[0].outcome == "would run"
    mail("me")
    assert plan(engine, mail, "me").lines[0].outcome == "would replay"
    with pytest.raises(ConnectionError):
        mail("nobody")
    unknown = plan(engine, mail, "nobody").lines[0]
    assert (unknown.outcome, unknown.reason) == ("unknown", ReplayReason.OUTCOME_UNKNOWN)
    assert unknown.says == "it is not known whether its last attempt took place"
    clock.now += 61
    assert plan(engine, mail, "me").lines[0].reason == "ttl expired"
    assert ran == ["mail", "mail"]


def test_a_method_and_an_async_step(engine: MusubitoEngine) -> None:
    class Writer:
        def __musubito_identity__(self) -> str:
            return "a writer"

        @musubito_step(name="write")
        def write(self, text: str) -> str:
            return text

    @musubito_step(name="later")
    async def later(text: str) -> str:
        return text

    writer = Writer()
    assert plan(engine, writer.write, "a").lines[0].outcome == "would run"
    writer.write("a")
    assert plan(engine, writer.write, "a").lines[0].outcome == "would replay"
    assert plan(engine, later, "a").lines[0].outcome == "would run"


def test_a_store_that_keeps_nothing_for_readers_gives_no_estimate() -> None:
    with MusubitoEngine(MemoryStore()) as engine, use_musubito_engine(engine):
        report("knots")
        made = plan(engine, report, "knots")
        assert (made.lines[0].outcome, made.lines[0].estimate) == ("would replay", None)


def test_what_is_no_step(engine: MusubitoEngine) -> None:
    with pytest.raises(TypeError, match="is not a step"):
        plan(engine, len, "a")
    with pytest.raises(TypeError, match="unexpected keyword"):
        plan(engine, report, subject="knots")
    with pytest.raises(InputError):
        plan(engine, report, object())


def test_what_may_be_called_comes_in_the_order_of_names(engine: MusubitoEngine) -> None:
    several = [musubito_step(name=name)(lambda x: x) for name in ("e", "b", "d", "a", "c")]
    e, b, d, a, c = several

    @musubito_step(name="outer")
    def outer(x: int) -> int:
        return e(x).value + b(x).value + d(x).value + a(x).value + c(x).value

    assert [line.operation for line in plan(engine, outer, 1).lines] == ["outer", "a", "b", "c", "d", "e"]


def test_samples_that_the_run_around_has_given_are_not_given_again(engine):
    @musubito_step(StepConfiguration(step_type=StepType.STOCHASTIC), name="draw")
    def draw(x: int) -> int:
        return x

    for outcomes in (["ran", "ran"], ["replayed", "replayed", "ran"]):
        with run() as r:
            for outcome in outcomes:
                (line,) = plan(engine, draw, 1).lines
                draw(1)
                assert (line.outcome == "would replay", r.calls[-1].outcome) == (outcome == "replayed", outcome)
