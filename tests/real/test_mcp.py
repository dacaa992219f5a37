"""Tools of an MCP server: on a session that is held, on one for each call, and of another server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.tools import load_mcp_tools
from langchain_openai import ChatOpenAI

from musubito import MusubitoEngine
from musubito_langgraph import musubito_graph
from tests.real.model_server import ModelServer
from tests.real.test_middleware import plain

SERVER = Path(__file__).with_name("mcp_server.py")
ASKED = 'Please add{"a": 1, "b": 2} and fail{"text": "so"}.'
KINDS = {"for each call": False, "held": True}
"""Whether a session is held, by what it is called."""
pytestmark = pytest.mark.filterwarnings("ignore")


@asynccontextmanager
async def tools(calls: Path, *, held: bool, server: Path = SERVER) -> AsyncIterator[list[Any]]:
    """The tools of a server that notes its calls."""
    connection: Any = {"command": sys.executable, "args": [str(server), str(calls)], "transport": "stdio"}
    client = MultiServerMCPClient({"math": connection})
    if held:
        async with client.session("math") as session:
            yield await load_mcp_tools(session)
    else:
        yield await client.get_tools()


def agent(tools: list[Any], prompt: str = "You add.") -> Any:
    return create_agent(ChatOpenAI(model="gpt-test"), tools, system_prompt=prompt, name="mcp")


async def asked(graph: Any, text: str = ASKED) -> Any:
    return plain(await graph.ainvoke({"messages": [("user", text)]}))


def called(calls: Path) -> list[str]:
    """The calls that the server had since this was asked last."""
    lines = calls.read_text().split() if calls.exists() else []
    calls.unlink(missing_ok=True)
    return lines


@pytest.mark.parametrize("held", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("replay_tools", [False, True])
async def test_tools_are_called_each_time_or_once(
    engine: MusubitoEngine, server: ModelServer, replay_tools: bool, held: bool, tmp_path: Path
) -> None:
    # A failure is not replayed.
    calls, again = tmp_path / "calls", ["fail"] if replay_tools else ["add", "fail"]
    async with tools(calls, held=held) as found:
        bare = await asked(agent(found))
        assert called(calls) == ["add", "fail"]
        questions = server.took()
        assert await asked(musubito_graph(agent(found), replay_tools=replay_tools)) == bare
        assert called(calls) == ["add", "fail"]
        assert server.took() == questions > 0

        graph = musubito_graph(agent(found), replay_tools=replay_tools)
        for _ in range(2):
            assert await asked(graph) == bare
            assert server.took() == 0
            assert called(calls) == again
    async with tools(calls, held=held) as found:
        assert await asked(musubito_graph(agent(found), replay_tools=replay_tools)) == bare
        assert server.took() == 0
        assert called(calls) == again


async def test_what_is_edited_runs(engine: MusubitoEngine, server: ModelServer, tmp_path: Path) -> None:
    calls, question = tmp_path / "calls", 'Please add{"a": 1, "b": 2}.'
    async with tools(calls, held=False) as found:
        first = await asked(musubito_graph(agent(found), replay_tools=True), question)
        server.took(), called(calls)
        await asked(musubito_graph(agent(found, "You add well."), replay_tools=True), question)
        assert (server.took(), called(calls)) == (2, [])
    # Another server: the model is shown the same, but nothing says that its `add` does the same.
    other = tmp_path / "other.py"
    other.write_text(SERVER.read_text().replace("return a + b", "return a + b + 1"))
    async with tools(calls, held=False, server=other) as found:
        second = await asked(musubito_graph(agent(found), replay_tools=True), question)
        assert second == await asked(agent(found), question)
    assert [each["messages"][2][1] for each in (first, second)] == ["3", "4"]


PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from musubito_langgraph import musubito_graph
from tests.real.test_mcp import agent, asked, tools

async def main():
    async with tools(Path(sys.argv[1]), held=sys.argv[3] == "True") as found:
        print(json.dumps(await asked(musubito_graph(agent(found)), sys.argv[2])))

asyncio.run(main())
"""


@pytest.mark.parametrize("held", KINDS.values(), ids=KINDS)
def test_another_process_calls_the_tool_and_asks_no_model(server: ModelServer, held: bool, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    environment = {
        **os.environ,
        "MUSUBITO_URL": f"sqlite:///{tmp_path / 'm.db'}",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }

    def process(seed: int) -> str:
        given = [sys.executable, "-W", "ignore", "-c", PROGRAM]
        given += [str(calls), 'Please add{"a": 1, "b": 2}.', str(held)]
        environment["PYTHONHASHSEED"] = str(seed)
        done = subprocess.run(given, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = process(1)
    assert server.took() > 0
    assert called(calls)
    assert process(2) == first
    assert server.took() == 0
    assert called(calls) == ["add"]
