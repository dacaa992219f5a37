"""`musubito rerun`: each kind of target, each way to choose runs, and the parts of an input that are given anew."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
from typing import Any, TypedDict
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from musubito import musubito_step
from musubito_langgraph import musubito_graph, musubito_runnable

class State(TypedDict, total=False):
    text: str

class Client:  # no data, so that no run stores it
    def __init__(self, name): self.name = name
    def __musubito_identity__(self): return self.name

def answer(state: State) -> State:
    return {"text": f"Dear {state['text']}"}

def made(ending: str = "") -> Any:
    return StateGraph(State).add_node("answer", answer).add_edge(START, "answer").compile(name="made" + ending)

def of_context(state: State, runtime: Runtime[Any]) -> State:
    return {"text": f"Dear {runtime.context['client']} {state['text']}"}

def of_config(state: State, config: RunnableConfig) -> State:
    return {"text": f"Dear {config['configurable']['client']} {state['text']}"}

def of(node, **options: Any) -> Any:
    builder = StateGraph(State, **options).add_node("answer", node).add_edge(START, "answer")
    return musubito_graph(builder.compile(name=node.__name__))

graph = musubito_graph(made())
compiled = made()
context = of(of_context, context_schema=dict)
config = of(of_config)

@musubito_runnable
def chain(given: str) -> str:
    return f"Dear {given}"

@musubito_step
def step(name: str) -> str:
    return f"Dear {name}"

if __name__ == "__main__":
    for name in ("Ann", "Bob"):
        config_of = {"configurable": {"thread_id": name, "user_id": name.lower()}}
        graph.invoke({"text": name}, config_of)
        made_b = musubito_graph(made("_b"))
        made_b.invoke({"text": name}, config_of)
        chain.invoke(name)
        step(name)
        context.invoke({"text": name}, context={"client": Client("x")})
        config.invoke({"text": name}, {"configurable": {"client": Client("x")}})
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("options")
    (folder / "app.py").write_text(PROGRAM)
    done = subprocess.run([sys.executable, "app.py"], cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (folder / "app.py").write_text(PROGRAM.replace("Dear", "Hello"))
    (folder / "given.json").write_text('{"client": "y"}')
    (folder / "config.json").write_text('{"configurable": {"client": "y"}}')
    return folder


def rerun(folder: Path, *arguments: str, status: int = 0) -> Any:
    command = [sys.executable, "-m", "musubito", "rerun", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout) if status == 0 else done.stderr


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (("app:graph",), "made"),
        (("app.py:compiled",), "made"),
        (("app:made",), "made"),
        (("app:made", "--call", '["_b"]'), "made_b"),
        (("app:chain",), "app.chain"),
        (("app:step",), "app.step"),
    ],
)
def test_a_graph_a_factory_a_runnable_and_a_step_are_rerun(folder: Path, target: tuple[str, ...], name: str) -> None:
    document = rerun(folder, *target)
    assert (document["target"], document["counts"]) == (name, {"differs": 2})
    answers = [row["after"] if isinstance(row["after"], str) else row["after"]["text"] for row in document["rows"]]
    assert answers == ["Hello Ann", "Hello Bob"]


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (("--last", "1"), ["Bob"]),
        (("--where", "Ann"), ["Ann"]),
        (("--where", '$.text="Bob"'), ["Bob"]),
        (("--tag", "user=ann"), ["Ann"]),
        (("--tag", "thread=Bob"), ["Bob"]),
        (("--since", "1h"), ["Ann", "Bob"]),
        (("--since", "1h", "--last", "1"), ["Bob"]),
    ],
)
def test_runs_are_chosen(folder: Path, options: tuple[str, ...], asked: list[str]) -> None:
    assert [row["question"] for row in rerun(folder, "app:graph", *options)["rows"]] == asked


def test_runs_are_chosen_by_their_ids_and_by_their_age(folder: Path) -> None:
    rows = rerun(folder, "app:graph")["rows"]
    (run,) = rows[0]["run_ids"]
    assert [row["run_ids"] for row in rerun(folder, "app:graph", "--run", run)["rows"]] == [[run]]
    assert "no run of made was recorded that is like that" in rerun(folder, "app:graph", "--since", "0s", status=2)


@pytest.mark.parametrize("part", ["context", "config"])
def test_what_was_not_stored_is_named_and_given_in_a_file(folder: Path, part: str) -> None:
    document = rerun(folder, f"app:{part}")
    assert document["counts"] == {"not rerun": 2}
    assert "is not stored: it has no encoding" in document["rows"][0]["why"]
    file = "given.json" if part == "context" else "config.json"
    rows = rerun(folder, f"app:{part}", f"--{part}", file)["rows"]
    assert [row["after"]["text"] for row in rows] == ["Hello y Ann", "Hello y Bob"]
