"""What `musubito_graph` takes and gives back, what its steps are called, and who says how they are replayed."""

from __future__ import annotations

import functools
import sqlite3
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import closing
from operator import add
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langchain_core.tracers.base import BaseTracer
from langgraph.channels import LastValue
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, create_react_agent, tools_condition
from langgraph.pregel import NodeBuilder, Pregel

from musubito import (
    MusubitoEngine,
    NotReplayed,
    ReplayReason,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    musubito_step,
    run,
    use_musubito_engine,
)
from musubito_langgraph import musubito_graph, musubito_runnable
from tests.langgraph.specimen import Ran, Scripted, calls, says, took

pytestmark = pytest.mark.usefixtures("engine")
Ask = Callable[..., Any]
DETERMINISTIC = StepConfiguration(step_type=StepType.DETERMINISTIC)
STOCHASTIC = StepConfiguration(step_type=StepType.STOCHASTIC)
EFFECT = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT)
FORCED = StepConfiguration(force_reexecution=True)
"""Each of these is told from the default by what runs: see `took`."""


def names(record: Any) -> list[str]:
    return sorted(call.operation for call in record.calls)


def outcomes(record: Any) -> list[tuple[str, str]]:
    return sorted((call.operation, call.outcome) for call in record.calls)


def by(**said: Any) -> RunnableConfig:
    """A config that says how an invocation is made."""
    return {"configurable": {"musubito": said}}


class State(TypedDict, total=False):
    text: str
    done: Annotated[list[str], add]


def chain(ran: Ran, *nodes: str, schema: Any = State, **metadata: Any) -> StateGraph:
    """Nodes one after the other; each counts, and says for the how many-th time it runs."""

    def node(name: str) -> Callable[[Any], Any]:
        def node(state: State) -> Any:
            _ = [state]  # so all of it counts
            return {"done": [f"{name} {ran(name)}"]}

        return node

    builder = StateGraph(schema)
    for before, name in zip((START, *nodes), nodes, strict=False):
        builder.add_node(name, node(name), metadata=metadata.get(name))
        builder.add_edge(before, name)
    return builder


# -- what it takes and gives back --------------------------------------------------------------------------------------
@tool
def look_up(word: str) -> str:
    """Look up a word."""
    return f"{word} is a word"


def looking_up(messages: Any) -> Any:
    return says(messages[-1].text) if messages[-1].type == "tool" else calls(("look_up", {"word": "fog"}))


def a_builder(ran: Ran) -> Any:
    return chain(ran, "one", "two")


def a_compiled_graph(ran: Ran) -> Any:
    return chain(ran, "one", "two").compile()


def an_agent(ran: Ran) -> Any:
    return create_agent(Scripted(script=looking_up, ran=ran), [look_up])


def a_react_agent(ran: Ran) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has moved to LangChain
        return create_react_agent(Scripted(script=looking_up, ran=ran), [look_up])


def a_bare_pregel(ran: Ran) -> Any:
    def one(text: str) -> str:
        ran("one")
        return text + "!"

    return Pregel(
        nodes={"one": NodeBuilder().subscribe_only("text").do(one).write_to("said")},
        channels={"text": LastValue(str), "said": LastValue(str)},
        input_channels="text",
        output_channels="said",
    )


def an_entrypoint(ran: Ran) -> Any:
    @task
    def one(text: str) -> str:
        ran("one")
        return text + "!"

    @entrypoint()
    def workflow(text: str) -> str:
        return one(text).result()

    return workflow


MESSAGE = {"messages": [("user", "fog?")]}
GRAPHS: Mapping[Callable[[Ran], Any], tuple[Any, Mapping[str, int]]] = {
    a_builder: ({"text": "x"}, {"one": 1, "two": 1}),
    a_compiled_graph: ({"text": "x"}, {"one": 1, "two": 1}),
    an_agent: (MESSAGE, {"model": 2}),
    a_react_agent: (MESSAGE, {"model": 2}),
    a_bare_pregel: ("x", {"one": 1}),
    an_entrypoint: ("x", {"one": 1}),
}
"""What builds it, what it is asked, and what runs then."""
each_graph = pytest.mark.parametrize("build", GRAPHS, ids=lambda build: build.__name__)


def compiled(graph: Any) -> Any:
    return graph.compile() if isinstance(graph, StateGraph) else graph


def parts(graph: Any) -> dict[str, Any]:
    """All that a graph holds, and what its collections and nodes hold, so that any change shows."""
    found: dict[str, Any] = {}
    for name, value in vars(graph).items():
        found[name] = value
        if isinstance(value, dict):
            found |= {f"{name}.{key}": each for key, each in value.items()}
            found[f"{name}()"] = list(value)
        elif isinstance(value, list | set | tuple):
            found[f"{name}()"] = list(value)
    for name, node in graph.nodes.items():
        fields = getattr(node, "__dict__", None) or {key: getattr(node, key) for key in type(node).__slots__}
        found |= {f"{name}:{key}": value for key, value in fields.items()}
    return found


def is_what_it_was(graph: Any, before: Mapping[str, Any]) -> bool:
    now = parts(graph)
    # What is there besides was worked out once and kept.
    return before.keys() <= now.keys() and all(
        now[key] == before[key] if key.endswith("()") else now[key] is before[key] for key in before
    )


@each_graph
def test_the_same_kind_comes_back_and_the_original_is_untouched(build: Callable[[Ran], Any], ran: Ran, ask: Ask):
    graph = build(ran)
    given, runs = GRAPHS[build]
    before = parts(graph)
    wrapped = musubito_graph(graph)
    assert wrapped is not graph
    assert type(wrapped) is type(graph)
    for _ in range(2):
        ask(compiled(wrapped), given)
    assert took(ran) == runs, "wrapped: the second time it is replayed"
    assert is_what_it_was(graph, before)
    with run() as record:
        for _ in range(2):
            ask(compiled(graph), given)
    assert took(ran) == {name: 2 * count for name, count in runs.items()}, "the original runs each time"
    assert record.calls == []


@each_graph
def test_wrapping_twice_equals_once(build: Callable[[Ran], Any], ran: Ran, ask: Ask):
    graph = build(ran)
    given, _ = GRAPHS[build]
    once = musubito_graph(graph, replay_tools=True)
    twice = musubito_graph(musubito_graph(graph, replay_tools=True))
    assert type(twice) is type(graph)
    with run() as record_of_once:
        ask(compiled(once), given)
    with run() as record_of_twice:
        ask(compiled(twice), given)
    assert {call.outcome for call in record_of_once.calls} == {"ran"}
    # Where a node is replayed, its tools and models are not called.
    nodes = [name for name in names(record_of_once) if "tools." not in name and "/Scripted" not in name]
    assert outcomes(record_of_twice) == [(name, "replayed") for name in nodes]


def test_a_compiled_graph_of_a_wrapped_builder_is_wrapped_already(ran: Ran, ask: Ask):
    graph = musubito_graph(chain(ran, "one")).compile(name="g")
    assert musubito_graph(graph) is graph
    with run() as record:
        ask(musubito_graph(graph), {"text": "x"})
    assert names(record) == ["g/one"]


def test_who_wraps_again_cannot_say_anything_new(ran: Ran):
    for wrapped in (musubito_graph(chain(ran, "one")), musubito_graph(chain(ran, "one").compile())):
        with pytest.raises(ValueError, match="wrapped already"):
            musubito_graph(wrapped, steps={"one": DETERMINISTIC})
        with pytest.raises(ValueError, match="wrapped already"):
            musubito_graph(wrapped, default=DETERMINISTIC)
        with pytest.raises(ValueError, match="wrapped already"):
            musubito_graph(wrapped, ignore_config=["user"])


def test_a_wrapped_builder_is_built_on(ran: Ran, ask: Ask):
    original = chain(ran, "one")
    wrapped = musubito_graph(original)

    def two(state: State) -> Any:
        ran("two")
        return {"done": ["two"]}

    def router(state: State) -> str:
        ran("router")
        return END

    wrapped.add_node("two", two)
    wrapped.add_edge("one", "two")
    wrapped.add_conditional_edges("two", router, [END])
    graph = wrapped.compile(checkpointer=InMemorySaver(), name="g")
    for number in range(2):
        with run() as record:
            ask(graph, {"text": "x"}, {"configurable": {"thread_id": str(number)}})
    assert names(record) == ["g/one", "g/two", "g/two:router"]
    assert took(ran) == {"one": 1, "two": 1, "router": 1}
    assert ask(original.compile(), {"text": "x"})["done"] == ["one 1"], "of this the original knows nothing"
    original.add_edge("one", END)
    assert len(wrapped.compile().nodes) == 3, "nor the copy of what is built on the original"


@pytest.mark.parametrize(
    "nonsense",
    [
        None,
        7,
        "graph",
        [],
        {"nodes": {}},
        StateGraph,
        lambda state: state,
        RunnableLambda(lambda state: state),
        RunnableLambda(lambda state: state) | RunnableLambda(lambda state: state),
        Scripted(script=looking_up, ran=None),
        musubito_runnable(lambda state: state),
    ],
    ids=lambda nonsense: getattr(nonsense, "__name__", type(nonsense).__name__),
)
def test_what_is_no_graph_is_refused(nonsense: Any):
    with pytest.raises(TypeError, match="musubito_graph takes a StateGraph or a compiled graph, not "):
        musubito_graph(nonsense)


def test_what_says_no_policy_is_refused(ran: Ran):
    with pytest.raises(TypeError, match=r"steps\['one'\] must be a StepConfiguration, not 'deterministic'"):
        musubito_graph(chain(ran, "one"), steps={"one": "deterministic"})
    with pytest.raises(TypeError, match="default must be a StepConfiguration, not <StepType"):
        musubito_graph(chain(ran, "one"), default=StepType.DETERMINISTIC)
    with pytest.raises(TypeError, match="ignore_config is a collection of keys, not a text"):
        musubito_graph(chain(ran, "one"), ignore_config="request")
    with pytest.raises(TypeError, match="of node 'one' must be a StepConfiguration, not True"):
        musubito_graph(chain(ran, "one", one={"musubito": True}).compile())


def test_the_engine_that_it_is_given_records_it(ran: Ran, ask: Ask, tmp_path: Path):
    with MusubitoEngine(SQLiteStorage(tmp_path / "given.db")) as given:
        graph = musubito_graph(chain(ran, "one").compile(), engine=given)
        ask(graph, {"text": "x"})
        with run() as in_use:
            ask(graph, {"text": "x"})
        with use_musubito_engine(given), run() as record:
            ask(graph, {"text": "x"})
    assert in_use.calls == [], "it is another engine that is in use"
    assert outcomes(record) == [("LangGraph/one", "replayed")]
    assert took(ran) == {"one": 1}


# -- names -------------------------------------------------------------------------------------------------------------
class Deep(MessagesState):
    text: str
    done: Annotated[list[str], add]


def nested(ran: Ran) -> StateGraph:
    """A graph `outer` with a node, and a subgraph with a node, a router, tools, and a subgraph of its own."""

    @tool
    def send_mail(to: str) -> str:
        """Send a mail."""
        return f"mail {ran('send_mail')} to {to}"

    @tool
    def read_mail(to: str) -> str:
        """Read mails."""
        return f"nothing for {to}, {ran('read_mail')}"

    def writing(messages: Any) -> Any:
        if messages and messages[-1].type == "tool":
            return says(f"done: {messages[-1].text}")
        return calls(("send_mail", {"to": "ann"}), ("read_mail", {"to": "ann"}))

    def onwards(state: Deep) -> str:
        ran("onwards")
        return "agent"

    innermost = chain(ran, "leaf", schema=Deep)
    middle = chain(ran, "first", schema=Deep)
    middle.add_node("agent", create_agent(Scripted(script=writing, ran=ran), [send_mail, read_mail]))
    middle.add_node("innermost", innermost.compile())
    middle.add_conditional_edges("first", onwards, ["agent"])
    middle.add_edge("agent", "innermost")
    outer = chain(ran, "plain", schema=Deep)
    outer.add_node("middle", middle.compile(name="a name that is not the node's"))
    outer.add_edge("plain", "middle")
    return outer


NESTED = {
    "plain": 1,
    "middle/first": 1,
    "middle/first:onwards": 1,
    "middle/agent/model": 2,
    "middle/agent/model/Scripted": 2,
    "middle/agent/tools.send_mail": 1,
    "middle/agent/tools.read_mail": 1,
    "middle/agent/tools": 2,
    "middle/innermost/leaf": 1,
}
"""Its steps, and how often they are called."""


def test_steps_are_called_by_their_paths(ran: Ran, ask: Ask):
    graph = musubito_graph(nested(ran).compile(name="outer"), replay_tools=True)
    with run() as cold:
        ask(graph, {"messages": []})
    called = [name for name in names(cold) if ":" not in name or name.endswith("onwards")]
    assert {f"outer/{name}": count for name, count in NESTED.items()} == {name: called.count(name) for name in called}
    # The edges of LangChain's own agents are no steps.
    assert not {name for name in names(cold) if name not in called}
    with run() as warm:
        ask(graph, {"messages": []})
    assert {call.outcome for call in warm.calls} == {"replayed"}
    assert {call.operation for call in warm.calls} == {
        name for name in names(cold) if "tools." not in name and not name.endswith("/Scripted")
    }, "where a node is replayed, its tools and its model are not called"


def test_a_graph_without_a_name_is_called_as_langgraph_calls_it(ran: Ran, ask: Ask):
    with run() as record:
        ask(musubito_graph(chain(ran, "one").compile()), {"text": "x"})
    assert names(record) == ["LangGraph/one"]


def test_a_wrapped_subgraph_keeps_its_names(ran: Ran, ask: Ask):
    inner = musubito_graph(chain(ran, "leaf").compile(name="inner"))
    outer = chain(ran, "one").add_node("sub", inner).add_edge("one", "sub")
    with run() as record:
        ask(musubito_graph(outer.compile(name="outer")), {"text": "x"})
    assert names(record) == ["inner/leaf", "outer/one"]


def test_parts_of_a_sequence_are_numbered(ran: Ran, ask: Ask):
    def one(state: State) -> State:
        ran("one")
        return state

    def two(state: State) -> Any:
        ran("two")
        return {"done": ["two"]}

    builder = StateGraph(State).add_node("both", RunnableLambda(one) | RunnableLambda(two)).add_edge(START, "both")
    graph = musubito_graph(builder.compile(name="g"))
    with run() as record:
        ask(graph, {"text": "x"})
    assert names(record) == ["g/both", "g/both:1"], "the last one gives what the node gives, and has its name"


def test_a_router_from_the_start_and_routers_without_a_name(ran: Ran, ask: Ask):
    class Choice:
        def __call__(self, state: State) -> str:
            return "one"

    def begin(state: State) -> str:
        return "one"

    # They are called as LangGraph calls them.
    for path, name in ((begin, "begin"), (lambda state: "one", "condition"), (Choice(), "condition")):
        builder = chain(ran, "one")
        builder.edges.clear()
        builder.add_conditional_edges(START, path, ["one"])
        with run() as record:
            ask(musubito_graph(builder.compile(name="g")), {"text": "x"})
        assert names(record) == [f"g/__start__:{name}", "g/one"]


# -- policies by name --------------------------------------------------------------------------------------------------
def asked_twice(graph: Any, ran: Ran, ask: Ask, given: Any, **kwargs: Any) -> dict[str, int]:
    """What ran as it was asked the same twice within one run. A sample (the default) runs twice, a deterministic step
    once, one that is forced twice, and in each later run again."""
    with run():
        ask(graph, given, **kwargs)
        ask(graph, given, **kwargs)
    return took(ran)


def test_each_node_has_its_policy(ran: Ran, ask: Ask):
    graph = musubito_graph(
        chain(ran, "sample", "shared", "forced").compile(), steps={"shared": DETERMINISTIC, "forced": FORCED}
    )
    given = {"text": "x"}
    assert asked_twice(graph, ran, ask, given) == {"sample": 2, "shared": 2, "forced": 2}, (
        "a second sample is another input of what follows"
    )
    assert asked_twice(graph, ran, ask, given) == {"forced": 2}
    ask(graph, given)
    assert took(ran) == {"forced": 1}


class Only(TypedDict, total=False):
    text: str


def apart(ran: Ran, *nodes: str, **metadata: Any) -> StateGraph:
    """Nodes side by side which do not see each other's answers."""

    def node(name: str) -> Callable[[Any], Any]:
        def node(state: Only) -> Any:
            return {"done": [f"{name} {ran(name)}"]}

        return node

    builder = StateGraph(State)
    for name in nodes:
        builder.add_node(name, node(name), metadata=metadata.get(name), input_schema=Only)
        builder.add_edge(START, name)
    return builder


def test_a_default_holds_for_all_others(ran: Ran, ask: Ask):
    graph = musubito_graph(apart(ran, "a", "b", "c").compile(), default=DETERMINISTIC, steps={"b": STOCHASTIC})
    assert asked_twice(graph, ran, ask, {"text": "x"}) == {"a": 1, "b": 2, "c": 1}


def test_metadata_of_a_node_say_it_as_well(ran: Ran, ask: Ask):
    builder = apart(ran, "a", "b", "c", b={"musubito": DETERMINISTIC}, c={"musubito": DETERMINISTIC})
    assert asked_twice(musubito_graph(builder.compile(name="g")), ran, ask, {"text": "x"}) == {"a": 2, "b": 1, "c": 1}
    graph = musubito_graph(builder.compile(name="h"), default=FORCED, steps={"c": STOCHASTIC})
    assert asked_twice(graph, ran, ask, {"text": "x"}) == {"a": 2, "b": 1, "c": 2}, (
        "the node counts before the default, and `steps` before the node"
    )
    assert asked_twice(graph, ran, ask, {"text": "x"}) == {"a": 2}


def test_a_wrapped_builder_takes_policies_from_nodes_that_come_later(ran: Ran, ask: Ask):
    builder = musubito_graph(apart(ran, "a"), steps={"late": DETERMINISTIC})

    def late(state: Only) -> Any:
        return {"done": [f"late {ran('late')}"]}

    def later(state: Only) -> Any:
        return {"done": [f"later {ran('later')}"]}

    builder.add_node("late", late, input_schema=Only).add_edge(START, "late")
    builder.add_node("later", later, input_schema=Only, metadata={"musubito": DETERMINISTIC}).add_edge(START, "later")
    assert asked_twice(builder.compile(), ran, ask, {"text": "x"}) == {"a": 2, "late": 1, "later": 1}


def test_inner_nodes_of_subgraphs_have_policies(ran: Ran, ask: Ask):
    def outer(inner: StateGraph) -> Any:
        return StateGraph(State).add_node("sub", inner.compile()).add_edge(START, "sub").compile()

    graph = musubito_graph(outer(apart(ran, "a", "b", "c", c={"musubito": DETERMINISTIC})), steps={"sub/b": FORCED})
    for expected in ({"a": 2, "b": 2, "c": 1}, {"b": 2}):
        assert asked_twice(graph, ran, ask, {"text": "x"}) == expected
    graph = musubito_graph(outer(apart(ran, "d")), default=DETERMINISTIC)
    assert asked_twice(graph, ran, ask, {"text": "x"}) == {"d": 1}


def test_a_router_is_as_its_node_if_nobody_says_otherwise(ran: Ran, ask: Ask):
    def graph(name: str, **kwargs: Any) -> Any:
        def router(state: Only) -> str:
            ran("router")
            return END

        builder = apart(ran, "a", a={"musubito": DETERMINISTIC})
        builder.add_conditional_edges("a", router, [END])
        return musubito_graph(builder.compile(name=name), **kwargs)

    given = {"text": "x"}
    assert asked_twice(graph("g"), ran, ask, given) == {"a": 1, "router": 1}
    assert asked_twice(graph("h", steps={"a:router": FORCED}), ran, ask, given) == {"a": 1, "router": 2}
    assert asked_twice(graph("h", steps={"a:router": FORCED}), ran, ask, given) == {"router": 2}


def mailing(ran: Ran, **kwargs: Any) -> Any:
    @tool
    def send_mail(to: str) -> str:
        """Send a mail."""
        ran("send_mail")
        return f"sent to {to}"

    @tool
    def read_mail(to: str) -> str:
        """Read mails."""
        ran("read_mail")
        return f"nothing for {to}"

    def writing(messages: Any) -> Any:
        if messages[-1].type == "tool":
            return says("done")
        return calls(("send_mail", {"to": "ann"}), ("read_mail", {"to": "ann"}))

    agent = create_agent(Scripted(script=writing, ran=ran), [send_mail, read_mail], name="mailing")
    return musubito_graph(agent, **kwargs)


def test_each_tool_has_its_policy(ran: Ran, ask: Ask):
    agent = mailing(ran, steps={"tools.send_mail": EFFECT, "tools": FORCED, "tools.read_mail": DETERMINISTIC})
    ask(agent, MESSAGE)
    assert took(ran) == {"model": 2, "send_mail": 1, "read_mail": 1}
    with run() as record:
        ask(agent, MESSAGE)
    assert took(ran) == {}
    told = {operation: outcome for operation, outcome in outcomes(record) if "/tools" in operation}
    assert told["mailing/tools"] == "ran", "it is forced; the tools that it calls are not"
    assert told["mailing/tools.send_mail"] == told["mailing/tools.read_mail"] == "replayed"


def test_a_tool_is_as_its_node_if_nobody_says_otherwise(ran: Ran, ask: Ask):
    agent = mailing(ran, steps={"tools": FORCED, "tools.send_mail": EFFECT})
    ask(agent, MESSAGE)
    took(ran)
    ask(agent, MESSAGE)
    assert took(ran) == {"read_mail": 1}


def test_an_effect_is_not_repeated_because_it_was_edited(ran: Ran, ask: Ask):
    def graph(version: int) -> Any:
        def mail(state: Only) -> Any:
            ran(f"mail {version}")
            return {"done": [f"sent by version {version}"]}

        builder = StateGraph(State).add_node("mail", mail, input_schema=Only).add_edge(START, "mail")
        return musubito_graph(builder.compile(name="g"), steps={"mail": EFFECT})

    for version in (1, 2):
        assert ask(graph(version), {"text": "x"})["done"] == ["sent by version 1"]
    assert took(ran) == {"mail 1": 1}
    ask(graph(2), {"text": "y"})
    assert took(ran) == {"mail 2": 1}


# -- names that there are not ------------------------------------------------------------------------------------------
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(ran: Ran):
    builder = nested(ran)
    known = [name for name in NESTED if not name.endswith("/Scripted")]  # which models a step asks is seen as it runs
    for wrong in ("pain", "outer/plain", "first", "tools.send_mail", "plain:onwards", "plain.send_mail", "middle", ""):
        with pytest.raises(ValueError) as raised:
            musubito_graph(builder.compile(name="outer"), steps={wrong: DETERMINISTIC, "plain": DETERMINISTIC})
        said, listed = str(raised.value).split("; there are ")
        assert said == f"no step is called {wrong!r}"
        assert {*known} <= {*listed.split(", ")}
    with pytest.raises(ValueError, match="no step is called 'a', 'b'; there are"):
        musubito_graph(builder.compile(), steps={"b": DETERMINISTIC, "a": DETERMINISTIC})


def test_a_wrapped_builder_says_so_when_it_is_compiled(ran: Ran):
    builder = musubito_graph(chain(ran, "one"), steps={"two": DETERMINISTIC})
    with pytest.raises(ValueError, match="no step is called 'two'; there are one$"):
        builder.compile()


@pytest.mark.parametrize("wrong", ["middle/frist", "middle/innermost/laef", "middle/agent/tools.sned_mail"])
def test_so_is_one_inside_a_subgraph(wrong: str, ran: Ran):
    with pytest.raises(ValueError, match=f"no step is called '{wrong}'"):
        musubito_graph(nested(ran).compile(), steps={wrong: DETERMINISTIC})


def test_a_step_of_a_subgraph_that_was_wrapped_for_itself_is_none_of_the_outer_graph(ran: Ran):
    inner = musubito_graph(chain(ran, "leaf").compile(name="inner"))
    outer = StateGraph(State).add_node("sub", inner).add_edge(START, "sub").compile()
    with pytest.raises(ValueError, match="no step is called 'sub/leaf'"):
        # Else it would be said and not be so: its steps are told how they are replayed where it is wrapped.
        musubito_graph(outer, steps={"sub/leaf": FORCED})


def test_steps_of_a_graph_inside_a_sequence_have_policies(ran: Ran, ask: Ask):
    deepest = apart(ran, "leaf").compile()
    inner = StateGraph(State).add_node("deep", deepest).add_edge(START, "deep").compile()
    node = RunnableLambda(lambda state: state) | inner
    outer = StateGraph(State).add_node("both", node).add_edge(START, "both").compile(name="g")
    with run() as record:
        ask(musubito_graph(outer), {"text": "x"})
    assert names(record) == ["g/both/deep/leaf", "g/both:1"]
    took(ran)
    graph = musubito_graph(outer, steps={"both/deep/leaf": FORCED})
    ask(graph, {"text": "x"})
    assert took(ran) == {"leaf": 1}


# -- keys of a config that decide nothing ------------------------------------------------------------------------------
def asking(ran: Ran, **kwargs: Any) -> Any:
    def node(state: State, config: RunnableConfig) -> Any:
        ran("node")
        return {"done": [config["configurable"]["request"], config["metadata"]["trace"]]}

    def router(state: State, config: RunnableConfig) -> str:
        _ = [state]  # so all of it counts
        ran("router")
        return config["configurable"]["request"] and END

    builder = StateGraph(State).add_node("node", node).add_edge(START, "node")
    builder.add_conditional_edges("node", router, [END])
    return musubito_graph(builder.compile(), **kwargs)


def request(number: int, **more: Any) -> RunnableConfig:
    return {"configurable": {"request": f"r{number}", **more}, "metadata": {"trace": f"t{number}"}}


def test_ignored_keys_of_the_config_do_not_count(ran: Ran, ask: Ask):
    graph = asking(ran, ignore_config=["request", "trace"])
    for number in (1, 2):
        assert ask(graph, {"text": "x"}, request(number))["done"] == ["r1", "t1"]
    assert took(ran) == {"node": 1, "router": 1}
    ask(graph, {"text": "x"}, request(1, user="ann"))
    assert took(ran) == {"node": 1, "router": 1}, "all others do"


@pytest.mark.parametrize("ignored", [(), ("request",), ("trace",)])
def test_those_that_are_not_ignored_do(ignored: tuple[str, ...], ran: Ran, ask: Ask):
    graph = asking(ran, ignore_config=ignored)
    for number in (1, 2):
        assert ask(graph, {"text": "x"}, request(number))["done"] == [f"r{number}", f"t{number}"]
    # The router sees nothing but the request, and what its node gave.
    assert took(ran) == {"node": 2, "router": 2}


def test_what_is_ignored_need_not_have_an_identity(ran: Ran, ask: Ask):
    graph = musubito_graph(chain(ran, "one").compile(), ignore_config={"client"})
    for _ in range(2):
        ask(graph, {"text": "x"}, {"configurable": {"client": object()}})
    assert took(ran) == {"one": 1}


# -- what one invocation says ------------------------------------------------------------------------------------------


def test_off_is_as_if_it_were_not_wrapped(ran: Ran, ask: Ask, tmp_path: Path):
    graph = musubito_graph(nested(ran).compile(name="outer"))
    with run() as record:
        for _ in range(2):
            ask(graph, {"messages": []}, by(mode="off"))
    assert took(ran) == dict.fromkeys(("plain", "first", "onwards", "send_mail", "read_mail", "leaf"), 2) | {"model": 4}
    assert record.calls == []
    with closing(sqlite3.connect(tmp_path / "m.db")) as connection:
        assert connection.execute("SELECT count(*) FROM nodes").fetchall() == [(0,)]


def test_replay_only_runs_nothing(ran: Ran, ask: Ask):
    graph = musubito_graph(nested(ran).compile(name="outer"))
    with pytest.raises(NotReplayed) as raised:
        ask(graph, {"messages": []}, by(mode="replay_only"))
    assert raised.value.operation == "outer/plain"
    assert took(ran) == {}
    cold = ask(graph, {"messages": []})
    took(ran)
    assert ask(graph, {"messages": []}, by(mode="replay_only"))["done"] == cold["done"]
    assert took(ran) == {}


def test_a_mode_may_be_bound_to_a_graph(ran: Ran, ask: Ask):
    graph = musubito_graph(chain(ran, "one").compile())
    fresh = graph.with_config(by(mode="refresh"))
    assert [ask(each, {"text": "x"})["done"] for each in (graph, graph, fresh, fresh, graph)] == [
        ["one 1"], ["one 1"], ["one 2"], ["one 3"], ["one 3"],
    ]  # fmt: skip


def test_namespaces_do_not_see_each_other(ran: Ran, ask: Ask, tmp_path: Path):
    @musubito_step
    def inner(text: str) -> str:
        ran("inner")
        return text.upper()

    @musubito_runnable
    def told(text: str) -> str:
        ran("told")
        return text.lower()

    def node(state: State) -> Any:
        ran("node")
        return {"done": [inner(state["text"]).value, told.invoke(state["text"])]}

    inside = StateGraph(State).add_node("node", node).add_edge(START, "node").compile()
    graph = musubito_graph(StateGraph(State).add_node("sub", inside).add_edge(START, "sub").compile(name="g"))
    everything = {"inner": 1, "told": 1, "node": 1}
    for namespace in (None, "ann", "bob"):
        ask(graph, {"text": "x"}, by(namespace=namespace))
        assert took(ran) == everything
        ask(graph, {"text": "x"}, by(namespace=namespace, mode="replay_only"))
        assert took(ran) == {}
    ask(graph, {"text": "x"}, by(namespace="ann", mode="refresh"))
    took(ran)
    with closing(sqlite3.connect(tmp_path / "m.db")) as connection:
        found = connection.execute(
            "SELECT n.name, o.name FROM _operations o JOIN _namespaces n ON n.id = o.namespace WHERE o.name LIKE 'g/%'"
        ).fetchall()
    assert len({namespace for namespace, _ in found}) == len(found) == 3
    assert {operation for _, operation in found} == {"g/sub/node"}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"mode": "nonsense"}, "the mode .* is one of replay, refresh, replay_only, off, not 'nonsense'"),
        ({"mode": "LIVE"}, "the mode .* not 'LIVE'"),
        ({"mode": None}, "the mode .* not None"),
        ({"mode": ["live"]}, r"the mode .* not \['live'\]"),
        ({"namespace": ""}, "the namespace .* is a text that is not empty"),
        ({"namespace": 7}, "the namespace .* is a text"),
        ({"mdoe": "live"}, r"is a mapping with \"mode\" .* and \"namespace\", not {'mdoe': 'live'}"),
        ({"mode": "live", "engine": None}, "is a mapping with"),
        ("live", "is a mapping with .*, not 'live'"),
        (["live"], "is a mapping with"),
        (True, "is a mapping with"),
    ],
)
@pytest.mark.parametrize("build", [a_compiled_graph, an_agent, a_bare_pregel, an_entrypoint], ids=lambda f: f.__name__)
def test_what_it_cannot_say_is_an_error(build: Callable[[Ran], Any], said: Any, why: str, ran: Ran, ask: Ask):
    graph = musubito_graph(build(ran))
    with pytest.raises(ValueError, match=why):
        ask(graph, GRAPHS[build][0], {"configurable": {"musubito": said}})
    assert took(ran) == {}


def test_neither_mode_nor_namespace_is_an_input(ran: Ran, ask: Ask):
    def node(state: State, config: RunnableConfig) -> Any:
        ran("node")
        return {"done": [config["configurable"].get("user", "nobody"), config["metadata"].get("trace", "no trace")]}

    graph = musubito_graph(StateGraph(State).add_node("node", node).add_edge(START, "node").compile())
    for config in (None, by(mode="live"), by()):
        ask(graph, {"text": "x"}, config)
    assert took(ran) == {"node": 1}


# -- what was replayed -------------------------------------------------------------------------------------------------
def test_a_run_shows_what_was_replayed_and_why_not(ran: Ran, ask: Ask):
    def graph(mark: str) -> Any:
        def edited(state: State) -> Any:
            _ = [state]  # so all of it counts
            ran("edited")
            return {"text": mark}

        def after(state: Only) -> Any:
            ran("after")
            return {"done": [state["text"]]}

        builder = chain(ran, "kept").add_node("edited", edited).add_node("after", after, input_schema=Only)
        builder.add_edge("kept", "edited").add_edge("edited", "after")
        return musubito_graph(builder.compile(name="g"))

    def told(mark: str, given: str) -> list[tuple[str, str, ReplayReason]]:
        with run("nightly") as record:
            ask(graph(mark), {"text": given})
        assert record.name == "nightly"
        assert all(
            call.saved_compute_ms > 0 if call.outcome == "replayed" else call.saved_compute_ms == 0
            for call in record.calls
        )
        return [(call.operation, call.outcome, call.reason) for call in record.calls]

    def each(*said: tuple[str, ReplayReason]) -> list[tuple[str, str, ReplayReason]]:
        return [(f"g/{name}", *one) for name, one in zip(("kept", "edited", "after"), said, strict=True)]

    hit, new = ("replayed", ReplayReason.EXACT_HIT), ("ran", ReplayReason.NODE_NOT_FOUND)
    code, value = ("ran", ReplayReason.CODE_CHANGED), ("ran", ReplayReason.INPUT_CHANGED)
    assert told(".", "x") == each(new, new, new)
    assert told(".", "x") == each(hit, hit, hit)
    assert told("!", "x") == each(hit, code, value)
    assert told("!", "x") == each(hit, hit, hit)
    assert told("!", "y")[0] == ("g/kept", "ran", ReplayReason.NOTHING_LIKE_IT)


# -- what tracers see --------------------------------------------------------------------------------------------------
class Tracer(BaseTracer):
    """Keeps what was traced: names with their metadata."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[Any] = []

    def _persist_run(self, traced: Any) -> None:
        waiting = [traced]
        while waiting:
            each = waiting.pop(0)
            self.runs.append(each)
            waiting += each.child_runs

    def said(self) -> dict[str, tuple[str, bool]]:
        """What those runs say that say something of us."""
        found = [(each.name, (each.extra or {}).get("metadata") or {}) for each in self.runs]
        return {
            name: (metadata["musubito_node_id"], metadata["musubito_replayed"])
            for name, metadata in found
            if "musubito_node_id" in metadata
        }


def traced(graph: Any, ask: Ask, given: Any, config: RunnableConfig | None = None) -> tuple[Tracer, dict[str, Any]]:
    """Who traced it; and what a run that a tracer knows by the name of a step should say of it."""
    tracer = Tracer()
    with run() as record:
        ask(graph, given, {"callbacks": [tracer], **(config or {})})
    return tracer, {
        call.operation.replace(":", "/").replace(".", "/").rpartition("/")[2]: (
            call.node_id,
            call.outcome == "replayed",
        )
        for call in record.calls
    }


def test_tracers_are_told_which_nodes_were_replayed(ran: Ran, ask: Ask):
    def graph(mark: str) -> Any:
        def edited(state: State) -> Any:
            ran("edited")
            return {"done": [mark.strip()]}

        inner = chain(ran, "leaf").add_node("edited", edited).add_edge("leaf", "edited").compile()
        return musubito_graph(chain(ran, "one").add_node("sub", inner).add_edge("one", "sub").compile(name="g"))

    for mark, replayed in ((".", []), (".", ["edited", "leaf", "one"]), (". ", ["leaf", "one"])):
        tracer, expected = traced(graph(mark), ask, {"text": "x"})
        assert sorted(name for name, (_, is_replayed) in expected.items() if is_replayed) == replayed
        assert expected.keys() == {"one", "leaf", "edited"}
        assert tracer.said() == expected
    tracer, _ = traced(graph("."), ask, {"text": "x"}, by(mode="off"))
    assert {each.name for each in tracer.runs} >= {"one", "leaf", "edited"}
    assert tracer.said() == {}


def test_what_a_router_did_is_not_said_of_its_node(ran: Ran, ask: Ask):
    def graph(mark: str) -> Any:
        def edited(state: State) -> Any:
            ran("edited")
            return {"done": [mark.strip()]}

        def router(state: State) -> str:
            ran("router")
            return END

        builder = StateGraph(State).add_node("edited", edited).add_edge(START, "edited")
        return musubito_graph(builder.add_conditional_edges("edited", router, [END]).compile(name="g"))

    traced(graph("."), ask, {"text": "x"})
    took(ran)
    tracer, expected = traced(graph(". "), ask, {"text": "x"})
    assert took(ran) == {"edited": 1}
    assert {name: is_replayed for name, (_, is_replayed) in expected.items()} == {"edited": False, "router": True}
    assert tracer.said()["edited"] == expected["edited"]
    # A router that is replayed is no run, and none says what it did.
    assert "router" not in tracer.said()


def test_what_a_runnable_did_is_not_said_of_a_node_that_is_not_recorded(ran: Ran, ask: Ask):
    @musubito_runnable
    def inner(text: str) -> str:
        ran("inner")
        return text

    def node(state: Any) -> Any:
        _ = [state]  # so all of it counts
        ran("node")
        return {"text": inner.invoke("x")}

    class Odd(TypedDict, total=False):
        text: str
        lock: Any

    graph = musubito_graph(StateGraph(Odd).add_node("node", node).add_edge(START, "node").compile(name="traced"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the node cannot be identified
        traced(graph, ask, {"lock": threading.Lock()})
        tracer, expected = traced(graph, ask, {"lock": threading.Lock()})
    assert took(ran) == {"node": 2, "inner": 1}
    assert expected["inner"][1] is True
    assert "node" not in tracer.said()


def test_tracers_are_told_which_tasks_were_replayed(ran: Ran, ask: Ask):
    graph = musubito_graph(an_entrypoint(ran))
    for replayed in (False, True):
        tracer, expected = traced(graph, ask, "x")
        assert expected == {"one": (expected["one"][0], replayed)}
        assert tracer.said() == expected


def test_other_metadata_of_a_node_is_left_and_the_policy_is_not_shown(ran: Ran, ask: Ask):
    builder = chain(ran, "one", "two", one={"musubito": DETERMINISTIC, "owner": "ann"}, two={"musubito": DETERMINISTIC})
    tracer = Tracer()
    ask(musubito_graph(builder.compile()), {"text": "x"}, {"callbacks": [tracer]})
    said = {each.name: each.extra["metadata"] for each in tracer.runs if each.name in ("one", "two")}
    assert said["one"]["owner"] == "ann"
    assert "owner" not in said["two"]
    assert not any("musubito" in metadata for metadata in said.values())


def test_routers_that_only_look_are_no_steps(ran: Ran, ask: Ask):
    def think(state: MessagesState) -> Any:
        ran("think")
        return {"messages": [AIMessage("done")]}

    def decide(state: MessagesState) -> str:
        ran("decide")
        return tools_condition(state)

    @functools.wraps(tools_condition)
    def wrapper(state: MessagesState) -> str:
        ran("decide")
        return tools_condition(state)

    def graph(router: Callable[..., str], node: str) -> Any:
        builder = StateGraph(MessagesState).add_node("think", think).add_node("tools", ToolNode([]))
        builder.add_conditional_edges(node, router, {"tools": "tools", END: "think" if node == START else END})
        if node != START:
            builder.add_edge(START, "think")
        return musubito_graph(builder.compile(name="g"))

    asked = {"messages": [HumanMessage("hi", id="1")]}
    for router, node, steps in (
        (tools_condition, "think", ["g/think"]),
        (decide, "think", ["g/think", "g/think:decide"]),
        (wrapper, "think", ["g/think", "g/think:tools_condition"]),
        (tools_condition, START, ["g/__start__:tools_condition", "g/think"]),
    ):
        with run() as record:
            ask(graph(router, node), asked)
        assert sorted(names(record)) == steps
    with pytest.raises(ValueError, match="think:tools_condition"):
        musubito_graph(
            StateGraph(MessagesState)
            .add_node("think", think)
            .add_edge(START, "think")
            .add_conditional_edges("think", tools_condition, {"tools": END, END: END})
            .compile(name="g"),
            steps={"think:tools_condition": FORCED},
        )
