"""What a node can be, and what it can be given."""

from __future__ import annotations

import functools
import operator
import time
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnableParallel, RunnablePassthrough
from langgraph.config import get_config, get_store, get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime, get_runtime
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.types import StreamWriter

from tests.langgraph.specimen import Scripted, Shelf, says

ZOO = Shelf()


class State(TypedDict, total=False):
    topic: str
    text: str
    trail: Annotated[list[Any], operator.add]


def dogs():
    return {"topic": "dogs"}


def single(ran, node, **more):
    builder = StateGraph(State, **more)
    builder.add_node("node", node)
    return builder.add_edge(START, "node")


def echo(messages):
    return says(f"all about {messages[-1].text}")


# -- Runnables -----------------------------------------------------------------------------------------------------
def written(ran):
    return ChatPromptTemplate.from_messages([("system", "You write."), ("human", "{topic}")]) | Scripted(
        script=echo, ran=ran
    )


def under_text(text):
    return {"text": text}


# Its parts begin in another order: a function that is a step begins when it has its whole input.
@ZOO(dogs, parallel=True)
def sequence(ran):
    return single(ran, written(ran) | StrOutputParser() | under_text)


@ZOO(dogs)
def configured_sequence(ran):
    chain = written(ran) | StrOutputParser() | under_text
    return single(ran, chain.with_config(tags=["tagged"], metadata={"kind": "chain"}, run_name="writing"))


@ZOO(dogs, parallel=True)
def parallel_runnable(ran):
    return single(ran, RunnableParallel(text=written(ran) | StrOutputParser()))


@ZOO(dogs, parallel=True)
def dict_of_runnables(ran):
    def named(state):
        ran("named")
        # The parts race, and who is first gives the first key of what is streamed.
        time.sleep(0.05)
        return [state["topic"]]

    return single(ran, {"text": RunnableLambda(lambda state: state["topic"].upper()), "trail": RunnableLambda(named)})


@ZOO(dogs)
def runnable_lambda(ran):
    def shout(state):
        ran("shout")
        return {"text": state["topic"].upper()}

    return single(ran, RunnableLambda(shout))


@ZOO(dogs)
def lambda_that_gives_a_runnable(ran):
    """LangGraph invokes what the node gives back."""

    def choose(state):
        ran("choose")
        return written(ran) | StrOutputParser() | under_text

    return single(ran, choose)


@ZOO(dogs)
def assigned(ran):
    return single(ran, RunnablePassthrough.assign(text=lambda state: state["topic"] + "!"))


@ZOO(dogs)
def fallbacks(ran):
    def broken(state):
        raise ValueError("broken")

    def works(state):
        ran("works")
        return {"text": "works"}

    return single(ran, RunnableLambda(broken).with_fallbacks([RunnableLambda(works)]))


@ZOO(dogs, only="sync")
def retry(ran):
    """Streamed by `astream_events`, it would not retry."""

    def works(state):
        if ran("works") < 2:
            raise ValueError("not yet")
        return {"text": "works"}

    return single(ran, RunnableLambda(works).with_retry(wait_exponential_jitter=False, stop_after_attempt=3))


class Own(Runnable[Any, Any]):
    def __init__(self, ran: Any) -> None:
        self.ran = ran

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002 - its name there
        self.ran("own")
        return {"text": input["topic"], "trail": [(config or {}).get("tags")]}


@ZOO(dogs)
def own_runnable(ran):
    return single(ran, Own(ran))


# -- functions -----------------------------------------------------------------------------------------------------
@ZOO(dogs, draws=True)
def lambda_node(ran):
    return single(ran, lambda state: {"text": f"{state['topic']} {ran('lambda')}"})


@ZOO(dogs)
def generator(ran):
    def parts(state):
        ran("parts")
        yield {"text": state["topic"]}
        yield {"trail": ["one"]}

    return single(ran, parts)


@ZOO(dogs, only="async")
def async_generator(ran):
    async def parts(state):
        ran("parts")
        yield {"text": state["topic"]}
        yield {"trail": ["one"]}

    return single(ran, parts)


@ZOO(dogs, only="async")
def async_node(ran):
    async def node(state):
        ran("node")
        return {"text": state["topic"]}

    return single(ran, node)


class Callable_:  # noqa: N801 - the name shows up as the node's
    def __init__(self, ran: Any, suffix: str) -> None:
        self.ran = ran
        self.suffix = suffix

    def __call__(self, state: Any) -> Any:
        self.ran("object")
        return {"text": state["topic"] + self.suffix}

    def method(self, state: Any) -> Any:
        self.ran("method")
        return {"trail": [self.suffix]}


@ZOO(dogs)
def callable_objects_methods_and_partials(ran):
    def node(state, *, suffix):
        ran("partial")
        return {"trail": [suffix]}

    builder = StateGraph(State)
    builder.add_node("object", Callable_(ran, "?"))
    builder.add_node(Callable_(ran, "!").method)
    builder.add_node("partial", functools.partial(node, suffix="..."))
    builder.add_edge(START, "object").add_edge("object", "method")
    return builder.add_edge("method", "partial")


@ZOO(dogs)
def the_same_function_under_two_names(ran):
    def node(state):
        ran("node")
        return {"trail": ["x"]}

    builder = StateGraph(State)
    builder.add_node("one", node).add_node("two", node)
    return builder.add_edge(START, "one").add_edge("one", "two")


@ZOO(dogs)
def node_with_metadata(ran):
    def node(state):
        ran("node")
        return {"text": "done"}

    builder = StateGraph(State)
    builder.add_node("node", node, metadata={"team": "writers", "cost": 3})
    return builder.add_edge(START, "node")


@ZOO(dogs)
def model_called_in_a_function(ran):
    """Its tokens show in `messages`, and its run under the node's."""
    model = Scripted(script=echo, ran=ran)

    def node(state):
        ran("node")
        return {"text": model.invoke(state["topic"]).text}

    return single(ran, node)


@ZOO(dogs, only="async")
def model_streamed_in_an_async_function(ran):
    model = Scripted(script=echo, ran=ran)

    async def node(state):
        ran("node")
        return {"text": "".join([chunk.text async for chunk in model.astream(state["topic"])])}

    return single(ran, node)


# -- what it can be given ------------------------------------------------------------------------------------------
@ZOO(dogs, config={"configurable": {"user": "me"}, "tags": ["given"], "metadata": {"build": 7}})
def config(ran):
    def node(state, config: RunnableConfig):
        ran("node")
        return {"trail": [config["configurable"]["user"], get_config()["metadata"]["build"]]}

    return single(ran, node)


@ZOO(dogs)
def writer(ran):
    def node(state, writer: StreamWriter):
        ran("node")
        writer({"progress": 1})
        get_stream_writer()(("progress", 2))
        return {"text": "written"}

    return single(ran, node)


@ZOO(dogs, only="async")
def async_writer(ran):
    async def node(state, writer: StreamWriter):
        ran("node")
        writer("one")
        writer("two")
        return {"text": "written"}

    return single(ran, node)


def stocked():
    store = InMemoryStore()
    store.put(("facts",), "dogs", {"legs": 4})
    return {"store": store}


STOCKED = stocked()  # One for all who only read it: when an item was put is a part of it.


@ZOO(dogs, compile=lambda: STOCKED)
def store_that_is_read(ran):
    def node(state, store: BaseStore):
        ran("node")
        found = store.get(("facts",), state["topic"])
        absent = get_store().get(("facts",), "cats")
        return {"trail": [found and found.value, absent, [item.key for item in store.search(("facts",))]]}

    return single(ran, node)


@ZOO(dogs, compile=stocked, runs_again=frozenset({"node"}))
def store_that_is_written(ran):
    def node(state, *, store: BaseStore):
        ran("node")
        store.put(("facts",), "cats", {"legs": 4})
        return {"trail": [sorted(item.key for item in store.search(("facts",)))]}

    return single(ran, node)


@ZOO(dogs, compile=lambda: STOCKED, only="async")
def store_that_is_read_async(ran):
    async def node(state, runtime: Runtime):
        ran("node")
        found = await runtime.store.aget(("facts",), state["topic"])
        return {"trail": [found.value]}

    return single(ran, node)


@dataclass
class Context:
    user: str
    limit: int = 5


@ZOO(dogs, call={"context": {"user": "me"}})
def context(ran):
    def node(state, runtime: Runtime[Context]):
        ran("node")
        return {"trail": [runtime.context.user, get_runtime(Context).context.limit]}

    return single(ran, node, context_schema=Context)


@ZOO(dogs, call={"context": {"limit": 3}})
def context_that_does_not_fit(ran):
    return single(ran, lambda state: {"trail": [ran("node")]}, context_schema=Context)


@ZOO(dogs)
def everything_at_once(ran):
    def node(state, config, *, writer: StreamWriter, runtime: Runtime[Context]):
        ran("node")
        runtime.stream_writer("from the runtime")
        writer(config["metadata"]["langgraph_node"])
        return {"text": "done"}

    return single(ran, node, context_schema=Context)
