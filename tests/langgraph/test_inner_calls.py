"""Each call of a model inside a recorded call is a step: what runs again asks only what was not asked before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypedDict

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.llms import LLM
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, StateGraph
from pydantic import BaseModel

from musubito import MusubitoEngine, StepConfiguration, StepType, musubito_step, run
from musubito.lineage import Lineage, Tokens
from musubito_langgraph import musubito_graph, musubito_runnable
from tests.langgraph.models import Calls, ScriptedModel
from tests.langgraph.specimen import Ran, Scripted, says, took

pytestmark = pytest.mark.usefixtures("engine")
SAMPLE = StepConfiguration(step_type=StepType.STOCHASTIC)


class State(TypedDict, total=False):
    question: str
    answer: Any


class Grade(BaseModel):
    """A grade of an answer."""

    grade: str


def graph_of(*nodes: Any, **kwargs: Any) -> Any:
    builder = StateGraph(State)
    for number, node in enumerate(nodes):
        builder.add_node(f"node{number or ''}", node)
        builder.add_edge(f"node{number - 1 or ''}" if number else START, f"node{number or ''}")
    return musubito_graph(builder.compile(name="g"), **kwargs)


# -- the ways to ask a model -------------------------------------------------------------------------------------------
# Each asks `model` in a node of the function `parse`, which is what somebody edits.
def asks(model: Any, parse: Callable[[str], Any]) -> Any:
    return lambda state: {"answer": parse(model.invoke(state["question"]).text)}


def asks_later(model: Any, parse: Callable[[str], Any]) -> Any:
    async def node(state: State) -> Any:
        return {"answer": parse((await model.ainvoke(state["question"])).text)}

    return node


def streams(model: Any, parse: Callable[[str], Any]) -> Any:
    return lambda state: {"answer": parse("".join(chunk.text for chunk in model.stream(state["question"])))}


def streams_later(model: Any, parse: Callable[[str], Any]) -> Any:
    async def node(state: State) -> Any:
        return {"answer": parse("".join([chunk.text async for chunk in model.astream(state["question"])]))}

    return node


def asks_many(model: Any, parse: Callable[[str], Any]) -> Any:
    return lambda state: {"answer": [parse(each.text) for each in model.batch([state["question"], "and then?"])]}


def asks_many_later(model: Any, parse: Callable[[str], Any]) -> Any:
    async def node(state: State) -> Any:
        return {"answer": [parse(each.text) for each in await model.abatch([state["question"], "and then?"])]}

    return node


def generates(model: Any, parse: Callable[[str], Any]) -> Any:
    def node(state: State) -> Any:
        results = model.generate([[HumanMessage(state["question"])], [HumanMessage("and then?")]])
        return {"answer": [parse(each[0].text) for each in results.generations]}

    return node


def generates_later(model: Any, parse: Callable[[str], Any]) -> Any:
    async def node(state: State) -> Any:
        result = await model.agenerate([[HumanMessage(state["question"])]])
        return {"answer": parse(result.generations[0][0].text)}

    return node


def binds_tools(model: Any, parse: Callable[[str], Any]) -> Any:
    def node(state: State) -> Any:
        answer = model.bind_tools([Grade]).invoke(state["question"])
        return {"answer": parse(answer.tool_calls[0]["args"]["grade"])}

    return node


def wants_an_object(model: Any, parse: Callable[[str], Any]) -> Any:
    def node(state: State) -> Any:
        return {"answer": parse(model.with_structured_output(Grade).invoke(state["question"]).grade)}

    return node


def falls_back(model: Any, parse: Callable[[str], Any]) -> Any:
    return lambda state: {"answer": parse(model.with_fallbacks([model]).invoke(state["question"]).text)}


def retries(model: Any, parse: Callable[[str], Any]) -> Any:
    return lambda state: {"answer": parse(model.with_retry().invoke(state["question"]).text)}


def in_a_chain(model: Any, parse: Callable[[str], Any]) -> Any:
    chain = RunnableLambda(lambda question: [HumanMessage(question)]) | model | RunnableLambda(lambda said: said.text)
    return lambda state: {"answer": parse(chain.invoke(state["question"]))}


WAYS = [asks, asks_later, streams, streams_later, asks_many, asks_many_later, generates, generates_later]
WAYS += [binds_tools, wants_an_object, falls_back, retries, in_a_chain]


async def answer_of(graph: Any, *, is_streamed: bool = False) -> Any:
    """Ask a graph as its nodes need it; streamed, models stream too, whatever the node says."""
    if not is_streamed:
        return (await graph.ainvoke({"question": "what?"}))["answer"]
    parts = [part async for part in graph.astream({"question": "what?"}, stream_mode=["messages", "values"])]
    return parts[-1][1]["answer"]


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_an_edit_of_the_node_asks_nothing(way: Any, is_streamed: bool):
    model = ScriptedModel()
    plain = await answer_of(graph_of(way(model, lambda text: text)), is_streamed=is_streamed)
    asked = model.calls.total
    assert asked
    edited = await answer_of(graph_of(way(model, lambda text: text + "!")), is_streamed=is_streamed)
    assert edited == ([text + "!" for text in plain] if isinstance(plain, list) else plain + "!")
    assert model.calls.total == asked


@pytest.mark.parametrize("way", [asks, streams, in_a_chain, generates], ids=lambda way: way.__name__)
def test_so_does_an_edit_of_a_plain_step(way: Any):
    model = ScriptedModel()
    answers = [
        musubito_step(way(model, parse), name="step")({"question": "what?"}).value["answer"]
        for parse in (lambda text: text, lambda text: text + "!")
    ]
    asked = model.calls.total
    assert answers[0] != answers[1]
    assert asked == (2 if way is generates else 1)
