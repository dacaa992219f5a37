"""How many tokens a graph has used and saved: by whom, of which model, and each counted once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.llms import LLM
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, Generation, LLMResult
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphRecursionError, InvalidUpdateError
from langgraph.graph import START, StateGraph, add_messages
from langgraph.types import interrupt

from musubito import MusubitoEngine, musubito_step, record_usage, run
from musubito.adapter import SCOPE
from musubito.lineage import Lineage, RunSummary, Tokens
from musubito_langgraph import musubito_graph, musubito_runnable
from musubito_langgraph.graph_invocation import GraphInvocation
from musubito_langgraph.token_usage import new_in, used_in

pytestmark = pytest.mark.usefixtures("engine")


class Priced(BaseChatModel):
    """Each answer takes ten tokens in and as many out as it is told."""

    out: int = 5
    called: str = "model-a"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        usage = {"input_tokens": 10, "output_tokens": self.out, "total_tokens": 10 + self.out}
        said = {"model_name": self.called}
        message = AIMessage(f"answer {len(messages)}", usage_metadata=usage, response_metadata=said)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        yield ChatGenerationChunk(message=AIMessageChunk("answer "))
        usage = {"input_tokens": 10, "output_tokens": self.out, "total_tokens": 10 + self.out}
        said = {"model_name": self.called}
        yield ChatGenerationChunk(message=AIMessageChunk("in pieces", usage_metadata=usage, response_metadata=said))

    @property
    def _llm_type(self) -> str:
        return "priced"


class State(TypedDict, total=False):
    q: str
    messages: Annotated[list[AnyMessage], add_messages]


def graph_of(*nodes: Any, **kwargs: Any) -> Any:
    builder = StateGraph(State)
    for number, node in enumerate(nodes):
        builder.add_node(f"node{number}", node)
        builder.add_edge(f"node{number - 1}" if number else START, f"node{number}")
    return musubito_graph(builder.compile(name="g"), **kwargs)


def summary(engine: MusubitoEngine) -> RunSummary:
    return Lineage(engine).run("last").summary


def spent_and_saved(engine: MusubitoEngine, graph: Any, state: Any = None) -> tuple[Any, Any]:
    graph.invoke(state or {"q": "?"})
    last = summary(engine)
    return last.spent.tokens, last.saved.tokens


def llm_result(**reported: Any) -> LLMResult:
    """An answer whose message has no usage: that of the whole call tells it."""
    return LLMResult(generations=[[Generation(text="!")]], llm_output={"model_name": "m", "token_usage": reported})


@pytest.mark.parametrize(
    ("result", "used"),
    [
        (llm_result(prompt_tokens=10, completion_tokens=3), (10, 3, 0, 0)),
        (llm_result(prompt_tokens=10, completion_tokens=3, prompt_tokens_details={"cached_tokens": 4}), (10, 3, 4, 0)),
        (llm_result(prompt_tokens=10, completion_tokens=3, prompt_tokens_details=None), (10, 3, 0, 0)),
        (llm_result(prompt_tokens=10, completion_tokens=3, prompt_tokens_details={"cached_tokens": 99}), (10, 3, 0, 0)),
        (llm_result(input_tokens=10, output_tokens=3, input_tokens_details={"cached_tokens": 4}), (10, 3, 4, 0)),
        (
            llm_result(input_tokens=10, output_tokens=3, cache_read_input_tokens=4, cache_creation_input_tokens=5),
            (19, 3, 4, 5),
        ),
    ],
)
def test_what_servers_report_of_their_caches(result: LLMResult, used: tuple[int, ...]):
    assert [*used_in(result, "")] == [("m", *used)]


@pytest.mark.parametrize(
    ("details", "cached"),
    [
        ({}, (0, 0)),
        ({"cache_read": 4, "cache_creation": 3, "audio": 2}, (4, 3)),
        ({"flex_cache_read": 4, "flex": 6}, (4, 0)),
        (
            {"cache_read": 1, "cache_creation": 0, "ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3},
            (1, 5),
        ),
        ({"cache_read": None, "cache_creation": "4"}, (0, 0)),
        ({"cache_read": 8, "cache_creation": 3}, (0, 0)),
    ],
)
def test_what_langchain_reports_of_caches(details: Any, cached: tuple[int, int]):
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "input_token_details": details}
    message = AIMessage("!", response_metadata={"model_name": "m"})
    message.usage_metadata = {**usage, "output_token_details": {"reasoning": 4}}  # type: ignore[typeddict-item]
    assert [*new_in({"messages": [message]}, {})] == [("m", 10, 5, *cached)]


def test_what_a_model_in_a_node_uses_is_spent_once_and_then_saved(engine: MusubitoEngine):
    def node(state: State) -> State:
        return {"messages": [Priced().invoke("hi"), Priced(out=1, called="model-b").invoke("ho")]}

    used = {"model-a": Tokens(10, 5), "model-b": Tokens(10, 1)}
    graph = graph_of(node)
    assert spent_and_saved(engine, graph) == (used, {})
    assert spent_and_saved(engine, graph) == ({}, used)


@pytest.mark.parametrize("inner", ["runnable", "graph"])
def test_an_inner_step_pays_for_its_own_model(engine: MusubitoEngine, inner: str):
    """The one around it sees the model, too, and does not pay a second time."""
    model = musubito_runnable(Priced())
    sub = graph_of(lambda state: {"messages": [Priced().invoke("hi")]}) if inner == "graph" else None
    more = [0]

    def node(state: State) -> State:
        answer = Priced(out=1, called="model-b").invoke("before")
        inside = sub.invoke({"q": "?"})["messages"] if sub is not None else [model.invoke("hi")]
        return {"messages": [answer, *inside], "q": str(more[0])}

    graph = graph_of(node)
    both = {"model-a": Tokens(10, 5), "model-b": Tokens(10, 1)}
    assert spent_and_saved(engine, graph) == (both, {})
    assert spent_and_saved(engine, graph) == ({}, both)
    # The outer step is edited: the inner one and the other model are replayed.
    more[0] = 1
    assert spent_and_saved(engine, graph) == ({}, both)
    # What it took is all that it would have taken.
    assert spent_and_saved(engine, graph) == ({}, both)


def test_a_model_that_is_a_node_and_one_that_streams(engine: MusubitoEngine):
    def streams(state: State) -> State:
        return {"messages": ["".join(chunk.text for chunk in Priced().stream("hi"))]}

    graph = graph_of(streams)
    assert spent_and_saved(engine, graph) == ({"model-a": Tokens(10, 5)}, {})
    assert spent_and_saved(engine, graph) == ({}, {"model-a": Tokens(10, 5)})
    recorded = musubito_runnable(Priced(called="alone"))
    for spent, saved in [({"alone": Tokens(10, 5)}, {}), ({}, {"alone": Tokens(10, 5)})]:
        assert list(recorded.stream("hi"))
        last = summary(engine)
        assert (last.spent.tokens, last.saved.tokens) == (spent, saved)


def test_of_an_answer_that_is_broken_off_what_was_told_until_then(engine: MusubitoEngine):
    class Early(Priced):
        def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
            said = {"input_tokens": 10, "output_tokens": 1, "total_tokens": 11}
            first = AIMessageChunk("a", usage_metadata=said, response_metadata={"model_name": "model-a"})
            yield ChatGenerationChunk(message=first)
            yield ChatGenerationChunk(message=AIMessageChunk("b"))
            raise ConnectionError("lost")

    def closes(state: State) -> State:
        with closing(Early().stream("hi")) as stream:
            next(stream)
        return {"q": "closed"}

    def loses(state: State) -> State:
        with suppress(ConnectionError):
            list(Early().stream("hi"))
        return {"q": "lost"}

    for node in (closes, loses):
        graph = graph_of(node)
        assert spent_and_saved(engine, graph) == ({"model-a": Tokens(10, 1)}, {})
        assert spent_and_saved(engine, graph) == ({}, {"model-a": Tokens(10, 1)})


@pytest.mark.parametrize("inner", ["runnable", "graph"])
def test_what_threads_call_that_inherit_no_context_is_of_the_node(engine: MusubitoEngine, inner: str):
    model = musubito_runnable(Priced())
    builder = StateGraph(State).add_node("asks", lambda state: {"messages": [Priced().invoke("hi")]})
    sub = musubito_graph(builder.add_edge(START, "asks").compile(name="sub"))

    def ask(number: int) -> str:
        if inner == "graph":
            return str(sub.invoke({"q": str(number)})["messages"][-1].content)
        return str(model.invoke(str(number)).content)

    def node(state: State) -> State:
        with ThreadPoolExecutor() as threads:
            return {"q": "".join(threads.map(ask, range(3)))}

    graph = graph_of(node)
    used = {"model-a": Tokens(30, 15)}
    assert spent_and_saved(engine, graph)[0] == used
    (only,) = Lineage(engine).runs()
    outer = Lineage(engine).run("last").calls[0]
    assert outer.operation == "g/node0"
    assert only.compute_ms == pytest.approx(sum(call.compute_ms for call in Lineage(engine).run("last").calls))
    assert spent_and_saved(engine, graph) == ({}, used)
    # So it depends on them.
    for name in ("Priced",) if inner == "runnable" else ("sub/asks/Priced", "sub/asks"):
        assert engine.invalidate(name) == 3
    assert spent_and_saved(engine, graph) == (used, {})


def test_of_a_call_that_was_suspended_the_models_are_known(engine: MusubitoEngine):
    def node(state: State) -> State:
        answers = [Priced().invoke("hi"), Priced(out=1, called="model-b").invoke("ho")]
        return {"messages": answers, "q": interrupt("?")}

    builder = StateGraph(State).add_node("node", node).add_edge(START, "node")
    graph = musubito_graph(builder.compile(name="g", checkpointer=InMemorySaver()))
    graph.invoke({"q": "?"}, {"configurable": {"thread_id": "1"}})
    used = {"model-a": Tokens(10, 5), "model-b": Tokens(10, 1)}
    assert (summary(engine).status, summary(engine).spent.tokens) == ("suspended", used)


def test_messages_say_it_where_no_model_is_seen(engine: MusubitoEngine):
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}

    def first(state: State) -> State:
        return {"messages": [AIMessage("by hand", usage_metadata=usage, response_metadata={"model_name": "sdk"})]}

    def second(state: State) -> State:
        # What it was given is not its own.
        return {"messages": [state["messages"][-1], AIMessage("more", usage_metadata=usage)]}

    used = {"sdk": Tokens(3, 4), "": Tokens(3, 4)}
    graph = graph_of(first, second)
    assert spent_and_saved(engine, graph) == (used, {})
    assert spent_and_saved(engine, graph) == ({}, used)


def test_a_plain_language_model_says_it_too(engine: MusubitoEngine):
    class Plain(LLM):
        def _call(self, prompt: str, *args: Any, **kwargs: Any) -> str:
            return "text"

        @property
        def _llm_type(self) -> str:
            return "plain"

    def node(state: State) -> State:
        record_usage(input_tokens=1, output_tokens=2, model="by hand")
        return {"q": Plain().invoke("hi")}

    graph = graph_of(node)
    assert spent_and_saved(engine, graph) == ({"by hand": Tokens(1, 2)}, {})
    assert spent_and_saved(engine, graph) == ({}, {"by hand": Tokens(1, 2)})


def test_what_a_failed_attempt_used_is_spent(engine: MusubitoEngine):
    tries = [0]

    def node(state: State) -> State:
        Priced().invoke("hi")
        tries[0] += 1
        if tries[0] == 1:
            raise ValueError("once")
        return {"q": "!"}

    graph = graph_of(node)
    with pytest.raises(ValueError):
        graph.invoke({"q": "?"})
    last = summary(engine)
    assert (last.status, last.spent.tokens) == ("failed", {"model-a": Tokens(10, 5)})


async def test_async_models_and_agents_are_counted(engine: MusubitoEngine):
    agents = pytest.importorskip("langchain.agents")
    agent = musubito_graph(agents.create_agent(Priced(), name="agent"))
    for spent, saved in [({"model-a": Tokens(10, 5)}, {}), ({}, {"model-a": Tokens(10, 5)})]:
        await agent.ainvoke({"messages": [HumanMessage("?", id="1")]})
        last = summary(engine)
        assert (last.name, last.spent.tokens, last.saved.tokens) == ("agent", spent, saved)


def test_each_invocation_is_a_run_and_joins_one_that_is_around_it(engine: MusubitoEngine):
    graph = graph_of(lambda state: {"messages": [Priced().invoke("hi")]})
    graph.batch([{"q": "a"}, {"q": "b"}])
    list(graph.stream({"q": "c"}))
    runs = Lineage(engine).runs()
    # The node does not look at the question, and is replayed. The first one asked the model.
    assert [(each.name, each.status) for each in runs] == [("g", "finished")] * 3
    assert sorted(each.calls for each in runs) == [1, 1, 2]
    with run("all"):
        graph.invoke({"q": "a"})
        with run("part"):
            graph.invoke({"q": "d"})
    report = Lineage(engine).run("all")
    assert [(call.outcome, call.parent) for call in report.calls] == [("replayed", None), ("ran", None), ("ran", 2)]
    assert (report.summary.spent.tokens, report.summary.saved.tokens) == ({"model-a": Tokens(10, 5)},) * 2
    assert len(Lineage(engine).runs()) == 4


def test_what_a_replayed_inner_step_said_is_not_used_once_more(engine: MusubitoEngine):
    """The messages of a node say what its model used, and so does the inner step that was replayed for it."""
    model, more = musubito_runnable(Priced()), [0]

    def node(state: State) -> State:
        return {"messages": [model.invoke("hi")], "q": str(more[0])}

    graph = graph_of(node)
    used = {"model-a": Tokens(10, 5)}
    assert spent_and_saved(engine, graph) == (used, {})
    more[0] = 1
    assert spent_and_saved(engine, graph) == ({}, used)
    assert spent_and_saved(engine, graph) == ({}, used)


def test_what_a_core_step_recorded_is_not_used_once_more(engine: MusubitoEngine):
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}

    @musubito_step
    def ask(question: str) -> AIMessage:
        record_usage(input_tokens=10, output_tokens=5, model="sdk")
        return AIMessage("!", usage_metadata=usage)

    graph = graph_of(lambda state: {"messages": [ask(state["q"]).value]})
    assert spent_and_saved(engine, graph) == ({"sdk": Tokens(10, 5)}, {})
    assert spent_and_saved(engine, graph) == ({}, {"sdk": Tokens(10, 5)})


def test_a_core_step_inside_a_node_pays_for_the_model_that_it_asks(engine: MusubitoEngine):
    model = Priced()

    @musubito_step(name="expensive")
    def expensive(q: str) -> str:
        return str(model.invoke(q).content)

    graph = graph_of(lambda state: {"q": expensive("q").value})
    assert spent_and_saved(engine, graph) == ({"model-a": Tokens(10, 5)}, {})
    engine.invalidate("g/node0")
    assert spent_and_saved(engine, graph) == ({}, {"model-a": Tokens(10, 5)})
    calls = {call.operation: call for call in Lineage(engine).run("last").calls}
    assert [(call.outcome, call.tokens, call.saved_tokens) for call in calls.values()] == [
        ("ran", 0, 0),
        ("replayed", 0, 15),
    ]


def test_several_answers_to_one_question_say_together_what_they_took(engine: MusubitoEngine):
    class Several(Priced):
        def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
            return ChatResult(generations=super()._generate(messages).generations * 3)

    graph = graph_of(lambda state: {"messages": [Several().invoke("hi")]})
    assert spent_and_saved(engine, graph) == ({"model-a": Tokens(10, 5)}, {})


def test_what_came_out_of_langchains_cache_was_not_used(engine: MusubitoEngine):
    cache, more = InMemoryCache(), [0]

    def node(state: State) -> State:
        return {"messages": [Priced(cache=cache).invoke("hi")], "q": str(more[0])}

    graph = graph_of(node, models=False)  # else the model is replayed before its cache is asked
    assert spent_and_saved(engine, graph) == ({"model-a": Tokens(10, 5)}, {})
    more[0] = 1
    assert spent_and_saved(engine, graph) == ({}, {})


def test_what_a_suspended_call_used_is_spent(engine: MusubitoEngine):
    def node(state: State) -> State:
        Priced().invoke("hi")
        return {"q": interrupt("well?")}

    builder = StateGraph(State).add_node("node", node).add_edge(START, "node")
    graph = musubito_graph(builder.compile(name="g", checkpointer=InMemorySaver()))
    graph.invoke({"q": "?"}, {"configurable": {"thread_id": "1"}})
    last = summary(engine)
    assert (last.status, last.failed, last.spent.total_tokens) == ("suspended", 0, 15)


def test_the_run_of_a_graph_ends_when_the_graph_does(engine: MusubitoEngine):
    graph = graph_of(lambda state: {"q": "a"}, lambda state: {"q": "b"})
    states = []
    for _ in graph.stream({"q": "?"}):
        states.append(summary(engine).status)
    assert states[0] == "running"
    last = summary(engine)
    assert last.status == "finished"
    assert last.finished_at is not None


@pytest.mark.parametrize("ended", [True, False])
def test_a_run_that_has_ended_does_not_end_later_once_more(engine: MusubitoEngine, ended: bool):
    loop = GraphInvocation()
    loop.run(engine, SCOPE.get(), "g")
    if ended:
        loop.ended()
    before = summary(engine)
    assert (before.status, before.finished_at is None) == (("finished", False) if ended else ("running", True))
    del loop
    after = summary(engine)
    assert after.status == "finished"
    assert (after.finished_at == before.finished_at) is ended


@pytest.mark.parametrize(
    "usage",
    [{"total_tokens": 5}, {"input_tokens": None, "output_tokens": 1}, {"input_tokens": -1, "output_tokens": 1}, "5"],
)
def test_what_is_no_usage_is_not_counted_and_does_no_harm(engine: MusubitoEngine, usage: Any):
    def node(state: State) -> State:
        message = AIMessage("!")
        message.usage_metadata = usage
        return {"messages": [message]}

    assert spent_and_saved(engine, graph_of(node)) == ({}, {})
    assert Lineage(engine).run("last").summary.ran == 1


def raises_nothing(state: State) -> Any:
    return {"q": "a"}


def gives_no_update(state: State) -> Any:
    return 5


def invoked(graph: Any, config: Any) -> None:
    graph.invoke({"q": "?"}, config)


def streamed(graph: Any, config: Any) -> None:
    list(graph.stream({"q": "?"}, config))


def ainvoked(graph: Any, config: Any) -> None:
    asyncio.run(graph.ainvoke({"q": "?"}, config))


def batched(graph: Any, config: Any) -> None:
    graph.batch([{"q": "?"}], config)


@pytest.mark.parametrize("how", [invoked, streamed, ainvoked, batched])
def test_a_graph_that_raises_outside_of_its_nodes_has_failed(engine: MusubitoEngine, how: Any):
    with pytest.raises(GraphRecursionError):
        how(graph_of(raises_nothing, raises_nothing, raises_nothing), {"recursion_limit": 2})
    last = summary(engine)
    assert (last.status, last.failed) == ("failed", 0)
    assert last.finished_at is not None
    with pytest.raises(InvalidUpdateError):
        how(graph_of(gives_no_update), {})
    assert summary(engine).status == "failed"


@pytest.mark.parametrize("how", [invoked, ainvoked])
def test_updates_that_do_not_go_together_are_a_failure(engine: MusubitoEngine, how: Any):
    builder = StateGraph(State)
    for name in ("a", "b"):
        builder.add_node(name, raises_nothing)
        builder.add_edge(START, name)
    with pytest.raises(InvalidUpdateError):
        how(musubito_graph(builder.compile()), {})
    assert summary(engine).status == "failed"


@pytest.mark.parametrize("error", [KeyboardInterrupt, asyncio.CancelledError])
def test_a_graph_that_is_stopped_was_cancelled(engine: MusubitoEngine, error: type[BaseException]):
    stream = graph_of(raises_nothing, raises_nothing).stream({"q": "?"})
    next(stream)
    with pytest.raises(error):
        stream.throw(error)
    assert summary(engine).status == "cancelled"


def test_a_graph_that_waits_for_an_answer_has_not_failed(engine: MusubitoEngine):
    def asks(state: State) -> State:
        return {"q": interrupt("?")}

    builder = StateGraph(State).add_sequence([asks]).add_edge(START, "asks")
    graph = musubito_graph(builder.compile(checkpointer=InMemorySaver()))
    graph.invoke({"q": "?"}, {"configurable": {"thread_id": "1"}})
    assert summary(engine).status == "suspended"
