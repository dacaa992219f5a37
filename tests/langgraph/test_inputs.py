"""`StepConfiguration(inputs=...)` in a graph: which keys of the state, and which arguments, identify a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Send
from pydantic import BaseModel

from musubito import StepConfiguration, StepType, musubito_step
from musubito_langgraph import musubito_graph, musubito_runnable
from tests.langgraph.specimen import Ran, took

pytestmark = pytest.mark.usefixtures("engine")
Ask = Callable[..., Any]


def by(*names: str) -> StepConfiguration:
    return StepConfiguration(step_type=StepType.DETERMINISTIC, inputs=names)


DETERMINISTIC = StepConfiguration(step_type=StepType.DETERMINISTIC)


class State(TypedDict, total=False):
    question: str
    request: Any
    answer: str
    route: str


def asking(ran: Ran) -> Any:
    def answer(state: State) -> Any:
        ran("answer")
        return {"answer": f"to {state['question']}"}

    builder = StateGraph(State)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    return builder


def test_a_node_is_identified_by_the_keys_that_are_named(ask: Ask, ran: Ran) -> None:
    graph = musubito_graph(asking(ran).compile(), steps={"answer": by("question")})
    given = [{"question": "a", "request": 1}, {"question": "a", "request": object()}, {"question": "b", "request": 1}]
    assert [ask(graph, each)["answer"] for each in given] == ["to a", "to a", "to b"]
    assert took(ran) == {"answer": 2}


def test_its_metadata_says_so_too(ask: Ask, ran: Ran) -> None:
    builder = asking(ran)
    builder.nodes["answer"].metadata = {"musubito": by("question")}
    graph = musubito_graph(builder.compile())
    assert [ask(graph, {"question": "a", "request": each})["answer"] for each in (1, 2)] == ["to a", "to a"]
    assert took(ran) == {"answer": 1}


def test_a_key_that_the_graph_does_not_have(ran: Ran) -> None:
    told = "inputs names 'qestion', and its arguments are answer, question, request, route"
    with pytest.raises(ValueError, match=told):
        musubito_graph(asking(ran).compile(), steps={"answer": by("qestion")})
    with pytest.raises(ValueError, match=told):
        musubito_graph(asking(ran).compile(), default=by("qestion"))


def test_an_object_as_state(ask: Ask, ran: Ran) -> None:
    class Form(BaseModel):
        question: str
        request: int = 0
        answer: str = ""

    def answer(state: Form) -> Any:
        ran("answer")
        return {"answer": f"to {state.question}"}

    builder = StateGraph(Form)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    graph = musubito_graph(builder.compile(), steps={"answer": by("question")})
    assert [ask(graph, {"question": "a", "request": each})["answer"] for each in (1, 2)] == ["to a", "to a"]
    assert took(ran) == {"answer": 1}


def test_what_brings_none_of_the_keys_counts_as_a_whole(ask: Ask, ran: Ran) -> None:
    def each(item: Any) -> Any:
        ran("each")
        return {"answer": str(item["item"])}

    def fan(state: State) -> list[Send]:
        return [Send("each", {"item": int(state["question"])})]

    builder = StateGraph(State)
    builder.add_node("each", each)
    builder.add_conditional_edges(START, fan, ["each"])
    graph = musubito_graph(builder.compile(), steps={"each": by("question")})
    assert [ask(graph, {"question": question})["answer"] for question in ("1", "2", "1")] == ["1", "2", "1"]
    assert took(ran) == {"each": 2}


def test_neither_what_decides_after_it_nor_its_parts_are_narrowed(ask: Ask, ran: Ran) -> None:
    def answer(state: State) -> Any:
        ran("answer")
        return {"answer": f"to {state['question']}", "question": "later"}

    def check(update: Any) -> Any:
        ran("check")
        return {"answer": update["answer"].upper()}

    def route(state: State) -> str:
        _ = [state]  # so all of it counts
        ran("route")
        return state["route"]

    builder = StateGraph(State)
    builder.add_node("answer", RunnableLambda(answer) | RunnableLambda(check), metadata={"musubito": by("question")})
    builder.add_node("more", lambda state: {"answer": state["answer"] + "!"})
    builder.add_edge(START, "answer")
    builder.add_conditional_edges("answer", route, {"more": "more", "end": END})
    graph = musubito_graph(builder.compile())

    def told(question: str, way: str) -> str:
        return str(ask(graph, {"question": question, "route": way})["answer"])

    assert [told("a", "end"), told("a", "more"), told("b", "end")] == ["TO A", "TO A!", "TO B"]
    assert took(ran) == {"answer": 2, "check": 2, "route": 3}


def test_what_a_node_changes_in_place_is_seen_though_it_does_not_count(ask: Ask, ran: Ran) -> None:
    def answer(state: State) -> Any:
        ran("answer")
        state["request"].append(1)
        return {"answer": "done"}

    builder = StateGraph(State)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    graph = musubito_graph(builder.compile(), steps={"answer": by("question")})
    lists: list[list[int]] = [[], []]
    for each in lists:
        ask(graph, {"question": "a", "request": each})
    assert lists == [[1], [1]]
    assert took(ran) == {"answer": 2}


def test_the_arguments_of_a_task(ask: Ask, ran: Ran) -> None:
    @task
    def fetch(path: str, session: Any, depth: int = 1) -> str:
        ran("fetch")
        return f"{path} {depth}"

    @entrypoint()
    def workflow(given: dict[str, Any]) -> str:
        return fetch(given["path"], session=given["session"]).result()

    graph = musubito_graph(workflow, steps={"workflow/fetch": by("path", "depth")})
    assert [ask(graph, {"path": path, "session": each}) for path, each in (("a", 1), ("a", 2), ("b", 1))] == [
        "a 1",
        "a 1",
        "b 1",
    ]
    assert took(ran) == {"fetch": 2}


def test_the_arguments_of_a_tool(ask: Ask, ran: Ran) -> None:
    @tool
    def search(query: str, name: str) -> str:
        """Search."""
        ran("search")
        return f"found {query}"

    class Messages(TypedDict):
        messages: list[Any]

    builder = StateGraph(Messages)
    builder.add_node("tools", ToolNode([search]))
    builder.add_edge(START, "tools")
    steps = {"tools.search": by("query"), "tools": StepConfiguration(force_reexecution=True)}
    graph = musubito_graph(builder.compile(), steps=steps)

    def found(**arguments: str) -> str:
        call = {"name": "search", "args": arguments, "id": "call"}
        return str(ask(graph, {"messages": [AIMessage("", tool_calls=[call])]})["messages"][-1].content)

    assert [found(query="a", name="x"), found(query="a", name="y"), found(query="b", name="x")] == [
        "found a",
        "found a",
        "found b",
    ]
    assert took(ran) == {"search": 2}


def test_the_keys_of_a_runnable(ask: Ask, ran: Ran) -> None:
    def prompt(given: dict[str, Any]) -> str:
        ran("prompt")
        return f"Q: {given['question']}"

    recorded = musubito_runnable(RunnableLambda(prompt), semantics=by("question"))
    assert [ask(recorded, {"question": "a", "trace": each}) for each in (1, 2)] == ["Q: a", "Q: a"]
    assert took(ran) == {"prompt": 1}


def test_code_by_version_is_for_functions(ran: Ran) -> None:
    by_version = StepConfiguration(code="version")
    with pytest.raises(ValueError, match='code="version" needs an operation_version'):
        musubito_graph(asking(ran).compile(), steps={"answer": by_version})
    with pytest.raises(ValueError, match='code="version" needs an operation_version'):
        musubito_runnable(RunnableLambda(str), semantics=by_version)
    builder = asking(ran)
    builder.nodes["answer"].metadata = {"musubito": by_version}
    with pytest.raises(ValueError, match='code="version" needs an operation_version'):
        musubito_graph(builder.compile())


def test_a_step_below_a_node_asks_for_its_version(ask: Ask, ran: Ran) -> None:
    held = {"version": 1}

    @musubito_step(operation_version=lambda: held["version"])
    def search(question: str) -> str:
        ran("search")
        return question

    def answer(state: State) -> Any:
        ran("answer")
        return {"answer": search(state["question"]).value}

    builder = StateGraph(State)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    graph = musubito_graph(builder.compile(), default=DETERMINISTIC)
    for version in (1, 1, 2):
        held["version"] = version
        assert ask(graph, {"question": "a"})["answer"] == "a"
    assert took(ran) == {"answer": 2, "search": 2}
