"""What a node sees, holds or does in places that are easily overlooked; each was once replayed wrongly."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import linecache
import operator
import re
import sqlite3
import string
import sys
import threading
import time
from array import array
from collections import ChainMap
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar, Protocol, TypedDict
from uuid import uuid4

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import ConfigurableField, Runnable, RunnableConfig, RunnableSerializable
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from langgraph.config import get_config
from langgraph.graph import START, StateGraph, add_messages
from langgraph.prebuilt import ToolNode, ToolRuntime
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command
from pydantic import SecretStr

from musubito import MusubitoEngine, MusubitoWarning, StepConfiguration, StepType, run
from musubito_langgraph import musubito_graph
from tests.langgraph.specimen import Ran

pytestmark = pytest.mark.usefixtures("engine")


class State(TypedDict, total=False):
    q: str
    a: Any
    messages: Annotated[list[AnyMessage], add_messages]


def graph_of(*nodes: Any, chained: bool = True, **compiled: Any) -> Any:
    builder = StateGraph(State)
    for number, node in enumerate(nodes):
        builder.add_node(f"node{number}", node)
        builder.add_edge(f"node{number - 1}" if number and chained else START, f"node{number}")
    return musubito_graph(builder.compile(name="g", **compiled), replay_tools=True)


def outcomes(graph: Any, state: Any, config: Any = None) -> list[str]:
    with run() as r:
        graph.invoke(state, config)
    return [call.outcome for call in r.calls]


# -- what code holds ---------------------------------------------------------------------------------------------------
class Limited(BaseCallbackHandler):
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.label = "for people"


def test_what_code_reads_of_a_callback_handler_counts_and_nothing_else_of_it():
    def made(limit: int, label: str = "") -> Any:
        handler = Limited(limit)
        handler.label = label

        def node(state: State) -> State:
            return {"a": handler.limit}

        return graph_of(node)

    assert made(1).invoke({"q": "?"})["a"] == 1
    assert outcomes(made(1, "another"), {"q": "?"}) == ["replayed"]
    assert made(2).invoke({"q": "?"})["a"] == 2


class Marked(Protocol):
    def mark(self) -> str: ...


@dataclass(slots=True)
class Edit(Marked):
    """As LangChain's own edits of a context: a dataclass with slots, and a base that has none."""

    keep: int = 1
    written: ClassVar[int] = 0

    def mark(self) -> str:
        return str(self.keep)


def test_what_a_dataclass_holds_in_slots_beside_a_dict_counts():
    def made(keep: int) -> Any:
        edit = Edit(keep)

        def node(state: State) -> State:
            return {"a": edit.mark()}

        return graph_of(node)

    assert [made(keep).invoke({"q": "?"})["a"] for keep in (1, 2, 1)] == ["1", "2", "1"]
    assert outcomes(made(2), {"q": "?"}) == ["replayed"]


@pytest.mark.parametrize("identity", [None, "random"])
def test_what_gives_back_a_message_that_it_holds_is_not_replayed(identity: str | None):
    """LangGraph gives that very object an id, by which it is the same message wherever it is given back."""

    held = SystemMessage("Be brief.", id=str(uuid4()) if identity else None)
    more = ["", " "]

    def first(state: State) -> State:
        return {"messages": [held]}

    def second(state: State) -> State:
        return {"messages": [held], "a": more[0]}

    graph = graph_of(first, second)
    assert len(graph.invoke({"q": "?"})["messages"]) == 1
    more[0] = "edited"
    assert len(graph.invoke({"q": "?"})["messages"]) == 1
    assert outcomes(graph, {"q": "?"}) == ["ran", "ran"]


# -- what is done to what is around ------------------------------------------------------------------------------------
def test_a_node_that_changes_the_metadata_in_place_is_not_replayed():
    def write(state: State, config: RunnableConfig) -> State:
        config["metadata"]["log"].append("written")
        return {"q": "!"}

    def read(state: State, config: RunnableConfig) -> State:
        return {"a": list(config["metadata"]["log"])}

    graph = graph_of(write, read)
    assert [graph.invoke({"q": "?"}, {"metadata": {"log": []}})["a"] for _ in range(3)] == [["written"]] * 3


def test_a_write_to_the_store_after_the_node_has_returned_is_not_lost(engine: MusubitoEngine):
    wrote = threading.Event()

    def node(state: State, runtime: Runtime) -> State:
        def later() -> None:
            go.wait(10)
            runtime.store.put(("memory",), "key", {"said": state["q"]})
            wrote.set()

        go = threading.Event()
        goes.append(go)
        threading.Thread(target=later).start()
        return {"a": "at once"}

    goes: list[threading.Event] = []

    def ask() -> Any:
        store = InMemoryStore()
        wrote.clear()
        graph_of(node, store=store).invoke({"q": "?"})
        goes[-1].set()
        assert wrote.wait(10)
        # What was noticed late is written soon.
        engine.keeper.stop()
        return store.get(("memory",), "key")

    assert [ask() is not None for _ in range(2)] == [True, True]
    assert len(goes) == 2


async def test_a_write_of_a_task_that_outlives_its_node_is_not_lost(engine: MusubitoEngine):
    tasks: list[asyncio.Task[None]] = []

    async def node(state: State, runtime: Runtime) -> State:
        async def later() -> None:
            await asyncio.sleep(0.05)
            await runtime.store.aput(("memory",), "key", {"said": state["q"]})

        tasks.append(asyncio.create_task(later()))
        return {"a": "at once"}

    for _ in range(2):
        store = InMemoryStore()
        await graph_of(node, store=store).ainvoke({"q": "?"})
        await asyncio.gather(*tasks)
        engine.keeper.stop()
        assert await store.aget(("memory",), "key") is not None
    assert len(tasks) == 2


# -- tools -------------------------------------------------------------------------------------------------------------
@tool
def lister(runtime: ToolRuntime) -> str:
    """Lists the tools that there are."""
    return ",".join(sorted(each.name for each in runtime.tools))


@tool
def whose(runtime: ToolRuntime[Any, Any]) -> str:
    """Tells whose context it is."""
    return str(runtime.context)


@tool
def other(number: int) -> str:
    """Does something else."""
    return str(number)


def called(name: str) -> State:
    return {"messages": [AIMessage("", tool_calls=[{"name": name, "args": {}, "id": "1"}])]}


@pytest.mark.skipif("tools" not in ToolRuntime.__dataclass_fields__, reason="this LangGraph does not tell tools")
def test_a_tool_that_looks_at_the_other_tools_counts_them():
    said = [graph_of(ToolNode(tools)).invoke(called("lister")) for tools in ([lister], [lister, other])]
    assert [state["messages"][-1].content for state in said] == ["lister", "lister,other"]


def test_a_tool_that_looks_at_no_other_tools_does_not():
    for tools in ([whose], [whose, other]):
        graph = graph_of(ToolNode(tools))
        with run() as r:
            graph.invoke(called("whose"))
    assert [call.outcome for call in r.calls if call.operation.endswith(".whose")] == ["replayed"]


@pytest.mark.skipif(
    "wrap_tool_call" not in ToolNode.__init__.__annotations__, reason="this LangGraph has no wrappers of tool calls"
)
def test_a_context_that_a_wrapper_of_tool_calls_puts_in_place_counts():
    def made(user: str) -> Any:
        def wrap(request: Any, execute: Any) -> Any:
            return execute(replace(request, runtime=replace(request.runtime, context={"user": user})))

        return graph_of(ToolNode([whose], wrap_tool_call=wrap))

    said = [made(user).invoke(called("whose"))["messages"][-1].content for user in ("a", "b", "a")]
    assert said == ["{'user': 'a'}", "{'user': 'b'}", "{'user': 'a'}"]


# -- loops that stand still --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", ["stopped", "waiting"])
def test_nobody_waits_for_what_was_left_in_an_event_loop_that_runs_no_more(way: str):
    ran = Ran()

    async def node(state: State) -> State:
        ran("node")
        await asyncio.sleep(0.3)
        return {"a": "!"}

    graph = graph_of(node)

    async def ask() -> Any:
        return (await graph.ainvoke({"q": "?"}))["a"]

    loop = asyncio.new_event_loop()
    task = loop.create_task(ask())

    async def begun() -> None:
        while not ran.counts:
            await asyncio.sleep(0.005)

    loop.run_until_complete(asyncio.wait_for(begun(), 30))
    answers: list[Any] = []

    def asks() -> None:
        answers.append(asyncio.run(asyncio.wait_for(ask(), 10)))

    if way == "waiting":
        # It waits before the loop stops.
        waiting = threading.Thread(target=asks)
        waiting.start()
        loop.run_until_complete(asyncio.sleep(0.1))
        waiting.join(10)
    else:
        asks()
    assert answers == ["!"]
    assert ran.counts == {"node": 2}
    loop.run_until_complete(task)
    loop.close()


# -- who looks at the config -------------------------------------------------------------------------------------------
@dataclass
class Whose:
    """Its method looks at the config, whoever calls it."""

    name: str = "it"

    def who(self) -> str:
        return str(get_config()["metadata"]["user"])


def test_what_a_method_of_an_input_or_of_the_context_looks_at_counts():
    def of_input(state: State) -> State:
        return {"a": state["a"].who()}

    def of_context(state: State, runtime: Runtime) -> State:
        return {"a": runtime.context["whose"].who() + runtime.context["asks"]()}

    for graph, state, context in (
        (graph_of(of_input), {"a": Whose()}, None),
        (graph_of(of_context), {"q": "?"}, {"whose": Whose(), "asks": lambda: get_config()["metadata"]["user"]}),
    ):
        said = [
            graph.invoke(state, {"metadata": {"user": user}}, context=context)["a"][0] for user in ("a", "b", "a", "b")
        ]
        assert said == ["a", "b", "a", "b"]
        with run() as r:
            graph.invoke(state, {"metadata": {"user": "b", "other": "more"}}, context=context)
        assert [call.outcome for call in r.calls] == ["replayed"]


class Odd(Runnable[Any, Any]):
    """It calls its config something else."""

    def invoke(self, input: Any, cfg: Any = None, **kwargs: Any) -> Any:  # noqa: A002 - LangChain's
        return {"a": cfg["metadata"]["user"]}


def test_the_config_of_a_runnable_is_known_by_its_place():
    graph = graph_of(Odd())
    said = [graph.invoke({"q": "?"}, {"metadata": {"user": user}})["a"] for user in ("a", "b", "a")]
    assert said == ["a", "b", "a"]


def test_what_is_chosen_by_the_thread_is_not_replayed_in_another():
    class Chosen(RunnableSerializable[Any, Any]):
        temperature: Any = 0

        def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:  # noqa: A002 - LangChain's
            return {"a": self.temperature}

    graph = graph_of(Chosen().configurable_fields(temperature=ConfigurableField(id="thread_id")))
    assert [graph.invoke({"q": "?"}, {"configurable": {"thread_id": each}})["a"] for each in "121"] == ["1", "2", "1"]


@pytest.mark.skipif(
    "wrap_tool_call" not in ToolNode.__init__.__annotations__, reason="this LangGraph has no wrappers of tool calls"
)
@pytest.mark.parametrize("what", ["config", "store"])
def test_a_tool_is_given_what_a_wrapper_of_tool_calls_puts_in_place(what: str):
    @tool
    def asks(runtime: ToolRuntime[Any, Any]) -> str:
        """Asks what there is."""
        if what == "store":
            return str(runtime.store.get(("a",), "key").value["said"])
        return str(runtime.config["metadata"]["user"])

    def made(said: str) -> Any:
        theirs = InMemoryStore()
        theirs.put(("a",), "key", {"said": said})

        def wrap(request: Any, execute: Any) -> Any:
            config = {**request.runtime.config, "metadata": {"user": said}}
            changed = {"config": config} if what == "config" else {"store": theirs}
            return execute(replace(request, runtime=replace(request.runtime, **changed)))

        return graph_of(ToolNode([asks], wrap_tool_call=wrap), store=InMemoryStore())

    assert [made(said).invoke(called("asks"))["messages"][-1].content for said in ("a", "b", "a")] == ["a", "b", "a"]


# -- contexts of every kind --------------------------------------------------------------------------------------------
class Service:
    """Holds what has no identity, and others that hold it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.others: list[Service] = []


class Unbound:
    """As a proxy that has nothing behind it here."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("working outside of a request")


def services(count: int) -> list[Service]:
    made = [Service() for _ in range(count)]
    for each in made:
        each.others = made
    return made


def nested(depth: int) -> Any:
    value: Any = threading.Lock()
    for _ in range(depth):
        value = {"inner": value}
    return value


def deep(depth: int) -> Any:
    value: Any = "leaf"
    for _ in range(depth):
        value = {"inner": value}
    return value


CONTEXTS = {
    "services that know each other": lambda: {"all": services(30)},
    "a lock far inside": lambda: nested(400),
    "data too deep to be encoded": lambda: deep(260),
    "a proxy": Unbound,
    "a proxy inside": lambda: {"proxy": Unbound()},
}


@pytest.mark.parametrize("which", CONTEXTS)
@pytest.mark.filterwarnings("ignore::musubito.MusubitoWarning")
def test_no_context_makes_a_graph_fail_or_take_its_time(which: str):
    context = CONTEXTS[which]()

    def node(state: State) -> State:
        return {"a": "!"}

    graph, begun = graph_of(node), time.monotonic()
    for _ in range(2):
        assert graph.invoke({"q": "?"}, context=context)["a"] == "!"
    assert time.monotonic() - begun < 5


# -- what code does to what it holds -----------------------------------------------------------------------------------
def test_what_a_node_does_to_a_library_object_that_the_code_holds_is_not_lost():
    """It is done again in a process that has not done it, so that the nodes after it find it."""

    def in_another_process() -> Any:
        store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))

        def index(state: State) -> State:
            store.add_documents([Document("a fact", id="1")])
            return {"q": "indexed"}

        def retrieve(state: State) -> State:
            return {"a": [found.page_content for found in store.similarity_search("fact")]}

        return graph_of(index, retrieve)

    assert [in_another_process().invoke({"q": "?"})["a"] for _ in range(3)] == [["a fact"]] * 3


@pytest.mark.skipif(
    "error_handler" not in inspect.signature(StateGraph.add_node).parameters, reason="since LangGraph 1.2"
)
def test_what_an_exception_holds_counts_for_its_handler(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("musubito_langgraph.object_identity._WARNED", set())  # once in a process

    @dataclass
    class Extra:
        lock: Any
        value: int

    class Refused(Exception):
        def __init__(self, extra: Extra) -> None:
            super().__init__("refused")
            self.extra = extra

    def made(value: int) -> Any:
        def fails(state: State) -> State:
            raise Refused(Extra(threading.Lock(), value))

        def handles(state: State, error: NodeError) -> State:  # noqa: F821 - LangGraph goes by the name
            return {"a": error.error.extra.value}

        builder = StateGraph(State)
        builder.add_node("fails", fails, error_handler=handles)
        builder.add_edge(START, "fails")
        return musubito_graph(builder.compile(name="g"))

    with pytest.warns(MusubitoWarning, match="has no identity"):
        assert [made(value).invoke({"q": "?"})["a"] for value in (1, 2, 1)] == [1, 2, 1]


# -- functions without a twin ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [StepType.STOCHASTIC, StepType.DETERMINISTIC])
async def test_a_hook_that_is_sync_only_is_one_call_in_an_async_run(kind: StepType):
    """LangGraph holds it as a callable without an async function, whose `ainvoke` calls its `invoke`."""
    agents = pytest.importorskip("langchain.agents")
    middleware = pytest.importorskip("langchain.agents.middleware")

    class Hooks(middleware.AgentMiddleware):
        def before_model(self, state: Any, runtime: Any) -> Any:
            return None

    model = FakeMessagesListChatModel(responses=[AIMessage("Done.")])
    graph = musubito_graph(agents.create_agent(model, middleware=[Hooks()]), default=StepConfiguration(step_type=kind))
    question = {"messages": [HumanMessage("What?", id="1")]}
    outcomes = []
    for _ in range(2):
        with run() as r:
            await graph.ainvoke(question)
        outcomes.append([call.outcome for call in r.calls if "before_model" in call.operation])
    assert outcomes == [["ran"], ["replayed"]]


# -- what can be told apart --------------------------------------------------------------------------------------------
HELD = {
    "secret": SecretStr,
    "pattern": re.compile,
    "namespace": lambda each: SimpleNamespace(value=each),
    "getter": operator.itemgetter,
    "template": string.Template,
    "chain of dicts": lambda each: ChainMap({"value": each}),
    "generic type": lambda each: list[int] if each == "a" else list[str],
    "array": lambda each: array("B", each.encode()),
}


@pytest.mark.parametrize("which", HELD)
@pytest.mark.parametrize("where", ["context", "configurable"])
def test_what_code_can_be_told_apart_by_is_told_apart_in_a_context_too(which: str, where: str):
    ran, make = Ran(), HELD[which]

    def node(state: State, runtime: Runtime) -> State:
        ran("node")
        return {"a": "!"}

    graph = graph_of(node)
    for each in "abab":
        if where == "context":
            graph.invoke({"q": "?"}, context={"held": make(each)})
        else:
            graph.invoke({"q": "?"}, {"configurable": {"held": make(each)}})
    assert ran.counts == {"node": 2}


def test_no_secret_of_a_context_is_stored(engine: MusubitoEngine, tmp_path: Path):
    def node(state: State, runtime: Runtime) -> State:
        return {"a": "!"}

    # Its name does not tell that it is a secret.
    config = {"configurable": {"held": SecretStr("hush-hush")}}
    graph_of(node).invoke({"q": "?"}, config, context={"held": SecretStr("hush-hush"), "n": 1})
    engine.close()
    assert b"hush-hush" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    with closing(sqlite3.connect(tmp_path / "m.db")) as connection:
        ((arguments,),) = connection.execute("SELECT arguments FROM nodes").fetchall()
    digests = json.loads(arguments)
    assert (digests["$.configurable.held"], digests["$.context"], digests["input"] != "") == ("", "", True)


def test_a_secret_in_a_state_counts_and_is_not_stored(engine: MusubitoEngine, tmp_path: Path):
    class WithKey(TypedDict, total=False):
        key: SecretStr
        a: str

    ran = Ran()

    def node(state: WithKey) -> WithKey:
        ran("node")
        return {"a": str(len(state["key"]))}

    builder = StateGraph(WithKey)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    graph = musubito_graph(builder.compile())
    for each in ("hush-hush", "hush-hush", "other", "hush-hush"):
        graph.invoke({"key": SecretStr(each)})
    assert ran.counts == {"node": 2}
    engine.close()
    assert b"hush-hush" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


HELPER = """
from langgraph.config import get_config

def user():
    return get_config()["metadata"]["user"]
"""


def test_what_a_helper_of_an_installed_package_looks_at_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    site = tmp_path / "site-packages"
    (site / "somebodys").mkdir(parents=True)
    (site / "somebodys" / "__init__.py").write_text(HELPER)
    monkeypatch.syspath_prepend(str(site))
    somebodys = importlib.import_module("somebodys")

    def node(state: State) -> State:
        return {"a": somebodys.user()}

    def other(state: State) -> State:
        return {"q": "!"}

    graph = graph_of(node, other)
    said = [graph.invoke({"q": "?"}, {"metadata": {"user": user}})["a"] for user in ("a", "b", "a")]
    assert said == ["a", "b", "a"]
    with run() as r:
        graph.invoke({"q": "?"}, {"metadata": {"user": "b", "other": "more"}})
    assert [call.outcome for call in r.calls] == ["replayed", "replayed"]


class Proxy:
    """As those that lazily stand for a dict: it says that it is one."""

    @property
    def __class__(self) -> type:
        return dict


LAZY = Proxy()
LARGE = 10**5000


def test_what_says_that_it_is_of_another_class_is_a_constant_like_any_other():
    def node(state: State) -> State:
        return {"a": f"{type(LAZY).__name__} {LARGE.bit_length()}"}

    graph = graph_of(node)
    assert graph.invoke({"q": "?"})["a"] == "Proxy 16610"
    assert outcomes(graph, {"q": "?"}) == ["replayed"]


@pytest.mark.parametrize("change", ["goto", "update"])
def test_a_command_that_the_code_holds_counts(change: str):
    def made(held: Command) -> Any:
        def first(state: State) -> Command:
            return held

        def left(state: State) -> State:
            return {"a": f"left {state['q']}"}

        def right(state: State) -> State:
            return {"a": f"right {state['q']}"}

        builder = StateGraph(State).add_node("first", first, destinations=("left", "right")).add_edge(START, "first")
        return musubito_graph(builder.add_node("left", left).add_node("right", right).compile(name="g"))

    other = Command(goto="right", update={"q": "?"}) if change == "goto" else Command(goto="left", update={"q": "!"})
    said = [made(each).invoke({"q": "-"})["a"] for each in (Command(goto="left", update={"q": "?"}), other)]
    assert said == ["left ?", "right ?" if change == "goto" else "left !"]


@pytest.mark.parametrize("where", ["context", "configurable"])
@pytest.mark.parametrize("does", ["reads", "writes"])
def test_what_has_a_memory_of_its_own_may_come_in_a_context(where: str, does: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("musubito_langgraph.ambient_inputs._WARNED", set())  # once in a process
    ran = Ran()

    def node(state: State, config: RunnableConfig, runtime: Runtime) -> State:
        memory = runtime.context["memory"] if where == "context" else config["configurable"]["memory"]
        if does == "writes":
            memory.put(("a",), "key", {"said": state["q"]})
        item = memory.get(("a",), "key")
        return {"a": item and item.value["said"]}

    def other(state: State) -> State:
        _ = [state]  # so all of it counts
        ran("other")
        return {"q": "!"}

    graph = graph_of(node, other)
    with pytest.warns(MusubitoWarning, match="has a memory of its own"):
        for said in (None, "first", "second"):
            memory = InMemoryStore()
            if said is not None and does == "reads":
                memory.put(("a",), "key", {"said": said})
            given = {"memory": memory}
            if where == "context":
                answer = graph.invoke({"q": "?"}, context=given)["a"]
            else:
                answer = graph.invoke({"q": "?"}, {"configurable": given})["a"]
            assert answer == (said if does == "reads" else "?")
            assert (memory.get(("a",), "key") is not None) == (does == "writes" or said is not None)
    # Those that do not speak of it are replayed, as far as what they are given is the same.
    assert ran.counts == {"other": len({None, "first", "second"}) if does == "reads" else 1}


APPLICATION = """
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, dynamic_prompt, wrap_model_call
from langchain_core.messages import SystemMessage
from langchain_core.tools import tool
from langgraph.prebuilt import ToolNode

def version():
    return "VERSION"

@dynamic_prompt
def prompted(request):
    return version()

@wrap_model_call
def wrapped(request, handler):
    return handler(request.override(messages=[SystemMessage("VERSION"), *request.messages]))

class Hooked(AgentMiddleware):
    def wrap_model_call(self, request, handler):
        return handler(request.override(messages=[SystemMessage(version()), *request.messages]))

def agent(model, which):
    return create_agent(model, middleware=[{"prompted": prompted, "wrapped": wrapped, "Hooked": Hooked()}[which]])
"""


@pytest.mark.parametrize("which", ["prompted", "wrapped", "Hooked"])
def test_an_installed_applications_middleware_is_its_own_code(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("langchain.agents.middleware")
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def asked(version: str) -> str:
        (site / "application.py").write_text(APPLICATION.replace("VERSION", version))
        monkeypatch.delitem(sys.modules, "application", raising=False)
        importlib.invalidate_caches()
        linecache.clearcache()
        agent = importlib.import_module("application").agent(Echo(), which)
        return musubito_graph(agent).invoke({"messages": [HumanMessage("?", id="1")]})["messages"][-1].text

    # Of different lengths, since times alone do not tell Python's caches that a file was changed.
    assert [asked(version) for version in ("first", "second", "first")] == ["first ?", "second ?", "first ?"]


class Echo(BaseChatModel):
    """Answers with all that it is told."""

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        said = " ".join(message.text for message in messages)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(said))])

    @property
    def _llm_type(self) -> str:
        return "echo"


def test_what_a_held_message_has_besides_its_fields_counts():
    def made(extra: int) -> Any:
        held = AIMessage("?", id="fixed", custom=extra)

        def node(state: State) -> State:
            return {"a": held.custom}

        return graph_of(node)

    assert [made(extra).invoke({"q": "?"})["a"] for extra in (1, 2, 1)] == [1, 2, 1]
