"""What goes stale with an operation, and what it took."""

from __future__ import annotations

import contextlib
import random
import sys

import pytest

from musubito import (
    MusubitoEngine,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    musubito_merge,
    musubito_step,
    record_usage,
    run,
    use_musubito_engine,
)
from musubito.lineage import Lineage, LineageError
from musubito.lineage.readers.impact import impact

impact_module = sys.modules["musubito.lineage.readers.impact"]
"""The module: the package has a function of its name."""


@pytest.fixture
def engine(tmp_path):
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine, use_musubito_engine(engine):
        yield engine


class Workflow:
    """`report` calls `write(research)`; `check` consumes the report. An edit is another version of `research`."""

    def __init__(self, version: str = "1", more: str = "") -> None:
        def research(topic: str) -> str:
            record_usage(input_tokens=100, output_tokens=10, model="gpt-4o")
            return f"{topic}{more}"

        def write(facts) -> str:
            record_usage(input_tokens=10, output_tokens=1, model="mine")
            return facts.value

        self.research = musubito_step(name="report/research", operation_version=version)(research)
        self.write = musubito_step(name="report/write")(write)

        def report(topic: str) -> str:
            return self.write(self.research(topic)).value

        self.report = musubito_step(name="report", operation_version=version)(report)
        self.check = musubito_step(name="check")(lambda report: len(report.value))

    def __call__(self, topic: str) -> None:
        self.check(self.report(topic))


def nodes(engine, operation):
    return {row.operation: row.nodes for row in impact(Lineage(engine), operation).rows}


def test_its_nodes_those_below_and_those_that_called_them(engine):
    workflow = Workflow()
    workflow("knots")
    workflow("ropes")
    everything = {"report/research": 2, "report/write": 2, "report": 2, "check": 2}
    assert nodes(engine, "report/research") == everything
    assert nodes(engine, "report/write") == {
        name: count for name, count in everything.items() if name != "report/research"
    }
    assert nodes(engine, "report") == {"report": 2, "check": 2}
    assert nodes(engine, "check") == {"check": 2}


def test_no_cost_is_counted_twice(engine):
    workflow = Workflow()
    workflow("knots")
    workflow.report("knots")
    lineage = Lineage(engine)
    found = impact(lineage, "report/research")
    assert {model: tuple(each) for model, each in found.total.cost.tokens.items()} == {
        "gpt-4o": (100, 10),
        "mine": (10, 1),
    }
    rows = {row.operation: row.cost for row in found.rows}
    # What was called has its tokens, and its time in the caller's.
    assert rows["report"].total_tokens == rows["report/research"].compute_ms == rows["report/write"].compute_ms == 0
    calls = [call for each in lineage.runs() for call in lineage.run(each.run_id).calls]
    took = sum(call.compute_ms for call in calls)
    check = next(call.compute_ms for call in calls if (call.operation, call.outcome) == ("check", "ran"))
    assert found.total.cost.compute_ms == pytest.approx(took)
    assert found.total.dollars == next(row.dollars for row in found.rows if row.operation == "report/research") > 0
    # Without its caller among the affected it counts for itself.
    alone = impact(lineage, "check").total.cost
    assert alone.compute_ms == pytest.approx(check)


def test_what_an_edit_replaced_does_not_count(engine):
    for number in range(4):
        Workflow(str(number), more="!" * number)("knots")
    assert nodes(engine, "report/research") == {"report/research": 1, "report/write": 1, "report": 1, "check": 1}
    assert nodes(engine, "report/write") == {"report/write": 1, "report": 1, "check": 1}
    assert impact(Lineage(engine), "report/research").total.cost.total_tokens == 121


def test_what_was_moved_by_an_edit_without_effect_counts_once(engine):
    for number in range(3):
        Workflow(str(number))("knots")
    assert nodes(engine, "report/write") == {"report/write": 1, "report": 1, "check": 1}
    assert impact(Lineage(engine), "report/write").total.cost.tokens["mine"].total == 11


def test_the_same_question_below_different_parents_counts_twice(engine):
    source = musubito_step(name="source")(lambda x: x)
    draw = musubito_step(StepConfiguration(step_type=StepType.STOCHASTIC), name="draw")(lambda x: x)
    for number in (1, 2):
        with musubito_merge(source(number)):
            draw("same")
    assert nodes(engine, "draw") == {"draw": 2}
    assert nodes(engine, "source") == {"source": 2, "draw": 2}


def test_nodes_answered_by_one_execution_cost_once(engine):
    source = musubito_step(name="source")(lambda x: x)

    @musubito_step(StepConfiguration(allow_cross_parent_reuse=True), name="ask")
    def ask(question: str) -> str:
        record_usage(input_tokens=5, output_tokens=0)
        return question

    for number in (1, 2):
        with musubito_merge(source(number)):
            ask("same")
    found = impact(Lineage(engine), "ask")
    assert (found.total.nodes, found.total.cost.total_tokens) == (2, 5)


def test_what_is_not_answered_does_not_go_stale(engine):
    workflow = Workflow()
    workflow("knots")
    breaks = musubito_step(name="breaks")(lambda report: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        breaks(workflow.report("knots"))
    assert "breaks" not in nodes(engine, "report")
    assert impact(Lineage(engine), "breaks").total.nodes == 0
    engine.invalidate("check")
    assert nodes(engine, "report") == {"report": 1}


def test_an_effect_that_was_done_stays_done(engine):
    send = musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="send")(lambda text: "sent")
    workflow = Workflow()
    send(workflow.report("knots"))
    assert nodes(engine, "send") == {}
    assert nodes(engine, "report")["send"] == 1


def test_an_unknown_operation(engine):
    with pytest.raises(LineageError, match="nothing has run yet"):
        impact(Lineage(engine), "report")
    Workflow()("knots")
    for wrong, right in (("reprot", "report"), ("research", "report/research"), ("report/wirte", "report/write")):
        with pytest.raises(
            LineageError, match=f"no step, no part of code and no file that a step read is called '{wrong}'; .*{right}"
        ):
            impact(Lineage(engine), wrong)
    with pytest.raises(LineageError, match="there is check, report"):
        impact(Lineage(engine), "xyz")


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 10))])
def test_the_newest_calls_alone_name_what_is_in_use(engine, monkeypatch, seed):
    """Of random workflows with edits, it finds by the runs of an operation what it finds among all nodes."""
    choice = random.Random(seed)
    versions = dict.fromkeys(("report", "report/research"), 0)
    for _ in range(12):
        if choice.randrange(3) == 0:
            versions[choice.choice(sorted(versions))] += 1
        workflow = Workflow(str(versions["report/research"]), more="!" * choice.randrange(2))
        with run("a"), contextlib.ExitStack() as inside:
            topic = choice.choice(("knots", "ropes", "sails"))
            if choice.randrange(2):
                workflow(topic)
            else:
                # What a run inside of another one consumed.
                report = workflow.report(topic)
                inside.enter_context(run("part"))
                workflow.check(report)
    monkeypatch.setattr(impact_module, "NEWEST_NODES", 10_000)
    lineage = Lineage(engine)
    names = ("report", "report/research", "report/write", "check")
    whole = {name: impact(lineage, name) for name in names}
    assert {found.looked_at for found in whole.values()} == {found.stored for found in whole.values()}
    monkeypatch.setattr(impact_module, "NEWEST_NODES", 0)
    for name in names:
        found = impact(lineage, name)
        assert (found.rows, found.total) == (whole[name].rows, whole[name].total)
        assert found.looked_at <= found.stored


def test_in_a_large_store_it_says_how_much_it_looked_at(engine, monkeypatch):
    monkeypatch.setattr(impact_module, "NEWEST_NODES", 3)
    monkeypatch.setattr(impact_module, "NEWEST_CALLS", 1)
    old = musubito_step(name="old")(lambda x: x)
    new = musubito_step(name="new")(lambda x: x)
    for number in range(2):
        with run("a"):
            old(number)
    for number in range(5):
        new(number)
    # An old result of a step that nothing asked for lately is found by the newest run of the step.
    found = impact(Lineage(engine), "old")
    assert (found.total.nodes, found.looked_at, found.stored) == (1, 4, 7)
    assert nodes(engine, "new") == {"new": 3}


def test_an_edit_that_was_taken_back_replaces_nothing(engine):
    def ask(count: int) -> None:
        topics = musubito_step(name="topics", operation_version=str(count))(lambda: [str(n) for n in range(count)])
        write = musubito_step(name="write")(lambda topics, number: topics.value[number])
        facts = topics()
        for number in range(count):
            write(facts, number)

    for count in (3, 1, 3, 1):
        ask(count)
        assert nodes(engine, "topics") == {"topics": 1, "write": count}


class Holder:
    """An object that holds another one."""

    def __init__(self, inner: object) -> None:
        self.inner = inner


class Settings:
    """An object with settings."""

    def __init__(self, size: int) -> None:
        self.size = size


SETTINGS = Settings(1)
HOLDER = Holder(SETTINGS)


def test_a_part_counts_under_each_name_by_which_code_reaches_it(engine):
    musubito_step(name="direct")(lambda x: (x, SETTINGS))(1)
    musubito_step(name="through")(lambda x: (x, HOLDER))(1)
    musubito_step(name="other")(lambda x: (x, Settings(1).size))(1)
    assert nodes(engine, f"{__name__}.SETTINGS") == {"direct": 1, "through": 1}
    assert nodes(engine, f"{__name__}.HOLDER") == {"through": 1}
