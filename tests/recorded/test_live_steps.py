"""A test says which of its steps run in a replay; all others are answered by the cassette, whatever their policy says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recorded.conftest import Run, edit, last_line, runs

pytest_plugins = ["pytester"]

PARSING = """

@musubito_step
def parse(text: str) -> str:
    ran()
    return text.strip()


@musubito_step
def answer(text: str) -> str:
    return ask(parse(text).value).value
"""
AGENT = """
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool

from musubito_langgraph import musubito_graph


def ran(what):
    with Path("ran.txt").open("a") as file:
        file.write(what)


class Model(BaseChatModel):
    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        ran("m")
        last = messages[-1]
        if isinstance(last, ToolMessage):
            answer = AIMessage(f"I was told: {last.content}")
        else:
            answer = AIMessage("", tool_calls=[{"name": last.content, "args": {"order": "17"}, "id": "call_1"}])
        return ChatResult(generations=[ChatGeneration(message=answer)])


@tool
def look_up(order: str) -> str:
    "Look up an order."
    ran("l")
    return f"{order} is on its way"


@tool
def refund(order: str) -> str:
    "Refund an order."
    ran("r")
    return f"{order} was refunded"


def said(text):
    agent = musubito_graph(create_agent(Model(), [look_up, refund], name="support"))
    return agent.invoke({"messages": [("user", text)]})["messages"][-1].content
"""
AGENT_TESTS = """
import pytest
from support import said


@pytest.mark.musubito(LIVE)
def test_look_up():
    assert said("look_up").startswith("I was told: 17")


@pytest.mark.musubito
def test_refund():
    assert said("refund").startswith("I was told: 17")
"""


def ran(project: Path) -> str:
    file = project / "ran.txt"
    text = file.read_text() if file.exists() else ""
    file.unlink(missing_ok=True)
    return text


@pytest.fixture
def parsing(project: Path) -> Path:
    with (project / "answers.py").open("a") as file:
        file.write(PARSING)
    test = project / "tests" / "test_it.py"
    edit(test, "import ask", "import answer")
    edit(test, 'ask("why?")', 'answer(" why? ")')
    edit(test, "mark.musubito", "mark.musubito(live=('answers.parse',))")
    return project


@pytest.fixture
def agent(project: Path) -> Path:
    (project / "support.py").write_text(AGENT)
    (project / "tests" / "test_it.py").write_text(AGENT_TESTS.replace("LIVE", ""))
    return project


def test_a_named_step_and_what_is_around_it_run(parsing: Path, play: Run) -> None:
    play("--musubito=record").assert_outcomes(passed=1)
    assert runs(parsing) == 2
    for before, after in (("text.strip()", "text.strip()"), ("text.strip()", "text.strip(' ')")):
        edit(parsing / "answers.py", before, after)
        result = play("--musubito=replay")
        result.assert_outcomes(passed=1)
        assert last_line(result).startswith("musubito: 1 replayed, 2 ran")
        assert runs(parsing) == 1


def test_what_a_named_step_gives_otherwise_is_not_answered(parsing: Path, play: Run) -> None:
    play("--musubito=record")
    edit(parsing / "answers.py", "text.strip()", "text.strip(' ?')")
    result = play("--musubito=replay")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*answers.ask was not replayed: its input changed: *"])


def test_a_name_of_no_step_is_told(parsing: Path, play: Run) -> None:
    play("--musubito=record")
    edit(parsing / "tests" / "test_it.py", "answers.parse", "answers.pares")
    result = play("--musubito=replay")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*live='answers.pares' names no recorded step; there are answers.answer, *"])


def test_an_edited_tool_fails_the_tests_that_used_it(agent: Path, play: Run) -> None:
    play("--musubito=record").assert_outcomes(passed=2)
    assert ran(agent) == "mlmmrm"
    edit(agent / "support.py", 'f"{order} is on its way"', 'order + " is on its way"')
    result = play("--musubito=replay")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*support/tools.look_up was not replayed: its code changed: *"])
    assert ran(agent) == ""


def test_a_named_tool_runs_and_the_models_replay(agent: Path, play: Run) -> None:
    edit(agent / "tests" / "test_it.py", "musubito()", 'musubito(live="tools.*")')
    play("--musubito=record").assert_outcomes(passed=2)
    assert ran(agent) == "mlmmrm"
    edit(agent / "support.py", 'f"{order} is on its way"', 'order + " is on its way"')
    play("--musubito=replay").assert_outcomes(passed=2)
    assert ran(agent) == "l"
    edit(agent / "support.py", "is on its way", "is late")
    result = play("--musubito=replay")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*support/model*not replayed: its input changed: *"])
    assert ran(agent) == "l"


@pytest.mark.parametrize("policy", ["ttl_seconds=0", "force_reexecution=True", 'step_type="live"', "ttl_seconds=60"])
def test_no_policy_keeps_a_step_from_being_replayed(project: Path, play: Run, policy: str) -> None:
    edit(project / "answers.py", 'ignore_files=("ran.txt",)', f'ignore_files=("ran.txt",), {policy}')
    edit(project / "tests" / "test_it.py", "    assert", "    ask('why?')\n    assert")
    play("--musubito=record").assert_outcomes(passed=1)
    assert runs(project) > 0
    for mode in ("replay", "record", "replay"):
        play(f"--musubito={mode}").assert_outcomes(passed=1)
        assert runs(project) == 0, mode
