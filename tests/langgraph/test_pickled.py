"""Wrapped graphs and Runnables that cloudpickle has brought to another process, as Dask, Ray and Spark do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypedDict

import cloudpickle
import pytest
from langgraph.graph import START, StateGraph

import musubito
from musubito import run
from musubito_langgraph import musubito_graph, musubito_plan
from tests import launcher

LIBRARY = str(Path(musubito.__file__).parents[1])
SENDER = '''
import asyncio
import sys
import time
from pathlib import Path
from typing import TypedDict

import cloudpickle
from langchain_core.runnables import RunnableLambda
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Send

from musubito import MusubitoEngine, StepConfiguration, musubito_step
from musubito_langgraph import musubito_graph, musubito_runnable

RATE = 3


class State(TypedDict, total=False):
    a: int
    b: int
    c: list


def scaled(number: int) -> int:
    """Sets of texts are kept in another order in each process."""
    return number * RATE if str(number) not in {"seven", "eight", "nine", "ten"} else 0


def first(state: State) -> State:
    print("first")
    time.sleep(0)
    return {"b": scaled(state["a"])}


def second(state: State) -> State:
    print("second")
    return {"c": [state["b"]]}


def router(state: State) -> str:
    print("router")
    return "second"


def graph(engine):
    inner = StateGraph(State).add_node("second", second).add_edge(START, "second").compile(name="inner")
    builder = StateGraph(State).add_node("first", first).add_node("second", inner).add_edge(START, "first")
    return musubito_graph(builder.add_conditional_edges("first", router, ["second"]).compile(name="g"), engine=engine)


def offset(number):
    @musubito_step
    def plus(x):
        print("plus")
        return x + number + RATE

    return plus


@task
def squared(number: int) -> int:
    print("squared")
    return number * number


@entrypoint()
def flow(number: int) -> int:
    return squared(number).result() + 1


def ask(graph, runnable, plus, flow):
    print(graph.invoke({"a": 1}), asyncio.run(graph.ainvoke({"a": 1})), runnable.invoke(2), plus(1).value, flow.invoke(4))


if __name__ == "__main__":
    engine = MusubitoEngine.from_url(sys.argv[1])
    things = (
        graph(engine),
        musubito_runnable(RunnableLambda(lambda x: print("lambda") or x * RATE), engine=engine),
        offset(2),
        musubito_graph(flow, engine=engine),
    )
    Path(sys.argv[2]).write_bytes(cloudpickle.dumps((ask, things)))
    if sys.argv[3:]:
        ask(*things)
    engine.close()
'''
STATES = """
import sys
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TypedDict

import cloudpickle
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from pydantic import BaseModel, field_validator

from musubito import MusubitoEngine
from musubito_langgraph import musubito_graph


def twice(text):
    return text * 2


class Tone(Enum):
    LOUD = "!"

    def of(self, text):
        return text + self.value


@dataclass
class Fact:
    text: str
    tone: Tone = Tone.LOUD

    def told(self):
        return self.tone.of(twice(self.text))


@dataclass
class Data:
    topic: str = ""
    facts: list[Fact] = field(default_factory=list)

    def told(self):
        return twice(self.topic)


class Model(BaseModel):
    topic: str = ""
    facts: list[Fact] = []

    @field_validator("topic")
    @classmethod
    def stripped(cls, value):
        return value.strip()

    def told(self):
        return twice(self.topic)


class Typed(TypedDict, total=False):
    topic: str
    facts: list[Fact]


class Outer:
    @dataclass
    class Nested:
        topic: str = ""
        facts: list[Fact] = field(default_factory=list)

        def told(self):
            return twice(self.topic)


@dataclass
class Context:
    tone: Tone = Tone.LOUD

    def of(self, text):
        return self.tone.of(text)


class Opaque:
    def __init__(self):
        self.tone = Tone.LOUD
        self.made = twice

    def of(self, text):
        return self.tone.of(self.made(text))


def research(state):
    print("research")
    return {"facts": [Fact(state["topic"] if isinstance(state, dict) else state.told())]}


def write(state, runtime: Runtime[Context]):
    print("write")
    facts = state["facts"] if isinstance(state, dict) else state.facts
    return {"topic": runtime.context.of("".join(fact.told() for fact in facts))}


def graph(schema, engine):
    builder = StateGraph(schema, context_schema=Context).add_sequence([("research", research), ("write", write)])
    return musubito_graph(builder.add_edge(START, "research").compile(name=schema.__name__), engine=engine)


def ask(*graphs):
    for graph in graphs:
        print(*(graph.invoke({"topic": "ab"}, context=each)["topic"] for each in (Context(), Opaque())))


if __name__ == "__main__":
    engine = MusubitoEngine.from_url(sys.argv[1])
    graphs = [graph(schema, engine) for schema in (Data, Model, Typed, Outer.Nested)]
    Path(sys.argv[2]).write_bytes(cloudpickle.dumps((ask, graphs)))
    if sys.argv[3:]:
        ask(*graphs)
        cloudpickle.loads(Path(sys.argv[2]).read_bytes())  # as by a scheduler that runs here
        ask(*graphs)
    engine.close()
"""
RECEIVER = """
import pickle
import sys

with open(sys.argv[1], "rb") as file:
    ask, things = pickle.load(file)
ask(*things)
"""
RAN = ["first", "router", "second", "lambda", "plus", "squared"]
ANSWER = "{'a': 1, 'b': 3, 'c': [3]} {'a': 1, 'b': 3, 'c': [3]} 6 6 17"


def ran(folder: Path, program: str, *args: str) -> list[str]:
    (folder / "program.py").write_text(program)
    # Each kind of process keeps sets of texts in an order of its own.
    seed = {SENDER: "1", RECEIVER: "2"}.get(program, "3")
    environment = {
        **os.environ,
        "PYTHONPATH": LIBRARY,
        "PYTHONHASHSEED": seed,
        "MUSUBITO_URL": f"sqlite:///{folder}/m.db",
    }
    done = launcher.run(
        folder / "program.py", *args, folder=folder, environment=environment, imports="musubito_langgraph"
    )
    assert done.returncode == 0, done.stderr
    (folder / "program.py").unlink()
    return done.stdout.splitlines()


def test_functions_of_a_script_are_the_same_where_the_script_is_not(tmp_path: Path) -> None:
    assert ran(tmp_path, SENDER, f"sqlite:///{tmp_path}/m.db", "sent") == []
    assert ran(tmp_path, RECEIVER, "sent") == [*RAN, ANSWER]
    assert ran(tmp_path, RECEIVER, "sent") == [ANSWER]
    assert ran(tmp_path, SENDER, f"sqlite:///{tmp_path}/m.db", "again", "here too") == [ANSWER]
    assert ran(tmp_path, RECEIVER, "again") == [ANSWER]


def test_an_edit_is_seen_where_the_script_is_not(tmp_path: Path) -> None:
    for text, answer in ((SENDER, ANSWER), (SENDER.replace("RATE = 3", "RATE = 4"), None), (SENDER, ANSWER)):
        ran(tmp_path, text, f"sqlite:///{tmp_path}/m.db", "sent")
        lines = ran(tmp_path, RECEIVER, "sent")
        assert (lines[-1] == ANSWER) == (answer == ANSWER)
    assert lines == [ANSWER]


TOLD = ["abababab!! abababab!abababab!!"] * 2 + ["abab!! abab!abab!!"] + ["abababab!! abababab!abababab!!"]


def test_states_and_contexts_of_a_script_are_the_same_where_the_script_is_not(tmp_path: Path) -> None:
    ran(tmp_path, STATES, f"sqlite:///{tmp_path}/m.db", "sent")
    lines = ran(tmp_path, RECEIVER, "sent")
    assert lines == [line for told in TOLD for line in (*("research", "write") * 2, told)]
    assert ran(tmp_path, STATES, f"sqlite:///{tmp_path}/m.db", "again", "here too") == [*TOLD, *TOLD]
    edited = STATES.replace("self.tone.of(twice(self.text))", "self.tone.of(self.text)")
    ran(tmp_path, edited, f"sqlite:///{tmp_path}/m.db", "edited")
    assert "abab!! abab!abab!!" in ran(tmp_path, RECEIVER, "edited")
    assert ran(tmp_path, RECEIVER, "again") == TOLD


class Said(TypedDict, total=False):
    text: str


def louder(state: Said) -> Said:
    return {"text": state["text"] + "!"}


def sent(thing: Any) -> Any:
    return cloudpickle.loads(cloudpickle.dumps(thing))


@pytest.mark.usefixtures("engine")
def test_a_bare_graph_that_was_sent_has_the_steps_of_the_graph() -> None:
    inner = StateGraph(Said).add_node("louder", louder).add_edge(START, "louder").compile(name="inner")
    bare = StateGraph(Said).add_node("inner", inner).add_edge(START, "inner").compile(name="g")
    for graph, outcome in ((musubito_graph(bare), "ran"), (musubito_graph(sent(bare)), "replayed")):
        with run("asked") as record:
            assert graph.invoke({"text": "a"}) == {"text": "a!"}
        assert [(call.operation, call.outcome) for call in record.calls] == [("g/inner/louder", outcome)]
        assert {line.operation: line.outcome for line in musubito_plan(graph, {"text": "a"}).lines} == {
            "g/inner/louder": "would replay"
        }


def test_a_wrapped_graph_that_was_sent_tells_its_plan(tmp_path: Path) -> None:
    with musubito.MusubitoEngine.from_url(f"sqlite:///{tmp_path}/m.db") as engine:
        bare = StateGraph(Said).add_node("louder", louder).add_edge(START, "louder").compile(name="g")
        graph = sent(musubito_graph(bare, engine=engine))
        assert [line.outcome for line in graph.explain({"text": "a"}).lines] == ["would run"]
        graph.invoke({"text": "a"})
        assert [line.outcome for line in graph.explain({"text": "a"}).lines] == ["would replay"]
