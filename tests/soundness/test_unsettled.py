"""What other threads change faster than it can be walked is left out of walks for a while, and code that holds it is never
replayed meanwhile."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, ClassVar, TypedDict

import pytest
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime

from musubito import musubito_step
from musubito.code.fingerprint import CodeTracker
from musubito.code.state import unsettled
from musubito.code.state.unsettled import note_unsettled
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


class State(TypedDict, total=False):
    answer: int


progress = Progress()
shown = Shown()
ran: list[str] = []
PRICES = {"tea": [2], "milk": [1]}


@dataclass
class Order:
    """An input whose class holds prices."""

    what: str
    prices: ClassVar[dict[str, list[int]]] = PRICES

    def total(self) -> int:
        return self.prices[self.what][0]


@pytest.fixture(autouse=True)
def settled() -> Iterator[None]:
    ran.clear()
    yield
    unsettled._things.clear()
    PRICES.update(tea=[2], milk=[1])


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


def total(order: Any) -> int:
    ran.append(order.what)
    result: int = order.total()
    return result


def change_while_it_is_walked(function: Any, seconds: float) -> None:
    """Let the walk of this code find out, several times, that another thread has changed what it reaches."""
    tracker = CodeTracker(function)
    tracker.current()
    assert tracker._held is not None
    observations = tracker._held[2].observations
    PRICES["tea"].append(0)
    note_unsettled(observations, seconds / unsettled.TIMES)
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


def test_steps_side_by_side_that_change_a_large_object_run_soon_and_say_why(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks: list[CodeTracker] = []
    reach = CodeTracker._reach

    def counted(self: CodeTracker) -> Any:
        walks.append(self)
        return reach(self)

    monkeypatch.setattr(CodeTracker, "_reach", counted)
    monkeypatch.setattr(unsettled, "LEAST", 60.0)
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
    unsettled._things.clear()
    ran.clear()
    assert [step("tea").value, step("tea").value] == [5, 5]
    PRICES["tea"][0] = 2
    assert [step("tea").value, step("milk").value] == [2, 1]
    assert ran == ["tea", "milk"]


def test_it_is_looked_at_again_when_its_time_is_over(w: World) -> None:
    step = musubito_step(price)
    change_while_it_is_walked(price, seconds=1.0)
    assert step("tea").value == 2
    time.sleep(1.1)
    ran.clear()
    assert [step("tea").value, step("tea").value] == [2, 2]
    assert ran == ["tea"]
    assert refusals(w) == [ReplayReason.CODE_UNSETTLED, None]


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
