"""What is asked a second time runs nothing; what is edited runs, and whatever its new output really changes.

Every test names exactly the functions that ran.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from operator import add
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID, uuid4

import numpy as np
import pytest
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, RemoveMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph, add_messages
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.types import Command, Send
from pydantic import BaseModel

import musubito
from musubito import StepConfiguration, StepType
from musubito_langgraph import musubito_graph
from tests.langgraph.specimen import Ran, Scripted, calls, says, took

pytestmark = pytest.mark.usefixtures("engine")
Ask = Callable[..., Any]
DETERMINISTIC = StepConfiguration(step_type=StepType.DETERMINISTIC)


def thread(name: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": name}}


# -- nothing runs a second time ----------------------------------------------------------------------------------------
class Typed(TypedDict):
    words: Annotated[list[str], add]
    seen: set[str]


class Model(BaseModel):
    words: Annotated[list[str], add] = []
    seen: set[str] = set()


@dataclass
class Data:
    words: Annotated[list[str], add] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)


def diamond(schema: type, ran: Ran, **kwargs: Any) -> Any:
    def node(name: str) -> Callable[[Any], Any]:
        def node(state: Any) -> Any:
            ran(name)
            seen = state["seen"] if isinstance(state, dict) else state.seen
            return {"words": [f"{name} of {sorted(seen)}"]} | ({"seen": {*seen, name}} if name == "top" else {})

        return node

    builder = StateGraph(schema)
    for name in ("top", "left", "right", "bottom"):
        builder.add_node(name, node(name))
    builder.add_edge(START, "top")
    builder.add_edge("top", "left")
    builder.add_edge("top", "right")
    builder.add_edge(["left", "right"], "bottom")
    return musubito_graph(builder.compile(**kwargs))


def test_a_node_that_returns_an_answer_as_a_text_with_its_id_runs_once(ran: Ran, ask: Ask):
    model = Scripted(script=lambda _: says("well"), ran=ran)

    def answer(state: Typed) -> Any:
        return {"words": [str(model.invoke(state["words"][-1]))]}

    graph = musubito_graph(StateGraph(Typed).add_node(answer).add_edge(START, "answer").compile())
    cold = ask(graph, {"words": ["go"]})
    assert "id='lc_run" in cold["words"][-1]
    assert ask(graph, {"words": ["go"]}) == cold
    assert took(ran) == {"model": 1}


@pytest.mark.parametrize("schema", [Typed, Model, Data])
def test_a_second_invoke_runs_no_node(schema: type, ran: Ran, ask: Ask):
    graph = diamond(schema, ran)

    def given() -> dict[str, Any]:
        return {"words": ["go"], "seen": {"c", "a", "b"}}

    cold = ask(graph, given())
    assert took(ran) == {"top": 1, "left": 1, "right": 1, "bottom": 1}
    assert ask(graph, given()) == cold
    assert took(ran) == {}
    assert ask(diamond(schema, ran), given()) == cold
    assert took(ran) == {}, "the same graph, built again"
    ask(graph, {"words": ["go"], "seen": {"c", "a"}})
    assert took(ran) == {"top": 1, "left": 1, "right": 1, "bottom": 1}


@pytest.mark.parametrize("name", ["function", "runnable", "sequence", "graph"])
def test_a_node_that_is_asked_by_itself(name: str, ran: Ran, ask: Ask):
    def double(state: Typed) -> Any:
        ran("double")
        return {"words": state["words"] * 2}

    inner = StateGraph(Typed).add_node("double", double).add_edge(START, "double").compile()
    bodies: dict[str, Any] = {
        "function": double,
        "runnable": RunnableLambda(double),
        "sequence": RunnableLambda(lambda state: state) | double,
        "graph": inner,
    }
    builder = StateGraph(Typed).add_node(name, bodies[name]).add_edge(START, name)
    node = musubito_graph(builder.compile()).nodes[name]
    for words, runs in [(["a"], {"double": 1}), (["a"], {}), (["b"], {"double": 1})]:
        assert ask(node, {"words": words})["words"] == (words if name == "graph" else []) + words * 2
        assert took(ran) == runs


# -- conversations: ids are random each time ---------------------------------------------------------------------------
def plain(messages: list[Any]) -> list[tuple[str, str]]:
    return [(message.type, message.text) for message in messages]


def chat(ran: Ran, **kwargs: Any) -> Any:
    model = Scripted(script=lambda messages: says(f"You said {messages[-1].text}"), ran=ran)

    def look(state: MessagesState) -> Any:
        ran("look")
        return {"messages": [("ai", f"{len(state['messages'])} so far")]}

    def answer(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_sequence([look, answer])
    builder.add_edge(START, "look")
    return musubito_graph(builder.compile(**kwargs))


@pytest.mark.parametrize(
    "said",
    [
        lambda: "hi",
        lambda: ("user", "hi"),
        lambda: [("user", "hi")],
        lambda: [{"role": "user", "content": "hi"}],
        lambda: [HumanMessage("hi")],
        lambda: [HumanMessage("hi", id=str(uuid4())), AIMessage("yes?", id=f"lc_run--{uuid4()}"), HumanMessage("so")],
    ],
    ids=["text", "tuple", "tuples", "dicts", "message", "conversation"],
)
def test_the_same_conversation_has_other_ids_each_time(said: Callable[[], Any], ran: Ran, ask: Ask):
    graph = chat(ran, checkpointer=InMemorySaver())
    cold = ask(graph, {"messages": said()}, thread("one"))
    assert took(ran) == {"look": 1, "model": 1}
    again = ask(graph, {"messages": said()}, thread("two"))
    assert took(ran) == {}
    assert plain(again["messages"]) == plain(cold["messages"])
    ids = [message.id for message in (*cold["messages"], *again["messages"])]
    assert None not in ids
    assert len({*ids}) == len(ids), "replayed messages have ids of their own"


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


def asks_for_weather(messages: Any) -> AIMessage:
    if messages[-1].type == "tool":
        return says(f"There is {messages[-1].text}.")
    return calls(("weather", {"city": "Kyoto"}), ("weather", {"city": "Nara"}))


@pytest.mark.parametrize(("replay_tools", "of_tools"), [(True, set()), (False, {"ran"})])
def test_an_agent_that_is_asked_the_same_again_asks_no_model(
    replay_tools: bool, of_tools: set[str], ran: Ran, ask: Ask
):
    made = create_agent(Scripted(script=asks_for_weather, ran=ran), [weather], checkpointer=InMemorySaver())
    agent = musubito_graph(made, replay_tools=replay_tools)
    cold = ask(agent, {"messages": [("user", "weather?")]}, thread("one"))
    assert took(ran) == {"model": 2}
    with musubito.run() as run:
        again = ask(agent, {"messages": [("user", "weather?")]}, thread("two"))
    assert took(ran) == {}
    assert {call.outcome for call in run.calls if ".weather" in call.operation} == of_tools
    assert {call.outcome for call in run.calls if "/model" in call.operation} == {"replayed"}
    assert plain(again["messages"]) == plain(cold["messages"])
    asked = [call["id"] for call in again["messages"][1].tool_calls]
    assert [message.tool_call_id for message in again["messages"] if message.type == "tool"] == asked
    assert not {*asked} & {call["id"] for call in cold["messages"][1].tool_calls}


def test_a_question_asked_twice_in_a_thread_is_answered_twice(ran: Ran, ask: Ask):
    class State(MessagesState):
        question: str

    class Question(TypedDict):
        question: str

    model = Scripted(script=lambda messages: says(f"No, {messages[-1].text}"), ran=ran)

    def answer(state: Question) -> Any:
        return {"messages": [model.invoke(state["question"])]}

    def said(state: Question) -> Any:
        ran("said")
        return {"messages": [AIMessage("I have spoken", id=str(uuid4()))]}

    builder = StateGraph(State)
    builder.add_node("answer", answer, input_schema=Question)
    builder.add_node("said", said, input_schema=Question)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", "said")
    graph = musubito_graph(builder.compile(checkpointer=InMemorySaver()))
    for _ in range(3):
        history = ask(graph, {"question": "hi"}, thread("one"))["messages"]
    assert took(ran) == {"model": 1, "said": 1}
    assert plain(history) == [("ai", "No, hi"), ("ai", "I have spoken")] * 3
    assert len({message.id for message in history}) == 6


def test_a_removal_replays_in_another_thread(ran: Ran, ask: Ask):
    def forget(state: MessagesState) -> Any:
        ran("forget")
        return {"messages": [RemoveMessage(id=message.id) for message in state["messages"][:-1]]}

    builder = StateGraph(MessagesState)
    builder.add_node("forget", forget)
    builder.add_edge(START, "forget")
    graph = musubito_graph(builder.compile(checkpointer=InMemorySaver()))
    for name in ("one", "two"):
        left = ask(graph, {"messages": [("user", "a"), ("ai", "b"), ("user", "c")]}, thread(name))
        assert plain(left["messages"]) == [("human", "c")]
    assert took(ran) == {"forget": 1}


# -- edits, each as a program on disk, in this process and in others ---------------------------------------------------
PROGRAM = '''
import sys
from operator import add
from typing import Annotated, TypedDict
from dataclasses import dataclass, field
from langchain_core.messages import HumanMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Send
from pydantic import BaseModel
from musubito_langgraph import musubito_graph
from tests.langgraph.specimen import Ran

ran = Ran()
PROMPT = "Plan: "
UNRELATED = 1

class State(TypedDict):
    topic: str
    tags: set[str]
    plan: list[str]
    notes: Annotated[list[str], add]
    text: str

class Titled(TypedDict):
    topic: str

def split(topic):
    return topic.split()

def shorten(word):
    return word.lower()

def plan(state: State):
    """Splits it up."""
    ran("plan")
    return {"plan": [PROMPT.strip() and word for word in split(state["topic"])]}

def send(state: State):
    ran("send")
    return [Send("work", word) for word in state["plan"]]

def work(word: str):
    ran("work")
    return {"notes": [shorten(word)]}

def join(state: State):
    ran("join")
    return {"text": " ".join(sorted(state["notes"])) + str(sorted(state["tags"]))}

def title(state: Titled):
    ran("title")
    return {}

def grade(state: State):
    ran("grade")
    return "polish" if len(state["text"]) > 3 else END

def polish(state: State):
    ran("polish")
    return {"text": state["text"].strip()}

def build():
    builder = StateGraph(State)
    for node in (plan, work, join, title, polish):
        builder.add_node(node)
    builder.add_edge(START, "plan")
    builder.add_edge(START, "title")
    builder.add_conditional_edges("plan", send, ["work"])
    builder.add_edge("work", "join")
    builder.add_conditional_edges("join", grade, ["polish", END])
    return musubito_graph(builder.compile())

def ask(topic="Send More Money"):
    return build().invoke({"topic": topic, "tags": {"c", "a", "b", "long one", "x"}})
'''
ALL = {"plan": 1, "send": 1, "work": 3, "join": 1, "title": 1, "grade": 1, "polish": 1}
_numbers = itertools.count()


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Loads a program's text, each time as the same module: what an edit and a new process see."""

    def load(text: str) -> Any:
        path = tmp_path / f"edit {next(_numbers)}" / "program.py"
        path.parent.mkdir()
        path.write_text(text)
        spec = importlib.util.spec_from_file_location("story_program", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["story_program"] = module
        spec.loader.exec_module(module)
        return module

    yield load
    sys.modules.pop("story_program", None)


class Edit(NamedTuple):
    name: str
    old: str
    new: str
    runs: Mapping[str, int]


EDITS = [
    Edit("a comment", "def join", "# joins\ndef join", {}),
    Edit("a comment in a node", '    ran("join")', '    ran("join")  # now', {}),
    Edit("a docstring", "Splits it up.", "Splits up what is asked.", {}),
    Edit("an annotation", "def work(word: str)", "def work(word)", {}),
    Edit("something unrelated", "UNRELATED = 1", "UNRELATED = 2\ndef other(): return 1", {}),
    Edit("a node, to the same effect", '"notes": [shorten(word)]', '"notes": [shorten(word) + ""]', {"work": 3}),
    Edit("the root, to the same effect", "[PROMPT.strip()", "[1 and PROMPT.strip()", {"plan": 1}),
    Edit("a constant, to the same effect", 'PROMPT = "Plan: "', 'PROMPT = "Plan it: "', {"plan": 1}),
    Edit("a helper, to the same effect", "topic.split()", "topic.split(None)", {"plan": 1}),
    Edit(
        "a helper, with an effect",
        "word.lower()",
        "word.upper()",
        {"work": 3, "join": 1, "grade": 1, "polish": 1},
    ),
    Edit(
        "a helper, with an effect on one item",
        "word.lower()",
        'word.lower().replace("money", "gold")',
        {"work": 3, "join": 1, "grade": 1, "polish": 1},
    ),
    Edit(
        "the root, with an effect",
        "topic.split()",
        "topic.split()[:2]",
        {"plan": 1, "send": 1, "join": 1, "grade": 1, "polish": 1},
    ),
    Edit("the last one", 'state["text"].strip()', "state[\"text\"].strip('.')", {"polish": 1}),
    Edit("a router, to the same effect", "> 3", "> 4", {"grade": 1}),
    Edit("a router, with an effect", "> 3", "> 300", {"grade": 1}),
    Edit("a router that sends, to the same effect", 'Send("work", word)', 'Send("work", word + "")', {"send": 1}),
    Edit(
        "a router that sends other things",
        'Send("work", word)',
        'Send("work", word * (1 + (word == "More")))',
        {"send": 1, "work": 1, "join": 1, "grade": 1, "polish": 1},
    ),
]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.name)
def test_what_was_edited_runs_and_what_that_changes(edit: Edit, load: Callable[[str], Any]):
    assert PROGRAM.count(edit.old) == 1
    program = load(PROGRAM)
    program.ask()
    assert took(program.ran) == ALL
    program = load(PROGRAM.replace(edit.old, edit.new))
    edited = program.ask()
    assert took(program.ran) == edit.runs
    assert edited == program.ask()
    assert took(program.ran) == {}
    program = load(PROGRAM)
    program.ask()
    assert took(program.ran) == {}, "what the edit took back is known still"


DRIVER = """
import json, sys
sys.path[:0] = [{folder!r}, {root!r}]
import program
from musubito import MusubitoEngine, SQLiteStorage, use_musubito_engine
with MusubitoEngine(SQLiteStorage({store!r})) as engine, use_musubito_engine(engine):
    print(json.dumps([program.ask(), dict(program.ran.counts)], default=sorted))
"""


def elsewhere(text: str, tmp_path: Path, seed: int) -> tuple[Any, dict[str, int]]:
    """What a program says in a process of its own, and what ran there."""
    folder = tmp_path / f"process {next(_numbers)}"
    folder.mkdir()
    (folder / "program.py").write_text(text)
    root = Path(__file__).parents[2]
    driver = DRIVER.format(folder=str(folder), root=str(root), store=str(tmp_path / "shared.db"))
    done = subprocess.run(
        [sys.executable, "-c", driver],
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, counts = json.loads(done.stdout)
    return said, counts


def test_an_edit_between_processes(tmp_path: Path):
    cold, counts = elsewhere(PROGRAM, tmp_path, 1)
    assert counts == ALL
    again, counts = elsewhere(PROGRAM, tmp_path, 2)
    assert (again, counts) == (cold, {})
    edited, counts = elsewhere(PROGRAM.replace("word.lower()", "word.upper()"), tmp_path, 3)
    assert counts == {"work": 3, "join": 1, "grade": 1, "polish": 1}
    assert edited["notes"] == ["SEND", "MORE", "MONEY"]


STATES = """
from tests.langgraph.test_replays import Data, Model, Typed, chat, diamond
from langgraph.checkpoint.memory import InMemorySaver
from tests.langgraph.specimen import Ran
ran = Ran()
def ask():
    given = {"words": ["go"], "seen": {"c", "a", "b", "long one", "x"}}
    words = [diamond(schema, ran).invoke(given)["words"] for schema in (Typed, Model, Data)]
    said = chat(ran, checkpointer=InMemorySaver()).invoke(
        {"messages": [("user", "hi")]}, {"configurable": {"thread_id": "one"}}
    )
    return [words, [message.text for message in said["messages"]]]
"""


def test_processes_share_what_ran(tmp_path: Path):
    cold, counts = elsewhere(STATES, tmp_path, 1)
    assert counts == {"top": 3, "left": 3, "right": 3, "bottom": 3, "look": 1, "model": 1}
    again, counts = elsewhere(STATES, tmp_path, 2)
    assert (again, counts) == (cold, {})


# -- fan-out -----------------------------------------------------------------------------------------------------------
class Items(TypedDict):
    items: list[Any]
    done: Annotated[list[Any], add]
    total: Any


def fan(ran: Ran, work: Callable[[Any], Any], policy: StepConfiguration | None = None, **said: Any) -> Any:
    def reduce(state: Items) -> Any:
        ran("reduce")
        return {"total": list(state["done"])}

    builder = StateGraph(Items)
    builder.add_node("work", work, **said)
    builder.add_node("reduce", reduce)
    builder.add_conditional_edges(START, lambda state: [Send("work", item) for item in state["items"]], ["work"])
    builder.add_edge("work", "reduce")
    return musubito_graph(builder.compile(), steps={"work": policy} if policy else None)


def test_one_item_of_a_fan_out_changed(ran: Ran, ask: Ask):
    def work(item: str) -> Any:
        ran(f"work on {item}")
        return {"done": [item.upper()]}

    graph = fan(ran, work)
    ask(graph, {"items": ["a", "b", "c", "d"]})
    assert took(ran) == {**{f"work on {item}": 1 for item in "abcd"}, "reduce": 1}
    changed = ask(graph, {"items": ["a", "b", "X", "d"]})
    assert took(ran) == {"work on X": 1, "reduce": 1}
    assert changed["total"] == ["A", "B", "X", "D"]
    ask(graph, {"items": ["d", "b"]})
    assert took(ran) == {"reduce": 1}


def test_five_identical_sends_are_five_samples(ran: Ran, ask: Ask):
    def work(item: str) -> Any:
        ran("work")
        return {"done": [uuid4().hex]}

    graph = fan(ran, work)
    cold = ask(graph, {"items": ["same"] * 5})
    assert took(ran) == {"work": 5, "reduce": 1}
    assert len({*cold["total"]}) == 5
    assert ask(graph, {"items": ["same"] * 5}) == cold, "in their order, too"
    assert took(ran) == {}
    more = ask(graph, {"items": ["same"] * 7})
    assert took(ran) == {"work": 2, "reduce": 1}
    assert more["total"][:5] == cold["total"]


@pytest.mark.parametrize("said", ["in metadata", "in steps"])
def test_identical_sends_to_a_deterministic_node_are_one_execution(said: str, ran: Ran, ask: Ask):
    def work(item: str) -> Any:
        ran("work")
        return {"done": [uuid4().hex]}

    if said == "in steps":
        graph = fan(ran, work, DETERMINISTIC)
    else:
        graph = fan(ran, work, metadata={"musubito": DETERMINISTIC})
    cold = ask(graph, {"items": ["same"] * 5})
    assert took(ran) == {"work": 1, "reduce": 1}
    assert cold["total"] == [cold["total"][0]] * 5
    assert ask(graph, {"items": ["same"] * 5}) == cold
    assert took(ran) == {}


# -- conditional edges -------------------------------------------------------------------------------------------------
class Text(TypedDict):
    text: str
    done: Annotated[list[str], add]


class Judge:
    """A router that is an object."""

    def __init__(self, ran: Ran, good: str) -> None:
        self.ran = ran
        self.good = good

    def __call__(self, state: Text) -> str:
        self.ran("router")
        return self.good if state["text"] else "bad"

    def judge(self, state: Text) -> str:
        return self(state)


def plain_router(ran: Ran) -> Any:
    def router(state: Text) -> Literal["good", "bad"]:
        ran("router")
        return "good" if state["text"] else "bad"

    return router


def async_router(ran: Ran) -> Any:
    async def router(state: Text) -> str:
        ran("router")
        return "good" if state["text"] else "bad"

    return router


def sending_router(ran: Ran) -> Any:
    def router(state: Text) -> Any:
        _ = [state]  # so all of it counts
        ran("router")
        return [Send("good", {"text": "1"}), Send("good", {"text": "2"}), "bad"]

    return router


def model_router(ran: Ran) -> Any:
    def script(messages: Any) -> AIMessage:
        ran("router")
        return says("good")

    model = Scripted(script=script, ran=ran, label="judge")
    return ChatPromptTemplate.from_template("Is {text} good?") | model | (lambda message: message.text)


ROUTERS: Mapping[str, Callable[[Ran], Any]] = {
    "function": plain_router,
    "async": async_router,
    "object": lambda ran: Judge(ran, "good"),
    "method": lambda ran: Judge(ran, "good").judge,
    "partial": lambda ran: functools.partial(lambda ran, state: state and ran("router") and "good", ran),
    "lambda": lambda ran: RunnableLambda(plain_router(ran)),
    "model": model_router,
    "Sends": sending_router,
}


@pytest.mark.parametrize("kind", ROUTERS)
def test_routers_replay_like_nodes(kind: str, ran: Ran, ask: Ask):
    if kind == "async":

        def ask(graph: Any, given: Any) -> Any:
            return asyncio.run(graph.ainvoke(given))

    def node(name: str) -> Callable[[Text], Any]:
        def node(state: Text) -> Any:
            ran(name)
            return {"done": [f"{name} {state['text']}"]}

        return node

    builder = StateGraph(Text)
    for name in ("first", "good", "bad"):
        builder.add_node(name, node(name))
    builder.add_edge(START, "first")
    builder.add_conditional_edges("first", ROUTERS[kind](ran), ["good", "bad"])
    graph = musubito_graph(builder.compile())
    cold = ask(graph, {"text": "x"})
    judge = {"judge": 1} if kind == "model" else {}
    targets = {"good": 2, "bad": 1} if kind == "Sends" else {"good": 1}
    assert took(ran) == {"first": 1, "router": 1, **judge, **targets}
    assert ask(graph, {"text": "x"}) == cold
    assert took(ran) == {}
    ask(graph, {"text": "y"})
    assert took(ran)["router"] == 1


# -- loops, retries, failures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [None, DETERMINISTIC], ids=["sample", "deterministic"])
def test_a_failure_is_never_replayed(policy: StepConfiguration | None, ran: Ran, ask: Ask):
    broken = {"it"}

    class Door:
        """Open or not; of no identity."""

        def __musubito_identity__(self) -> str:
            return "a door"

        def check(self) -> None:
            if broken:
                raise ValueError("broken")

    door = Door()

    def first(state: Text) -> Any:
        ran("first")
        return {"done": ["first"]}

    def second(state: Text) -> Any:
        ran("second")
        door.check()
        return {"done": ["second"]}

    builder = StateGraph(Text)
    builder.add_sequence([first, second])
    builder.add_edge(START, "first")
    graph = musubito_graph(builder.compile(), default=policy)
    for expected in ({"first": 1, "second": 1}, {"second": 1}):
        with pytest.raises(ValueError, match="broken"):
            ask(graph, {"text": "x"})
        assert took(ran) == expected
    broken.clear()
    assert ask(graph, {"text": "x"})["done"] == ["first", "second"]
    assert took(ran) == {"second": 1}
    ask(graph, {"text": "x"})
    assert took(ran) == {}


# -- every shape that a node may give back -----------------------------------------------------------------------------
class Mood(Enum):
    GLAD = 1
    SAD = "sad"


class Level(IntEnum):
    LOW = 1


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass
class Note:
    text: str
    tags: tuple[str, ...] = ()


class Page(BaseModel):
    title: str
    notes: list[Note] = []


class Anything(TypedDict, total=False):
    value: Any
    other: Any
    done: Annotated[list[Any], add]
    messages: Annotated[list[Any], add_messages]


class AnyModel(BaseModel):
    value: Any = None
    other: Any = None
    done: Annotated[list[Any], add] = []


@dataclass
class AnyData:
    value: Any = None
    other: Any = None
    done: Annotated[list[Any], add] = field(default_factory=list)


SHAPES: Mapping[str, Callable[[], Any]] = {
    "dict": lambda: {"value": 1, "done": ["x"]},
    "empty dict": dict,
    "None": lambda: None,
    "None in a dict": lambda: {"value": None},
    "Command": lambda: Command(update={"value": 1, "done": ["x"]}),
    "Command without an update": Command,
    "Command with tuples": lambda: Command(update=[("value", 5), ("done", ["x"]), ("done", ["y"])]),
    "Command with a model": lambda: Command(update=AnyModel(value=5, done=["x"])),
    "Command with a dataclass": lambda: Command(update=AnyData(value=5, done=["x"])),
    "Command to a node": lambda: Command(update={"value": 1}, goto="next"),
    "Command to nodes": lambda: Command(goto=["next", "last"]),
    "Command with a Send": lambda: Command(update={"value": 1}, goto=Send("next", {"value": ("a", "b")})),
    "Command with Sends": lambda: Command(goto=[Send("next", {"value": 1}), "last", Send("next", {"value": 2})]),
    "Command to the end": lambda: Command(update={"value": 1}, goto=END),
    "list of Commands": lambda: [Command(update={"value": 1}, goto="next"), Command(update={"done": ["x"]})],
    "list with a Command": lambda: [{"value": 1}, Command(update={"done": ["x"]}, goto="last"), {"done": ["y"]}],
    "tuple with a Command": lambda: ({"value": 1}, Command(goto="last")),
    "Send": lambda: Send("next", {"value": {"deep": (1, [2])}}),
    "tuple message": lambda: {"messages": ("user", "hi")},
    "tuple messages": lambda: {"messages": [("user", "hi"), ("ai", "yes?")]},
    "text message": lambda: {"messages": "hi"},
    "message": lambda: {"messages": AIMessage("hi", response_metadata={"model": "m"})},
    "chunk": lambda: {"messages": [AIMessageChunk("hi", id="mine")]},
    "removal of all": lambda: {"messages": [RemoveMessage(REMOVE_ALL_MESSAGES), ("ai", "new")]},
    "Runnable": lambda: RunnableLambda(lambda state: {"value": "made by a Runnable"}),
    "tuples": lambda: {"value": (1, (2, [3, (4,)], {"k": (5,)})), "other": [(1,), [1]]},
    "keys": lambda: {"value": {1: "int", (1, 2): "tuple", "1": "text", None: "none", 2.5: "float"}},
    "order": lambda: {"value": {"b": 1, "a": 2}, "other": OrderedDict(b=1, a=2)},
    "sets": lambda: {"value": {"a", "b"}, "other": frozenset({(1, 2)})},
    "enums": lambda: {"value": [Mood.GLAD, Mood.SAD, Level.LOW, 1], "other": {Mood.GLAD: 1}},
    "numbers": lambda: {"value": [True, 1, 1.0, -0.0, 2**80, 1j, Decimal("1.00"), Fraction(1, 3)]},
    "texts": lambda: {"value": ["", "\ud800", "é", b"x", bytearray(b"y")]},
    "times": lambda: {"value": [datetime(2026, 1, 2, tzinfo=UTC), timedelta(1), UUID(int=7), Path("a/b")]},
    "objects": lambda: {"value": Page(title="t", notes=[Note("n", ("a",))]), "other": Pair(Note("m"), (1,))},
    "containers": lambda: {"value": deque([1], 3), "other": Counter("aab")},
    "documents": lambda: {"value": [Document("text", metadata={"at": 1})]},
    "numpy": lambda: {"value": np.float32(1.5), "other": np.int64(3)},
}


def shape_graph(shape: Callable[[], Any], ran: Ran, schema: Any = Anything) -> Any:
    def node(state: Any) -> Any:
        ran("node")
        return shape()

    def told(name: str) -> Callable[[Any], Any]:
        def told(state: Any) -> Any:
            ran(name)
            return {"done": [(name, state)]}

        return told

    builder = StateGraph(schema)
    builder.add_node("node", node, destinations=("next", "last"))
    builder.add_node("next", told("next"))
    builder.add_node("last", told("last"))
    builder.add_edge(START, "node")
    return builder.compile()


def without_ids(value: Any) -> Any:
    """The same without the ids that messages are given at random."""
    match value:
        case AIMessage() | HumanMessage():
            return type(value), {**value.model_dump(), "id": None}
        case dict():
            return type(value), [(key, without_ids(each)) for key, each in value.items()]
        case list():
            return list, [without_ids(each) for each in value]
        case tuple():
            return type(value), [without_ids(each) for each in value]
        case set() | frozenset():
            return type(value), value
    return type(value), repr(value), value


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_replays_to_the_state_of_a_live_run(shape: str, ran: Ran, ask: Ask):
    def given() -> Any:
        return {"value": "before", "done": ["before"], "messages": [HumanMessage("before", id="first")]}

    bare = shape_graph(SHAPES[shape], ran)
    live = without_ids(ask(bare, given()))
    alone = took(ran)
    graph = musubito_graph(bare)
    assert without_ids(ask(graph, given())) == live
    assert took(ran) == alone
    assert without_ids(ask(graph, given())) == live
    assert took(ran) == {}


@pytest.mark.parametrize("schema", [AnyModel, AnyData])
def test_a_state_object_that_is_given_back(schema: Any, ran: Ran, ask: Ask):
    bare = shape_graph(lambda: schema(value=(1, Mood.SAD), done=["x"]), ran, schema)
    given = {"value": "before", "other": "kept?", "done": ["before"]}
    live = ask(bare, given)
    took(ran)
    graph = musubito_graph(bare)
    for expected in ({"node": 1}, {}):
        again = ask(graph, given)
        assert took(ran) == expected
        assert without_ids(again) == without_ids(live)


def test_arrays(ran: Ran, ask: Ask):
    graph = musubito_graph(shape_graph(lambda: {"value": np.arange(6, dtype="int16").reshape(2, 3)}, ran))
    for expected in ({"node": 1}, {}):
        array = ask(graph, {})["value"]
        assert took(ran) == expected
        assert array.dtype == np.int16
        assert array.tolist() == [[0, 1, 2], [3, 4, 5]]
        array[0, 0] = 7  # nobody else's


# -- what would not survive --------------------------------------------------------------------------------------------
class Closed:
    """Nothing that could be stored."""

    __slots__ = ("inner",)

    def __init__(self) -> None:
        self.inner = threading.Lock()


def generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    "made",
    [threading.Lock, generator, Closed, lambda: ValueError("kept"), lambda: {"deep": [(1, Closed())]}],
    ids=["lock", "generator", "object", "exception", "deep inside"],
)
def test_what_would_not_survive_is_not_replayed(made: Callable[[], Any], ran: Ran, ask: Ask):
    given: list[Any] = []

    class Taken(TypedDict):
        value: Any

    class Asked(TypedDict):
        asked: str

    class State(Taken, Asked):
        done: Annotated[list[str], add]

    class Giver:
        def __musubito_identity__(self) -> str:
            return "gives"

        def __call__(self, state: Asked) -> Any:
            ran("give")
            given.append(made())
            return {"value": given[-1]}

    def after(state: Asked) -> Any:
        ran("after")
        return {"done": ["after"]}

    builder = StateGraph(State)
    builder.add_node("give", Giver(), input_schema=Asked)
    builder.add_node("after", after, input_schema=Asked)
    builder.add_edge(START, "give")
    builder.add_edge("give", "after")
    graph = musubito_graph(builder.compile())
    for expected in ({"give": 1, "after": 1}, {"give": 1}, {"give": 1}):
        with pytest.warns(UserWarning, match="give: its output cannot be stored") as warned:
            state = ask(graph, {"asked": "x"})
        assert len(warned) == 1
        assert state["value"] is given[-1]
        assert took(ran) == expected
