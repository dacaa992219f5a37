"""What a state can be, and what a node can give back."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage
from langgraph.channels.untracked_value import UntrackedValue
from langgraph.graph import START, MessagesState, StateGraph, add_messages
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.managed import IsLastStep, RemainingSteps
from langgraph.types import Command
from pydantic import BaseModel, Field, field_validator

from tests.langgraph.specimen import Scripted, Shelf, checkpointed, says

ZOO = Shelf()


def in_a_row(schema, *nodes, **more):
    builder = StateGraph(schema, **more)
    before = START
    for node in nodes:
        builder.add_node(node.__name__, node)
        builder.add_edge(before, node.__name__)
        before = node.__name__
    return builder


# -- schemas -------------------------------------------------------------------------------------------------------
class Colour(Enum):
    RED = "red"


class Part(BaseModel):
    name: str
    size: float = 1.0


class Model(BaseModel):
    n: int
    parts: list[Part] = Field(default_factory=list)
    seen: Annotated[set[str], operator.or_] = set()
    colour: Colour = Colour.RED

    @field_validator("n")
    @classmethod
    def small(cls, n):
        if n > 100:
            raise ValueError("too large")
        return n


@ZOO(lambda: {"n": "3", "parts": [{"name": "wheel"}]})
def pydantic_state(ran):
    def a(state: Model):
        ran("a")
        return {"n": state.n + 1, "seen": {"a", state.parts[0].name}}

    def b(state: Model):
        ran("b")
        return Model(n=state.n * 2, parts=[*state.parts, Part(name="door", size=2)], seen={"b"})

    return in_a_row(Model, a, b)


@ZOO(lambda: Model(n=3, parts=[Part(name="wheel")]))
def pydantic_input(ran):
    def a(state):
        ran("a")
        return {"n": state.n + 1, "parts": state.parts}

    return in_a_row(Model, a)


@ZOO(lambda: {"n": 300})
def pydantic_input_that_does_not_fit(ran):
    def a(state):
        ran("a")
        return {"n": 1}

    return in_a_row(Model, a)


@dataclass
class Record:
    n: int = 0
    names: Annotated[list[str], operator.add] = field(default_factory=list)
    inner: Any = None


@ZOO(lambda: {"n": 2})
def dataclass_state(ran):
    def a(state):
        ran("a")
        return {"n": state.n + 1, "names": ["a"], "inner": Record(1)}

    def b(state):
        ran("b")
        return Record(n=state.n, names=["b"], inner=(state.inner, {"t": (1, 2)}))

    return in_a_row(Record, a, b)


class Sets(TypedDict, total=False):
    seen: Annotated[set[str], operator.or_]
    frozen: frozenset[int]
    pair: tuple[int, ...]


@ZOO(lambda: {"seen": {"in"}, "frozen": frozenset({1})})
def sets(ran):
    def a(state):
        ran("a")
        return {"seen": {f"word {n}" for n in range(20)}, "frozen": state["frozen"] | {2}, "pair": (1, 2)}

    def b(state):
        ran("b")
        return {"seen": {str(len(state["seen"]))}}

    return in_a_row(Sets, a, b)


class Plain(TypedDict, total=False):
    n: int
    log: Annotated[list[Any], operator.add]


class Asked(TypedDict):
    n: int


class Answered(TypedDict):
    answer: int


class Whole(Asked, Answered):
    hidden: str


class Private(TypedDict):
    secret: str


@ZOO(lambda: {"n": 2})
def input_output_and_private_schemas(ran):
    def a(state: Asked) -> Private:
        ran("a")
        return {"secret": f"{sorted(state)}"}

    def b(state: Private):
        ran("b")
        return {"answer": len(state["secret"]), "hidden": "x"}

    return in_a_row(Whole, a, b, input_schema=Asked, output_schema=Answered)


class Managed(TypedDict, total=False):
    n: Annotated[int, operator.add]
    last: IsLastStep
    left: RemainingSteps
    loose: Annotated[Any, UntrackedValue]


@ZOO(lambda: {"n": 2}, config={"recursion_limit": 7})
def managed_and_untracked_values(ran):
    def a(state):
        ran("a")
        return {"n": state["left"], "loose": "not kept"}

    def b(state):
        ran("b")
        return {"n": len(state.get("loose", ""))}

    return in_a_row(Managed, a, b)


@ZOO(lambda: [1])
def root_state(ran):
    def a(state):
        ran("a")
        return [*state, 2]

    def b(state):
        ran("b")
        return [len(state)]

    return in_a_row(Annotated[list[int], operator.add], a, b)


# -- return values -------------------------------------------------------------------------------------------------
@ZOO(lambda: {"n": 1})
def none(ran):
    def nothing(state):
        ran("nothing")

    def empty(state):
        ran("empty")
        return {}

    def none_of_it(state):
        ran("none of it")
        return {"n": None}

    return in_a_row(Plain, nothing, empty, none_of_it)


@ZOO(lambda: {"n": 1})
def lists_and_commands(ran):
    def several(state):
        ran("several")
        return [Command(update={"log": [1]}), {"log": [(2, 3)]}, Command(update=[("log", [4])])]

    def command(state):
        ran("command")
        return Command(update={"n": 5})

    return in_a_row(Plain, several, command)


@ZOO(lambda: {"n": 1, "log": [0]}, since="1.1")
def overwrite(ran):
    from langgraph.types import Overwrite

    def a(state):
        ran("a")
        return {"log": Overwrite(["fresh"])}

    return in_a_row(Plain, a)


@ZOO(lambda: {"n": 1}, runs_again=frozenset({"a"}))
def in_place(ran):
    """A node that changes its input in place: LangGraph does not protect from it."""

    def a(state):
        ran("a")
        state["log"].append("changed")
        return {"n": len(state["log"])}

    def b(state):
        ran("b")
        return {"n": state["n"] + len(state["log"])}

    def start(state):
        ran("start")
        return {"log": ["begun"]}

    return in_a_row(Plain, start, a, b)


@ZOO(lambda: {"n": 1})
def values_that_are_odd(ran):
    def a(state):
        ran("a")
        return {"log": [1, 1.0, True, None, (), [], {}, {1: "a", (1, 2): "b"}, b"bytes", 2**70, "\ud800", Colour.RED]}

    return in_a_row(Plain, a)


# -- messages ------------------------------------------------------------------------------------------------------
def hello():
    return {"messages": [("user", "hello"), HumanMessage("are you there?")]}


def count_them(messages):
    return says(f"I have read {len(messages)} messages, the last of type {messages[-1].type}")


@ZOO(hello)
def messages(ran):
    model = Scripted(script=count_them, ran=ran)

    def chat(state):
        ran("chat")
        return {"messages": [model.invoke(state["messages"])]}

    def reply(state):
        ran("reply")
        return {"messages": ("user", f"thanks, {len(state['messages'])}")}

    def bare(state):
        ran("bare")
        return {"messages": [AIMessage("I have an id", id="mine"), "and I have none"]}

    return in_a_row(MessagesState, chat, reply, bare)


@ZOO(hello, hello, hello, compile=checkpointed())
def chat_in_one_thread(ran):
    model = Scripted(script=count_them, ran=ran)

    def chat(state):
        ran("chat")
        return {"messages": model.invoke(state["messages"])}

    return in_a_row(MessagesState, chat)


@ZOO(hello, only="async")
def async_messages(ran):
    model = Scripted(script=count_them, ran=ran)

    async def chat(state):
        ran("chat")
        return {"messages": [await model.ainvoke(state["messages"])]}

    return in_a_row(MessagesState, chat)


@ZOO(lambda: [HumanMessage("hello")])
def model_as_a_node(ran):
    builder = StateGraph(Annotated[list[AnyMessage], add_messages])
    builder.add_node("model", Scripted(script=count_them, ran=ran))
    return builder.add_edge(START, "model")


@ZOO(hello, compile=checkpointed())
def removed_messages(ran):
    def more(state):
        ran("more")
        return {"messages": [AIMessage("one"), AIMessage("two")]}

    def fewer(state):
        ran("fewer")
        return {"messages": [RemoveMessage(id=state["messages"][0].id), RemoveMessage(id=state["messages"][2].id)]}

    def rewritten(state):
        ran("rewritten")
        return {"messages": [AIMessage("two, rewritten", id=state["messages"][-1].id)]}

    def only_one(state):
        ran("only one")
        return {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES), HumanMessage("the rest is silence")]}

    return in_a_row(MessagesState, more, fewer, rewritten, only_one)


@ZOO(hello, since="1.1")
def pushed_messages(ran):
    """What it writes besides its return value is written again. LangGraph 1.0 tells only one handler of it."""

    def push(state):
        from langgraph.graph.message import push_message

        ran("push")
        push_message(AIMessage("pushed", id="p1"))
        return {"messages": [AIMessage("returned", id="r1")]}

    return in_a_row(MessagesState, push)
