"""The pytest plugin records a graph's nodes and tools, and replays them without a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recorded.conftest import edit, held

pytest_plugins = ["pytester"]

AGENT = '''
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from musubito_langgraph import musubito_graph

SYSTEM = "You look words up."


@tool
def look_up(word: str) -> str:
    """Look a word up."""
    print("the tool runs")
    return f"{word} is a word"


class Model(GenericFakeChatModel):
    def _generate(self, messages, *args, **kwargs):
        print("the model is asked")
        usage = {"input_tokens": 100, "output_tokens": 7, "total_tokens": 107}
        if messages[-1].type == "tool":
            answer = AIMessage(messages[-1].content.upper(), usage_metadata=usage)
        else:
            call = {"name": "look_up", "args": {"word": "knot"}, "id": "call-1"}
            answer = AIMessage("", tool_calls=[call], usage_metadata=usage)
        self.messages = iter([answer])
        return super()._generate(messages, *args, **kwargs)


model = Model(messages=iter([]))


def ask(state: MessagesState):
    return {"messages": [model.invoke([("system", SYSTEM), *state["messages"]])]}


builder = StateGraph(MessagesState).add_node(ask).add_node("tools", ToolNode([look_up]))
builder.add_edge(START, "ask").add_conditional_edges("ask", tools_condition).add_edge("tools", "ask")
graph = musubito_graph(builder.compile(name="agent"))
'''
TEST = """
import pytest
from agent import graph

pytestmark = pytest.mark.musubito
INPUT = {"messages": [("user", "what is a knot?")]}


def test_sync():
    assert graph.invoke(INPUT)["messages"][-1].content == "KNOT IS A WORD"


async def test_async():
    assert (await graph.ainvoke(INPUT))["messages"][-1].content == "KNOT IS A WORD"


def test_streamed():
    assert [list(chunk) for chunk in graph.stream(INPUT, stream_mode="updates")] == [["ask"], ["tools"], ["ask"]]
"""


NO_SOCKETS = """
import socket


def refuse(*args):
    raise AssertionError("a test opened a connection")


socket.socket.connect = socket.socket.connect_ex = refuse
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    pytester.makepyfile(agent=AGENT, test_agent=TEST, conftest=NO_SOCKETS)
    settings = "[pytest]\npythonpath = .\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    (pytester.path / "pytest.ini").write_text(settings)
    return pytester.path


def play(pytester: pytest.Pytester, mode: str) -> pytest.RunResult:
    # In a process of its own, as people run it: in this one, other tests have imported and changed what is recorded.
    return pytester.runpytest_subprocess("-p", "musubito_pytest", "-p", "no:cacheprovider", f"--musubito={mode}", "-rP")


def test_a_graph_is_replayed_without_its_model(pytester: pytest.Pytester, project: Path) -> None:
    recorded = play(pytester, "record")
    recorded.assert_outcomes(passed=3)
    assert recorded.outlines.count("the model is asked") == 6
    replayed = play(pytester, "replay")
    replayed.assert_outcomes(passed=3)
    assert not {"the model is asked", "the tool runs"} & set(replayed.outlines)
    replayed.stdout.fnmatch_lines(["musubito: 9 replayed, 0 ran, 642 tokens *saved"])
    verified = play(pytester, "verify")
    verified.assert_outcomes(passed=3)
    verified.stdout.no_fnmatch_line("*without a recorded answer*")
    folder = project / "__musubito__" / "test_agent"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    play(pytester, "refresh").assert_outcomes(passed=3)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    results = held(folder / "test_sync.md")["results"]
    assert {result["operation"] for result in results} >= {"agent/ask", "agent/tools", "agent/tools.look_up"}
    answers = [result for result in results if result["operation"] == "agent/ask"]
    assert {result["output"]["messages"][0]["content"] for result in answers} == {"", "KNOT IS A WORD"}


def test_an_edit_fails_and_names_the_node_and_what_changed(pytester: pytest.Pytester, project: Path) -> None:
    play(pytester, "record")
    edit(project / "agent.py", "look words up", "look all words up")
    result = play(pytester, "replay")
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        ["agent/ask was not replayed: its code changed: `agent.SYSTEM`; *", "  +You look all words up."]
    )
    edit(project / "agent.py", "look all words up", "look words up")
    edit(project / "test_agent.py", "a knot?", "a bow?")
    result = play(pytester, "replay")
    result.stdout.fnmatch_lines(['  $.input.messages[[]0].content: "what is a knot?" → "what is a bow?"'])
