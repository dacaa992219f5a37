"""A rerun answers what is unaffected as it was, touches nothing, runs the rest, and says what differs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from musubito import (
    MusubitoEngine,
    MusubitoError,
    SQLiteStorage,
    StepConfiguration,
    musubito_step,
    record_usage,
    run,
    use_musubito_engine,
)
from musubito.lineage import Lineage, RerunReport, dollars, rerun
from musubito.lineage.readers.why import why, with_reasons
from tests.fresh import fresh

Step = Callable[..., Any]
ran: list[str] = []


@pytest.fixture(autouse=True)
def engine(tmp_path: Path) -> Iterator[MusubitoEngine]:
    ran.clear()
    with MusubitoEngine(SQLiteStorage(fresh(tmp_path / "m.db"))) as engine, use_musubito_engine(engine):
        yield engine


def program(prompt: str = "Dear", *, found: str = "found", asks: str = "") -> Step:
    """Return a step that looks something up in the world, and writes about it: each argument is an edit of one step."""

    @musubito_step(StepConfiguration("live"), name="look")
    def look(what: str) -> str:
        ran.append(f"look {what}")
        return f"{found} {what}"

    @musubito_step(StepConfiguration("stochastic"), name="write")
    def write(text: str) -> str:
        ran.append(f"write {text}")
        record_usage(input_tokens=1_000_000, output_tokens=0, model="gpt-4o-mini")
        return f"{prompt} {text}, {sum(line == f'write {text}' for line in ran)}"

    @musubito_step(name="answer")
    def answer(question: str) -> str:
        return write(look(f"{asks}{question}").value).value

    return answer


def recorded(*questions: str) -> None:
    step = program()
    for question in questions:
        step(question)
    ran.clear()


def test_nothing_runs_if_nothing_was_edited() -> None:
    recorded("a", "b")
    report = rerun(program())
    assert (report.counts, report.edited, ran) == ({"same": 2}, (), [])


def test_an_edit_runs_its_step_and_what_follows_and_leaves_the_world_alone() -> None:
    recorded("a", "b")
    report = rerun(program("Hello"))
    assert sorted(ran) == ["write found a", "write found b"]
    assert report.counts == {"differs": 2}
    assert [(row.question, row.before, row.after) for row in sorted(report.rows, key=lambda row: row.question)] == [
        ("a", "Dear found a, 1", "Hello found a, 1"),
        ("b", "Dear found b, 1", "Hello found b, 1"),
    ]
    assert (report.edited, report.steps) == (("answer", "write"), {"answer": 2, "write": 2})


def test_what_ran_is_compared_with_the_run_that_was_rerun(engine: MusubitoEngine) -> None:
    recorded("one knot", "two knots")
    lineage = Lineage(engine)
    for row in rerun(program(prompt="Hi")).rows:
        (old,), new = row.run_ids, lineage.run(str(row.rerun_id))
        before = {call.operation: call.node_id for call in lineage.run(old).calls}
        (call,) = [call for call in with_reasons(lineage, new).calls if call.operation == "write"]
        told = why(lineage, call.node_id)
        assert call.reason == told.reason == "code changed"
        assert told.nearest is not None and told.nearest.node_id == before["write"]


def test_a_live_step_that_is_asked_something_new_ends_the_rerun_of_its_run() -> None:
    recorded("a")
    report = rerun(program(asks="all "))
    (row,) = report.rows
    assert (row.verdict, row.why, ran) == ("diverged", "look was asked something new, or had no answer then", [])


def test_a_live_step_that_is_named_runs() -> None:
    recorded("a")
    assert rerun(program(asks="all "), live_tools=["look"]).counts == {"differs": 1}
    assert ran == ["look all a", "write found all a"]


def test_live_steps_that_may_run_do_so_though_nothing_was_edited() -> None:
    recorded("a")
    assert rerun(program(), live_tools=True).counts == {"same": 1}
    assert ran == ["look a"]


def test_an_edited_live_step_is_answered_as_before_and_that_is_said(engine: MusubitoEngine) -> None:
    recorded("a")
    (row,) = rerun(program(found="saw")).rows
    lineage = Lineage(engine)
    (look,) = (call for call in lineage.run(row.rerun_id or "").calls if call.operation == "look")
    assert lineage.output(lineage.node(look.node_id)) == "found a"
    assert (row.verdict, row.not_run) == ("same", ("look",))
    assert "look a" not in ran


def test_nothing_runs_after_a_rerun_has_diverged_though_the_error_was_caught() -> None:
    def trying(asks: str) -> Step:
        @musubito_step(StepConfiguration("live"), name="read")
        def read(what: str) -> str:
            return what

        @musubito_step(name="tell")
        def tell(text: str) -> str:
            ran.append("tell")
            return text

        @musubito_step(name="both")
        def both(what: str) -> str:
            try:
                return tell(read(f"{asks}{what}").value).value
            except MusubitoError:
                return tell("nothing").value

        return both

    trying("")("a")
    ran.clear()
    assert rerun(trying("all ")).counts == {"diverged": 1}
    assert ran == []


def falling_back(asks: str, *, in_thread: bool = False) -> Step:
    """Return a step that asks a live one, in a thread of its own if that is said, and goes on without an answer."""

    @musubito_step(StepConfiguration("live"), name="look")
    def look(what: str) -> str:
        ran.append(f"look {what}")
        return what

    @musubito_step(name="both")
    def both(what: str) -> str:
        found = []

        def ask() -> None:
            try:
                found.append(look(f"{asks}{what}").value)
            except MusubitoError:
                found.append("nothing")

        if in_thread:
            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()
        else:
            ask()
        return found[0]

    return both


@pytest.mark.parametrize("in_thread", [False, True])
def test_what_went_on_without_an_answer_is_never_replayed(in_thread: bool) -> None:
    falling_back("", in_thread=in_thread)("a")
    assert rerun(falling_back("all ", in_thread=in_thread)).counts == {"diverged": 1}
    ran.clear()
    assert falling_back("all ", in_thread=in_thread)("a").value == "all a"
    assert ran == ["look all a"]


def test_each_sample_is_given_the_answer_of_then_of_an_unaffected_step() -> None:
    recorded("a")
    report = rerun(program(), samples=3)
    assert (report.counts, ran) == ({"same": 3}, [])


def test_a_step_that_never_ran_is_held_by_the_budget_once_something_was_spent() -> None:
    report = rerun(program(), inputs=[[letter] for letter in "abcd"], live_tools=True, budget=0.2, concurrency=1)
    assert report.counts["stopped"] >= 2


def test_what_ran_beside_an_old_answer_of_a_live_step_is_not_replayed_otherwise() -> None:
    recorded("a")
    rerun(program("Hello"))
    ran.clear()
    program("Hello")("a")
    assert ran == ["look a"]


def test_what_holds_an_old_answer_of_a_live_step_at_any_depth_is_not_replayed_otherwise() -> None:
    def nested(words: str) -> Step:
        @musubito_step(StepConfiguration("live"), name="look")
        def look(what: str) -> str:
            ran.append("look")
            return what

        @musubito_step(name="inner")
        def inner(what: str) -> str:
            return look(what).value

        @musubito_step(name="outer")
        def outer(what: str) -> str:
            return f"{words} {inner(what).value}"

        return outer

    nested("before")("a")
    ran.clear()
    assert (rerun(nested("after")).rows[0].after, ran) == ("after a", [])
    nested("after")("a")
    assert ran == ["look"]


def test_an_effect_is_answered_as_before_and_never_runs() -> None:
    def ordering(prompt: str, amount: int) -> Step:
        @musubito_step(StepConfiguration("external_effect"), name="pay")
        def pay(amount: int) -> str:
            ran.append(f"pay {amount}")
            return f"paid {amount}"

        @musubito_step(name="order")
        def order(what: str) -> str:
            return f"{prompt} {what} {pay(amount).value}"

        return order

    ordering("Order", 5)("tea")
    assert rerun(ordering("Ordered", 5)).rows[0].after == "Ordered tea paid 5"
    (row,) = rerun(ordering("Ordered", 6), live_tools=True).rows
    assert (row.verdict, row.why) == ("diverged", "pay was asked something new, or had no answer then")
    assert ran == ["pay 5"]


def test_an_edited_effect_takes_place_in_the_next_ordinary_run() -> None:
    def ordering(prompt: str, **policy: Any) -> Step:
        @musubito_step(StepConfiguration("external_effect"), name="pay", **policy)
        def pay(what: str) -> str:
            ran.append(what)
            return f"paid {what}"

        @musubito_step(name="order")
        def order(what: str) -> str:
            return f"{prompt} {pay(what).value}"

        return order

    ordering("Order", operation_version="1")("tea")
    edited = ordering("Ordered", operation_version="2")
    rerun(edited)
    assert ran == ["tea"]
    edited("tea")
    assert ran == ["tea", "tea"]


def test_a_step_that_runs_each_time_runs_in_the_next_ordinary_run() -> None:
    def outer(words: str) -> Step:
        @musubito_step(StepConfiguration(force_reexecution=True), name="now")
        def now() -> str:
            ran.append("now")
            return "now"

        @musubito_step(name="say")
        def say() -> str:
            return f"{words} {now().value}"

        return say

    outer("It is")()
    rerun(outer("It was"))
    assert ran == ["now"]
    outer("It was")()
    assert ran == ["now", "now"]


def test_an_answer_that_was_replaced_since_is_not_handed_on_to_ordinary_runs(engine: MusubitoEngine) -> None:
    def outer(words: str) -> Step:
        @musubito_step(StepConfiguration("deterministic"), name="count")
        def count() -> int:
            ran.append("")
            return len(ran)

        @musubito_step(name="say")
        def say() -> str:
            return f"{words} {count().value}"

        return say

    outer("It is")()
    with run(mode="refresh"):
        outer("It is")()
    first = min(Lineage(engine).runs(), key=lambda each: each.started_at)
    (row,) = rerun(outer("It was"), runs=[first.run_id]).rows
    assert row.after == "It was 1"
    assert outer("It was")().value == "It was 2"


def test_equal_calls_of_a_deterministic_step_are_given_one_answer(engine: MusubitoEngine) -> None:
    def outer(words: str) -> Step:
        @musubito_step(StepConfiguration("deterministic"), name="count")
        def count() -> int:
            ran.append("")
            return len(ran)

        @musubito_step(name="say")
        def say() -> str:
            return f"{words} {count().value} {count().value}"

        return say

    outer("It is")()
    with run(mode="refresh"):
        outer("It is")()
    first = min(Lineage(engine).runs(), key=lambda each: each.started_at)
    assert rerun(outer("It was"), runs=[first.run_id]).rows[0].after == "It was 1 1"


def test_what_was_answered_inside_a_replayed_step_is_not_given_again() -> None:
    def asking(words: str) -> Step:
        @musubito_step(StepConfiguration("live"), name="state")
        def state() -> str:
            ran.append("state")
            return f"state {len(ran)}"

        @musubito_step(name="first")
        def first() -> str:
            return f"first {state().value}"

        @musubito_step(name="second")
        def second() -> str:
            return f"{words} {state().value}"

        @musubito_step(name="both")
        def both() -> str:
            return f"{first().value}, {second().value}"

        return both

    asking("then")()
    assert rerun(asking("so")).rows[0].after == "first state 1, so state 2"


def test_each_sample_of_an_affected_step_is_another() -> None:
    recorded("a")
    report = rerun(program("Hello"), samples=2, concurrency=1)
    assert sorted(row.after for row in report.rows) == ["Hello found a, 1", "Hello found a, 2"]


def test_a_rerun_gives_the_answer_of_the_run_and_not_the_newest() -> None:
    recorded("a")
    ran.extend(["write found a"] * 6)
    with run(mode="refresh"):
        program()("a")
    (row,) = rerun(program(found="saw")).rows
    assert row.after == "Dear found a, 1"


def test_a_call_that_would_pass_the_budget_does_not_run() -> None:
    recorded("a", "b", "c")  # a call of write takes 0.15 dollars
    report = rerun(program("Hello"), budget=0.2, concurrency=1)
    assert report.counts == {"differs": 1, "stopped": 2}
    assert len(ran) == 1
    assert rerun(program("Hello"), budget=0.4).counts == {"differs": 3}


def test_a_judge_is_asked_once_for_each_answer() -> None:
    recorded("a", "b")
    asked: list[Any] = []

    def judge(question: Any, before: str, after: str) -> dict[str, float]:
        asked.append((question, before, after))
        return {"longer": len(after) > len(before), "letters": len(after)}

    report = rerun(program("Hello"), judge=judge)
    assert sorted(row.scores["letters"] for row in report.rows) == [16.0, 16.0]
    assert rerun(program("Hello"), judge=judge).rows[0].scores["longer"] == 1.0
    assert sorted(asked, key=str) == [
        ({"question": "a"}, "Dear found a, 1", "Hello found a, 1"),
        ({"question": "b"}, "Dear found b, 1", "Hello found b, 1"),
    ]


@pytest.mark.parametrize(
    ("returned", "scores"), [(True, {"score": 1.0}), (0.5, {"score": 0.5}), ({"a": 1, "b": False}, {"a": 1, "b": 0})]
)
def test_a_judge_may_be_awaited_and_returns_a_bool_a_number_or_a_dict(returned: Any, scores: Any) -> None:
    recorded("a")

    async def judge(question: Any, before: str, after: str) -> Any:
        await asyncio.sleep(0)
        return returned

    (row,) = rerun(program("Hello"), judge=judge).rows
    assert row.scores == scores


def test_answers_are_judged_several_at_a_time() -> None:
    recorded("a", "b")
    both = threading.Barrier(2)

    def judge(question: Any, before: str, after: str) -> bool:
        both.wait(10)
        return True

    assert [row.scores for row in rerun(program(), judge=judge, concurrency=2).rows] == [{"score": 1.0}] * 2


def test_what_a_judge_spends_counts_and_is_held_by_the_budget() -> None:
    recorded(*"abcd")

    @musubito_step(name="compare")
    def compare(before: str, after: str) -> int:
        record_usage(input_tokens=1_000_000, output_tokens=0, model="gpt-4o-mini")  # 0.15 dollars
        return 1

    def judge(question: Any, before: str, after: str) -> int:
        try:
            return compare(before, after).value
        except MusubitoError:
            return 0  # no score: it was not compared

    report = rerun(program(), judge=judge, budget=0.2, concurrency=1)
    assert [len(row.scores) for row in report.rows] == [1, 0, 0, 0]
    assert (report.counts, dollars(report.judging)) == ({"same": 4}, 0.15)


def test_a_judge_that_returns_no_score_is_refused() -> None:
    recorded("a")
    with pytest.raises(MusubitoError, match="a judge returns a bool, a number, or a dict of them, not 'good'"):
        rerun(program("Hello"), judge=lambda *_: "good")


def test_inputs_without_a_run_are_asked_anew() -> None:
    report = rerun(program(), inputs=[["x"], {"question": "y"}], live_tools=True)
    assert report.counts == {"new": 2}
    assert sorted(row.after for row in report.rows) == ["Dear found x, 1", "Dear found y, 1"]


def test_a_run_whose_arguments_are_stored_for_readers_alone_is_named() -> None:
    @musubito_step(name="kinds")
    def kinds(values: set[int]) -> int:
        return len(values)

    kinds({1, 2})
    (row,) = rerun(kinds).rows
    assert row.verdict == "not rerun"
    assert "of a type that is stored for readers alone; give such an input with --inputs" in row.why


def test_runs_are_chosen_by_when_they_began(engine: MusubitoEngine) -> None:
    recorded("a", "b")
    newest = Lineage(engine).runs(1)[0]
    (row,) = rerun(program(), since=newest.started_at).rows
    assert row.run_ids == (newest.run_id,)


def test_a_rerun_that_is_stopped_keeps_what_it_did() -> None:
    recorded(*"abcdef")

    @musubito_step(name="write")
    def slow(text: str) -> str:
        ran.append(text)
        if len(ran) == 3:
            raise KeyboardInterrupt
        return text

    @musubito_step(name="answer")
    def answer(question: str) -> str:
        return slow(question).value

    with pytest.raises(KeyboardInterrupt):
        rerun(answer, concurrency=1)
    assert len(ran) == 3
    assert rerun(answer, concurrency=1).counts == {"differs": 6}
    assert len(ran) == 7


def test_a_thing_that_is_neither_a_step_nor_a_graph_is_refused() -> None:
    with pytest.raises(MusubitoError, match="is no graph and no step|only a step or a graph is rerun"):
        rerun(lambda: None)


def test_nothing_recorded_is_an_error_that_says_so() -> None:
    with pytest.raises(MusubitoError, match="no run of answer was recorded that is like that"):
        rerun(program())


def in_three_ways(greeting: str) -> dict[str, Step]:
    """Return a step that is awaited, one that yields, and one that yields and is awaited."""

    @musubito_step(name="awaited")
    async def awaited(name: str) -> str:
        ran.append(name)
        await asyncio.sleep(0)
        return f"{greeting} {name}"

    @musubito_step(name="yields")
    def yields(name: str) -> Iterator[str]:
        ran.append(name)
        yield from (greeting, name)

    @musubito_step(name="yields awaited")
    async def yields_awaited(name: str) -> AsyncIterator[str]:
        ran.append(name)
        yield greeting
        await asyncio.sleep(0)
        yield name

    return {"awaited": awaited, "yields": yields, "yields awaited": yields_awaited}


async def to_the_end(called: Any, kind: str) -> None:
    if kind == "awaited":
        await called
    else:
        _ = list(called) if kind == "yields" else [part async for part in called]


@pytest.mark.parametrize("kind", ["awaited", "yields", "yields awaited"])
def test_a_step_that_is_awaited_or_yields_is_rerun_to_its_end(kind: str) -> None:
    asyncio.run(to_the_end(in_three_ways("Dear")[kind]("Ann"), kind))
    assert rerun(in_three_ways("Dear")[kind]).counts == {"same": 1}
    assert ran == ["Ann"]
    (row,) = rerun(in_three_ways("Hello")[kind], last=1).rows
    after = "Hello Ann" if kind == "awaited" else ["Hello", "Ann"]
    assert (row.verdict, row.after, ran) == ("differs", after, ["Ann", "Ann"])
    (asked,) = rerun(in_three_ways("Hello")[kind], inputs=[["Bob"]]).rows
    assert (asked.verdict, ran[-1]) == ("new", "Bob")


@pytest.mark.parametrize("kind", ["awaited", "yields", "yields awaited"])
def test_a_step_that_is_awaited_or_yields_is_rerun_inside_of_a_running_loop(kind: str) -> None:
    async def notebook() -> RerunReport:
        return rerun(in_three_ways("Dear")[kind], inputs=[["Ann"]])

    (row,) = asyncio.run(notebook()).rows
    assert row.after == ("Dear Ann" if kind == "awaited" else ["Dear", "Ann"])
