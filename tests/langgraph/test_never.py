"""What must never be replayed: an answer that was given elsewhere, to somebody else, with other means, or by a human.

What decides an answer is read by a node itself, by a step of the core inside it, or by a Runnable inside it; none of
them may be given what another was answered.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from operator import add
from typing import Annotated, Any, NamedTuple, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    before_model,
    dynamic_prompt,
    wrap_model_call,
    wrap_tool_call,
)
from langchain.tools import ToolRuntime
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, Runnable, RunnableConfig, RunnableLambda
from langchain_core.tools import StructuredTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_config, get_store
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import push_message
from langgraph.prebuilt import InjectedState, InjectedStore, ToolNode
from langgraph.runtime import Runtime, get_runtime
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel, Field, SecretStr, create_model

from musubito import StepConfiguration, StepType, musubito_step, run
from musubito_langgraph import musubito_graph, musubito_runnable
from tests.langgraph.specimen import Ran, Scripted, calls, says, took
from tests.pairs import in_turn

FIRST = version("langgraph").startswith("1.0.")
pytestmark = pytest.mark.usefixtures("engine")
Ask = Callable[..., Any]
DETERMINISTIC = StepConfiguration(step_type=StepType.DETERMINISTIC)


class State(TypedDict, total=False):
    text: str
    done: Annotated[list[Any], add]


Reader = Callable[[], Any]
Place = Callable[[Reader, Ran], Callable[[Any], Any]]


def in_the_node(read: Reader, ran: Ran) -> Callable[[Any], Any]:
    def node(state: State) -> Any:
        ran("node")
        return {"done": [read()]}

    return node


def in_a_step(read: Reader, ran: Ran) -> Callable[[Any], Any]:
    @musubito_step
    def inner() -> Any:
        ran("inner")
        return read()

    def node(state: State) -> Any:
        ran("node")
        return {"done": [inner().value]}

    return node


def in_a_runnable(read: Reader, ran: Ran) -> Callable[[Any], Any]:
    @musubito_runnable
    def inner(value: Any) -> Any:
        ran("inner")
        return read()

    def node(state: State) -> Any:
        ran("node")
        return {"done": [inner.invoke("x")]}

    return node


def deep_inside(read: Reader, ran: Ran) -> Callable[[Any], Any]:
    """A step in a Runnable in a step: what holds around a node holds at any depth."""

    @musubito_step
    def innermost() -> Any:
        ran("inner")
        return read()

    @musubito_runnable
    def inner(value: Any) -> Any:
        return innermost().value

    @musubito_step
    def outer() -> Any:
        return inner.invoke("x")

    def node(state: State) -> Any:
        ran("node")
        return {"done": [outer().value]}

    return node


def in_an_async_step(read: Reader, ran: Ran) -> Any:
    @musubito_step
    async def inner() -> Any:
        ran("inner")
        await asyncio.sleep(0)
        return read()

    async def node(state: State) -> Any:
        ran("node")
        return {"done": [(await inner()).value]}

    return RunnableLambda(in_a_step(read, ran), node)


PLACES: Mapping[str, Place] = {
    "node": in_the_node,
    "async step": in_an_async_step,
    "step": in_a_step,
    "Runnable": in_a_runnable,
    "deep inside": deep_inside,
}
everywhere = pytest.mark.parametrize("place", PLACES)


def compiled(node: Any, schema: Any = State, context: Any = None, **kwargs: Any) -> Any:
    builder = StateGraph(schema, context_schema=context)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return musubito_graph(builder.compile(**kwargs))


# -- context -----------------------------------------------------------------------------------------------------------
@dataclass
class Who:
    user: str


class WhoModel(BaseModel):
    user: str


class Client:
    """Neither data nor comparable."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.opened = object()

    def __musubito_identity__(self) -> str:
        return self.url


@dataclass
class WithClient:
    user: str
    client: Any


def context_user() -> Any:
    context = get_runtime().context
    return context["user"] if isinstance(context, dict) else context.user


CONTEXTS: Mapping[str, tuple[Any, Callable[[str], Any]]] = {
    "dataclass": (Who, Who),
    "pydantic": (WhoModel, lambda user: WhoModel(user=user)),
    "dict": (TypedDict("WhoDict", {"user": str}), lambda user: {"user": user}),
    "with a client": (WithClient, lambda user: WithClient(user, Client("http://one"))),
    "with a client in a dict": (dict, lambda user: {"user": user, "client": Client("http://one")}),
}


@pytest.mark.parametrize(("kind", "place"), in_turn(CONTEXTS, PLACES))
def test_another_context(kind: str, place: str, ran: Ran, ask: Ask):
    schema, make = CONTEXTS[kind]
    graph = compiled(PLACES[place](context_user, ran), context=schema)
    for user, runs in [("ann", True), ("ann", False), ("ben", True), ("ann", False), ("ben", False)]:
        assert ask(graph, {"text": "x"}, context=make(user))["done"] == [user]
        assert bool(took(ran)) is runs


def test_a_context_whose_client_is_another(ran: Ran, ask: Ask):
    def url() -> Any:
        return get_runtime().context.client.url

    graph = compiled(in_the_node(url, ran), context=WithClient)
    for at, runs in [("http://one", True), ("http://one", False), ("http://two", True), ("http://one", False)]:
        assert ask(graph, {"text": "x"}, context=WithClient("ann", Client(at)))["done"] == [at]
        assert bool(took(ran)) is runs


# -- configurable, metadata, tags --------------------------------------------------------------------------------------
def configured_user() -> Any:
    return get_config()["configurable"]["user"]


def thread_of_config() -> Any:
    return get_config()["configurable"]["thread_id"]


TOLD = pytest.mark.skipif(
    "execution_info" not in Runtime.__dataclass_fields__, reason="a runtime of langgraph 1.0 has no ids"
)


def thread_of_runtime() -> Any:
    info = get_runtime().execution_info
    return info.thread_id


def mood_in_metadata() -> Any:
    return get_config()["metadata"].get("mood")


def whole_metadata() -> Any:
    return max((get_config().get("metadata") or {}).items())


def last_tag() -> Any:
    return sorted(tag for tag in get_config().get("tags") or [] if tag.startswith("my"))


def nothing() -> Any:
    return "nothing"


@everywhere
def test_another_user(place: str, ran: Ran, ask: Ask):
    graph = compiled(PLACES[place](configured_user, ran))
    for user, runs in [("ann", True), ("ann", False), ("ben", True), ("ann", False)]:
        assert ask(graph, {"text": "x"}, {"configurable": {"user": user}})["done"] == [user]
        assert bool(took(ran)) is runs


def test_another_user_whom_nobody_is_seen_to_look_at(ran: Ran, ask: Ask):
    def hidden() -> Any:
        return get_config().get("".join(["config", "urable"]))["".join(["us", "er"])]

    graph = compiled(in_the_node(hidden, ran))
    for user in ("ann", "ben"):
        assert ask(graph, {"text": "x"}, {"configurable": {"user": user}})["done"] == [user]


@everywhere
@pytest.mark.parametrize("read", [thread_of_config, pytest.param(thread_of_runtime, marks=TOLD)])
def test_another_thread_for_a_node_that_reads_it(read: Reader, place: str, ran: Ran, ask: Ask):
    graph = compiled(PLACES[place](read, ran), checkpointer=InMemorySaver())
    for name in ("one", "two"):
        assert ask(graph, {"text": "x"}, {"configurable": {"thread_id": name}})["done"] == [name]
        assert took(ran)["node"] == 1


@pytest.mark.parametrize(
    "by", ["parameter", pytest.param("annotation", marks=TOLD), pytest.param("runtime", marks=TOLD)]
)
def test_another_thread_for_a_node_that_is_handed_it(by: str, ran: Ran, ask: Ask):
    def parameter(state: State, config: RunnableConfig) -> Any:
        return {"done": [config["configurable"]["thread_id"]]}

    def annotation(state: State, *, runtime: Runtime) -> Any:
        return {"done": [runtime.execution_info.thread_id]}

    def runtime(state: State, runtime: Runtime[Any]) -> Any:
        seen = runtime
        return {"done": [seen.execution_info.thread_id]}

    graph = compiled(
        {"parameter": parameter, "annotation": annotation, "runtime": runtime}[by], checkpointer=InMemorySaver()
    )
    for name in ("one", "two"):
        assert ask(graph, {"text": "x"}, {"configurable": {"thread_id": name}})["done"] == [name]


@pytest.mark.parametrize(("place", "read"), in_turn(PLACES, [nothing, configured_user, mood_in_metadata]))
def test_another_thread_for_a_node_that_does_not_read_it(read: Reader, place: str, ran: Ran, ask: Ask):
    graph = compiled(PLACES[place](read, ran), checkpointer=InMemorySaver())
    for name, runs in [("one", True), ("two", False), ("three", False)]:
        config = {"configurable": {"thread_id": name, "user": "ann"}, "metadata": {"mood": "glad"}}
        ask(graph, {"text": "x"}, config)
        assert bool(took(ran)) is runs


@pytest.mark.parametrize(("place", "read"), in_turn(PLACES, [mood_in_metadata, whole_metadata]))
def test_other_metadata_for_a_node_that_reads_them(read: Reader, place: str, ran: Ran, ask: Ask):
    graph = compiled(PLACES[place](read, ran))
    seen = []
    for mood in ("zz glad", "zz sad"):
        seen.append(ask(graph, {"text": "x"}, {"metadata": {"mood": mood, "zz": mood}})["done"][0])
        assert took(ran)["node"] == 1
    assert "glad" in str(seen[0])
    assert "sad" in str(seen[1])


@everywhere
def test_other_tags_for_a_node_that_reads_them(place: str, ran: Ran, ask: Ask):
    graph = compiled(PLACES[place](last_tag, ran))
    for name, runs in [("my first", True), ("my second", True), ("my first", False)]:
        assert ask(graph, {"text": "x"}, {"tags": [name]})["done"] == [[name]]
        assert bool(took(ran)) is runs


@everywhere
def test_other_metadata_and_tags_for_a_node_that_does_not_look(place: str, ran: Ran, ask: Ask):
    graph = compiled(PLACES[place](nothing, ran))
    for number in range(3):
        ask(graph, {"text": "x"}, {"metadata": {"request": number}, "tags": [f"my {number}"], "run_name": f"n{number}"})
        assert bool(took(ran)) is (number == 0)


# -- the store ---------------------------------------------------------------------------------------------------------
SPACE = ("facts", "ann")


def got() -> Any:
    item = get_store().get(SPACE, "mood")
    return item and item.value["is"]


def got_by_runtime() -> Any:
    item = get_runtime().store.get(SPACE, "mood")
    return item and item.value["is"]


def searched() -> Any:
    return sorted(item.value["is"] for item in get_store().search(("facts",))) or None


def listed() -> Any:
    return [len(name) for name in get_store().list_namespaces(prefix=("facts",))] or None


@pytest.mark.parametrize(("place", "read"), in_turn(PLACES, [got, got_by_runtime, searched]))
def test_another_store_content(read: Reader, place: str, ran: Ran, ask: Ask):
    store = InMemoryStore()
    graph = compiled(PLACES[place](read, ran), store=store)

    def asked() -> Any:
        return ask(graph, {"text": "x"})["done"][0]

    assert asked() is None
    assert took(ran)["node"] == 1
    assert asked() is None
    assert took(ran) == {}
    store.put(SPACE, "mood", {"is": "glad"})  # what was absent is there
    assert "glad" in asked()
    assert took(ran)["node"] == 1
    assert "glad" in asked()
    assert took(ran) == {}
    store.put(SPACE, "mood", {"is": "sad"})
    assert "sad" in asked()
    store.delete(SPACE, "mood")
    took(ran)
    assert asked() is None
    as_at_first = took(ran)
    # What encloses a step goes with the newest of it that there is, and so may have to find its way back by running.
    assert as_at_first in ({}, {"node": 1})
    assert as_at_first == {} or place != "node"
    store.put(("other",), "mood", {"is": "of no interest"})
    assert asked() is None
    assert took(ran) == {}


@everywhere
def test_other_namespaces_in_the_store(place: str, ran: Ran, ask: Ask):
    store = InMemoryStore()
    graph = compiled(PLACES[place](listed, ran), store=store)
    assert ask(graph, {"text": "x"})["done"] == [None]
    store.put(SPACE, "mood", {"is": "glad"})
    assert ask(graph, {"text": "x"})["done"] == [[2]]
    store.put(("facts", "ann", "more"), "mood", {"is": "glad"})
    assert sorted(ask(graph, {"text": "x"})["done"][0]) == [2, 3]
    took(ran)
    ask(graph, {"text": "x"})
    assert took(ran) == {}


def test_a_store_that_is_handed_to_a_node(ran: Ran, ask: Ask):
    def node(state: State, *, store: BaseStore) -> Any:
        ran("node")
        item = store.get(SPACE, "mood")
        return {"done": [item and item.value["is"]]}

    store = InMemoryStore()
    graph = compiled(node, store=store)
    assert ask(graph, {"text": "x"})["done"] == [None]
    store.put(SPACE, "mood", {"is": "glad"})
    assert ask(graph, {"text": "x"})["done"] == ["glad"]
    took(ran)
    ask(graph, {"text": "x"})
    assert took(ran) == {}


def test_an_async_store(ran: Ran):
    async def node(state: State, runtime: Runtime) -> Any:
        ran("node")
        item = await runtime.store.aget(SPACE, "mood")
        found = await get_store().asearch(("facts",))
        return {"done": [item and item.value["is"], len(found)]}

    async def story() -> None:
        store = InMemoryStore()
        graph = compiled(node, store=store)
        assert (await graph.ainvoke({"text": "x"}))["done"] == [None, 0]
        await store.aput(SPACE, "mood", {"is": "glad"})
        assert (await graph.ainvoke({"text": "x"}))["done"] == ["glad", 1]
        await store.aput(SPACE, "other", {"is": "new"})
        assert (await graph.ainvoke({"text": "x"}))["done"] == ["glad", 2]
        took(ran)
        assert (await graph.ainvoke({"text": "x"}))["done"] == ["glad", 2]
        assert took(ran) == {}

    asyncio.run(story())


def writes() -> Any:
    store = get_store()
    item = store.get(SPACE, "times")
    times = 1 + (item.value["n"] if item else 0)
    get_store().put(("count",), "times", {"n": times})
    return "written"


def deletes() -> Any:
    get_store().delete(SPACE, "gone")
    return "deleted"


@pytest.mark.parametrize(("place", "act"), in_turn(PLACES, [writes, deletes]))
def test_what_writes_to_the_store_runs_each_time(act: Reader, place: str, ran: Ran, ask: Ask):
    store = InMemoryStore()
    graph = compiled(PLACES[place](act, ran), store=store)
    for _ in range(3):
        store.put(SPACE, "gone", {"is": "here"})
        store.delete(("count",), "times")
        ask(graph, {"text": "x"})
        runs = took(ran)
        assert runs["node"] == 1
        assert runs.get("inner", 1) == 1
        gone = store.get(SPACE, "gone") is None
        written = store.get(("count",), "times") is not None
        assert (gone, written) == ((False, True) if act is writes else (True, False))


# -- tools -------------------------------------------------------------------------------------------------------------
class Counted(MessagesState):
    n: int


def one_call(*messages: Any) -> AIMessage:
    return calls(("look", {"word": "x"}))


def tools_of(kind: str, ran: Ran) -> Any:
    @tool
    def look(word: str, state: Annotated[dict, InjectedState]) -> str:
        """Looks."""
        ran("look")
        return f"n={state['n']}"

    @tool("look")
    def look_at_key(word: str, n: Annotated[int, InjectedState("n")]) -> str:
        """Looks."""
        ran("look")
        return f"n={n}"

    @tool("look")
    def look_by_runtime(word: str, runtime: ToolRuntime) -> str:
        """Looks."""
        ran("look")
        return f"n={runtime.state['n']}"

    return {"state": look, "key": look_at_key, "runtime": look_by_runtime}[kind]


@pytest.mark.skipif(
    FIRST, reason="the tool node of LangGraph 1.0 hands tools less, and does not know the ToolRuntime of LangChain"
)
@pytest.mark.parametrize("by", ["edge", "Send"])
@pytest.mark.parametrize("kind", ["state", "key", "runtime"])
def test_other_state_of_tools(kind: str, by: str, ran: Ran, ask: Ask):
    def model(state: Counted) -> Any:
        ran("model")
        return {"messages": [one_call()]}

    def send(state: Counted) -> Any:
        # As create_agent does: the tools read the state past what is sent to them.
        return [Send("tools", [call]) for call in state["messages"][-1].tool_calls]

    builder = StateGraph(Counted)
    builder.add_node("model", model, input_schema=MessagesState)
    builder.add_node("tools", ToolNode([tools_of(kind, ran)]))
    builder.add_edge(START, "model")
    if by == "edge":
        builder.add_edge("model", "tools")
    else:
        builder.add_conditional_edges("model", send, ["tools"])
    graph = musubito_graph(builder.compile(), replay_tools=True)
    for n, runs in [(1, {"model": 1, "look": 1}), (2, {"look": 1}), (1, {}), (2, {})]:
        said = ask(graph, {"messages": [("user", "go")], "n": n})["messages"]
        assert said[-1].text == f"n={n}"
        assert took(ran) == runs


@pytest.mark.skipif(
    FIRST, reason="the tool node of LangGraph 1.0 hands tools less, and does not know the ToolRuntime of LangChain"
)
def test_other_store_content_for_a_tool(ran: Ran, ask: Ask):
    @tool
    def look(word: str, store: Annotated[Any, InjectedStore()]) -> str:
        """Looks."""
        ran("look")
        item = store.get(SPACE, "mood")
        return item.value["is"] if item else "nothing"

    @tool("look")
    def look_by_runtime(word: str, runtime: ToolRuntime) -> str:
        """Looks."""
        ran("look")
        item = runtime.store.get(SPACE, "mood")
        return item.value["is"] if item else "nothing"

    for each in (look, look_by_runtime):
        store = InMemoryStore()
        builder = StateGraph(MessagesState)
        builder.add_node("tools", ToolNode([each]))
        builder.add_edge(START, "tools")
        graph = musubito_graph(builder.compile(store=store), replay_tools=True)
        for mood in (None, "glad", "sad"):
            if mood:
                store.put(SPACE, "mood", {"is": mood})
            for runs in ({"look": 1}, {}):
                said = ask(graph, {"messages": [one_call()]})["messages"]
                assert said[-1].text == (mood or "nothing")
                assert took(ran) == runs


def test_a_tool_that_failed(ran: Ran, ask: Ask):
    @tool
    def look(word: str) -> str:
        """Looks."""
        ran("look")
        raise ValueError("not today")

    builder = StateGraph(MessagesState)
    builder.add_node("tools", ToolNode([look], handle_tool_errors=True))
    builder.add_edge(START, "tools")
    graph = musubito_graph(builder.compile())
    for _ in range(2):
        assert "not today" in ask(graph, {"messages": [one_call()]})["messages"][-1].text
        assert took(ran) == {"look": 1}


# -- what a replay would leave undone ----------------------------------------------------------------------------------
def push_by_a_writer() -> Any:
    push_message(AIMessage("pushed", id="p"), state_key="messages")
    return "pushed"


@everywhere
def test_what_writes_to_the_state_past_its_return_value(place: str, ran: Ran, ask: Ask):
    class Talk(MessagesState):
        done: Annotated[list[Any], add]

    graph = compiled(PLACES[place](push_by_a_writer, ran), Talk)
    for _ in range(2):
        state = ask(graph, {"messages": []})
        assert [message.text for message in state["messages"]] == ["pushed"]
        assert took(ran).get("inner", 1) == 1


@pytest.mark.parametrize("form", ["function", "step"])
def test_a_graph_inside_that_remembers(form: str, ran: Ran, ask: Ask):
    def remember(state: State) -> Any:
        return {"done": [ran("inner")]}

    inner = StateGraph(State)
    inner.add_node("remember", remember)
    inner.add_edge(START, "remember")
    memory = inner.compile(checkpointer=InMemorySaver())

    def talk() -> Any:
        return memory.invoke({"text": "x"}, {"configurable": {"thread_id": "one"}})["done"]

    step = musubito_step(talk)

    def function(state: State) -> Any:
        return {"done": talk()}

    def in_step(state: State) -> Any:
        return {"done": step().value}

    graph = compiled(function if form == "function" else in_step)
    assert ask(graph, {"text": "x"})["done"] == [1]
    assert ask(graph, {"text": "x"})["done"] == [1, 1], "it runs, and its steps replay"
    assert ask(graph, {"text": "x"})["done"] == [1, 1, 1]


@pytest.mark.skipif(not hasattr(StateGraph, "set_node_defaults"), reason="langgraph has error handlers since 1.2")
def test_an_error_handler_that_is_told_another_error(ran: Ran, ask: Ask):
    said = Said()

    def breaks(state: State) -> Any:
        raise ValueError(said.text)

    def handle(state: State, error: NodeError) -> Any:  # noqa: F821 - LangGraph goes by the name
        ran("handle")
        return {"done": [str(error.error)]}

    builder = StateGraph(State)
    builder.add_node("breaks", breaks, error_handler=handle)
    builder.add_edge(START, "breaks")
    graph = musubito_graph(builder.compile())
    for text, runs in [("one", {"handle": 1}), ("one", {}), ("two", {"handle": 1}), ("one", {})]:
        said.text = text
        assert ask(graph, {"text": "x"})["done"] == [text]
        assert took(ran) == runs


class Said:
    """What will be said; whose it is does not count."""

    text = ""

    def __musubito_identity__(self) -> str:
        return "said"


# -- what a node is made of --------------------------------------------------------------------------------------------
class Paid(Scripted):
    temperature: float = 0.0
    api_key: SecretStr = SecretStr("none")
    openai_api_key: str = ""

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {}


def echo(messages: Sequence[Any]) -> AIMessage:
    return says(messages[-1].text)


def shout(messages: Sequence[Any]) -> AIMessage:
    return says(messages[-1].text.upper())


def paid(ran: Ran, **said: Any) -> Any:
    return Paid(**{"script": echo, "ran": ran, **said})


def searching(ran: Ran, **said: Any) -> Any:
    def look(word: str) -> str:
        return word

    def look_closer(word: str) -> str:
        return word + "!"

    function = look_closer if said.get("body") else look
    named = StructuredTool.from_function(
        function, name=said.get("name", "look"), description=said.get("description", "Looks.")
    )
    return paid(ran).bind_tools([named])


def described(text: str) -> Any:
    @tool(args_schema=create_model("Looked", word=(str, Field(description=text))))
    def look(word: str) -> str:
        """Looks."""
        return word

    return look


def annotated(text: str) -> Any:
    def look(word: str) -> str:
        return word

    look.__annotations__["word"] = Annotated[str, text]
    return StructuredTool.from_function(look, description="Looks.")


class Answering:
    def __init__(self, ran: Ran, suffix: str) -> None:
        self.ran = ran
        self.suffix = suffix

    def __call__(self, text: Any) -> Any:
        self.ran("model")
        return self.suffix

    def method(self, text: Any) -> Any:
        return self(text)


def closing_over(ran: Ran, value: Any) -> Any:
    def answer(text: Any) -> Any:
        ran("model")
        return str(value)

    return answer


def with_a_default(ran: Ran, value: Any) -> Any:
    def answer(text: Any, value: Any = value) -> Any:
        ran("model")
        return str(value)

    return answer


def partly(ran: Ran, suffix: str, text: Any) -> Any:
    ran("model")
    return suffix


class Variant(NamedTuple):
    one: Callable[[Ran], Any]
    other: Callable[[Ran], Any]


class Strict(BaseModel):
    answer: str


class Loose(BaseModel):
    answer: str
    why: str = ""


VARIANTS: Mapping[str, Variant] = {
    "model": Variant(paid, lambda ran: paid(ran, script=shout)),
    "model field": Variant(paid, lambda ran: paid(ran, label="model", temperature=0.5)),
    "bound argument": Variant(lambda ran: paid(ran).bind(stop=["a"]), lambda ran: paid(ran).bind(stop=["b"])),
    "tool name": Variant(searching, lambda ran: searching(ran, name="seek")),
    "tool description": Variant(searching, lambda ran: searching(ran, description="Seeks.")),
    "tool argument by Field": Variant(
        lambda ran: paid(ran).bind_tools([described("a word")]),
        lambda ran: paid(ran).bind_tools([described("one word")]),
    ),
    "tool argument by Annotated": Variant(
        lambda ran: paid(ran).bind_tools([annotated("a word")]),
        lambda ran: paid(ran).bind_tools([annotated("one word")]),
    ),
    "tools": Variant(searching, paid),
    "prompt": Variant(
        lambda ran: ChatPromptTemplate.from_template("Say {text}") | paid(ran),
        lambda ran: ChatPromptTemplate.from_template("Do say {text}") | paid(ran),
    ),
    "system prompt": Variant(
        lambda ran: ChatPromptTemplate.from_messages([("system", "Be kind"), ("user", "{text}")]) | paid(ran),
        lambda ran: ChatPromptTemplate.from_messages([("system", "Be terse"), ("user", "{text}")]) | paid(ran),
    ),
    "parser": Variant(
        lambda ran: paid(ran) | (lambda message: ran("parser") and str(message.text)),
        lambda ran: paid(ran) | (lambda message: ran("parser") and message.text.upper()),
    ),
    "fallback": Variant(
        lambda ran: paid(ran).with_fallbacks([paid(ran)]),
        lambda ran: paid(ran).with_fallbacks([paid(ran, temperature=1.0)]),
    ),
    "configured field": Variant(
        lambda ran: (
            paid(ran).configurable_fields(temperature=ConfigurableField("heat")).with_config(configurable={"heat": 0.1})
        ),
        lambda ran: (
            paid(ran).configurable_fields(temperature=ConfigurableField("heat")).with_config(configurable={"heat": 0.2})
        ),
    ),
    "closure": Variant(lambda ran: closing_over(ran, 1), lambda ran: closing_over(ran, 2)),
    "closure of equal values": Variant(lambda ran: closing_over(ran, 1), lambda ran: closing_over(ran, True)),
    "closure of an object": Variant(
        lambda ran: closing_over(ran, Who("ann")), lambda ran: closing_over(ran, Who("ben"))
    ),
    "default": Variant(lambda ran: with_a_default(ran, "a"), lambda ran: with_a_default(ran, "b")),
    "partial": Variant(
        lambda ran: functools.partial(partly, ran, "a"), lambda ran: functools.partial(partly, ran, "b")
    ),
    "object": Variant(lambda ran: Answering(ran, "a"), lambda ran: Answering(ran, "b")),
    "method": Variant(lambda ran: Answering(ran, "a").method, lambda ran: Answering(ran, "b").method),
    "lambda": Variant(
        lambda ran: RunnableLambda(lambda text: ran("model") and "a"),
        lambda ran: RunnableLambda(lambda text: ran("model") and "b"),
    ),
}


def as_a_node(thing: Any) -> Any:
    def question(state: State) -> Any:
        return {"text": state["text"]}

    def answer(said: Any) -> Any:
        return {"done": [said]}

    runnable = thing if isinstance(thing, Runnable) else RunnableLambda(thing)
    first = runnable.first if hasattr(runnable, "first") else runnable
    given = (
        RunnableLambda(question)
        if isinstance(first, ChatPromptTemplate)
        else RunnableLambda(lambda state: state["text"])
    )
    return given | runnable | answer


def in_a_function(thing: Any) -> Any:
    def node(state: State) -> Any:
        called = thing.invoke if isinstance(thing, Runnable) else thing
        return {"done": [called({"text": state["text"]} if _has_prompt(thing) else state["text"])]}

    return node


def _has_prompt(thing: Any) -> bool:
    return isinstance(getattr(thing, "first", None), ChatPromptTemplate)


def inside_as_a_runnable(thing: Any) -> Any:
    prompts = _has_prompt(thing)
    inner = musubito_runnable(thing if isinstance(thing, Runnable) else RunnableLambda(thing))

    def node(state: State, config: RunnableConfig) -> Any:
        config["configurable"]["thread_id"]  # so that it runs in each thread, and the Runnable alone is replayed
        return {"done": [inner.invoke({"text": state["text"]} if prompts else state["text"])]}

    return node


def inside_as_a_step(thing: Any) -> Any:
    @musubito_step
    def inner(text: str) -> Any:
        called = thing.invoke if isinstance(thing, Runnable) else thing
        return called({"text": text} if _has_prompt(thing) else text)

    def node(state: State, config: RunnableConfig) -> Any:
        config["configurable"]["thread_id"]
        return {"done": [inner(state["text"]).value]}

    return node


FORMS = {
    "node": as_a_node,
    "function": in_a_function,
    "Runnable inside": inside_as_a_runnable,
    "step inside": inside_as_a_step,
}


IN_TURN = list(zip(VARIANTS, itertools.cycle(FORMS)))


@pytest.mark.parametrize(("name", "form"), IN_TURN)
def test_made_of_something_else(name: str, form: str, ran: Ran):
    """Each variant in one form, each form with some variants; `make soak` takes them all."""
    is_told_apart(name, form, ran)


@pytest.mark.soak
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", VARIANTS)
def test_all_that_may_be_made_of_something_else(name: str, form: str, ran: Ran):
    is_told_apart(name, form, ran)


def is_told_apart(name: str, form: str, ran: Ran):
    """By the step that is made of it; a model in that step is asked only what it was not asked before."""
    variant = VARIANTS[name]

    def runs(make: Callable[[Ran], Any]) -> bool:
        for number in range(2):
            graph = compiled(FORMS[form](make(ran)), checkpointer=InMemorySaver())
            with run() as r:
                graph.invoke({"text": "hello"}, {"configurable": {"thread_id": str(number)}})
            steps = [call.operation for call in r.calls if call.outcome == "ran"]
            if form.endswith("inside"):
                steps = [step for step in steps if not step.endswith("/node")]
            asked = took(ran)
            if number == 0:
                first = bool(steps)
            else:
                assert (steps, asked) == ([], {}), "asked twice"
        return first

    assert [runs(variant.one), runs(variant.other), runs(variant.one), runs(variant.other)] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("form", FORMS)
def test_another_key_to_the_same_model_is_no_other_model(form: str, ran: Ran):
    for number, key in enumerate(("first", "second")):
        model = paid(ran, api_key=SecretStr(key), openai_api_key=key)
        node = FORMS[form](model)
        compiled(node, checkpointer=InMemorySaver()).invoke({"text": "x"}, {"configurable": {"thread_id": "one"}})
        assert took(ran) == ({"model": 1} if number == 0 else {})


# -- what an agent is made of ------------------------------------------------------------------------------------------
class Polite(AgentMiddleware):
    def __init__(self, greeting: str) -> None:
        super().__init__()
        self.greeting = greeting

    def before_model(self, state: Any, runtime: Any) -> Any:
        return None

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        answer = handler(request)
        return AIMessage(f"{self.greeting} {_text_of(answer)}")


def _text_of(answer: Any) -> str:
    return answer.result[0].text if hasattr(answer, "result") else answer.text


def wrapping(greeting: str) -> Any:
    @wrap_model_call
    def greet(request: Any, handler: Any) -> Any:
        return AIMessage(f"{greeting} {_text_of(handler(request))}")

    return greet


def preparing(greeting: str) -> Any:
    @before_model
    def greet(state: Any, runtime: Any) -> Any:
        return {"messages": [HumanMessage(greeting)]}

    return greet


def prompting(greeting: str) -> Any:
    @dynamic_prompt
    def greet(request: Any) -> str:
        return greeting

    return greet


def reading_context() -> Any:
    @dynamic_prompt
    def greet(request: Any) -> str:
        return f"You talk to {request.runtime.context.user}"

    return greet


AGENTS: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "system prompt": lambda word: {"system_prompt": word},
    "middleware's field": lambda word: {"middleware": [Polite(word)]},
    "wrap_model_call": lambda word: {"middleware": [wrapping(word)]},
    "before_model": lambda word: {"middleware": [preparing(word)]},
    "dynamic_prompt": lambda word: {"middleware": [prompting(word)]},
    "tools": lambda word: {"tools": [described(word)]},
    "response_format": lambda word: {"response_format": Strict if word == "one" else Loose},
}


@pytest.mark.parametrize("part", AGENTS)
def test_an_agent_made_of_something_else(part: str, ran: Ran):
    def script(messages: Sequence[Any]) -> AIMessage:
        if part == "response_format":
            return calls((formats[-1], {"answer": "x"}))
        return says(messages[0].text)

    class Format(list[str]):
        """The name of the tool by which the model is to answer; no part of it."""

        def __musubito_identity__(self) -> str:
            return "format"

    formats = Format()

    def runs(word: str) -> bool:
        formats[:] = ["Strict" if word == "one" else "Loose"]
        said = {"tools": [], **AGENTS[part](word)}
        agent = musubito_graph(create_agent(Scripted(script=script, ran=ran), **said))
        answers.append(agent.invoke({"messages": [("user", "hi")]})["messages"][-1].text)
        return bool(took(ran))

    answers: list[str] = []
    changes_answer = part in ("middleware's field", "wrap_model_call")  # the question to the model is the same
    ran_anew = [runs("one"), runs("one"), runs("two"), runs("one"), runs("two")]
    assert ran_anew == [True, False, not changes_answer, False, False]
    if changes_answer:
        assert answers == ["one hi", "one hi", "two hi", "one hi", "two hi"]


def test_a_prompt_that_reads_the_context(ran: Ran, ask: Ask):
    def script(messages: Sequence[Any]) -> AIMessage:
        return says(messages[0].text)

    model = Scripted(script=script, ran=ran)
    graph = musubito_graph(create_agent(model, [], middleware=[reading_context()], context_schema=Who))
    for user, runs in [("ann", {"model": 1}), ("ben", {"model": 1}), ("ann", {})]:
        said = ask(graph, {"messages": [("user", "hi")]}, context=Who(user))["messages"]
        assert said[-1].text.strip() == f"You talk to {user}"
        assert took(ran) == runs


def test_another_wrapper_around_tools(ran: Ran):
    def wrapped(word: str) -> Any:
        @wrap_tool_call
        def around(request: Any, handler: Any) -> Any:
            ran("wrapper")
            return ToolMessage(f"{word} {handler(request).text}", tool_call_id=request.tool_call["id"])

        return around

    def script(messages: Sequence[Any]) -> AIMessage:
        return says(messages[-1].text) if messages[-1].type == "tool" else one_call()

    for word, runs in [("one", 1), ("one", 0), ("two", 1), ("one", 0), ("two", 0)]:
        model = Scripted(script=script, ran=ran)
        made = create_agent(model, [described("x")], middleware=[wrapped(word)])
        agent = musubito_graph(made, replay_tools=True)
        said = agent.invoke({"messages": [("user", "hi")]})["messages"]
        assert said[-1].text.strip() == f"{word} x"
        assert took(ran).get("wrapper", 0) == runs


# -- answers to interrupts ---------------------------------------------------------------------------------------------
def asks_once() -> Any:
    return interrupt("May I?")


def asks_twice() -> Any:
    return [interrupt("May I?"), interrupt("Really?")]


def node_tool(read: Reader, ran: Ran) -> Any:
    @tool
    def look(word: str) -> str:
        """Looks."""
        ran("node")
        return str(read())

    tools = ToolNode([look])
    builder = StateGraph(MessagesState)
    builder.add_node("tools", tools)
    builder.add_edge(START, "tools")
    graph = builder.compile()

    def ask(state: Any) -> Any:
        return {"done": [graph.invoke({"messages": [one_call()]})["messages"][-1].text]}

    return ask


def in_a_subgraph(read: Reader, ran: Ran) -> Any:
    inner = StateGraph(State)
    inner.add_node("inner", in_the_node(read, ran))
    inner.add_edge(START, "inner")
    return inner.compile()


def in_a_function_that_invokes(read: Reader, ran: Ran) -> Any:
    inner = StateGraph(State)
    inner.add_node("inner", in_the_node(read, ran))
    inner.add_edge(START, "inner")
    graph = inner.compile()

    def node(state: State) -> Any:
        return {"done": graph.invoke({"text": state["text"]})["done"]}

    return node


ASKING: Mapping[str, Place] = {
    **PLACES,
    "subgraph": in_a_subgraph,
    "function that invokes": in_a_function_that_invokes,
    "tool in a graph that is invoked": node_tool,
}


def to_thread(name: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": name}}


def only(result: Any) -> Any:
    """The one question that a run ended with."""
    (question,) = result["__interrupt__"]
    return question


@pytest.mark.parametrize("place", ASKING)
def test_an_answer_of_another_thread(place: str, ran: Ran, ask: Ask):
    graph = compiled(ASKING[place](asks_once, ran), checkpointer=InMemorySaver())
    for name, answer in [("one", "yes"), ("two", "no"), ("three", "yes"), ("four", "maybe")]:
        assert only(ask(graph, {"text": "x"}, to_thread(name))).value == "May I?"
        assert took(ran)
        done = ask(graph, Command(resume=answer), to_thread(name))
        assert done["done"] == [answer]
        assert took(ran)


@pytest.mark.parametrize("place", ASKING)
def test_two_answers_of_another_thread(place: str, ran: Ran, ask: Ask):
    graph = compiled(ASKING[place](asks_twice, ran), checkpointer=InMemorySaver())
    for name, answers in [("one", ["a", "b"]), ("two", ["a", "c"]), ("three", ["d", "b"])]:
        assert only(ask(graph, {"text": "x"}, to_thread(name))).value == "May I?"
        assert only(ask(graph, Command(resume=answers[0]), to_thread(name))).value == "Really?"
        done = ask(graph, Command(resume=answers[1]), to_thread(name))["done"]
        assert done in ([answers], [str(answers)])


@pytest.mark.parametrize("place", ASKING)
def test_an_answer_by_the_id_of_its_question(place: str, ran: Ran, ask: Ask):
    graph = compiled(ASKING[place](asks_once, ran), checkpointer=InMemorySaver())
    for name, answer in [("one", "yes"), ("two", "no")]:
        question = only(ask(graph, {"text": "x"}, to_thread(name)))
        assert ask(graph, Command(resume={question.id: answer}), to_thread(name))["done"] == [answer]


def test_an_answer_inside_a_tool(ran: Ran, ask: Ask):
    @tool
    def look(word: str) -> str:
        """Looks."""
        ran("look")
        return interrupt("May I?")

    builder = StateGraph(MessagesState)
    builder.add_node("tools", ToolNode([look]))
    builder.add_edge(START, "tools")
    graph = musubito_graph(builder.compile(checkpointer=InMemorySaver()))
    for name, answer in [("one", "yes"), ("two", "no")]:
        only(ask(graph, {"messages": [one_call()]}, to_thread(name)))
        assert took(ran) == {"look": 1}
        assert ask(graph, Command(resume=answer), to_thread(name))["messages"][-1].text == answer
        assert took(ran) == {"look": 1}


def test_what_is_before_and_after_a_question_is_replayed(ran: Ran, ask: Ask):
    def before(state: State) -> Any:
        ran("before")
        return {"text": "asked"}

    def node(state: State) -> Any:
        ran("ask")
        return {"done": [interrupt("May I?")]}

    def after(state: State) -> Any:
        _ = [state]  # so all of it counts
        ran("after")
        return {"done": ["after"]}

    builder = StateGraph(State)
    builder.add_node("before", before)
    builder.add_node("ask", node)
    builder.add_node("after", after)
    builder.add_edge(START, "before")
    builder.add_edge("before", "ask")
    builder.add_edge("ask", "after")
    graph = musubito_graph(builder.compile(checkpointer=InMemorySaver()))
    for name, answer, first, second in [
        ("one", "yes", {"before": 1, "ask": 1}, {"ask": 1, "after": 1}),
        ("two", "yes", {"ask": 1}, {"ask": 1}),
        ("three", "no", {"ask": 1}, {"ask": 1, "after": 1}),
    ]:
        ask(graph, {"text": "x"}, to_thread(name))
        assert took(ran) == first
        assert ask(graph, Command(resume=answer), to_thread(name))["done"] == [answer, "after"]
        assert took(ran) == second


@pytest.mark.parametrize("policy", [None, DETERMINISTIC], ids=["sample", "deterministic"])
def test_two_identical_sends_that_ask_are_two_questions(policy: StepConfiguration | None, ran: Ran, ask: Ask):
    def work(state: State) -> Any:
        ran("work")
        return {"done": [interrupt("Which?")]}

    builder = StateGraph(State)
    builder.add_node("work", work)
    builder.add_conditional_edges(START, lambda state: [Send("work", {"text": "same"})] * 2, ["work"])
    graph = musubito_graph(builder.compile(checkpointer=InMemorySaver()), default=policy)
    for name, answers in [("one", ["left", "right"]), ("two", ["right", "left"])]:
        questions = ask(graph, {"text": "x"}, to_thread(name))["__interrupt__"]
        assert len({question.id for question in questions}) == 2
        resume = {question.id: answer for question, answer in zip(questions, answers, strict=True)}
        done = ask(graph, Command(resume=resume), to_thread(name))["done"]
        assert sorted(done) == sorted(answers)


def test_a_question_that_only_some_ask(ran: Ran, ask: Ask):
    """What did not ask is replayed, and does not take another's answer."""

    def work(state: State) -> Any:
        ran(state["text"])
        return {"done": [interrupt("Which?") if state["text"] == "asks" else "quiet"]}

    builder = StateGraph(State)
    builder.add_node("work", work)
    builder.add_conditional_edges(
        START, lambda state: [Send("work", {"text": "quiet"}), Send("work", {"text": "asks"})], ["work"]
    )
    graph = musubito_graph(builder.compile(checkpointer=InMemorySaver()))
    for name, first in [("one", {"quiet": 1, "asks": 1}), ("two", {"asks": 1})]:
        only(ask(graph, {"text": "x"}, to_thread(name)))
        assert took(ran) == first
        assert ask(graph, Command(resume=name), to_thread(name))["done"] == ["quiet", name]
        assert took(ran) == {"asks": 1}
