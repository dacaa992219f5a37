"""The run of a graph keeps exactly what it was given: its state, a person's answer, its context and its configuration."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.channels import LastValue
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import END, START, StateGraph, add_messages
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from musubito import MusubitoEngine, StepConfiguration, run, use_musubito_engine
from musubito.lineage import Lineage, RunInput
from musubito_langgraph import _task_config, musubito_graph, musubito_runnable


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    approved: bool


@dataclass
class Context:
    user: str


@dataclass
class Draft:
    lines: list[str]


class Form(BaseModel):
    title: str
    draft: Draft | None = None
    seen: int = 0


def answer(state: State) -> State:
    return {"messages": [AIMessage(f"You said: {state['messages'][-1].content}. " + "And I say a lot. " * 30)]}


def inputs(engine: MusubitoEngine) -> list[RunInput | None]:
    """The inputs of all runs, the oldest first."""
    lineage = Lineage(engine)
    return [lineage.input_of_run(each.run_id) for each in lineage.runs(limit=1000)[::-1]]


def chat(engine: MusubitoEngine, **options: Any) -> Any:
    graph = StateGraph(State, context_schema=Context).add_node(answer).add_edge(START, "answer")
    return musubito_graph(graph.compile(InMemorySaver()), engine=engine, **options)


def thread(number: int = 1, **more: Any) -> RunnableConfig:
    return {"configurable": {"thread_id": str(number), **more}}


def test_each_turn_keeps_all_of_its_state(engine, ask):
    graph = chat(engine)
    states = []
    for turn in range(3):
        before = graph.get_state(thread()).values.get("messages", [])
        message = HumanMessage(f"question {turn}", id=f"q{turn}")
        ask(graph, {"messages": [message]}, thread(model="small", checkpoint_ns=""), context=Context("ann"))
        states.append({"messages": [*before, message]})
    found = inputs(engine)
    expected = {"context": Context("ann"), "configurable": {"model": "small"}}
    assert found == [RunInput({"state": state, **expected}, {}) for state in states]
    assert [type(message) for message in found[2].values["state"]["messages"]] == [HumanMessage, AIMessage] * 2 + [
        HumanMessage
    ]


def test_it_is_the_input_by_which_a_fresh_graph_does_the_same(engine):
    def route(state: Form) -> str:
        return "count" if state.seen < 2 else END

    def count(state: Form) -> dict[str, Any]:
        return {"seen": state.seen + 1}

    builder = StateGraph(Form).add_node(count).add_conditional_edges(START, route).add_conditional_edges("count", route)
    graph = musubito_graph(builder.compile(), engine=engine)
    given = {"title": "a", "draft": Draft(["x" * 3000, "y"]), "seen": 0}
    output = graph.invoke(given)
    (found,) = inputs(engine)
    assert found == RunInput({"state": given}, {})
    assert builder.compile().invoke(found.values["state"]) == output


def test_an_answer_to_an_interrupt_is_the_input_of_the_run_that_goes_on(engine, ask):
    def approve(state: State) -> State:
        return {"approved": interrupt("may I?")["yes"]}

    builder = (
        StateGraph(State).add_node(approve).add_node(answer).add_edge(START, "approve").add_edge("approve", "answer")
    )
    graph = musubito_graph(builder.compile(InMemorySaver(), interrupt_before=["answer"]), engine=engine)
    ask(graph, {"messages": [HumanMessage("a", id="1")]}, thread())
    ask(graph, Command(resume={"yes": True}), thread())
    ask(graph, None, thread())
    begun, resumed, went_on = inputs(engine)
    assert begun == RunInput({"state": {"messages": [HumanMessage("a", id="1")]}}, {})
    assert (resumed, went_on) == (RunInput({"resume": {"yes": True}}, {}), RunInput({"go_on": True}, {}))


def test_a_command_that_changes_the_state_is_named_and_not_kept(engine):
    graph = chat(engine)
    graph.invoke({"messages": [HumanMessage("a")]}, thread())
    graph.invoke(Command(goto="answer"), thread())
    assert inputs(engine)[1] == RunInput({}, {"state": "its input was a Command with update or goto"})


def test_an_entrypoint_keeps_its_input_and_what_it_returned_before(engine):
    @entrypoint(checkpointer=InMemorySaver())
    def add(number: int, *, previous: int | None = None) -> int:
        return number + (previous or 0)

    graph = musubito_graph(add, engine=engine)
    assert [graph.invoke(number, thread()) for number in (3, 4)] == [3, 7]
    assert [found.values["state"] for found in inputs(engine)] == [
        {"__start__": 3},
        {"__start__": 4, "__previous__": 3},
    ]


def test_a_graph_whose_state_is_one_value_keeps_it(engine, ask):
    def more(items: list[str]) -> list[str]:
        return [f"after {len(items)}"]

    builder = StateGraph(Annotated[list[str], operator.add]).add_node(more).add_edge(START, "more")
    graph = musubito_graph(builder.compile(InMemorySaver()), engine=engine)
    assert [ask(graph, [text], thread()) for text in "ab"] == [["a", "after 1"], ["a", "after 1", "b", "after 3"]]
    states = {"__root__": ["a"]}, {"__root__": ["a", "after 1", "b"]}
    assert inputs(engine) == [RunInput({"state": state}, {}) for state in states]


def test_a_state_that_cannot_be_read_stops_no_task(engine, monkeypatch):
    class Channel(LastValue):
        def get(self) -> Any:
            if asking:
                raise LookupError
            return super().get()

    def use(state: dict[str, Any]) -> dict[str, Any]:
        return {"part": 2}

    asking: list[bool] = []
    begun_with = _task_config.begun_with

    def asked(config: RunnableConfig) -> dict[str, Any]:
        asking.append(True)
        try:
            return begun_with(config)
        finally:
            asking.clear()

    monkeypatch.setattr(_task_config, "begun_with", asked)
    # The annotation names a class of this function, so it must not be a text.
    parts = type("Parts", (), {"__annotations__": {"part": Annotated[int, Channel(int)]}})
    graph = musubito_graph(StateGraph(parts).add_node(use).add_edge(START, "use").compile(), engine=engine)
    assert graph.invoke({"part": 1}) == {"part": 2}
    assert inputs(engine) == [RunInput({}, {"state": "it could not be read: LookupError"})]


def test_a_run_that_begins_after_the_first_step_has_no_state(engine, tmp_path):
    class Odd:
        pass

    def more(state: State) -> State:
        return {"approved": True}

    builder = StateGraph(State).add_node(answer).add_node(more).add_edge(START, "answer").add_edge("answer", "more")
    graph = musubito_graph(builder.compile())
    steps = graph.stream({"messages": [HumanMessage("a", id="1")]}, {"configurable": {"odd": Odd(), "model": "m"}})
    next(steps)
    with MusubitoEngine.from_url(f"sqlite:///{tmp_path / 'other.db'}") as other, use_musubito_engine(other):
        assert next(steps) == {"more": {"approved": True}}
        (found,) = inputs(other)
    assert found.values == {"configurable": {"model": "m"}}
    assert found.missing.pop("configurable.odd").startswith("it has no encoding: $: objects of type")
    assert found.missing == {"state": "its first step was not recorded"}
    (found,) = inputs(engine)
    assert found.values == {"state": {"messages": [HumanMessage("a", id="1")]}, "configurable": {"model": "m"}}


@pytest.mark.parametrize(
    "options",
    [
        {"default": StepConfiguration(record_inputs=False), "steps": {"answer": StepConfiguration()}},
        {"steps": {"more": StepConfiguration(record_inputs=False)}},
        {},
    ],
)
def test_nothing_is_kept_of_a_graph_that_stores_no_inputs(engine, options):
    def more(state: State) -> State:
        return {"approved": True}

    metadata = {} if options else {"musubito": StepConfiguration(record_inputs=False)}
    builder = StateGraph(State).add_node("answer", answer, metadata=metadata).add_node(more).add_edge(START, "answer")
    graph = musubito_graph(builder.add_edge("answer", "more").compile(), engine=engine, **options)
    graph.invoke({"messages": [HumanMessage("a")]})
    assert inputs(engine) == [None]


def test_a_run_of_the_user_and_a_graph_in_a_graph_keep_none(engine):
    graph = chat(engine)
    with run("mine"):
        graph.invoke({"messages": [HumanMessage("a")]}, thread())
    assert inputs(engine) == [None]
    outer = StateGraph(State).add_node("inner", chat(engine)).add_edge(START, "inner").compile()
    musubito_graph(outer, engine=engine).invoke({"messages": [HumanMessage("b", id="1")]})
    assert inputs(engine)[1:] == [RunInput({"state": {"messages": [HumanMessage("b", id="1")]}}, {})]
    musubito_runnable(RunnableLambda(answer), engine=engine).invoke({"messages": [HumanMessage("c")]})
    assert inputs(engine)[2:] == [None]


def test_a_conversation_is_stored_once(engine):
    graph = chat(engine)
    for turn in range(30):
        graph.invoke({"messages": [HumanMessage(f"question {turn} " + "about many things " * 20)]}, thread())
    engine.flush()
    with Lineage(engine) as lineage:
        last = lineage.input_of_run("last")
        rows = [*lineage.slices("inputs_after", 100, operation=0, input_hash=b"")]
        names = {number: name for number, _, name in lineage.rows("all_operations")}
        bodies = sum(len(body) for operation, _, _, body in rows if names[operation].endswith("/"))
        parts = sum(len(row[-1]) for row in lineage.slices("parts_after", 100, after=0))
    size = sum(len(message.model_dump_json()) for message in last.values["state"]["messages"])
    assert len(last.values["state"]["messages"]) == 59
    # The parts are those of the inputs of the node, too.
    assert bodies + parts < 3 * size, (bodies, parts, size)


def test_a_replay_keeps_its_input_too(engine):
    graph = chat(engine)
    for number in (1, 2):
        graph.invoke({"messages": [HumanMessage("a", id="1")]}, thread(number))
    assert inputs(engine) == [RunInput({"state": {"messages": [HumanMessage("a", id="1")]}}, {})] * 2
