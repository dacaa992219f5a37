"""A graph that a node calls is the same where its module is the script and where it is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import musubito

PROGRAM = """
from typing import TypedDict

from langgraph.graph import START, StateGraph

from musubito_langgraph import musubito_graph


class State(TypedDict, total=False):
    question: str
    answer: str


def inner(state: State) -> State:
    print("inner runs")
    return {"answer": state["question"] + "!"}


sub = musubito_graph(StateGraph(State).add_node(inner).add_edge(START, "inner").compile(name="sub"))


def outer(state: State) -> State:
    print("outer runs")
    return {"answer": sub.invoke({"question": state["question"]})["answer"] + "?"}


graph = musubito_graph(StateGraph(State).add_node(outer).add_edge(START, "outer").compile(name="top"))
if __name__ == "__main__":
    print(graph.invoke({"question": "why"})["answer"])
"""
SCRIPT = ["program.py"]
IMPORTED = ["-c", "import program; print(program.graph.invoke({'question': 'why'})['answer'])"]


@pytest.mark.parametrize("commands", [(SCRIPT, IMPORTED), (IMPORTED, SCRIPT)], ids=["script first", "import first"])
def test_a_wrapped_graph_that_a_node_calls(tmp_path: Path, commands: tuple[list[str], list[str]]) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    library = str(Path(musubito.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": library, "MUSUBITO_URL": f"sqlite:///{tmp_path}/musubito.db"}
    printed = [
        subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        ).stdout.split("\n")[:-1]
        for command in commands
    ]
    assert printed == [["outer runs", "inner runs", "why!?"], ["why!?"]]
