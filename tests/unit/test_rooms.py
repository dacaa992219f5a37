"""The structure that a reader meets: the modules that one call passes through, and that no imports lead in a circle.

The numbers may only go down: whoever makes one smaller, writes the smaller one here.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import FrameType
from typing import Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph

import musubito
from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine
from musubito_langgraph import musubito_graph

SRC = Path(musubito.__file__).parents[1]
FILES = {path: ".".join(path.relative_to(SRC).with_suffix("").parts) for path in SRC.rglob("*.py")}
MODULES = {name.removesuffix(".__init__") for name in FILES.values()}


def passed_through(call: Callable[[], object]) -> int:
    """Return the number of modules of which functions run in a call."""
    seen: set[str] = set()

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(SRC)):
            seen.add(frame.f_code.co_filename)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(before)
    return len(seen)


@musubito_step
def double(number: int) -> int:
    return 2 * number


class State(TypedDict):
    number: int


def triple(state: State) -> State:
    return {"number": 3 * state["number"]}


def test_a_call_of_a_step_passes_through_few_modules(tmp_path: Path) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / "db")) as engine, use_musubito_engine(engine):
        double(1)
        double(1)
        assert passed_through(lambda: double(2)) <= 54
        assert passed_through(lambda: double(2)) <= 29


def test_a_call_of_a_node_passes_through_few_modules(tmp_path: Path) -> None:
    graph = musubito_graph(StateGraph(State).add_node("triple", triple).add_edge(START, "triple").compile())
    with MusubitoEngine(SQLiteStorage(tmp_path / "db")) as engine, use_musubito_engine(engine):
        graph.invoke({"number": 1})
        graph.invoke({"number": 1})
        assert passed_through(lambda: graph.invoke({"number": 2})) <= 95
        assert passed_through(lambda: graph.invoke({"number": 2})) <= 62


def imported(path: Path) -> Iterator[str]:
    """Yield the modules that a module imports when it is itself imported."""
    ahead: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while ahead:
        node = ahead.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                full = {f"{module}.{alias.name}" for alias in names}
                yield from full & MODULES or {module}
        ahead += ast.iter_child_nodes(node)


def test_no_imports_lead_in_a_circle() -> None:
    imports = {name.removesuffix(".__init__"): MODULES.intersection(imported(path)) for path, name in FILES.items()}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
