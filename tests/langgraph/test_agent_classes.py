"""Agents that are classes: their methods are the nodes, and the graph is one of their fields."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from musubito_langgraph import musubito_graph

pytestmark = pytest.mark.usefixtures("engine")
AGENT = """
from langchain_core.messages import AIMessage, AnyMessage, SystemMessage, ToolMessage
from langgraph.graph import END, MessagesState, StateGraph
from tests.langgraph.specimen import calls

class Agent:
    def __init__(self, checkpointer, system):
        self.system = system
        graph = StateGraph(MessagesState)
        graph.add_node("llm", self.call_model)
        graph.add_node("action", self.take_action)
        graph.add_conditional_edges("llm", self.has_action, {True: "action", False: END})
        graph.add_edge("action", "llm")
        graph.set_entry_point("llm")
        self.graph = graph.compile(checkpointer=checkpointer)

    def has_action(self, state):
        return len(state["messages"][-1].tool_calls) > 0

    def call_model(self, state):
        ran("llm")
        asked = [SystemMessage(self.system), *state["messages"]]
        done = isinstance(asked[-1], ToolMessage)
        return {"messages": [AIMessage(f"{self.system}: {asked[-1].text}") if done else calls(("look", {"q": "tea"}))]}

    def take_action(self, state):
        ran("action")
        each, = state["messages"][-1].tool_calls
        return {"messages": [ToolMessage(self.looked_up(each["args"]["q"]), tool_call_id=each["id"])]}

    def looked_up(self, q):
        return f"found {q}"

    def ask(self, question, thread):
        return self.graph.invoke({"messages": [("user", question)]}, {"configurable": {"thread_id": thread}})
"""


class Ran:
    """Notes what ran, and counts as nothing."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, name: str) -> None:
        self.names.append(name)

    def __musubito_identity__(self) -> str:
        return "what ran"


class World:
    """A module that is edited; `asked` returns the answer of an agent that it makes, and what ran."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "agent_class.py"
        self.threads = 0

    def asked(self, *edit: str, system: str = "Be brief", question: str = "tea?") -> tuple[str, list[str]]:
        module, ran = ModuleType("agent_class"), Ran()
        sys.modules["agent_class"] = module
        before, after = edit or ("", "")
        assert before in AGENT
        self.path.write_text(AGENT.replace(before, after, 1) if edit else AGENT)
        module.__file__, module.__dict__["ran"] = str(self.path), ran
        exec(compile(self.path.read_text(), str(self.path), "exec"), vars(module))
        agent = vars(module)["Agent"](InMemorySaver(), system)
        agent.graph = musubito_graph(agent.graph)
        self.threads += 1
        return agent.ask(question, str(self.threads))["messages"][-1].text, ran.names


@pytest.fixture
def world(tmp_path: Path) -> Any:
    yield World(tmp_path)
    sys.modules.pop("agent_class", None)


def test_an_agent_with_a_checkpointer_replays_in_another_thread(world: World) -> None:
    assert world.asked() == ("Be brief: found tea", ["llm", "action", "llm"])
    assert world.asked() == ("Be brief: found tea", [])


@pytest.mark.parametrize(
    ("edit", "answer", "ran"),
    [
        (('f"found {q}"', 'f"got {q}"'), "Be brief: got tea", ["action", "llm"]),
        (('f"found {q}"', '"found " + q'), "Be brief: found tea", ["action"]),
        (('f"{self.system}: {', 'f"{self.system}! {'), "Be brief! found tea", ["llm", "llm"]),
        (("tool_calls) > 0", "tool_calls) >= 1"), "Be brief: found tea", []),
        (("    def ask(", "    def more(self): return 1\n\n    def ask("), "Be brief: found tea", []),
    ],
    ids=["what a method calls", "another way to the same", "a node", "a router", "a method that no node calls"],
)
def test_an_edit_of_a_method_runs_what_calls_it(
    world: World, edit: tuple[str, str], answer: str, ran: list[str]
) -> None:
    world.asked()
    assert world.asked(*edit) == (answer, ran)


def test_a_field_counts_for_the_methods_that_read_it(world: World) -> None:
    world.asked()
    assert world.asked(system="Be kind") == ("Be kind: found tea", ["llm", "llm"])
