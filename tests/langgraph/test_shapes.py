"""The shape of a graph is stored with its runs as LangGraph draws it, once, and goes with the last of them."""

from __future__ import annotations

import time
from typing import Any, TypedDict

import cloudpickle
import pytest
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.pregel import Pregel
from langgraph.pregel.remote import RemoteGraph

from musubito import MusubitoEngine
from musubito.lineage import Lineage
from musubito.lineage.readers.folded_graph import GraphShape, shape_of_run
from musubito.lineage.removal.prune import prune
from musubito_langgraph import musubito_graph
from tests.server import drop_database, new_store


class State(TypedDict, total=False):
    n: int


def add(state: State) -> State:
    return {"n": state["n"] + 1}


def compiled(name: str, **nodes: Any) -> Any:
    builder = StateGraph(State).add_sequence(list(nodes.items()))
    return builder.add_edge(START, next(iter(nodes))).compile(name=name)


def newest(engine: MusubitoEngine) -> GraphShape | None:
    engine.flush()
    lineage = Lineage(engine)
    return shape_of_run(lineage, lineage.runs(1)[0].run_id)


def steps(engine: MusubitoEngine) -> list[str | None]:
    shape = newest(engine)
    assert shape is not None
    return [step for _, step in shape.nodes]


def stored(engine: MusubitoEngine) -> int:
    return len(Lineage(engine).rows("shapes_after", after=b"", limit=9))


def test_a_graph_is_drawn_once_however_often_it_is_invoked(engine, monkeypatch) -> None:
    drawings, draw = [], Pregel.get_graph
    monkeypatch.setattr(Pregel, "get_graph", lambda *args, **kwargs: drawings.append(1) or draw(*args, **kwargs))
    graph = musubito_graph(compiled("g", add=add))
    assert drawings == []
    for n in range(3):
        graph.invoke({"n": n})
        assert steps(engine) == [None, "g/add", None]
    assert (len(drawings), stored(engine)) == (1, 1)


def test_a_graph_that_is_sent_to_another_process_takes_its_shape_along(engine) -> None:
    graph = cloudpickle.loads(cloudpickle.dumps(musubito_graph(compiled("g", add=add))))
    graph.invoke({"n": 1})
    assert steps(engine) == [None, "g/add", None]


def test_a_node_whose_function_invokes_a_graph_is_one_node(engine) -> None:
    inner = compiled("inner", add=add)
    musubito_graph(compiled("g", calls=lambda state: inner.invoke({**state}))).invoke({"n": 1})
    assert steps(engine) == [None, "g/calls", None]


def test_the_steps_of_a_subgraph_that_was_wrapped_by_itself_have_its_name(engine) -> None:
    musubito_graph(compiled("g", sub=musubito_graph(compiled("own", add=add, too=add)))).invoke({"n": 1})
    assert {"own/add", "own/too"} <= {*steps(engine)}


def test_a_graph_that_runs_elsewhere_is_not_asked_for_its_drawing(engine, monkeypatch) -> None:
    remote = RemoteGraph("agent", url="http://127.0.0.1:9")
    monkeypatch.setattr(RemoteGraph, "invoke", lambda _, value, *__, **___: value)
    musubito_graph(compiled("g", add=add, away=remote)).invoke({"n": 1})
    assert steps(engine) == [None, "g/add", "g/away", None]


def test_an_entrypoint_has_no_shape_since_its_tasks_are_known_only_when_they_are_called(engine) -> None:
    @task
    def double(n: int) -> int:
        return 2 * n

    @entrypoint()
    def work(n: int) -> int:
        return double(n).result()

    musubito_graph(work).invoke(2)
    assert newest(engine) is None


@pytest.mark.parametrize("server", ["sqlite", "postgresql"])
def test_a_prune_removes_the_shape_with_the_last_run_of_its_graph(server, tmp_path) -> None:
    url = f"sqlite:///{tmp_path}/m.db" if server == "sqlite" else new_store()
    with MusubitoEngine.from_url(url) as engine:
        for name in ("old", "new"):
            musubito_graph(compiled(name, add=add), engine=engine).invoke({"n": 1})
            engine.flush()
            between = time.time()
            if name == "old":
                until = between
        assert stored(engine) == 2
        prune(Lineage(engine), until)
        assert (stored(engine), steps(engine)) == (1, [None, "new/add", None])
        prune(Lineage(engine), time.time() + 1)
        assert stored(engine) == 0
    if server != "sqlite":
        drop_database(url)
