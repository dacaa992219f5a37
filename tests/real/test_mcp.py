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
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.server.fastmcp import FastMCP
from mcp.shared.memory import create_connected_server_and_client_session

from musubito import MusubitoEngine
from musubito.errors import MusubitoWarning
from musubito_langgraph import musubito_graph
from tests.real.model_server import ModelServer
from tests.real.test_middleware import plain

SERVER = Path(__file__).with_name("mcp_server.py")
ASKED = 'Please add{"a": 1, "b": 2} and fail{"text": "so"}.'
ADD = 'Please add{"a": 1, "b": 2}.'
KINDS = ("for each call", "held", "by hand")
"""The ways of making tools: with a session for each call, with one that the client made, and with one of our own."""
pytestmark = pytest.mark.filterwarnings("ignore")


@asynccontextmanager
async def tools(calls: Path, kind: str, server: Path = SERVER, **env: str) -> AsyncIterator[list[Any]]:
    """The tools of a server that notes its calls."""
    command: dict[str, Any] = {"command": sys.executable, "args": [str(server), str(calls)], "env": env}
    client = MultiServerMCPClient({"math": {**command, "transport": "stdio"}})  # type: ignore[typeddict-item]
    match kind:
        case "for each call":
            yield await client.get_tools()
        case "held":
            async with client.session("math") as session:
                yield await load_mcp_tools(session)
        case "by hand":
            async with stdio_client(StdioServerParameters(**command)) as streams, ClientSession(*streams) as session:
                await session.initialize()
                yield await load_mcp_tools(session)


def agent(tools: list[Any], prompt: str = "You add.") -> Any:
    return create_agent(ChatOpenAI(model="gpt-test"), tools, system_prompt=prompt, name="mcp")


def replaying(tools: list[Any], prompt: str = "You add.") -> Any:
    return musubito_graph(agent(tools, prompt), replay_tools=True)


async def asked(graph: Any, text: str = ASKED) -> Any:
    return plain(await graph.ainvoke({"messages": [("user", text)]}))


def called(calls: Path) -> list[str]:
    """The calls that the server had since this was asked last."""
    lines = calls.read_text().split() if calls.exists() else []
    calls.unlink(missing_ok=True)
    return lines


def sum_in(answer: Any) -> str:
    """The sum that the tool gave."""
    return str(answer["messages"][2][1])


def edit(server: Path) -> None:
    """Let the sums of a server be larger by one."""
    server.write_text(server.read_text().replace("return a + b", "return 1 + a + b"))


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A server that a test may edit."""
    copy = tmp_path / "server.py"
    copy.write_text(SERVER.read_text())
    return copy


@pytest.mark.parametrize("kind", KINDS)
async def test_tools_that_are_opted_in_are_called_once(
    engine: MusubitoEngine, server: ModelServer, kind: str, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    async with tools(calls, kind) as found:
        bare = await asked(agent(found))
        assert called(calls) == ["add", "fail"]
        questions = server.took()
        assert await asked(replaying(found)) == bare
        assert called(calls) == ["add", "fail"]
        assert server.took() == questions > 0

        graph = replaying(found)
        for _ in range(2):
            assert await asked(graph) == bare
            assert server.took() == 0
            # A failure is not replayed.
            assert called(calls) == ["fail"]
        # Another prompt asks the model, and calls the tool that did not fail no more.
        await asked(replaying(found, "You add well."))
        assert server.took() > 0
        assert called(calls) == ["fail"]
    async with tools(calls, kind) as found:
        assert await asked(replaying(found)) == bare
        assert server.took() == 0
        assert called(calls) == ["fail"]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_edit_of_the_server_runs_its_tools(
    engine: MusubitoEngine, server: ModelServer, kind: str, tmp_path: Path, copied: Path
) -> None:
    calls = tmp_path / "calls"
    for expected, of_call in (("3", ["add"]), ("3", []), ("4", ["add"]), ("4", [])):
        if expected == "4" and of_call:
            edit(copied)
        async with tools(calls, kind, copied) as found:
            assert sum_in(await asked(replaying(found), ADD)) == expected
        assert called(calls) == of_call
    # The same server with another argument is another server.
    other = tmp_path / "other"
    async with tools(other, kind, copied) as found:
        await asked(replaying(found), ADD)
    assert called(other) == ["add"]


@pytest.mark.parametrize("kind", KINDS[1:])
async def test_what_a_server_says_that_is_older_than_its_file_is_not_replayed(
    engine: MusubitoEngine, server: ModelServer, kind: str, tmp_path: Path, copied: Path
) -> None:
    calls = tmp_path / "calls"
    async with tools(calls, kind, copied) as found:
        edit(copied)
        for _ in range(2):
            assert sum_in(await asked(replaying(found), ADD)) == "3"
            assert called(calls) == ["add"]
    async with tools(calls, kind, copied) as found:
        assert sum_in(await asked(replaying(found), ADD)) == "4"


PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from tests.real.test_mcp import ADD, asked, replaying, tools

async def main():
    calls, server, kind, key = sys.argv[1:]
    async with tools(Path(calls), kind, Path(server), API_KEY=key) as found:
        print(json.dumps(await asked(replaying(found), ADD)))

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", KINDS)
def test_another_process_calls_again_what_is_edited(
    server: ModelServer, kind: str, tmp_path: Path, copied: Path
) -> None:
    calls, database = tmp_path / "calls", tmp_path / "m.db"
    environment = {**os.environ, "MUSUBITO_URL": f"sqlite:///{database}", "PYTHONPATH": os.pathsep.join(sys.path)}

    def process(seed: int) -> str:
        given = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(calls), str(copied), kind, "hush-hush"]
        environment["PYTHONHASHSEED"] = str(seed)
        done = subprocess.run(given, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = process(1)
    assert (server.took(), called(calls)) == (2, ["add"])
    assert process(2) == first
    assert (server.took(), called(calls)) == (0, [])
    edit(copied)
    assert process(3) != first
    assert called(calls) == ["add"]
    assert all(b"hush-" not in each.read_bytes() for each in tmp_path.glob("m.db*"))


@pytest.mark.filterwarnings("default")
async def test_a_tool_of_an_unknown_server_runs_each_time(engine: MusubitoEngine, server: ModelServer) -> None:
    ran, here = [], FastMCP("math")

    @here.tool()
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        ran.append("add")
        return a + b

    async with create_connected_server_and_client_session(here) as session:
        found = await load_mcp_tools(session)
        with pytest.warns(MusubitoWarning, match="the tool 'add' runs each time, although") as warned:
            for _ in range(2):
                await asked(replaying(found), ADD)
    assert ran == ["add", "add"]
    assert len([each for each in warned if each.category is MusubitoWarning]) == 1
