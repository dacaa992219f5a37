"""The pytest plugin records the answers of a real client of a model, and replays them where nothing can be reached."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.real.model_server import model_server
from tests.recorded.conftest import SETTINGS, edit, no_sockets

__all__ = ["no_sockets"]

pytest_plugins = ["pytester"]

PROJECT = """
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph

from musubito_langgraph import musubito_graph

SYSTEM = "You answer briefly."
model = ChatOpenAI(model="gpt-4o-mini", api_key="sk-proj-Zk3vN8qLx2Tf6Rw1Yb9Hd4", max_retries=0)


def ask(state: MessagesState):
    return {"messages": [model.invoke([("system", SYSTEM), *state["messages"]])]}


graph = musubito_graph(StateGraph(MessagesState).add_node(ask).add_edge(START, "ask").compile(name="chat"))
"""
TEST = """
import pytest
from chat import graph


@pytest.mark.musubito
def test_chat():
    for question in ("hello", "and now?"):
        answer = graph.invoke({"messages": [("user", question)]})["messages"][-1]
        assert "gpt-4o-mini" in answer.content
        assert answer.usage_metadata["output_tokens"] > 0
"""


TEST_OF_DESK = """
import sqlite3
from contextlib import closing

import pytest
from langchain_core.tools import tool

from musubito_langgraph import musubito_graph
from tests.real.test_agents_that_write import AGENTS, ASKED, built, question


def database():
    return closing(sqlite3.connect("file:DATABASE?mode=rw", uri=True))


@tool
def open_ticket(subject: str) -> str:
    "Open a ticket."
    with database() as db, db:
        db.execute("INSERT INTO tickets VALUES (?)", (subject,))
    return "ticket opened"


@tool
def count_tickets() -> str:
    "Count the tickets."
    with database() as db:
        return f"{db.execute('SELECT count(*) FROM tickets').fetchone()[0]} open"


@pytest.mark.musubito
@pytest.mark.parametrize("kind", [kind for kind in AGENTS if kind not in ASKED])
def test_desk(kind):
    agent = musubito_graph(built(kind, open_ticket, count_tickets))
    questions = 'open_ticket{"subject": "help"}', "count_tickets{}", 'open_ticket{"subject": "help"}', "count_tickets{}"
    told = [agent.invoke(question(each))["messages"][2].text for each in questions]
    before = int(told[1].split()[0])
    assert told == ["ticket opened", f"{before} open", "ticket opened", f"{before + 1} open"]
"""


def play(pytester: pytest.Pytester, mode: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "musubito_pytest", "-p", "no:cacheprovider", f"--musubito={mode}")


def test_a_chat_is_replayed_without_a_server_and_without_a_key(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    pytester.makepyfile(chat=PROJECT, test_chat=TEST)
    (pytester.path / "pytest.ini").write_text(SETTINGS)
    with model_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        play(pytester, "record").assert_outcomes(passed=1)
        assert len(server.questions) == 2
    written = (pytester.path / "__musubito__" / "test_chat" / "test_chat.md").read_text()
    assert "sk-proj" not in written
    request.getfixturevalue("no_sockets")
    edit(pytester.path / "chat.py", "sk-proj-Zk3vN8qLx2Tf6Rw1Yb9Hd4", "none")
    result = play(pytester, "replay")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["musubito: 2 replayed, 0 ran, *saved"])
    edit(pytester.path / "chat.py", "briefly", "at length")
    result = play(pytester, "replay")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["  +You answer at length."])
    assert Path(pytester.path / "__musubito__" / "test_chat" / "test_chat.md").read_text() == written


def test_agents_that_read_and_write_are_replayed_without_their_database(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """They write, read, and do both again: equal calls are answered in their order."""
    database = pytester.path / "desk.db"
    pytester.makepyfile(test_desk=TEST_OF_DESK.replace("DATABASE", str(database)))
    (pytester.path / "pytest.ini").write_text(SETTINGS)
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("CREATE TABLE tickets (subject TEXT)")
    with model_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        recorded = play(pytester, "record")
        recorded.assert_outcomes(passed=5)
        recorded.stdout.no_fnmatch_line("*cannot be replayed*")
        assert server.took() > 0
    database.unlink()
    request.getfixturevalue("no_sockets")
    result = play(pytester, "replay")
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["musubito: * replayed, 0 ran, *saved"])
    assert not database.exists()
