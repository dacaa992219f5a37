"""A replay tells what models were asked with, as a run does; a conversation is not stored again for it.

The oracle is the bare graph: the messages that `on_chat_model_start` tells are those of a bare run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Send
from pydantic import BaseModel

from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, use_musubito_engine
from musubito.payloads.compression import best_method, decompressed
from musubito.values.artifact_codec import FORMAT
from musubito_langgraph import musubito_graph
from musubito_langgraph.recorder.event_kinds import LARGEST, OMITTED
from tests.fresh import fresh
from tests.langgraph.specimen import Ran, Scripted, calls, says, took
from tests.langgraph.test_tool_events import KEY, outputs

pytestmark = pytest.mark.usefixtures("engine")


def payloads(path: Path) -> bytes:
    """What is stored of outputs and events, none of it compressed."""
    return b"".join(payload if payload[:1] == FORMAT else uncompressed(payload) for payload in outputs(path))


def uncompressed(payload: bytes) -> bytes:
    return decompressed(best_method(), BytesIO(payload))


def conversation(length: int = 6, marker: str = "said") -> dict[str, Any]:
    made = [HumanMessage, AIMessage]
    messages = [made[n % 2](f"{marker} {n}", id=f"m{n}") for n in range(length - 1)]
    return {"messages": [*messages, HumanMessage("and now?", id="last")]}


async def asked(graph: Any, given: Any, ran: Ran | None = None) -> list[Any]:
    """What models are told to have been asked with, at their start and at their end; and nothing ran, given a count."""
    if ran is not None:
        took(ran)
    told = []
    async for event in graph.astream_events(given, version="v2"):
        if event["event"] in ("on_chat_model_start", "on_chat_model_end"):
            (messages,) = event["data"]["input"]["messages"]
            told.append(messages)
    assert ran is None or not took(ran)
    return told


def echo(ran: Ran) -> Scripted:
    return Scripted(script=lambda messages: says(f"to {messages[-1].text}"), ran=ran)


def one_node(node: Any, schema: Any = MessagesState) -> Any:
    return StateGraph(schema).add_node("node", node).add_edge(START, "node").compile(name="g")


def by_a_function(ran: Ran) -> Any:
    model = echo(ran)

    def node(state: MessagesState) -> Any:
        prompt = SystemMessage("Be kind.")
        first = model.invoke([prompt, *state["messages"]])
        second = model.invoke([prompt, state["messages"][0], first, HumanMessage("Really?")])
        model.invoke("aside")
        return {"messages": [second]}

    return one_node(node)


def by_a_sequence(ran: Ran) -> Any:
    prompt = ChatPromptTemplate([("system", "Be kind."), ("placeholder", "{messages}")])
    return one_node(prompt | echo(ran) | (lambda message: {"messages": [message]}))


def by_an_agent(ran: Ran) -> Any:
    @tool
    def look(place: str) -> str:
        """Look."""
        return f"rain in {place}"

    def script(messages: Any) -> AIMessage:
        return says("It rains.") if messages[-1].type == "tool" else calls(("look", {"place": "Nara"}))

    return create_agent(Scripted(script=script, ran=ran), [look], system_prompt="Be kind.")


def by_its_own_loop(ran: Ran) -> Any:
    """Asks with what was answered before, and clears the text of a message that it was given."""
    model = echo(ran)

    def node(state: MessagesState) -> Any:
        cleared = state["messages"][1].model_copy(update={"content": "[cleared]"})
        messages = [state["messages"][0], cleared, *state["messages"][2:]]
        for turn in range(3):
            messages = [*messages, model.invoke(messages), HumanMessage(f"turn {turn}")]
        return {"messages": [AIMessage("done", id="made")]}

    return one_node(node)


def of_a_task(ran: Ran) -> Any:
    model = echo(ran)

    def node(given: Any) -> Any:
        return {"messages": [model.invoke([*given["others"], given["question"]])]}

    def each(state: MessagesState) -> Any:
        return [Send("node", {"question": message, "others": state["messages"][:2]}) for message in state["messages"]]

    return StateGraph(MessagesState).add_node("node", node).add_conditional_edges(START, each).compile()


def of_objects(ran: Ran) -> Any:
    @dataclass
    class State:
        messages: list[Any] = field(default_factory=list)

    model = echo(ran)

    def node(state: State) -> Any:
        model.invoke(state.messages)
        return {"messages": []}

    return one_node(node, State)


def of_models(ran: Ran) -> Any:
    class State(BaseModel):
        messages: list[Any] = []

    model = echo(ran)

    def node(state: State) -> Any:
        model.invoke(state.messages)
        return {"messages": []}

    return one_node(node, State)


BUILDS = [by_a_function, by_a_sequence, by_an_agent, by_its_own_loop, of_a_task, of_objects, of_models]


def without_ids(told: Any) -> Any:
    """Ids that are new in each run, such as those of answers and of tool calls, are left out."""
    shown = []
    for messages in told:
        plain = []
        for message in messages:
            assert not isinstance(message, dict)
            of_calls = [[call["name"], call["args"]] for call in getattr(message, "tool_calls", ())]
            given = message.id if message.id is not None and message.id.startswith(("m", "last")) else None
            plain.append([type(message).__name__, message.content, given, of_calls])
        shown.append(plain)
    return sorted(shown, key=repr)


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
async def test_a_replay_tells_what_models_were_asked_with(build: Callable[[Ran], Any], tmp_path: Path):
    ran = Ran()
    bare = without_ids(await asked(build(ran), conversation()))
    assert any("said 0" in str(messages) for messages in bare)
    assert without_ids(await asked(musubito_graph(build(ran), replay_tools=True), conversation())) == bare
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as other, use_musubito_engine(other):
        graph = musubito_graph(build(ran), replay_tools=True)
        for _ in range(2):
            assert without_ids(await asked(graph, conversation(), ran)) == bare


async def test_a_replay_inside_a_node_that_runs_is_told_and_recorded_by_it(ran: Ran):
    model = echo(ran)

    def build(text: str) -> Any:
        def node(state: MessagesState) -> Any:
            return {"messages": [AIMessage(model.invoke([SystemMessage("Be kind."), *state["messages"]]).text + text)]}

        return one_node(node)

    bare = await asked(build("one"), conversation())
    for text in ("one", "two"):
        graph = musubito_graph(build(text))
        assert await asked(graph, conversation()) == bare
        assert await asked(graph, conversation(), ran) == bare
    assert not took(ran), "the edited node ran, and the model did not"


async def test_what_is_told_are_the_messages_of_the_replay(ran: Ran):
    """Their ids, and what servers reported of them, are those of who asks now."""
    graph, first, given = musubito_graph(by_a_function(ran)), conversation(), conversation()
    for message in first["messages"]:
        message.id = str(uuid4())
    await asked(graph, first)
    for number, message in enumerate(given["messages"]):
        message.id = str(uuid4())
        message.response_metadata = {"id": f"chatcmpl-{number}"}
    told = await asked(graph, given, ran)
    assert told[0][1:] == given["messages"]


async def test_a_conversation_is_not_stored_again(tmp_path: Path, ran: Ran):
    given = conversation(200, "a sentence that is to be found only where it is stored" * 20)
    graph = musubito_graph(by_an_agent(ran), replay_tools=True)
    told = await asked(graph, given)
    assert [len(messages) for messages in told] == [201, 201, 203, 203]
    again = await asked(graph, given, ran)
    assert without_ids(again) == without_ids(told)
    stored = payloads(tmp_path / "m.db")
    assert b"It rains." in stored
    assert b"a sentence" not in stored
    assert b"Be kind." not in stored, "the code of the node holds the prompt"


async def test_a_new_message_is_stored_once(tmp_path: Path, ran: Ran):
    graph = musubito_graph(by_a_function(ran), models=False)
    await asked(graph, conversation())
    assert payloads(tmp_path / "m.db").count(b"Be kind.") == 1


async def test_blocks_of_images_are_told_as_langchain_tells_them(tmp_path: Path, ran: Ran):
    image = {"type": "image", "base64": "QUJD" * 500, "mime_type": "image/png"}
    given = {"messages": [HumanMessage([image, {"type": "text", "text": "What is it?"}], id="m1")]}
    bare = await asked(by_a_function(ran), given)
    graph = musubito_graph(by_a_function(ran))
    for _ in range(2):
        assert without_ids(await asked(graph, given)) == without_ids(bare)
    assert b"QUJDQUJD" not in payloads(tmp_path / "m.db")


def asks_with(text: str, ran: Ran, **settings: Any) -> Any:
    model = echo(ran)

    def node(state: MessagesState) -> Any:
        model.invoke([SystemMessage(text), *state["messages"]])
        return {"messages": [AIMessage("done", id="1")]}

    return musubito_graph(one_node(node), models=False, **settings)


@pytest.mark.parametrize(
    ("text", "told", "settings"),
    [
        (f"api_key={KEY}", ["api_key=**********"], {}),
        ("The user is alice.", [], {"steps": {"node": StepConfiguration(record_inputs=False)}}),
        ("x" * LARGEST, [OMITTED], {}),
    ],
    ids=["a secret", "inputs are not recorded", "large"],
)
async def test_what_is_not_stored_of_a_prompt(tmp_path: Path, ran: Ran, text: str, told: Any, settings: Any):
    graph = asks_with(text, ran, **settings)
    await asked(graph, conversation())
    messages = (await asked(graph, conversation(), ran))[0]
    assert [message.text for message in messages if message.type == "system"] == told
    assert messages[-6:] == conversation()["messages"]
    assert text.encode() not in payloads(tmp_path / "m.db")


@pytest.mark.parametrize("shown", [["alice", "(removed)"], None], ids=["changes", "leaves nothing"])
async def test_what_redact_takes_from_inputs_it_takes_from_a_prompt(tmp_path: Path, ran: Ran, shown: Any):
    def redact(operation: str, arguments: Any) -> Any:
        if shown is None:
            return None
        return {
            name: [{**message, "content": message["content"].replace(*shown)} for message in value]
            if name == "messages"
            else "(removed)"
            for name, value in arguments.items()
        }

    path = fresh(tmp_path / "redacted.db")
    with MusubitoEngine(SQLiteStorage(path), redact=redact) as engine, use_musubito_engine(engine):
        graph = asks_with("The user is alice.", ran)
        await asked(graph, conversation())
        messages = (await asked(graph, conversation(), ran))[0]
    assert [message.text for message in messages if message.type == "system"] == (
        [] if shown is None else ["The user is (removed)."]
    )
    assert b"alice" not in payloads(path)


async def test_a_prompt_that_is_no_data_or_tells_an_id_is_replayed(ran: Ran):
    """What is told decides nothing: the answer is replayed as before."""
    model = echo(ran)

    def node(state: MessagesState) -> Any:
        call = "call_0123456789abcdefghijABCD"
        made = AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": call}])
        odd = SystemMessage(f"It was {state['messages'][0].id}.", additional_kwargs={"lock": print})
        model.invoke([odd, made, ToolMessage("4", tool_call_id=call), state["messages"][-1]])
        return {"messages": [AIMessage("done", id="1")]}

    given = {"messages": [HumanMessage("a", id="0f8fad5b-d9cb-469f-a165-70867728950e"), HumanMessage("b", id="m1")]}
    graph = musubito_graph(one_node(node), models=False)
    await asked(graph, given)
    messages = (await asked(graph, given, ran))[0]
    assert [message.type for message in messages] == ["ai", "tool", "human"], "that which is no data is left out"
