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


DESK = """
import sqlite3
from contextlib import closing

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI

from musubito_langgraph import musubito_graph


def database():
    return closing(sqlite3.connect("file:DATABASE?mode=rw", uri=True))


def open_ticket(subject: str) -> str:
    "Open a ticket."
    with database() as db, db:
        db.execute("INSERT INTO tickets VALUES (?)", (subject,))
    return "ticket opened"


def count_tickets() -> str:
    "Count the tickets."
    with database() as db:
        return f"{db.execute('SELECT count(*) FROM tickets').fetchone()[0]} open"


agent = musubito_graph(create_agent(ChatOpenAI(model="gpt-4o-mini", max_retries=0), [open_ticket, count_tickets]))
"""
TEST_OF_DESK = """
import pytest
from desk import agent


@pytest.mark.musubito
def test_desk():
    asked = "count_tickets{}", 'open_ticket{"subject": "help"}', "count_tickets{}"
    told = [agent.invoke({"messages": [("user", each)]})["messages"][2].text for each in asked]
    assert told == ["0 open", "ticket opened", "1 open"]
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
    written = (pytester.path / "__musubito__" / "test_chat" / "test_chat.json").read_text()
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
    assert Path(pytester.path / "__musubito__" / "test_chat" / "test_chat.json").read_text() == written


def test_an_agent_that_reads_and_writes_is_replayed_without_its_database(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """It asks, writes, and asks again."""
    database = pytester.path / "desk.db"
    pytester.makepyfile(desk=DESK.replace("DATABASE", str(database)), test_desk=TEST_OF_DESK)
    (pytester.path / "pytest.ini").write_text(SETTINGS)
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("CREATE TABLE tickets (subject TEXT)")
    with model_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        recorded = play(pytester, "record")
        recorded.assert_outcomes(passed=1)
        recorded.stdout.no_fnmatch_line("*cannot be replayed*")
        assert len(server.questions) == 5  # the first question comes twice
    database.unlink()
    request.getfixturevalue("no_sockets")
    result = play(pytester, "replay")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["musubito: * replayed, 0 ran, *saved"])
    assert not database.exists()
