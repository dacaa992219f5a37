"""Graphs that OpenInference and OpenLLMetry trace: a replayed node is marked on its span, and no token counts twice."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackManager
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from opentelemetry.sdk.trace import ReadableSpan

from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, musubito_step
from musubito_langgraph import musubito_graph
from tests.real.model_server import ModelServer
from tests.traced import Traced, linked, marks, traced

USAGE = {
    "openinference": ("llm.token_count.prompt", "llm.token_count.completion"),
    "openllmetry": ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"),
}
"""What each instrumentor calls the tokens of a model."""
HISTOGRAM = "gen_ai.client.token.usage"


def instrumentors(which: str, providers: Traced) -> list[Any]:
    made: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of theirs
        if which in ("openinference", "both"):
            from openinference.instrumentation.langchain import LangChainInstrumentor

            made.append(LangChainInstrumentor())
        if which in ("openllmetry", "both"):
            from opentelemetry.instrumentation.langchain import LangchainInstrumentor

            made.append(LangchainInstrumentor())
        for each in made:
            each.instrument(tracer_provider=providers.provider, meter_provider=providers.meters)
    return made


@pytest.fixture(params=["openinference", "openllmetry", "both"])
def which(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def seen(which: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Traced]:
    there = traced()
    there.spans()
    # OpenLLMetry leaves itself in this place.
    monkeypatch.setattr(BaseCallbackManager, "__init__", BaseCallbackManager.__init__)
    made = instrumentors(which, there)
    yield there
    for each in reversed(made):
        each.uninstrument()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[MusubitoEngine]:
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db"), telemetry=True) as engine:
        yield engine


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def decide(state: MessagesState) -> str:
    return tools_condition(state)


def agent(engine: MusubitoEngine) -> Any:
    model = ChatOpenAI(model="gpt-4o-mini").bind_tools([add])

    def think(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    builder = StateGraph(MessagesState).add_node("think", think).add_node("tools", ToolNode([add]))
    builder.add_edge(START, "think").add_conditional_edges("think", decide).add_edge("tools", "think")
    return musubito_graph(builder.compile(name="g"), engine=engine, default=StepConfiguration(), replay_tools=True)


def tokens_in(spans: list[ReadableSpan], which: str) -> dict[str, int]:
    names = [name for each, names in USAGE.items() if which in (each, "both") for name in names]
    return {name: sum((span.attributes or {}).get(name, 0) for span in spans) for name in names}


def named(spans: list[ReadableSpan], name: str) -> list[ReadableSpan]:
    """The spans of a node: OpenInference calls them as the node is called, and OpenLLMetry says what it is."""
    return [span for span in spans if span.name in (name, f"execute_task {name}")]


def test_over_two_equal_runs_the_tokens_are_those_of_one(
    engine: MusubitoEngine, server: ModelServer, seen: Traced, which: str, ask: Callable[..., Any]
) -> None:
    graph, question = agent(engine), {"messages": [("user", 'add{"a": 1, "b": 2}')]}
    ask(graph, question)
    engine.flush()
    first, counted = seen.spans(), seen.points(HISTOGRAM)
    ask(graph, question)
    engine.flush()
    second = seen.spans()
    assert len(server.questions) == 2
    once = tokens_in(first, which)
    assert all(once.values())
    assert tokens_in([*first, *second], which) == once
    assert seen.points(HISTOGRAM) == counted
    assert bool(counted) == (which != "openinference")
    # Nothing that anybody would add up, on any span of the replay.
    usage = [name for span in second for name in span.attributes or {} if "usage" in name or "token_count" in name]
    assert usage == []


def test_a_replayed_node_is_marked_on_its_span_and_linked_to_that_of_its_execution(
    engine: MusubitoEngine, server: ModelServer, seen: Traced, which: str, ask: Callable[..., Any]
) -> None:
    graph, question = agent(engine), {"messages": [("user", 'add{"a": 1, "b": 2}')]}
    ask(graph, question)
    engine.flush()
    first = seen.spans()
    ask(graph, question)
    engine.flush()
    second = seen.spans()
    each = 2 if which == "both" else 1
    for node, times in (("think", 2), ("tools", 1)):
        ran, replayed = named(first, node), named(second, node)
        assert len(ran) == len(replayed) == times * each
        assert {(marks(span)["operation"], marks(span)["outcome"]) for span in ran} == {(f"g/{node}", "ran")}
        assert {(marks(span)["operation"], marks(span)["outcome"]) for span in replayed} == {(f"g/{node}", "replayed")}
        by_node = {marks(span)["node.id"]: [] for span in ran}
        for span in ran:
            by_node[marks(span)["node.id"]].append((span.context.trace_id, span.context.span_id))
        for span in replayed:
            ((trace, linked_span),) = linked(span)
            assert (trace, linked_span) in by_node[marks(span)["node.id"]]
    # What was saved is what each instrumentor counted when the nodes ran.
    counted = tokens_in(first, which)
    for kind, names in (("input", ("prompt", "input")), ("output", ("completion", "output"))):
        saved = sum(marks(span)[f"saved.{kind}_tokens"] for span in named(second, "think"))
        assert saved == sum(used for name, used in counted.items() if any(part in name for part in names)) > 0
    # Routers and tools have no span that stands for them alone: theirs lie inside the node's, in the same trace.
    own = [span for span in second if span.name.startswith("musubito.step")]
    assert {span.name for span in own} == {"musubito.step g/think:decide"}
    nodes = {span.context.span_id for span in named(second, "think")}
    assert all(span.parent is not None and span.parent.span_id in nodes for span in own)
    assert len({span.context.trace_id for span in second}) == 1


def test_a_step_inside_a_node_has_a_span_inside_the_nodes(
    engine: MusubitoEngine, server: ModelServer, seen: Traced, which: str, ask: Callable[..., Any]
) -> None:
    @musubito_step(name="inner")
    def inner(text: str) -> str:
        return text + "!"

    def write(state: MessagesState) -> Any:
        return {"messages": [inner("text").value]}

    builder = StateGraph(MessagesState).add_node("write", write).add_edge(START, "write")
    graph = musubito_graph(builder.compile(name="g"), engine=engine, default=StepConfiguration(force_reexecution=True))
    for outcome in ("ran", "replayed"):
        ask(graph, {"messages": [("user", "Hello?")]})
        engine.flush()
        spans = seen.spans()
        (own,) = (span for span in spans if span.name == "musubito.step inner")
        nodes = named(spans, "write")
        assert marks(own)["outcome"] == outcome
        assert own.parent is not None and own.parent.span_id in {span.context.span_id for span in nodes}
        assert {marks(span)["operation"] for span in nodes} == {"g/write"}
