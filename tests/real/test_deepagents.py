"""An agent of deepagents: its middleware, its tools over a state of files, and a subagent."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from langchain_core.messages import BaseMessage

from musubito import MusubitoEngine, run
from musubito.code.tracker import CodeTracker
from musubito_langgraph import musubito_graph
from tests.real.model_server import ModelServer

ROOT = Path(__file__).parents[2]
PROGRAM = '''
"""A researcher with a tool and a helper."""
from deepagents import create_deep_agent
from langchain_openai import ChatOpenAI

SOURCE = "the library"


def search(query: str) -> str:
    """Search for something."""
    return f"{query} is in {SOURCE}"


def build():
    helper = {
        "name": "critic",
        "description": "Criticises a text.",
        "system_prompt": "You are severe.",
        "tools": [search],
    }
    return create_deep_agent(
        model=ChatOpenAI(model="gpt-4o-mini"),
        tools=[search],
        system_prompt="You are an expert.",
        subagents=[helper],
        name="deep",
    )


if __name__ == "__main__":
    import json
    import sys

    from musubito import run
    from musubito_langgraph import musubito_graph

    with run() as this:
        state = musubito_graph(build()).invoke({"messages": [("user", sys.argv[1])]})
    print(json.dumps([[m.text for m in state["messages"]], [c.operation for c in this.calls if c.outcome == "ran"]]))
'''
QUESTION = 'Please search{"query": "gold"} and ls{"path": "/"}.'
OF_THE_HELPER = 'Please task{"description": "Look at this.", "subagent_type": "critic"}.'


def loaded(text: str, path: Path) -> ModuleType:
    """The program as a module of the user's."""
    path.write_text(text)
    module = ModuleType("researcher")
    module.__file__ = str(path)
    exec(compile(text, str(path), "exec"), vars(module))
    return module


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Builds the agent of a program that was edited, as a new process would."""
    count = iter(range(100))

    def build(*edit: str) -> Any:
        program = loaded(PROGRAM.replace(*edit) if edit else PROGRAM, tmp_path / f"researcher{next(count)}.py")
        monkeypatch.setitem(sys.modules, "researcher", program)
        return program.build()

    return build


def texts(state: dict[str, Any]) -> list[str]:
    return [message.text for message in state["messages"]]


def comparable(value: Any) -> Any:
    """The same without what differs from run to run."""
    if isinstance(value, BaseMessage):
        calls = [(call["name"], call["args"]) for call in getattr(value, "tool_calls", ())]
        return type(value).__name__, value.content, calls, getattr(value, "name", None)
    if isinstance(value, dict):
        return {key: comparable(each) for key, each in value.items()}
    return [comparable(each) for each in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("question", [QUESTION, OF_THE_HELPER])
def test_it_answers_as_bare_and_asks_no_model_twice(
    engine: MusubitoEngine, server: ModelServer, build: Any, recwarn: pytest.WarningsRecorder, question: str
) -> None:
    given = {"messages": [("user", question)]}
    bare = build().invoke(given)
    asked = server.took()
    assert asked >= 3
    graph = musubito_graph(build())
    assert comparable(graph.invoke(given)) == comparable(bare)
    assert server.took() == asked
    assert comparable(graph.invoke(given)) == comparable(bare)
    assert comparable(asyncio.run(graph.ainvoke(given))) == comparable(bare)
    # A graph that is built for each request has the same code.
    assert comparable(musubito_graph(build()).invoke(given)) == comparable(bare)
    assert server.took() == 0
    assert not [each for each in recwarn if "no identity" in str(each.message)]


def test_it_streams_as_bare(engine: MusubitoEngine, server: ModelServer, build: Any) -> None:
    given = {"messages": [("user", QUESTION)]}

    def streamed(graph: Any) -> Any:
        # The metadata of messages name the graph that runs.
        parts = graph.stream(given, stream_mode=["values", "updates", "messages", "custom"])
        return comparable([(mode, each[0] if mode == "messages" else each) for mode, each in parts])

    assert streamed(musubito_graph(build())) == streamed(build())


@pytest.mark.parametrize(
    ("edit", "question", "is_asked", "ran"),
    [
        (('SOURCE = "the library"', 'SOURCE = "a book"'), QUESTION, 2, "tools.search"),
        (("You are an expert.", "You are a poet."), QUESTION, 3, None),
        (("You are severe.", "You are kind."), OF_THE_HELPER, 2, "tools.task"),
        (('"""Search for something."""', '"""Search for anything."""'), QUESTION, 3, None),
    ],
    ids=["a tool", "the prompt", "the helper's prompt", "what a tool says of itself"],
)
def test_it_runs_again_after_an_edit(
    engine: MusubitoEngine,
    server: ModelServer,
    build: Any,
    edit: tuple[str, str],
    question: str,
    is_asked: int,
    ran: str | None,
) -> None:
    given = {"messages": [("user", question)]}
    musubito_graph(build()).invoke(given)
    server.took()
    bare = build(*edit).invoke(given)
    server.took()
    with run() as this:
        assert texts(musubito_graph(build(*edit)).invoke(given)) == texts(bare)
    assert server.took() == is_asked
    assert ran is None or f"deep/{ran}" in [call.operation for call in this.calls if call.outcome == "ran"]
    assert texts(musubito_graph(build()).invoke(given)) != texts(bare) or ran is None
    server.took()
    musubito_graph(build(*edit)).invoke(given)
    assert server.took() == 0


def test_an_edit_of_a_tool_asks_only_what_follows_its_answer(
    engine: MusubitoEngine, server: ModelServer, tmp_path: Path
) -> None:
    text = PROGRAM.replace("def search", "@tool\ndef search").replace(
        "from langchain_openai", "from langchain_core.tools import tool\nfrom langchain_openai"
    )
    edited = text.replace('SOURCE = "the library"', 'SOURCE = "a book"')
    before, after = (
        loaded(each, tmp_path / f"decorated{number}.py").build() for number, each in enumerate((text, edited))
    )
    given = {"messages": [("user", QUESTION)]}
    musubito_graph(before).invoke(given)
    asked = server.took()
    bare = after.invoke(given)
    server.took()
    assert texts(musubito_graph(after).invoke(given)) == texts(bare)
    assert server.took() == asked - 1
    # The sub-agent has the tool, too, and runs it inside of the tool that calls the sub-agent.
    tasks = [graph.nodes["tools"].bound.tools_by_name["task"] for graph in (before, after)]
    one, other = (CodeTracker(task, module="decorated0").current().digest for task in tasks)
    assert one != other


GRADED = """
from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from deepagents.middleware.rubric import RubricMiddleware
from deepagents.middleware.skills import SkillsMiddleware
from deepagents.backends import StateBackend


@tool
def check(text: str) -> str:
    "Check a text."
    return "fine"


def build():
    model = ChatOpenAI(model="gpt-4o-mini")
    skills = SkillsMiddleware(backend=StateBackend(), sources=["/skills/"], tools=[check])
    return create_agent(model, [], middleware=[RubricMiddleware(model=model, tools=[check]), skills])
"""


@pytest.mark.filterwarnings("ignore:The middleware")
def test_a_tool_that_a_middleware_runs_itself_counts_for_its_node(server: ModelServer, tmp_path: Path) -> None:
    texts_of_both = (GRADED, GRADED.replace("fine", "bad"))
    graphs = [loaded(text, tmp_path / f"graded{number}.py").build() for number, text in enumerate(texts_of_both)]
    bound = (graph.nodes["RubricMiddleware.after_agent"].bound for graph in graphs)
    one, other = (CodeTracker(node, module="graded").current().digest for node in bound)
    assert one != other


DELEGATED = """
from deepagents.backends import StateBackend
from deepagents.middleware.subagents import SubAgentMiddleware
from langchain_openai import ChatOpenAI

def check(text: str) -> str:
    "Check a text."
    return "fine"

model = ChatOpenAI(model="gpt-4o-mini")
critic = {"name": "critic", "description": "Criticises.", "system_prompt": "", "model": model, "tools": [check]}
agents = SubAgentMiddleware(backend=StateBackend(), subagents=[critic])

class Eager(SubAgentMiddleware):
    def first(self):
        return self._subagents[0]

eager = Eager(backend=StateBackend(), subagents=[critic])

def build():
    def node(state):
        return {"messages": [READ["tools"][0]("x")]}
    return node
"""


@pytest.mark.parametrize(
    "read",
    [
        "agents._subagents[0]",
        "vars(agents)['_subagents'][0]",
        "getattr(agents, '_sub' + 'agents')[0]",
        "agents.__dict__['_subagents'][0]",
        "agents.wrap_model_call.__self__._subagents[0]",
        "eager.first()",
    ],
)
def test_what_code_reads_of_a_middleware_counts(server: ModelServer, tmp_path: Path, read: str) -> None:
    text = DELEGATED.replace("READ", read)
    nodes = [
        loaded(each, tmp_path / f"delegated{number}.py").build()
        for number, each in enumerate((text, text.replace("fine", "bad")))
    ]
    one, other = (CodeTracker(node, module="delegated").current().digest for node in nodes)
    assert one != other


def test_another_process_asks_no_model(server: ModelServer, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {
        **os.environ,
        **server.environment,
        "MUSUBITO_URL": f"sqlite:///{tmp_path}/m.db",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *sys.path]),
    }

    def play() -> Any:
        made = subprocess.run(
            [sys.executable, str(program), QUESTION], env=environment, capture_output=True, text=True, check=True
        )
        assert "MusubitoWarning" not in made.stderr
        return json.loads(made.stdout)

    first, ran = play()
    assert server.took() == 3
    assert "deep/model" in ran
    again, ran = play()
    assert (again, server.took()) == (first, 0)
    assert {"/".join(name.split("/")[:2]).partition(".")[0] for name in ran} == {"deep/tools"}
