"""A run goes on where an interrupt has stopped it: what is asked for again is a further sample, and not the one that was
turned down; in another thread, the same answers come in the same order."""

from __future__ import annotations

from operator import add
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

import musubito
from musubito import StepConfiguration, StepType
from musubito_langgraph import musubito_graph
from tests.langgraph.models import Calls

pytestmark = pytest.mark.usefixtures("engine")


class State(TypedDict, total=False):
    topic: str
    drafts: Annotated[list[str], add]


class Topic(TypedDict):
    topic: str


def editorial(calls: Calls, saver: Any, **wrapping: Any) -> Any:
    """Writes until a draft is taken. `write` sees the topic alone, so its input is the same each time."""

    def write(state: Topic) -> State:
        return {"drafts": [f"{state['topic']} {calls('write')}"]}

    def review(state: State) -> Command[Literal["write", "__end__"]]:
        calls("review")
        return Command(goto="write" if interrupt("well?") == "again" else "__end__")

    builder = StateGraph(State)
    builder.add_node("write", write, input_schema=Topic)
    builder.add_node("review", review)
    builder.add_edge(START, "write")
    builder.add_edge("write", "review")
    return musubito_graph(builder.compile(checkpointer=saver, name="editorial"), **wrapping)


def thread(name: str) -> Any:
    return {"configurable": {"thread_id": name}}


def drafts(graph: Any, name: str, times: int) -> list[str]:
    graph.invoke({"topic": "knots"}, thread(name))
    for _ in range(times):
        graph.invoke(Command(resume="again"), thread(name))
    found: list[str] = graph.invoke(Command(resume="good"), thread(name))["drafts"]
    return found


def test_what_was_turned_down_is_drawn_anew():
    calls = Calls()
    graph = editorial(calls, InMemorySaver())
    assert drafts(graph, "a", 3) == ["knots 1", "knots 2", "knots 3", "knots 4"]
    assert calls["write"] == 4
    # Elsewhere the same drafts come in the same order, and whoever wants more than there were has them written.
    assert drafts(graph, "b", 4) == ["knots 1", "knots 2", "knots 3", "knots 4", "knots 5"]
    assert calls["write"] == 5


def test_new_input_in_the_same_thread_begins_anew():
    calls = Calls()
    graph = editorial(calls, InMemorySaver())
    drafts(graph, "a", 1)
    assert drafts(graph, "a", 1) == ["knots 1", "knots 2"] * 2
    assert calls["write"] == 2


def test_it_goes_on_from_what_the_saver_keeps(tmp_path: Path):
    calls = Calls()
    with SqliteSaver.from_conn_string(str(tmp_path / "saver.db")) as saver:
        editorial(calls, saver).invoke({"topic": "knots"}, thread("a"))
    with SqliteSaver.from_conn_string(str(tmp_path / "saver.db")) as saver:
        graph = editorial(calls, saver)
        assert graph.invoke(Command(resume="again"), thread("a"))["drafts"] == ["knots 1", "knots 2"]
        # From the first question once more: what was given after it is not known there.
        first = next(
            past.config for past in graph.get_state_history(thread("a")) if past.values.get("drafts") == ["knots 1"]
        )
        graph.invoke(Command(resume="again"), first)
        assert graph.get_state(thread("a")).values["drafts"] == ["knots 1", "knots 2"]
    assert calls["write"] == 2


def test_a_stop_before_a_node_is_no_other():
    calls = Calls()

    def write(state: Topic) -> State:
        return {"drafts": [f"{state['topic']} {calls('write')}"]}

    builder = StateGraph(State)
    builder.add_node("write", write, input_schema=Topic)
    builder.add_node("look", lambda state: None)
    builder.add_edge(START, "write")
    builder.add_edge("write", "look")
    builder.add_conditional_edges("look", lambda state: "write" if len(state["drafts"]) < 3 else "__end__")
    graph = musubito_graph(builder.compile(checkpointer=InMemorySaver(), interrupt_before=["look"]))
    for name in "ab":
        graph.invoke({"topic": "knots"}, thread(name))
        for _ in range(3):
            graph.invoke(None, thread(name))
        assert graph.get_state(thread(name)).values["drafts"] == ["knots 1", "knots 2", "knots 3"]
    assert calls["write"] == 3


def test_what_stands_beside_the_question_counts():
    """`write` and `ask` are of one superstep: the sample is given in the one that the interrupt cuts short."""
    calls = Calls()

    def write(state: Topic) -> State:
        return {"drafts": [f"{state['topic']} {calls('write')}"]}

    def ask(state: Topic) -> Command[Literal["write", "__end__"]]:
        return Command(goto="write" if interrupt("well?") == "again" else "__end__")

    builder = StateGraph(State)
    builder.add_node("write", write, input_schema=Topic)
    builder.add_node("ask", ask, input_schema=Topic)
    builder.add_edge(START, "write")
    builder.add_edge(START, "ask")
    graph = musubito_graph(builder.compile(checkpointer=InMemorySaver()))
    graph.invoke({"topic": "knots"}, thread("a"))
    assert graph.invoke(Command(resume="again"), thread("a"))["drafts"] == ["knots 1", "knots 2"]


def test_a_deterministic_node_is_not_drawn_but_asked():
    calls = Calls()
    once = {"write": StepConfiguration(step_type=StepType.DETERMINISTIC)}
    graph = editorial(calls, InMemorySaver(), steps=once)
    assert drafts(graph, "a", 2) == ["knots 1"] * 3
    assert calls["write"] == 1


def test_samples_inside_a_node_go_on_as_well():
    calls = Calls()

    @musubito.musubito_step(StepConfiguration(step_type=StepType.STOCHASTIC))
    def draw(topic: str) -> str:
        return f"{topic} {calls('draw')}"

    def propose(state: State) -> Command[Literal["ask"]]:
        return Command(update={"drafts": [draw(state["topic"]).value]}, goto="ask")

    def ask(state: State) -> Command[Literal["propose", "__end__"]]:
        return Command(goto="propose" if interrupt("well?") == "again" else "__end__")

    builder = StateGraph(State)
    builder.add_node("propose", propose)
    builder.add_node("ask", ask)
    builder.add_edge(START, "propose")
    graph = musubito_graph(builder.compile(checkpointer=InMemorySaver()))
    for name in "ab":
        assert drafts(graph, name, 1) == ["knots 1", "knots 2"]
    assert calls["draw"] == 2


@pytest.mark.parametrize("one_run", [True, False])
def test_what_a_node_did_before_it_asked_is_not_paid_again(one_run: bool):
    calls = Calls()

    @musubito.musubito_step(StepConfiguration(step_type=StepType.STOCHASTIC))
    def draw(topic: str) -> str:
        return f"{topic} {calls('draw')}"

    @musubito.musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="mail")
    def mail(topic: str) -> int:
        return calls("mail")

    def node(state: State) -> State:
        draft = draw(state["topic"]).value
        mail(state["topic"])
        return {"drafts": [f"{draft}: {interrupt('well?')}"]}

    builder = StateGraph(State).add_node("node", node).add_edge(START, "node")
    graph = musubito_graph(builder.compile(checkpointer=InMemorySaver()))

    def ask(name: str) -> None:
        graph.invoke({"topic": "knots"}, thread(name))
        graph.invoke(Command(resume=name), thread(name))
        assert graph.get_state(thread(name)).values["drafts"] == [f"knots 1: {name}"]

    if one_run:
        with musubito.run():
            ask("a")
    else:
        ask("a")
    ask("b")
    assert calls.counts == {"draw": 1, "mail": 1}


@pytest.mark.parametrize("durability", ["sync", "exit"])
@pytest.mark.parametrize("saver", [InMemorySaver, lambda: SqliteSaver.from_conn_string(":memory:")])
def test_a_task_that_writes_more_when_it_runs_again_loses_no_write(saver: Any, durability: Any):
    """A saver keeps the first write of each number: what a graph writes must have the numbers that it has unwrapped."""
    delta = pytest.importorskip("langgraph.channels.delta")

    def extend(state: list[str], writes: list[list[str]]) -> list[str]:
        return [*state, *(item for write in writes for item in write)]

    kind = Annotated[list[str], delta.DeltaChannel(extend)]
    logs = TypedDict("Logs", {"log": kind, "extra": kind, "flag": bool}, total=False)  # noqa: UP013 - `kind` is local

    def note(state: dict[str, Any]) -> dict[str, Any]:
        return {"log": ["noted"], **({"extra": ["new"]} if state.get("flag") else {})}

    def ask(state: dict[str, Any]) -> dict[str, Any]:
        interrupt("well?")
        return {"log": ["asked"]}

    builder = StateGraph(logs).add_node("note", note).add_node("ask", ask)
    builder.add_edge(START, "note").add_edge(START, "ask")
    with saver() as kept:
        graph = musubito_graph(builder.compile(checkpointer=kept))
        graph.invoke({"log": ["in"]}, thread("a"), durability=durability)
        paused = graph.get_state(thread("a")).config
        graph.update_state(thread("a"), None)
        answer = graph.invoke(Command(resume="yes", update={"flag": True}), paused, durability=durability)
        assert answer["extra"] == graph.get_state(thread("a")).values["extra"] == ["new"]


@pytest.mark.parametrize("checkpointer", [None, False])
def test_the_history_shows_the_state_of_a_graph_inside_where_it_is_kept(checkpointer: Any):
    def asks(state: State) -> State:
        return {"topic": interrupt("which?")}

    def history(wrap: Any) -> list[list[bool]]:
        inside = StateGraph(State).add_node(asks).add_edge(START, "asks").compile(checkpointer=checkpointer)
        outside = StateGraph(State).add_node("inside", inside).add_edge(START, "inside")
        graph: Any = wrap(outside.compile(checkpointer=InMemorySaver(), name="outside"))
        config: Any = {"configurable": {"thread_id": "1"}}
        graph.invoke({"topic": "tea"}, config)
        return [[task.state is not None for task in then.tasks] for then in graph.get_state_history(config)]

    assert history(musubito_graph) == history(lambda graph: graph)
