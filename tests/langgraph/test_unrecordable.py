"""A node whose input has no identity runs each time, and says so once; what it calls, and what follows, is recorded."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import add
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda, ensure_config
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, ToolNode
from langgraph.runtime import get_runtime
from langgraph.types import Send
from pydantic import BaseModel, ConfigDict

from musubito import InputError, MusubitoEngine, ReplayReason, musubito_step
from musubito.errors import CodeError
from musubito_langgraph import musubito_graph, musubito_plan, musubito_runnable
from tests.langgraph.specimen import Ran, calls, took

pytestmark = pytest.mark.usefixtures("engine")
Ask = Callable[..., Any]


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of a graph: a process says once what it has to say of a node."""
    return request.node.name


@contextmanager
def saying() -> Iterator[list[str]]:
    """What is warned of inside."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
    said += [str(each.message) for each in caught]


class Client:
    """Connected to somewhere."""

    def __init__(self) -> None:
        self.connection = threading.Lock()

    def ask(self, text: str) -> str:
        return text.upper()


class Typed(TypedDict, total=False):
    text: str
    client: Any
    done: Annotated[list[Any], add]


class Model(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    text: str = ""
    client: Any = None
    done: Annotated[list[Any], add] = []


@dataclass
class Data:
    text: str = ""
    client: Any = None
    done: Annotated[list[Any], add] = field(default_factory=list)


class Text(TypedDict):
    text: str


CLIENTS: dict[str, Callable[[], Any]] = {
    "lock": threading.Lock,
    "client": Client,
    "generator": lambda: (number for number in (1, 2)),
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("schema", [Typed, Model, Data])
def test_it_runs_each_time_and_says_so_once(schema: Any, client: str, name: str, ran: Ran, ask: Ask):
    handed: list[Any] = []

    class Use:
        """A node, and what it was handed."""

        def __musubito_identity__(self) -> str:
            return "use"

        def __call__(self, state: Any) -> Any:
            ran("use")
            handed.append(state["client"] if isinstance(state, dict) else state.client)
            return {"text": "used"}

    def before(state: Text) -> Any:
        ran("before")
        return {"text": state["text"] + "!"}

    def after(state: Text) -> Any:
        ran("after")
        return {"done": [f"after it was {state['text']}"]}

    builder = StateGraph(schema)
    builder.add_node("before", before, input_schema=Text)
    builder.add_node("use", Use())
    builder.add_node("after", after, input_schema=Text)
    builder.add_edge(START, "before")
    builder.add_edge("before", "use")
    builder.add_edge("use", "after")
    graph = musubito_graph(builder.compile(name=name))
    for number, runs in enumerate([{"before": 1, "use": 1, "after": 1}, {"use": 1}, {"use": 1}]):
        value = CLIENTS[client]()
        with saying() as said:
            state = ask(graph, {"text": "x", "client": value})
        assert took(ran) == runs
        assert handed[-1] is value
        assert state["client"] is value
        assert state["done"] == ["after it was used"]
        if number:
            assert said == []
        else:
            (sentence,) = said
            assert f"{name}/use" in sentence
            assert "client" in sentence
            assert sentence.endswith("It runs each time.")


def test_what_is_deep_inside_is_named_by_its_path(name: str, ran: Ran, ask: Ask):
    def use(state: Typed) -> Any:
        _ = [state]  # so all of it counts
        ran("use")
        return {"text": "used"}

    builder = StateGraph(Typed)
    builder.add_node("use", use)
    builder.add_edge(START, "use")
    graph = musubito_graph(builder.compile(name=name))
    with saying() as said:
        ask(graph, {"text": "x", "client": {"pool": [1, threading.Lock()]}})
    (sentence,) = said
    assert "client.pool[1]" in sentence.replace("['", ".").replace("']", "")
    assert "lock" in sentence


def test_each_node_says_it_for_itself(name: str, ran: Ran, ask: Ask):
    def node(name: str) -> Callable[[Typed], Any]:
        def node(state: Typed) -> Any:
            _ = [state]  # so all of it counts
            ran(name)
            return {"text": name}

        return node

    def route(state: Typed) -> str:
        _ = [state]  # so all of it counts
        ran("route")
        return END

    builder = StateGraph(Typed)
    builder.add_node("one", node("one"))
    builder.add_node("two", node("two"))
    builder.add_edge(START, "one")
    builder.add_edge("one", "two")
    builder.add_conditional_edges("two", route, [END])
    graph = musubito_graph(builder.compile(name=name))
    with saying() as said:
        for _ in range(2):
            ask(graph, {"text": "x", "client": threading.Lock()})
    assert took(ran) == {"one": 2, "two": 2, "route": 2}
    assert len(said) == 3
    for step, sentence in zip(("one", "two", "two:route"), said, strict=True):
        assert f"{name}/{step}" in sentence


def test_what_it_calls_is_recorded_still(name: str, ran: Ran, ask: Ask):
    @musubito_step
    def step(text: str) -> str:
        ran("step")
        return text + "."

    @musubito_runnable
    def runnable(text: str) -> str:
        ran("runnable")
        return text + "?"

    def use(state: Typed) -> Any:
        ran("use")
        return {"done": [state["client"].ask(step(state["text"]).value), runnable.invoke(state["text"])]}

    builder = StateGraph(Typed)
    builder.add_node("use", use)
    builder.add_edge(START, "use")
    graph = musubito_graph(builder.compile(name=name))
    for runs in ({"use": 1, "step": 1, "runnable": 1}, {"use": 1}):
        with saying():
            assert ask(graph, {"text": "x", "client": Client()})["done"] == ["X.", "x?"]
        assert took(ran) == runs


def test_what_it_calls_sees_what_is_around_it(name: str, ran: Ran, ask: Ask):
    @musubito_step
    def step() -> Any:
        ran("step")
        return get_runtime().context["user"]

    def use(state: Typed) -> Any:
        return {"done": [step().value]}

    builder = StateGraph(Typed, context_schema=dict)
    builder.add_node("use", use)
    builder.add_edge(START, "use")
    graph = musubito_graph(builder.compile(name=name))
    for user, runs in [("ann", {"step": 1}), ("ben", {"step": 1}), ("ann", {})]:
        with saying():
            assert ask(graph, {"client": threading.Lock()}, context={"user": user})["done"] == [user]
        assert took(ran) == runs


def test_one_of_a_fan_out(name: str, ran: Ran, ask: Ask):
    def work(state: Typed) -> Any:
        _ = [state]  # so all of it counts
        ran(state["text"])
        return {"done": [state["text"]]}

    builder = StateGraph(Typed)
    builder.add_node("work", work)
    builder.add_conditional_edges(
        START,
        lambda state: [Send("work", {"text": "good"}), Send("work", {"text": "odd", "client": threading.Lock()})],
        ["work"],
    )
    graph = musubito_graph(builder.compile(name=name))
    for runs in ({"good": 1, "odd": 1}, {"odd": 1}):
        with saying():
            assert ask(graph, {"text": "x"})["done"] == ["good", "odd"]
        assert took(ran) == runs


def test_what_encloses_it_runs_each_time_as_well(name: str, ran: Ran):
    def use(state: Typed) -> Any:
        _ = [state]  # so all of it counts
        ran("use")
        return {"text": "used"}

    builder = StateGraph(Typed)
    builder.add_node("use", use)
    builder.add_edge(START, "use")
    graph = musubito_graph(builder.compile(name=name))

    @musubito_step
    def around() -> str:
        ran("around")
        return graph.invoke({"client": threading.Lock()})["text"]

    for _ in range(2):
        with saying():
            assert around().value == "used"
        assert took(ran) == {"around": 1, "use": 1}


@pytest.mark.parametrize("replay_tools", [False, True])
def test_a_tool_that_is_handed_it(replay_tools: bool, name: str, ran: Ran, ask: Ask):
    """Nobody is warned of a tool that runs each time anyway."""

    class State(MessagesState):
        client: Any

    @tool
    def use(word: str, state: Annotated[dict, InjectedState]) -> str:
        """Uses a client."""
        ran("use")
        return state["client"].ask(word)

    @tool
    def other(word: str) -> str:
        """Uses none."""
        ran("other")
        return word

    builder = StateGraph(State)
    builder.add_node("tools", ToolNode([use, other]))
    builder.add_edge(START, "tools")
    graph = musubito_graph(builder.compile(name=name), replay_tools=replay_tools)

    def wanted() -> list[AIMessage]:
        return [calls(("use", {"word": "x"}), ("other", {"word": "y"}))]

    for number, runs in enumerate([{"use": 1, "other": 1}, {"use": 1} if replay_tools else {"use": 1, "other": 1}]):
        with saying() as said:
            messages = ask(graph, {"messages": wanted(), "client": Client()})["messages"]
        assert [message.text for message in messages[1:]] == ["X", "y"]
        assert took(ran) == runs
        assert len(said) == (2 if replay_tools and not number else 0)
        assert all("client" in sentence for sentence in said)


class Unclassed:
    """An object that nothing can be told of."""

    @property
    def __class__(self) -> type:
        raise RuntimeError("it has no class")


@pytest.fixture(params=["invoke", "ainvoke", "stream", "astream"])
def pieces(request: pytest.FixtureRequest) -> Callable[..., list[Any]]:
    """Asks a Runnable something in each way, and returns the pieces of its answer."""

    async def collected(runnable: Any, value: Any, config: Any) -> list[Any]:
        return [piece async for piece in runnable.astream(value, config)]

    def ask(runnable: Any, value: Any, config: Any) -> list[Any]:
        match request.param:
            case "invoke":
                return [runnable.invoke(value, config)]
            case "ainvoke":
                return [asyncio.run(runnable.ainvoke(value, config))]
            case "stream":
                return list(runnable.stream(value, config))
        return asyncio.run(collected(runnable, value, config))

    return ask


def test_a_runnable_whose_code_has_no_identity(ran: Ran, pieces: Callable[..., list[Any]]):
    @musubito_step
    def greeting() -> Any:
        ran("step")
        return ensure_config()["configurable"]["user"]

    unclassed = Unclassed()

    def answer(text: str) -> Any:
        ran("answer")
        return text, greeting().value, unclassed is None

    with pytest.raises(CodeError, match=r"answer: an object in its code .*: RuntimeError\(") as caught:
        musubito_step(answer)("hi")
    assert not isinstance(caught.value, InputError)
    runnable = musubito_runnable(RunnableLambda(answer))
    for user, runs in [("ann", {"answer": 1, "step": 1}), ("ben", {"answer": 1, "step": 1}), ("ann", {"answer": 1})]:
        with saying():
            assert pieces(runnable, "hi", {"configurable": {"user": user}}) == [("hi", user, False)]
        assert took(ran) == runs


def test_a_plan_of_a_node_whose_code_has_no_identity(engine: MusubitoEngine, name: str) -> None:
    unclassed = Unclassed()

    def answer(state: Typed) -> Any:
        return {"text": f"{unclassed is None}"}

    built = StateGraph(Typed).add_node("answer", answer).add_edge(START, "answer").add_node("after", answer)
    graph = musubito_graph(built.add_edge("answer", "after").compile(name=name))
    line, after = musubito_plan(graph, {"text": "hi"}).lines
    assert after.outcome == "unknown"
    assert (line.outcome, line.reason) == ("would run", ReplayReason.INPUT_NOT_IDENTIFIED)
    assert line.parts[0].startswith("its code, RuntimeError")


# -- what is around a node ---------------------------------------------------------------------------------------------
@dataclass
class Context:
    user: str
    client: Any


@pytest.mark.parametrize("made", [dict, Context])
def test_what_has_no_identity_in_the_context_counts_by_its_type(
    made: Any, name: str, ran: Ran, ask: Ask, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("musubito_langgraph.object_identity._WARNED", set())  # once in a process

    def use(state: Typed) -> Any:
        ran("use")
        context = get_runtime().context
        return {"text": context["user"] if isinstance(context, dict) else context.user}

    builder = StateGraph(Typed, context_schema=made)
    builder.add_node("use", use)
    builder.add_edge(START, "use")
    graph = musubito_graph(builder.compile(name=name))
    with saying() as said:
        for user, runs in [("ann", {"use": 1}), ("ann", {}), ("ben", {"use": 1}), ("ann", {})]:
            assert ask(graph, {"text": "x"}, context=made(user=user, client=Client()))["text"] == user
            assert took(ran) == runs
        ask(graph, {"text": "x"}, context=made(user="ann", client=threading.Lock()))
        assert took(ran) == {"use": 1}
    assert [sentence.partition(" is a ")[0] for sentence in said] == ["context.client.connection", "context.client"]
