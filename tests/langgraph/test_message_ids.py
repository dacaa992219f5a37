"""Ids of messages that are more than ids to a node: constants of its code, of what is around it, and looked inside."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from typing import Annotated, Any, TypedDict
from uuid import UUID, uuid4

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_store
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore

from musubito_langgraph import musubito_graph, musubito_runnable

ONE = str(uuid4())
TWO = str(uuid4())
SUMMARY = "c07a51d4-2e8b-4f19-a3d6-7b94e05f8a12"
PINNED = {ONE}


class Chat(MessagesState, total=False):
    said: str


class Asked(TypedDict):
    question: str


class Answers(TypedDict, total=False):
    question: str
    messages: Annotated[list[AnyMessage], add_messages]


class Counter:
    """Counts, which is no code."""

    def __init__(self) -> None:
        self.calls = 0

    def __musubito_identity__(self) -> str:
        return "counter"

    def __call__(self) -> int:
        self.calls += 1
        return self.calls


def graph_of(node: Callable[..., Any], schema: Any = Chat, **options: Any) -> Any:
    context = options.pop("context_schema", None)
    builder = StateGraph(schema, context_schema=context)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return builder.compile(name="ids", **options)


def chat(*ids: str) -> dict[str, Any]:
    return {"messages": [HumanMessage(f"message {number}", id=i) for number, i in enumerate(ids)]}


# -- ids that an output has ------------------------------------------------------------------------------------------
def histories(node: Callable[..., Any]) -> list[int]:
    """How long the history is after each of three equal turns of one thread."""
    graph = musubito_graph(graph_of(node, Answers, checkpointer=InMemorySaver()))
    turns = [graph.invoke({"question": "q"}, {"configurable": {"thread_id": "1"}}) for _ in range(3)]
    return [len(turn["messages"]) for turn in turns]


def test_a_message_whose_id_the_code_says_takes_the_place_of_itself(engine):
    ran = Counter()

    def global_constant(state: Asked) -> Any:
        ran()
        return {"messages": [AIMessage("summary", id=SUMMARY)]}

    def literal(state: Asked) -> Any:
        ran()
        return {"messages": [AIMessage("summary", id="91e6f0ab-5d3c-4872-b60e-d48a2c7f1935")]}

    own = str(uuid4())

    def closure(state: Asked) -> Any:
        ran()
        return {"messages": [AIMessage("summary", id=own)]}

    def of_a_name(state: Asked) -> Any:
        ran()
        return {"messages": [AIMessage("summary", id=str(uuid.uuid5(uuid.NAMESPACE_DNS, "summary")))]}

    for number, node in enumerate((global_constant, literal, closure, of_a_name), 1):
        assert histories(node) == [1, 1, 1]
        assert ran.calls == number


def test_a_message_whose_id_is_made_of_the_input_takes_the_place_of_itself(engine):
    ran = Counter()

    def summarise(state: Asked) -> Any:
        ran()
        digest = hashlib.md5(state["question"].encode()).hexdigest()
        return {"messages": [AIMessage("summary", id=str(UUID(digest, version=4)))]}

    # It looks like a random one, so it is not replayed.
    assert histories(summarise) == [1, 1, 1]
    assert ran.calls == 3


@pytest.mark.parametrize("form", ["{}", "resp_{}", "msg_01{:.22}", "chatcmpl-{}", "gen-1767225600-{:.20}"])
def test_an_answer_whose_id_a_server_made_is_a_further_one_on_a_replay(engine, form):
    class Server(Counter):
        def __call__(self) -> Any:
            super().__call__()
            made = str(uuid4())
            return AIMessage("42", id=form.format(made if form == "{}" else made.replace("-", "")))

    server = Server()

    def answer(state: Asked) -> Any:
        return {"messages": [server()]}

    assert histories(answer) == [1, 2, 3]
    assert server.calls == 1


def test_what_follows_a_replayed_answer_of_a_server_is_replayed(engine):
    ran = Counter()

    class Server(Counter):
        def __call__(self) -> Any:
            super().__call__()
            i = f"resp_{uuid4().hex}"
            return AIMessage("42", id=i, response_metadata={"id": i})

    server = Server()

    def answer(state: Asked) -> Any:
        return {"messages": [server()]}

    def follow(state: Answers) -> Any:
        ran()
        return {}

    builder = StateGraph(Answers).add_sequence([answer, follow]).add_edge(START, "answer")
    graph = musubito_graph(builder.compile(name="ids"))
    for _ in range(3):
        graph.invoke({"question": "q"})
    assert (server.calls, ran.calls) == (1, 1)


# -- ids that a node knows of ----------------------------------------------------------------------------------------
def test_an_id_in_the_context_is_data(engine):
    def pinned(state: Chat, runtime: Runtime[dict]) -> Any:
        return {"said": ",".join(m.content for m in state["messages"] if m.id == runtime.context["pinned"])}

    graph = musubito_graph(graph_of(pinned, context_schema=dict))
    assert graph.invoke(chat(ONE, TWO), context={"pinned": ONE})["said"] == "message 0"
    assert graph.invoke(chat(TWO, ONE), context={"pinned": ONE})["said"] == "message 1"


def test_an_id_in_the_code_is_data(engine):
    def pinned(state: Chat) -> Any:
        return {"said": ",".join(m.content for m in state["messages"] if m.id in PINNED)}

    graph = musubito_graph(graph_of(pinned))
    assert graph.invoke(chat(ONE, TWO))["said"] == "message 0"
    assert graph.invoke(chat(TWO, ONE))["said"] == "message 1"


def test_an_id_that_was_found_in_the_store_is_no_other(engine):
    def pinned(state: Chat, runtime: Runtime) -> Any:
        found = runtime.store.get(("pins",), "all")
        return {"said": ",".join(m.content for m in state["messages"] if m.id in found.value["ids"])}

    store = InMemoryStore()
    store.put(("pins",), "all", {"ids": [ONE]})
    graph = musubito_graph(graph_of(pinned, store=store))
    assert graph.invoke(chat(ONE, TWO))["said"] == "message 0"
    assert graph.invoke(chat(TWO, ONE))["said"] == "message 1"


def test_an_id_that_a_step_inside_found_in_the_store_is_no_other(engine):
    @musubito_runnable
    def pins(key: str) -> Any:
        return get_store().get(("pins",), key).value["ids"]

    def pinned(state: Chat) -> Any:
        found = pins.invoke("all")
        return {"said": ",".join(m.content for m in state["messages"] if m.id in found)}

    store = InMemoryStore()
    store.put(("pins",), "all", {"ids": [ONE]})
    graph = musubito_graph(graph_of(pinned, store=store))
    assert graph.invoke(chat(ONE, TWO))["said"] == "message 0"
    assert graph.invoke(chat(TWO, ONE))["said"] == "message 1"


def test_a_node_to_which_ids_are_but_ids_is_replayed(engine):
    ran = Counter()

    def tidy(state: Chat) -> Any:
        ran()
        by_id = {m.id: m for m in state["messages"]}
        seen = set()
        for message in state["messages"]:
            seen.add(message.id)
        last = state["messages"][-1]
        out: list[Any] = [RemoveMessage(id=m.id) for m in state["messages"][:-1] if m.id in seen and m.id != last.id]
        calls = {call["id"]: call for m in state["messages"] for call in getattr(m, "tool_calls", [])}
        out += [ToolMessage("done", tool_call_id=call["id"]) for i, call in calls.items() if call["id"] == i]
        kept = by_id[last.id]
        return {"messages": out, "said": kept.content + str(len(by_id))}

    graph = musubito_graph(graph_of(tidy))
    for _ in range(3):
        call = {"name": "f", "args": {}, "id": f"call_{uuid4().hex}"}
        given = [HumanMessage("q", id=str(uuid4())), AIMessage("", id=f"lc_run--{uuid4()}", tool_calls=[call])]
        out = graph.invoke({"messages": given})
        assert [type(message) for message in out["messages"]] == [AIMessage, ToolMessage]
        assert out["messages"][1].tool_call_id == call["id"]
    assert ran.calls == 1
