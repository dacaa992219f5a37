"""Graphs that stop and go on: interrupts, breakpoints, changed states, time travel, other threads of history."""

from __future__ import annotations

import operator
from typing import Annotated, Any, Literal, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt

from tests.langgraph.specimen import Act, Shelf, checkpointed

ZOO = Shelf()


class State(TypedDict, total=False):
    n: int
    trail: Annotated[list[Any], operator.add]


def three():
    return {"n": 3, "trail": ["in"]}


def answer(value):
    return lambda: Command(resume=value)


def all_answered(graph, config):
    """One answer for each question, by its id."""
    return Command(resume={one.id: f"to {one.value}" for one in graph.get_state(config).interrupts}), config


def stop(ran, name):
    def node(state):
        _ = [state]  # so all of it counts
        ran(name)
        return {"trail": [name]}

    return node


def ask(ran, name, *questions):
    def node(state):
        ran(name)
        return {"trail": [name, *[interrupt(question) for question in questions]]}

    return node


def row(builder, *names):
    for before, name in zip([START, *names], names, strict=False):
        builder.add_edge(before, name)
    return builder


def stops(ran, names):
    builder = StateGraph(State)
    for name in names:
        builder.add_node(name, stop(ran, name))
    return builder


# -- interrupts ----------------------------------------------------------------------------------------------------
@ZOO(three, answer("yes"), compile=checkpointed(), runs_again=frozenset({"ask"}))
def one_question(ran):
    builder = stops(ran, "ab")
    builder.add_node("ask", ask(ran, "ask", {"question": "sure?"}))
    return row(builder, "a", "ask", "b")


@ZOO(three, answer("yes"), answer(["no", 1]), compile=checkpointed(), runs_again=frozenset({"ask"}))
def two_questions_in_a_node(ran):
    builder = stops(ran, "ab")
    builder.add_node("ask", ask(ran, "ask", "first?", "second?"))
    return row(builder, "a", "ask", "b")


@ZOO(three, lambda: None, answer("yes"), compile=checkpointed(), runs_again=frozenset({"ask"}))
def asked_again_before_the_answer(ran):
    builder = stops(ran, "a")
    builder.add_node("ask", ask(ran, "ask", "sure?"))
    return row(builder, "a", "ask")


@ZOO(three, runs_again=frozenset({"ask"}))
def question_without_a_checkpointer(ran):
    builder = stops(ran, "a")
    builder.add_node("ask", ask(ran, "ask", "sure?"))
    return row(builder, "a", "ask")


@ZOO(
    three,
    lambda: Act(all_answered),
    compile=checkpointed(),
    parallel=True,
    runs_again=frozenset({"one", "two"}),
)
def questions_side_by_side(ran):
    builder = stops(ran, "ac")
    builder.add_node("one", ask(ran, "one", "one?")).add_node("two", ask(ran, "two", "two?"))
    row(builder, "a", "one").add_edge("a", "two").add_edge("a", "c")
    return builder


@ZOO(
    three,
    lambda: Act(all_answered),
    compile=checkpointed(),
    parallel=True,
    runs_again=frozenset({"ask"}),
)
def two_identical_sends_that_ask(ran):
    builder = StateGraph(State)
    builder.add_node("ask", ask(ran, "ask", "which?"))
    return builder.add_conditional_edges(START, lambda state: [Send("ask", {}), Send("ask", {})], ["ask"])


def asking_inside(ran, **more):
    inside = stops(ran, "xy")
    inside.add_node("ask", ask(ran, "ask", "deep?"))
    builder = stops(ran, "ab")
    builder.add_node("sub", row(inside, "x", "ask", "y").compile(**more))
    return row(builder, "a", "sub", "b")


@ZOO(three, answer("yes"), compile=checkpointed(), runs_again=frozenset({"ask"}))
def question_in_a_subgraph(ran):
    return asking_inside(ran)


@ZOO(three, answer("yes"), three, answer("no"), compile=checkpointed(), runs_again=frozenset({"ask"}))
def question_in_a_subgraph_with_a_memory(ran):
    return asking_inside(ran, checkpointer=True)


@ZOO(three, answer("yes"), compile=checkpointed(), runs_again=frozenset({"call", "ask"}))
def question_in_a_subgraph_called_by_a_function(ran):
    sub = row(stops(ran, "x").add_node("ask", ask(ran, "ask", "deep?")), "x", "ask").compile()

    def call(state):
        ran("call")
        return {"trail": sub.invoke({"trail": []})["trail"]}

    builder = stops(ran, "ab")
    builder.add_node("call", call)
    return row(builder, "a", "call", "b")


@ZOO(three, answer("c"), compile=checkpointed(), runs_again=frozenset({"ask"}))
def answer_that_routes(ran):
    def ask(state) -> Command[Literal["b", "c"]]:
        ran("ask")
        return Command(goto=interrupt("where?"), update={"n": 4})

    builder = stops(ran, "bc")
    builder.add_node("ask", ask)
    return row(builder, "ask")


@ZOO(three, answer(1), answer("text"), compile=checkpointed(), runs_again=frozenset({"ask"}))
def asked_until_it_is_right(ran):
    def ask(state):
        ran("ask")
        given = interrupt("a word?")
        while not isinstance(given, str):
            given = interrupt(f"{given} is no word")
        return {"trail": [given]}

    builder = stops(ran, "a")
    builder.add_node("ask", ask)
    return row(builder, "ask", "a")


# -- breakpoints ---------------------------------------------------------------------------------------------------
@ZOO(three, lambda: None, compile=checkpointed(interrupt_before=["b"]))
def stopped_before(ran):
    return row(stops(ran, "abc"), "a", "b", "c")


@ZOO(three, lambda: None, lambda: None, compile=checkpointed(interrupt_after="*"))
def stopped_after(ran):
    return row(stops(ran, "abc"), "a", "b", "c")


@ZOO(three, compile=checkpointed(), call={"interrupt_before": ["c"], "durability": "exit"})
def stopped_by_the_caller(ran):
    return row(stops(ran, "abc"), "a", "b", "c")


# -- changed states and time travel --------------------------------------------------------------------------------
def changed(values, as_node=None):
    return lambda: Act(lambda graph, config: (None, graph.update_state(config, values, as_node=as_node)))


@ZOO(three, changed({"n": 10, "trail": ["changed"]}), compile=checkpointed(interrupt_before=["b"]))
def updated_while_stopped(ran):
    return row(stops(ran, "abc"), "a", "b", "c")


@ZOO(three, changed({"n": 10}, "a"), compile=checkpointed())
def updated_as_a_node(ran):
    """The update counts as what `a` gave: `b` and `c` run again, on another state."""

    def b(state):
        ran("b")
        return {"trail": [state["n"]]}

    builder = stops(ran, "ac")
    builder.add_node("b", b)
    return row(builder, "a", "b", "c")


def before(node):
    """From the checkpoint where `node` came next."""

    def go(graph, config):
        (found,) = [past for past in graph.get_state_history(config) if past.next == (node,)]
        return None, found.config

    return lambda: Act(go)


def forked(node, values):
    def go(graph, config):
        (found,) = [past for past in graph.get_state_history(config) if past.next == (node,)]
        return None, graph.update_state(found.config, values)

    return lambda: Act(go)


@ZOO(three, before("b"), compile=checkpointed(), repeats=True)
def time_travel(ran):
    return row(stops(ran, "abc"), "a", "b", "c")


@ZOO(three, forked("b", {"n": 5, "trail": ["forked"]}), compile=checkpointed())
def fork(ran):
    return row(stops(ran, "abc"), "a", "b", "c")


# Before, it went further than the question at first.
@ZOO(
    three,
    answer("yes"),
    before("ask"),
    answer("no"),
    compile=checkpointed(),
    runs_again=frozenset({"ask"}),
    since="1.1",
)
def time_travel_to_a_question(ran):
    builder = stops(ran, "ab")
    builder.add_node("ask", ask(ran, "ask", "sure?"))
    return row(builder, "a", "ask", "b")


@ZOO(three, lambda: {"n": 4}, three, compile=checkpointed())
def rounds_in_one_thread(ran):
    return row(stops(ran, "ab"), "a", "b")


@ZOO(three, lambda: None, compile=checkpointed(), replays=False)
def resumed_after_a_failure(ran):
    """The node fails once; the next round goes on from there."""

    def flaky(state):
        if ran("flaky") == 1:
            raise ValueError("not yet")
        return {"trail": ["flaky"]}

    builder = stops(ran, "ab")
    builder.add_node("flaky", flaky)
    return row(builder, "a", "flaky", "b")


@ZOO(three, compile=checkpointed(), runs_again=frozenset({"reads"}))
def thread_that_is_read(ran):
    """Another thread is another input to a node that names it."""

    def reads(state, config):
        ran("reads")
        return {"trail": [config["configurable"]["thread_id"]]}

    builder = stops(ran, "a")
    builder.add_node("reads", reads)
    return row(builder, "a", "reads")


@ZOO(three, lambda: Command(resume="nobody asked"), compile=checkpointed())
def answer_that_nobody_asked_for(ran):
    return row(stops(ran, "a"), "a")
