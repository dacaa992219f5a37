"""Agents with real clients and packages whose tools write: each write takes place, and no question is asked twice."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from deepagents import create_deep_agent
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage
from langchain_core.tools import BaseTool, tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt

from musubito import MusubitoEngine
from musubito_langgraph import musubito_graph
from tests.langgraph.test_live import AGENTS as OTHERS
from tests.launcher import fork
from tests.real.model_server import ModelServer
from tests.server import drop_database, new_database, new_store

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
OPEN = 'Please open_ticket{"subject": "help"}.'


def question(text: str = OPEN) -> Any:
    return {"messages": [("user", text)]}


def connected(url: str) -> Any:
    """A connection to a database, by its URL or by the path of its file."""
    return closing(psycopg.connect(url) if url.startswith("postgresql") else sqlite3.connect(url))


def tickets(url: str) -> int:
    with connected(url) as db:
        return int(db.execute("SELECT count(*) FROM tickets").fetchone()[0])


def opener(url: str) -> BaseTool:
    """A tool that opens a ticket in this database."""
    with connected(url) as db, db:
        db.execute("CREATE TABLE IF NOT EXISTS tickets (subject TEXT)")

    @tool
    def open_ticket(subject: str) -> str:
        """Open a ticket."""
        with connected(url) as db, db:
            db.execute(f"INSERT INTO tickets VALUES ({'%s' if url.startswith('postgresql') else '?'})", (subject,))
        return "ticket opened"

    return open_ticket


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database for the tickets."""
    if request.param == "SQLite":
        yield str(tmp_path / "desk.db")
        return
    url = new_database()
    yield url
    drop_database(url)


# -- agents ------------------------------------------------------------------------------------------------------------
def deep(model: Any, tools: Sequence[BaseTool], *, is_async: bool) -> Any:
    return create_deep_agent(model, tools=list(tools), name="deep")


def deep_with_a_helper(model: Any, tools: Sequence[BaseTool], *, is_async: bool) -> Any:
    helper: Any = {"name": "desk", "description": "Helps.", "system_prompt": "You help.", "tools": list(tools)}
    return create_deep_agent(model, tools=[], subagents=[helper], name="deep")


AGENTS = {build.__name__: build for build in [*OTHERS, deep, deep_with_a_helper]}
ASKED = {
    "deep_with_a_helper": 'Please task{"description": "open_ticket{\\"subject\\": \\"help\\"}", "subagent_type": "desk"}.'
}
agents = pytest.mark.parametrize("kind", AGENTS)


def built(kind: str, *tools: BaseTool, is_async: bool = False) -> Any:
    return AGENTS[kind](ChatOpenAI(model="gpt-test", max_retries=0), tools, is_async=is_async)


# -- what an agent that is asked the same again does -------------------------------------------------------------------
@pytest.mark.parametrize("is_async", [False, True], ids=["invoke", "ainvoke"])
@agents
def test_each_write_takes_place_and_no_question_is_asked_twice(
    engine: MusubitoEngine, server: ModelServer, kind: str, database: str, is_async: bool
) -> None:
    def said(graph: Any) -> list[str]:
        given = question(ASKED.get(kind, OPEN))
        state = asyncio.run(graph.ainvoke(given)) if is_async else graph.invoke(given)
        return [message.text for message in state["messages"]]

    bare = said(built(kind, opener(database), is_async=is_async))
    asked = server.took()
    for written, is_asked in ((2, asked), (3, 0)):
        graph = musubito_graph(built(kind, opener(database), is_async=is_async))
        assert (said(graph), tickets(database), server.took()) == (bare, written, is_asked)


@agents
def test_replay_only_gives_the_recorded_answers_and_writes_nothing(
    engine: MusubitoEngine, server: ModelServer, kind: str, tmp_path: Path
) -> None:
    database = str(tmp_path / "desk.db")
    graph = musubito_graph(built(kind, opener(database)))
    given = question(ASKED.get(kind, OPEN))
    first = graph.invoke(given)
    server.took()
    Path(database).unlink()
    again = graph.invoke(given, {"configurable": {"musubito": {"mode": "replay_only"}}})
    assert [message.text for message in again["messages"]] == [message.text for message in first["messages"]]
    assert (server.took(), Path(database).exists()) == (0, False)


# -- side by side ------------------------------------------------------------------------------------------------------
@agents
def test_threads_that_ask_the_same_all_write(
    engine: MusubitoEngine, server: ModelServer, kind: str, tmp_path: Path
) -> None:
    database = str(tmp_path / "desk.db")
    graph = musubito_graph(built(kind, opener(database)), engine=engine)
    given = question(ASKED.get(kind, OPEN))
    graph.invoke(given)
    server.took()
    with ThreadPoolExecutor(2) as pool:
        assert len({state["messages"][-1].text for state in pool.map(graph.invoke, [given] * 4)}) == 1
    assert (tickets(database), server.took()) == (5, 0)


PROGRAM = """
import sys
sys.path.append(sys.argv[1])
from musubito_langgraph import musubito_graph
from tests.real.test_agents_that_write import AGENTS, ASKED, OPEN, built, opener, question

for kind in AGENTS:
    graph = musubito_graph(built(kind, opener(sys.argv[2])))
    print(graph.invoke(question(ASKED.get(kind, OPEN)))["messages"][-1].text)
"""


def test_processes_that_ask_the_same_all_write(server: ModelServer, database: str, tmp_path: Path) -> None:
    """One process after another, and then two at a time."""
    (tmp_path / "program.py").write_text(PROGRAM)
    store = new_store() if database.startswith("postgresql") else f"sqlite:///{tmp_path / 'm.db'}"
    environment = {**os.environ, "MUSUBITO_URL": store}
    opener(database)

    def play(processes: int) -> set[str]:
        playing = [
            fork(tmp_path / "program.py", Path.cwd(), database, environment=environment, imports="langgraph.graph")
            for _ in range(processes)
        ]
        told = [process.communicate(300) for process in playing]
        assert [process.returncode for process in playing] == [0] * processes, told
        return {stdout for stdout, _ in told}

    first = play(1)
    assert (tickets(database), server.took() > 0) == (len(AGENTS), True)
    assert play(1) == play(2) == first
    assert (tickets(database), server.took()) == (4 * len(AGENTS), 0)
    if store.startswith("postgresql"):
        drop_database(store)


# -- after an interrupt ------------------------------------------------------------------------------------------------
@tool
def confirm() -> str:
    """Ask a person."""
    return f"a person said {interrupt('well?')}"


def with_approval(model: Any, tools: Sequence[BaseTool], *, is_async: bool) -> Any:
    """An agent that asks a person before it calls its last tool."""
    asks = HumanInTheLoopMiddleware(interrupt_on={"confirm": True})
    return create_agent(model, [tools[0], lookup], middleware=[asks], name="agent")


@tool("confirm")
def lookup() -> str:
    """Look something up."""
    return "found"


def side_by_side(model: Any, tools: Sequence[BaseTool], *, is_async: bool) -> Any:
    """A node of tools that calls two tools at once, one of which asks a person; then the model."""
    calls: Any = [
        {"name": "open_ticket", "args": {"subject": "help"}, "id": "call_1"},
        {"name": "confirm", "args": {}, "id": "call_2"},
    ]

    def begin(state: MessagesState) -> Any:
        return {"messages": [AIMessage("", tool_calls=calls)]}

    def think(state: MessagesState) -> Any:
        return {"messages": [model.invoke([("user", state["messages"][-1].text)])]}

    builder = StateGraph(MessagesState).add_sequence([begin, ("tools", ToolNode(tools)), think])
    return builder.add_edge(START, "begin").compile(name="agent")


APPROVED = {"decisions": [{"type": "approve"}]}
STOPPED = {build.__name__: build for build in [*OTHERS, deep, with_approval, side_by_side]}


@pytest.mark.parametrize("kind", STOPPED)
def test_a_resume_calls_the_tools_that_it_calls_bare(
    engine: MusubitoEngine, server: ModelServer, kind: str, tmp_path: Path
) -> None:
    """A resume asks only the one question that is new; the same in another thread asks none."""

    def played(database: str, wrap: Callable[[Any], Any], saver: Any, thread: str) -> list[Any]:
        """What there is of tickets, and what was asked, when a person is asked, and at the end; and the last answer."""
        config: Any = {"configurable": {"thread_id": thread}}
        told: list[Any] = []
        for given in (
            question(f"{OPEN} Then confirm{{}}."),
            Command(resume=APPROVED if kind == "with_approval" else "yes"),
        ):
            # Each time it is built anew, as another process would.
            bare = STOPPED[kind](
                ChatOpenAI(model="gpt-test", max_retries=0), [opener(database), confirm], is_async=False
            )
            bare.checkpointer = saver
            state = wrap(bare).invoke(given, config)
            told += [tickets(database), server.took()]
        return [*told, state["messages"][-1].text]

    with SqliteSaver.from_conn_string(str(tmp_path / "threads.db")) as saver:
        stopped, asked, ended, _, answer = played(str(tmp_path / "bare.db"), lambda graph: graph, saver, "bare")
        database = str(tmp_path / "desk.db")
        assert played(database, musubito_graph, saver, "one") == [stopped, asked, ended, 1, answer]
        assert played(database, musubito_graph, saver, "two") == [stopped + ended, 0, 2 * ended, 0, answer]
