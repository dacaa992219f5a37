"""Any Runnable as a step: what it gives back is what it would give unwrapped, and is replayed where that is safe."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Collection, Iterator
from typing import Any

import pytest
from langchain_core.language_models import (
    FakeListChatModel,
    FakeMessagesListChatModel,
    GenericFakeChatModel,
)
from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage
from langchain_core.output_parsers import JsonOutputParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import (
    ConfigurableField,
    Runnable,
    RunnableBranch,
    RunnableConfig,
    RunnableGenerator,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
    RunnableSequence,
    ensure_config,
)
from langchain_core.tools import StructuredTool, ToolException, tool
from langchain_core.tracers.base import BaseTracer
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.runtime import get_runtime
from langgraph.types import Command, interrupt
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from musubito import (
    MusubitoEngine,
    MusubitoWarning,
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
from tests.langgraph.equivalence import Plain
from tests.langgraph.models import Calls, ScriptedModel
from tests.pairs import third

pytestmark = pytest.mark.usefixtures("engine")

DETERMINISTIC = StepConfiguration(step_type=StepType.DETERMINISTIC)


def plain(value: Any) -> Any:
    """A value that equals another one if they differ in random ids alone."""
    return Plain(blank=True)(value)


# -- what there is to wrap ---------------------------------------------------------------------------------------------
class Weather(BaseModel):
    """The weather somewhere."""

    place: str


def model(calls: Calls, **fields: Any) -> ScriptedModel:
    return ScriptedModel(calls=calls, **fields)


def looked_up(calls: Calls) -> StructuredTool:
    def look_up(place: str) -> str:
        """What the weather is."""
        calls("tool")
        return f"fog in {place}"

    return StructuredTool.from_function(look_up)


def failing_first(calls: Calls) -> Runnable[Any, Any]:
    def fail_first(text: str) -> str:
        if calls("flaky") == 1:
            raise ConnectionError("not yet")
        return text.upper()

    return RunnableLambda(fail_first)


def counted(calls: Calls, name: str = "lambda") -> Runnable[Any, Any]:
    def count(value: Any) -> Any:
        calls(name)
        return value

    return RunnableLambda(count)


def shouting(calls: Calls) -> Runnable[Any, Any]:
    def shout(pieces: Iterator[str]) -> Iterator[str]:
        calls("generator")
        for piece in pieces:
            yield piece.upper()
            yield "!"

    return RunnableGenerator(shout, asynchronously(shout))


def asynchronously(make: Any) -> Any:
    async def amake(pieces: Any) -> Any:
        for chunk in make([piece async for piece in pieces]):
            yield chunk

    return amake


def relaying(calls: Calls) -> Runnable[Any, Any]:
    inner = model(calls)

    def relay(pieces: Iterator[str]) -> Iterator[AIMessageChunk]:
        for piece in pieces:
            yield from inner.stream(piece)

    return RunnableGenerator(relay, asynchronously(relay))


def messaging(calls: Calls) -> Runnable[Any, Any]:
    def message(text: str) -> AIMessage:
        calls("message")
        return AIMessage(text)

    return RunnableLambda(message)


def choosing(calls: Calls) -> Runnable[Any, Any]:
    return RunnableLambda(lambda text: model(calls) if text == "hi" else counted(calls))


def with_fallback(calls: Calls) -> Runnable[Any, Any]:
    def fail(text: str) -> str:
        calls("failed")
        raise ConnectionError("never")

    return RunnableLambda(fail).with_fallbacks([model(calls)])


TEXTS = "hi", "ho"
KINDS = {
    "model": (model, TEXTS),
    "prompt": (
        lambda calls: ChatPromptTemplate.from_template("tell {x}") | counted(calls),
        ({"x": "of fog"}, {"x": "of rain"}),
    ),
    "sequence": (lambda calls: PromptTemplate.from_template("tell {x}") | model(calls) | StrOutputParser(), TEXTS),
    "parser": (lambda calls: model(calls) | StrOutputParser(), TEXTS),
    "parallel": (lambda calls: RunnableParallel(said=model(calls), heard=counted(calls)), TEXTS),
    "nested parallel": (lambda calls: RunnableParallel(a=RunnableParallel(b=model(calls)), c=counted(calls)), TEXTS),
    "lambda": (counted, ([1, {"a": (2, 3)}], [1, {"a": [2, 3]}])),
    "lambda with a message": (messaging, TEXTS),
    "lambda that gives a model": (choosing, TEXTS),
    "async lambda": (lambda calls: RunnableLambda(counted(calls).invoke, counted(calls).ainvoke), TEXTS),
    "generator": (shouting, TEXTS),
    "generator of chunks": (relaying, TEXTS),
    "tool": (looked_up, ({"place": "Porto"}, {"place": "Bergen"})),
    "retry": (lambda calls: failing_first(calls).with_retry(wait_exponential_jitter=False), TEXTS),
    "fallback": (with_fallback, TEXTS),
    "bind": (lambda calls: model(calls).bind(stop=["says"]), TEXTS),
    "tools bound": (lambda calls: model(calls).bind_tools([looked_up(calls)]), TEXTS),
    "with_config": (lambda calls: model(calls).with_config(tags=["a"], run_name="other"), TEXTS),
    "configurable field": (
        lambda calls: model(calls).configurable_fields(temperature=ConfigurableField(id="heat")),
        TEXTS,
    ),
    "configurable alternative": (
        lambda calls: model(calls).configurable_alternatives(ConfigurableField(id="which"), other=counted(calls)),
        TEXTS,
    ),
    "branch": (lambda calls: RunnableBranch((lambda text: text == "hi", model(calls)), counted(calls)), TEXTS),
    "assign": (lambda calls: RunnablePassthrough.assign(said=lambda d: d["x"]) | counted(calls), ({"x": 1}, {"x": 2})),
    "assign of a model": (
        lambda calls: RunnablePassthrough.assign(said=(lambda d: d["x"]) | model(calls)),
        ({"x": "hi"}, {"x": "ho"}),
    ),
    "map": (lambda calls: counted(calls).map(), (["a", "b"], ["a", "c"])),
    "pick": (lambda calls: counted(calls) | RunnablePassthrough().pick("x"), ({"x": 1}, {"x": 2})),
}
STREAMED = [kind for kind in KINDS if kind != "retry"]  # LangChain retries none


def some_of(number: int, kinds: Collection[str] = KINDS) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kind", third(number, kinds))


class Pair:
    """A Runnable and the like of it, wrapped, each with a count of what ran in it."""

    def __init__(self, kind: str) -> None:
        make, self.inputs = KINDS[kind]
        self.bare_calls, self.calls = Calls(), Calls()
        self.bare: Any = make(self.bare_calls)
        self.wrapped: Any = musubito_runnable(make(self.calls))


def in_order(kind: str, chunks: list[Any]) -> list[Any]:
    """Of a parallel, in an order of their own: LangChain promises none."""
    return sorted(map(plain, chunks), key=repr) if "parallel" in kind else plain(chunks)


def streamed(runnable: Any, value: Any, *args: Any, **kwargs: Any) -> list[Any]:
    return list(runnable.stream(value, *args, **kwargs))


async def astreamed(runnable: Any, value: Any) -> list[Any]:
    return [chunk async for chunk in runnable.astream(value)]


# -- replays that are right --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
def test_it_gives_back_what_it_would_and_does_it_once(kind):
    pair = Pair(kind)
    for value in pair.inputs:
        live = plain(pair.bare.invoke(value))
        assert plain(pair.wrapped.invoke(value)) == live
        assert pair.calls.counts == pair.bare_calls.counts
        assert plain(pair.wrapped.invoke(value)) == live
        assert pair.calls.counts == pair.bare_calls.counts


@some_of(1)
async def test_the_same_asynchronously(kind):
    pair = Pair(kind)
    for value in pair.inputs:
        live = plain(await pair.bare.ainvoke(value))
        assert plain(await pair.wrapped.ainvoke(value)) == live
        assert pair.calls.counts == pair.bare_calls.counts
        assert plain(await pair.wrapped.ainvoke(value)) == live
        assert plain(pair.wrapped.invoke(value)) == live
        assert pair.calls.counts == pair.bare_calls.counts


@some_of(2, STREAMED)
def test_a_stream_is_replayed_chunk_by_chunk(kind):
    pair = Pair(kind)
    for value in pair.inputs:
        live = streamed(pair.bare, value)
        first = streamed(pair.wrapped, value)
        assert in_order(kind, first) == in_order(kind, live)
        assert pair.calls.counts == pair.bare_calls.counts
        assert plain(streamed(pair.wrapped, value)) == plain(first)
        assert pair.calls.counts == pair.bare_calls.counts


@some_of(0, STREAMED)
async def test_so_is_an_asynchronous_one(kind):
    pair = Pair(kind)
    for value in pair.inputs:
        live = await astreamed(pair.bare, value)
        first = await astreamed(pair.wrapped, value)
        assert in_order(kind, first) == in_order(kind, live)
        assert pair.calls.counts == pair.bare_calls.counts
        assert plain(await astreamed(pair.wrapped, value)) == plain(first)
        assert plain(streamed(pair.wrapped, value)) == plain(first)
        assert pair.calls.counts == pair.bare_calls.counts


@some_of(1, STREAMED)
def test_what_was_streamed_answers_invoke(kind):
    pair = Pair(kind)
    value = pair.inputs[0]
    streamed(pair.wrapped, value)
    ran = pair.calls.total
    assert said(pair.wrapped.invoke(value)) == said(pair.bare.invoke(value))
    assert pair.calls.total == ran


@some_of(2, STREAMED)
def test_what_was_invoked_answers_a_stream(kind):
    pair = Pair(kind)
    value = pair.inputs[0]
    pair.wrapped.invoke(value)
    ran = pair.calls.total
    chunks = streamed(pair.wrapped, value)
    assert pair.calls.total == ran
    live = streamed(pair.bare, value)
    if kind in GUESSED:
        assert len(chunks) == 1
        assert said(chunks[0]) == said(pair.wrapped.invoke(value))
    else:
        assert {type(chunk) for chunk in chunks} <= {type(chunk) for chunk in live}
        assert said(added(chunks)) == said(added(live))


# What a function gives back streamed is known only by running it.
GUESSED = {"lambda that gives a model", "assign"}


def added(chunks: list[Any]) -> Any:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    return whole


def said(value: Any) -> Any:
    """All of a value but the ids of messages, and where one ends."""
    if isinstance(value, dict):
        return type(value), {key: said(each) for key, each in value.items()}
    if isinstance(value, AIMessage):
        return type(value), value.content, value.tool_calls, value.usage_metadata, value.response_metadata
    return value


@some_of(0)
def test_a_batch_is_replayed(kind):
    pair = Pair(kind)
    live = plain(pair.bare.batch(list(pair.inputs), {"max_concurrency": 1}))
    assert plain(pair.wrapped.batch(list(pair.inputs), {"max_concurrency": 1})) == live
    ran = pair.calls.total
    assert plain(pair.wrapped.batch(list(pair.inputs))) == live
    assert pair.calls.total == ran


@some_of(1)
async def test_so_is_an_asynchronous_batch(kind):
    pair = Pair(kind)
    live = plain(await pair.bare.abatch(list(pair.inputs), {"max_concurrency": 1}))
    assert plain(await pair.wrapped.abatch(list(pair.inputs), {"max_concurrency": 1})) == live
    ran = pair.calls.total
    assert plain(await pair.wrapped.abatch(list(pair.inputs))) == live
    assert plain(pair.wrapped.batch(list(pair.inputs))) == live
    assert pair.calls.total == ran


@some_of(2, STREAMED)
def test_what_comes_in_pieces_is_the_same_input(kind):
    pair = Pair(kind)
    value = pair.inputs[0]
    pieces = [*value] if isinstance(value, str) else [value]
    live = list(pair.bare.transform(iter([value])))
    first = list(pair.wrapped.transform(iter(pieces)))
    assert in_order(kind, first) == in_order(kind, live)
    ran = pair.calls.total
    assert plain(streamed(pair.wrapped, value)) == plain(first)
    assert pair.calls.total == ran


@some_of(0, STREAMED)
async def test_asynchronously_as_well(kind):
    async def arriving() -> Any:
        yield value

    pair = Pair(kind)
    value = pair.inputs[0]
    live = [chunk async for chunk in pair.bare.atransform(arriving())]
    first = [chunk async for chunk in pair.wrapped.atransform(arriving())]
    assert in_order(kind, first) == in_order(kind, live)
    ran = pair.calls.total
    assert plain([chunk async for chunk in pair.wrapped.atransform(arriving())]) == plain(first)
    assert pair.calls.total == ran


# -- what it looks like ------------------------------------------------------------------------------------------------
@some_of(1)
def test_it_looks_as_the_original(kind):
    pair = Pair(kind)
    bare, wrapped = pair.bare, pair.wrapped
    assert getattr(wrapped, "name", None) == getattr(bare, "name", None)
    assert wrapped.get_name("Suffix") == bare.get_name("Suffix")
    assert repr(wrapped.InputType) == repr(bare.InputType)
    assert repr(wrapped.OutputType) == repr(bare.OutputType)
    assert wrapped.get_input_jsonschema() == bare.get_input_jsonschema()
    assert wrapped.get_output_jsonschema() == bare.get_output_jsonschema()
    assert wrapped.config_specs == bare.config_specs
    assert wrapped.get_graph().draw_mermaid() == bare.get_graph().draw_mermaid()


class Tracer(BaseTracer):
    """Keeps what ran as trees of plain values."""

    def __init__(self) -> None:
        super().__init__()
        self.roots: list[Any] = []

    def _persist_run(self, run: Any) -> None:
        self.roots.append(self._tree(run))

    def _tree(self, run: Any) -> Any:
        metadata = {key: each for key, each in run.metadata.items() if not key.startswith("musubito")}
        return {
            "is": (run.name, run.run_type, sorted(run.tags or ())),
            "had": plain([run.inputs, run.outputs, run.error, metadata, run.serialized]),
            "events": [event["name"] for event in run.events],
            "children": sorted(map(self._tree, run.child_runs), key=repr),
        }


def traced(call: Any, value: Any) -> Any:
    tracer = Tracer()
    call(value, {"callbacks": [tracer], "tags": ["mine"], "metadata": {"who": "me"}, "run_name": "named"})
    return tracer.roots


@some_of(2, STREAMED)
def test_tracers_see_what_they_would_and_no_run_more(kind):
    pair = Pair(kind)
    for value in pair.inputs:
        assert traced(pair.wrapped.invoke, value) == traced(pair.bare.invoke, value)


@some_of(0, STREAMED)
def test_nor_when_it_is_streamed(kind):
    pair = Pair(kind)
    for value in pair.inputs:
        live = traced(lambda *call: streamed(pair.bare, *call), value)
        assert live
        assert traced(lambda *call: streamed(pair.wrapped, *call), value) == live


async def events_of(runnable: Any, value: Any) -> Any:
    said = []
    async for event in runnable.astream_events(value, version="v2"):
        said.append([event["event"], event["name"], event["tags"], len(event["parent_ids"]), plain(event["data"])])
    return said


@pytest.mark.parametrize("kind", ["model", "sequence", "lambda that gives a model", "bind", "tool"])
async def test_events_tell_what_is_inside(kind):
    pair = Pair(kind)
    live = await events_of(pair.bare, pair.inputs[0])
    assert live
    assert await events_of(pair.wrapped, pair.inputs[0]) == live


async def test_a_chain_tells_of_the_runs_around_a_replay():
    chain = PromptTemplate.from_template("{x}") | musubito_runnable(model(Calls())) | StrOutputParser()
    first = [event[:2] for event in await events_of(chain, "hi")]
    again = [event[:2] for event in await events_of(chain, "hi")]
    assert ["on_chat_model_start", "ScriptedModel"] in first
    # What the model told comes again, after the rest.
    assert sorted(again) == sorted(first)
    around = [[event for event in events if "chat_model" not in event[0]] for events in (first, again)]
    assert around[0] == around[1]


# -- what it is made with ----------------------------------------------------------------------------------------------
def test_a_function_is_made_one():
    calls = Calls()

    @musubito_runnable
    def double(value: int) -> int:
        calls("double")
        return 2 * value

    assert isinstance(double, Runnable)
    assert [double.invoke(2), double.invoke(2), double.invoke(3)] == [4, 4, 6]
    assert calls["double"] == 2
    assert double.get_name() == "double"


async def test_so_is_an_asynchronous_function():
    calls = Calls()

    @musubito_runnable(semantics=DETERMINISTIC)
    async def double(value: int) -> int:
        calls("double")
        return 2 * value

    assert [await double.ainvoke(2), await double.ainvoke(2)] == [4, 4]
    assert calls["double"] == 1


def test_so_is_a_generator_function():
    calls = Calls()

    @musubito_runnable()
    def letters(words: Iterator[str]) -> Iterator[str]:
        calls("letters")
        for word in words:
            yield from word

    assert [streamed(letters, "abc"), streamed(letters, "abc")] == [["a", "b", "c"]] * 2
    assert letters.invoke("abc") == "abc"
    assert calls["letters"] == 1


async def test_and_an_asynchronous_generator():
    calls = Calls()

    @musubito_runnable
    async def letters(words: Any) -> Any:
        calls("letters")
        async for word in words:
            for letter in word:
                yield letter

    assert [await astreamed(letters, "abc"), await astreamed(letters, "abc")] == [["a", "b", "c"]] * 2
    assert await letters.ainvoke("abc") == "abc"
    assert calls["letters"] == 1


def test_it_decorates_a_tool():
    calls = Calls()

    @musubito_runnable
    @tool
    def look_up(place: str) -> str:
        """What the weather is."""
        calls("tool")
        return f"fog in {place}"

    assert [look_up.invoke({"place": "Porto"}), look_up.invoke({"place": "Porto"})] == ["fog in Porto"] * 2
    assert calls["tool"] == 1
    assert (look_up.description, list(look_up.args)) == ("What the weather is.", ["place"])


def test_a_dict_is_made_a_parallel():
    assert musubito_runnable({"a": lambda x: x + 1, "b": lambda x: x}).invoke(1) == {"a": 2, "b": 1}


def test_wrapped_twice_is_wrapped_once():
    wrapped = musubito_runnable(model(Calls()))
    assert musubito_runnable(wrapped) is wrapped


@pytest.mark.parametrize("nonsense", [3, "text", [1], object(), int, ScriptedModel])
def test_nonsense_is_refused(nonsense):
    with pytest.raises(TypeError):
        musubito_runnable(nonsense)


def test_so_is_a_graph_and_what_is_no_configuration():
    graph = StateGraph(dict).add_node("a", lambda s: s).add_edge(START, "a").compile()
    with pytest.raises(TypeError, match="musubito_graph"):
        musubito_runnable(graph)
    with pytest.raises(TypeError, match="StepConfiguration"):
        musubito_runnable(lambda x: x, semantics=StepType.DETERMINISTIC)
    with pytest.raises(TypeError):
        musubito_runnable(lambda x: x, DETERMINISTIC)


def test_it_uses_the_engine_that_it_is_given(engine, tmp_path):
    calls = Calls()
    with MusubitoEngine(SQLiteStorage(tmp_path / "other.db")) as other:
        made = counted(calls)
        assert musubito_runnable(made, engine=other).invoke(1) == 1
        assert musubito_runnable(made).invoke(1) == 1
        assert calls.total == 2
        assert musubito_runnable(made, engine=other).invoke(1) == 1
        assert calls.total == 2


# -- composition -------------------------------------------------------------------------------------------------------
PROMPT = ChatPromptTemplate.from_template("tell {x}")
COMPOSED = {
    "on both sides": lambda m: PROMPT | m | StrOutputParser(),
    "pipe": lambda m: PROMPT.pipe(m, StrOutputParser()),
    "first": lambda m: m | (lambda message: message.text),
    "last": lambda m: (lambda text: f"say {text}") | m,
    "in a dict": lambda m: {"a": m, "b": RunnablePassthrough()} | RunnableLambda(lambda d: [d["a"].text, d["b"]]),
    "in a parallel": lambda m: RunnableParallel(a=m) | (lambda d: d["a"].text),
    "bind": lambda m: m.bind(stop=["says"]),
    "with_retry": lambda m: m.with_retry(),
    "with_fallbacks": lambda m: m.with_fallbacks([RunnableLambda(str)]),
    "as a fallback": lambda m: RunnableLambda(lambda x: 1 // 0).with_fallbacks([m]),
    "assign": lambda m: RunnablePassthrough.assign(said=RunnableLambda(str) | m) | (lambda d: d["said"].text),
    "map": lambda m: (lambda text: [str(text)]) | m.map(),
    "branch": lambda m: RunnableBranch((lambda x: True, RunnableLambda(str) | m), lambda x: "no"),
    "with_config": lambda m: RunnableLambda(str) | m.with_config(run_name="named"),
    "with_types": lambda m: RunnableLambda(str) | m.with_types(input_type=str),
    "with_listeners": lambda m: RunnableLambda(str) | m.with_listeners(on_end=lambda run: None),
    "as the step of a sequence": lambda m: RunnableSequence(PROMPT, m, StrOutputParser()),
    "returned by a function": lambda m: RunnableLambda(lambda x: m),
    "called by a function": lambda m: RunnableLambda(lambda x: m.invoke(str(x)).text),
}


@pytest.mark.parametrize("how", COMPOSED)
async def test_it_composes(how):
    calls, bare_calls = Calls(), Calls()
    compose = COMPOSED[how]
    bare, chain = compose(model(bare_calls)), compose(musubito_runnable(model(calls)))
    value = {"x": "of fog"} if how in ("on both sides", "pipe", "as the step of a sequence", "assign") else "hi"
    live = plain(bare.invoke(value))
    assert bare_calls.total
    assert [plain(chain.invoke(value)), plain(chain.invoke(value)), plain(await chain.ainvoke(value))] == [live] * 3
    assert calls.total == bare_calls.total
    # A function that runs in between hands a stream on whole, a model's messages become chunks: the text is the same.
    assert words_of(streamed(chain, value)) == words_of(streamed(bare, value))
    assert words_of(await astreamed(chain, value)) == words_of(await astreamed(bare, value))
    assert calls.total == bare_calls.total - 2, "all of the stream's was recorded"


def words_of(value: Any) -> str:
    """All words of chunks, in whatever pieces."""
    return "".join(map(words_of, value)) if isinstance(value, list) else str(getattr(value, "text", value))


def test_it_streams_inside_a_chain():
    calls = Calls()
    chain = PROMPT | musubito_runnable(model(calls)) | StrOutputParser()
    live = streamed(PROMPT | model(Calls()) | StrOutputParser(), {"x": "of fog"})
    assert len([chunk for chunk in live if chunk]) > 3
    assert streamed(chain, {"x": "of fog"}) == streamed(chain, {"x": "of fog"}) == live
    assert calls.total == 1


def test_what_is_bound_later_counts():
    calls = Calls()
    wrapped = musubito_runnable(model(calls))
    assert wrapped.bind(stop=["says"]).invoke("hi").text == "echo-1 at 0.0 "
    assert wrapped.bind(stop=["hi"]).invoke("hi").text == "echo-1 at 0.0 says "
    assert wrapped.invoke("hi", stop=["hi"]).text == "echo-1 at 0.0 says "
    assert wrapped.invoke("hi").text == "echo-1 at 0.0 says hi"
    assert calls.total == 3


def test_a_retry_around_it_asks_again_and_gets_the_good_answer_back():
    calls = Calls()
    wrapped = musubito_runnable(model(calls, fails=1)).with_retry(wait_exponential_jitter=False)
    assert wrapped.invoke("hi").text == wrapped.invoke("hi").text
    assert calls.total == 2


# -- attributes --------------------------------------------------------------------------------------------------------
def test_its_attributes_are_those_of_the_original():
    original = model(Calls(), temperature=0.5)
    wrapped: Any = musubito_runnable(original)
    assert (wrapped.model, wrapped.temperature, wrapped._llm_type) == ("echo-1", 0.5, "scripted")
    assert wrapped.get_num_tokens_from_messages.__name__ == "get_num_tokens_from_messages"
    with pytest.raises(AttributeError, match="no_such_thing"):
        wrapped.no_such_thing  # noqa: B018


def test_tools_are_bound_to_a_recorded_model():
    calls = Calls()
    wrapped: Any = musubito_runnable(model(calls))
    bound = wrapped.bind_tools([looked_up(Calls())])
    first, again = bound.invoke("Porto"), bound.invoke("Porto")
    assert [call["args"] for call in first.tool_calls] == [call["args"] for call in again.tool_calls]
    assert first.tool_calls[0]["args"] == {"place": "Porto"}
    assert calls.total == 1
    assert wrapped.invoke("Porto").tool_calls == []
    assert calls.total == 2


def test_structured_output_is_recorded():
    calls = Calls()
    wrapped: Any = musubito_runnable(model(calls))
    structured = wrapped.with_structured_output(Weather)
    assert [structured.invoke("Porto"), structured.invoke("Porto")] == [Weather(place="Porto")] * 2
    assert calls.total == 1


def test_configurable_fields_are_recorded_and_count():
    calls = Calls()
    wrapped: Any = musubito_runnable(model(calls)).configurable_fields(temperature=ConfigurableField(id="heat"))
    for _ in range(2):
        assert wrapped.invoke("hi").text == "echo-1 at 0.0 says hi"
        assert wrapped.with_config(configurable={"heat": 0.7}).invoke("hi").text == "echo-1 at 0.7 says hi"
    assert calls.total == 2


# -- fingerprints ------------------------------------------------------------------------------------------------------
class Report(BaseModel):
    """The weather somewhere."""

    town: str


def with_constant(number: int) -> Any:
    return lambda message: f"{message.text} {number}"


def other_tool() -> StructuredTool:
    def look_up(place: str) -> str:
        """What the weather will be."""
        return f"fog in {place}"

    return StructuredTool.from_function(look_up)


DIFFER = {
    "temperature": (model, lambda c: model(c, temperature=0.1)),
    "model name": (model, lambda c: model(c, model="echo-2")),
    "tools bound": (model, lambda c: model(c).bind_tools([looked_up(c)])),
    "description of a tool": (
        lambda c: model(c).bind_tools([looked_up(c)]),
        lambda c: model(c).bind_tools([other_tool()]),
    ),
    "stop": (lambda c: model(c).bind(stop=["a"]), lambda c: model(c).bind(stop=["b"])),
    "prompt": (
        lambda c: PromptTemplate.from_template("tell {x}") | model(c),
        lambda c: PromptTemplate.from_template("ask {x}") | model(c),
    ),
    "system message": (
        lambda c: ChatPromptTemplate.from_messages([("system", "be kind"), ("human", "{x}")]) | model(c),
        lambda c: ChatPromptTemplate.from_messages([("system", "be brief"), ("human", "{x}")]) | model(c),
    ),
    "partial of a prompt": (
        lambda c: PromptTemplate.from_template("{y} {x}").partial(y="tell") | model(c),
        lambda c: PromptTemplate.from_template("{y} {x}").partial(y="ask") | model(c),
    ),
    "response schema": (
        lambda c: model(c).with_structured_output(Weather),
        lambda c: model(c).with_structured_output(Report),
    ),
    "code of a lambda": (
        lambda c: model(c) | (lambda message: message.text),
        lambda c: model(c) | (lambda message: message.text.upper()),
    ),
    "closure": (lambda c: model(c) | with_constant(1), lambda c: model(c) | with_constant(2)),
    "parser": (lambda c: model(c) | StrOutputParser(), lambda c: model(c) | StrOutputParser() | JsonOutputParser()),
    "order of a sequence": (
        lambda c: RunnableLambda(str.upper) | RunnableLambda(str.title) | counted(c),
        lambda c: RunnableLambda(str.title) | RunnableLambda(str.upper) | counted(c),
    ),
    "keys of a parallel": (lambda c: RunnableParallel(a=model(c)), lambda c: RunnableParallel(b=model(c))),
    "fallback": (
        lambda c: model(c).with_fallbacks([RunnableLambda(str)]),
        lambda c: model(c).with_fallbacks([RunnableLambda(repr)]),
    ),
    "branch": (
        lambda c: RunnableBranch((lambda x: True, model(c)), lambda x: x),
        lambda c: RunnableBranch((lambda x: False, model(c)), lambda x: x),
    ),
    "configurable bound": (
        lambda c: (
            model(c).configurable_fields(temperature=ConfigurableField(id="t")).with_config(configurable={"t": 1})
        ),
        lambda c: (
            model(c).configurable_fields(temperature=ConfigurableField(id="t")).with_config(configurable={"t": 2})
        ),
    ),
}


@pytest.mark.parametrize("what", DIFFER)
def test_fingerprints_see(what):
    """The one is recorded, and the other is not replayed for it, but each for itself."""
    one, other = DIFFER[what]
    value = {"x": "hi"} if what in ("prompt", "system message", "partial of a prompt") else "hi"
    for make in (one, other):
        with run() as first:
            assert plain(outcome(musubito_runnable(make(Calls())), value)) == plain(outcome(make(Calls()), value))
        *_, of_all = first.calls  # those before are of the models inside
        assert of_all.outcome in ("ran", "failed")
    for make in (one, other):
        calls = Calls()
        with run() as second:
            assert plain(outcome(musubito_runnable(make(calls)), value)) == plain(outcome(make(Calls()), value))
        if second.calls[-1].outcome != "failed":
            assert [call.reason for call in second.calls] == [ReplayReason.EXACT_HIT]
            assert calls.total == 0


def outcome(runnable: Any, value: Any) -> Any:
    try:
        return runnable.invoke(value)
    except Exception as error:
        return repr(error)


# -- secrets -----------------------------------------------------------------------------------------------------------
class Careless(ScriptedModel):
    """Keeps credentials where no model should."""

    headers: dict[str, str] = Field(default_factory=dict)


def test_secrets_do_not_count_and_are_never_stored(tmp_path):
    calls = Calls()

    def ask(number: int) -> str:
        key, headers = f"hush-{number}-hush", {"Authorization": "Bearer hush-hush"}
        made = Careless(calls=calls, api_key=key, extra_api_key=key, headers=headers)
        wrapped = musubito_runnable(PromptTemplate.from_template("tell {x}") | made.bind(stop=["?"]))
        bound = musubito_runnable(made).bind_tools([looked_up(calls)])
        return (
            wrapped.invoke("fog").text
            + str(bound.invoke("Porto").tool_calls[0]["args"])
            + "".join(chunk.text for chunk in musubito_runnable(made).stream("rain"))
        )

    with MusubitoEngine(SQLiteStorage(tmp_path / "secrets.db")) as engine, use_musubito_engine(engine):
        assert ask(1) == ask(2) == ask(3)
        assert calls.total == 3, "a changed key replays"
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"echo-1" in stored
    assert b"hush" not in stored


def test_so_for_keys_that_are_bound_or_configured(tmp_path):
    def ask(key: str) -> None:
        made = model(Calls())
        musubito_runnable(made.bind(api_key=key)).invoke("hi")
        musubito_runnable(made).invoke("hi", api_key=key)
        musubito_runnable(made).invoke("hi", {"configurable": {"openai_api_key": key}})
        musubito_runnable(made.with_config(configurable={"openai_api_key": key})).invoke("hi")
        configurable = made.configurable_fields(extra_api_key=ConfigurableField(id="secret key"))
        musubito_runnable(configurable).invoke("hi", {"configurable": {"secret key": key}})
        musubito_runnable(configurable.with_config(configurable={"secret key": key})).invoke("hi")

    with MusubitoEngine(SQLiteStorage(tmp_path / "secrets.db")) as engine, use_musubito_engine(engine):
        ask("hush-1-hush")
    assert b"hush" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


# -- LangChain's own fake models ---------------------------------------------------------------------------------------
def test_fake_models_replay_though_they_count():
    for make in (
        lambda: FakeListChatModel(responses=["one", "two"]),
        lambda: FakeMessagesListChatModel(responses=[AIMessage("one"), AIMessage("two")]),
        lambda: GenericFakeChatModel(messages=iter([AIMessage("one"), AIMessage("two")])),
    ):
        wrapped = musubito_runnable(make())
        assert [wrapped.invoke("hi").text, wrapped.invoke("ho").text] == ["one", "two"]
        assert [wrapped.invoke("hi").text, wrapped.invoke("ho").text] == ["one", "two"]
        anew = musubito_runnable(make())
        assert [anew.invoke("ho").text, anew.invoke("hi").text] == ["two", "one"]


def test_their_responses_count():
    assert musubito_runnable(FakeListChatModel(responses=["one"])).invoke("hi").text == "one"
    assert musubito_runnable(FakeListChatModel(responses=["two"])).invoke("hi").text == "two"


# -- config ------------------------------------------------------------------------------------------------------------
def told_by(calls: Calls) -> Runnable[Any, Any]:
    def tell(value: Any, config: RunnableConfig) -> Any:
        calls("told")
        return config["configurable"].get("who")

    return musubito_runnable(tell)


def test_other_configurable_values_are_not_replayed():
    calls = Calls()
    wrapped = told_by(calls)
    for _ in range(2):
        assert [wrapped.invoke(1, {"configurable": {"who": who}}) for who in ("me", "you")] == ["me", "you"]
        assert wrapped.invoke(1) is None
        assert streamed(wrapped, 1, {"configurable": {"who": "you"}}) == ["you"]
    assert calls.total == 3


def test_who_watches_does_not_count():
    calls = Calls()
    wrapped = musubito_runnable(counted(calls))
    for config in (
        None,
        {"callbacks": [Tracer()]},
        {"tags": ["a"]},
        {"run_name": "other"},
        {"metadata": {"request": 7}},
        {"max_concurrency": 3},
        {"recursion_limit": 7},
        {"configurable": {"thread_id": "7"}},
    ):
        assert wrapped.invoke(1, config) == 1
    assert calls.total == 1


def test_a_thread_counts_for_code_that_reads_it():
    calls = Calls()

    @musubito_runnable
    def tell(value: Any, config: RunnableConfig) -> Any:
        calls("told")
        return config["configurable"]["thread_id"]

    for _ in range(2):
        assert [tell.invoke(1, {"configurable": {"thread_id": thread}}) for thread in "ab"] == ["a", "b"]
    assert calls.total == 2


def test_an_invocation_says_how_it_is_made():
    calls = Calls()
    wrapped = musubito_runnable(counted(calls))

    def by(**said: str) -> dict[str, Any]:
        return {"configurable": {"musubito": said}}

    for expected, config in enumerate([by(), by(mode="refresh"), by(mode="off"), by(namespace="other")], start=1):
        assert wrapped.invoke(1, config) == 1
        assert calls.total == expected
    assert wrapped.invoke(1, by(mode="replay_only")) == 1
    assert streamed(wrapped, 1, by(mode="off")) == [1]
    assert streamed(wrapped, 1, by(mode="refresh")) == [1]
    assert streamed(wrapped, 1, by(namespace="third")) == [1]
    assert calls.total == 7
    with pytest.raises(NotReplayed):
        wrapped.invoke(2, by(mode="replay_only"))
    with pytest.raises(NotReplayed):
        streamed(wrapped, 2, by(mode="replay_only"))
    assert streamed(wrapped, 1, by(mode="replay_only")) == [1]
    with pytest.raises(ValueError, match="mode"):
        wrapped.invoke(1, by(mode="nonsense"))
    assert calls.total == 7


# -- samples -----------------------------------------------------------------------------------------------------------
def drifting(calls: Calls, **options: Any) -> Any:
    return musubito_runnable(model(calls, drifts=True), **options)


def test_two_equal_calls_of_a_run_are_two_samples():
    calls = Calls()
    wrapped = drifting(calls)
    answers = []
    for _ in range(2):
        with run():
            answers.append([wrapped.invoke("hi").text, streamed(wrapped, "hi")[0].text, wrapped.invoke("hi").text])
    assert calls.total == 3
    assert answers[0][0] != answers[0][2]
    assert answers[0] == answers[1]


def test_the_equal_inputs_of_a_batch_are_samples():
    calls = Calls()
    wrapped = drifting(calls)
    first = [message.text for message in wrapped.batch(["hi"] * 3)]
    assert len(set(first)) == 3
    assert sorted(message.text for message in wrapped.batch(["hi"] * 3)) == sorted(first)
    assert len({message.text for message in wrapped.batch(["hi"] * 4)} - set(first)) == 1
    assert calls.total == 4
    with run():
        together = [message.text for message in wrapped.batch(["hi"] * 2)] + [wrapped.invoke("hi").text]
    assert len(set(together)) == 3
    assert calls.total == 4


# -- failures ----------------------------------------------------------------------------------------------------------
class Refused(Exception):
    pass


async def test_errors_are_raised_untouched_and_never_replayed():
    calls = Calls()
    error = Refused("no", 7)

    @musubito_runnable
    def refuse(value: Any) -> Any:
        calls("refused")
        raise error

    for number in (1, 2):
        with pytest.raises(Refused) as caught:
            refuse.invoke(1)
        assert caught.value is error
        assert calls.total == 4 * number - 3
        with pytest.raises(Refused) as caught:
            streamed(refuse, 1)
        assert caught.value is error
        with pytest.raises(Refused) as caught:
            await refuse.ainvoke(1)
        assert caught.value is error
        with pytest.raises(Refused) as caught:
            await astreamed(refuse, 1)
        assert caught.value is error
        assert calls.total == 4 * number


def test_a_batch_gives_errors_back_where_it_is_asked_to():
    @musubito_runnable
    def halve(value: int) -> int:
        if value % 2:
            raise Refused(value)
        return value // 2

    for _ in range(2):
        four, odd, six = halve.batch([4, 3, 6], return_exceptions=True)
        assert (four, six) == (2, 3)
        assert isinstance(odd, Refused)


def test_what_failed_after_some_chunks_is_no_recording():
    calls = Calls()

    def count(pieces: Iterator[int]) -> Iterator[int]:
        for piece in pieces:
            yield piece
            if calls("count") < 3:
                raise Refused
            yield piece + 1

    wrapped = musubito_runnable(RunnableGenerator(count))
    for _ in range(2):
        with pytest.raises(Refused):
            streamed(wrapped, 1)
    assert streamed(wrapped, 1) == streamed(wrapped, 1) == [1, 2]
    assert calls.total == 3


async def test_a_stream_that_is_closed_early_records_nothing():
    calls, closed = Calls(), Calls()

    def count(pieces: Iterator[int]) -> Iterator[int]:
        calls("count")
        try:
            for piece in pieces:
                yield piece
                yield piece + 1
        finally:
            closed("count")

    wrapped = musubito_runnable(RunnableGenerator(count, asynchronously(count)))
    stream = wrapped.stream(1)
    assert next(stream) == 1
    stream.close()
    assert closed.total == 1
    astream = wrapped.astream(1)
    assert await anext(astream) == 1
    await astream.aclose()
    assert calls.total == 2
    assert streamed(wrapped, 1) == streamed(wrapped, 1) == [1, 2]
    assert await astreamed(wrapped, 1) == [1, 2]
    assert calls.total == 3


async def test_what_cannot_be_identified_runs_with_one_warning():
    calls = Calls()

    @musubito_runnable
    def hold(value: Any) -> str:
        calls("held")
        return "held"

    with pytest.warns(MusubitoWarning, match=r"hold.*input.*lock") as warned:
        for _ in range(2):
            assert hold.invoke({"lock": threading.Lock()}) == "held"
            assert await hold.ainvoke({"lock": threading.Lock()}) == "held"
            assert streamed(hold, {"lock": threading.Lock()}) == ["held"]
            assert await astreamed(hold, {"lock": threading.Lock()}) == ["held"]
    assert len(warned) == 1
    assert calls.total == 8


async def test_what_is_recorded_inside_sees_what_is_around_what_cannot_be():
    calls = Calls()

    @musubito_step
    def tell() -> Any:
        calls("told")
        return ensure_config()["configurable"].get("who")

    @musubito_runnable
    def hold(value: Any) -> Any:
        return tell().value

    lock = threading.Lock()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            for who in ("me", "you"):
                config = {"configurable": {"who": who}}
                assert hold.invoke(lock, config) == who
                assert streamed(hold, lock, config) == [who]
                assert await hold.ainvoke(lock, config) == who
                assert [chunk async for chunk in hold.astream(lock, config)] == [who]
    assert calls.total == 2


def test_an_empty_transform_is_left_to_the_runnable():
    def count(pieces: Iterator[Any]) -> Iterator[int]:
        yield len(list(pieces))

    bare = RunnableGenerator(count)
    assert list(musubito_runnable(bare).transform(iter(()))) == list(bare.transform(iter(()))) == [0]


# -- ids ---------------------------------------------------------------------------------------------------------------
def test_a_replayed_answer_has_an_id_of_its_own():
    wrapped = musubito_runnable(model(Calls()))
    answers = [wrapped.invoke("hi") for _ in range(3)]
    assert len({answer.id for answer in answers}) == 3
    assert all(answer.id.startswith("lc_run--") for answer in answers)
    streams = [streamed(wrapped, "ho") for _ in range(2)]
    assert [len({chunk.id for chunk in chunks}) for chunks in streams] == [1, 1]
    assert streams[0][0].id != streams[1][0].id


def test_a_tool_answers_the_call_that_it_is_given():
    calls = Calls()
    wrapped = musubito_runnable(looked_up(calls))
    for number in ("a", "b"):
        ident = f"call_{number}0123456789abcdef{number}"
        answer = wrapped.invoke({"name": "look_up", "args": {"place": "Porto"}, "id": ident, "type": "tool_call"})
        assert isinstance(answer, ToolMessage)
        assert (answer.tool_call_id, answer.content) == (ident, "fog in Porto")
    assert calls.total == 1


def test_a_tool_raises_what_it_raises():
    @musubito_runnable
    @tool
    def refuse(place: str) -> str:
        """Refuses."""
        raise ToolException(place)

    for _ in range(2):
        with pytest.raises(ToolException, match="Porto"):
            refuse.invoke({"place": "Porto"})


# -- effects -----------------------------------------------------------------------------------------------------------
async def test_an_effect_happens_once_streamed_or_not():
    calls = Calls()
    wrapped = musubito_runnable(model(calls), semantics=StepConfiguration(step_type=StepType.EXTERNAL_EFFECT))
    assert [type(chunk) for chunk in streamed(wrapped, "hi")] == [AIMessageChunk]
    assert wrapped.invoke("hi").text == (await astreamed(wrapped, "hi"))[0].text == "echo-1 at 0.0 says hi"
    assert calls.total == 1


# -- inside a graph ----------------------------------------------------------------------------------------------------
class State(TypedDict, total=False):
    said: str
    heard: str


def graph_of(*nodes: Any, **options: Any) -> Any:
    return musubito_graph(StateGraph(State).add_sequence(list(nodes)).set_entry_point(nodes[0].__name__).compile())


def test_it_is_an_inner_step_of_a_node():
    calls = Calls()
    inner = musubito_runnable(model(calls))

    def first_version(state: State) -> State:
        return {"said": inner.invoke("hi").text}

    def second_version(state: State) -> State:
        """Edited."""
        return {"said": inner.invoke("hi").text.upper()}

    second_version.__name__ = first_version.__name__
    assert graph_of(first_version).invoke({"heard": "x"})["said"] == "echo-1 at 0.0 says hi"
    with run() as r:
        assert graph_of(second_version).invoke({"heard": "x"})["said"] == "ECHO-1 AT 0.0 SAYS HI"
    assert calls.total == 1
    assert [(call.operation, call.outcome) for call in r.calls] == [
        ("ScriptedModel", "replayed"),
        ("LangGraph/first_version", "ran"),
    ]


def test_its_tokens_are_shown_again():
    calls = Calls()
    inner = musubito_runnable(model(calls))

    def node(state: State) -> State:
        get_stream_writer()({"progress": 1})
        return {"said": inner.invoke("hi").text}

    def streaming(state: State) -> State:
        get_stream_writer()({"progress": 1})
        return {"said": "".join(chunk.text for chunk in inner.stream("hi"))}

    def shown(node: Any) -> Any:
        graph = graph_of(node)
        return [
            (mode, plain(part) if mode == "custom" else (part[0].text, part[1]["langgraph_node"]))
            for mode, part in graph.stream({"heard": "x"}, stream_mode=["messages", "custom"])
        ]

    live = shown(node)
    assert live[0] == ("custom", {"progress": 1})
    assert "".join(part[0] for mode, part in live[1:]) == "echo-1 at 0.0 says hi"
    assert len(live) > 3
    assert shown(node) == live
    streaming.__name__ = "node"
    assert shown(streaming) == live, "the node was edited: what it calls is replayed"
    assert calls.total == 1


def test_what_it_reads_counts_for_it_there():
    calls = Calls()

    @musubito_runnable
    def tell(value: Any) -> Any:
        calls("told")
        return get_runtime().context["who"]

    def node(state: State) -> State:
        return {"said": tell.invoke("hi")}

    graph = graph_of(node)
    for _ in range(2):
        assert [graph.invoke({"heard": "x"}, context={"who": who})["said"] for who in ("me", "you")] == ["me", "you"]
    assert calls.total == 2


def test_an_answer_that_it_asked_for_is_not_given_to_another_thread():
    @musubito_runnable
    def ask(value: Any) -> Any:
        return interrupt("who are you?")

    def node(state: State) -> State:
        return {"said": ask.invoke("hi")}

    builder = StateGraph(State).add_node(node).add_edge(START, "node")
    graph = musubito_graph(builder.compile(checkpointer=InMemorySaver()))
    for who in ("me", "you"):
        config = {"configurable": {"thread_id": who}}
        assert "__interrupt__" in graph.invoke({"heard": "x"}, config)
        assert graph.invoke(Command(resume=who), config)["said"] == who


# -- under a blocking detector -----------------------------------------------------------------------------------------
async def test_nothing_blocks_the_loop():
    blockbuster = pytest.importorskip("blockbuster")
    calls = Calls()
    with blockbuster.blockbuster_ctx():
        chain = PROMPT | musubito_runnable(model(calls)) | musubito_runnable(StrOutputParser())
        for _ in range(2):
            assert await chain.ainvoke({"x": "fog"}) == "echo-1 at 0.0 says tell fog"
            assert "".join(await astreamed(chain, {"x": "rain"})) == "echo-1 at 0.0 says tell rain"
            assert await chain.abatch([{"x": "fog"}, {"x": "fog"}]) == ["echo-1 at 0.0 says tell fog"] * 2
    assert calls.total == 3
