"""A second thread that asks the same is answered by the first one's results, whichever packages its nodes call."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypedDict

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from musubito_langgraph import musubito_graph
from tests.langgraph.specimen import Ran, Scripted

pytestmark = [
    pytest.mark.usefixtures("engine"),
    pytest.mark.filterwarnings("ignore"),
]


class State(TypedDict, total=False):
    question: str
    answer: str


def of_litellm(ran: Ran) -> Callable[..., Any]:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    litellm = pytest.importorskip("litellm")
    completion = litellm.completion

    def node(state: State) -> State:
        ran("node")
        said = completion(
            model="openai/gpt-4o-mini",
            messages=[{"role": "user", "content": state["question"]}],
            mock_response="42",
            api_key="none",
        )
        return {"answer": said.choices[0].message.content}

    return node


def of_chromadb(ran: Ran) -> Callable[..., Any]:
    os.environ["ANONYMIZED_TELEMETRY"] = "False"
    chromadb = pytest.importorskip("chromadb")

    def node(state: State) -> State:
        ran("node")
        documents = chromadb.EphemeralClient().get_or_create_collection("documents")
        documents.upsert(ids=["1"], documents=["42"], embeddings=[[1.0, 2.0]])
        found = documents.query(query_embeddings=[[1.0, 2.0]], n_results=1)
        return {"answer": found["documents"][0][0]}

    return node


def of_mlflow(ran: Ran) -> Callable[..., Any]:
    mlflow = pytest.importorskip("mlflow")

    def node(state: State) -> State:
        ran("node")
        return {"answer": "42" if mlflow.active_run() is None else ""}

    return node


PACKAGES = [of_litellm, of_chromadb, of_mlflow]


@pytest.mark.parametrize("made", PACKAGES, ids=lambda made: made.__name__)
def test_a_node_that_calls_a_package_is_replayed_in_another_thread(made: Callable[[Ran], Any]) -> None:
    ran = Ran()
    graph = StateGraph(State).add_node("node", made(ran)).add_edge(START, "node")
    wrapped = musubito_graph(graph.compile(name="g", checkpointer=InMemorySaver()))
    for thread in ("one", "two", "three"):
        said = wrapped.invoke({"question": "what is it?"}, {"configurable": {"thread_id": thread}})
        assert said["answer"] == "42"
    assert ran.counts == {"node": 1}


def lookup(query: str) -> str:
    """Look something up."""
    return f"found {query}"


def deciding(messages: Any) -> AIMessage:
    """Hands over once, looks up once, and answers."""
    text = " ".join(str(message.content) for message in messages)
    if "found" in text:
        return AIMessage("it is 42")
    if "transferred to finder" in text:
        return AIMessage("", tool_calls=[{"name": "lookup", "args": {"query": "x"}, "id": "call_1"}])
    return AIMessage("", tool_calls=[{"name": "transfer_to_finder", "args": {}, "id": "call_0"}])


def swarming(ran: Ran) -> Any:
    swarm = pytest.importorskip("langgraph_swarm")
    agents = pytest.importorskip("langchain.agents")
    model = Scripted(script=deciding, ran=ran)
    finder = agents.create_agent(model, [lookup], name="finder")
    greeter = agents.create_agent(model, [swarm.create_handoff_tool(agent_name="finder")], name="greeter")
    return swarm.create_swarm([finder, greeter], default_active_agent="greeter")


def test_agents_of_a_swarm_ask_no_model_again_in_another_thread() -> None:
    ran = Ran()
    wrapped = musubito_graph(swarming(ran).compile(name="agents", checkpointer=InMemorySaver()))
    said, asked = [], []
    for thread in ("one", "two", "three"):
        config: RunnableConfig = {"configurable": {"thread_id": thread}}
        answer = wrapped.invoke({"messages": [{"role": "user", "content": "what is it?"}]}, config)
        said.append([(message.type, message.text) for message in answer["messages"]])
        asked.append(ran.counts.total())
    assert said[0] == said[1] == said[2]
    assert asked[0] > 0
    assert asked[2] == asked[1] == asked[0]
