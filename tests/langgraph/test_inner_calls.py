"""Each call of a model inside a recorded call is a step: what runs again asks only what was not asked before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict
from uuid import uuid4

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models.llms import LLM
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.config import get_config, get_stream_writer
from langgraph.graph import START, StateGraph
from pydantic import BaseModel

from musubito import MusubitoEngine, StepConfiguration, StepType, musubito_step, run
from musubito.lineage import Lineage
from musubito_langgraph import musubito_graph, musubito_runnable
from tests.langgraph.models import ScriptedModel
from tests.langgraph.specimen import Ran, took

pytestmark = pytest.mark.usefixtures("engine")


class State(TypedDict, total=False):
    question: str
    answer: Any


class Grade(BaseModel):
    """A grade of an answer."""

    grade: str


def graph_of(*nodes: Any, **kwargs: Any) -> Any:
    builder = StateGraph(State)
    for number, node in enumerate(nodes):
        builder.add_node(f"node{number or ''}", node)
        builder.add_edge(f"node{number - 1 or ''}" if number else START, f"node{number or ''}")
    return musubito_graph(builder.compile(name="g"), **kwargs)


# -- the ways to ask a model -------------------------------------------------------------------------------------------
# Each asks `model` in a node of the function `parse`, which is what somebody edits.
def asks(model: Any, parse: Callable[[str], Any]) -> Any:
    return lambda state: {"answer": parse(model.invoke(state["question"]).text)}


def asks_later(model: Any, parse: Callable[[str], Any]) -> Any:
    async def node(state: State) -> Any:
        return {"answer": parse((await model.ainvoke(state["question"])).text)}

    return node


def streams(model: Any, parse: Callable[[str], Any]) -> Any:
    return lambda state: {"answer": parse("".join(chunk.text for chunk in model.stream(state["question"])))}


def streams_later(model: Any, parse: Callable[[str], Any]) -> Any:
    async def node(state: State) -> Any:
        return {"answer": parse("".join([chunk.text async for chunk in model.astream(state["question"])]))}

    return node


def asks_many(model: Any, parse: Callable[[str], Any]) -> Any:
    return lambda state: {"answer": [parse(each.text) for each in model.batch([state["question"], "and then?"])]}


def asks_many_later(model: Any, parse: Callable[[str], Any]) -> Any:
    async def node(state: State) -> Any:
        return {"answer": [parse(each.text) for each in await model.abatch([state["question"], "and then?"])]}

    return node


def generates(model: Any, parse: Callable[[str], Any]) -> Any:
    def node(state: State) -> Any:
        results = model.generate([[HumanMessage(state["question"])], [HumanMessage("and then?")]])
        return {"answer": [parse(each[0].text) for each in results.generations]}

    return node


def generates_later(model: Any, parse: Callable[[str], Any]) -> Any:
    async def node(state: State) -> Any:
        result = await model.agenerate([[HumanMessage(state["question"])]])
        return {"answer": parse(result.generations[0][0].text)}

    return node


def binds_tools(model: Any, parse: Callable[[str], Any]) -> Any:
    def node(state: State) -> Any:
        answer = model.bind_tools([Grade]).invoke(state["question"])
        return {"answer": parse(answer.tool_calls[0]["args"]["grade"])}

    return node


def wants_an_object(model: Any, parse: Callable[[str], Any]) -> Any:
    def node(state: State) -> Any:
        return {"answer": parse(model.with_structured_output(Grade).invoke(state["question"]).grade)}

    return node


def falls_back(model: Any, parse: Callable[[str], Any]) -> Any:
    return lambda state: {"answer": parse(model.with_fallbacks([model]).invoke(state["question"]).text)}


def retries(model: Any, parse: Callable[[str], Any]) -> Any:
    return lambda state: {"answer": parse(model.with_retry().invoke(state["question"]).text)}


def in_a_chain(model: Any, parse: Callable[[str], Any]) -> Any:
    chain = RunnableLambda(lambda question: [HumanMessage(question)]) | model | RunnableLambda(lambda said: said.text)
    return lambda state: {"answer": parse(chain.invoke(state["question"]))}


WAYS = [asks, asks_later, streams, streams_later, asks_many, asks_many_later, generates, generates_later]
WAYS += [binds_tools, wants_an_object, falls_back, retries, in_a_chain]


async def answer_of(graph: Any, *, is_streamed: bool = False) -> Any:
    """Ask a graph as its nodes need it; streamed, models stream too, whatever the node says."""
    if not is_streamed:
        return (await graph.ainvoke({"question": "what?"}))["answer"]
    parts = [part async for part in graph.astream({"question": "what?"}, stream_mode=["messages", "values"])]
    return parts[-1][1]["answer"]


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_an_edit_of_the_node_asks_nothing(way: Any, is_streamed: bool):
    model = ScriptedModel()
    plain = await answer_of(graph_of(way(model, lambda text: text)), is_streamed=is_streamed)
    asked = model.calls.total
    assert asked
    edited = await answer_of(graph_of(way(model, lambda text: text + "!")), is_streamed=is_streamed)
    assert edited == ([text + "!" for text in plain] if isinstance(plain, list) else plain + "!")
    assert model.calls.total == asked


@pytest.mark.parametrize("way", [asks, streams, in_a_chain, generates], ids=lambda way: way.__name__)
def test_so_does_an_edit_of_a_plain_step(way: Any):
    model = ScriptedModel()
    answers = [
        musubito_step(way(model, parse), name="step")({"question": "what?"}).value["answer"]
        for parse in (lambda text: text, lambda text: text + "!")
    ]
    asked = model.calls.total
    assert answers[0] != answers[1]
    assert asked == (2 if way is generates else 1)


# -- what a question is ------------------------------------------------------------------------------------------------
def test_another_question_and_another_setting_are_asked():
    model = ScriptedModel()
    graph = graph_of(asks(model, str))
    graph.invoke({"question": "what?"})
    graph.invoke({"question": "who?"})
    assert model.calls.total == 2
    warmer = ScriptedModel(calls=model.calls, temperature=0.9)
    assert "0.9" in graph_of(asks(warmer, str)).invoke({"question": "what?"})["answer"]
    assert model.calls.total == 3


def test_keywords_and_stops_are_part_of_the_question():
    model = ScriptedModel()

    def asking(**keywords: Any) -> Any:
        return graph_of(lambda state: {"answer": model.invoke(state["question"], **keywords).text})

    answers = [asking(**keywords).invoke({"question": "what?"})["answer"] for keywords in ({}, {"stop": ["says"]})]
    assert answers == ["echo-1 at 0.0 says what?", "echo-1 at 0.0 "]
    asking(stop=["says"], config={"tags": ["other"]}).invoke({"question": "what?"})
    assert model.calls.total == 2


def test_a_random_id_of_a_message_does_not_count():
    model = ScriptedModel()
    for parse in (str, str.upper):
        graph_of(asks(model, parse)).invoke({"question": [HumanMessage("what?", id=str(uuid4()))]})
    assert model.calls.total == 1


def test_two_steps_that_ask_the_same_share_the_answers_of_another_run():
    model = ScriptedModel(drifts=True)
    first = graph_of(asks(model, str)).invoke({"question": "what?"})["answer"]
    step = musubito_step(asks(model, str), name="step")({"question": "what?"}).value["answer"]
    assert (step, model.calls.total) == (first, 1)


# -- samples -----------------------------------------------------------------------------------------------------------
def asks_twice(model: Any, mark: str = "") -> Any:
    return lambda state: {"answer": [model.invoke(state["question"]).text + mark for _ in range(2)]}


def test_two_equal_questions_of_one_run_are_two_answers():
    model = ScriptedModel(drifts=True)
    first = graph_of(asks_twice(model)).invoke({"question": "what?"})["answer"]
    assert (len(set(first)), model.calls.total) == (2, 2)
    again = graph_of(asks_twice(model, "!")).invoke({"question": "what?"})["answer"]
    assert (again, model.calls.total) == ([text + "!" for text in first], 2)


def test_two_nodes_of_one_run_are_given_two_answers():
    model = ScriptedModel(drifts=True)

    def asking(mark: str) -> Any:
        def node(state: State) -> State:
            return {"answer": [*state.get("answer", ()), model.invoke(state["question"]).text + mark]}

        return graph_of(node, node).invoke({"question": "what?"})["answer"]

    first, again = asking(""), asking("!")
    assert (len(set(first)), model.calls.total) == (2, 2)
    assert again == [text + "!" for text in first]


@pytest.mark.parametrize("way", [falls_back, retries], ids=lambda way: way.__name__)
def test_a_second_attempt_is_replayed_without_the_first(way: Any):
    model = ScriptedModel(fails=1)
    first = graph_of(way(model, str)).invoke({"question": "what?"})["answer"]
    assert (first, model.calls.total) == ("echo-1 at 0.0 says what?", 2)
    assert graph_of(way(model, str.upper)).invoke({"question": "what?"})["answer"] == first.upper()
    assert model.calls.total == 2


async def test_a_stream_that_is_cut_is_no_sample():
    model = ScriptedModel(drifts=True)

    def first_word(state: State) -> State:
        chunks = model.stream(state["question"])
        word = next(chunks).text
        chunks.close()
        return {"answer": word}

    async def first_word_later(state: State) -> State:
        chunks = model.astream(state["question"])
        word = (await anext(chunks)).text
        await chunks.aclose()
        return {"answer": word}

    for node in (first_word, first_word_later):
        assert await answer_of(graph_of(node)) == "echo-1"
    assert model.calls.total == 2
    answer = await answer_of(graph_of(streams(model, str)))
    assert (answer, model.calls.total) == ("echo-1 at 0.0 says what? 3", 3)


# -- where it is no step -----------------------------------------------------------------------------------------------
def operations(graph: Any, **kwargs: Any) -> list[tuple[str, str]]:
    with run() as r:
        graph.invoke({"question": "what?"}, **kwargs)
    return [(call.operation, call.outcome) for call in r.calls]


def test_a_model_is_a_step_of_its_own_under_its_step():
    assert operations(graph_of(asks(ScriptedModel(), str))) == [("g/node/ScriptedModel", "ran"), ("g/node", "ran")]
    again = operations(graph_of(asks(ScriptedModel(), str.upper)))
    assert again == [("g/node/ScriptedModel", "replayed"), ("g/node", "ran")]


def test_a_model_that_is_wrapped_is_one_step():
    model = musubito_runnable(ScriptedModel())
    assert [name for name, _ in operations(graph_of(asks(model, str)))] == ["ScriptedModel", "g/node"]


def test_a_model_that_is_a_part_of_a_node_is_one_step():
    chain = (
        RunnableLambda(lambda state: state["question"])
        | ScriptedModel()
        | RunnableLambda(lambda said: {"answer": said})
    )
    assert [name for name, _ in operations(graph_of(chain))] == ["g/node:1", "g/node:2", "g/node"]


def test_without_models_none_is_a_step():
    model = ScriptedModel()
    graphs = [graph_of(asks(model, parse), models=False) for parse in (str, str.upper)]
    assert [operations(graph) for graph in graphs] == [[("g/node", "ran")]] * 2
    assert model.calls.total == 2


@pytest.mark.parametrize("wrong", [None, 1, "no"])
def test_models_is_true_or_false(wrong: Any):
    with pytest.raises(TypeError, match="models is True or False"):
        graph_of(asks(ScriptedModel(), str), models=wrong)


def test_a_name_says_how_a_model_is_replayed():
    model = ScriptedModel()
    steps = {"node/ScriptedModel": StepConfiguration(step_type=StepType.LIVE)}
    for _ in range(2):
        graph_of(asks(model, str), steps=steps).invoke({"question": "what?"})
    assert model.calls.total == 2


def test_outside_of_a_recorded_call_nothing_is_recorded(engine: MusubitoEngine):
    model = ScriptedModel()
    with run() as r:
        model.invoke("what?")
        model.invoke("what?")
    assert (model.calls.total, list(r.calls)) == (2, [])


# -- models of other kinds ---------------------------------------------------------------------------------------------
class Completes(LLM):
    """Answers with a text, as models did before chats."""

    ran: Any

    @property
    def _llm_type(self) -> str:
        return "completes"

    def _call(self, prompt: str, *args: Any, **kwargs: Any) -> str:
        return f"{prompt} {self.ran('model')}"


async def test_a_model_of_texts_is_a_step(ran: Ran):
    model = Completes(ran=ran)

    async def all_ways(mark: str) -> Any:
        async def node(state: State) -> State:
            answers = [model.invoke("a"), await model.ainvoke("b"), *model.batch(["c", "d"])]
            answers += [*model.stream("e"), model.generate(["f"]).generations[0][0].text]
            return {"answer": [answer + mark for answer in answers]}

        return (await graph_of(node).ainvoke({"question": "?"}))["answer"]

    first = await all_ways("")
    assert (len(set(first)), took(ran)) == (6, {"model": 6})
    assert await all_ways("!") == [answer + "!" for answer in first]
    assert took(ran) == {}


async def test_embeddings_are_a_step():
    embeddings = DeterministicFakeEmbedding(size=4)

    def asking(mark: str) -> Any:
        async def node(state: State) -> State:
            vectors = [embeddings.embed_query("a"), *embeddings.embed_documents(["b", "c"])]
            vectors += [await embeddings.aembed_query("d"), *await embeddings.aembed_documents(["e"])]
            return {"answer": (mark, vectors)}

        return graph_of(node)

    found = []
    for mark in "?!":
        with run() as r:
            found.append((await asking(mark).ainvoke({"question": "?"}))["answer"][1])
    assert found[0] == found[1]
    steps = [("g/node/DeterministicFakeEmbedding", "replayed")] * 4
    assert [(call.operation, call.outcome) for call in r.calls] == [*steps, ("g/node", "ran")]


# -- models that look around -------------------------------------------------------------------------------------------
class Looking(ScriptedModel):
    """Emits an event and answers with the thread, as a model of the user's may."""

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        self.calls()
        if self.model == "emits":
            get_stream_writer()({"asked": messages[-1].text})
        said = AIMessage(str(get_config()["configurable"].get("thread_id")))
        return ChatResult(generations=[ChatGeneration(message=said)])


def test_what_a_model_emits_is_emitted_each_time():
    for parse in (str, str.upper, str.upper):
        graph = graph_of(asks(Looking(model="emits"), parse))
        assert [*graph.stream({"question": "what?"}, stream_mode="custom")] == [{"asked": "what?"}]


def test_what_a_model_reads_of_the_config_decides_its_answer():
    model = Looking(model="reads")
    asked = [("1", str, 1), ("1", lambda said: said[:], 1), ("2", lambda said: said[:], 2), ("1", str, 2)]
    for thread, parse, times in asked:
        told = graph_of(asks(model, parse)).invoke({"question": "what?"}, {"configurable": {"thread_id": thread}})
        assert (told["answer"], model.calls.total) == (thread, times)


# -- what is kept of it ------------------------------------------------------------------------------------------------
UNRECORDED = StepConfiguration(step_type=StepType.STOCHASTIC, record_inputs=False)


def in_a_node(model: Any) -> None:
    graph = graph_of(lambda state: {"answer": len(model.invoke(state["question"]).text)}, steps={"node": UNRECORDED})
    graph.invoke({"question": "a secret question"})


def in_a_plain_step(model: Any) -> None:
    musubito_step(UNRECORDED)(lambda question: len(model.invoke(question).text))("a secret question")


def in_a_tool(model: Any) -> None:
    @tool
    def ask(question: str) -> str:
        """Ask the model."""
        return str(len(model.invoke(question).text))

    graph = graph_of(lambda state: {"answer": ask.invoke(state["question"])}, steps={"node": UNRECORDED})
    graph.invoke({"question": "a secret question"})


@pytest.mark.parametrize("asking", [in_a_node, in_a_plain_step, in_a_tool], ids=lambda asking: asking.__name__)
def test_where_inputs_are_not_recorded_no_question_is(asking: Any, engine: MusubitoEngine):
    with run() as r:
        asking(ScriptedModel())
    lineage = Lineage(engine)
    assert any(call.operation.endswith("/ScriptedModel") for call in r.calls)
    assert [lineage.input(lineage.node(call.node_id)) for call in r.calls] == [None] * len(r.calls)


# -- around it ---------------------------------------------------------------------------------------------------------
def test_where_musubito_is_off_a_model_and_a_tool_are_asked_as_without_it(ran: Ran):
    model = ScriptedModel()

    @tool
    def look_up(word: str) -> str:
        """Look a word up."""
        ran("tool")
        return word

    def node(state: State) -> State:
        with run(mode="off"):
            return {"answer": model.invoke(state["question"]).text + look_up.invoke({"word": "x"})}

    for number in (1, 2):
        graph_of(node).invoke({"question": "q"})
        assert (model.calls.total, took(ran)) == (number, {"tool": 1})


def test_methods_take_their_arguments_by_name():
    model, embeddings = ScriptedModel(), DeterministicFakeEmbedding(size=2)

    def ask() -> Any:
        return model.generate(messages=[[HumanMessage("q")]]), embeddings.embed_query(text="q")

    @musubito_step
    def step() -> int:
        return len(ask()[1])

    @musubito_step
    def edited() -> int:
        return -len(ask()[1])

    assert len(ask()[1]) == 2, "outside of steps, too"
    assert (step().value, edited().value) == (2, -2)
    assert model.calls.total == 2, "outside and in one of the steps"


def test_an_argument_that_is_none_is_another_question():
    model = ScriptedModel()
    with run() as record:
        graph_of(lambda state: {"answer": model.invoke("q", temperature=None).text}).invoke({"question": "q"})
        graph_of(lambda state: {"answer": model.invoke("q").text}).invoke({"question": "q"})
    asked = [call for call in record.calls if call.operation.endswith("Model")]
    assert len({call.node_id for call in asked}) == len(asked) == 2
    assert {call.reason.value for call in asked} != {"another sample"}


def test_a_model_that_calls_a_tool_itself_runs_each_time(ran: Ran):
    @tool
    def look_up(word: str) -> str:
        """Look a word up."""
        ran("tool")
        return word

    class Asks(ScriptedModel):
        def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            look_up.invoke({"word": "x"})
            return super()._generate(messages, *args, **kwargs)

    model = Asks()
    for _ in range(2):
        graph_of(lambda state: {"answer": model.invoke(state["question"]).text}).invoke({"question": "q"})
        assert took(ran)["tool"] == 1
