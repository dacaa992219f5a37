"""Graphs that the code of a node, a task or a tool invokes are recorded as if they were wrapped themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.tools import ToolRuntime
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime, get_runtime
from langgraph.types import Command, interrupt

from musubito import MusubitoEngine, StepConfiguration, StepType, run
from musubito.lineage import Lineage
from musubito_langgraph import musubito_graph, musubito_runnable
from tests.langgraph.specimen import Ran, Scripted, calls, says, took
from tests.langgraph.test_inner_steps import edges

pytestmark = pytest.mark.usefixtures("engine")
Ask = Callable[..., Any]
HI = {"messages": [HumanMessage("hi", id="1")]}


def script(messages: Any) -> AIMessage:
    """Ask the first tool for what was said, and tell what it answers."""
    last = messages[-1]
    return says(f"it is {last.text}") if last.type == "tool" else calls(("search", {"words": last.text}))


def researcher(ran: Ran, mark: str = "", **more: Any) -> Any:
    """An agent with one tool, which asks its model twice."""

    @tool
    def search(words: str) -> str:
        """Search."""
        ran("search")
        return words + mark

    return create_agent(Scripted(script=script, ran=ran), [search], name="researcher", **more)


def graph_of(node: Any, name: str = "ask", state: Any = MessagesState, **more: Any) -> Any:
    return StateGraph(state).add_node(name, node).add_edge(START, name).compile(name="g", **more)


def asking(ran: Ran, agent: Any, around: str = "", **more: Any) -> Any:
    """A wrapped graph whose node invokes the agent."""

    def ask(state: MessagesState) -> Any:
        ran("ask")
        return {"messages": agent.invoke({"messages": state["messages"]})["messages"][-1].text + around}

    async def aask(state: MessagesState) -> Any:
        ran("ask")
        return {"messages": (await agent.ainvoke({"messages": state["messages"]}))["messages"][-1].text + around}

    return musubito_graph(graph_of(RunnableLambda(ask, aask)), **{"replay_tools": True, **more})


def steps(record: Any) -> list[tuple[str, str]]:
    return [(call.operation, call.outcome) for call in record.calls]


def told(output: Any) -> str:
    return str(output["messages"][-1].text)


FIRST = {"ask": 1, "model": 2, "search": 1}
STEPS = [
    "g/ask/researcher/model/Scripted",
    "g/ask/researcher/model",
    "g/ask/researcher/tools.search",
    "g/ask/researcher/tools",
    "g/ask/researcher/model/Scripted",
    "g/ask/researcher/model",
    "g/ask",
]


# -- what is recorded --------------------------------------------------------------------------------------------------
def test_its_steps_are_named_below_the_node_and_replay_with_it(ran: Ran, ask: Ask, tmp_path: Path):
    agent = researcher(ran)
    with run() as cold:
        assert told(ask(asking(ran, agent), HI)) == "it is hi"
    assert steps(cold) == [(name, "ran") for name in STEPS]
    assert took(ran) == FIRST
    with run() as warm:
        assert told(ask(asking(ran, agent), HI)) == "it is hi"
    assert steps(warm) == [("g/ask", "replayed")]
    assert took(ran) == {}
    calls = {(parent, child) for parent, kind, child in edges(tmp_path / "m.db") if kind == "call"}
    assert {("model", "ask"), ("tools", "ask")} <= calls


@dataclass
class Seen:
    words: list[str]


class Words(TypedDict, total=False):
    words: list[str]
    count: int


@pytest.mark.parametrize("changed", ["its own", "of the state", "of the context"])
def test_what_a_node_inside_changes_in_place(ran: Ran, ask: Ask, changed: str):
    """It stops the replay of the node around only if the node around was given it, as then others see the change."""

    def add(state: Words, runtime: Runtime[Seen]) -> Any:
        ran("add")
        words = runtime.context.words if changed == "of the context" else state["words"]
        words.append("more")
        return {"count": len(words)}

    def around(state: Words) -> Any:
        ran("around")
        words = list(state["words"]) if changed == "its own" else state["words"]
        return {"count": inner.invoke({"words": words}, context=get_runtime(Seen).context)["count"]}

    def last(state: Words, runtime: Runtime[Seen]) -> Any:
        return {"count": 10 * len(runtime.context.words) + len(state["words"])}

    inner = StateGraph(Words, context_schema=Seen).add_node(add).add_edge(START, "add").compile(name="inner")
    builder = StateGraph(Words, context_schema=Seen).add_sequence([around, last]).add_edge(START, "around")
    bare = builder.compile(name="g").invoke({"words": ["one"]}, context=Seen(["here"]))
    took(ran)
    graph = musubito_graph(builder.compile(name="g"))
    for number in range(3):
        assert graph.invoke({"words": ["one"]}, context=Seen(["here"])) == bare, number
    assert took(ran)["around"] == (1 if changed == "its own" else 3)


def test_the_graph_itself_is_not_changed(ran: Ran, ask: Ask):
    agent = researcher(ran)
    before = {**vars(agent)}, {name: node.bound for name, node in agent.nodes.items()}
    ask(asking(ran, agent), HI)
    assert ({**vars(agent)}, {name: node.bound for name, node in agent.nodes.items()}) == before
    took(ran)
    with run() as record:
        ask(agent, HI)
    assert (steps(record), took(ran)) == ([], {"model": 2, "search": 1}), "outside a step it is not recorded"


def stream(agent: Any, given: Any) -> Any:
    return [*agent.stream(given, stream_mode="values")][-1]


def batch(agent: Any, given: Any) -> Any:
    return agent.batch([given, {"messages": [HumanMessage("other", id="2")]}])[0]


async def ainvoke(agent: Any, given: Any) -> Any:
    return await agent.ainvoke(given)


async def astream(agent: Any, given: Any) -> Any:
    return [chunk async for chunk in agent.astream(given, stream_mode="values")][-1]


async def abatch(agent: Any, given: Any) -> Any:
    return (await agent.abatch([given, {"messages": [HumanMessage("other", id="2")]}]))[0]


@pytest.mark.parametrize("way", [stream, batch, ainvoke, astream, abatch])
def test_in_all_ways_to_invoke_it(way: Any, ran: Ran):
    agent = researcher(ran)

    def graph(around: str) -> Any:
        def node(state: MessagesState) -> Any:
            return {"messages": way(agent, {"messages": state["messages"]})["messages"][-1].text + around}

        async def anode(state: MessagesState) -> Any:
            return {"messages": (await way(agent, {"messages": state["messages"]}))["messages"][-1].text + around}

        return musubito_graph(graph_of(anode if asyncio.iscoroutinefunction(way) else node), replay_tools=True)

    def answer(around: str) -> str:
        if asyncio.iscoroutinefunction(way):
            return told(asyncio.run(graph(around).ainvoke(HI)))
        return told(graph(around).invoke(HI))

    assert answer("") == "it is hi"
    count = 2 if "batch" in way.__name__ else 1
    assert took(ran) == {"model": 2 * count, "search": count}
    assert answer("!") == "it is hi!"
    assert took(ran) == {}


def test_it_can_be_turned_off(ran: Ran, ask: Ask):
    with run() as record:
        ask(asking(ran, researcher(ran), inner=False), HI)
    assert [name for name, _ in steps(record)] == ["g/ask/Scripted", "g/ask/search", "g/ask/Scripted", "g/ask"]
    with pytest.raises(TypeError, match="inner is True or False"):
        musubito_graph(graph_of(script), inner=1)  # type: ignore[arg-type]


# -- edits -------------------------------------------------------------------------------------------------------------
def test_after_an_edit_of_the_node_its_steps_replay(ran: Ran, ask: Ask):
    agent = researcher(ran)
    ask(asking(ran, agent), HI)
    took(ran)
    assert told(ask(asking(ran, agent, "!"), HI)) == "it is hi!"
    assert took(ran) == {"ask": 1}


def in_a_field(agent: Any) -> Any:
    class Node:
        def __init__(self) -> None:
            self.agent = agent

        def __call__(self, state: MessagesState) -> Any:
            return {"messages": self.agent.invoke(state)["messages"][-1:]}

    return Node()


def in_a_registry(agent: Any) -> Any:
    agents = {"researcher": agent}

    def node(state: MessagesState) -> Any:
        return {"messages": agents["researcher"].invoke(state)["messages"][-1:]}

    return node


def with_retry(agent: Any) -> Any:
    return agent.with_retry()


def in_a_chain(agent: Any) -> Any:
    chain = RunnableLambda(lambda state: state) | agent

    def node(state: MessagesState) -> Any:
        return {"messages": chain.invoke(state)["messages"][-1:]}

    return node


def returned(agent: Any) -> Any:
    return lambda state: agent


@pytest.mark.parametrize("held", [in_a_field, in_a_registry, with_retry, in_a_chain, returned])
def test_an_edit_counts_wherever_the_node_has_it_from(held: Any, ran: Ran):
    for mark, runs in (("", {"model": 2, "search": 1}), ("", {}), ("?", {"search": 1, "model": 1}), ("?", {})):
        graph = musubito_graph(graph_of(held(researcher(ran, mark))), replay_tools=True)
        assert told(graph.invoke(HI)) == f"it is hi{mark}"
        assert took(ran) == runs


def test_one_that_is_compiled_at_each_call(ran: Ran, ask: Ask):
    def graph(mark: str, around: str = "") -> Any:
        def node(state: MessagesState) -> Any:
            agent = researcher(ran, mark)
            return {"messages": agent.invoke({"messages": state["messages"]})["messages"][-1].text + around}

        return musubito_graph(graph_of(node), replay_tools=True)

    for mark, around, runs in (
        ("", "", {"model": 2, "search": 1}),
        ("", "", {}),
        ("", "!", {}),
        ("?", "!", {"search": 1, "model": 1}),
    ):
        assert told(ask(graph(mark, around), HI)) == f"it is hi{mark}{around}"
        assert took(ran) == runs


# -- settings ----------------------------------------------------------------------------------------------------------
def test_its_tools_run_each_time_and_its_models_replay(ran: Ran, ask: Ask):
    graph = asking(ran, researcher(ran), replay_tools=())
    for runs in (FIRST, {"ask": 1, "search": 1}):
        assert told(ask(graph, HI)) == "it is hi"
        assert took(ran) == runs


def test_a_step_of_it_that_is_to_run_each_time_makes_the_node_run(ran: Ran):
    agent = create_agent(Scripted(script=lambda _: says("yes"), ran=ran), [], name="friend")
    live = {"ask/friend/model": StepConfiguration(step_type=StepType.LIVE)}
    for configured, runs in ({}, {"ask": 1, "model": 1}), ({}, {}), (live, {"ask": 1}):
        asking(ran, agent, steps=configured).invoke(HI)
        assert took(ran) == runs


def test_two_of_one_name_are_told_apart(ran: Ran):
    agents = [researcher(ran, mark) for mark in "ab"]

    def node(state: MessagesState) -> Any:
        return {"messages": "".join(told(agent.invoke({"messages": state["messages"]})) for agent in agents)}

    assert told(musubito_graph(graph_of(node), replay_tools=True).invoke(HI)) == "it is hiait is hib"


def test_what_it_is_asked_is_not_kept_if_the_node_keeps_nothing(ran: Ran, engine: MusubitoEngine):
    graph = asking(ran, researcher(ran), steps={"ask": StepConfiguration(record_inputs=False)})
    with run() as record:
        graph.invoke(HI)
    assert [name for name, _ in steps(record)] == STEPS
    lineage = Lineage(engine)
    assert [lineage.input(lineage.node(call.node_id)) for call in record.calls] == [None] * len(STEPS)


def test_where_musubito_is_off_it_runs_as_without_it(ran: Ran, ask: Ask):
    agent = researcher(ran)

    def node(state: MessagesState) -> Any:
        with run(mode="off"):
            return {"messages": told(agent.invoke({"messages": state["messages"]}))}

    for _ in range(2):
        assert told(ask(musubito_graph(graph_of(node), replay_tools=True), HI)) == "it is hi"
        assert took(ran) == {"model": 2, "search": 1}


# -- where it is invoked -----------------------------------------------------------------------------------------------
def test_in_a_tool_of_an_agent(ran: Ran, ask: Ask):
    agent = researcher(ran)

    @tool("search")
    def delegate(words: str) -> str:
        """Ask a colleague."""
        ran("delegate")
        return told(agent.invoke({"messages": [HumanMessage(words, id="asked")]}))

    supervisor = musubito_graph(create_agent(Scripted(script=script, ran=ran), [delegate], name="supervisor"))
    with run() as record:
        assert told(ask(supervisor, HI)) == "it is it is hi"
    assert "supervisor/tools.search/researcher/model" in dict(steps(record))
    assert took(ran) == {"model": 4, "search": 1, "delegate": 1}
    assert told(ask(supervisor, HI)) == "it is it is hi"
    assert took(ran) == {"search": 1, "delegate": 1}, "tools run, models replay"


def test_a_recorded_runnable_stays_one_step(ran: Ran):
    agent = researcher(ran)

    @musubito_runnable
    def asks(words: str) -> str:
        return told(agent.invoke({"messages": words}))

    with run() as record:
        asks.invoke("hi")
    assert [name.rpartition(".")[2] for name, _ in steps(record)] == [
        "asks/Scripted",
        "asks/search",
        "asks/Scripted",
        "asks",
    ]


def test_an_entrypoint(ran: Ran, ask: Ask):
    @task
    def shout(words: str) -> str:
        ran("shout")
        return words.upper()

    @entrypoint()
    def flow(words: str) -> str:
        return shout(words).result()

    def graph(around: str) -> Any:
        def node(state: MessagesState) -> Any:
            return {"messages": flow.invoke(told(state)) + around}

        return musubito_graph(graph_of(node))

    with run() as record:
        assert told(ask(graph(""), HI)) == "HI"
    assert steps(record) == [("g/ask/flow/shout", "ran"), ("g/ask", "ran")]
    assert told(ask(graph("!"), HI)) == "HI!"
    assert took(ran) == {"shout": 1}


# -- what surrounds it -------------------------------------------------------------------------------------------------
class Question(TypedDict, total=False):
    text: str
    done: Any


class Styled(Question, total=False):
    style: str | None


def test_the_config_that_it_is_given_counts_for_its_steps(ran: Ran, ask: Ask):
    def inner(state: Question, config: RunnableConfig) -> Any:
        ran("inner")
        return {"done": config["metadata"].get("".join(("st", "yle")))}

    sub = graph_of(inner, "inner", Question)

    def node(state: Styled) -> Any:
        ran("node")
        metadata = {"style": state["style"]} if state["style"] else {}
        return {"done": sub.invoke({"text": state["text"]}, {"metadata": metadata})["done"]}

    async def anode(state: Styled) -> Any:
        ran("node")
        metadata = {"style": state["style"]} if state["style"] else {}
        return {"done": (await sub.ainvoke({"text": state["text"]}, {"metadata": metadata}))["done"]}

    graph = musubito_graph(graph_of(RunnableLambda(node, anode), state=Styled))
    for style in ("a", None, "b"):
        assert ask(graph, {"text": "x", "style": style})["done"] == style
    assert took(ran) == {"node": 3, "inner": 3}
    assert ask(graph, {"text": "x", "style": "b"})["done"] == "b"
    assert took(ran) == {}


def test_a_config_that_the_node_makes_runs_the_node_no_second_time(ran: Ran, ask: Ask):
    def inner(state: Question, config: RunnableConfig) -> Any:
        return {"done": config["metadata"]["style"]}

    sub = graph_of(inner, "inner", Question)

    def node(state: Question) -> Any:
        ran("node")
        return {"done": sub.invoke({"text": state["text"]}, {"metadata": {"style": "plain"}})["done"]}

    graph = musubito_graph(graph_of(node, state=Question))
    for runs in ({"node": 1}, {}):
        assert ask(graph, {"text": "x"})["done"] == "plain"
        assert took(ran) == runs


@dataclass
class User:
    name: str


def test_the_context_that_it_is_given_counts_for_its_steps(ran: Ran, ask: Ask):
    @tool
    def search(words: str, runtime: ToolRuntime[User]) -> str:
        """Search."""
        ran("search")
        return f"{words} for {runtime.context.name}, {len(runtime.state['messages'])}"

    agent = create_agent(Scripted(script=script, ran=ran), [search], context_schema=User)

    def graph(user: str) -> Any:
        def node(state: MessagesState) -> Any:
            return {"messages": told(agent.invoke({"messages": state["messages"]}, context=User(user)))}

        return musubito_graph(graph_of(node), replay_tools=True)

    for user in ("ann", "bob"):
        assert told(ask(graph(user), HI)) == f"it is hi for {user}, 2"
    took(ran)
    assert told(ask(graph("ann"), HI)) == "it is hi for ann, 2"
    assert took(ran) == {}


# -- a Command that leaves it ------------------------------------------------------------------------------------------
def leaving(ran: Ran, mark: str = "", *, by_tool: bool = False) -> Any:
    """A graph that hands over to the node `after` of the graph around it."""
    if not by_tool:

        def leave(state: MessagesState) -> Any:
            ran("leave")
            update = {"messages": [AIMessage(f"left{mark}", id="2")]}
            return Command(goto="after", update=update, graph=Command.PARENT)

        return graph_of(leave, "leave")

    @tool("search")
    def transfer(words: str) -> Any:
        """Hand over."""
        ran("transfer")
        message = ToolMessage(f"left{mark}", tool_call_id="call_search", id="2")
        return Command(goto="after", update={"messages": [message]}, graph=Command.PARENT)

    return create_agent(Scripted(script=script, ran=ran), [transfer], name="researcher")


def handing_over(ran: Ran, sub: Any, *, is_async: bool, in_a_function: bool = True) -> Any:
    def node(state: MessagesState) -> Any:
        ran("node")
        return sub.invoke(state)

    async def anode(state: MessagesState) -> Any:
        ran("node")
        return await sub.ainvoke(state)

    def after(state: MessagesState) -> Any:
        ran("after")
        return {"messages": [AIMessage(f"after {told(state)}", id="3")]}

    function = anode if is_async else node
    builder = StateGraph(MessagesState).add_node("node", function if in_a_function else RunnableLambda(node, anode))
    return builder.add_node("after", after).add_edge(START, "node").compile(name="g")


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("in_a_function", [False, True], ids=["runnable", "function"])
def test_a_node_that_a_graph_inside_it_leaves_replays(ran: Ran, tmp_path: Path, *, is_async: bool, in_a_function: bool):
    def shown(graph: Any) -> Any:
        if not is_async:
            return [*graph.stream(HI, stream_mode=["updates", "values"])]

        async def chunks() -> Any:
            return [chunk async for chunk in graph.astream(HI, stream_mode=["updates", "values"])]

        return asyncio.run(chunks())

    def graph(mark: str) -> Any:
        return handing_over(ran, leaving(ran, mark), is_async=is_async, in_a_function=in_a_function)

    first, again, edited = {"node": 1, "leave": 1, "after": 1}, {}, {"node": 1, "leave": 1, "after": 1}
    for mark, runs in (("", first), ("", again), ("!", edited), ("!", again)):
        expected = shown(graph(mark))
        took(ran)
        assert shown(musubito_graph(graph(mark))) == expected
        assert took(ran) == runs
    assert ("node", "data", "after") in edges(tmp_path / "m.db")


def test_a_handoff_of_an_agent_asks_its_model_once(ran: Ran):
    for mark, runs in (
        ("", {"node": 1, "model": 1, "transfer": 1, "after": 1}),
        ("", {}),
        ("!", {"node": 1, "transfer": 1, "after": 1}),
    ):
        sub = leaving(ran, mark, by_tool=True)
        graph = musubito_graph(handing_over(ran, sub, is_async=False), replay_tools=True)
        assert told(graph.invoke(HI)) == f"after left{mark}"
        assert took(ran) == runs


# -- streams -----------------------------------------------------------------------------------------------------------
def shown(graph: Any, *, is_async: bool = False) -> Any:
    """What a graph streams, with the number of graphs around each event."""
    how: Any = {"stream_mode": ["updates", "values", "tasks", "messages", "custom"], "subgraphs": True}

    async def chunks() -> Any:
        return [chunk async for chunk in graph.astream(HI, **how)]

    events = asyncio.run(chunks()) if is_async else graph.stream(HI, **how)
    texts = {"messages": lambda chunk: chunk[0].text, "custom": str}
    return [(len(inside), mode, texts.get(mode, sorted)(chunk)) for inside, mode, chunk in events]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_what_it_streams_comes_again(ran: Ran, *, is_async: bool):
    agent = researcher(ran)

    def middle(state: MessagesState) -> Any:
        get_stream_writer()("thinking")
        return {"messages": told(agent.invoke({"messages": state["messages"]}))}

    async def amiddle(state: MessagesState) -> Any:
        get_stream_writer()("thinking")
        return {"messages": told(await agent.ainvoke({"messages": state["messages"]}))}

    sub = graph_of(amiddle if is_async else middle, "middle")

    def graph(around: str = "") -> Any:
        def node(state: MessagesState) -> Any:
            return {"messages": told(sub.invoke(state)) + around}

        async def anode(state: MessagesState) -> Any:
            return {"messages": told(await sub.ainvoke(state)) + around}

        return graph_of(anode if is_async else node)

    bare = shown(graph(), is_async=is_async)
    assert {inside for inside, *_ in bare} == {0, 1, 2}
    assert {(2, "messages", "hi"), (2, "updates", ("tools",)), (1, "custom", "thinking")} <= {
        (inside, mode, tuple(what) if isinstance(what, list) else what) for inside, mode, what in bare
    }
    took(ran)
    for runs in ({"model": 2, "search": 1}, {}):
        assert shown(musubito_graph(graph(), replay_tools=True), is_async=is_async) == bare
        assert took(ran) == runs
    for _ in range(2):  # the middle node is replayed inside a node that runs, and then with it
        edited = shown(musubito_graph(graph("!"), replay_tools=True), is_async=is_async)
        assert edited == shown(graph("!"), is_async=is_async)


# -- checkpoints and questions -----------------------------------------------------------------------------------------
def test_one_with_a_checkpointer_of_its_own_runs_and_its_steps_replay(ran: Ran, ask: Ask):
    saver = InMemorySaver()
    agent = create_agent(Scripted(script=lambda _: says("yes"), ran=ran), [], name="friend", checkpointer=saver)

    def node(state: MessagesState) -> Any:
        ran("node")
        thread: RunnableConfig = {"configurable": {"thread_id": "one"}}
        agent.invoke({"messages": [HumanMessage("hi", id="1")]}, thread)
        return {"messages": str(len(agent.get_state(thread).values["messages"]))}

    graph = musubito_graph(graph_of(node))
    for count in ("2", "3"):  # the message with the id 1 is replaced by itself
        assert told(ask(graph, HI)) == count
    assert took(ran) == {"node": 2, "model": 2}
    saver.delete_thread("one")
    assert told(ask(graph, HI)) == "2"
    assert took(ran) == {"node": 1}, "as at first: the model is not asked again"


def test_a_question_in_it_is_asked_again(ran: Ran, ask: Ask):
    def before(state: MessagesState) -> Any:
        ran("before")
        return {"messages": "before"}

    def approve(state: MessagesState) -> Any:
        ran("approve")
        return {"messages": interrupt("may I?")}

    sub = StateGraph(MessagesState).add_sequence([before, approve]).add_edge(START, "before").compile(name="sub")

    def node(state: MessagesState) -> Any:
        return {"messages": told(sub.invoke(state))}

    for answer, runs in (("yes", {"before": 1, "approve": 2}), ("no", {"approve": 2})):
        graph = musubito_graph(graph_of(node, checkpointer=InMemorySaver()))
        thread = {"configurable": {"thread_id": "one"}}
        assert graph.invoke(HI, thread)["__interrupt__"][0].value == "may I?"
        assert told(graph.invoke(Command(resume=answer), thread)) == answer
        assert took(ran) == runs


def test_a_tool_of_it_runs_for_each_approval(ran: Ran):
    agent = researcher(ran)

    def approve(state: MessagesState) -> Any:
        interrupt("may I?")
        return {}

    def act(state: MessagesState) -> Any:
        return {"messages": told(agent.invoke({"messages": state["messages"]}))}

    for runs in ({"model": 2, "search": 1}, {"search": 1}):
        builder = StateGraph(MessagesState).add_sequence([approve, act]).add_edge(START, "approve")
        graph = musubito_graph(builder.compile(checkpointer=InMemorySaver()), replay_tools=True)
        thread = {"configurable": {"thread_id": "one"}}
        graph.invoke(HI, thread)
        assert told(graph.invoke(Command(resume="yes"), thread)) == "it is hi"
        assert took(ran) == runs, "one person's approval does not hold for another person"
