"""Files that nodes, tools and routers read are dependencies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import blockbuster
import polars as pl
import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.runtime import Runtime

from musubito import musubito_step
from musubito_langgraph import musubito_graph
from tests.langgraph.specimen import Ran

pytestmark = pytest.mark.usefixtures("engine")


class State(TypedDict, total=False):
    q: str
    a: str


@pytest.fixture
def prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "prompt.txt"


def graph_of(node: Callable[..., Any]) -> Any:
    builder = StateGraph(State)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return musubito_graph(builder.compile(name="g"))


def test_a_node(ran: Ran, prompt: Path, ask: Callable[..., Any]) -> None:
    def node(state: State) -> State:
        ran("node")
        return {"a": Path("prompt.txt").read_text()}

    graph = graph_of(node)
    for text, count in (("1", 1), ("2", 2), ("1", 2)):
        prompt.write_text(text)
        for _ in range(2):
            assert ask(graph, {"q": "?"})["a"] == text
        assert ran.counts["node"] == count


@pytest.mark.parametrize("given", [{"config": {"configurable": {"path": "t.csv"}}}, {"context": {"path": "t.csv"}}])
def test_a_path_around_a_node_that_compiled_code_opens(ran: Ran, prompt: Path, given: dict[str, Any]) -> None:
    def node(state: State, config: RunnableConfig, runtime: Runtime[dict[str, str]]) -> State:
        ran("node")
        path = runtime.context["path"] if runtime.context else config["configurable"]["path"]
        return {"a": str(pl.read_csv(path)["a"].sum())}

    builder = StateGraph(State, context_schema=dict)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    graph = musubito_graph(builder.compile(name="g"))
    for number, count in ((1, 1), (2, 2), (1, 2)):
        prompt.with_name("t.csv").write_text(f"a\n{number}\n")
        for _ in range(2):
            assert graph.invoke({"q": "?"}, **given)["a"] == str(number)
        assert ran.counts["node"] == count


def test_a_loop_that_is_watched_is_not_blocked(ran: Ran, prompt: Path) -> None:
    @musubito_step(name="step")
    async def step(x: int) -> str:
        ran("step")
        return await asyncio.to_thread(Path("prompt.txt").read_text)

    async def node(state: State) -> State:
        ran("node")
        return {"a": (await step(0)).value}

    async def ask() -> str:
        return str((await graph.ainvoke({"q": "?"}))["a"])

    graph = graph_of(node)
    for text, count in (("1", 1), ("2", 2)):
        prompt.write_text(text)
        for _ in range(2):
            with blockbuster.blockbuster_ctx():
                assert asyncio.run(ask()) == text
        assert ran.counts == {"node": count, "step": count}


def test_a_tool(ran: Ran, prompt: Path, ask: Callable[..., Any]) -> None:
    @tool
    def look(name: str) -> str:
        """Look it up."""
        ran(name)
        return Path(name).read_text()

    builder = StateGraph(MessagesState)
    builder.add_node("tools", ToolNode([look]))
    builder.add_edge(START, "tools")
    graph = musubito_graph(builder.compile(name="g"), replay_tools=True)
    other = prompt.with_name("other.txt")
    other.write_text("other")
    calls = [
        {"name": "look", "args": {"name": name}, "id": str(number), "type": "tool_call"}
        for number, name in enumerate(("prompt.txt", "other.txt"))
    ]
    for text, count in (("1", 1), ("2", 2)):
        prompt.write_text(text)
        for _ in range(2):
            answer = ask(graph, {"messages": [AIMessage("", tool_calls=calls, id="a")]})
            assert [each.content for each in answer["messages"][1:]] == [text, "other"]
        assert ran.counts == {"prompt.txt": count, "other.txt": 1}
