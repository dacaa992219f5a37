"""A node that reads the state by way of its config depends on the keys that it reads, and on no others."""

from __future__ import annotations

import warnings
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.config import get_config
from langgraph.graph import START, StateGraph

from musubito_langgraph import musubito_graph
from tests.langgraph.specimen import Ran, took

READ = "__pregel_read"


class State(TypedDict, total=False):
    question: str
    files: Annotated[dict[str, str], lambda old, new: {**(old or {}), **new}]
    counter: int
    answer: str


class Question(TypedDict, total=False):
    question: str


def graph(ran: Ran, select: Any, *, fresh: bool = False) -> Any:
    def look(state: Question) -> Any:
        ran("look")
        return {"answer": str(get_config()["configurable"][READ](select, fresh))}

    builder = StateGraph(State).add_node("look", look, input_schema=Question).add_edge(START, "look")
    return musubito_graph(builder.compile(name="reads"))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("select", ["files", ["files"]])
def test_what_is_read_counts(ran: Ran, select: Any, fresh: bool) -> None:
    made = graph(ran, select, fresh=fresh)

    def ask(text: str, counter: int) -> str:
        answer: str = made.invoke({"question": "q", "files": {"a": text}, "counter": counter})["answer"]
        return answer

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = ask("one", 1)
        assert ask("one", 2) == first
        assert took(ran) == {"look": 1}
        assert "two" in ask("two", 1)
        assert took(ran) == {"look": 1}
        assert ask("one", 3) == first
        assert took(ran) == {}


@pytest.mark.usefixtures("engine")
def test_what_it_wrote_itself_just_before_is_no_state_to_replay_by(ran: Ran) -> None:
    def look(state: Question) -> Any:
        ran("look")
        configurable = get_config()["configurable"]
        configurable["__pregel_send"]([("files", {"b": "two"})])
        return {"answer": str(configurable[READ]("files", True))}

    builder = StateGraph(State).add_node("look", look, input_schema=Question).add_edge(START, "look")
    made = musubito_graph(builder.compile(name="reads"))
    for _ in range(2):
        assert "two" in made.invoke({"question": "q", "files": {"a": "one"}})["answer"]
        assert took(ran) == {"look": 1}


@pytest.mark.usefixtures("engine")
def test_what_it_writes_to_the_state_by_langgraphs_own_function_is_written_again(ran: Ran) -> None:
    def look(state: Question) -> Any:
        ran("look")
        get_config()["configurable"]["__pregel_send"]([("files", {"b": "two"})])
        return {"answer": "done"}

    builder = StateGraph(State).add_node("look", look, input_schema=Question).add_edge(START, "look")
    made = musubito_graph(builder.compile(name="writes"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(2):
            state = made.invoke({"question": "q", "files": {"a": "one"}, "counter": number})
            assert (state["answer"], state["files"]["b"]) == ("done", "two")
    assert took(ran) == {"look": 1}
