"""Tools run each time, models replay: what is called live, what that means for what calls it, and how to opt in."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from musubito import MusubitoEngine, StepConfiguration, StepType, musubito_step, run
from musubito.lineage import Lineage
from musubito.lineage.readers.why import why
from musubito_langgraph import musubito_graph
from tests.langgraph.specimen import Ran, Scripted, calls, says, took

pytestmark = pytest.mark.usefixtures("engine")
LIVE = StepConfiguration(step_type=StepType.LIVE)
FORCED = StepConfiguration(force_reexecution=True)
SAMPLE = StepConfiguration(step_type=StepType.STOCHASTIC)
QUESTION = {"messages": [HumanMessage("I want a human")]}


class Question(TypedDict, total=False):
    question: str
    answer: int


def answer(messages: Sequence[BaseMessage]) -> AIMessage:
    """Ask for the tool, and then repeat what the tool said."""
    last = messages[-1]
    return says(last.text) if isinstance(last, ToolMessage) else calls(("open_ticket", {"subject": last.text}))


class Desk:
    """A database of tickets, a tool that opens one, and a model that asks for the tool."""

    def __init__(self, path: Path, ran: Ran) -> None:
        self.path = path
        self.model = Scripted(script=answer, ran=ran)
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("CREATE TABLE IF NOT EXISTS tickets (subject)")

        @tool
        def open_ticket(subject: str) -> str:
            """Open a ticket."""
            with closing(sqlite3.connect(path)) as db, db:
                db.execute("INSERT INTO tickets VALUES (?)", (subject,))
            return "ticket opened"

        self.tool = open_ticket

    @property
    def tickets(self) -> int:
        """The number of tickets in the database."""
        with closing(sqlite3.connect(self.path)) as db:
            return int(db.execute("SELECT count(*) FROM tickets").fetchone()[0])


@pytest.fixture
def desk(tmp_path: Path, ran: Ran) -> Desk:
    return Desk(tmp_path / "desk.db", ran)


# -- agents of all kinds -----------------------------------------------------------------------------------------------
def made_by_langchain(model: Any, tools: Sequence[BaseTool], *, is_async: bool) -> Any:
    return create_agent(model, tools, name="agent")


def with_a_tool_node(model: Any, tools: Sequence[BaseTool], *, is_async: bool) -> Any:
    bound = model.bind_tools(tools)

    def think(state: MessagesState) -> Any:
        return {"messages": [bound.invoke(state["messages"])]}

    builder = StateGraph(MessagesState).add_node("think", think).add_node("tools", ToolNode(tools))
    builder.add_edge(START, "think").add_edge("tools", "think").add_conditional_edges("think", tools_condition)
    return builder.compile(name="agent")


def loop_of(model: Any, tools: Sequence[BaseTool], *, is_async: bool) -> Any:
    """A function that asks the model and calls the tools, until the model wants no more."""
    bound, named = model.bind_tools(tools), {tool.name: tool for tool in tools}

    def loop(state: MessagesState) -> Any:
        messages = [*state["messages"]]
        while True:
            messages.append(bound.invoke(messages))
            if not messages[-1].tool_calls:
                return {"messages": messages[len(state["messages"]) :]}
            messages += [named[call["name"]].invoke(call) for call in messages[-1].tool_calls]

    async def aloop(state: MessagesState) -> Any:
        messages = [*state["messages"]]
        while True:
            messages.append(await bound.ainvoke(messages))
            if not messages[-1].tool_calls:
                return {"messages": messages[len(state["messages"]) :]}
            messages += [await named[call["name"]].ainvoke(call) for call in messages[-1].tool_calls]

    return aloop if is_async else loop


def in_one_function(model: Any, tools: Sequence[BaseTool], *, is_async: bool) -> Any:
    loop = loop_of(model, tools, is_async=is_async)
    return StateGraph(MessagesState).add_node("loop", loop).add_edge(START, "loop").compile(name="agent")


def called_by_a_function(model: Any, tools: Sequence[BaseTool], *, is_async: bool) -> Any:
    sub = create_agent(model, tools, name="sub")

    def call(state: MessagesState) -> Any:
        return {"messages": sub.invoke({"messages": state["messages"]})["messages"]}

    async def acall(state: MessagesState) -> Any:
        return {"messages": (await sub.ainvoke({"messages": state["messages"]}))["messages"]}

    node = acall if is_async else call
    return StateGraph(MessagesState).add_node("call", node).add_edge(START, "call").compile(name="agent")


AGENTS = [made_by_langchain, with_a_tool_node, in_one_function, called_by_a_function]
agents = pytest.mark.parametrize("build", AGENTS)


class Asked:
    """A wrapped agent, asked in one of both ways."""

    def __init__(self, graph: Any, ask: Callable[..., Any]) -> None:
        self.graph = graph
        self._ask = ask

    def __call__(self, question: Any = QUESTION, **kwargs: Any) -> str:
        return str(self._ask(self.graph, question, **kwargs)["messages"][-1].text)


@pytest.fixture
def wrapped(ask: Callable[..., Any], request: pytest.FixtureRequest) -> Callable[..., Asked]:
    """Wraps an agent of a kind, which is then asked in both ways."""
    is_async = request.node.callspec.params["ask"] == "ainvoke"

    def wrap(build: Callable[..., Any], desk: Desk, *more: BaseTool, **kwargs: Any) -> Asked:
        bare = build(desk.model, [desk.tool, *more], is_async=is_async)
        return Asked(musubito_graph(bare, **kwargs), ask)

    return wrap


# -- the default -------------------------------------------------------------------------------------------------------
@agents
def test_a_tool_runs_each_time_and_the_model_is_not_asked_again(
    build: Any, desk: Desk, ran: Ran, wrapped: Callable[..., Asked]
):
    agent = wrapped(build, desk)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert agent() == "ticket opened"
        assert (desk.tickets, took(ran)) == (1, {"model": 2})
        assert agent() == "ticket opened"
    assert (desk.tickets, took(ran)) == (2, {})


@agents
def test_its_answer_decides_whether_the_model_is_asked(build: Any, desk: Desk, ran: Ran, wrapped: Callable[..., Asked]):
    @tool
    def open_ticket(subject: str) -> str:
        """Open a ticket."""
        ran("tool")
        return f"ticket {answers.pop(0)} opened"

    answers = [1, 1, 2, 1]
    desk.tool = open_ticket
    agent = wrapped(build, desk)
    assert (agent(), took(ran)) == ("ticket 1 opened", {"model": 2, "tool": 1})
    assert (agent(), took(ran)) == ("ticket 1 opened", {"tool": 1})
    assert (agent(), took(ran)) == ("ticket 2 opened", {"model": 1, "tool": 1})
    assert (agent(), took(ran)) == ("ticket 1 opened", {"tool": 1})


# -- what called it ----------------------------------------------------------------------------------------------------
def test_why_and_explain_name_the_tool_and_the_remedy(desk: Desk, engine: MusubitoEngine):
    loop = musubito_step(loop_of(desk.model, [desk.tool], is_async=False), name="loop")
    node = loop(QUESTION).node_id
    explanation = engine.explain(loop, QUESTION)
    assert "loop/open_ticket ran inside it, which is live" in str(explanation)
    assert 'replay_tools=("name",)' in explanation.remedy
    report = why(Lineage(engine), node)
    assert report.never is not None
    assert (report.never.part, 'replay_tools=("name",)' in report.remedy) == ("loop/open_ticket", True)


@pytest.mark.parametrize("inner", [LIVE, FORCED])
def test_a_step_that_is_live_or_forced_runs_inside_any_other(inner: StepConfiguration, ran: Ran):
    """Today and tomorrow; what is below it replays if its answer is equal."""

    @musubito_step(inner)
    def price(of: str) -> int:
        ran("price")
        return 7

    @musubito_step
    def middle(of: str) -> Any:
        ran("middle")
        return price(of)

    def node(state: Question) -> Question:
        ran("node")
        return {"answer": middle(state["question"]).value.value}

    def after(state: Question) -> Question:
        ran("after")
        return {"answer": state["answer"] + 1}

    builder = StateGraph(Question).add_sequence([node, after]).add_edge(START, "node")
    graph = musubito_graph(builder.compile(name="g"))
    assert graph.invoke({"question": "book"})["answer"] == 8
    assert took(ran) == {"node": 1, "middle": 1, "price": 1, "after": 1}
    assert graph.invoke({"question": "book"})["answer"] == 8
    assert took(ran) == {"node": 1, "middle": 1, "price": 1}


def test_a_step_that_is_configured_by_name_answers_for_the_tools_inside_it(
    desk: Desk, ran: Ran, wrapped: Callable[..., Asked]
):
    agent = wrapped(in_one_function, desk, steps={"loop": SAMPLE})
    assert (agent(), agent()) == ("ticket opened", "ticket opened")
    assert (desk.tickets, took(ran)) == (1, {"model": 2})


def test_so_does_a_plain_step(desk: Desk, ran: Ran):
    loop = musubito_step(SAMPLE)(loop_of(desk.model, [desk.tool], is_async=False))
    for _ in range(2):
        with run("day"):
            assert loop(QUESTION).value["messages"][-1].text == "ticket opened"
    assert (desk.tickets, took(ran)) == (1, {"model": 2})


def test_a_default_is_no_configuration_of_the_step(desk: Desk, wrapped: Callable[..., Asked]):
    agent = wrapped(in_one_function, desk, default=SAMPLE)
    assert (agent(), agent(), desk.tickets) == ("ticket opened", "ticket opened", 2)


# -- opting in ---------------------------------------------------------------------------------------------------------
@agents
@pytest.mark.parametrize("names", [True, ("open_ticket",)])
def test_a_tool_that_is_named_is_replayed(build: Any, names: Any, desk: Desk, ran: Ran, wrapped: Callable[..., Asked]):
    agent = wrapped(build, desk, replay_tools=names)
    assert (agent(), agent()) == ("ticket opened", "ticket opened")
    assert (desk.tickets, took(ran)) == (1, {"model": 2})


@agents
def test_a_tool_that_is_not_named_is_not(build: Any, desk: Desk, wrapped: Callable[..., Asked]):
    agent = wrapped(build, desk, replay_tools=())
    assert (agent(), agent(), desk.tickets) == ("ticket opened", "ticket opened", 2)


def test_a_name_that_no_tool_has_is_refused(desk: Desk) -> None:
    @tool
    def asks_another() -> str:
        """Ask the clerk, in turn."""
        return str(clerk.invoke({}))

    @tool
    def clerk() -> str:
        """Look into the files."""
        return "nothing"

    made = create_agent(desk.model, [desk.tool, asks_another])
    with pytest.raises(ValueError, match="names 'open_tickets'; the tools are asks_another, clerk, open_ticket"):
        musubito_graph(made, replay_tools=("clerk", "open_tickets"))
    assert musubito_graph(made, replay_tools=("clerk", "open_ticket"))


@agents
def test_a_tool_may_say_itself_that_it_replays(build: Any, desk: Desk, wrapped: Callable[..., Asked]):
    desk.tool.metadata = {"musubito": SAMPLE}
    agent = wrapped(build, desk)
    assert (agent(), agent(), desk.tickets) == ("ticket opened", "ticket opened", 1)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (made_by_langchain, "tools.open_ticket"),
        (made_by_langchain, "tools"),
        (with_a_tool_node, "tools.open_ticket"),
        (in_one_function, "loop/open_ticket"),
    ],
)
def test_the_configuration_of_a_name_says_how_a_tool_replays(
    build: Any, name: str, desk: Desk, engine: MusubitoEngine, wrapped: Callable[..., Asked]
):
    agent = wrapped(build, desk, steps={name: StepConfiguration(step_type="stochastic", ttl_seconds=3600)})
    assert (agent(), agent(), desk.tickets) == ("ticket opened", "ticket opened", 1)


@pytest.mark.parametrize("said", [LIVE, FORCED])
def test_a_name_that_is_said_to_be_live_is_live_whatever_is_opted_in(
    said: StepConfiguration, desk: Desk, wrapped: Callable[..., Asked]
):
    agent = wrapped(made_by_langchain, desk, replay_tools=True, steps={"tools.open_ticket": said})
    assert (agent(), agent(), desk.tickets) == ("ticket opened", "ticket opened", 2)


@agents
def test_a_step_under_the_tool_replays_while_the_tool_runs(
    build: Any, desk: Desk, ran: Ran, wrapped: Callable[..., Asked]
):
    inserted = desk.tool.func

    @musubito_step
    def insert(subject: str) -> str:
        return str(inserted(subject))

    @tool
    def open_ticket(subject: str) -> str:
        """Open a ticket."""
        ran("tool")
        return insert(subject).value

    desk.tool = open_ticket
    agent = wrapped(build, desk)
    assert (agent(), agent(), desk.tickets) == ("ticket opened", "ticket opened", 1)
    assert took(ran) == {"model": 2, "tool": 2}


@pytest.mark.parametrize("wrong", ["open_ticket", (1,), 7])
def test_names_of_tools_are_a_collection_of_texts(wrong: Any, desk: Desk):
    with pytest.raises(TypeError, match="replay_tools is a collection of names of tools"):
        musubito_graph(create_agent(desk.model, [desk.tool]), replay_tools=wrong)


# -- where what was recorded stands in ---------------------------------------------------------------------------------
@agents
def test_replay_only_replays_tools(build: Any, desk: Desk, ran: Ran, wrapped: Callable[..., Asked]):
    agent = wrapped(build, desk)
    assert agent() == "ticket opened"
    desk.path.unlink()
    took(ran)
    assert agent(config={"configurable": {"musubito": {"mode": "replay_only"}}}) == "ticket opened"
    assert (desk.path.exists(), took(ran)) == (False, {})


# -- side by side ------------------------------------------------------------------------------------------------------
@agents
def test_two_threads_that_ask_the_same_both_act(build: Any, desk: Desk, ran: Ran, engine: MusubitoEngine):
    agent = musubito_graph(build(desk.model, [desk.tool], is_async=False), engine=engine)
    agent.invoke(QUESTION)
    took(ran)
    with ThreadPoolExecutor(2) as pool:
        said = [*pool.map(lambda _: agent.invoke(QUESTION)["messages"][-1].text, range(6))]
    assert (said, desk.tickets, took(ran)) == (["ticket opened"] * 6, 7, {})


PROGRAM = """
import sys
from pathlib import Path
sys.path.append(sys.argv[2])
from musubito import MusubitoEngine, SQLiteStorage
from musubito_langgraph import musubito_graph
from tests.langgraph.specimen import Ran
from tests.langgraph.test_live import AGENTS, QUESTION, Desk

folder, ran = Path(sys.argv[1]), Ran()
desk = Desk(folder / "desk.db", ran)
for build in AGENTS:
    with MusubitoEngine(SQLiteStorage(folder / f"{build.__name__}.db")) as engine:
        agent = musubito_graph(build(desk.model, [desk.tool], is_async=False), engine=engine)
        print(agent.invoke(QUESTION)["messages"][-1].text, desk.tickets, dict(ran.counts))
"""


@pytest.mark.parametrize(
    "before", [{"replay_tools": True}, {"steps": {"node/look_up": SAMPLE}}], ids=["named", "steps"]
)
@pytest.mark.parametrize("after", [{}, {"replay_tools": ("other",)}, {"steps": {"node/look_up": LIVE}}])
def test_a_tool_that_is_opted_in_no_more_runs_again(before: dict[str, Any], after: dict[str, Any], ran: Ran):
    @tool
    def look_up(word: str) -> str:
        """Look a word up."""
        ran("tool")
        return word

    def node(state: Question) -> Question:
        return {"answer": len(look_up.invoke({"word": state["question"]}))}

    def ask(**how: Any) -> dict[str, int]:
        graph = StateGraph(Question).add_node("node", node).add_edge(START, "node").compile(name="g")
        musubito_graph(graph, **how).invoke({"question": "q"})
        return took(ran)

    assert [ask(**before), ask(**before), ask(**after), ask(**after)] == [{"tool": 1}, {}, {"tool": 1}, {"tool": 1}]
