"""A script's graph is the same one in the children that multiprocessing starts anew."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import musubito

LIBRARY = str(Path(musubito.__file__).parents[1])
PROGRAM = """
from __future__ import annotations

import json
import multiprocessing
import sys
from dataclasses import dataclass
from typing import TypedDict

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph

from musubito import StepConfiguration, StepType
from musubito_langgraph import musubito_graph, musubito_runnable


def noted(what):
    with open("ran", "a") as file:
        print(what, file=file)


@dataclass
class Note:
    text: str
    said: object = None


class Held:
    def __init__(self):
        self.number = 4


class Refused(Exception):
    pass


def chosen(x):
    return x


class State(TypedDict, total=False):
    note: Note
    rate: int


@musubito_runnable
def asked(text):
    noted("asked")
    return text * 2


class Agent:
    def __init__(self, rate):
        self.rate = rate

    def __call__(self, state: State, config: RunnableConfig):
        noted("agent")
        return {"note": Note(asked.invoke(state["note"].text)), "rate": self.rate}


def paid(state: State):
    noted("paid")
    return {"note": Note(state["note"].text, state["rate"])}


def built():
    graph = StateGraph(State)
    graph.add_node("agent", Agent(3))
    graph.add_node("paid", paid)
    graph.add_edge(START, "agent")
    graph.add_conditional_edges("agent", lambda state: "paid" if state["rate"] > 1 else END)
    graph.add_edge("paid", END)
    effect = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT)
    return musubito_graph(graph, steps={"paid": effect}).compile()


def calls(_=None):
    held = {"configurable": {"held": [Held(), chosen, Held, Refused("why"), Refused]}}
    state = built().invoke({"note": Note("a")}, held)
    assert type(state["note"]) is Note
    return repr([state["note"], state["rate"], asked.invoke("b")])


def child():
    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
        return pool.map(calls, [None])[0]


if __name__ == "__main__":
    print(json.dumps([each() for each in ((calls, child) if sys.argv[2] == "parent" else (child, calls))]))
"""


@pytest.mark.parametrize(("method", "first"), [("spawn", "child"), ("forkserver", "parent")])
def test_the_nodes_of_a_script_s_graph_are_replayed_in_its_children(tmp_path: Path, method: str, first: str) -> None:
    (tmp_path / "flow.py").write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": LIBRARY}

    done = subprocess.run(
        [sys.executable, "flow.py", method, first],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        cwd=tmp_path,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    one, other = json.loads(done.stdout.splitlines()[-1])
    assert one == other
    assert sorted((tmp_path / "ran").read_text().split()) == ["agent", "asked", "asked", "paid"]
