"""Agents with each of LangChain's middlewares, on real clients: bare equals wrapped, and nothing is asked twice."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    ClearToolUsesEdit,
    ContextEditingMiddleware,
    FilesystemFileSearchMiddleware,
    HumanInTheLoopMiddleware,
    LLMToolEmulator,
    LLMToolSelectorMiddleware,
    ModelCallLimitMiddleware,
    ModelFallbackMiddleware,
    ModelRetryMiddleware,
    PIIMiddleware,
    SummarizationMiddleware,
    TodoListMiddleware,
    ToolCallLimitMiddleware,
    ToolErrorMiddleware,
    ToolRetryMiddleware,
)
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import BaseMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from musubito import MusubitoEngine
from musubito_langgraph import musubito_graph
from tests.real.model_server import ModelServer

ROOT = Path(__file__).parents[2]
MODES = ("values", "updates", "messages", "custom", "tasks", "debug")
ASKED = 'Please add{"a": 1, "b": 2} and double{"a": 3} for bob@example.org.'
QUESTIONS = {
    "todo list": ASKED + ' Then write_todos{"todos": []}.',
    "file search": 'What is there? glob_search{"pattern": "*.py"}',
}


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool("add")
def add_edited(a: int, b: int) -> int:
    """Add two numbers."""
    return b + a


@tool("add")
def add_otherwise(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b + 1


@tool
def double(a: int) -> int:
    """Double a number."""
    return 2 * a


@tool("double")
def double_failing(a: int) -> int:
    """Double a number."""
    raise ValueError("no")


def openai() -> Any:
    return ChatOpenAI(model="gpt-test", max_retries=0)


def anthropic() -> Any:
    return ChatAnthropic(model="claude-test", max_retries=0)


MIDDLEWARES: dict[str, Callable[[], Sequence[AgentMiddleware[Any, Any]]]] = {
    "none": list,
    "summarization": lambda: [
        SummarizationMiddleware(openai(), trigger=("messages", 4), keep=("messages", 2)),
    ],
    "summarization by tokens": lambda: [
        SummarizationMiddleware(openai(), trigger=("tokens", 60), keep=("messages", 2)),
    ],
    "pii": lambda: [PIIMiddleware("email", strategy="redact", apply_to_output=True, apply_to_tool_results=True)],
    "todo list": lambda: [TodoListMiddleware()],
    "model call limit": lambda: [ModelCallLimitMiddleware(run_limit=2)],
    "tool call limit": lambda: [ToolCallLimitMiddleware(run_limit=1)],
    "fallback": lambda: [ModelFallbackMiddleware(anthropic())],
    "model retry": lambda: [ModelRetryMiddleware(max_retries=1, initial_delay=0.0, jitter=False)],
    "tool retry": lambda: [ToolRetryMiddleware(max_retries=1, initial_delay=0.0, jitter=False)],
    "tool error": lambda: [ToolErrorMiddleware(lambda error, _request: f"failed: {error}")],
    "context editing": lambda: [
        ContextEditingMiddleware(edits=[ClearToolUsesEdit(trigger=20, keep=1, clear_at_least=0)])
    ],
    "tool selector": lambda: [LLMToolSelectorMiddleware(model=openai(), max_tools=2)],
    "tool emulator": lambda: [LLMToolEmulator(tools=["double"], model=openai())],
    "human in the loop": lambda: [HumanInTheLoopMiddleware(interrupt_on={"secret": True})],
    "file search": lambda: [FilesystemFileSearchMiddleware(root_path=str(ROOT / "bench"), use_ripgrep=False)],
    "many": lambda: [
        TodoListMiddleware(),
        PIIMiddleware("email", strategy="mask"),
        ModelCallLimitMiddleware(run_limit=9),
        ContextEditingMiddleware(),
        ModelRetryMiddleware(max_retries=1, initial_delay=0.0, jitter=False),
    ],
}
CLIENTS = {"openai": openai, "anthropic": anthropic}


def agent(name: str, client: str = "openai", tools: Sequence[Any] = (add, double), prompt: str = "You add.") -> Any:
    return create_agent(
        CLIENTS[client](), list(tools), system_prompt=prompt, middleware=list(MIDDLEWARES[name]()), name="agent"
    )


def question(name: str) -> dict[str, Any]:
    return {"messages": [("user", QUESTIONS.get(name, ASKED))]}


def plain(value: Any) -> Any:
    """What was said and done, without ids, times and what servers report of their answers."""
    if isinstance(value, BaseMessage):
        calls = [[call["name"], call["args"]] for call in getattr(value, "tool_calls", ())]
        return [value.type, value.text, calls, value.name, getattr(value, "status", "")]
    if isinstance(value, dict):
        left_out = {"id", "task_id", "timestamp", "triggers", "thread_id", "lc_versions", "tool_call_id"}
        return {str(key): plain(each) for key, each in value.items() if plainly(key) and key not in left_out}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, set):
        return sorted(plain(each) for each in value)
    if isinstance(value, str | int | float | None):
        return re.sub("[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{32}", "<id>", value) if isinstance(value, str) else value
    return plain(vars(value)) if hasattr(value, "__dict__") else plain(repr(value))


def plainly(key: Any) -> bool:
    return not str(key).startswith(("checkpoint", "langgraph_checkpoint", "ls_", "parent"))


def seen(graph: Any, name: str) -> dict[str, Any]:
    """All that a user sees of a run, in every stream mode."""
    events = list(graph.stream(question(name), stream_mode=list(MODES), version="v1"))
    return {mode: [plain(event) for which, event in events if which == mode] for mode in MODES}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("name", MIDDLEWARES)
def test_a_wrapped_agent_is_as_the_bare_one_and_asks_nothing_twice(
    engine: MusubitoEngine, server: ModelServer, name: str, client: str
) -> None:
    bare = seen(agent(name, client), name)
    asked = server.took()
    wrapped = musubito_graph(agent(name, client))

    assert seen(wrapped, name) == bare
    assert server.took() == asked > 0
    again = seen(wrapped, name)
    assert server.took() == 0
    assert {**again, "messages": 0} == {**bare, "messages": 0}
    assert said(again["messages"]) == said(bare["messages"])

    asyncio.run(wrapped.ainvoke(question(name)))
    assert server.took() == 0


def said(events: Sequence[Any]) -> list[Any]:
    """The text of each message that was streamed, by the node that it comes from."""
    return [[message, metadata["langgraph_node"]] for message, metadata in events]


PROGRAM = """
import json, sys
from tests.real.test_middleware import agent, plain, question
from musubito_langgraph import musubito_graph

for name in sys.argv[1:]:
    print(json.dumps(plain(musubito_graph(agent(name)).invoke(question(name)))))
"""


def test_another_process_asks_nothing(server: ModelServer, tmp_path: Path) -> None:
    environment = {**os.environ, "MUSUBITO_URL": f"sqlite:///{tmp_path / 'm.db'}", "PYTHONPATH": str(ROOT)}

    def process(seed: int) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", PROGRAM, *MIDDLEWARES],
            env={**environment, "PYTHONHASHSEED": str(seed)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = process(1)
    assert server.took() > 0
    assert process(2) == first
    assert [each.turns[0] for each in server.questions] == []


@pytest.mark.parametrize("name", MIDDLEWARES)
def test_an_edit_runs_what_it_concerns(engine: MusubitoEngine, server: ModelServer, name: str) -> None:
    def asked(*args: Any) -> int:
        musubito_graph(agent(name, "openai", *args)).invoke(question(name))
        return server.took()

    everything = asked()
    assert asked([add_edited, double]) == 0
    assert asked([add_otherwise, double]) < everything
    assert asked([add, double]) == 0
    assert asked([add, double], "You add well.") > 0


def test_a_failure_of_a_model_is_made_up_for_and_its_answer_replayed(
    engine: MusubitoEngine, server: ModelServer
) -> None:
    for name, status in (("fallback", 500), ("model retry", 500)):
        server.failing.append(status)
        first = musubito_graph(agent(name)).invoke(question(name))
        assert server.took() > 3
        assert plain(musubito_graph(agent(name)).invoke(question(name))) == plain(first)
        assert server.took() == 0


def test_a_tool_that_fails_is_tried_again(engine: MusubitoEngine, server: ModelServer) -> None:
    for name in ("tool retry", "tool error"):
        bare = plain(agent(name, tools=[add, double_failing]).invoke(question(name)))
        graph = musubito_graph(agent(name, tools=[add, double_failing]))
        server.took()
        assert plain(graph.invoke(question(name))) == bare
        server.took()
        assert plain(graph.invoke(question(name))) == bare
        assert server.took() == 0
