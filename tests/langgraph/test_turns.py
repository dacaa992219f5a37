"""Equal tasks side by side are given their samples in the order of the tasks, and nobody hangs for it."""

from __future__ import annotations

import operator
import threading
import time
from typing import Annotated, Any
from uuid import uuid4

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict

from musubito_langgraph import musubito_graph, turns
from musubito_langgraph.turns import Line
from tests.langgraph.models import Calls


class Items(TypedDict, total=False):
    items: list[str]
    done: Annotated[list[str], operator.add]


def fan(work: Any, **compile_: Any) -> Any:
    builder = StateGraph(Items).add_node("work", work)
    builder.add_conditional_edges(START, lambda state: [Send("work", item) for item in state["items"]], ["work"])
    return musubito_graph(builder.compile(**compile_))


# -- the line ----------------------------------------------------------------------------------------------------------
def gone_through(line: Line, *places: tuple[str | None, str | None]) -> list[Any]:
    """In which order threads have their turn that come in this order, one surely after the other."""
    order: list[Any] = []
    first = line.place()
    wait = first.__enter__()
    wait()

    def go(task: str | None, after: str | None) -> None:
        with line.place(task, after) as wait:
            here.set()
            wait()
            order.append(task)

    threads = []
    for task, after in places:
        here = threading.Event()
        threads.append(threading.Thread(target=go, args=(task, after)))
        threads[-1].start()
        here.wait(10)
    assert order == []
    first.__exit__(None, None, None)
    for thread in threads:
        thread.join(10)
    return order


def test_who_came_first_goes_first():
    assert gone_through(Line(), *((name, None) for name in "abcd")) == ["a", "b", "c", "d"]


def test_who_comes_after_somebody_waits_for_them():
    assert gone_through(Line(), ("c", "b"), ("b", "a"), ("a", None)) == ["a", "b", "c"]


def test_who_waits_for_nobody_is_not_kept_waiting_for_long(monkeypatch):
    monkeypatch.setattr(turns, "PATIENCE", 0.01)
    with Line().place("b", "never") as wait:
        assert wait() is None


def test_whoever_was_here_once_keeps_nobody_waiting(monkeypatch):
    monkeypatch.setattr(turns, "PATIENCE", 60)
    line = Line()
    with pytest.raises(KeyError), line.place("a"):
        raise KeyError
    with line.place("b", "a") as wait:
        wait()


# -- tasks -------------------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("engine")
def test_equal_sends_get_their_samples_back_in_order():
    for _ in range(10):

        def work(item: str) -> Any:
            return {"done": [uuid4().hex]}

        name = uuid4().hex  # another input for each
        cold = fan(work).invoke({"items": [name] * 6})["done"]
        assert len({*cold}) == 6
        assert fan(work).invoke({"items": [name] * 6})["done"] == cold


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("at_once", [1, 2, None])
def test_nobody_waits_for_tasks_that_are_done(monkeypatch, at_once):
    monkeypatch.setattr(turns, "PATIENCE", 60)
    calls = Calls()

    def work(item: str) -> Any:
        calls(item)
        if item == "ask":
            return {"done": [interrupt("well?")]}
        return {"done": [item]}

    graph = fan(work, checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "a"}, "max_concurrency": at_once}
    began = time.monotonic()
    asked = graph.invoke({"items": ["a", "ask", "b", "ask", "c"]}, config)["__interrupt__"]
    answers = {each.id: f"yes {number}" for number, each in enumerate(asked)}
    assert graph.invoke(Command(resume=answers), config)["done"] == ["a", "yes 0", "b", "yes 1", "c"]
    assert calls.counts == {"a": 1, "b": 1, "c": 1, "ask": 4}
    assert time.monotonic() - began < 30


@pytest.mark.usefixtures("engine")
def test_nobody_waits_for_one_that_fails(monkeypatch):
    monkeypatch.setattr(turns, "PATIENCE", 60)

    def work(item: str) -> Any:
        raise ValueError(item)

    began = time.monotonic()
    with pytest.raises(ValueError, match="x"):
        fan(work).invoke({"items": ["x"] * 5})
    assert time.monotonic() - began < 30
