"""Two runs side by side."""

from __future__ import annotations

import pytest

from musubito import (
    MusubitoEngine,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    musubito_merge,
    musubito_step,
    run,
    use_musubito_engine,
)
from musubito.lineage import Lineage, LineageError
from musubito.lineage.readers.run_diff import compare_runs


@pytest.fixture
def engine(tmp_path):
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine, use_musubito_engine(engine):
        yield engine


@musubito_step(name="inner")
def inner(x: int) -> int:
    return x


@musubito_step(name="outer")
def outer(x: int) -> int:
    return inner(x).value + inner(x + 1).value


@musubito_step(name="two")
def two(a: int, b: int) -> int:
    return a + b


def record(name, *calls):
    with run(name):
        for function, *arguments in calls:
            function(*arguments)


def told(engine, before="a", after="b"):
    found = compare_runs(Lineage(engine), before, after)
    return found.differ, [
        (
            call.change,
            call.operation,
            call.before and call.before.outcome,
            call.after and call.after.outcome,
            call.reason and ": ".join(filter(None, (call.reason, ", ".join(call.parts)))),
        )
        for call in found.calls
    ]


def test_a_run_and_its_replay_do_not_differ(engine):
    record("a", (outer, 1))
    record("b", (outer, 1))
    inside = [("inside", "inner", "ran", None, None)] * 2
    assert told(engine) == (False, [("same", "outer", "ran", "replayed", None), *inside])
    inside = [("inside", "inner", None, "ran", None)] * 2
    assert told(engine, "b", "a") == (False, [("same", "outer", "replayed", "ran", None), *inside])
    assert told(engine, "a", "a")[0] is False


def test_what_a_replayed_call_made_is_no_partner(engine):
    """The inner call at the top is the same; not the one inside, though that came first."""
    record("a", (outer, 1), (inner, 1))
    record("b", (outer, 1), (inner, 1))
    differ, calls = told(engine)
    assert not differ
    assert calls[:2] == [("same", "outer", "ran", "replayed", None), ("same", "inner", "replayed", "replayed", None)]
    record("c", (outer, 1))
    assert told(engine, "c", "b")[1] == [
        ("same", "outer", "replayed", "replayed", None),
        ("added", "inner", None, "replayed", None),
    ]
    record("new", (outer, 7))
    record("more", (outer, 7), (inner, 7))
    assert told(engine, "new", "more")[1][:2] == [
        ("same", "outer", "ran", "replayed", None),
        ("added", "inner", None, "replayed", None),
    ]
    assert told(engine, "b", "c") == (
        True,
        [("same", "outer", "replayed", "replayed", None), ("gone", "inner", "replayed", None, None)],
    )
    assert told(engine, "a", "c")[0] is True


def test_added_and_gone(engine):
    record("a", (inner, 1), (two, 1, 2))
    record("b", (inner, 1), (outer, 5))
    assert told(engine) == (
        True,
        [
            ("same", "inner", "ran", "replayed", None),
            ("added", "outer", None, "ran", None),
            ("added", "inner", None, "ran", None),
            ("added", "inner", None, "ran", None),
            ("gone", "two", "ran", None, None),
        ],
    )


def test_other_inputs_are_paired_in_order(engine):
    record("a", (two, 1, 2), (two, 3, 4))
    record("b", (two, 1, 5), (two, 3, 4), (two, 6, 6), (two, 7, 7))
    _, calls = told(engine)
    assert calls == [
        ("changed", "two", "ran", "ran", "input changed: b"),
        ("same", "two", "ran", "replayed", None),
        ("added", "two", None, "ran", None),
        ("added", "two", None, "ran", None),
    ]


def test_why_they_changed(engine):
    source = musubito_step(name="source")(lambda x: x)
    draw = musubito_step(StepConfiguration(step_type=StepType.STOCHASTIC), name="draw")(lambda x: x)

    def under(number):
        with musubito_merge(source(number)):
            draw("same")

    record("a", (under, 1))
    record("b", (under, 2))
    assert [reason for *_, reason in told(engine)[1]] == ["input changed: x", "upstream changed"]
    record("c", (draw, 1))
    with run("d"):
        draw(1)
        draw(1)
    record("e", (draw, 1), (draw, 2))
    assert told(engine, "d", "e")[1][1] == ("changed", "draw", "ran", "ran", "input changed: x")
    record("f", (musubito_step(name="inner")(lambda x: x + 0), 1))
    record("g", (inner, 1))
    assert told(engine, "g", "f")[1][0][-1] == "code changed"
    record("h", (musubito_step(name="inner", operation_version="2")(inner.__wrapped__), 1))
    assert told(engine, "g", "h")[1][0][-1] == "version changed"


def test_a_failure_is_a_difference(engine):
    fails = [True]

    def sometimes(x):
        if fails:
            raise ValueError(x)
        return x

    with run("a"), pytest.raises(ValueError):
        engine.execute("sometimes", {"x": 1}, sometimes, operation_version="1")
    with run("b"), pytest.raises(ValueError):
        engine.execute("sometimes", {"x": 1}, sometimes, operation_version="1")
    assert told(engine)[1] == [("same", "sometimes", "failed", "failed", None)]


def test_success_after_a_failure(engine, tmp_path):
    @musubito_step(name="reads")
    def reads(name: str) -> str:
        return (tmp_path / name).read_text()

    with run("a"), pytest.raises(FileNotFoundError):
        reads("file")
    (tmp_path / "file").write_text("now")
    record("b", (reads, "file"))
    assert told(engine) == (True, [("changed", "reads", "failed", "ran", None)])


def test_outputs_are_compared(engine):
    record("a", (two, 1, 2), (inner, 1))
    record("b", (two, 2, 1), (inner, 2))
    found = compare_runs(Lineage(engine), "a", "b")
    assert [(call.operation, call.same_output) for call in found.calls] == [("two", True), ("inner", False)]


def test_another_output_of_the_same_call_is_a_difference(engine, tmp_path):
    @musubito_step(name="reads")
    def reads(name: str) -> str:
        return (tmp_path / name).read_text()

    for name, text in (("a", "one"), ("b", "two"), ("c", "two")):
        (tmp_path / "file").write_text(text)
        record(name, (reads, "file"))
    assert told(engine, "a", "b") == (True, [("changed", "reads", "ran", "ran", "read changed")])
    assert told(engine, "b", "c") == (False, [("same", "reads", "ran", "replayed", None)])


def test_runs_inside_runs_are_part_of_it(engine):
    for name in ("a", "b"):
        with run(name):
            inner(1)
            with run("within"):
                outer(1)
    differ, calls = told(engine)
    assert not differ
    assert [call[:2] for call in calls if call[0] == "same"] == [("same", "inner"), ("same", "outer")]


def test_costs_of_both(engine):
    record("a", (inner, 1))
    record("b", (inner, 1))
    found = compare_runs(Lineage(engine), "a", "b")
    assert (found.before, found.after) == (Lineage(engine).run("a").summary, Lineage(engine).run("b").summary)


def test_an_unknown_run(engine):
    record("a", (inner, 1))
    with pytest.raises(LineageError, match="no run"):
        compare_runs(Lineage(engine), "a", "abcdef")
