"""What a graph emits while it runs comes again on a replay: custom events and message tokens, in their order, with new
message ids; all other stream modes show what they showed.

The oracle is the bare graph: what it streams, up to ids and times, is what the wrapped one streams, cold and replayed.
"""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.tools import ToolRuntime
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableParallel
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import StreamWriter

from musubito import MusubitoWarning
from musubito_langgraph import musubito_graph, musubito_runnable
from tests.langgraph.equivalence import MODES, Plain
from tests.langgraph.specimen import Ran, Scripted, calls, says
from tests.pairs import in_turn, third

pytestmark = pytest.mark.usefixtures("engine")

GIVEN = {"messages": [HumanMessage("say something long", id="asked")]}
Build = Callable[[Ran], Any]
GRAPHS: dict[str, Build] = {}
ASYNC_GRAPHS: dict[str, Build] = {}


def shown(build: Build) -> Build:
    """A graph whose streams are compared, in both ways."""
    GRAPHS[build.__name__] = ASYNC_GRAPHS[build.__name__] = build
    return build


def echo(ran: Ran, label: str = "model", **fields: Any) -> Scripted:
    return Scripted(script=lambda messages: says(f"{label} heard {messages[-1].text}"), ran=ran, label=label, **fields)


def chain(*nodes: Any, schema: type = MessagesState) -> StateGraph:
    builder = StateGraph(schema)
    builder.add_sequence(list(nodes))
    builder.add_edge(START, nodes[0][0] if isinstance(nodes[0], tuple) else nodes[0].__name__)
    return builder


# -- graphs ------------------------------------------------------------------------------------------------------------
@dataclass
class Progress:
    done: int
    of: int


@shown
def tokens_between_events(ran: Ran) -> Any:
    first, second = echo(ran, "first"), echo(ran, "second", tags=["mine"], metadata={"whose": "mine"})
    quiet = echo(ran, "quiet", tags=["nostream"])

    def several(state: MessagesState, writer: StreamWriter) -> Any:
        writer("begins")
        one = first.invoke(state["messages"])
        writer("between")
        quiet.invoke(state["messages"])
        whole = None
        for chunk in second.stream(state["messages"], {"metadata": {"langgraph_step": "its own"}, "tags": ["now"]}):
            writer(chunk.text)
            whole = chunk if whole is None else whole + chunk
        writer("ends")
        first.invoke("aside")
        return {"messages": [one, whole]}

    return chain(several).compile()


@shown
def a_model_that_fails_half_way(ran: Ran) -> Any:
    class Fails(Scripted):
        def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
            self.ran(self.label)
            yield ChatGenerationChunk(message=AIMessageChunk(content="half"))
            raise ConnectionError

        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            raise ConnectionError

    fails = Fails(script=lambda messages: says("unused"), ran=ran, label="fails")
    model = fails.with_fallbacks([echo(ran)])

    def node(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    return chain(node).compile()


def inner_graph(ran: Ran) -> Any:
    model = echo(ran, "inner")

    def thinks(state: MessagesState, writer: StreamWriter) -> Any:
        writer("thinks")
        return {"messages": [model.invoke(state["messages"])]}

    def reads(state: MessagesState, writer: StreamWriter) -> Any:
        ran("reads")
        writer(state["messages"][-1].text)
        return {"messages": []}

    return chain(thinks, reads).compile(name="inner")


@shown
def a_subgraph_inside_a_node(ran: Ran) -> Any:
    graph = inner_graph(ran)

    def calls_it(state: MessagesState, writer: StreamWriter) -> Any:
        writer("before")
        answer = graph.invoke(state)["messages"][-1]
        graph.invoke({"messages": [HumanMessage("other", id="other")]})
        writer("after")
        return {"messages": [answer]}

    return chain(calls_it).compile()


@tool
def look_up(place: str, runtime: ToolRuntime) -> str:
    """Look something up."""
    runtime.stream_writer({"looking up": place})
    get_stream_writer()("and more")
    return f"rain in {place}"


@shown
def agent(ran: Ran) -> Any:
    def script(messages: Any) -> AIMessage:
        if messages[-1].type == "tool":
            return says(f"It says {messages[-1].text}.")
        return calls(("look_up", {"place": "Kyoto"}), text="I will see.")

    return create_agent(Scripted(script=script, ran=ran), [look_up])


# -- looking -----------------------------------------------------------------------------------------------------------
def events_of(graph: Any, way: str, **how: Any) -> list[Any]:
    if way == "sync":
        return list(graph.stream(GIVEN, **how))

    async def gather() -> list[Any]:
        return [event async for event in graph.astream(GIVEN, **how)]

    return asyncio.run(asyncio.wait_for(gather(), 60))


def ask(graph: Any, way: str) -> Any:
    return graph.invoke(GIVEN) if way == "sync" else asyncio.run(graph.ainvoke(GIVEN))


def plain(events: Any) -> Any:
    return Plain(blank=False)(events)


BOTH = [("sync", name) for name in GRAPHS] + [("async", name) for name in ASYNC_GRAPHS]


@pytest.mark.parametrize(("both", "subgraphs"), in_turn(BOTH, [False, True]), ids=str)
def test_all_modes_at_once(both: tuple[str, str], subgraphs: bool):
    way, name = both
    how = {"stream_mode": list(MODES), "subgraphs": subgraphs}
    ran, bare = Ran(), Ran()
    expected = events_of(ASYNC_GRAPHS[name](bare), way, **how)
    assert expected, "there is something to see"
    graph = musubito_graph(ASYNC_GRAPHS[name](ran))
    assert plain(events_of(graph, way, **how)) == plain(expected)
    assert ran.counts == bare.counts
    ran.counts.clear()
    replayed = events_of(graph, way, **how)
    assert not ran.counts, "it was a replay"
    if name == "a_subgraph_inside_a_node":
        # The node is replayed as a whole; a graph that it invoked has no checkpoints then, which `debug` may show.
        expected = [event for event in expected if not event[0] or event[1] != "debug"]
    assert plain(replayed) == plain(expected)


# -- ids ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", ["sync", "async"])
def test_tokens_have_new_ids_which_are_those_of_the_state(way: str):
    graph = musubito_graph(agent(Ran()))
    seen: list[set[str]] = []
    for _ in range(3):
        shown, values = [], {}
        for mode, event in events_of(graph, way, stream_mode=["messages", "values"]):
            if mode == "messages":
                shown.append(event[0])
            else:
                values = event
        made = {message.id for message in values["messages"] if message.type == "ai"}
        assert len(made) == 2
        assert {message.id for message in shown if message.type == "AIMessageChunk"} == made
        called = {call["id"] for message in values["messages"] if message.type == "ai" for call in message.tool_calls}
        chunks = {each["id"] for message in shown for each in getattr(message, "tool_call_chunks", ())}
        assert chunks == called == {m.tool_call_id for m in values["messages"] if m.type == "tool"}
        seen.append(made | called)
    assert not seen[0] & seen[1]
    assert not seen[1] & seen[2]


# -- recorded in one way, replayed in another --------------------------------------------------------------------------
def said(events: list[Any]) -> list[Any]:
    """Custom events, and messages by model: what each of them said."""
    told: list[Any] = []
    texts: dict[str, str] = {}
    for mode, event in events:
        if mode == "custom":
            told.append(event)
        elif (message := event[0]).text:
            if message.id not in texts:
                told.append(("message", message.id))
            texts[message.id] = texts.get(message.id, "") + message.text
    return [texts[each[1]] if isinstance(each, tuple) else each for each in told]


@pytest.mark.parametrize("both", third(0, BOTH), ids=str)
def test_what_was_invoked_is_shown_on_a_replay(both: tuple[str, str]):
    way, name = both
    how = {"stream_mode": ["custom", "messages"]}
    expected = said(events_of(ASYNC_GRAPHS[name](Ran()), way, **how))
    ran = Ran()
    graph = musubito_graph(ASYNC_GRAPHS[name](ran))
    ask(graph, way)
    ran.counts.clear()
    replayed = said(events_of(graph, way, **how))
    assert not ran.counts
    if name == "tokens_between_events":
        # Events that a node makes of the tokens lie between the tokens, or before the message as a whole.
        assert sorted(replayed) == sorted(expected)
    elif name == "a_model_that_fails_half_way":
        # Invoked, it said nothing before it failed.
        assert replayed == expected[1:] == ["model heard say something long"]
    else:
        assert replayed == expected


@pytest.mark.parametrize("both", third(1, BOTH), ids=str)
def test_what_was_streamed_is_given_back_by_a_replay(both: tuple[str, str]):
    way, name = both
    ran = Ran()
    graph = musubito_graph(ASYNC_GRAPHS[name](ran))
    events = events_of(graph, way, stream_mode=["values", "custom", "messages"])
    ran.counts.clear()
    asked = ask(graph, way)
    assert not ran.counts
    assert plain(asked) == plain([event for mode, event in events if mode == "values"][-1])


# -- what surrounds the replay is what is said of its messages ---------------------------------------------------------
def test_metadata_and_tags_are_those_of_the_replay():
    def configured(number: int) -> dict[str, Any]:
        return {
            "configurable": {"thread_id": f"thread {number}"},
            "metadata": {"request": number, "same": 1},
            "tags": [f"tag {number}"],
        }

    def metadata(graph: Any, number: int) -> Any:
        events = graph.stream(GIVEN, configured(number), stream_mode="messages", subgraphs=True)
        return plain([event[1][1] for event in events])

    ran = Ran()
    inner = a_subgraph_inside_a_node(ran)
    builder = chain(("several", tokens_between_events(ran)), ("calls", inner))
    bare, graph = (builder.compile(checkpointer=InMemorySaver()) for _ in range(2))
    graph = musubito_graph(graph)
    metadata(graph, 1)
    ran.counts.clear()
    replayed = metadata(graph, 2)
    assert not ran.counts
    assert replayed == metadata(bare, 2)
    assert {each["thread_id"] for each in replayed} == {"thread 2"}
    assert any("mine" in each["tags"] for each in replayed)


# -- events are kept as they were --------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", ["sync", "async"])
def test_what_is_changed_after_it_was_emitted(way: str):
    kept: list[Any] = []

    class Keeps(Scripted):
        def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
            block = {"type": "text", "text": "as it was", "index": 0}
            message = AIMessageChunk(content=[block], additional_kwargs={"n": 1}, id="msg_0")
            yield ChatGenerationChunk(message=message)
            block["text"] = "changed"
            message.additional_kwargs["n"] = 2

    model = Keeps(script=lambda messages: says("unused"), ran=Ran())

    def node(state: MessagesState, writer: StreamWriter) -> Any:
        event, progress = {"list": [1]}, Progress(1, 3)
        writer(event)
        event["list"].append("changed")
        writer(progress)
        progress.done = 3
        for _ in model.stream("go"):
            pass
        return {"messages": []}

    graph = musubito_graph(chain(node).compile())
    events_of(graph, way, stream_mode=["custom", "messages"])
    for _ in range(2):
        event, progress, (mode, (message, _metadata)), *_ = events_of(graph, way, stream_mode=["custom", "messages"])
        assert event == ("custom", {"list": [1]})
        assert progress == ("custom", Progress(1, 3))
        assert message.content == [{"type": "text", "text": "as it was", "index": 0}]
        assert message.additional_kwargs == {"n": 1}
        event[1]["list"].append("whoever listens may change it")
        progress[1].done = 2
        message.content.clear()
        kept.append((event, message))
    assert kept[0][1] is not kept[1][1]


class Unstorable:
    """Neither copied nor encoded."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize(
    "make",
    [threading.Lock, Unstorable, lambda: {"in": [threading.Lock()]}, lambda: print],
    ids=["lock", "object", "nested", "function"],
)
def test_what_cannot_be_stored_is_shown_and_not_replayed(make: Callable[[], Any], way: str):
    ran = Ran()
    events = [make(), "and another"]

    def node(state: MessagesState, writer: StreamWriter) -> Any:
        ran("node")
        for event in events:
            writer(event)
        return {"messages": [AIMessage("done", id="1")]}

    def after(state: MessagesState) -> Any:
        ran("after")
        return {"messages": []}

    graph = musubito_graph(chain(node, after).compile())
    for number in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            shown = events_of(graph, way, stream_mode="custom")
        assert [type(each) for each in shown] == [type(each) for each in events]
        assert all(a is b for a, b in zip(shown, events, strict=True)), "the very objects"
        (warning,) = caught
        assert issubclass(warning.category, MusubitoWarning)
        assert "LangGraph/node" in str(warning.message)
        assert ran.counts == {"node": number + 1, "after": 1}, "what follows it is replayed"


# -- a part of it ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_node_that_was_edited_streams_live_among_the_others(way: str):
    def build(ran: Ran, prompt: str) -> Any:
        first, second, third = (echo(ran, label) for label in ("first", "second", "third"))

        def one(state: MessagesState, writer: StreamWriter) -> Any:
            writer("one")
            return {"messages": [first.invoke(state["messages"])]}

        def two(state: MessagesState, writer: StreamWriter) -> Any:
            writer("two")
            second.invoke(prompt)
            return {"messages": []}

        def three(state: MessagesState, writer: StreamWriter) -> Any:
            writer("three")
            return {"messages": [third.invoke(state["messages"])]}

        return chain(one, two, three).compile()

    how = {"stream_mode": list(MODES)}
    ran = Ran()
    events_of(musubito_graph(build(ran, "a prompt")), way, **how)
    assert ran.counts == {"first": 1, "second": 1, "third": 1}
    edited = events_of(musubito_graph(build(ran, "another prompt")), way, **how)
    assert ran.counts == {"first": 1, "second": 2, "third": 1}
    assert plain(edited) == plain(events_of(build(Ran(), "another prompt"), way, **how))


@pytest.mark.parametrize("way", ["sync", "async"])
def test_what_encloses_a_replay_keeps_its_events_in_their_order(way: str):
    ran = Ran()
    model = echo(ran)

    @musubito_runnable
    def inner(text: str) -> str:
        ran("inner")
        writer = get_stream_writer()
        writer("before")
        answer = model.invoke(text).text
        writer("after")
        return answer

    def build(name: str, last: str) -> Any:
        def outer(state: MessagesState, writer: StreamWriter) -> Any:
            ran("outer")
            model.invoke("first")
            answer = inner.invoke("go", {"metadata": {"its": "own"}, "tags": ["inner"]})
            writer(last)
            return {"messages": [AIMessage(answer, id="1")]}

        return musubito_graph(chain((name, outer)).compile())

    how = {"stream_mode": ["custom", "messages"]}
    events_of(build("one", "the first"), way, **how)
    ran.counts.clear()
    graph = build("two", "the second")
    live = events_of(graph, way, **how)
    assert ran.counts == {"outer": 1}, "inner and the model were replayed"
    replayed = events_of(graph, way, **how)
    assert ran.counts == {"outer": 1}, "outer, too"
    assert plain(replayed) == plain(live)
    modes = [mode for mode, _ in replayed]
    assert modes[modes.index("custom") : -2].count("messages") > 1, "tokens between events"
    assert {event[1]["langgraph_node"] for mode, event in live if mode == "messages"} == {"two"}
    assert any(
        event[1].get("its") == "own" and event[1]["tags"] == ["inner"] for mode, event in replayed if mode == "messages"
    )


def test_models_in_threads_are_not_mixed_up():
    ran = Ran()
    models = {f"m{number}": echo(ran, f"m{number}", metadata={"label": f"m{number}"}) for number in range(8)}
    side_by_side = RunnableParallel(models)

    def node(state: MessagesState) -> Any:
        side_by_side.invoke(state["messages"])
        return {"messages": []}

    graph = musubito_graph(chain(node).compile())
    graph.invoke(GIVEN)
    for _ in range(2):
        texts: dict[str, str] = {}
        for message, metadata in graph.stream(GIVEN, stream_mode="messages"):
            texts[metadata["label"]] = texts.get(metadata["label"], "") + message.text
        assert texts == {label: f"{label} heard say something long" for label in models}
    assert ran.counts == dict.fromkeys(models, 1)
