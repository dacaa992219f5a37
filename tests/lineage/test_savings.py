"""What was spent and saved, by day, model, operation and run."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from functools import partial
from pathlib import Path

import pytest

from musubito import (
    MusubitoEngine,
    SQLiteStorage,
    StoreError,
    musubito_step,
    record_usage,
    run,
    use_musubito_engine,
)
from musubito.lineage import CallReport, Cost, Lineage, LineageError, Tokens
from musubito.lineage.readers.savings import savings
from musubito.store.changes import Commit
from tests.fresh import fresh
from tests.logged import fault_said

NOON = 1_700_000_000.0 // 86400 * 86400 + 12 * 3600
"""Of a day in UTC."""


class Clock:
    now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield Clock()
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def engine(tmp_path, clock):
    with (
        MusubitoEngine(SQLiteStorage(fresh(tmp_path / "m.db")), now_provider=clock) as engine,
        use_musubito_engine(engine),
    ):
        yield engine


@musubito_step(name="ask")
def ask(question: str) -> str:
    record_usage(input_tokens=100, output_tokens=10, model="gpt-4o")
    return question


@musubito_step(name="judge")
def judge(text: str) -> bool:
    record_usage(input_tokens=20, output_tokens=1, model="mine")
    time.sleep(0.02)
    return bool(text)


@musubito_step(name="report")
def report(question: str) -> str:
    text = ask(question).value
    judge(text)
    judge(text)
    return text


@musubito_step(name="breaks")
def breaks(x: int) -> None:
    record_usage(input_tokens=7, output_tokens=0, model="mine")
    raise ValueError(x)


def tokens(cost: Cost) -> dict[str, tuple[int, int]]:
    return {model: tuple(each) for model, each in cost.tokens.items()}


def compute(calls: Iterable[CallReport]) -> float:
    return sum(call.compute_ms for call in calls)


def test_what_ran_is_spent_and_what_was_replayed_is_saved(engine):
    for name in ("cold", "warm"):
        with run(name):
            report("why?")
    found = savings(Lineage(engine), by="run")
    warm, cold = found.rows
    assert [(row.name, row.calls, row.replayed, row.ran) for row in found.rows] == [
        ("warm", 1, 1, 0),
        ("cold", 4, 1, 3),
    ]
    assert tokens(cold.spent) == {"gpt-4o": (100, 10), "mine": (20, 1)}
    assert tokens(cold.saved) == {"mine": (20, 1)}  # judged twice
    assert (tokens(warm.spent), tokens(warm.saved)) == ({}, {"gpt-4o": (100, 10), "mine": (40, 2)})
    assert tokens(found.total.spent + found.total.saved) == {"gpt-4o": (200, 20), "mine": (80, 4)}
    assert (found.total.calls, found.total.replayed, found.total.ran) == (5, 2, 3)


def test_time_is_counted_once(engine):
    with run("cold"):
        report("why?")
    with run("warm"):
        report("why?")
    lineage = Lineage(engine)
    found = savings(lineage, by="run")
    assert [row.spent for row in found.rows] == [
        each.summary.spent for each in (lineage.run("warm"), lineage.run("cold"))
    ]
    calls = lineage.run("cold").calls
    outer = next(call for call in calls if call.operation == "report")
    assert found.total.compute_ms == pytest.approx(compute(calls))
    assert 20 <= found.total.compute_ms <= outer.wall_ms
    warm, cold = found.rows
    # The inner call that was replayed on the way would have taken its time as well.
    assert (warm.compute_ms, warm.saved_compute_ms) == (0.0, pytest.approx(cold.compute_ms + cold.saved_compute_ms))
    by_operation = {row.key: row for row in savings(lineage, by="operation").rows}
    assert by_operation["report"].compute_ms == outer.compute_ms < 20 <= by_operation["judge"].compute_ms
    assert sum(row.compute_ms for row in by_operation.values()) == pytest.approx(found.total.compute_ms)


def test_a_run_inside_a_call_adds_no_time_twice(engine):
    @musubito_step(name="outer")
    def outer(x: int) -> int:
        with run("inside"), run("deeper"):
            judge("text")
        return x

    with run("all"):
        outer(1)
    row, *others = savings(Lineage(engine), by="run").rows
    assert (others, row.name, row.calls, tokens(row.spent)) == ([], "all", 2, {"mine": (20, 1)})
    calls = Lineage(engine).run("all").calls
    took = next(call.wall_ms for call in calls if call.operation == "outer")
    assert row.compute_ms == pytest.approx(compute(calls))
    assert 20 <= row.compute_ms <= took


def test_a_run_inside_a_call_outside_of_runs_adds_no_time_twice(engine):
    @musubito_step(name="outer")
    def outer(x: int) -> int:
        with run("inside"):
            judge("text")
        return x

    outer(1)
    lineage = Lineage(engine)
    (summary,) = lineage.runs()
    for by in ("run", "day"):
        found = savings(lineage, by=by)
        assert [row.compute_ms for row in found.rows] == [pytest.approx(summary.compute_ms)]
        assert found.total.compute_ms == pytest.approx(summary.compute_ms)
    (row,) = savings(lineage, by="run").rows
    assert (row.key, row.name, row.calls, tokens(row.spent)) == (summary.run_id, "outer", 2, {"mine": (20, 1)})


def same_engine(engine: MusubitoEngine, _: Path) -> MusubitoEngine:
    return engine


def of_another_namespace(engine: MusubitoEngine, _: Path) -> MusubitoEngine:
    return engine.in_namespace("other")


def on_the_same_file(engine: MusubitoEngine, path: Path) -> MusubitoEngine:
    return MusubitoEngine(SQLiteStorage(path / "m.db"))


@pytest.mark.parametrize("inside", [same_engine, of_another_namespace, on_the_same_file])
@pytest.mark.parametrize("how", ["step", "run", "thread", "step in a step"])
def test_what_a_call_makes_of_another_engine_or_thread_adds_no_time_twice(engine, tmp_path, inside, how):
    other = inside(engine, tmp_path)

    @musubito_step(name="around")
    def around() -> None:
        judge("text")

    def thread() -> None:
        # It inherits no context.
        with ThreadPoolExecutor() as threads:
            threads.submit(judge, "text").result()

    @musubito_step(name="outer")
    def outer(x: int) -> int:
        if how == "thread" and other is engine:
            thread()
            return x
        with use_musubito_engine(other):
            if how == "run":
                with run("inside"):
                    judge("text")
            elif how == "step in a step":
                around()
            else:
                judge("text")
        return x

    with run("all"):
        outer(1)
    outer(2)
    other.flush()
    lineage = Lineage(engine)
    lone, whole = lineage.runs()
    assert (lone.name, whole.name, whole.calls) == ("outer", "all", 3 if how == "step in a step" else 2)
    assert lone.calls == 2
    found = savings(lineage, by="run")
    assert [row.name for row in found.rows] == ["outer", "all"]
    assert tokens(found.total.spent) == {"mine": (20, 1)}
    for row, summary in zip(found.rows, (lone, whole), strict=True):
        first, *others = lineage.run(summary.run_id).calls
        assert (first.operation, first.parent) == ("outer", None)
        assert all(call.parent is not None for call in others)
        assert row.compute_ms == summary.compute_ms == pytest.approx(compute([first, *others]))
        assert row.compute_ms <= first.wall_ms
    assert found.total.compute_ms == pytest.approx(sum(row.compute_ms for row in found.rows))
    if other is not engine:
        other.flush()


@pytest.mark.parametrize("how", ["step", "run"])
def test_what_another_ledger_has_in_between_adds_no_time_twice(engine, tmp_path, how):
    other = MusubitoEngine(SQLiteStorage(tmp_path / "other.db"))

    @musubito_step(name="between")
    def between(x: int) -> int:
        with use_musubito_engine(engine):
            if how == "run":
                with run("inside"):
                    judge("text")
            else:
                judge("text")
        return x

    @musubito_step(name="outer")
    def outer(x: int) -> int:
        with use_musubito_engine(other):
            return between(x).value

    outer(1)
    lineage = Lineage(engine)
    (only,) = lineage.runs()
    first, second = lineage.run(only.run_id).calls
    assert (first.operation, second.operation, second.parent) == ("outer", "judge", first.number)
    assert only.compute_ms == savings(lineage).total.compute_ms == pytest.approx(compute([first, second]))
    assert second.compute_ms >= 20
    assert first.compute_ms + second.compute_ms <= first.wall_ms
    (between_them,) = Lineage(other).runs()
    assert (between_them.name, between_them.calls) == ("between", 1)
    other.close()


def test_a_thread_that_may_be_of_several_runs_is_of_none(engine):
    """It is counted, and nobody is said to have made it."""
    both = threading.Barrier(2)

    @musubito_step(name="outer")
    def outer(x: int) -> int:
        both.wait(10)
        if x == 1:
            with ThreadPoolExecutor() as threads:
                threads.submit(judge, "text").result()
        both.wait(10)
        return x

    def work(x: int) -> None:
        with run(f"run {x}"):
            outer(x)

    with ThreadPoolExecutor() as threads:
        for done in [threads.submit(copy_context().run, work, x) for x in (1, 2)]:
            done.result()
    rows = {row.name: row.calls for row in savings(Lineage(engine), by="run").rows}
    assert rows == {"run 1": 1, "run 2": 1, "judge": 1}


def test_what_is_a_part_of_nothing_that_is_left_is_listed(engine, tmp_path):
    @musubito_step(name="outer")
    def outer(x: int) -> int:
        with use_musubito_engine(engine.in_namespace("other")), run("inside"):
            judge("text")
        return x

    outer(1)
    lineage = Lineage(engine)
    assert [each.name for each in lineage.runs()] == ["outer"]
    with sqlite3.connect(tmp_path / "m.db") as connection:
        connection.execute("DELETE FROM _calls WHERE operation = (SELECT id FROM _operations WHERE name = 'outer')")
    connection.close()
    assert [each.name for each in lineage.runs()] == ["inside"]


def test_what_a_call_had_done_that_never_ended_counts(engine, tmp_path):
    """Its process was killed: its own line was never written, those of the calls inside it were."""

    @musubito_step(name="outer")
    def outer(x: int) -> int:
        judge("text")
        with run("inside"), run("deeper"):
            judge("another")
        return x

    with run("killed"):
        outer(1)
        report("why?")
    engine.flush()
    lineage = Lineage(engine)
    took = compute(call for call in lineage.run("killed").calls if call.operation != "outer")
    with sqlite3.connect(tmp_path / "m.db") as connection:
        connection.execute("DELETE FROM _calls WHERE operation = (SELECT id FROM _operations WHERE name = 'outer')")
    connection.close()
    summary = lineage.run("killed").summary
    assert summary.compute_ms == pytest.approx(took)
    for by in ("run", "day"):
        found = savings(lineage, by=by)
        assert found.rows[0].compute_ms == pytest.approx(took)
        assert found.total.compute_ms == pytest.approx(took)


def test_by_operation_and_by_model(engine):
    for question in ("why?", "how?", "why?"):
        report(question)
    lineage = Lineage(engine)
    rows = {row.key: row for row in savings(lineage, by="operation").rows}
    assert {key: (row.calls, row.replayed) for key, row in rows.items()} == {
        "report": (3, 1),
        "ask": (2, 0),
        "judge": (4, 2),
    }
    assert (tokens(rows["report"].spent), tokens(rows["report"].saved)) == ({}, {"gpt-4o": (100, 10), "mine": (40, 2)})
    assert next(iter(rows)) == "report"  # it saved most
    models = {row.key: row for row in savings(lineage, by="model").rows}
    assert {key: (row.calls, row.replayed, row.ran) for key, row in models.items()} == {
        "gpt-4o": (3, 1, 2),
        "mine": (5, 3, 2),
    }
    assert models["gpt-4o"].spent == Cost(0.0, {"gpt-4o": Tokens(200, 20)})


def test_by_day_of_local_time(engine, clock, monkeypatch):
    days = [NOON - 86400, NOON, NOON + 11.9 * 3600, NOON + 12.1 * 3600]
    for number, clock.now in enumerate(days):
        ask(str(number))
    lineage = Lineage(engine)
    assert [(row.key, row.calls) for row in savings(lineage).rows] == [
        ("2023-11-15", 1),
        ("2023-11-14", 2),
        ("2023-11-13", 1),
    ]
    monkeypatch.setenv("TZ", "Asia/Kathmandu")  # 5:45 ahead
    time.tzset()
    assert [(row.key, row.calls) for row in savings(lineage).rows] == [
        ("2023-11-15", 2),
        ("2023-11-14", 1),
        ("2023-11-13", 1),
    ]


def test_runs_over_several_days_and_of_several_models_are_summed_up_call_by_call(engine, clock):
    """Calls of the others are summed up by run first."""
    for number in range(12):
        with run(f"run {number % 3}"):
            for question in ("a", "b", f"{number}"):
                (report if number % 2 else ask)(question)
        judge(f"{number}")
    engine.flush()
    with closing(sqlite3.connect(engine.storage.db_path)) as database:
        ids = database.execute("SELECT run_id, call FROM _calls ORDER BY run_id, call").fetchall()
        for place, (run_id, call) in enumerate(ids):
            at = (
                NOON + (place * 7919 % 11) * 3600 * (1 + 11 * (run_id[-1] % 2)) if run_id[-1] % 3 else NOON + run_id[-1]
            )
            database.execute("UPDATE _calls SET at = ? WHERE run_id = ? AND call = ?", (at, run_id, call))
        database.commit()
        days = database.execute(
            "SELECT date(at, 'unixepoch'), count(*), sum(outcome = 'replayed'), sum(CASE outcome WHEN 'replayed' THEN compute_ms ELSE 0 END), sum(saved_tokens) "
            "FROM _calls GROUP BY 1 ORDER BY 1 DESC"
        ).fetchall()
    lineage = Lineage(engine)
    told = {by: savings(lineage, by=by) for by in ("day", "run", "model", "operation")}
    rows = [
        (row.key, row.calls, row.replayed, pytest.approx(row.saved_compute_ms), row.saved.total_tokens)
        for row in told["day"].rows
    ]
    assert len(days) > 3
    assert days == rows
    for by in ("day", "run", "model"):
        one, other = told[by].total, told["operation"].total
        assert (one.calls, one.replayed, one.ran) == (other.calls, other.replayed, other.ran)
        assert (one.spent.tokens, one.saved.tokens) == (other.spent.tokens, other.saved.tokens)
        assert one.compute_ms == pytest.approx(other.compute_ms)
        assert one.saved_compute_ms == pytest.approx(other.saved_compute_ms)
    assert set(told["day"].total.spent.tokens) == {"gpt-4o", "mine"}


@pytest.mark.parametrize("by", ["day", "model", "operation", "run"])
def test_since(engine, clock, by):
    ask("before")
    clock.now += 10
    ask("after")
    ask("before")
    found = savings(Lineage(engine), since=NOON + 5, by=by)
    assert (found.total.calls, found.total.replayed) == (2, 1)
    assert sum(row.calls for row in found.rows) == 2
    assert tokens(found.total.spent) == tokens(found.total.saved) == {"gpt-4o": (100, 10)}
    assert savings(Lineage(engine), since=NOON + 100, by=by).rows == ()


def test_failures_cost(engine):
    for _ in range(2):
        with pytest.raises(ValueError):
            breaks(1)
    total = savings(Lineage(engine)).total
    assert (total.calls, total.ran, tokens(total.spent), tokens(total.saved)) == (2, 2, {"mine": (14, 0)}, {})


@pytest.mark.parametrize("by", ["day", "model", "operation", "run"])
def test_what_was_cancelled_or_not_recorded_is_of_its_models(engine, monkeypatch, by):
    @musubito_step(name="stops")
    def stops(x: int) -> None:
        ask("why?")
        record_usage(input_tokens=3, output_tokens=2, model="mine")
        record_usage(input_tokens=1, output_tokens=1, model="gpt-4o")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), run("stopped"):
        stops(1)
    write = engine.storage.write

    def full(changes):
        if any(isinstance(change, Commit) for change in changes):
            raise StoreError("the disk is full")
        return write(changes)

    monkeypatch.setattr(engine.storage, "write", full)
    with fault_said("full"):
        judge("text")
    monkeypatch.undo()
    found = savings(Lineage(engine), by=by)
    spent = {"gpt-4o": (101, 11), "mine": (23, 3)}
    assert tokens(found.total.spent) == spent
    assert tokens(sum((row.spent for row in found.rows), Cost())) == spent
    assert tokens(Lineage(engine).run("stopped").summary.spent) == {"gpt-4o": (101, 11), "mine": (3, 2)}


def test_what_is_told_while_a_call_is_recorded_is_of_its_model(engine):
    """As by a stream of a model that nobody wanted the rest of, which asyncio closes a little later."""

    @musubito_step(name="late")
    async def late(x: int) -> int:
        asyncio.get_running_loop().call_soon(partial(record_usage, input_tokens=3, output_tokens=2, model="mine"))
        return x

    asyncio.run(late(1))
    assert tokens(savings(Lineage(engine)).total.spent) == {"mine": (3, 2)}


def test_money(engine):
    report("why?")
    report("why?")
    rows = {row.key: row for row in savings(Lineage(engine), by="model").rows}
    assert rows["gpt-4o"].spent_dollars == rows["gpt-4o"].saved_dollars > 0
    assert (rows["mine"].spent_dollars, rows["mine"].saved_dollars) == (None, None)
    total = savings(Lineage(engine)).total
    assert total.saved_dollars == pytest.approx(rows["gpt-4o"].saved_dollars)


def test_what_is_no_longer_stored_still_counts(engine, tmp_path):
    report("why?")
    report("why?")
    engine.flush()
    before = savings(Lineage(engine)).total
    with sqlite3.connect(tmp_path / "m.db") as database:
        database.execute("DELETE FROM _usage")
    database.close()
    after = savings(Lineage(engine)).total
    assert (after.spent.total_tokens, after.saved.total_tokens) == (
        before.spent.total_tokens,
        before.saved.total_tokens,
    )


def test_calls_outside_of_runs_are_named_by_their_operation(engine):
    ask("why?")
    assert [row.name for row in savings(Lineage(engine), by="run").rows] == ["ask"]


def test_no_secret_in_the_name_of_a_run(engine):
    with run("for sk-proj-HUSHhushHUSHhush0123"):
        ask("why?")
    (row,) = savings(Lineage(engine), by="run").rows
    assert "HUSH" not in row.name


def test_an_empty_store_and_a_wrong_question(engine):
    lineage = Lineage(engine)
    assert savings(lineage).rows == ()
    assert savings(lineage, by="run").total.calls == 0
    with pytest.raises(LineageError, match="day, model, operation, run"):
        savings(lineage, by="week")
