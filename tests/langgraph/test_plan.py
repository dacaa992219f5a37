"""A plan says what the invocation that follows does, and leaves no trace."""

from __future__ import annotations

import asyncio
import operator
import sqlite3
import threading
from collections import Counter, defaultdict
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langchain_core.tracers.context import collect_runs
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore
from langgraph.types import CachePolicy, Command, Send, interrupt

from musubito import CallRecord, MusubitoEngine, MusubitoError, ReplayReason, StepConfiguration, StepType, run
from musubito.lineage import Cost, Plan
from musubito.lineage.readers.plan import REPLAY, RUN
from musubito_langgraph import musubito_graph, musubito_plan
from tests.langgraph.equivalence import Subject, graph_of
from tests.langgraph.models import Calls, ScriptedModel
from tests.langgraph.zoo import ZOO


def stored(engine: MusubitoEngine, tmp_path: Path) -> list[str]:
    """All that the database holds."""
    engine.flush()
    with closing(sqlite3.connect(tmp_path / "m.db")) as connection:
        return list(connection.iterdump())


def kept(graph: Any) -> str:
    """All that the graph's own saver holds."""
    saver = graph.checkpointer
    if not hasattr(saver, "storage"):
        return ""
    # Asked for a thread, it makes an empty place for it.
    threads = {
        (thread, place): dict(held)
        for thread, places in saver.storage.items()
        for place, held in places.items()
        if held
    }
    return repr((threads, {key: held for key, held in saver.writes.items() if held}, dict(saver.blobs)))


def wrongly(plan: Plan, calls: list[CallRecord]) -> list[str]:
    """Where an invocation did otherwise than its plan said."""
    told, did = Counter(), Counter()
    for line in plan.lines:
        told[line.outcome, line.operation, line.node_id] += 1
    for call in calls:
        did["would replay" if call.outcome == "replayed" else "would run", call.operation, call.node_id] += 1
    wrong = [
        f"{operation} {outcome}, and did not"
        for (outcome, operation, node), number in told.items()
        if outcome in ("would replay", "would run") and node is not None and did[outcome, operation, node] < number
    ]
    wrong += [
        f"{line.operation} would run, and did not"
        for line in plan.lines
        if line.outcome == "would run"
        and line.node_id is None
        and any(call.operation == line.operation for call in calls)
    ]
    known = [line.operation for line in plan.lines]
    # What is called inside of what runs need not be known.
    around = tuple(f"{line.operation}{mark}" for line in plan.lines if line.outcome != "would replay" for mark in "/.")
    wrong += [
        f"{call.operation} {call.outcome}, of which the plan says nothing"
        for call in calls
        if call.operation not in known and not call.operation.startswith(around or ("?",))
    ]
    if all(call.outcome == "replayed" for call in calls) and not any("its body" in each for each in plan.unknown):
        # Then all could be known.
        wrong += [
            f"{line.operation} {line.outcome}: {line.reason}" for line in plan.lines if line.outcome != "would replay"
        ]
    return wrong


def foreseeable(name: str) -> bool:
    """Not so what comes of failures, and what the caller says besides."""
    return "error_handler" not in name and ZOO[name].call.keys() <= {"context"}


@pytest.mark.parametrize("name", [name for name in ZOO if foreseeable(name)])
def test_what_is_planned_happens(name: str, engine: MusubitoEngine, tmp_path: Path) -> None:
    specimen = ZOO[name]
    if tuple(map(int, version("langgraph").split(".")[:2])) < tuple(map(int, specimen.since.split("."))):
        pytest.skip(f"needs langgraph {specimen.since}")
    wrong = []
    for thread in ("cold", "warm"):
        subject = graph_of(specimen, musubito_graph, before_compiling=False, thread=thread)
        for number, (given, config) in enumerate(subject.rounds()):
            with run() as r:
                before = stored(engine, tmp_path), kept(subject.graph), dict(subject.ran.counts)
                plan, error = None, None
                try:
                    plan = musubito_plan(subject.graph, given, config, context=specimen.call.get("context"))
                except Exception as raised:
                    error = raised
                assert (stored(engine, tmp_path), kept(subject.graph), dict(subject.ran.counts)) == before
                with suppress(Exception) if error is None else pytest.raises(type(error)):
                    invoked(subject, given, config)
                if plan is not None:
                    wrong += [f"{thread}, round {number}: {each}" for each in wrongly(plan, r.calls)]
    assert wrong == []


def invoked(subject: Subject, given: Any, config: Any) -> None:
    """In the way that its nodes allow."""
    if subject.specimen.only == "async":
        asyncio.run(subject.graph.ainvoke(given, config, **subject.specimen.call))
    else:
        subject.graph.invoke(given, config, **subject.specimen.call)


# -- one by one --------------------------------------------------------------------------------------------------------
class State(TypedDict, total=False):
    n: int
    trail: Annotated[list[str], operator.add]


class Item(TypedDict):
    item: int


class Inner(TypedDict, total=False):
    got: str
    first: str


class Outer(TypedDict, total=False):
    got: str
    rounds: Annotated[int, operator.add]


class Follow(Protocol):
    """Plans, invokes, compares, and gives back what the plan said: by operation, how often each outcome."""

    def __call__(self, graph: Any, given: Any, config: Any = None) -> dict[str, dict[str, int]]: ...


@pytest.fixture
def follow(engine: MusubitoEngine, tmp_path: Path) -> Follow:
    def follow(graph: Any, given: Any, config: Any = None) -> dict[str, dict[str, int]]:
        before = stored(engine, tmp_path), kept(graph)
        plan = musubito_plan(graph, given, config)
        assert (stored(engine, tmp_path), kept(graph)) == before
        with run() as r:
            graph.invoke(given, config)
        assert wrongly(plan, r.calls) == []
        return told(plan)

    return follow


def told(plan: Plan) -> dict[str, dict[str, int]]:
    """By operation, how often each outcome; what is inside another one left out."""
    said: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for line in plan.lines:
        if line.within is None:
            said[line.operation.partition("/")[2]][line.outcome.removeprefix("would ")] += 1
    return {operation: dict(outcomes) for operation, outcomes in said.items()}


def leaves(name: str, mark: str = "") -> Any:
    """A node that leaves its name; of another mark, it is another one and gives the same."""

    def node(state: Any) -> Any:
        _ = [state]  # so all of it counts
        return {"trail": [name, mark][:1]}

    return node


def graph_with(edges: str, name: str = "g", **marks: str) -> Any:
    """A graph of nodes that leave their names: `"a b, a c"`, and `"b+c d"` for a join; `^` is the start."""
    builder = StateGraph(State)
    for node in dict.fromkeys(edges.replace(",", "").replace("+", " ").replace("^", "").split()):
        builder.add_node(node, leaves(node, marks.get(node, "")))
    for edge in edges.split(", "):
        start, end = edge.split()
        builder.add_edge(start.split("+") if "+" in start else START if start == "^" else start, end)
    return musubito_graph(builder.compile(name=name))


RUNS, REPLAYS, UNKNOWN = {"run": 1}, {"replay": 1}, {"unknown": 1}


def test_an_edited_node_runs_and_what_follows_it_is_unknown(follow: Follow) -> None:
    edges = "^ a, a b, b c"
    assert follow(graph_with(edges), {"n": 1}) == {"a": RUNS, "b": UNKNOWN, "c": UNKNOWN}
    assert follow(graph_with(edges), {"n": 1}) == {"a": REPLAYS, "b": REPLAYS, "c": REPLAYS}
    assert follow(graph_with(edges, b="edited"), {"n": 1}) == {"a": REPLAYS, "b": RUNS, "c": UNKNOWN}
    assert follow(graph_with(edges, b="edited"), {"n": 1}) == {"a": REPLAYS, "b": REPLAYS, "c": REPLAYS}


def test_an_edit_below_another_one_is_named(engine: MusubitoEngine) -> None:
    edges = "^ a, a b, b c"

    def says(**marks: str) -> list[str]:
        return [line.says for line in musubito_plan(graph_with(edges, **marks), {"n": 1}).lines]

    edited = f"its code changed: {__name__}.leaves.<locals>.node[mark]"
    assert says(a="edited") == [
        "no result of an earlier call is stored",
        "depends on what a gives",
        "depends on what a gives",
    ]
    graph_with(edges).invoke({"n": 1})
    assert says(a="edited", c="edited") == [edited, "depends on what a gives", f"{edited}; depends on what a gives"]
    graph_with(edges, c="edited").invoke({"n": 1})
    # Both codes of c are stored: none of them is a reason to run.
    for mark in ("", "edited"):
        assert says(a="edited", c=mark) == [edited, "depends on what a gives", "depends on what a gives"]


def test_a_join_of_which_one_parent_would_run_is_unknown(follow: Follow) -> None:
    edges = "^ a, a b, a c, b+c d, d e"
    follow(graph_with(edges), {"n": 1})
    said = follow(graph_with(edges, c="edited"), {"n": 1})
    assert said == {"a": REPLAYS, "b": REPLAYS, "c": RUNS, "d": UNKNOWN, "e": UNKNOWN}


def test_a_deferred_node_is_unknown_where_anything_would_run(follow: Follow) -> None:
    def build(mark: str = "") -> Any:
        builder = StateGraph(State)
        for name in "abc":
            builder.add_node(name, leaves(name, mark if name == "c" else ""))
        builder.add_node("last", leaves("last"), defer=True)
        for start, end in ((START, "a"), ("a", "b"), ("a", "last"), ("b", "c")):
            builder.add_edge(start, end)
        return musubito_graph(builder.compile(name="g"))

    follow(build(), {"n": 1})
    assert follow(build("edited"), {"n": 1}) == {"a": REPLAYS, "b": REPLAYS, "c": RUNS, "last": UNKNOWN}


def fanned(calls: Calls) -> Any:
    def each(state: State) -> list[Send]:
        calls("each")
        return [Send("work", {"item": item}) for item in range(state["n"])]

    def work(state: Item) -> Any:
        calls("work")
        return {"trail": [str(state["item"])]}

    builder = StateGraph(State).add_node("items", leaves("items")).add_node(work).add_node("sum", leaves("sum"))
    builder.add_edge(START, "items").add_conditional_edges("items", each, ["work"]).add_edge("work", "sum")
    return musubito_graph(builder.compile(name="g"))


def test_of_a_fan_out_each_item_is_looked_at(follow: Follow, engine: MusubitoEngine) -> None:
    calls = Calls()
    graph = fanned(calls)
    assert follow(graph, {"n": 3}) == {"items": RUNS, "items:each": UNKNOWN, "work": UNKNOWN, "sum": UNKNOWN}
    with run() as r:
        graph.invoke({"n": 3})
    engine.invalidate(next(call.node_id for call in r.calls if call.operation == "g/work"))
    said = follow(graph, {"n": 3})
    assert said == {"items": REPLAYS, "items:each": REPLAYS, "work": {"replay": 2, "run": 1}, "sum": UNKNOWN}
    assert calls["work"] == 4
    engine.invalidate("g/items:each")
    assert follow(graph, {"n": 3}) == {"items": REPLAYS, "items:each": RUNS, "work": UNKNOWN, "sum": UNKNOWN}


def test_equal_items_are_samples_of_their_own(follow: Follow) -> None:
    def build(items: list[int]) -> Any:
        def each(state: State) -> list[Send]:
            return [Send("work", {"item": item}) for item in items]

        def work(state: Item) -> Any:
            return {"trail": [str(state["item"])]}

        builder = StateGraph(State).add_node(work).add_conditional_edges(START, each, ["work"])
        return musubito_graph(builder.compile(name="g"))

    follow(build([7]), {"n": 1})
    build([7, 7]).invoke({"n": 2})
    assert follow(build([7, 7]), {"n": 2}) == {"__start__:each": REPLAYS, "work": {"replay": 2}}


def looping(calls: Calls, mark: str = "") -> Any:
    def on(state: State) -> Literal["again", "__end__"]:
        return "again" if len(state["trail"]) < 6 else "__end__"

    def again(state: State) -> Any:
        calls("again")
        return {"trail": ["again", mark][:1]}

    builder = StateGraph(State).add_node(again).add_node("first", leaves("first")).add_edge(START, "first")
    builder.add_edge("first", "again").add_conditional_edges("again", on)
    return musubito_graph(builder.compile(name="g"))


def test_a_loop_is_followed_round_by_round(follow: Follow) -> None:
    calls = Calls()
    assert follow(looping(calls), {"n": 1}) == {"first": RUNS, "again": UNKNOWN, "again:on": UNKNOWN}
    assert follow(looping(calls), {"n": 1}) == {"first": REPLAYS, "again": {"replay": 5}, "again:on": {"replay": 5}}
    said = follow(looping(calls, "edited"), {"n": 1})
    assert said == {"first": REPLAYS, "again": {"run": 1, "unknown": 1}, "again:on": UNKNOWN}


def test_a_loop_without_an_end_ends_at_the_limit(engine: MusubitoEngine) -> None:
    graph = looping(Calls())
    graph.invoke({"n": 1})
    plan = musubito_plan(graph, {"n": 1}, {"recursion_limit": 3})
    assert told(plan)["again"] == {"replay": 2}
    assert plan.unknown == ("the recursion limit is reached: the invocation would raise GraphRecursionError",)


def test_a_polled_node_gives_its_next_sample_within_a_run(engine: MusubitoEngine) -> None:
    graph = graph_with("^ a")
    graph.invoke({"n": 1})
    with run() as r:
        assert told(musubito_plan(graph, {"n": 1})) == {"a": REPLAYS}
        # A plan gives no samples away.
        assert told(musubito_plan(graph, {"n": 1})) == {"a": REPLAYS}
        graph.invoke({"n": 1})
        plan = musubito_plan(graph, {"n": 1})
        assert told(plan) == {"a": RUNS}
        assert plan.lines[0].reason == "another sample"
        graph.invoke({"n": 1})
    assert [call.outcome for call in r.calls] == ["replayed", "ran"]
    assert plan.lines[0].node_id == r.calls[1].node_id


def routed(router: Any) -> Any:
    builder = StateGraph(State)
    for name in "abcx":
        builder.add_node(name, leaves(name))
    builder.add_edge(START, "a").add_conditional_edges("a", router, {"left": "b", "right": "c"}).add_edge("b", "x")
    return musubito_graph(builder.compile(name="g"))


def test_a_router_that_would_run_leaves_open_all_its_ends(follow: Follow) -> None:
    def way(state: State) -> str:
        return "left"

    def other(state: State) -> str:
        return "right" if state["n"] > 1 else "left"

    other.__name__ = "way"
    follow(routed(way), {"n": 1})
    assert follow(routed(way), {"n": 1}) == {"a": REPLAYS, "a:way": REPLAYS, "b": REPLAYS, "x": REPLAYS}
    assert follow(routed(other), {"n": 1}) == {"a": REPLAYS, "a:way": RUNS, "b": UNKNOWN, "c": UNKNOWN, "x": UNKNOWN}


def test_what_a_replayed_router_does_not_lead_to_is_no_part_of_it(follow: Follow) -> None:
    def way(state: State) -> str:
        return "left"

    def build(mark: str = "") -> Any:
        builder = StateGraph(State)
        for name in "abcs":
            builder.add_node(name, leaves(name, mark if name == "s" else ""))
        builder.add_edge(START, "a").add_edge(START, "s").add_conditional_edges("a", way, {"left": "b", "right": "c"})
        return musubito_graph(builder.compile(name="g"))

    follow(build(), {"n": 1})
    assert follow(build("edited"), {"n": 1}) == {"a": REPLAYS, "a:way": REPLAYS, "s": RUNS, "b": UNKNOWN}


def test_a_command_leads_where_it_was_declared_to(follow: Follow) -> None:
    def build(mark: str = "") -> Any:
        def a(state: State) -> Command[Literal["b", "c"]]:
            return Command(goto="b", update={"trail": ["a", mark][:1]})

        builder = StateGraph(State).add_node(a).add_edge(START, "a")
        for name in "bc":
            builder.add_node(name, leaves(name))
        return musubito_graph(builder.compile(name="g"))

    assert follow(build(), {"n": 1}) == {"a": RUNS, "b": UNKNOWN, "c": UNKNOWN}
    assert follow(build(), {"n": 1}) == {"a": REPLAYS, "b": REPLAYS}
    assert follow(build("edited"), {"n": 1}) == {"a": RUNS, "b": UNKNOWN, "c": UNKNOWN}


def test_a_command_that_is_declared_nowhere_may_lead_anywhere(engine: MusubitoEngine) -> None:
    def first(state: State) -> Any:
        return Command(goto="second", update={"n": 1})

    def second(state: State) -> Any:
        return {"n": 2}

    graph = StateGraph(State).add_node(first).add_node(second).add_edge(START, "first").compile(name="g")
    plan = musubito_plan(musubito_graph(graph), {"n": 0})
    assert [line.operation for line in plan.lines] == ["g/first"]
    assert any(text.startswith("where g/first goes: ") for text in plan.unknown)


def test_nor_is_what_a_replayed_command_does_not_lead_to(follow: Follow) -> None:
    def build(mark: str = "") -> Any:
        def a(state: State) -> Command[Literal["b", "c"]]:
            return Command(goto="b", update={"trail": ["a"]})

        builder = StateGraph(State).add_node(a).add_edge(START, "a").add_edge(START, "s")
        for name in "bcs":
            builder.add_node(name, leaves(name, mark if name == "s" else ""))
        return musubito_graph(builder.compile(name="g"))

    follow(build(), {"n": 1})
    assert follow(build("edited"), {"n": 1}) == {"a": REPLAYS, "s": RUNS, "b": UNKNOWN}


def nested(*, inner: str = "", beside: str = "") -> Any:
    sub = StateGraph(State)
    for name in ("x", "y", "z"):
        sub.add_node(name, leaves(name, inner if name == "y" else ""))
    sub.add_edge(START, "x").add_edge("x", "y").add_edge("y", "z")
    builder = StateGraph(State).add_node("sub", sub.compile()).add_node("side", leaves("side", beside))
    builder.add_node("after", leaves("after")).add_edge(START, "sub").add_edge(START, "side")
    builder.add_edge(["sub", "side"], "after")
    return musubito_graph(builder.compile(name="g"))


def test_inner_nodes_of_subgraphs_are_followed(follow: Follow) -> None:
    inside = {"sub/x": REPLAYS, "sub/y": REPLAYS, "sub/z": REPLAYS}
    cold = follow(nested(), {"n": 1})
    assert cold == {"sub/x": RUNS, "side": RUNS, "sub/y": UNKNOWN, "sub/z": UNKNOWN, "after": UNKNOWN}
    assert follow(nested(), {"n": 1}) == {**inside, "side": REPLAYS, "after": REPLAYS}
    said = follow(nested(inner="edited"), {"n": 1})
    assert said == {"sub/x": REPLAYS, "sub/y": RUNS, "sub/z": UNKNOWN, "side": REPLAYS, "after": UNKNOWN}
    # A graph beside what would run has a state of its own, and is followed to its end.
    assert follow(nested(beside="edited"), {"n": 1}) == {**inside, "side": RUNS, "after": UNKNOWN}


def agent(model: ScriptedModel, calls: Calls, **kwargs: Any) -> Any:
    @tool
    def echo(text: str) -> str:
        """Say it again."""
        calls("echo")
        return f"echo {text}"

    return musubito_graph(create_agent(model, [echo], name="clerk"), **kwargs)


def test_an_agent_with_tools(follow: Follow) -> None:
    calls = Calls()
    asked = {"messages": [("user", "hello")]}
    cold = follow(agent(ScriptedModel(calls=calls), calls), asked)
    assert cold["model"] == {"run": 1, "unknown": 1}
    assert cold["tools"] == UNKNOWN
    warm = follow(agent(ScriptedModel(calls=calls), calls), asked)
    assert (warm["model"], warm["tools"]) == ({"replay": 1, "unknown": 1}, {"run": 1, "unknown": 1})
    plan = musubito_plan(agent(ScriptedModel(calls=calls), calls), asked)
    tools = next(line for line in plan.lines if line.operation == "clerk/tools")
    assert str(tools) == "clerk/tools would run: it is live, so it runs each time"


def test_an_agent_whose_tools_are_opted_in(follow: Follow) -> None:
    calls = Calls()
    asked = {"messages": [("user", "hello")]}
    follow(agent(ScriptedModel(calls=calls), calls, replay_tools=True), asked)
    warm = follow(agent(ScriptedModel(calls=calls), calls, replay_tools=True), asked)
    assert (warm["model"], warm["tools"]) == ({"replay": 2}, REPLAYS)
    assert {outcome for outcomes in warm.values() for outcome in outcomes} == {"replay"}
    other = follow(agent(ScriptedModel(calls=calls, model="echo-2"), calls, replay_tools=True), asked)
    assert (other["model"], other["tools"]) == ({"run": 1, "unknown": 1}, UNKNOWN)


def test_the_tools_of_a_node_that_would_run_are_inside_it(engine: MusubitoEngine, follow: Follow) -> None:
    def build(mark: str = "") -> Any:
        @tool
        def add(a: int, b: int) -> int:
            """Add."""
            return a + b

        @tool
        def name(a: int) -> str:
            """Name it."""
            return [str(a), mark][0]

        def ask(state: MessagesState) -> Any:
            wanted = ("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})
            return {"messages": [AIMessage("", tool_calls=[{"name": n, "args": a, "id": str(a)} for n, a in wanted])]}

        builder = StateGraph(MessagesState).add_node("ask", ask).add_node("tools", ToolNode([add, name]))
        graph = builder.add_edge(START, "ask").add_edge("ask", "tools").compile(name="g")
        return musubito_graph(graph, replay_tools=True)

    asked = {"messages": [HumanMessage("hi")]}
    assert follow(build(), asked) == {"ask": RUNS, "tools": UNKNOWN}
    assert follow(build(), asked) == {"ask": REPLAYS, "tools": REPLAYS}
    assert follow(build("edited"), asked) == {"ask": REPLAYS, "tools": RUNS}
    engine.invalidate("g/tools")
    plan = musubito_plan(build("edited"), asked)
    # Of the tools, those that are asked for.
    assert [(line.operation, line.within) for line in plan.lines if line.within] == [("g/tools.add", "g/tools")]
    (tools,) = (line.estimate for line in plan.lines if line.operation == "g/tools")
    assert plan.estimate == tools


def test_the_estimate_is_of_what_would_run(engine: MusubitoEngine) -> None:
    calls = Calls()
    asked = {"messages": [("user", "hello")]}
    agent(ScriptedModel(calls=calls), calls, replay_tools=True).invoke(asked)
    warm = musubito_plan(agent(ScriptedModel(calls=calls), calls, replay_tools=True), asked)
    assert (warm.estimate, warm.perhaps, warm.unknown) == (Cost(), Cost(), ())
    plan = musubito_plan(agent(ScriptedModel(calls=calls, model="echo-2"), calls, replay_tools=True), asked)
    (first, *_) = plan.lines
    assert first.estimate is not None
    assert plan.estimate == first.estimate
    # The one model that ran twice was asked with one message and with three, and said two tokens each time.
    assert [tuple(each) for each in first.estimate.tokens.values()] == [(2, 2)]
    assert first.estimate.compute_ms > 0
    # What is inside of tools is in their own estimate.
    parts = [line.estimate.compute_ms for line in plan.lines if line.outcome == "unknown" and not line.within]
    assert plan.perhaps.compute_ms == pytest.approx(sum(parts))


# -- what surrounds an invocation --------------------------------------------------------------------------------------
def test_nobody_hears_of_a_plan(engine: MusubitoEngine) -> None:
    class Hears(BaseCallbackHandler):
        def __init__(self) -> None:
            self.heard: list[str] = []

        def on_chain_start(self, *args: Any, **kwargs: Any) -> None:
            self.heard.append("chain")

    def node(state: State) -> Any:
        get_stream_writer()("an event")
        _ = [state]  # so all of it counts
        return {"trail": ["a"]}

    hears = Hears()
    graph = musubito_graph(StateGraph(State).add_node("a", node).add_edge(START, "a").compile(name="g"))
    graph = graph.with_config(callbacks=[hears])
    assert list(graph.stream({"n": 1}, stream_mode="custom")) == ["an event"]
    hears.heard.clear()
    with collect_runs() as collected:
        assert told(musubito_plan(graph, {"n": 1}, {"callbacks": [hears]})) == {"a": REPLAYS}
        assert told(musubito_plan(graph, {"n": 2}, {"callbacks": [hears]})) == {"a": RUNS}
    assert (hears.heard, collected.traced_runs) == ([], [])


def test_a_plan_inside_of_a_node_is_no_part_of_it(engine: MusubitoEngine) -> None:
    inner, plans = graph_with("^ a", "inner"), []
    inner.invoke({"n": 1})

    def node(state: State) -> Any:
        plans.append(told(musubito_plan(inner, {"n": 1})))
        return {"trail": ["outer"]}

    outer = musubito_graph(StateGraph(State).add_node("o", node).add_edge(START, "o").compile(name="g"))
    with run() as r:
        events = list(outer.stream({"n": 1}, stream_mode="updates", subgraphs=True))
    assert plans == [{"a": REPLAYS}]
    assert events == [((), {"o": {"trail": ["outer"]}})]
    assert [call.operation for call in r.calls] == ["g/o"]


def test_a_thread_is_gone_on_with_and_left_as_it_is(follow: Follow) -> None:
    builder = StateGraph(State).add_node("a", leaves("a")).add_node("b", leaves("b"))
    builder.add_edge(START, "a").add_edge("a", "b")
    graph = musubito_graph(builder.compile(name="g", checkpointer=InMemorySaver()))
    first, second = ({"configurable": {"thread_id": thread}} for thread in ("first", "second"))
    assert follow(graph, {"n": 1}, first) == {"a": RUNS, "b": UNKNOWN}
    assert follow(graph, {"n": 1}, second) == {"a": REPLAYS, "b": REPLAYS}
    # The trail that was left there before is a part of what the nodes see.
    assert follow(graph, {"n": 1}, first) == {"a": RUNS, "b": UNKNOWN}
    assert follow(graph, {"n": 1}, second) == {"a": REPLAYS, "b": REPLAYS}
    assert graph.get_state(second).values["trail"] == ["a", "b", "a", "b"]


def test_a_subgraph_with_a_memory_remembers_within_a_plan(follow: Follow) -> None:
    def build() -> Any:
        sub = StateGraph(State).add_node("x", leaves("x")).add_edge(START, "x").compile(checkpointer=True)

        def on(state: State) -> Literal["sub", "__end__"]:
            return "sub" if len(state["trail"]) < 5 else "__end__"

        builder = StateGraph(State).add_node("sub", sub).add_edge(START, "sub").add_conditional_edges("sub", on)
        return musubito_graph(builder.compile(name="g", checkpointer=InMemorySaver()))

    first, second = ({"configurable": {"thread_id": thread}} for thread in ("first", "second"))
    follow(build(), {"n": 1}, first)
    said = follow(build(), {"n": 1}, second)
    assert {outcome for outcomes in said.values() for outcome in outcomes} == {"replay"}
    assert sum(said["sub/x"].values()) > 1


def test_of_what_a_subgraph_remembers_nothing_is_lost(follow: Follow) -> None:
    def begin(state: Inner) -> Any:
        return {} if "first" in state else {"first": f"round {state['got']}"}

    def last(state: Inner) -> Any:
        return {"got": f"since {state['first']}"}

    def step(state: Outer) -> Any:
        return {"rounds": 1, "got": str(state["rounds"])}

    def on(state: Outer) -> Literal["step", "__end__"]:
        return "step" if state["rounds"] % 2 else "__end__"

    sub = StateGraph(Inner).add_node(begin).add_node(last).add_edge(START, "begin").add_edge("begin", "last")
    builder = StateGraph(Outer).add_node("sub", sub.compile(checkpointer=True)).add_node(step)
    builder.add_edge(START, "step").add_edge("step", "sub").add_conditional_edges("sub", on)
    graph = musubito_graph(builder.compile(name="g", checkpointer=InMemorySaver()))
    for _ in range(2):
        for number in range(2):
            said = follow(graph, {"rounds": 0}, {"recursion_limit": 20, "configurable": {"thread_id": str(number)}})
    assert {outcome for outcomes in said.values() for outcome in outcomes} == {"replay"}
    assert said["sub/last"] == {"replay": 2}


def test_what_was_done_beside_a_question_leads_on(engine: MusubitoEngine) -> None:
    def ask(state: State) -> Any:
        return {"trail": [interrupt("well?")]}

    builder = StateGraph(State).add_node("ask", ask).add_node("b", leaves("b")).add_node("c", leaves("c"))
    builder.add_edge(START, "ask").add_edge(START, "b").add_edge("b", "c")
    graph = musubito_graph(builder.compile(name="g", checkpointer=InMemorySaver()))
    thread = {"configurable": {"thread_id": "1"}}
    graph.invoke({"n": 1}, thread)
    assert told(musubito_plan(graph, Command(resume="yes"), thread)) == {"ask": RUNS, "c": UNKNOWN}


def test_the_question_of_a_node_is_not_asked(engine: MusubitoEngine) -> None:
    def ask(state: State) -> Any:
        return {"trail": [interrupt("well?")]}

    builder = StateGraph(State).add_node("a", leaves("a")).add_node("ask", ask).add_node("b", leaves("b"))
    builder.add_edge(START, "a").add_edge("a", "ask").add_edge("ask", "b")
    graph = musubito_graph(builder.compile(name="g", checkpointer=InMemorySaver()))
    thread = {"configurable": {"thread_id": "1"}}
    graph.invoke({"n": 1}, thread)
    assert told(musubito_plan(graph, Command(resume="yes"), thread)) == {"ask": RUNS, "b": UNKNOWN}
    assert graph.get_state(thread).next == ("ask",)
    assert graph.invoke(Command(resume="yes"), thread)["trail"] == ["a", "yes", "b"]
    assert told(musubito_plan(graph, {"n": 1}, {"configurable": {"thread_id": "2"}})) == {
        "a": REPLAYS,
        "ask": RUNS,
        "b": UNKNOWN,
    }


def test_an_interrupt_that_was_compiled_in_ends_it(follow: Follow) -> None:
    builder = StateGraph(State).add_node("a", leaves("a")).add_node("b", leaves("b"))
    builder.add_edge(START, "a").add_edge("a", "b")
    graph = musubito_graph(builder.compile(name="g", checkpointer=InMemorySaver(), interrupt_before=["b"]))
    graph.invoke({"n": 1}, {"configurable": {"thread_id": "1"}})
    plan = musubito_plan(graph, {"n": 1}, {"configurable": {"thread_id": "2"}})
    assert told(plan) == {"a": REPLAYS}
    assert "interrupt" in plan.unknown[0]


def test_what_was_read_from_the_store_is_looked_at_again(follow: Follow) -> None:
    store = InMemoryStore()
    store.put(("facts",), "knots", {"text": "old"})

    def look(state: State, runtime: Runtime[Any]) -> Any:
        store: Any = runtime.store
        return {"trail": [store.get(("facts",), "knots").value["text"]]}

    builder = StateGraph(State).add_node("look", look).add_node("b", leaves("b"))
    builder.add_edge(START, "look").add_edge("look", "b")
    graph = musubito_graph(builder.compile(name="g", store=store))
    follow(graph, {"n": 1})
    assert follow(graph, {"n": 1}) == {"look": REPLAYS, "b": REPLAYS}
    store.put(("facts",), "knots", {"text": "new"})
    assert follow(graph, {"n": 1}) == {"look": RUNS, "b": UNKNOWN}


@pytest.mark.parametrize("is_followed", [True, False])
def test_a_search_by_meaning_asks_no_model(engine: MusubitoEngine, tmp_path: Path, is_followed: bool) -> None:
    """Its vectors are known, unless it cannot be told which model makes them."""
    calls = Calls()
    with (tmp_path / "vectors").open("w") as file:
        held = None if is_followed else file

    def embed(texts: list[str]) -> list[list[float]]:
        calls("embed")
        return [[1.0, float(len(text))] for text in texts if held is None or held.closed]

    store = InMemoryStore(index={"dims": 2, "embed": embed})
    store.put(("facts",), "knots", {"text": "old"})

    def look(state: State, runtime: Runtime[Any]) -> Any:
        store: Any = runtime.store
        return {"trail": [each.key for each in store.search(("facts",), query="rope")]}

    graph = StateGraph(State).add_node("look", look).add_edge(START, "look").compile(name="g", store=store)
    graph = musubito_graph(graph)
    graph.invoke({"n": 1})
    before = calls["embed"]
    plan = musubito_plan(graph, {"n": 1})
    assert calls["embed"] == before
    assert told(plan) == {"look": REPLAYS if is_followed else UNKNOWN}
    assert is_followed or "searched the store by meaning" in plan.unknown[0]


def test_langgraphs_own_cache_is_read_and_not_written_to(engine: MusubitoEngine) -> None:
    cache: InMemoryCache[Any] = InMemoryCache()
    builder = StateGraph(State).add_node("a", leaves("a"), cache_policy=CachePolicy()).add_node("b", leaves("b"))
    builder.add_edge(START, "a").add_edge("a", "b")
    graph = musubito_graph(builder.compile(name="g"))
    graph.invoke({"n": 1})
    graph.cache = cache
    assert told(musubito_plan(graph, {"n": 1})) == {"a": REPLAYS, "b": REPLAYS}
    assert not cache._cache
    graph.invoke({"n": 1})
    # Now it answers before anything of ours is asked.
    assert told(musubito_plan(graph, {"n": 1})) == {"b": REPLAYS}


def test_effects_are_not_done(engine: MusubitoEngine) -> None:
    calls = Calls()

    def mail(state: State) -> Any:
        calls("mail")
        return {"trail": ["sent"]}

    graph = StateGraph(State).add_node(mail).add_edge(START, "mail").compile(name="g")
    effect = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT)
    graph = musubito_graph(graph, steps={"mail": effect})
    assert told(musubito_plan(graph, {"n": 1})) == {"mail": RUNS}
    graph.invoke({"n": 1})
    assert told(musubito_plan(graph, {"n": 1})) == {"mail": REPLAYS}
    assert calls["mail"] == 1


def test_an_effect_of_which_nobody_knows_is_unknown(engine: MusubitoEngine) -> None:
    def mail(state: State) -> Any:
        raise ConnectionError("gone")

    graph = StateGraph(State).add_node(mail).add_edge(START, "mail").compile(name="g")
    asked: list[str] = []
    effect = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT, on_unknown=asked.append)
    graph = musubito_graph(graph, steps={"mail": effect})
    with pytest.raises(ConnectionError):
        graph.invoke({"n": 1})
    plan = musubito_plan(graph, {"n": 1})
    assert (told(plan), asked) == ({"mail": UNKNOWN}, [])
    assert plan.unknown == ("g/mail: it is not known whether its last attempt took place",)


def test_the_modes_of_an_invocation(engine: MusubitoEngine) -> None:
    graph = graph_with("^ a, a b")

    def said(mode: str) -> Any:
        return told(musubito_plan(graph, {"n": 1}, {"configurable": {"musubito": {"mode": mode}}}))

    assert said("replay_only") == {"a": UNKNOWN, "b": UNKNOWN}
    graph.invoke({"n": 1})
    assert said("replay_only") == {"a": REPLAYS, "b": REPLAYS}
    assert said("refresh") == {"a": RUNS, "b": UNKNOWN}
    assert said("off") == {"a": RUNS, "b": UNKNOWN}
    elsewhere = {"configurable": {"musubito": {"namespace": "elsewhere"}}}
    assert told(musubito_plan(graph, {"n": 1}, elsewhere)) == {"a": RUNS, "b": UNKNOWN}
    graph.invoke({"n": 1}, elsewhere)
    assert told(musubito_plan(graph, {"n": 1}, elsewhere)) == {"a": REPLAYS, "b": REPLAYS}


def test_what_cannot_be_identified_would_run(engine: MusubitoEngine, recwarn: pytest.WarningsRecorder) -> None:
    graph = graph_with("^ a, a b")
    plan = musubito_plan(graph, {"n": threading.Lock()})
    assert told(plan) == {"a": RUNS, "b": UNKNOWN}
    assert plan.lines[0].reason is ReplayReason.INPUT_NOT_IDENTIFIED
    assert [str(each.message) for each in recwarn if "unrecorded" in str(each.message)] == []


def test_an_entrypoint_is_unknown_with_what_its_tasks_took(engine: MusubitoEngine) -> None:
    calls = Calls()

    @task
    def square(n: int) -> int:
        calls("square")
        return n * n

    @entrypoint()
    def work(n: int) -> int:
        calls("work")
        return square(n).result()

    graph = musubito_graph(work)
    graph.invoke(3)
    plan = musubito_plan(graph, 3)
    assert [(line.operation, line.outcome) for line in plan.lines] == [("work", "unknown"), ("work/square", "unknown")]
    assert plan.perhaps.compute_ms > 0
    assert "its body runs each time" in plan.unknown[0]
    assert (calls["work"], calls["square"]) == (1, 1)


def test_what_is_no_graph_to_plan() -> None:
    builder = StateGraph(State).add_node("a", leaves("a")).add_edge(START, "a")
    with pytest.raises(TypeError, match=r"call compile\(\)"):
        musubito_plan(musubito_graph(builder), {"n": 1})
    with pytest.raises(TypeError, match="musubito_graph has wrapped"):
        musubito_plan(builder.compile(), {"n": 1})


async def test_on_an_event_loop_it_says_what_to_do(engine: MusubitoEngine) -> None:
    graph = graph_with("^ a")
    with pytest.raises(MusubitoError, match="to_thread"):
        musubito_plan(graph, {"n": 1})
    assert told(await asyncio.to_thread(musubito_plan, graph, {"n": 1})) == {"a": RUNS}


def test_a_saver_that_was_never_used_stays_so(engine: MusubitoEngine, tmp_path: Path):
    """LangGraph's own makes its tables when it is asked for the first time."""

    def dump() -> list[str]:
        with closing(sqlite3.connect(tmp_path / "saver.db")) as connection:
            return list(connection.iterdump())

    builder = StateGraph(dict).add_node("node", lambda state: {"n": 1}).add_edge(START, "node")
    thread = {"configurable": {"thread_id": "1"}}
    with SqliteSaver.from_conn_string(str(tmp_path / "saver.db")) as saver:
        graph = musubito_graph(builder.compile(checkpointer=saver))
        empty = dump()
        assert [line.outcome for line in musubito_plan(graph, {"n": 0}, thread).lines] == ["would run"]
        assert dump() == empty
        graph.invoke({"n": 0}, thread)
    with SqliteSaver.from_conn_string(str(tmp_path / "saver.db")) as saver:
        graph = musubito_graph(builder.compile(checkpointer=saver))
        held = dump()
        musubito_plan(graph, {"n": 0}, thread)
        assert dump() == held


def test_without_a_config_a_graph_with_checkpoints_is_asked_in_a_new_thread(engine: MusubitoEngine) -> None:
    builder = StateGraph(MessagesState).add_node("say", lambda _: {"messages": [AIMessage("hi", id="a")]})
    graph = musubito_graph(builder.add_edge(START, "say").compile(name="g", checkpointer=InMemorySaver()))
    given = {"messages": [HumanMessage("x", id="x")]}
    assert [line.outcome for line in graph.explain(given).lines] == [RUN]
    graph.invoke(given, {"configurable": {"thread_id": "1"}})
    assert [line.outcome for line in graph.explain(given).lines] == [REPLAY]
