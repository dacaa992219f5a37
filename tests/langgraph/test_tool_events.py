"""What callbacks and streams hear of tools, and what is pushed past the return value, comes again on a replay.

The oracle is the bare graph: the events of a replay are those of a bare run, in their order.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypedDict
from uuid import uuid4

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import push_message
from langgraph.graph.ui import AnyUIMessage, delete_ui_message, push_ui_message, ui_message_reducer
from langgraph.prebuilt import ToolNode

from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, musubito_step, use_musubito_engine
from musubito_langgraph import musubito_graph, musubito_runnable
from musubito_langgraph.recorder.event_kinds import LARGEST, OMITTED
from tests.fresh import fresh
from tests.langgraph.equivalence import Plain, without_message_ids
from tests.langgraph.specimen import Ran, Scripted, calls, says, took

pytestmark = pytest.mark.usefixtures("engine")

ASKED = {"messages": [HumanMessage("say something", id="asked")]}
replaying = partial(musubito_graph, replay_tools=True)
"""What is told again is what is replayed."""


def model(ran: Ran, label: str, script: Any = None) -> Scripted:
    return Scripted(script=script or (lambda messages: says(f"{label} heard it")), ran=ran, label=label)


def tools(ran: Ran) -> tuple[Any, Any]:
    quiet = Scripted(script=lambda messages: says("to itself"), ran=ran, label="inner", tags=["nostream"])

    @tool
    def look_up(place: str) -> str:
        """Look something up."""
        ran("look_up")
        get_stream_writer()({"looking up": place})
        return f"rain in {place}, {quiet.invoke(place).text}"

    @tool
    def breaks(place: str) -> str:
        """Look in vain."""
        ran("breaks")
        raise ValueError(f"no {place}")

    return look_up, breaks


def agent(ran: Ran) -> Any:
    def script(messages: Any) -> AIMessage:
        if messages[-1].type == "tool":
            return says(f"It says {messages[-1].text}.")
        return calls(("look_up", {"place": "Kyoto"}), text="I will see.")

    return create_agent(model(ran, "agent", script), [tools(ran)[0]])


def in_a_tool_node(ran: Ran) -> Any:
    def asks(state: MessagesState) -> Any:
        ran("asks")
        return {"messages": [calls(("look_up", {"place": "Nara"}))]}

    builder = StateGraph(MessagesState)
    builder.add_sequence([asks, ("tools", ToolNode([tools(ran)[0]]))])
    return builder.add_edge(START, "asks").compile()


def by_the_code_of_a_node(ran: Ran) -> Any:
    look_up, breaks = tools(ran)
    answers = model(ran, "answers")
    within = RunnableLambda(lambda place: look_up.invoke({"place": place}))

    def node(state: MessagesState) -> Any:
        first = look_up.invoke({"place": "Otsu"}, {"tags": ["mine"], "metadata": {"whose": "mine"}})
        call = {"type": "tool_call", "name": "look_up", "args": {"place": "Uji"}, "id": "call_of_mine"}
        second = look_up.invoke(call).text
        answers.invoke("between")
        try:
            breaks.invoke({"place": "Edo"})
        except ValueError as error:
            third = str(error)
        return {"messages": [AIMessage(f"{first} {second} {third} {within.invoke('Kobe')}", id="made")]}

    return StateGraph(MessagesState).add_node(node).add_edge(START, "node").compile()


def nodes_of_graphs(ran: Ran) -> Any:
    return (
        StateGraph(MessagesState)
        .add_sequence([("inner", in_a_tool_node(ran)), ("again", by_the_code_of_a_node(ran))])
        .add_edge(START, "inner")
        .compile()
    )


Build = Callable[[Ran], Any]
EVERY = pytest.mark.parametrize("build", [agent, in_a_tool_node, by_the_code_of_a_node, nodes_of_graphs])


class Heard(BaseCallbackHandler):
    """What a handler is told of tools and models, in what each of them happened, and whether it is a replay."""

    run_inline = True

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.replayed: set[bool] = set()
        self.names: dict[Any, str] = {}
        self.used = 0

    def _begins(self, kind: str, name: str, what: Any, told: dict[str, Any]) -> None:
        metadata = told["metadata"]
        self.replayed.add(metadata.get("musubito_replayed", False))
        self.names[told["run_id"]] = name
        node, whose = metadata["langgraph_node"], metadata.get("whose")
        self.events.append([kind, name, what, node, whose, self.names.get(told["parent_run_id"]), sorted(told["tags"])])

    def on_chat_model_start(self, serialized: Any, messages: Any, **told: Any) -> None:
        self._begins("model", "", None, told)

    def on_tool_start(self, serialized: Any, input_str: str, **told: Any) -> None:
        self._begins("tool", serialized["name"], [input_str, told["inputs"]], told)

    def on_tool_end(self, output: Any, *, run_id: Any, **told: Any) -> None:
        text = ["message", output.text, output.status] if isinstance(output, ToolMessage) else output
        self.events.append(["tool ends", self.names[run_id], text, told["name"], told["color"]])

    def on_tool_error(self, error: BaseException, *, run_id: Any, **told: Any) -> None:
        self.events.append(["tool fails", self.names[run_id], str(error)])

    def on_llm_end(self, response: Any, **told: Any) -> None:
        message = response.generations[0][0].message
        self.used += bool(message.usage_metadata)
        self.events.append(["model ends", message.text])


class HeardAsync(AsyncCallbackHandler, Heard):
    """The same, awaited."""

    async def on_chat_model_start(self, *args: Any, **told: Any) -> None:
        Heard.on_chat_model_start(self, *args, **told)

    async def on_tool_start(self, *args: Any, **told: Any) -> None:
        Heard.on_tool_start(self, *args, **told)

    async def on_tool_end(self, *args: Any, **told: Any) -> None:
        Heard.on_tool_end(self, *args, **told)

    async def on_tool_error(self, *args: Any, **told: Any) -> None:
        Heard.on_tool_error(self, *args, **told)

    async def on_llm_end(self, *args: Any, **told: Any) -> None:
        Heard.on_llm_end(self, *args, **told)


def heard(graph: Any, handler: Heard) -> Heard:
    config: Any = {"callbacks": [handler]}
    if isinstance(handler, HeardAsync):
        asyncio.run(graph.ainvoke(ASKED, config))
    else:
        graph.invoke(ASKED, config)
    return handler


@EVERY
@pytest.mark.parametrize("kind", [Heard, HeardAsync], ids=["sync", "async"])
def test_callbacks_hear_of_tools_as_in_a_bare_run(build: Build, kind: type[Heard]):
    ran = Ran()
    bare, graph = heard(build(ran), kind()), replaying(build(ran))
    assert any(each[0] == "tool" for each in bare.events)
    cold = heard(graph, kind())
    assert (cold.events, cold.replayed) == (bare.events, {False})
    took(ran)
    for _ in range(2):
        replayed = heard(graph, kind())
        assert not took(ran)
        assert replayed.events == bare.events
        assert replayed.replayed == {True}
        assert replayed.used == 0


async def events_of(graph: Any) -> list[Any]:
    """Of models and tools, without what their metadata say of us and without what was used."""
    shown = []
    async for event in graph.astream_events(ASKED, version="v2"):
        if event["event"].startswith(("on_tool", "on_chat_model")):
            data = dict(event["data"])
            data.pop("input" if "chat_model" in event["event"] else "", None)
            if "error" in data:
                data["error"] = str(data["error"])
            for key in data.keys() & {"output", "chunk"}:
                if isinstance(data[key], AIMessage):
                    data[key] = [data[key].text, [call["args"] for call in data[key].tool_calls]]
            metadata = {key: event["metadata"].get(key) for key in ("langgraph_node", "whose")}
            shown.append(Plain(blank=True)([event["event"], event["name"], sorted(event["tags"]), data, metadata]))
    return shown


@EVERY
async def test_astream_events_shows_tools_as_a_bare_run(build: Build):
    ran = Ran()
    bare, graph = await events_of(build(ran)), replaying(build(ran))
    assert await events_of(graph) == bare
    took(ran)
    assert await events_of(graph) == bare
    assert not took(ran)


def streamed(graph: Any) -> list[Any]:
    mode: Any = ["tools", "custom", "messages", "updates", "values"]
    # Messages are given ids while they are on their way.
    events = graph.stream(ASKED, stream_mode=mode, subgraphs=True)
    return [without_message_ids(Plain(blank=True)(event)) for event in events]


@EVERY
def test_all_streams_are_those_of_a_bare_run_in_their_order(build: Build):
    pytest.importorskip("langgraph.pregel._tools", reason="the stream mode `tools` came with langgraph 1.2")
    ran = Ran()
    bare, graph = streamed(build(ran)), replaying(build(ran))
    assert streamed(graph) == bare
    took(ran)
    assert streamed(graph) == bare
    assert not took(ran)


def test_a_node_around_a_replayed_tool_tells_of_it_too():
    ran = Ran()
    look_up = musubito_runnable(tools(ran)[0])

    def build(text: str) -> Any:
        def node(state: MessagesState) -> Any:
            ran("node")
            return {"messages": [AIMessage(look_up.invoke({"place": "Otsu"}) + text, id="1")]}

        return replaying(StateGraph(MessagesState).add_node(node).add_edge(START, "node").compile(name="g"))

    first = heard(build("one"), Heard())
    took(ran)
    live = heard(build("two"), Heard())
    assert took(ran) == {"node": 1}, "the tool was replayed"
    replayed = heard(build("two"), Heard())
    assert not took(ran)
    assert first.events == live.events == replayed.events
    assert (live.replayed, replayed.replayed) == ({True}, {True})


def test_what_a_tool_was_given_need_not_be_storable():
    ran = Ran()

    @tool
    def holds(thing: Any) -> Any:
        """Hold a thing."""
        return thing

    def node(state: MessagesState) -> Any:
        ran("node")
        holds.invoke({"thing": print})
        return {"messages": [AIMessage("done", id="1")]}

    graph = replaying(StateGraph(MessagesState).add_node(node).add_edge(START, "node").compile())
    for _ in range(2):
        events = heard(graph, Heard()).events
        assert [each[:2] for each in events] == [["tool", "holds"], ["tool ends", "holds"]]
    assert took(ran) == {"node": 1}


# -- what names the asker ----------------------------------------------------------------------------------------------
def asks_a_model(ran: Ran) -> Any:
    answers = Scripted(script=lambda messages: says("heard"), ran=ran, label="answers", tags=["mine"])

    def node(state: MessagesState) -> Any:
        return {"messages": [answers.invoke("hi")]}

    return StateGraph(MessagesState).add_node(node).add_edge(START, "node").compile()


def tags_of_messages(graph: Any, tags: list[str]) -> list[Any]:
    return [sorted(said["tags"]) for _, said in graph.stream(ASKED, {"tags": tags}, stream_mode="messages")]


async def tags_of_events(graph: Any, tags: list[str]) -> list[Any]:
    events = [each async for each in graph.astream_events(ASKED, {"tags": tags}, version="v2")]
    return [
        (each["metadata"].get("tags"), sorted(each["tags"]))
        for each in events
        if each["event"].startswith("on_chat_model")
    ]


async def test_the_tags_of_one_asker_are_not_told_to_another():
    ran = Ran()
    bare, graph = asks_a_model(ran), replaying(asks_a_model(ran))
    assert tags_of_messages(graph, ["alice"]) == tags_of_messages(bare, ["alice"])
    messages, events = tags_of_messages(bare, ["bob"]), await tags_of_events(bare, ["bob"])
    took(ran)
    assert tags_of_messages(graph, ["bob"]) == messages
    assert await tags_of_events(graph, ["bob"]) == events
    assert not took(ran)


def test_tags_that_the_stream_shows_do_not_make_a_node_run_again():
    ran = Ran()
    graph = replaying(asks_a_model(ran))
    for number in range(3):
        tags_of_messages(graph, [f"a-long-tag-of-the-session-{number}"])
    assert took(ran) == {"answers": 1}


# -- what is kept of tools ---------------------------------------------------------------------------------------------
KEY = "sk-live-4242424242424242"
PASSWORD = "hunter2hunter2"


def called(function: Any, arguments: Any, ran: Ran, **options: Any) -> Any:
    """Return a graph with one node, which calls a tool and gives back another text than the tool."""
    asks = tool(function)

    def node(state: MessagesState) -> Any:
        ran("node")
        with suppress(ConnectionError):
            asks.invoke(arguments)
        return {"messages": [AIMessage("done", id="1")]}

    return replaying(StateGraph(MessagesState).add_node(node).add_edge(START, "node").compile(), **options)


def log_in(user: str, api_key: str) -> str:
    """Log in."""
    return "in"


def outputs(path: Path) -> list[bytes]:
    """Return what is stored, of inner steps before the steps around them."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT payload FROM _executions WHERE payload IS NOT NULL ORDER BY id")
        return [payload for (payload,) in found]


def payloads(path: Path) -> bytes:
    return b"".join(outputs(path))


def told_of_tool(graph: Any, ran: Ran) -> Any:
    """Return the arguments that a handler hears of on a replay."""
    graph.invoke(ASKED)
    took(ran)
    (begins, _) = heard(graph, Heard()).events
    assert not took(ran)
    return begins[2]


def test_a_secret_in_what_a_tool_was_given_is_not_kept(tmp_path: Path):
    ran, given = Ran(), {"api_key": KEY, "user": f"postgres://u:{PASSWORD}@host/db"}
    hidden = {"api_key": "**********", "user": "postgres://u:**********@host/db"}
    assert told_of_tool(called(log_in, given, ran), ran) == [str(hidden), hidden]
    stored = payloads(tmp_path / "m.db")
    assert b"log_in" in stored
    assert KEY.encode() not in stored
    assert PASSWORD.encode() not in stored


def test_a_secret_in_the_text_that_a_tool_was_given_is_not_kept():
    ran = Ran()

    def log_in(text: str) -> str:
        """Log in."""
        return "in"

    assert told_of_tool(called(log_in, f"api_key={KEY}", ran), ran) == ["api_key=**********", None]


def without_users(operation: str, arguments: Any) -> Any:
    return {**arguments, "user": "(removed)"}


def fails(operation: str, arguments: Any) -> Any:
    raise ValueError("no rule for this")


@pytest.mark.parametrize(
    ("redact", "told"),
    [
        (without_users, {"api_key": "**********", "user": "(removed)"}),
        (fails, {}),
        (lambda operation, arguments: None, {}),
        (lambda operation, arguments: {"lock": fails}, {}),
    ],
    ids=["changes", "fails", "leaves nothing", "leaves no data"],
)
def test_what_redact_takes_from_inputs_it_takes_from_the_arguments_of_tools(tmp_path: Path, redact: Any, told: Any):
    ran, path = Ran(), fresh(tmp_path / "redacted.db")
    with MusubitoEngine(SQLiteStorage(path), redact=redact) as engine, use_musubito_engine(engine):
        assert told_of_tool(called(log_in, {"user": "alice", "api_key": KEY}, ran), ran) == [str(told), told]
    assert b"alice" not in payloads(path)


def test_arguments_of_tools_are_not_kept_where_inputs_are_not(tmp_path: Path):
    ran = Ran()
    unrecorded = {"node": StepConfiguration(record_inputs=False)}
    graph = called(log_in, {"user": "alice", "api_key": "none"}, ran, steps=unrecorded)
    assert told_of_tool(graph, ran) == ["{}", {}]
    assert b"alice" not in payloads(tmp_path / "m.db")


def test_an_argument_that_is_no_data_hides_no_other_from_redact(tmp_path: Path):
    ran, path = Ran(), fresh(tmp_path / "redacted.db")

    def log_in(by: Any, user: str) -> str:
        """Log in."""
        return "in"

    told = {"by": "(builtins.builtin_function_or_method)", "user": "(removed)"}
    with MusubitoEngine(SQLiteStorage(path), redact=without_users) as engine, use_musubito_engine(engine):
        assert told_of_tool(called(log_in, {"by": print, "user": "alice"}, ran), ran) == [str(told), told]
    assert b"alice" not in payloads(path)


def test_a_secret_in_the_error_of_a_tool_or_model_is_not_kept(tmp_path: Path):
    ran = Ran()

    def refuses(user: str) -> str:
        """Refuse."""
        raise ConnectionError(f"https://bob:{PASSWORD}@host/ refused, api_key={KEY}")

    def breaks(messages: Any) -> AIMessage:
        raise ConnectionError(f"https://bob:{PASSWORD}@host/ refused, api_key={KEY}")

    def node(state: MessagesState) -> Any:
        ran("node")
        with suppress(ConnectionError):
            model(ran, "breaks", breaks).invoke("hi")
        with suppress(ConnectionError):
            tool(refuses).invoke({"user": "bob"})
        return {"messages": [AIMessage("done", id="1")]}

    graph = replaying(StateGraph(MessagesState).add_node(node).add_edge(START, "node").compile())
    for shown in (f"https://bob:{PASSWORD}@host/ refused, api_key={KEY}", *2 * ["https://bob:**********@host/"]):
        assert heard(graph, Heard()).events[-1][2].startswith(shown)
    assert took(ran)["node"] == 1
    stored = payloads(tmp_path / "m.db")
    assert stored.count(b"api_key=**********") == 2
    assert PASSWORD.encode() not in stored


@pytest.mark.parametrize("as_message", [False, True], ids=["text", "message"])
def test_a_large_output_that_the_node_does_not_return_is_not_kept(tmp_path: Path, as_message: bool):
    ran = Ran()

    def fetch(what: str) -> str:
        """Fetch a lot."""
        return what * LARGEST

    call: Any = {"what": "x"}
    if as_message:
        call = {"type": "tool_call", "name": "fetch", "args": call, "id": "call_of_mine"}
    graph = called(fetch, call, ran)
    shown = [heard(graph, Heard()).events[-1][2] for _ in range(2)]
    expected = ("x" * LARGEST, OMITTED)
    assert shown == [["message", text, "success"] if as_message else text for text in expected]
    assert took(ran) == {"node": 1}
    assert len(outputs(tmp_path / "m.db")[-1]) < 1000


# -- what is pushed ----------------------------------------------------------------------------------------------------
class Shown(TypedDict, total=False):
    messages: Annotated[list[Any], lambda old, new: [*old, *(new if isinstance(new, list) else [new])]]
    ui: Annotated[list[AnyUIMessage], ui_message_reducer]


def shows(ran: Ran) -> Any:
    def node(state: Shown) -> Any:
        ran("node")
        push_message(AIMessage("shown alone", id="alone"), state_key=None)
        answer = AIMessage("kept", id=f"lc_run--{uuid4()}")
        push_message(answer)
        push_ui_message("chart", {"rows": [1]}, message=answer)
        gone = push_ui_message("note", {})
        push_ui_message("toast", {}, state_key=None)
        delete_ui_message(gone["id"])
        return {"messages": ["returned"]}

    return StateGraph(Shown).add_node(node).add_edge(START, "node").compile(checkpointer=InMemorySaver())


THREAD: Any = {"configurable": {"thread_id": "t"}}


def pushed(graph: Any, thread: Any = THREAD) -> list[Any]:
    mode: Any = ["custom", "messages", "updates", "values"]
    return [Plain(blank=True)(event) for event in graph.stream({}, thread, stream_mode=mode)]


TELLS_ALL = pytest.mark.skipif(
    "subgraphs" not in push_message.__code__.co_names,
    reason="in early releases of langgraph, push_message tells the first handler alone",
)


@pytest.mark.parametrize("recorded", ["invoke", pytest.param("stream", marks=TELLS_ALL)])
def test_what_is_pushed_is_pushed_again_whoever_listened_first(recorded: str):
    ran = Ran()
    bare, graph = shows(ran), replaying(shows(ran))
    expected = pushed(bare)
    assert any(event[0] == "messages" for event in expected)
    first: Any = {"configurable": {"thread_id": "first"}}
    if recorded == "invoke":
        graph.invoke({}, first)
    else:
        assert pushed(graph, first) == pushed(bare, first)
    took(ran)
    assert pushed(graph) == expected
    assert not took(ran)
    assert Plain(blank=True)(graph.get_state(THREAD).values) == Plain(blank=True)(bare.get_state(THREAD).values)


def test_what_is_pushed_again_is_another_message():
    """Else it would take the place of the first in the state."""
    ran = Ran()
    graph = replaying(shows(ran))
    states = [graph.invoke({}, {"configurable": {"thread_id": str(number)}}) for number in range(2)]
    assert took(ran) == {"node": 1}
    (one,), (two,) = (state["ui"] for state in states)
    assert one["id"] != two["id"]
    for state in states:
        kept = state["messages"][0]
        assert state["ui"][0]["metadata"]["message_id"] == kept.id
    assert states[0]["messages"][0].id != states[1]["messages"][0].id


def test_a_runnable_that_pushes_inside_a_node_that_ran():
    ran = Ran()

    @musubito_runnable
    def inner(text: str) -> str:
        ran("inner")
        push_message(AIMessage("alone", id="alone"), state_key=None)
        push_message(AIMessage(text, id="kept"))
        return text

    def build(more: str) -> Any:
        def outer(state: MessagesState) -> Any:
            ran("outer")
            return {"messages": [AIMessage(inner.invoke("pushed") + more, id="returned")]}

        return replaying(StateGraph(MessagesState).add_node(outer).add_edge(START, "outer").compile(name="g"))

    def told(graph: Any) -> Any:
        mode: Any = ["messages", "values"]
        shown = Plain(blank=True)(list(graph.stream({"messages": []}, stream_mode=mode)))
        return json.loads(json.dumps(shown).replace('"class": "ObservedPart", ', ""))

    told(build("one"))
    took(ran)
    live = told(build("two"))
    assert took(ran) == {"outer": 1}
    assert told(build("two")) == live
    assert not took(ran)
    texts = [message["content"] for message in live[-1][1]["messages"]]
    assert texts == ["pushed", "pushedtwo"]


def test_a_plain_step_that_pushes_is_not_replayed():
    ran = Ran()

    @musubito_step
    def inner(text: str) -> str:
        ran("inner")
        push_message(AIMessage(text, id="kept"))
        return text

    def outer(state: MessagesState) -> Any:
        return {"messages": [AIMessage(inner("pushed").value, id="returned")]}

    graph = replaying(StateGraph(MessagesState).add_node(outer).add_edge(START, "outer").compile())
    for _ in range(2):
        assert [message.text for message in graph.invoke({"messages": []})["messages"]] == ["pushed", "pushed"]
        assert took(ran) == {"inner": 1}
