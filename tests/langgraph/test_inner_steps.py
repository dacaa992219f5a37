"""Steps of the core inside nodes, tools and routers: each is an inner step of what calls it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from operator import add
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.types import RetryPolicy

from musubito import (
    MusubitoEngine,
    MusubitoResult,
    StepConfiguration,
    StepType,
    current_node_id,
    musubito_merge,
    musubito_step,
    run,
)
from musubito_langgraph import musubito_graph, musubito_runnable
from tests.langgraph.specimen import Ran, Scripted, calls, says, took

pytestmark = pytest.mark.usefixtures("engine")
Ask = Callable[..., Any]
SAMPLE = StepConfiguration(step_type=StepType.STOCHASTIC)
EFFECT = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT)


def outcomes(record: Any) -> list[tuple[str, str]]:
    """The calls by their last names, in the order in which they ended."""
    return [(last_name(call.operation), call.outcome) for call in record.calls]


def last_name(operation: str) -> str:
    return operation.rpartition("/")[2].rpartition("<locals>.")[2]


def edges(path: Path) -> set[tuple[str, str, str]]:
    """All edges of a store: whose parent (or what was called), what kind, whose child (or what called it)."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(
            "SELECT p.operation_name, e.kind, c.operation_name FROM edges e "
            "JOIN nodes p ON p.node_id = e.parent_node_id JOIN nodes c ON c.node_id = e.child_node_id"
        ).fetchall()
    return {(last_name(parent or "EXTERNAL"), kind, last_name(child)) for parent, kind, child in found}


class State(TypedDict, total=False):
    text: str
    done: Annotated[list[Any], add]


def compiled(*nodes: Callable[[Any], Any], name: str = "g") -> Any:
    return musubito_graph(
        StateGraph(State).add_sequence(list(nodes)).set_entry_point(nodes[0].__name__).compile(name=name)
    )


# -- all kinds of steps ------------------------------------------------------------------------------------------------
def a_function(ran: Ran, inside: str, around: str) -> Any:
    @musubito_step
    def inner(text: str) -> str:
        ran("inner")
        return text + inside

    def node(state: State) -> Any:
        ran("node")
        return {"done": [inner(state["text"]).value + around]}

    return node


def a_method(ran: Ran, inside: str, around: str) -> Any:
    class Tools:
        def __init__(self, mark: str) -> None:
            self.mark = mark

        def __musubito_identity__(self) -> str:
            return self.mark

        @musubito_step
        def inner(self, text: str) -> str:
            ran("inner")
            return text + self.mark

    tools = Tools(inside)

    def node(state: State) -> Any:
        ran("node")
        return {"done": [tools.inner(state["text"]).value + around]}

    return node


def a_generator(ran: Ran, inside: str, around: str) -> Any:
    @musubito_step
    def inner(text: str) -> Any:
        ran("inner")
        yield from text
        yield inside

    def node(state: State) -> Any:
        ran("node")
        return {"done": ["".join(inner(state["text"])) + around]}

    return node


def a_coroutine_function(ran: Ran, inside: str, around: str) -> Any:
    @musubito_step
    async def inner(text: str) -> str:
        ran("inner")
        await asyncio.sleep(0)
        return text + inside

    async def node(state: State) -> Any:
        ran("node")
        return {"done": [(await inner(state["text"])).value + around]}

    return node


def an_asynchronous_generator(ran: Ran, inside: str, around: str) -> Any:
    @musubito_step
    async def inner(text: str) -> Any:
        ran("inner")
        for each in text:
            await asyncio.sleep(0)
            yield each
        yield inside

    async def node(state: State) -> Any:
        ran("node")
        return {"done": ["".join([each async for each in inner(state["text"])]) + around]}

    return node


def a_function_in_an_asynchronous_node(ran: Ran, inside: str, around: str) -> Any:
    @musubito_step
    def inner(text: str) -> str:
        ran("inner")
        return text + inside

    async def node(state: State) -> Any:
        ran("node")
        return {"done": [inner(state["text"]).value + around]}

    return node


def in_another_thread(ran: Ran, inside: str, around: str) -> Any:
    @musubito_step
    def inner(text: str) -> str:
        ran("inner")
        return text + inside

    async def node(state: State) -> Any:
        ran("node")
        return {"done": [(await asyncio.to_thread(inner, state["text"])).value + around]}

    return node


def below_a_runnable(ran: Ran, inside: str, around: str) -> Any:
    @musubito_step
    def inner(text: str) -> str:
        ran("inner")
        return text + inside

    chain = RunnableLambda(lambda text: text) | RunnableLambda(lambda text: inner(text).value)

    def node(state: State) -> Any:
        ran("node")
        return {"done": [chain.invoke(state["text"]) + around]}

    return node


KINDS = (
    a_function,
    a_method,
    a_generator,
    a_coroutine_function,
    an_asynchronous_generator,
    a_function_in_an_asynchronous_node,
    in_another_thread,
    below_a_runnable,
)
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@pytest.fixture
def asking(kind: Callable[..., Any], ran: Ran) -> Callable[..., Any]:
    """Asks a graph of one node, made anew each time."""

    def asking(inside: str = "?", around: str = "", text: str = "x", config: RunnableConfig | None = None) -> Any:
        graph = compiled(kind(ran, inside, around))
        if asyncio.iscoroutinefunction(kind(ran, inside, around)):
            (found,) = asyncio.run(graph.ainvoke({"text": text}, config))["done"]
        else:
            (found,) = graph.invoke({"text": text}, config)["done"]
        return found

    return asking


@each_kind
def test_it_is_replayed_with_its_node(asking: Callable[..., Any], ran: Ran):
    with run() as cold:
        assert asking() == "x?"
    assert outcomes(cold) == [(outcomes(cold)[0][0], "ran"), ("node", "ran")]
    assert outcomes(cold)[0][0].endswith("inner")
    assert took(ran) == {"inner": 1, "node": 1}
    with run() as warm:
        assert asking() == "x?"
    assert outcomes(warm) == [("node", "replayed")], "it is not even asked"
    assert asking(text="y") == "y?"
    assert took(ran) == {"inner": 1, "node": 1}


@each_kind
def test_a_node_that_was_edited_is_given_what_it_gave(asking: Callable[..., Any], ran: Ran):
    assert asking() == "x?"
    took(ran)
    with run() as record:
        assert asking(around="!") == "x?!"
    assert [outcome for _, outcome in outcomes(record)] == ["replayed", "ran"]
    assert took(ran) == {"node": 1}


@each_kind
def test_if_it_was_edited_its_node_runs(asking: Callable[..., Any], ran: Ran):
    assert asking() == "x?"
    took(ran)
    assert asking(inside="!") == "x!"
    assert took(ran) == {"inner": 1, "node": 1}
    assert asking(inside="?") == "x?"
    assert took(ran) == {}, "and back"


@each_kind
def test_it_was_called_by_its_node_and_has_no_other_parents(
    asking: Callable[..., Any], kind: Callable[..., Any], tmp_path: Path
):
    asking()
    inner = "Tools.inner" if kind is a_method else "inner"
    found = edges(tmp_path / "m.db")
    assert {edge for edge in found if edge[1] == "call"} == {(inner, "call", "node")}
    assert {child for _, kind, child in found if kind == "data"} <= {"node"}


@each_kind
def test_what_is_invalidated_makes_its_node_run(
    asking: Callable[..., Any], engine: MusubitoEngine, ran: Ran, tmp_path: Path
):
    asking()
    took(ran)
    with closing(sqlite3.connect(tmp_path / "m.db")) as connection:
        ((inner,),) = connection.execute("SELECT name FROM _operations WHERE name LIKE '%inner'").fetchall()
    assert engine.invalidate(inner) >= 1
    assert asking() == "x?"
    assert took(ran) == {"inner": 1, "node": 1}


GIVEN = {"text": "fog"}


def test_a_stream_is_replayed_piece_by_piece_in_a_node_that_was_edited(ran: Ran):
    pieces: list[str] = []

    @musubito_step
    def inner(text: str) -> Any:
        for each in text:
            ran("piece")
            yield each

    @musubito_step
    async def ainner(text: str) -> Any:
        for each in text:
            ran("piece")
            yield each

    class Kept:
        """What a node keeps of the pieces is none of its business."""

        def __musubito_identity__(self) -> str:
            return "kept"

        def __call__(self, piece: str) -> str:
            pieces.append(piece)
            return piece

    kept = Kept()

    def graph(mark: str) -> Any:
        def node(state: State) -> Any:
            return {"done": [mark.join(map(kept, inner(state["text"])))]}

        async def anode(state: State) -> Any:
            return {"done": [mark.join([kept(each) async for each in ainner(state["text"])])]}

        return compiled(node), compiled(anode, name="a")

    for mark, runs in (("-", {"piece": 3}), ("+", {})):
        node, anode = graph(mark)
        for ask in (lambda graph=node: graph.invoke(GIVEN), lambda graph=anode: asyncio.run(graph.ainvoke(GIVEN))):
            assert ask()["done"] == [mark.join("fog")]
            assert took(ran) == runs
            assert pieces == ["f", "o", "g"]
            pieces.clear()


# -- where it stands ---------------------------------------------------------------------------------------------------
def test_what_leads_to_a_node_does_not_lead_to_its_inner_steps(ran: Ran, ask: Ask, tmp_path: Path):
    @musubito_step
    def inner(text: str) -> str:
        ran("inner")
        return text.upper()

    def graph(mark: str) -> Any:
        def first(state: State) -> Any:
            ran("first")
            return {"done": [mark]}

        def second(state: State) -> Any:
            _ = [state]  # so all of it counts
            ran("second")
            return {"done": [inner(state["text"]).value]}

        return compiled(first, second)

    assert ask(graph("."), {"text": "x"})["done"] == [".", "X"]
    assert took(ran) == {"first": 1, "second": 1, "inner": 1}
    assert ask(graph("!"), {"text": "x"})["done"] == ["!", "X"]
    assert took(ran) == {"first": 1, "second": 1}, "what it was given did not change"
    assert {edge for edge in edges(tmp_path / "m.db") if "EXTERNAL" not in edge} == {
        ("first", "data", "second"),
        ("inner", "call", "second"),
    }


def test_a_result_that_is_handed_on_is_a_parent(ran: Ran, ask: Ask, tmp_path: Path):
    @musubito_step
    def load(text: str) -> str:
        ran("load")
        return text + "1"

    @musubito_step
    def join(*texts: MusubitoResult[str]) -> str:
        ran("join")
        return "+".join(text.value for text in texts)

    @musubito_step
    def merged() -> str:
        ran("merged")
        return "merged"

    @musubito_step
    def outer(text: str) -> str:
        ran("outer")
        return join(load(text), load(text + text)).value

    def node(state: State) -> Any:
        found = outer(state["text"])
        with musubito_merge(found):
            return {"done": [found.value, merged().value]}

    for _ in range(2):
        assert ask(compiled(node), {"text": "x"})["done"] == ["x1+xx1", "merged"]
    assert took(ran) == {"load": 2, "join": 1, "merged": 1, "outer": 1}
    assert {edge for edge in edges(tmp_path / "m.db") if "EXTERNAL" not in edge} == {
        ("load", "data", "join"),
        ("load", "call", "outer"),
        ("join", "call", "outer"),
        ("outer", "call", "node"),
        ("outer", "data", "merged"),
        ("merged", "call", "node"),
    }


def test_it_knows_the_node_under_which_it_runs(ran: Ran, ask: Ask):
    @musubito_step
    def inner(text: str) -> str | None:
        return current_node_id()

    def node(state: State) -> Any:
        return {"done": [current_node_id(), inner(state["text"]).node_id, inner(state["text"]).value]}

    with run() as record:
        (of_node, of_inner, told) = ask(compiled(node), {"text": "x"})["done"]
    ids = {last_name(call.operation): call.node_id for call in record.calls}
    assert (of_node, of_inner, told) == (ids["node"], ids["inner"], ids["inner"])


def test_in_a_node_of_a_subgraph(ran: Ran, ask: Ask, tmp_path: Path):
    @musubito_step
    def inner(text: str) -> str:
        ran("inner")
        return text.upper()

    def graph(mark: str) -> Any:
        def leaf(state: State) -> Any:
            ran("leaf")
            return {"done": [inner(state["text"]).value + mark]}

        sub = StateGraph(State).add_node(leaf).add_edge(START, "leaf").compile()
        return musubito_graph(StateGraph(State).add_node("sub", sub).add_edge(START, "sub").compile())

    for mark, runs in ((".", {"leaf": 1, "inner": 1}), (".", {}), ("!", {"leaf": 1})):
        assert ask(graph(mark), {"text": "x"})["done"] == ["X" + mark]
        assert took(ran) == runs
    assert {edge for edge in edges(tmp_path / "m.db") if edge[1] == "call"} == {("inner", "call", "leaf")}


def test_in_a_runnable_in_a_node(ran: Ran, ask: Ask, tmp_path: Path):
    @musubito_step
    def inner(text: str) -> str:
        ran("inner")
        return text.upper()

    def graph(mark: str, inside: str) -> Any:
        @musubito_runnable
        def told(text: str) -> str:
            ran("told")
            return inner(text).value + inside

        def node(state: State) -> Any:
            ran("node")
            return {"done": [told.invoke(state["text"]) + mark]}

        return compiled(node)

    for given, runs in (
        (("", ""), {"node": 1, "told": 1, "inner": 1}),
        (("", ""), {}),
        (("!", ""), {"node": 1}),
        (("!", "?"), {"node": 1, "told": 1}),
    ):
        mark, inside = given
        assert ask(graph(mark, inside), {"text": "x"})["done"] == ["X" + inside + mark]
        assert took(ran) == runs
    assert {edge for edge in edges(tmp_path / "m.db") if edge[1] == "call"} == {
        ("inner", "call", "told"),
        ("told", "call", "node"),
    }


# -- in tools and routers ----------------------------------------------------------------------------------------------
def asks_the_tool(messages: Any) -> Any:
    return says(messages[-1].text) if messages[-1].type == "tool" else calls(("look_up", {"word": "fog"}))


def looking_up(ran: Ran, inside: str, around: str) -> Any:
    @musubito_step
    def inner(word: str) -> str:
        ran("inner")
        return word + inside

    @tool
    def look_up(word: str) -> str:
        """Look up a word."""
        ran("tool")
        return inner(word).value + around

    return musubito_graph(create_agent(Scripted(script=asks_the_tool, ran=ran), [look_up], name="g"))


def test_in_a_tool(ran: Ran, ask: Ask, tmp_path: Path):
    def asked(inside: str, around: str) -> str:
        return ask(looking_up(ran, inside, around), {"messages": [("user", "what is fog?")]})["messages"][-1].text

    # A tool runs each time; the step under it is replayed.
    for given, runs in (
        (("?", ""), {"model": 2, "tool": 1, "inner": 1}),
        (("?", ""), {"tool": 1}),
        (("?", "!"), {"model": 1, "tool": 1}),
        (("!", "!"), {"model": 1, "tool": 1, "inner": 1}),
    ):
        assert asked(*given) == "fog" + "".join(given)
        assert took(ran) == runs
    assert {edge for edge in edges(tmp_path / "m.db") if edge[1] == "call"} == {
        ("inner", "call", "tools.look_up"),
        ("tools.look_up", "call", "tools"),
        ("Scripted", "call", "model"),
    }


def test_in_a_router(ran: Ran, ask: Ask, tmp_path: Path):
    def graph(inside: str, around: str) -> Any:
        @musubito_step
        def grade(text: str) -> str:
            ran("grade")
            return text + inside

        def router(state: State) -> str:
            ran("router")
            return {"x?": "left", "x?!": "right", "x!!": END}[grade(state["text"]).value + around]

        def first(state: State) -> Any:
            ran("first")
            return {"done": ["first"]}

        builder = StateGraph(State).add_node(first)
        for name in ("left", "right"):
            builder.add_node(name, lambda state, name=name: {"done": [name]})
        builder.add_edge(START, "first").add_conditional_edges("first", router, ["left", "right", END])
        return musubito_graph(builder.compile(name="g"))

    for given, runs, way in (
        (("?", ""), {"first": 1, "router": 1, "grade": 1}, ["left"]),
        (("?", ""), {}, ["left"]),
        (("?", "!"), {"router": 1}, ["right"]),
        (("!", "!"), {"router": 1, "grade": 1}, []),
    ):
        assert ask(graph(*given), {"text": "x"})["done"] == ["first", *way]
        assert took(ran) == runs
    assert {edge for edge in edges(tmp_path / "m.db") if edge[1] == "call"} == {("grade", "call", "first:router")}


# -- samples, ages, failures -------------------------------------------------------------------------------------------


def test_what_has_expired_inside_makes_its_node_run(ran: Ran, ask: Ask):
    @musubito_step(StepConfiguration(ttl_seconds=0))
    def inner(text: str) -> str:
        ran("inner")
        return text

    @musubito_step
    def between(text: str) -> str:
        ran("between")
        return inner(text).value

    def node(state: State) -> Any:
        ran("node")
        return {"done": [between(state["text"]).value]}

    def other(state: State) -> Any:
        ran("other")
        return {"done": ["other"]}

    for _ in range(2):
        ask(compiled(node, other), {"text": "x"})
    assert took(ran) == {"inner": 2, "between": 2, "node": 2, "other": 1}


def test_a_retry_of_a_node_repeats_nothing_but_what_is_a_sample(ran: Ran, ask: Ask):
    @musubito_step
    def load(text: str) -> str:
        ran("load")
        return text

    @musubito_step(SAMPLE)
    def draw(text: str) -> int:
        return ran("draw")

    def node(state: State) -> Any:
        found = draw(load(state["text"]).value).value
        if ran("node") < 3:
            raise ConnectionError("not now")
        return {"done": [found]}

    builder = StateGraph(State)
    builder.add_node("node", node, retry_policy=RetryPolicy(initial_interval=0, jitter=False, max_attempts=3))
    graph = musubito_graph(builder.add_edge(START, "node").compile())
    for _ in range(2):
        assert ask(graph, {"text": "x"})["done"] == [3], "an attempt that failed has used its sample up"
    assert took(ran) == {"load": 1, "draw": 3, "node": 3}


# -- effects -----------------------------------------------------------------------------------------------------------
def mailing(ran: Ran, mark: str, semantics: StepConfiguration = EFFECT) -> Any:
    @musubito_step(semantics, name="mail")
    def mail(text: str) -> str:
        ran("mail")
        return f"sent {text}"

    def node(state: State) -> Any:
        ran("node")
        return {"done": [mail(state["text"]).value + mark]}

    return compiled(node)


def test_an_effect_inside_happens_once(ran: Ran, ask: Ask, tmp_path: Path):
    for mark, runs in (("", {"node": 1, "mail": 1}), ("", {}), ("!", {"node": 1})):
        assert ask(mailing(ran, mark), {"text": "x"})["done"] == ["sent x" + mark]
        assert took(ran) == runs
    ask(mailing(ran, ""), {"text": "y"})
    assert took(ran) == {"node": 1, "mail": 1}
    assert {edge for edge in edges(tmp_path / "m.db") if edge[1] == "call"} == {("mail", "call", "node")}


def test_nor_is_it_repeated_where_all_nodes_are_run_anew(ran: Ran, ask: Ask):
    ask(mailing(ran, ""), {"text": "x"})
    took(ran)
    ask(mailing(ran, ""), {"text": "x"}, {"configurable": {"musubito": {"mode": "refresh"}}})
    assert took(ran) == {"node": 1}


def test_it_is_a_step_where_the_graph_is_as_if_not_wrapped(ran: Ran, ask: Ask):
    for _ in range(2):
        ask(mailing(ran, ""), {"text": "x"}, {"configurable": {"musubito": {"mode": "off"}}})
    assert took(ran) == {"node": 2, "mail": 1}
