"""Packages that nodes, tools and Runnables name: a rebuilt helper runs them again, unless their policy ignores it."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from musubito import MusubitoEngine, StepConfiguration, run
from musubito.code.walk import Walk
from musubito_langgraph import musubito_graph, musubito_runnable

Install = Callable[[str], Any]


class State(TypedDict, total=False):
    question: str
    answer: str


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package that was built from a folder, and imports it as a new process would."""
    site = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(str(site))

    def install(answer: str) -> Any:
        info = site / "graph_helper-1.0.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (site / "graph_helper.py").write_text(f"def answer(q):\n    return {answer!r}\n")
        (info / "METADATA").write_text("Name: graph-helper\nVersion: 1.0\n\n")
        (info / "INSTALLER").write_text("pip\n")
        (info / "direct_url.json").write_text('{"dir_info": {}, "url": "file:///build/helper"}')
        (info / "RECORD").write_text(f"graph_helper.py,sha256={answer},1\n")
        sys.modules.pop("graph_helper", None)
        importlib.invalidate_caches()
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        return importlib.import_module("graph_helper")

    yield install
    sys.modules.pop("graph_helper", None)


@pytest.mark.parametrize("ignored", [False, True])
def test_a_node_runs_again_if_a_helper_was_rebuilt(
    engine: MusubitoEngine, install: Install, ask: Any, ignored: bool
) -> None:
    steps = {"think": StepConfiguration(packages="ignore")} if ignored else {}
    ran: list[str] = []

    def build(helper: Any) -> Any:
        def think(state: State) -> State:
            return {"answer": helper.answer(state["question"])}

        def note(state: State) -> State:
            _ = [state]  # so all of it counts
            return {"question": "noted"}

        graph = StateGraph(State).add_node("think", think).add_node("note", note)
        graph.add_edge(START, "think").add_edge("think", "note").add_edge("note", END)
        return musubito_graph(graph.compile(name="helped"), engine=engine, steps=steps)

    def answer(helper: Any) -> str:
        with run("asked") as record:
            found = ask(build(helper), {"question": "q"})["answer"]
        ran[:] = [call.operation.rpartition("/")[2] for call in record.calls if call.outcome == "ran"]
        return found

    assert (answer(install("one")), ran) == ("one", ["think", "note"])
    assert (answer(install("one")), ran) == ("one", [])
    # What comes after it is given another answer, or the same.
    assert (answer(install("two")), ran) == (("one", []) if ignored else ("two", ["think", "note"]))


def test_a_tool_and_a_runnable_run_again_likewise(engine: MusubitoEngine, install: Install) -> None:
    ran: list[str] = []

    def tools(helper: Any) -> Any:
        @tool
        def look(q: str) -> str:
            """Look it up."""
            ran.append("look")
            return helper.answer(q)

        graph = StateGraph(MessagesState).add_node("tools", ToolNode([look]))
        graph.add_edge(START, "tools").add_edge("tools", END)
        return musubito_graph(graph.compile(name="tooled"), engine=engine, replay_tools=True)

    def runnable(helper: Any) -> Any:
        def look(q: str) -> str:
            ran.append("runnable")
            return helper.answer(q)

        return musubito_runnable(RunnableLambda(look), engine=engine)

    asked = AIMessage("", tool_calls=[{"name": "look", "args": {"q": "q"}, "id": "1"}])
    for text, expected in (("one", ["look", "runnable"]), ("one", []), ("two", ["look", "runnable"])):
        helper = install(text)
        ran.clear()
        assert tools(helper).invoke({"messages": [asked]})["messages"][-1].content == text
        assert runnable(helper).invoke("q") == text
        assert ran == expected


RELEASED = """
def made_with(function):
    def node(state):
        return {{"answer": {answer!r} + function(state["question"])}}
    return node
"""


@pytest.mark.parametrize("name", ["graph_release", "langgraph_swarm", "langchain_extra", "pydantic_ai", "musubito_x"])
def test_a_node_of_a_released_package_counts_by_its_version_and_contents(
    engine: MusubitoEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    site, ran = tmp_path / "site-packages", list[str]()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def plain(text: str) -> str:
        return text

    def loud(text: str) -> str:
        return text.upper()

    def answer(version: str, text: str, function: Callable[[str], str]) -> str:
        info = site / f"{name}-{version}.dist-info"
        shutil.rmtree(site, ignore_errors=True)
        info.mkdir(parents=True)
        (site / f"{name}.py").write_text(RELEASED.format(answer=text))
        (info / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n\n")
        (info / "INSTALLER").write_text("pip\n")
        (info / "RECORD").write_text(f"{name}.py,sha256={text},1\n")
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        package = importlib.import_module(name)
        graph = StateGraph(State).add_node("think", package.made_with(function)).add_edge(START, "think")
        with run("asked") as record:
            found = musubito_graph(graph.compile(name="released"), engine=engine).invoke({"question": "q"})["answer"]
        ran[:] = [call.outcome for call in record.calls]
        return str(found)

    assert (answer("1.0", "one", plain), ran) == ("oneq", ["ran"])
    assert (answer("1.0", "one", plain), ran) == ("oneq", ["replayed"])
    assert (answer("1.0", "one", loud), ran) == ("oneQ", ["ran"])
    assert (answer("1.1", "two", plain), ran) == ("twoq", ["ran"])
    assert (answer("1.1", "three", plain), ran) == ("threeq", ["ran"])
    monkeypatch.delitem(sys.modules, name, raising=False)


PATCHED = """
COUNT = 0

class Teller:
    def __call__(self, state):
        return node(state)

class Voice:
    def tell(self, text):
        return text

def helper(text):
    return text

def node(state):
    global COUNT
    COUNT += 1
    return {"answer": Voice().tell(helper(state["question"]))}
"""


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of a package that an index released."""
    info = tmp_path / "site-packages" / "graph_patched-1.0.dist-info"
    info.mkdir(parents=True)
    (info.parent / "graph_patched.py").write_text(PATCHED)
    (info / "METADATA").write_text("Name: graph-patched\nVersion: 1.0\n\n")
    (info / "INSTALLER").write_text("pip\n")
    (info / "RECORD").write_text("graph_patched.py,sha256=x,1\n")
    monkeypatch.syspath_prepend(str(info.parent))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield importlib.import_module("graph_patched")
    sys.modules.pop("graph_patched", None)


def test_a_released_module_that_changes_at_each_call_is_not_described_again(
    engine: MusubitoEngine, released: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = StateGraph(State).add_node("think", released.node).add_edge(START, "think").compile(name="patched")
    graph, rounds = musubito_graph(bare, engine=engine), list[Any]()
    graph.invoke({"question": "q"})
    monkeypatch.setattr(Walk, "run", lambda walk, run=Walk.run: (rounds.append(walk), run(walk))[1])
    for number in range(3):
        graph.invoke({"question": str(number)})
    assert released.COUNT == 4
    assert rounds == []


AT_HOME = """
from dataclasses import dataclass

@dataclass
class Thing:
    n: int
    def shown(self):
        return {!r}

def node(state):
    return {{"answer": state["question"].shown()}}
"""


def test_objects_of_a_step_s_own_package_count_by_their_code_wherever_it_lies(
    engine: MusubitoEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def asked(answer: str) -> tuple[str, int]:
        (site / "graph_at_home.py").write_text(AT_HOME.format(answer))
        monkeypatch.delitem(sys.modules, "graph_at_home", raising=False)
        importlib.invalidate_caches()
        home: Any = importlib.import_module("graph_at_home")
        graph = StateGraph(State).add_node("think", home.node).add_edge(START, "think").compile(name="at home")
        with run("asked") as record:
            found = musubito_graph(graph, engine=engine).invoke({"question": home.Thing(1)})["answer"]
        return found, sum(call.outcome == "ran" for call in record.calls)

    assert [asked(answer) for answer in ("one", "one", "two")] == [("one", 1), ("one", 0), ("two", 1)]
