"""What other threads change faster than it can be walked is left out of walks for a while, and code that holds it is never
replayed meanwhile."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, ClassVar, TypedDict

import pytest
from langgraph.config import get_config
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore

from musubito import StepConfiguration, StepType, musubito_step
from musubito.adapter import register_policy
from musubito.code import fingerprint
from musubito.code.fingerprint import CodeTracker
from musubito.code.state import unsettled
from musubito.code.state.access_paths import Observation
from musubito.code.state.own_changes import changed_by_others
from musubito.code.state.unsettled import note_in_vain
from musubito.reasons import ReplayReason, reason_of
from musubito_langgraph import musubito_graph
from tests.soundness.world import World

STEPS = 8
ROWS = 300


class Row:
    def __init__(self, *cells: str) -> None:
        self.cells = [{"text": cell} for cell in cells]


class Progress:
    """A table that each step changes, and that grows."""

    def __init__(self) -> None:
        self.rows = [Row("began", str(number)) for number in range(ROWS)]
        self.status: dict[str, str] = {}

    def update(self, who: str, what: str) -> None:
        self.status[who] = what
        self.rows.append(Row(who, what))


class Shown(Progress):
    """Such a table, on which no result depends."""

    def __musubito_identity__(self) -> str:
        return "a display"


class Memory:
    """An object whose answers depend on what was done with it before."""


class State(TypedDict, total=False):
    answer: int


progress = Progress()
shown = Shown()
ran: list[str] = []
PRICES = {"tea": [2], "milk": [1]}
PAIR = {"left": 1, "right": 2}
EFFECT = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT)
RATES = {"tax": 0}
SOLD = {"total": 0}
NOTES: list[Memory] = []
register_policy(Memory, remembers=lambda _memory: True)


@dataclass
class Order:
    """An input whose class holds prices."""

    what: str
    prices: ClassVar[dict[str, list[int]]] = PRICES

    def total(self) -> int:
        return self.prices[self.what][0]


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is unsettled yet, and small things may be."""
    monkeypatch.setattr(unsettled, "PATIENCE", 0.0)
    ran.clear()
    yield
    unsettled._changes.clear()
    PRICES.update(tea=[2], milk=[1])
    RATES.update(tax=0)
    SOLD.update(total=0)
    NOTES.clear()


def analyst(table: Progress) -> Any:
    def analyse(question: str) -> str:
        ran.append(question)
        for what in ("fetching", "calculating", "done"):
            table.update(question, what)
            time.sleep(0.001)
        return f"an answer to {question}"

    return analyse


def price(what: str) -> int:
    ran.append(what)
    return PRICES[what][0]


def taxed(what: str) -> int:
    ran.append(what)
    return PRICES[what][0] + RATES["tax"]


def noted(what: str) -> int:
    ran.append(what)
    return PRICES[what][0] + 0 * len(NOTES)


def sell(what: str) -> int:
    ran.append(what)
    SOLD["total"] += PRICES[what][0]
    return SOLD["total"]


def total(order: Any) -> int:
    ran.append(order.what)
    result: int = order.total()
    return result


def in_vain(observations: Sequence[Observation], seconds: float) -> None:
    """Let several walks that have read these places be in vain: what differs now is unsettled for so many seconds."""
    for _ in range(unsettled.ENOUGH):
        note_in_vain(changed_by_others(observations, ""), seconds / unsettled.SHARE / unsettled.ENOUGH)


def change_while_it_is_walked(function: Any, seconds: float) -> None:
    """Let walks of this code be in vain, because another thread changes the prices that it reaches."""
    observations = CodeTracker(function).current().observations
    PRICES["tea"].append(0)
    in_vain(observations, seconds)
    del PRICES["tea"][1:]


def refusals(w: World) -> list[ReplayReason | None]:
    """Why the executions, in their order, are never replayed."""
    with closing(sqlite3.connect(w.path)) as db:
        rows = db.execute("SELECT not_replayable FROM _executions ORDER BY id").fetchall()
    return [None if text is None else reason_of(text) for (text,) in rows]


def asked_at_once(steps: list[Any], question: str) -> None:
    """Ask all these steps, side by side."""
    with ThreadPoolExecutor(STEPS) as pool:
        answers = list(pool.map(lambda step: step(question).value, steps))
    assert answers == [f"an answer to {question}"] * STEPS


def counted_walks(monkeypatch: pytest.MonkeyPatch) -> list[CodeTracker]:
    """Return a list that takes the tracker of each walk from now on."""
    walks: list[CodeTracker] = []
    reach = CodeTracker._reach

    def counted(self: CodeTracker) -> Any:
        walks.append(self)
        return reach(self)

    monkeypatch.setattr(CodeTracker, "_reach", counted)
    return walks


def test_steps_side_by_side_that_change_a_large_object_run_soon_and_say_why(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks = counted_walks(monkeypatch)
    monkeypatch.setattr(unsettled, "SHARE", 1_000_000)
    steps = [musubito_step(name=f"analyst {number}")(analyst(progress)) for number in range(STEPS)]
    asked_at_once(steps, "one")
    asked_at_once(steps, "two")
    walks.clear()
    for question in ("three", "three", "four"):
        asked_at_once(steps, question)
    # What is unsettled is known, so that none of these calls looks into it again.
    assert len(walks) < STEPS
    assert refusals(w)[-3 * STEPS :] == [ReplayReason.CODE_UNSETTLED] * 3 * STEPS
    assert ran.count("three") == 2 * STEPS


def test_tasks_side_by_side_that_change_a_large_object_are_walked_no_more_and_say_why(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing changes during a walk here: each is in vain when another task goes on before its call does."""
    monkeypatch.setattr(unsettled, "SHARE", 1_000_000)

    def analyst(number: int) -> Any:
        async def analyse(question: str) -> str:
            for what in ("fetching", "calculating", "done"):
                progress.update(f"{question} {number}", what)
                await asyncio.sleep(0.001)
            return f"an answer to {question}"

        return musubito_step(name=f"analyst {number}")(analyse)

    async def ask(question: str) -> None:
        answers = await asyncio.gather(*(step(question) for step in steps))
        assert [answer.value for answer in answers] == [f"an answer to {question}"] * STEPS

    steps = [analyst(number) for number in range(STEPS)]
    for question in ("one", "two", "three", "three"):
        asyncio.run(ask(question))
    assert refusals(w)[-2 * STEPS :] == [ReplayReason.CODE_UNSETTLED] * 2 * STEPS


def test_one_change_while_a_step_runs_is_no_reason_to_look_away(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsettled, "SHARE", 1_000_000)

    def slow(what: str) -> int:
        ran.append(what)
        time.sleep(0.3 if what == "milk" else 0)
        return PRICES[what][0]

    step = musubito_step(slow)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(step, "milk")
        while not ran:
            time.sleep(0.01)
        PRICES["tea"] = [3]
        assert running.result().value == 1
    assert refusals(w) == [ReplayReason.CODE_CHANGED_MEANWHILE]
    for cents in (3, 4):
        PRICES["tea"] = [cents]
        assert [step("tea").value, step("tea").value] == [cents, cents]
    assert ran == ["milk", "tea", "tea"]


def test_what_one_step_alone_changes_side_by_side_is_its_state(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    memo = {f"known {number}": [number, {"text": "known"}] for number in range(ROWS // 3)}

    def remembering(question: str) -> Any:
        if question not in memo:
            ran.append(question)
            for number in range(5):
                time.sleep(0.001)
                memo[f"{question}, part {number}"] = [number, {"text": question}]
            memo[question] = [len(question), {"text": question}]
        return memo[question][0]

    monkeypatch.setattr(unsettled, "SHARE", 1_000_000)
    step = musubito_step(remembering)
    questions = [f"question {number}" for number in range(2 * STEPS)]
    for _ in range(2):
        with ThreadPoolExecutor(STEPS) as pool:
            assert list(pool.map(lambda question: step(question).value, questions)) == [*map(len, questions)]
    assert sorted(ran) == sorted(questions)
    assert refusals(w) == [None] * len(questions)


def test_an_object_that_says_what_it_is_is_no_reason_to_run(w: World) -> None:
    steps = [musubito_step(name=f"analyst {number}")(analyst(shown)) for number in range(STEPS)]
    for _ in range(3):
        asked_at_once(steps, "seven")
    assert ran.count("seven") == STEPS
    assert refusals(w) == [None] * STEPS


def test_what_is_unsettled_is_never_replayed_and_counts_again_later(w: World) -> None:
    step = musubito_step(price)
    assert step("tea").value == 2
    change_while_it_is_walked(price, seconds=60.0)
    for cents in (3, 4, 4, 5):
        PRICES["tea"][0] = cents
        assert step("tea").value == cents
    assert refusals(w) == [None, *[ReplayReason.CODE_UNSETTLED] * 4]
    # Each call was unlike every other. Later the list counts by what it holds.
    unsettled._changes.clear()
    ran.clear()
    assert [step("tea").value, step("tea").value] == [5, 5]
    PRICES["tea"][0] = 2
    assert [step("tea").value, step("milk").value] == [2, 1]
    assert ran == ["tea", "milk"]


def test_walks_in_vain_of_long_ago_do_not_count(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsettled, "SHARE", 10)
    tracker = CodeTracker(price)
    for seconds in (0.01, 0.01, 0.01, 0.01):
        observations = tracker.current().observations
        PRICES["tea"].append(0)
        note_in_vain(changed_by_others(observations, ""), seconds)
        time.sleep(0.12)
    assert not unsettled.is_unsettled(PRICES["tea"])
    for _ in range(unsettled.ENOUGH):
        note_in_vain(changed_by_others(observations, ""), 0.01)
    assert unsettled.is_unsettled(PRICES["tea"])
    monkeypatch.setattr(unsettled, "PATIENCE", 0.1)
    assert not unsettled.is_unsettled(PRICES["tea"])


def test_it_is_looked_at_again_when_its_time_is_over(w: World) -> None:
    step = musubito_step(price)
    change_while_it_is_walked(price, seconds=1.0)
    assert step("tea").value == 2
    time.sleep(1.1)
    ran.clear()
    assert [step("tea").value, step("tea").value] == [2, 2]
    assert ran == ["tea"]
    assert refusals(w) == [ReplayReason.CODE_UNSETTLED, None]


def test_code_that_holds_what_is_unsettled_is_not_walked_again_meanwhile(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = musubito_step(taxed)
    change_while_it_is_walked(taxed, seconds=60.0)
    assert step("tea").value == 2
    walks = counted_walks(monkeypatch)
    for tax in (1, 2, 3):
        RATES["tax"] = tax
        assert step("tea").value == 2 + tax
    assert walks == []
    # All that changed meanwhile counts when the list counts again.
    unsettled._changes.clear()
    assert [step("tea").value, step("tea").value] == [5, 5]
    RATES["tax"] = 0
    assert step("tea").value == 2
    assert ran == ["tea"] * 6


def test_a_version_in_place_of_the_code_is_replayed_unless_something_remembers(w: World) -> None:
    step = musubito_step(StepConfiguration(code="version"), operation_version="1")(noted)
    change_while_it_is_walked(noted, seconds=60.0)
    assert [step("tea").value, step("tea").value] == [2, 2]
    assert ran == ["tea"]
    NOTES.append(Memory())
    assert [step("tea").value, step("tea").value] == [2, 2]
    assert ran == ["tea"] * 3


def test_what_others_change_while_something_is_unsettled_is_not_taken_for_the_steps_own_change(w: World) -> None:
    step = musubito_step(sell)
    assert [step("tea").value, step("tea").value] == [2, 2]
    change_while_it_is_walked(sell, seconds=60.0)
    PRICES["tea"][0] = 3
    assert step("tea").value == 5
    SOLD["total"] = 100
    assert step("tea").value == 103
    unsettled._changes.clear()
    PRICES["tea"][0] = 2
    assert step("tea").value == 105
    assert ran == ["tea"] * 4


def test_the_class_of_an_input_that_holds_what_is_unsettled_is_never_taken_for_the_same(w: World) -> None:
    step = musubito_step(total)
    assert step(Order("tea")).value == 2
    change_while_it_is_walked(Order, seconds=60.0)
    for cents in (3, 4, 5):
        PRICES["tea"][0] = cents
        assert step(Order("tea")).value == cents
    assert ran == ["tea"] * 4


def test_the_shape_of_a_context_that_holds_what_is_unsettled_is_never_taken_for_the_same(w: World) -> None:
    answers: list[int] = []

    def node(state: State, runtime: Runtime[Order]) -> State:
        answers.append(runtime.context.total())
        return {"answer": answers[-1]}

    with w():
        builder = StateGraph(State, context_schema=Order).add_node(node).add_edge(START, "node")
        graph = musubito_graph(builder.compile(name="orders"))
        assert graph.invoke({}, context=Order("tea"))["answer"] == 2
        change_while_it_is_walked(Order, seconds=60.0)
        for cents in (3, 4, 5):
            PRICES["tea"][0] = cents
            assert graph.invoke({}, context=Order("tea"))["answer"] == cents


class Hub:
    """What steps call, and what other threads change."""

    def __init__(self) -> None:
        self.calls = [1]
        self.store = InMemoryStore()

    def thread(self) -> str:
        thread: str = get_config()["configurable"]["thread_id"]
        return thread if self.calls else ""

    def stored(self) -> Any:
        item = self.store.get(("cents",), "tea")
        return item and item.value["cents"] * bool(self.calls)


HUB = Hub()


def change_hub_while_it_is_walked(function: Any) -> None:
    """Let walks of this code be in vain, because another thread changes `HUB`."""
    observations = CodeTracker(function).current().observations
    HUB.calls = [*HUB.calls, 1]
    in_vain(observations, seconds=60.0)
    assert unsettled.is_unsettled(HUB)


def test_an_effect_that_reaches_what_is_unsettled_is_done_once_for_each_thread(w: World) -> None:
    def notify(text: str) -> str:
        ran.append(thread := HUB.thread())
        return thread

    effect = musubito_step(EFFECT, name="notify")(notify)

    def node(state: State) -> State:
        return {"answer": effect("hello").value}

    with w():
        graph = musubito_graph(StateGraph(State).add_node(node).add_edge(START, "node").compile(name="notes"))
        change_hub_while_it_is_walked(notify)
        for thread in ("one", "two", "one"):
            assert graph.invoke({}, {"configurable": {"thread_id": thread}})["answer"] == thread
    assert ran == ["one", "two"]


def test_an_effect_whose_input_s_class_holds_what_is_unsettled_is_done_once(w: World) -> None:
    step = musubito_step(EFFECT)(total)
    assert step(Order("tea")).value == 2
    change_while_it_is_walked(Order, seconds=60.0)
    for cents in (3, 3, 2):
        PRICES["tea"][0] = cents
        assert step(Order("tea")).value == cents
    assert ran == ["tea", "tea"]


def test_an_effect_inside_a_context_that_holds_what_is_unsettled_is_done_once(w: World) -> None:
    effect = musubito_step(EFFECT, name="total")(total)

    def node(state: State, runtime: Runtime[Order]) -> State:
        return {"answer": effect(runtime.context).value}

    with w():
        builder = StateGraph(State, context_schema=Order).add_node(node).add_edge(START, "node")
        graph = musubito_graph(builder.compile(name="orders"))
        assert graph.invoke({}, context=Order("tea"))["answer"] == 2
        change_while_it_is_walked(Order, seconds=60.0)
        for cents in (3, 3, 2):
            PRICES["tea"][0] = cents
            assert graph.invoke({}, context=Order("tea"))["answer"] == cents
    assert ran == ["tea", "tea"]


def test_a_step_that_counts_by_its_version_misses_nothing_that_is_unsettled(w: World) -> None:
    def stored() -> Any:
        return HUB.stored()

    step = musubito_step(StepConfiguration(code="version"), operation_version="1")(stored)
    change_hub_while_it_is_walked(stored)
    for cents in (1, 2):
        HUB.store.put(("cents",), "tea", {"cents": cents})
        assert step().value == cents
    assert refusals(w) == [ReplayReason.REMEMBERS] * 2
    with closing(sqlite3.connect(w.path)) as db:
        ((text,),) = db.execute("SELECT DISTINCT not_replayable FROM _executions").fetchall()
    assert text.endswith(": langgraph.store.memory.InMemoryStore")


def test_what_a_walk_in_vain_has_found_together_is_never_replayed(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def both() -> tuple[int, int]:
        return PAIR["left"], PAIR["right"]

    reach, found = fingerprint.reach, iter([(3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (1, 2), *[(0, 0)] * 20])

    def while_both_change(*args: Any, **how: Any) -> Any:
        """Walk while another thread changes both, so that the walk finds the left one before and the right one after."""
        PAIR.update(zip(PAIR, next(found), strict=True))
        closure = reach(*args, **how)
        PAIR.update(left=2, right=2)
        return closure

    step = musubito_step(both)
    PAIR.update(left=1, right=2)
    assert step().value == (1, 2)
    PAIR.update(left=2, right=2)
    monkeypatch.setattr(fingerprint, "reach", while_both_change)
    monkeypatch.setattr(unsettled, "SHARE", 0)
    assert step().value == (2, 2)


def test_what_is_set_anew_to_what_it_was_is_replayed(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a worker of Dask does, which unpickles the classes of a script with each task."""

    def priced() -> int:
        ran.append("priced")
        return PRICES["tea"][0]

    def while_it_is_set_anew(*args: Any, **how: Any) -> Any:
        closure = reach(*args, **how)
        PRICES["tea"] = list(PRICES["tea"])
        return closure

    reach = fingerprint.reach
    monkeypatch.setattr(fingerprint, "reach", while_it_is_set_anew)
    step = musubito_step(priced)
    assert [step().value for _ in range(4)] == [2] * 4
    assert ran == ["priced"]
    PRICES["tea"][0] = 3
    assert [step().value for _ in range(2)] == [3] * 2
    assert refusals(w) == [None, None]
