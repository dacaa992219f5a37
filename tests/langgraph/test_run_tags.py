"""The run of a graph is tagged with its thread and its user, where the config or the context names them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from musubito.lineage import Lineage
from musubito_langgraph import musubito_graph


class State(TypedDict, total=False):
    question: str
    answer: str


@dataclass
class Context:
    user_id: str


def ask(state: State) -> State:
    return {"answer": state["question"].upper()}


@pytest.mark.parametrize(
    ("given", "tags"),
    [
        ({"config": {"configurable": {"thread_id": "order 17"}}}, {"thread": "order 17"}),
        ({"config": {"configurable": {"thread_id": "1", "user_id": 7}}}, {"thread": "1", "user": "7"}),
        ({"config": {"configurable": {"thread_id": "1"}}, "context": Context("ann")}, {"thread": "1", "user": "ann"}),
        (
            {"config": {"configurable": {"thread_id": "1", "user_id": "a", "langgraph_auth_user_id": "b"}}},
            {"thread": "1", "user": "b"},
        ),
    ],
)
def test_the_thread_and_the_user_are_tags(engine, given: dict[str, Any], tags: dict[str, str]):
    graph = StateGraph(State, context_schema=Context).add_node(ask).add_edge(START, "ask")
    musubito_graph(graph.compile(InMemorySaver()), engine=engine).invoke({"question": "where?"}, **given)
    with Lineage(engine) as lineage:
        (run,) = lineage.runs()
    assert run.tags == tags


def test_a_graph_that_names_neither_has_no_tags(engine):
    graph = StateGraph(State).add_node(ask).add_edge(START, "ask").compile()
    musubito_graph(graph, engine=engine).invoke({"question": "where?"})
    with Lineage(engine) as lineage:
        (run,) = lineage.runs()
    assert run.tags is None
