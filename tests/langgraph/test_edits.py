"""The output of a node that a person has corrected is what the node gives from then on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage
from langchain_core.tools import tool
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command

from musubito import MusubitoEngine, SQLiteStorage, run, use_musubito_engine
from musubito.engine.override import by_hand, replace_payload, result_to_edit
from musubito.values.editable import editable_text, edited
from musubito_langgraph import musubito_graph
from tests.fresh import fresh


class Ran:
    def __init__(self) -> None:
        self.names: list[str] = []

    def note(self, name: str) -> None:
        self.names.append(name)

    def __musubito_identity__(self) -> str:
        return "what ran"


RAN = Ran()


def answer(state: MessagesState) -> dict[str, Any]:
    RAN.note("answer")
    get_stream_writer()("on its way")
    model = GenericFakeChatModel(messages=iter([AIMessage(f"hello {state['messages'][-1].content}")]))
    return {"messages": [model.invoke(state["messages"])]}


def check(state: MessagesState) -> Command[Any]:
    RAN.note("check")
    said = state["messages"][-1]
    return Command(update={"messages": [AIMessage(f"checked: {said.content}")]}, goto=END)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[MusubitoEngine]:
    RAN.names.clear()
    with MusubitoEngine(SQLiteStorage(fresh(tmp_path / "musubito.db"))) as engine, use_musubito_engine(engine):
        yield engine


def graph_of(engine: MusubitoEngine, **nodes: Callable[..., Any]) -> Any:
    """The nodes of messages, one after the other."""
    graph = StateGraph(MessagesState)
    for before, (name, node) in zip((START, *nodes), nodes.items(), strict=False):
        graph.add_node(name, node)
        graph.add_edge(before, name)
    return musubito_graph(graph.compile(name="G"), engine=engine, replay_tools=True)


def invoke(graph: Any, *messages: AnyMessage) -> tuple[list[AnyMessage], dict[str, str]]:
    RAN.names.clear()
    with run() as r:
        said = graph.invoke({"messages": list(messages) or [HumanMessage("you")]})["messages"]
    return said, {call.operation: call.node_id for call in r.calls}


def edit(engine: MusubitoEngine, node: str, before: str, after: str) -> str:
    """As somebody does in an editor; the text that was shown."""
    result = result_to_edit(engine, bytes.fromhex(node))
    text = editable_text(result.payload).text
    assert before in text, text
    replace_payload(engine, result, edited(result.payload, text.replace(before, after)), by_hand("wrong", None))
    return text


def test_an_edited_message_is_given_and_what_follows_runs(engine: MusubitoEngine) -> None:
    graph = graph_of(engine, answer=answer, check=check)
    first, nodes = invoke(graph)
    edit(engine, nodes["G/answer"], "hello you", "hello, by hand")
    said, again = invoke(graph)
    assert [each.content for each in said] == ["you", "hello, by hand", "checked: hello, by hand"]
    assert RAN.names == ["check"]
    assert again["G/answer"] == nodes["G/answer"]
    # As in any replay: the id of a message that came of the node is new, in the form that it had.
    assert said[1].id is not None
    assert said[1].id != first[1].id
    assert said[1].id.startswith("lc_run--")
    more, _ = invoke(graph)
    assert [each.content for each in more] == [each.content for each in said]
    assert RAN.names == []
    engine.undo_override(nodes["G/answer"])
    assert [each.content for each in invoke(graph)[0]] == [each.content for each in first]
    assert RAN.names == []


def test_the_update_of_a_command_is_edited(engine: MusubitoEngine) -> None:
    graph = graph_of(engine, answer=answer, check=check)
    _, nodes = invoke(graph)
    assert json.loads(edit(engine, nodes["G/check"], "checked", "seen"))["$type"] == "Command"
    assert invoke(graph)[0][-1].content == "seen: hello you"
    assert RAN.names == []


def test_streams_give_the_edited_text_and_no_piece_of_the_earlier_one(engine: MusubitoEngine) -> None:
    graph = graph_of(engine, answer=answer)
    _, nodes = invoke(graph)

    def streamed() -> tuple[str, list[Any]]:
        pieces = list(graph.stream({"messages": [HumanMessage("you")]}, stream_mode=["messages", "custom"]))
        text = "".join(str(piece[0].content) for mode, piece in pieces if mode == "messages")
        return text, [piece for mode, piece in pieces if mode == "custom"]

    assert streamed() == ("hello you", ["on its way"])
    edit(engine, nodes["G/answer"], "hello you", "by hand")
    assert streamed() == ("by hand", [])
    engine.undo_override(nodes["G/answer"])
    assert streamed() == ("hello you", ["on its way"])


def test_python_gives_a_node_any_update(engine: MusubitoEngine) -> None:
    graph = graph_of(engine, answer=answer, check=check)
    _, nodes = invoke(graph)
    engine.override(nodes["G/answer"], {"messages": [AIMessage("one"), AIMessage("two")]}, reason="two are better")
    said, _ = invoke(graph)
    assert [each.content for each in said[1:3]] == ["one", "two"]
    assert len({each.id for each in said}) == len(said)
    engine.override(nodes["G/check"], Command(update={"messages": []}, goto=END), reason="")
    engine.override(nodes["G/answer"], {"messages": []}, reason="")
    assert [each.content for each in invoke(graph)[0]] == ["you", "checked: you"]


def test_an_id_of_the_input_stays_that_of_the_current_message(engine: MusubitoEngine) -> None:
    """A node that removes two messages, edited to remove the second alone."""

    def shorten(state: MessagesState) -> dict[str, Any]:
        return {"messages": [RemoveMessage(id=each.id or "") for each in state["messages"][:2]]}

    graph = graph_of(engine, shorten=shorten)
    messages = [HumanMessage(name) for name in ("a", "b", "c")]
    said, nodes = invoke(graph, *messages)
    assert [each.content for each in said] == ["c"]
    result = result_to_edit(engine, bytes.fromhex(nodes["G/shorten"]))
    shown = json.loads(editable_text(result.payload).text)
    del shown["messages"][0]
    replace_payload(engine, result, edited(result.payload, json.dumps(shown)), by_hand("", None))
    assert [each.content for each in invoke(graph, *(HumanMessage(name) for name in ("a", "b", "c")))[0]] == ["a", "c"]


def test_a_tool_and_a_plain_state(engine: MusubitoEngine) -> None:
    @tool
    def search(query: str) -> str:
        """Search."""
        RAN.note("search")
        return f"found {query}"

    class State(TypedDict):
        topic: str
        notes: Annotated[list[str], lambda old, new: [*old, *new]]

    def note(state: State) -> dict[str, Any]:
        RAN.note("note")
        return {"notes": [f"a note on {state['topic']}"]}

    def count(state: State) -> dict[str, Any]:
        RAN.note("count")
        return {"notes": [str(len(state["notes"][0]))]}

    plain = StateGraph(State)
    plain.add_node(note)
    plain.add_node(count)
    plain.add_edge(START, "note")
    plain.add_edge("note", "count")
    graph = musubito_graph(plain.compile(name="P"), engine=engine)
    with run() as r:
        graph.invoke({"topic": "cats", "notes": []})
    edit(engine, r.calls[0].node_id, "a note on cats", "no cats")
    RAN.names.clear()
    assert graph.invoke({"topic": "cats", "notes": []})["notes"] == ["no cats", "7"]
    assert RAN.names == ["count"]
    tools = graph_of(engine, tools=ToolNode([search]))
    asked = AIMessage("", tool_calls=[{"name": "search", "args": {"query": "x"}, "id": "call_1"}])
    said, nodes = invoke(tools, asked)
    assert said[-1].content == "found x"
    (name,) = [name for name in nodes if name.endswith("search")]
    edit(engine, nodes[name], "found x", "found nothing")
    said, _ = invoke(tools, asked)
    assert said[-1].content == "found nothing"
    assert RAN.names == []
