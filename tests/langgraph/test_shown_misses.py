"""A call that is not replayed is the last thing on the screen, and no frame of another package hides it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FLOW = """
import asyncio
from typing import TypedDict

from langgraph.graph import START, StateGraph
from musubito_langgraph import musubito_graph


class State(TypedDict, total=False):
    topic: str


def write(state: State) -> State:
    return {"topic": state["topic"] + "!"}


graph = musubito_graph(StateGraph(State).add_node(write).add_edge(START, "write").compile(name="report"))
"""
CALLS = ["graph.invoke({'topic': 'knots'})", "asyncio.run(graph.ainvoke({'topic': 'knots'}))"]


@pytest.mark.parametrize("command", [["-m", "musubito", "run", "--mode", "replay_only"], []])
@pytest.mark.parametrize("call", CALLS)
def test_in_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], call: str) -> None:
    (tmp_path / "flow.py").write_text(FLOW + call + "\n")
    monkeypatch.setenv("MUSUBITO_MODE", "replay_only")
    result = subprocess.run(
        [sys.executable, *command, "flow.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    trace, _, summary = result.stderr.partition("\n\n")
    assert trace.splitlines()[-1].startswith("musubito.NotReplayed: report/write: not recorded yet (mode replay_only)")
    assert [line.split('"')[1] for line in trace.splitlines() if line.startswith("  File ")] == [
        str(tmp_path / "flow.py")
    ]
    assert bool(summary) is bool(command)


def test_in_a_recorded_test(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(FLOW)
    (tmp_path / "test_flow.py").write_text(
        "import asyncio\nimport pytest\nfrom flow import graph\n\n\n@pytest.mark.musubito\ndef test_it():\n"
        f"    {CALLS[1]}\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "--musubito=replay", "test_flow.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "report/write was not replayed: not recorded yet" in result.stdout
    assert "site-packages" not in result.stdout
    assert "During task" not in result.stdout
