"""What belongs to one tenant (a bad key, a client, a session) reaches no other."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, TypedDict

import pytest
import sqlalchemy
from langchain.tools import ToolRuntime
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.runtime import Runtime, get_runtime
from sqlalchemy.orm import Session

from musubito import MusubitoEngine, MusubitoWarning, StepConfiguration, StepType, musubito_step, run
from musubito.lineage import Lineage
from musubito_langgraph import musubito_graph
from tests.langgraph.specimen import Ran, calls, took

pytestmark = pytest.mark.usefixtures("engine")


class State(TypedDict, total=False):
    q: str
    a: str


class Unauthorised(Exception):
    pass


class Client:
    """Counts by its class alone, as clients do whose keys are no setting."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __musubito_identity__(self) -> str:
        return "a client"

    async def ask(self, question: str) -> str:
        await asyncio.sleep(0.1)
        if self.key == "bad":
            raise Unauthorised(self.key)
        return question.upper()


def graph_with(client: Client) -> Any:
    async def node(state: State) -> State:
        return {"a": await client.ask(state["q"])}

    return musubito_graph(StateGraph(State).add_node("node", node).add_edge(START, "node").compile(name="tenants"))


def answers(*asked: Any) -> list[Any]:
    async def at_once() -> list[Any]:
        return await asyncio.gather(*asked, return_exceptions=True)

    return [each if isinstance(each, BaseException) else each["a"] for each in asyncio.run(at_once())]


def test_a_failure_of_another_tenants_graph():
    bad, *good = answers(*(graph_with(Client(key)).ainvoke({"q": "hi"}) for key in ("bad", "good", "good")))
    assert isinstance(bad, Unauthorised)
    assert good == ["HI", "HI"]


def test_a_failure_of_another_tenants_request():
    async def node(state: State, config: RunnableConfig) -> State:
        return {"a": await Client(config["configurable"]["key"]).ask(state["q"])}

    builder = StateGraph(State).add_node("node", node).add_edge(START, "node")
    graph = musubito_graph(builder.compile(), ignore_config=["key"])
    asked = (graph.ainvoke({"q": "hi"}, {"configurable": {"key": key}}) for key in ("bad", "good", "good"))
    bad, *good = answers(*asked)
    assert isinstance(bad, Unauthorised)
    assert good == ["HI", "HI"]


# -- what has no identity in a context ---------------------------------------------------------------------------------
OPENED = ExitStack()


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    OPENED.close()


def database(row: str) -> sqlite3.Connection:
    connection = sqlite3.connect(Path(mkdtemp()) / "tenant.db", check_same_thread=False)
    OPENED.callback(connection.close)
    connection.execute("CREATE TABLE rows (row TEXT)")
    connection.execute("INSERT INTO rows VALUES (?)", (row,))
    connection.commit()
    return connection


def row_of(connection: Any) -> str:
    return str(connection.execute("SELECT row FROM rows").fetchone()[0])


class Repository:
    def __init__(self, user: str) -> None:
        self.session = database(user)

    def row(self) -> str:
        return row_of(self.session)


@dataclass
class Context:
    db: Any
    language: str = "en"


def per_request(user: str) -> Any:
    connection = database(user)
    return lambda: row_of(connection)


CONTEXTS: dict[str, tuple[Callable[[str], Any], Callable[[Any], str]]] = {
    "connection": (database, row_of),
    "object of the user's": (Repository, lambda db: str(db.row())),
    "method of an object": (lambda user: Repository(user).row, lambda db: str(db())),
    "function that holds it": (per_request, lambda db: str(db())),
    "partial function": (lambda user: partial(row_of, database(user)), lambda db: str(db())),
    "session": (
        lambda user: Session(sqlalchemy.create_engine("sqlite://", creator=lambda: database(user))),
        lambda db: str(db.scalar(sqlalchemy.text("SELECT row FROM rows"))),
    ),
}


def answer_of(graph: Any, where: str, db: Any) -> Any:
    if where == "context":
        return graph.invoke({"q": "?"}, context=Context(db))
    return graph.invoke({"q": "?"}, {"configurable": {"db": db, "language": "en"}})


@pytest.mark.filterwarnings("ignore:.*which has no identity:musubito.MusubitoWarning")
@pytest.mark.parametrize("where", ["context", "configurable"])
@pytest.mark.parametrize("kind", CONTEXTS)
def test_what_has_no_identity_reaches_no_other_user(kind: str, where: str, ran: Ran):
    made, read = CONTEXTS[kind]

    def asks(state: State, runtime: Runtime[Any], config: RunnableConfig) -> State:
        ran("asks")
        return {"a": read(runtime.context.db if where == "context" else config["configurable"]["db"])}

    def speaks(state: State, runtime: Runtime[Any], config: RunnableConfig) -> State:
        ran("speaks")
        return {"q": runtime.context.language if where == "context" else config["configurable"]["language"]}

    builder = StateGraph(State, context_schema=Context)
    builder.add_node("asks", asks).add_node("speaks", speaks).add_edge(START, "asks").add_edge(START, "speaks")
    graph = musubito_graph(builder.compile())
    for user in ("ann", "bob", "ann"):
        assert answer_of(graph, where, made(user))["a"] == user
    assert took(ran) == {"asks": 3, "speaks": 1}


@pytest.mark.skipif(version("langgraph").startswith("1.0."), reason="langgraph 1.0 hands this tool no context")
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.filterwarnings("ignore:.*which has no identity:musubito.MusubitoWarning")
def test_a_step_and_a_tool_that_read_it(ran: Ran):
    @musubito_step
    def row() -> str:
        ran("step")
        return row_of(get_runtime(Context).context.db)

    @tool
    def look(runtime: ToolRuntime) -> str:
        """Looks."""
        ran("tool")
        return row_of(runtime.context.db)

    def node(state: MessagesState) -> Any:
        return {"messages": [row().value, calls(("look", {}))]}

    builder = StateGraph(MessagesState, context_schema=Context)
    builder.add_sequence([("node", node), ("tools", ToolNode([look]))]).add_edge(START, "node")
    graph = musubito_graph(builder.compile())
    for user in ("ann", "bob", "ann"):
        said = graph.invoke({"messages": []}, context=Context(database(user)))["messages"]
        assert [said[0].text, said[-1].text] == [user, user]
    assert took(ran) == {"step": 3, "tool": 3}


@pytest.mark.filterwarnings("ignore:.*which has no identity:musubito.MusubitoWarning")
def test_an_effect_that_reads_it_is_done_once(ran: Ran):
    @musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="mail")
    def mail(to: str) -> str:
        ran("mail")
        return row_of(get_runtime(Context).context.db)

    builder = StateGraph(State, context_schema=Context)
    builder.add_node("node", lambda state: {"a": mail("ann").value}).add_edge(START, "node")
    graph = musubito_graph(builder.compile())
    for _ in range(2):
        assert graph.invoke({"q": "?"}, context=Context(database("ann")))["a"] == "ann"
    assert took(ran) == {"mail": 1}


def test_the_reason_names_the_field_and_the_remedy(engine: MusubitoEngine):
    def node(state: State, runtime: Runtime[Any]) -> State:
        return {"a": row_of(runtime.context["secretary"])}

    graph = musubito_graph(
        StateGraph(State, context_schema=dict).add_node("node", node).add_edge(START, "node").compile()
    )
    with pytest.warns(
        MusubitoWarning,
        match=r"context\.secretary is a sqlite3\.Connection, .*run each time.*`__musubito_identity__\(\)`\.$",
    ):
        with run() as record:
            graph.invoke({"q": "?"}, context={"secretary": database("ann")})
    (call,) = record.calls
    execution = Lineage(engine).node(call.node_id).execution
    assert execution is not None
    assert execution.not_replayable == "its code names context.secretary, a sqlite3.Connection, which has no identity"
