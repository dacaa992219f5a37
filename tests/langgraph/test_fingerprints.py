"""What LangChain's and LangGraph's objects amount to as code: what of them counts, and what does not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import wrap_model_call
from langchain.chat_models import init_chat_model
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompts import FewShotPromptTemplate, PromptTemplate
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import (
    ConfigurableField,
    Runnable,
    RunnableBranch,
    RunnableConfig,
    RunnableLambda,
    RunnableSerializable,
)
from langchain_core.runnables.base import RunnableBinding, RunnableEach
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.graph import START, StateGraph
from pydantic import ConfigDict, Field, SecretStr
from typing_extensions import TypedDict

from musubito_langgraph import musubito_graph, musubito_runnable
from tests.langgraph.models import Calls, ScriptedModel

pytestmark = pytest.mark.usefixtures("engine")


class State(TypedDict, total=False):
    text: str
    done: Any


def graph_of(node: Any) -> Any:
    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile(name="g")


def alone(made: Runnable[Any, Any]) -> Any:
    return musubito_runnable(made).invoke("x")


def as_a_node(made: Runnable[Any, Any]) -> Any:
    return musubito_graph(
        graph_of(RunnableLambda(lambda state: state["text"]) | made | (lambda out: {"done": out}))
    ).invoke({"text": "x"})["done"]


def from_a_node(made: Runnable[Any, Any]) -> Any:
    def node(state: State) -> State:
        return {"done": made.invoke(state["text"])}

    return musubito_graph(graph_of(node)).invoke({"text": "x"})["done"]


PLACES = {"alone": alone, "as a node": as_a_node, "from a node": from_a_node}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Callable[[Runnable[Any, Any]], Any]:
    return PLACES[request.param]


@pytest.fixture
def calls() -> Calls:
    return Calls()


# -- what is bound with `with_config` ----------------------------------------------------------------------------------
class Tone:
    """Two of them look alike, and are not."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return "<Tone>"


class Plain:
    """What it shows of itself is its address."""

    def __init__(self, name: str) -> None:
        self.name = name


CALLS = Calls()


def bound_style(value: Any, config: RunnableConfig) -> Any:
    return CALLS("told"), config["metadata"].get("style")


def bound_tags(value: Any, config: RunnableConfig) -> Any:
    return CALLS("told"), [tag for tag in config["tags"] if ":" not in tag]


def bound_limit(value: Any, config: RunnableConfig) -> Any:
    return CALLS("told"), config["recursion_limit"]


def bound_tone(value: Any, config: RunnableConfig) -> Any:
    return CALLS("told"), config["configurable"]["tone"]


def bound_object(value: Any, config: RunnableConfig) -> Any:
    return CALLS("told"), config["configurable"]["tone"].name


def bound_thread(value: Any, config: RunnableConfig) -> Any:
    return CALLS("told"), config["configurable"]["thread_id"]


BOUND: dict[str, tuple[Any, Callable[[str], Any]]] = {
    "metadata": (bound_style, lambda said: {"metadata": {"style": said}}),
    "tags": (bound_tags, lambda said: {"tags": [said]}),
    "recursion limit": (bound_limit, lambda said: {"recursion_limit": 7 + len(said)}),
    "configurable": (bound_tone, lambda said: {"configurable": {"tone": said}}),
    "thread": (bound_thread, lambda said: {"configurable": {"thread_id": said}}),
    "an object": (bound_object, lambda said: {"configurable": {"tone": Tone(said)}}),
    "an object that shows its address": (bound_object, lambda said: {"configurable": {"tone": Plain(said)}}),
}


@pytest.mark.parametrize("what", BOUND)
def test_what_is_bound_counts_by_value(what: str, place: Callable[[Any], Any]):
    tell, made = BOUND[what]

    def bound(said: str) -> Any:
        return RunnableLambda(tell).with_config(made(said))

    want = [bound(said).invoke("x")[1] for said in ("a", "bb")]
    assert want[0] != want[1]
    CALLS.counts.clear()
    for _ in range(2):
        assert [list(place(bound(said))) for said in ("a", "bb")] == [[1, want[0]], [2, want[1]]]


def test_large_arrays_that_look_alike_count_by_content(calls: Calls):
    numpy = pytest.importorskip("numpy")

    def tell(value: Any, config: RunnableConfig) -> float:
        calls("told")
        return float(config["configurable"]["weights"].sum())

    for total in (0.0, 1.0, 0.0, 1.0):
        weights = numpy.zeros(5000)
        weights[2500] = total
        assert alone(RunnableLambda(tell).with_config(configurable={"weights": weights})) == total
    assert calls.total == 2


def test_what_is_changed_in_a_bound_config_counts(calls: Calls):
    def tell(value: Any, config: RunnableConfig) -> Any:
        calls("told")
        return config["configurable"]["tone"]

    bound = RunnableLambda(tell).with_config(configurable={"tone": "a"})
    wrapped = musubito_runnable(bound)
    assert [wrapped.invoke("x"), wrapped.invoke("x")] == ["a", "a"]
    bound.config["configurable"]["tone"] = "b"
    assert [wrapped.invoke("x"), wrapped.invoke("x")] == ["b", "b"]
    assert calls.total == 2


def test_who_watches_a_binding_does_not_count(place: Callable[[Any], Any], calls: Calls):
    def tell(value: Any) -> Any:
        return calls("told")

    class Watcher(BaseCallbackHandler):
        pass

    for config in (
        {},
        {"callbacks": [Watcher()]},
        {"run_name": "other"},
        {"max_concurrency": 3},
        {"metadata": {"ls_integration": "mine", "langgraph_step": 7}, "callbacks": []},
        {"configurable": {"musubito": {"namespace": None}}, "run_name": "third"},
    ):
        made = RunnableBinding(bound=RunnableLambda(tell), config={"metadata": {}, **config})
        assert place(made) == 1
    assert calls.total == 1


def test_what_a_graph_is_bound_to_counts_where_a_node_calls_it(calls: Calls):
    def inner(state: State, config: RunnableConfig) -> State:
        calls("inner")
        return {"done": [config["configurable"].get("tone"), config["metadata"].get("style")]}

    bare = graph_of(inner)
    for _ in range(2):
        for config in ({"configurable": {"tone": "a"}}, {"configurable": {"tone": "b"}}, {"metadata": {"style": "c"}}):
            sub = bare.with_config(config)

            def node(state: State, sub: Any = sub) -> State:
                return {"done": sub.invoke(state)["done"]}

            want = [config.get("configurable", {}).get("tone"), config.get("metadata", {}).get("style")]
            assert musubito_graph(graph_of(node)).invoke({"text": "x"})["done"] == want
    assert calls.total == 3


def test_how_often_a_graph_may_go_round_counts_where_a_node_calls_it():
    def inner(state: State) -> State:
        return {"done": 1}

    bare = graph_of(inner)
    for limit, want in ((5, "done"), (1, "GraphRecursionError"), (5, "done")):
        sub = StateGraph(State).add_node("a", inner).add_node("b", inner).add_edge(START, "a").add_edge("a", "b")
        bare = sub.compile(name="sub").with_config(recursion_limit=limit)

        def node(state: State, sub: Any = bare) -> State:
            try:
                sub.invoke(state)
            except RecursionError as error:
                return {"done": type(error).__name__}
            return {"done": "done"}

        assert musubito_graph(graph_of(node)).invoke({"text": "x"})["done"] == want


# -- fields that are called like LangChain's ---------------------------------------------------------------------------
class Answering(RunnableSerializable[Any, Any]):
    """Of the user's own."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    calls: Calls
    verbose: bool = False
    tags: list[str] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)
    cache: bool = False
    token: str = ""
    secret: str = ""
    api_key: str = ""
    hidden: str = Field("", exclude=True)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        self.calls("answered")
        return [self.verbose, self.tags, self.metadata, self.cache, self.token, self.secret, self.api_key, self.hidden]


class Loose(Runnable[Any, Any]):
    """Of the user's own, and undeclared."""

    def __init__(self, calls: Calls, **said: Any) -> None:
        self.calls = calls
        self.__dict__.update(said)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        self.calls("answered")
        return sorted((key, value) for key, value in vars(self).items() if key not in ("calls", "name"))


OWN = {
    "verbose": True,
    "tags": ["a"],
    "metadata": {"a": 1},
    "cache": True,
    "token": "t",
    "secret": "s",
    "api_key": "k",
    "hidden": "h",
}


@pytest.mark.parametrize("kind", [Answering, Loose])
@pytest.mark.parametrize("field", OWN)
def test_a_field_of_the_users_counts_whatever_it_is_called(field: str, kind: Any, calls: Calls):
    for _ in range(2):
        for said in ({}, {field: OWN[field]}):
            assert alone(kind(calls=calls, **said)) == kind(calls=Calls(), **said).invoke("x")
    assert calls.total == 2


def test_a_secret_of_the_users_does_not_count_if_it_says_that_it_is_one(calls: Calls):
    class Keyed(RunnableSerializable[Any, Any]):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        calls: Calls
        mine: SecretStr

        def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
            return self.calls("answered")

    assert [alone(Keyed(calls=calls, mine=SecretStr(key))) for key in ("one", "two")] == [1, 1]


class Looking(BaseTool):
    """A tool of the user's."""

    name: str = "look"
    description: str = "looks"

    def _run(self, query: str) -> str:
        return f"{self.metadata} {self.verbose} {self.tags}"


@pytest.mark.parametrize("said", [{"metadata": {"index": "y"}}, {"verbose": True}, {"tags": ["a"]}])
def test_what_a_tool_of_the_users_says_of_itself_counts(said: dict[str, Any]):
    for each in ({}, said):
        made = Looking(metadata={"index": "x"}, verbose=False) if not each else Looking(**each)
        assert musubito_runnable(made).invoke({"query": "q"}) == made.invoke({"query": "q"})


def test_metadata_of_a_models_own_count_for_code_that_reads_them():
    class Deployed(ScriptedModel):
        def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
            result = super()._generate(messages, stop, run_manager, **kwargs)
            result.generations[0].message.content = str((self.metadata or {}).get("at"))
            return result

    assert [alone(Deployed(disable_streaming=True, metadata={"at": at})).text for at in "ab"] == ["a", "b"]


def test_what_watches_a_model_of_somebody_elses_does_not_count():
    for field in (
        {},
        {"metadata": {"request": 7}},
        {"tags": ["mine"]},
        {"verbose": True},
        {"cache": False},
        {"callbacks": [BaseCallbackHandler()]},
        {"rate_limiter": InMemoryRateLimiter(requests_per_second=1000)},
    ):
        model = FakeListChatModel(responses=["one", "two"], **field)
        model.i = 1 if field else 0  # it would give the other answer
        assert alone(model).text == "one"


def test_it_does_where_a_middleware_reads_it():
    @wrap_model_call
    def choose(request: Any, handler: Any) -> Any:
        return AIMessage(str(request.model.metadata["at"]))

    def answer(at: str) -> str:
        agent = create_agent(FakeListChatModel(responses=["x"], metadata={"at": at}), [], middleware=[choose])
        return musubito_graph(agent).invoke({"messages": [HumanMessage("hi")]})["messages"][-1].text

    assert [answer(at) for at in "aba"] == ["a", "b", "a"]


def test_so_for_the_metadata_of_a_tool(calls: Calls):
    def node_of(index: str, reads: bool) -> Any:
        tool = StructuredTool.from_function(lambda query: query, name="look", description="d", metadata={"at": index})
        held = [tool]
        if not reads:
            return lambda state: {"done": [calls("plain"), held[0].name]}
        return lambda state: {"done": [calls("reads"), held[0].metadata["at"]]}

    for _ in range(2):
        assert [musubito_graph(graph_of(node_of(at, True))).invoke({"text": "x"})["done"][1] for at in "ab"] == [
            "a",
            "b",
        ]
        for at in "ab":
            assert musubito_graph(graph_of(node_of(at, False))).invoke({"text": "x"})["done"][1] == "look"
    assert calls.counts == {"reads": 2, "plain": 1}


def test_what_a_model_can_take_in_counts():
    if "profile" not in ScriptedModel.model_fields:
        pytest.skip("models of this LangChain have no profile")

    @wrap_model_call
    def cut(request: Any, handler: Any) -> Any:
        return AIMessage(str(request.model.profile["max_input_tokens"]))

    def node_of(model: Any) -> Any:
        return lambda state: {"done": (model.profile or {}).get("max_input_tokens")}

    for most in (10, 20, 10):
        for model in (FakeListChatModel(responses=["x"], profile={"max_input_tokens": most}),):
            agent = musubito_graph(create_agent(model, [], middleware=[cut]))
            assert agent.invoke({"messages": [HumanMessage("hi")]})["messages"][-1].text == str(most)
            assert musubito_graph(graph_of(node_of(model))).invoke({"text": "x"})["done"] == most


def test_how_a_model_counts_tokens_counts():
    def node_of(size: int) -> Any:
        model = FakeListChatModel(responses=["x"], custom_get_token_ids=lambda text: [0] * size)
        return lambda state: {"done": model.get_num_tokens(state["text"])}

    assert [musubito_graph(graph_of(node_of(size))).invoke({"text": "x"})["done"] for size in (1, 2, 1)] == [1, 2, 1]


def test_a_model_counts_the_same_however_often_it_was_shown_or_asked(calls: Calls):
    class Mine(FakeListChatModel):
        """Counts its answers, as that from which it is derived."""

    chain = RunnableLambda(lambda value: (calls("lambda"), value)[1]) | Mine(responses=["a", "b"])
    wrapped = musubito_runnable(chain)
    assert wrapped.invoke("x").text == "a"
    assert "RunnableLambda" in repr(chain)  # it keeps how it is shown
    assert musubito_runnable(chain).invoke("x").text == "a"
    assert calls.total == 1


# -- a model that is chosen for each call ------------------------------------------------------------------------------
def test_a_model_that_is_chosen_for_each_call(monkeypatch: pytest.MonkeyPatch, calls: Calls):
    def made(model: str, **kwargs: Any) -> Any:
        return ScriptedModel(calls=calls, model=model, temperature=kwargs["temperature"], disable_streaming=True)

    undecided = init_chat_model(temperature=0.5)
    wrapped = musubito_runnable(undecided)  # asking for its name makes a model, and there is none
    assert wrapped.get_name() == "_ConfigurableModel"
    assert musubito_graph(graph_of(RunnableLambda(lambda state: state["text"]) | undecided)) is not None
    monkeypatch.setattr("langchain.chat_models.base._init_chat_model_helper", made)
    for _ in range(2):
        answers = [wrapped.invoke("hi", {"configurable": {"model": name}}).text for name in ("one", "two")]
        assert ["one" in answers[0], "two" in answers[1]] == [True, True]
    other = musubito_runnable(init_chat_model(temperature=0.7, api_key="hush"))
    assert "0.7" in other.invoke("hi", {"configurable": {"model": "one"}}).text
    again = musubito_runnable(init_chat_model(temperature=0.7, api_key="hush hush"))
    assert "0.7" in again.invoke("hi", {"configurable": {"model": "one"}}).text
    assert calls.total == 3, "another key is no other model"


# -- what else LangChain makes of Runnables ----------------------------------------------------------------------------
def saying(text: str) -> Runnable[Any, Any]:
    return RunnableLambda(lambda value: text)


def failing(value: Any) -> Any:
    raise ValueError(value)


FIELD = ConfigurableField(id="t")
MADE: dict[str, Callable[[str], Runnable[Any, Any]]] = {
    "bound argument": lambda said: RunnableLambda(lambda value, more: more).bind(more=said),
    "bound object": lambda said: RunnableLambda(lambda value, more: more.name).bind(more=Tone(said)),
    "config made when called": lambda said: RunnableBinding(
        bound=RunnableLambda(lambda value, config: config["metadata"]["style"]),
        config_factories=[lambda config: {"metadata": {"style": said}}],
    ),
    "retry": lambda said: saying(said).with_retry(stop_after_attempt=2),
    "fallback": lambda said: RunnableLambda(failing).with_fallbacks([saying(said)]),
    "branch": lambda said: RunnableBranch((lambda value: said == "a", saying("first")), saying("second")),
    "each": lambda said: RunnableLambda(lambda value: [value]) | RunnableEach(bound=saying(said)),
    "configurable field": lambda said: (
        PromptTemplate.from_template("{x}")
        .configurable_fields(template=FIELD)
        .with_config(configurable={"t": said + "{x}"})
    ),
    "configurable alternative": lambda said: (
        PromptTemplate.from_template("z {x}")
        .configurable_alternatives(
            FIELD, a=PromptTemplate.from_template("a {x}"), b=PromptTemplate.from_template("b {x}")
        )
        .with_config(configurable={"t": said})
    ),
    "alternatives": lambda said: (
        PromptTemplate.from_template("z {x}")
        .configurable_alternatives(FIELD, other=PromptTemplate.from_template(said + "{x}"))
        .with_config(configurable={"t": "other"})
    ),
    "partial": lambda said: PromptTemplate.from_template("{x} {y}").partial(y=said),
    "computed partial": lambda said: PromptTemplate.from_template("{x} {y}").partial(y=lambda: said),
    "a partial called like a credential": lambda said: PromptTemplate.from_template("{x} {secret}").partial(
        secret=said
    ),
    "examples": lambda said: FewShotPromptTemplate(
        examples=[{"q": said}], example_prompt=PromptTemplate.from_template("{q}"), suffix="{x}", input_variables=["x"]
    ),
    "prefix": lambda said: FewShotPromptTemplate(
        examples=[{"q": "1"}],
        example_prompt=PromptTemplate.from_template("{q}"),
        prefix=said,
        suffix="{x}",
        input_variables=["x"],
    ),
}


@pytest.mark.parametrize("what", MADE)
def test_it_counts_what_a_runnable_is_made_of(what: str, place: Callable[[Any], Any]):
    make = MADE[what]
    want = [make(said).invoke("x") for said in "ab"]
    assert want[0] != want[1]
    assert [place(make(said)) for said in "aba"] == [*want, want[0]]


def test_what_remembers_a_conversation_is_never_replayed():
    from langchain_core.chat_history import InMemoryChatMessageHistory
    from langchain_core.runnables.history import RunnableWithMessageHistory

    def three(wrap: bool, inside: bool) -> tuple[list[str], int]:
        held: dict[str, Any] = {}

        def of(session_id: str) -> Any:
            return held.setdefault(session_id, InMemoryChatMessageHistory())

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            chain: Any = RunnableWithMessageHistory(RunnableLambda(lambda said: AIMessage(f"{len(said)}")), of)
            config: RunnableConfig = {"configurable": {"session_id": "s"}}
            if inside:
                graph = graph_of(lambda state: {"done": chain.invoke([HumanMessage(state["text"])], config).text})
                graph = musubito_graph(graph) if wrap else graph
                answers = [graph.invoke({"text": "hi"})["done"] for _ in range(3)]
            else:
                chain = musubito_runnable(chain) if wrap else chain
                answers = [chain.invoke([HumanMessage("hi")], config).text for _ in range(3)]
        return answers, len(held["s"].messages)

    for inside in (False, True):
        assert three(True, inside) == three(False, inside) == (["1", "3", "5"], 6)
