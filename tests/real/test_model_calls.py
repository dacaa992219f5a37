"""Each call of a real client of a model is a step: an edit of the code around it asks the server nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_anthropic import ChatAnthropic
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

from musubito import MusubitoEngine
from musubito.cli.root import root
from musubito.lineage import Lineage, Tokens
from musubito.lineage.readers.savings import savings
from musubito_langgraph import musubito_graph
from tests.launcher import run as launched
from tests.real.model_server import ModelServer
from tests.real.test_middleware import MODES, plain, said

CLIENTS: dict[str, Callable[[], Any]] = {
    "openai": lambda: ChatOpenAI(model="gpt-4o-mini"),
    "anthropic": lambda: ChatAnthropic(model="claude-sonnet-test"),
}
clients = pytest.mark.parametrize("client", CLIENTS)
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer")
QUESTION: Any = {"messages": [("user", "Well?")]}
ADD = 'add{"a": 1, "b": 2}'
Parse = Callable[[str], str]


class State(MessagesState, total=False):
    told: Any


class Grade(BaseModel):
    """A grade of an answer."""

    grade: str


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


# -- the ways to ask, in a node of the function `parse`, which is what somebody edits -----------------------------------
def asks(model: Any, parse: Parse) -> Any:
    return lambda state: {"told": parse(model.invoke(state["messages"]).text)}


def asks_later(model: Any, parse: Parse) -> Any:
    async def node(state: State) -> Any:
        return {"told": parse((await model.ainvoke(state["messages"])).text)}

    return node


def streams(model: Any, parse: Parse) -> Any:
    return lambda state: {"told": parse("".join(chunk.text for chunk in model.stream(state["messages"])))}


def streams_later(model: Any, parse: Parse) -> Any:
    async def node(state: State) -> Any:
        return {"told": parse("".join([chunk.text async for chunk in model.astream(state["messages"])]))}

    return node


def binds_tools(model: Any, parse: Parse) -> Any:
    def node(state: State) -> Any:
        (call,) = model.bind_tools([add]).invoke([("user", ADD)]).tool_calls
        return {"told": parse(str(call["args"]))}

    return node


def wants(method: str) -> Any:
    def wants_an_object(model: Any, parse: Parse) -> Any:
        def node(state: State) -> Any:
            answer = model.with_structured_output(Grade, method=method).invoke(state["messages"])
            return {"told": parse(answer.grade)}

        return node

    return wants_an_object


def wants_a_schema_later(model: Any, parse: Parse) -> Any:
    async def node(state: State) -> Any:
        asked = model.with_structured_output(Grade.model_json_schema(), include_raw=True)
        return {"told": parse((await asked.ainvoke(state["messages"]))["parsed"]["grade"])}

    return node


def in_an_agent(model: Any, parse: Parse) -> Any:
    agent = create_agent(model, [add], response_format=Grade)

    def node(state: State) -> Any:
        said = agent.invoke({"messages": [("user", f'{ADD} Grade{{"grade": "good"}}')]})
        return {"told": parse(said["structured_response"].grade + said["messages"][2].text)}

    return node


WAYS = {
    "invoke": asks,
    "ainvoke": asks_later,
    "stream": streams,
    "astream": streams_later,
    "bind_tools": binds_tools,
    "json_schema": wants("json_schema"),
    "function_calling": wants("function_calling"),
    "schema as a dict, with the raw answer": wants_a_schema_later,
    "create_agent": in_an_agent,
}


def bare_graph_of(node: Any) -> Any:
    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile(name="g")


def graph_of(node: Any) -> Any:
    return musubito_graph(bare_graph_of(node))


async def told(graph: Any) -> Any:
    return (await graph.ainvoke(QUESTION))["told"]


async def shown(graph: Any) -> dict[str, Any]:
    """What a user is shown of a run in every stream mode, in which models stream, too, and as events."""
    events = [event async for event in graph.astream(QUESTION, stream_mode=list(MODES), version="v1")]
    parts: dict[str, Any] = {mode: [plain(event) for which, event in events if which == mode] for mode in MODES}
    parts["messages"] = said(parts["messages"])
    parts["events"] = [
        (event["event"], event["name"], event["metadata"].get("langgraph_node"))
        async for event in graph.astream_events({"messages": [("user", "And then?")]}, version="v2")
    ]
    return parts


@pytest.mark.parametrize("way", WAYS)
@clients
async def test_an_edit_of_a_node_asks_nothing(
    engine: MusubitoEngine, server: ModelServer, client: str, way: str
) -> None:
    first = await told(graph_of(WAYS[way](CLIENTS[client](), str)))
    assert server.took() > 0
    edited = await told(graph_of(WAYS[way](CLIENTS[client](), lambda text: text + "!")))
    assert (edited, server.took()) == (first + "!", 0)


@clients
async def test_the_order_of_tools_asks_nothing(engine: MusubitoEngine, server: ModelServer, client: str) -> None:
    """langgraph-supervisor takes it from a set, so that it differs between processes."""

    @tool
    def double(a: int) -> int:
        """Double a number."""
        return 2 * a

    def node(*tools: Any) -> Any:
        model, number = CLIENTS[client]().bind_tools(tools), len(done)
        return lambda state: {"told": f"{number}: {model.invoke(state['messages']).text}"}

    done: list[str] = []
    for tools in ((add, double), (double, add), (double, add)):
        done.append(await told(graph_of(node(*tools))))
    assert done[1:] == [f"{number}: {done[0][3:]}" for number in (1, 2)]
    assert server.took() == 1


@pytest.mark.parametrize("way", WAYS)
@clients
async def test_streamed_it_asks_nothing_and_shows_the_same(
    engine: MusubitoEngine, server: ModelServer, client: str, way: str
) -> None:
    bare = await shown(bare_graph_of(WAYS[way](CLIENTS[client](), str)))
    asked = server.took()
    assert await shown(graph_of(WAYS[way](CLIENTS[client](), str))) == bare
    assert 0 < server.took() <= asked  # some ask the same whatever the node is given
    assert await shown(graph_of(WAYS[way](CLIENTS[client](), lambda text: text + ""))) == bare
    assert server.took() == 0


@clients
def test_an_edit_of_a_middleware_asks_nothing(engine: MusubitoEngine, server: ModelServer, client: str) -> None:
    def agent(text: str) -> Any:
        class Notes(AgentMiddleware[Any, Any]):
            def wrap_model_call(self, request: Any, handler: Any) -> Any:
                noted.append(text)
                return handler(request)

        return musubito_graph(create_agent(CLIENTS[client](), [add], middleware=[Notes()], name="agent"))

    noted: list[str] = []
    said = [
        [message.text for message in agent(text).invoke({"messages": [("user", ADD)]})["messages"]]
        for text in ("asked", "asked again")
    ]
    assert said[0] == said[1]
    assert (server.took(), noted) == (2, ["asked", "asked", "asked again", "asked again"])


# -- samples -----------------------------------------------------------------------------------------------------------
def asks_twice(model: Any, parse: Parse) -> Any:
    """What tells two answers to one question apart: the ids that the server gives them."""

    def node(state: State) -> Any:
        return {"told": [parse(model.invoke(state["messages"]).response_metadata["id"]) for _ in range(2)]}

    return node


PROGRAM = """
import asyncio, json, sys
from tests.real.test_model_calls import CLIENTS, asks_twice, graph_of, told

print(json.dumps(asyncio.run(told(graph_of(asks_twice(CLIENTS[sys.argv[1]](), eval(sys.argv[2])))))))
"""


@clients
def test_two_equal_questions_of_a_run_are_two_answers_also_in_another_process(
    server: ModelServer, client: str, tmp_path: Path
) -> None:
    (tmp_path / "program.py").write_text(f"import sys\nsys.path.append({str(Path.cwd())!r})\n{PROGRAM}")
    environment = {**os.environ, "MUSUBITO_URL": f"sqlite:///{tmp_path / 'm.db'}"}

    def play(parse: str) -> Any:
        done = launched(tmp_path / "program.py", client, parse, environment=environment, imports="musubito_langgraph")
        assert not done.returncode, done.stderr
        return json.loads(done.stdout)

    first = play("str")
    assert (len(set(first)), server.took()) == (2, 2)
    assert play("lambda text: text + '!'") == [text + "!" for text in first]
    assert server.took() == 0


# -- what it costs -----------------------------------------------------------------------------------------------------
def test_usage_and_money_are_counted_once(
    engine: MusubitoEngine, server: ModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tests.real.model_server._tokens", lambda: (100, 10))
    used = {"gpt-4o-mini": Tokens(100, 10)}
    for parse, (spent, saved) in ((str, (used, {})), (str.upper, ({}, used))):
        graph_of(asks(CLIENTS["openai"](), parse)).invoke(QUESTION)
        told = Lineage(engine).run("last").summary
        assert (told.spent.tokens, told.saved.tokens) == (spent, saved)
    (row,) = savings(Lineage(engine), by="model").rows
    assert (row.spent.tokens, row.saved.tokens) == (used, used)
    shown = CliRunner().invoke(root, ["show", "last"], env={"MUSUBITO_URL": f"sqlite:///{tmp_path / 'm.db'}"}).output
    assert shown.count("110 tokens") == 1, shown
