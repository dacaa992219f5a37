"""Many at once: what is equal runs once, what differs does not wait, and nothing blocks an event loop."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from operator import add
from pathlib import Path
from typing import Annotated, Any, TypedDict

import blockbuster.blockbuster
import httpx  # noqa: F401 - LangGraph imports it where a node first fails, which reads files on the loop
import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.messages import SystemMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.config import get_store, get_stream_writer
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, RetryPolicy, Send, interrupt

from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, StepType, musubito_step, run
from musubito.engine.default_engine import default_engine
from musubito_langgraph import musubito_graph, musubito_runnable
from tests.langgraph.specimen import Ran, Scripted, calls, says, took
from tests.pairs import in_turn

MANY = 16
PATIENCE = 20
"""Seconds: whoever waits longer than that waits for ever."""


class State(TypedDict, total=False):
    text: str
    done: Annotated[list[Any], add]


class Beginnings(BaseCallbackHandler):
    """Whoever waits for it is woken when so many tasks of a node have begun, wherever they stand then."""

    run_inline = True

    def __init__(self, node: str, many: int) -> None:
        self.node = node
        self.many = many
        self.all = threading.Event()
        self._lock = threading.Lock()

    def on_chain_start(self, serialized: Any, inputs: Any, *, name: str = "", **kwargs: Any) -> None:
        if name == self.node:
            with self._lock:
                self.many -= 1
                if self.many == 0:
                    self.all.set()

    def __musubito_identity__(self) -> str:
        return "beginnings"

    def wait(self) -> None:
        # No `assert`: pytest rewrites it, and what it makes of it has no source, so that nobody can say what it sees.
        if not self.all.wait(PATIENCE):
            raise TimeoutError

    async def await_(self) -> None:
        await asyncio.to_thread(self.wait)


def at_once(*asks: Callable[[], Any]) -> list[Any]:
    """What these give back, each in a thread of its own."""
    with ThreadPoolExecutor(len(asks)) as pool:
        return [each.result(PATIENCE) for each in [pool.submit(ask) for ask in asks]]


async def gathered(*asks: Any) -> list[Any]:
    async with asyncio.timeout(PATIENCE):
        return await asyncio.gather(*asks)


# -- what is equal runs once -------------------------------------------------------------------------------------------
def everything(ran: Ran, begun: Beginnings, *, is_async: bool) -> Any:
    """A graph with a fan-out, a join, a router and a subgraph, whose first node ends when all have come to it."""

    async def first(state: State) -> Any:
        ran("first")
        await begun.await_()
        return {"done": ["first"]}

    def waiting(state: State) -> Any:
        ran("first")
        begun.wait()
        return {"done": ["first"]}

    def router(state: State) -> list[Send]:
        ran("router")
        return [Send("work", {"text": each}) for each in state["text"]]

    def work(state: State) -> Any:
        return {"done": [f"{state['text']} {ran('work')}"]}

    async def awork(state: State) -> Any:
        await asyncio.sleep(0)
        return work(state)

    def join(state: State) -> Any:
        ran("join")
        return {"done": ["join"]}

    def leaf(state: State) -> Any:
        ran("leaf")
        return {"text": f"{len(state['done'])} done"}

    sub = StateGraph(State).add_node(leaf).add_edge(START, "leaf").compile()
    builder = StateGraph(State).add_node("first", first if is_async else waiting)
    builder.add_node("work", awork if is_async else work).add_node(join).add_node("sub", sub)
    builder.add_edge(START, "first").add_conditional_edges("first", router, ["work"])
    builder.add_edge("work", "join").add_edge("join", "sub")
    return musubito_graph(builder.compile(checkpointer=InMemorySaver()))


ONCE = {"first": 1, "router": 1, "work": 3, "join": 1, "leaf": 1}


def by(begun: Beginnings, number: int) -> Any:
    return {"callbacks": [begun], "configurable": {"thread_id": str(number)}}


def is_the_same(found: list[Any]) -> bool:
    """Everybody is told the same."""
    texts = [each["text"] for each in found]
    dones = [sorted(each["done"]) for each in found]
    return texts == ["5 done"] * len(found) and all(done == dones[0] for done in dones)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("is_async", [True, False], ids=["async nodes", "sync nodes"])
async def test_many_tasks_that_ask_the_same_run_each_node_once(is_async: bool, ran: Ran):
    begun = Beginnings("first", MANY)
    if not is_async:
        # LangGraph runs sync nodes in the default executor; all of them are to be there at once.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(4 * MANY))
    graph = everything(ran, begun, is_async=is_async)
    found = await gathered(*(graph.ainvoke({"text": "abc"}, by(begun, number)) for number in range(MANY)))
    assert took(ran) == ONCE
    assert is_the_same(found)


@pytest.mark.usefixtures("engine")
def test_many_threads_that_ask_the_same_run_each_node_once(ran: Ran):
    begun = Beginnings("first", MANY)
    graph = everything(ran, begun, is_async=False)
    found = at_once(*(lambda number=number: graph.invoke({"text": "abc"}, by(begun, number)) for number in range(MANY)))
    assert took(ran) == ONCE
    assert is_the_same(found)


@pytest.mark.usefixtures("engine")
async def test_many_that_ask_an_agent_the_same(ran: Ran):
    begun = Beginnings("model", MANY)

    @tool
    async def look_up(word: str) -> str:
        """Look up a word."""
        ran("tool")
        await asyncio.sleep(0)
        return f"{word} is a word"

    def looking_up(messages: Any) -> Any:
        if messages[-1].type == "tool":
            return says(messages[-1].text)
        begun.wait()
        return calls(("look_up", {"word": "fog"}))

    agent = musubito_graph(create_agent(Scripted(script=looking_up, ran=ran), [look_up]))
    found = await gathered(
        *(agent.ainvoke({"messages": [("user", "fog?")]}, {"callbacks": [begun]}) for _ in range(MANY))
    )
    assert took(ran) == {"model": 2, "tool": MANY}
    assert {each["messages"][-1].text for each in found} == {"fog is a word"}
    ids = [message.id for each in found for message in each["messages"]]
    assert len(ids) == len({*ids}) == 4 * MANY, "everybody has messages of their own"


@pytest.mark.usefixtures("engine")
async def test_when_the_one_that_runs_is_cancelled_another_runs(ran: Ran):
    begun = Beginnings("node", 4)
    running = asyncio.Event()

    class Gate:
        """The first that comes waits for ever."""

        def __musubito_identity__(self) -> str:
            return "gate"

        async def __call__(self) -> None:
            running.set()
            if ran("node") == 1:
                await asyncio.Event().wait()

    gate = Gate()

    async def node(state: State) -> Any:
        await gate()
        return {"done": ["done"]}

    graph = musubito_graph(StateGraph(State).add_node(node).add_edge(START, "node").compile())
    first = asyncio.create_task(graph.ainvoke({"text": "x"}, {"callbacks": [begun]}))
    await running.wait()
    others = [asyncio.create_task(graph.ainvoke({"text": "x"}, {"callbacks": [begun]})) for _ in range(3)]
    await begun.await_()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert [each["done"] for each in await gathered(*others)] == [["done"]] * 3
    assert took(ran) == {"node": 2}


# -- what differs does not wait ----------------------------------------------------------------------------------------
@pytest.mark.usefixtures("engine")
async def test_tasks_that_ask_something_else_do_not_wait_for_each_other(ran: Ran):
    met = asyncio.Barrier(MANY)

    class Meet:
        def __musubito_identity__(self) -> str:
            return "meet"

        async def __call__(self) -> None:
            async with asyncio.timeout(PATIENCE):
                await met.wait()

    meet = Meet()

    async def node(state: State) -> Any:
        ran("node")
        await meet()
        return {"done": [state["text"]]}

    graph = musubito_graph(StateGraph(State).add_node(node).add_edge(START, "node").compile())
    found = await gathered(*(graph.ainvoke({"text": str(number)}) for number in range(MANY)))
    assert [each["done"] for each in found] == [[str(number)] for number in range(MANY)]
    assert took(ran) == {"node": MANY}


@pytest.mark.usefixtures("engine")
async def test_nor_do_identical_sends_or_nodes_side_by_side(ran: Ran):
    met = asyncio.Barrier(6)

    class Meet:
        def __musubito_identity__(self) -> str:
            return "meet"

        async def __call__(self) -> None:
            async with asyncio.timeout(PATIENCE):
                await met.wait()

    meet = Meet()

    async def work(state: State) -> Any:
        ran("work")
        await meet()
        return {"done": ["work"]}

    async def beside(state: State) -> Any:
        ran("beside")
        await meet()
        return {"done": ["beside"]}

    builder = StateGraph(State).add_node(work).add_node(beside).add_edge(START, "beside")
    builder.add_conditional_edges(START, lambda state: [Send("work", {"text": "x"})] * 5, ["work"])
    found = await gathered(musubito_graph(builder.compile()).ainvoke({"text": "x"}))
    assert sorted(found[0]["done"]) == ["beside", *["work"] * 5]
    assert took(ran) == {"work": 5, "beside": 1}


@pytest.mark.usefixtures("engine")
async def test_a_replay_does_not_wait_for_what_runs(ran: Ran):
    inside, go_on = asyncio.Event(), asyncio.Event()

    class Gate:
        def __musubito_identity__(self) -> str:
            return "gate"

        async def __call__(self, text: str) -> None:
            if text == "slow":
                inside.set()
                await go_on.wait()

    gate = Gate()

    async def node(state: State) -> Any:
        ran(state["text"])
        await gate(state["text"])
        return {"done": [state["text"]]}

    graph = musubito_graph(StateGraph(State).add_node(node).add_edge(START, "node").compile())
    await graph.ainvoke({"text": "quick"})
    slow = asyncio.create_task(graph.ainvoke({"text": "slow"}))
    await inside.wait()
    assert (await gathered(graph.ainvoke({"text": "quick"})))[0]["done"] == ["quick"]
    assert not slow.done()
    go_on.set()
    assert (await slow)["done"] == ["slow"]
    assert took(ran) == {"quick": 1, "slow": 1}


@pytest.mark.usefixtures("engine")
def test_identical_sends_get_the_same_samples_whichever_begins_first(ran: Ran):
    class Turn(BaseCallbackHandler):
        """Lets one of the two begin when the other has ended."""

        run_inline = True

        def __init__(self, last: int) -> None:
            self.last = last
            self.other: Any = None
            self.ended = threading.Event()

        def on_chain_start(
            self, serialized: Any, inputs: Any, *, run_id: Any, name: str = "", metadata: Any = None, **kwargs: Any
        ) -> None:
            if name == "work":
                if metadata["langgraph_path"][1] == self.last:
                    self.ended.wait(PATIENCE)
                else:
                    self.other = run_id

        def on_chain_end(self, outputs: Any, *, run_id: Any, **kwargs: Any) -> None:
            if run_id == self.other:
                self.ended.set()

    def work(state: State) -> Any:
        return {"done": [ran("work")]}

    def join(state: State) -> Any:
        ran("join")
        return {"text": "joined"}

    builder = StateGraph(State).add_node(work).add_node(join).add_edge("work", "join")
    builder.add_conditional_edges(START, lambda state: [Send("work", {"text": "x"})] * 2, ["work"])
    graph = musubito_graph(builder.compile())
    found = []
    for last in (0, 1):
        turn = Turn(last)
        found.append(graph.invoke({"text": "x"}, {"callbacks": [turn]})["done"])
        assert turn.ended.is_set()
    assert found[0] == found[1]
    assert took(ran) == {"work": 2, "join": 1}


# -- nothing blocks the loop -------------------------------------------------------------------------------------------
@contextmanager
def watching(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """As under `langgraph dev`, and stricter, since nothing is excepted; what blocks is listed even if somebody catches
    the error that it gets."""
    found: list[str] = []

    class Noted(blockbuster.BlockingError):
        def __init__(self, what: str) -> None:
            frames = traceback.extract_stack()[:-2]
            ours = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]]
            found.append("\n  ".join((what, *ours)))
            super().__init__(what)

    with monkeypatch.context() as patch:
        patch.setattr(blockbuster.blockbuster, "BlockingError", Noted)
        with blockbuster.blockbuster_ctx():
            yield found


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    return lambda: watching(monkeypatch)


Watched = Callable[[], Any]


async def test_the_detector_sees_what_blocks(watched: Watched, engine: Any, ran: Ran):
    def graph(node: Callable[..., Any]) -> Any:
        return musubito_graph(StateGraph(State).add_node("node", node).add_edge(START, "node").compile())

    async def sleeps(state: State) -> Any:
        time.sleep(0)  # noqa: ASYNC251 - this is what is to be seen
        return {}

    @musubito_step
    def step(text: str) -> str:
        return text

    async def calls_a_sync_step(state: State) -> Any:
        return {"done": [step(state["text"]).value]}

    for node in (sleeps, calls_a_sync_step):
        with watched() as found:
            with pytest.raises(blockbuster.BlockingError):
                await graph(node).ainvoke({"text": "x"})
        assert found


def steps(ran: Ran, saver: Any) -> Any:
    """Sync and async nodes with inner steps, a router, a fan-out, a subgraph, a retry, an effect."""

    @musubito_step
    def inner(text: str) -> str:
        ran("inner")
        return text.upper()

    @musubito_step
    async def ainner(text: str) -> str:
        ran("ainner")
        return text.lower()

    @musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="mail")
    async def mail(text: str) -> str:
        ran("mail")
        return f"sent {text}"

    def one(state: State) -> Any:
        ran("one")
        get_stream_writer()("one")
        return {"done": [inner(state["text"]).value]}

    async def two(state: State) -> Any:
        ran("two")
        found = await asyncio.gather(*map(ainner, state["text"]))
        return {"done": [*(each.value for each in found), (await mail(state["text"])).value]}

    async def fan_out(state: State) -> list[Send]:
        ran("fan_out")
        return [Send("work", {"text": each}) for each in state["text"]]

    async def work(state: State) -> Any:
        ran("work")
        return {"done": [state["text"]]}

    class Once:
        """Fails the first time."""

        def __musubito_identity__(self) -> str:
            return "once"

        def __call__(self) -> None:
            if ran("tried") == 1:
                raise ConnectionError("not now")

    once = Once()

    async def leaf(state: State) -> Any:
        once()
        return {"done": ["leaf"]}

    sub = StateGraph(State)
    sub.add_node("leaf", leaf, retry_policy=RetryPolicy(initial_interval=0, jitter=False)).add_edge(START, "leaf")
    builder = StateGraph(State).add_sequence([one, two]).add_node(work).add_node("sub", sub.compile())
    builder.add_edge(START, "one").add_conditional_edges("two", fan_out, ["work"]).add_edge("work", "sub")
    return builder.compile(checkpointer=saver)


STEPS = {"one": 1, "inner": 1, "two": 1, "ainner": 3, "mail": 1, "fan_out": 1, "work": 3, "tried": 2}


def a_subgraph_first(ran: Ran, saver: Any) -> Any:
    async def leaf(state: State) -> Any:
        ran("leaf")
        return {"done": ["leaf"]}

    sub = StateGraph(State).add_node(leaf).add_edge(START, "leaf").compile()
    return StateGraph(State).add_node("sub", sub).add_edge(START, "sub").compile(checkpointer=saver)


def an_agent(ran: Ran, saver: Any) -> Any:
    @tool
    def look_up(word: str) -> str:
        """Look up a word."""
        ran("look_up")
        return f"{word} is a word"

    @tool
    async def spell(word: str) -> str:
        """Spell a word."""
        ran("spell")
        found = await get_store().aget(("words",), word)
        return "-".join(word if found is None else found.value["as"])

    def asking(messages: Any) -> Any:
        if messages[-1].type == "tool":
            return says("done")
        return calls(("look_up", {"word": "fog"}), ("spell", {"word": "fog"}))

    model = Scripted(script=asking, ran=ran)
    return create_agent(
        model, [look_up, spell], system_prompt="You know words.", checkpointer=saver, store=InMemoryStore()
    )


def a_recorded_model_in_a_node(ran: Ran, saver: Any) -> Any:
    prompt = ChatPromptTemplate.from_messages([("user", "say {text}")])
    model = musubito_runnable(prompt | Scripted(script=lambda messages: says(messages[-1].text), ran=ran))

    async def ask(state: MessagesState) -> Any:
        ran("ask")
        return {"messages": [await model.ainvoke({"text": state["messages"][-1].text})]}

    async def stream(state: MessagesState) -> Any:
        ran("stream")
        pieces = [each async for each in model.astream({"text": "more"})]
        return {"messages": [("ai", "".join(each.text for each in pieces))]}

    return StateGraph(MessagesState).add_sequence([ask, stream]).add_edge(START, "ask").compile(checkpointer=saver)


def models_and_a_tool_in_a_node(ran: Ran, saver: Any) -> Any:
    model = Scripted(script=lambda messages: says(messages[-1].text), ran=ran)
    embeddings = DeterministicFakeEmbedding(size=2)

    @tool
    async def look_up(word: str) -> str:
        """Look up a word."""
        ran("look_up")
        return f"{word} is a word"

    async def ask(state: MessagesState) -> Any:
        ran("ask")
        found = await look_up.ainvoke({"word": state["messages"][-1].text})
        await embeddings.aembed_query(found)
        pieces = [each async for each in model.astream(found)]
        await model.agenerate([[SystemMessage(found)]])
        return {"messages": [await model.ainvoke("".join(each.text for each in pieces) + "?")]}

    return StateGraph(MessagesState).add_node(ask).add_edge(START, "ask").compile(checkpointer=saver)


def tasks(ran: Ran, saver: Any) -> Any:
    @task
    def double(text: str) -> str:
        ran("double")
        return 2 * text

    @task
    async def triple(text: str) -> str:
        ran("triple")
        return 3 * text

    @entrypoint(checkpointer=saver)
    async def workflow(given: dict[str, str]) -> dict[str, Any]:
        text = given["text"]
        return {"done": await asyncio.gather(double(text), triple(text))}

    return workflow


def what_cannot_be_identified(ran: Ran, saver: Any) -> Any:
    def lock(state: State) -> Any:
        ran("lock")
        return {"text": state["text"] + "!" * (state["lock"] is not None)}

    async def after(state: State) -> Any:
        ran("after")
        return {"done": ["after"]}

    class Locked(State, total=False):
        lock: Any

    builder = (
        StateGraph(Locked).add_node("lock", lock, input_schema=Locked).add_node("after", after, input_schema=State)
    )
    return builder.add_edge(START, "lock").add_edge("lock", "after").compile()


QUESTION = {"messages": [("user", "fog?")]}
GRAPHS: Mapping[Callable[..., Any], tuple[Any, Mapping[str, int], Mapping[str, int]]] = {
    steps: ({"text": "fog"}, STEPS, {}),
    a_subgraph_first: ({"text": "fog"}, {"leaf": 1}, {}),
    an_agent: (QUESTION, {"model": 2, "look_up": 1, "spell": 1}, {"look_up": 1, "spell": 1}),
    a_recorded_model_in_a_node: (QUESTION, {"ask": 1, "stream": 1, "model": 2}, {}),
    models_and_a_tool_in_a_node: (QUESTION, {"ask": 1, "look_up": 1, "model": 3}, {"ask": 1, "look_up": 1}),
    tasks: ({"text": "fog"}, {"double": 1, "triple": 1}, {}),
    what_cannot_be_identified: ({"text": "fog", "lock": threading.Lock()}, {"lock": 1, "after": 1}, {"lock": 1}),
}
"""What builds it, what it is asked, and what runs then and runs again."""
each_graph = pytest.mark.parametrize("build", GRAPHS, ids=lambda build: build.__name__)


async def invoked(graph: Any, given: Any, config: Any) -> None:
    await graph.ainvoke(given, config)


async def streamed(graph: Any, given: Any, config: Any) -> None:
    modes = ["values", "updates", "custom", "messages", "tasks", "checkpoints", "debug"]
    assert [each async for each in graph.astream(given, config, stream_mode=modes, subgraphs=True)]


async def told_of(graph: Any, given: Any, config: Any) -> None:
    assert [each async for each in graph.astream_events(given, config, version="v2")]


@pytest.mark.parametrize(
    ("build", "way"), in_turn(GRAPHS, [invoked, streamed, told_of]), ids=lambda each: each.__name__
)
async def test_neither_a_cold_nor_a_warm_run_blocks(
    build: Callable[..., Any], way: Callable[..., Any], watched: Watched, engine: Any, ran: Ran
):
    given, cold, warm = GRAPHS[build]
    bare = build(ran, InMemorySaver())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what cannot be identified is warned of once in a process
        with watched() as found:
            await way(bare, given, {"configurable": {"thread_id": "bare", "musubito": {"mode": "off"}}})
        assert found == [], "LangGraph's own doing"
        took(ran)
        graph = musubito_graph(build(ran, InMemorySaver()))
        for thread, runs in (("cold", cold), ("warm", warm)):
            with watched() as found:
                await way(graph, given, {"configurable": {"thread_id": thread}})
            assert found == []
            assert took(ran) == runs


FIRST = """
import asyncio, os, sys
import httpx, requests  # LangGraph imports them when a node first fails, whoever watches
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from musubito_langgraph import musubito_graph
from tests.langgraph.specimen import Ran
from tests.langgraph.test_concurrency import steps, watching

async def first():
    ran = Ran()
    graph = musubito_graph(steps(ran, InMemorySaver()))
    with watching(pytest.MonkeyPatch()) as found:
        await graph.ainvoke({"text": "fog"}, {"configurable": {"thread_id": "first"}})
    print(found, dict(sorted(ran.counts.items())))

asyncio.run(first())
sys.stdout.flush()
# BlockBuster leaves functions in a built-in type, and Python 3.11 can crash when it clears that type at the very end.
os._exit(0)
"""


def test_nor_does_what_a_process_does_only_once(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", FIRST],
        env=os.environ | {"MUSUBITO_URL": f"sqlite:///{tmp_path / 'first.db'}"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.returncode) == (f"[] {dict(sorted(STEPS.items()))}\n", 0), done.stderr


@each_graph
async def test_nor_does_the_default_engine_that_is_opened_first(
    build: Callable[..., Any], watched: Watched, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ran: Ran
):
    given, cold, _ = GRAPHS[build]
    monkeypatch.setenv("MUSUBITO_URL", f"sqlite:///{tmp_path / 'default.db'}")
    graph = musubito_graph(build(ran, InMemorySaver()))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with watched() as found:
                await graph.ainvoke(given, {"configurable": {"thread_id": "cold"}})
            assert found == []
        assert took(ran) == cold
        assert (tmp_path / "default.db").exists()
    finally:
        await asyncio.to_thread(lambda: default_engine().close())


async def test_nor_does_wrapping_on_the_loop_or_what_an_invocation_says(watched: Watched, engine: Any, ran: Ran):
    for said in (
        {"mode": "live"},
        {"mode": "refresh"},
        {"namespace": "ann"},
        {"mode": "replay_only", "namespace": "ann"},
    ):
        bare = steps(ran, None)
        with watched() as found:
            graph = musubito_graph(bare, steps={"work": StepConfiguration(ttl_seconds=3600)})
            with run("nightly"):
                await graph.ainvoke({"text": "fog"}, {"configurable": {"musubito": said}})
        assert found == []
    assert took(ran)["one"] == 3


@pytest.mark.parametrize("is_functional", [False, True], ids=["graph", "entrypoint"])
async def test_nor_does_an_asynchronous_checkpointer(
    is_functional: bool, watched: Watched, engine: Any, ran: Ran, tmp_path: Path
):
    @task
    async def before(text: str) -> str:
        ran("before")
        return text + "?"

    async def ask(state: State) -> Any:
        ran("ask")
        return {"done": [await before(state["text"]), interrupt("who?")]}

    async def after(state: State) -> Any:
        ran("after")
        return {"done": ["after", *state["done"][1:]]}

    def built(saver: Any) -> Any:
        if not is_functional:
            return StateGraph(State).add_sequence([ask, after]).add_edge(START, "ask").compile(checkpointer=saver)

        @entrypoint(checkpointer=saver)
        async def workflow(given: dict[str, str]) -> dict[str, Any]:
            return {"done": [await before(given["text"]), interrupt("who?")]}

        return workflow

    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "threads.db")) as saver:
        await saver.setup()
        graph = musubito_graph(built(saver))
        for who in ("ann", "bob"):
            config = {"configurable": {"thread_id": who}}
            with watched() as found:
                asked = await graph.ainvoke({"text": "x"}, config)
                answered = await graph.ainvoke(Command(resume=who), config)
                history = [each async for each in graph.aget_state_history(config)]
            assert found == []
            assert asked["__interrupt__"][0].value == "who?"
            assert answered["done"][:2] == ["x?", who]
            assert history
    # Whatever asked runs again when it is answered, and for everybody who is asked; its task does not.
    assert took(ran) == {"before": 1} | ({} if is_functional else {"ask": 4, "after": 2})


# -- threads -----------------------------------------------------------------------------------------------------------
def test_tasks_that_begin_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Each looks at those that have begun before it, while others begin."""

    def split(state: dict[str, Any]) -> dict[str, Any]:
        return {"parts": list(range(8))}

    def work(state: dict[str, Any]) -> dict[str, Any]:
        return {"done": [state["part"]]}

    class Parts(TypedDict, total=False):
        parts: list[int]
        part: int
        done: Annotated[list[int], add]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine:
            builder = StateGraph(Parts).add_node("split", split).add_node("work", work).add_edge(START, "split")
            builder.add_conditional_edges("split", lambda s: [Send("work", {"part": p}) for p in s["parts"]], ["work"])
            graph = musubito_graph(builder.compile(), engine=engine)
            refresh = {"configurable": {"musubito": {"mode": "refresh"}}}
            for _ in range(60):
                assert graph.invoke({}, refresh)["done"] == list(range(8))
    finally:
        sys.setswitchinterval(interval)
