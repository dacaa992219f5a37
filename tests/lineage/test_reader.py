"""Runs, nodes, inputs and what hangs on what, as a reader is told."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from musubito import (
    MusubitoEngine,
    NodeStatus,
    SQLiteStorage,
    musubito_merge,
    musubito_step,
    record_usage,
    run,
    use_musubito_engine,
)
from musubito.lineage import Cost, Lineage, LineageError, Tokens, savings
from musubito.lineage.readers.provenance import provenance
from tests.fresh import fresh
from tests.reference.store import MemoryStore


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[MusubitoEngine]:
    with MusubitoEngine(SQLiteStorage(fresh(tmp_path / "m.db"))) as engine, use_musubito_engine(engine):
        yield engine


@musubito_step(name="fetch")
def fetch(topic: str) -> list[str]:
    record_usage(input_tokens=10, output_tokens=1, model="small")
    return [f"{topic} {number}" for number in range(3)]


@musubito_step(name="write")
def write(facts: Any) -> str:
    record_usage(input_tokens=100, output_tokens=50, model="large")
    return " ".join(facts.value)


@musubito_step(name="report")
def report(topic: str) -> str:
    return write(fetch(topic)).value.upper()


@musubito_step(name="breaks")
def breaks() -> None:
    raise ValueError("no")


def test_a_run_and_its_calls(engine: MusubitoEngine):
    lineage = Lineage(engine)
    with run("first", tags={"who": "me"}):
        assert report("knots").value == "KNOTS 0 KNOTS 1 KNOTS 2"
        with pytest.raises(ValueError):
            breaks()
    with run("second"):
        report("knots")
    second, first = lineage.runs()
    assert (first.name, first.tags, first.status) == ("first", {"who": "me"}, "finished with failures")
    assert (first.calls, first.ran, first.replayed, first.failed) == (4, 3, 0, 1)
    assert first.spent.tokens == second.saved.tokens == {"small": Tokens(10, 1), "large": Tokens(100, 50)}
    assert (second.calls, second.spent.tokens, first.saved) == (1, {}, Cost(wall_ms=0.0))
    assert first.compute_ms >= second.saved_compute_ms > 0
    calls = {call.operation: call for call in lineage.run("first").calls}
    assert [calls[name].parent for name in ("report", "fetch", "write", "breaks")] == [None, 1, 1, None]
    assert [calls[name].outcome for name in ("report", "breaks")] == ["ran", "failed"]
    assert (calls["write"].tokens, calls["report"].tokens) == (150, 0)
    (again,) = lineage.run("second").calls
    assert (again.reason, again.saved_tokens) == ("exact hit", 161)
    assert lineage.run("last") == lineage.run(second.run_id) == lineage.run(second.run_id.upper())


def test_runs_inside_a_run_are_parts_of_it(engine: MusubitoEngine):
    @musubito_step(name="outer")
    def outer() -> int:
        with run("inside a step"):
            fetch("b")
        return 1

    with run("all"):
        fetch("a")
        with run("part"):
            fetch("a")
        outer()
    lineage = Lineage(engine)
    (summary,) = lineage.runs()
    assert (summary.name, summary.calls, summary.ran, summary.replayed) == ("all", 4, 3, 1)
    assert (summary.spent.total_tokens, summary.saved.total_tokens) == (22, 11)
    calls = lineage.run("all").calls
    numbers = {call.operation: call.number for call in calls}
    assert [call.parent for call in calls if call.operation == "fetch"] == [None, None, numbers["outer"]]
    assert lineage.run("part").summary.replayed == 1


def test_calls_outside_of_runs_are_runs_of_their_own(engine: MusubitoEngine):
    fetch("a")
    fetch("a")
    runs = Lineage(engine).runs()
    assert [(each.name, each.calls, each.replayed, each.status) for each in runs] == [
        ("fetch", 1, 1, "finished"),
        ("fetch", 1, 0, "finished"),
    ]
    assert Lineage(engine).runs(1) == runs[:1]
    with pytest.raises(ValueError):
        breaks()
    assert Lineage(engine).runs(1)[0].status == "failed"


def test_a_node_with_all_that_led_to_it_and_came_of_it(engine: MusubitoEngine):
    lineage, result = Lineage(engine), report("knots")
    this = lineage.node(result.node_id[:6])
    assert (this.operation, this.status, this.step_type, this.arguments) == (
        "report",
        NodeStatus.SUCCESS,
        "deterministic",
        ("topic",),
    )
    assert this.execution is not None
    assert this.execution.cost.tokens == {"small": Tokens(10, 1), "large": Tokens(100, 50)}
    assert (lineage.input(this), lineage.output(this)) == ({"topic": "knots"}, "KNOTS 0 KNOTS 1 KNOTS 2")
    above = {(each.node.operation, each.depth, each.kind) for each in lineage.ancestors(this.node_id)}
    assert above == {("fetch", 1, "call"), ("write", 1, "call")}
    source = fetch("knots")
    below = [(each.node.operation, each.depth, each.kind) for each in lineage.descendants(source.node_id)]
    assert below == [("write", 1, "data"), ("report", 1, "call")]
    assert [each.node.operation for each in lineage.ancestors(this.node_id, deepest=0)] == []


def test_a_node_that_was_consumed_and_called_at_the_same_distance_counts_as_called(engine: MusubitoEngine):
    @musubito_step(name="outer")
    def outer() -> int:
        return len(fetch("a").value)

    with musubito_merge(fetch("a")):
        above = outer()
    (relative,) = Lineage(engine).ancestors(above.node_id)
    assert (relative.node.operation, relative.depth, relative.kind) == ("fetch", 1, "call")


def test_the_state_of_nodes(engine: MusubitoEngine):
    lineage = Lineage(engine)
    first = fetch("a")

    def count(text: str) -> int:
        return len(text)

    with musubito_merge(first):
        second = write.__wrapped__ and musubito_step(name="count")(count)(first.value)
    engine.invalidate("fetch")
    assert lineage.node(first.node_id).status is NodeStatus.INVALID
    assert lineage.node(second.node_id).status is NodeStatus.STALE
    with pytest.raises(ValueError):
        breaks()
    (failed,) = [call for call in lineage.run("last").calls if call.operation == "breaks"]
    assert lineage.node(failed.node_id).status is NodeStatus.FAILED
    assert lineage.node(failed.node_id).error == "ValueError: no"


def test_what_is_not_there_is_said(engine: MusubitoEngine):
    lineage = Lineage(engine)
    with pytest.raises(LineageError, match="nothing has run yet"):
        lineage.run("last")
    results = [fetch(str(number)).node_id for number in range(40)]
    first = results[0]
    with pytest.raises(LineageError, match="no call begins with .* 'musubito show last'"):
        lineage.node("0" * 64)
    with pytest.raises(LineageError, match="at least 4 digits"):
        lineage.node(first[:3])
    with pytest.raises(LineageError, match="no run is called 'nightly'"):
        lineage.run("nightly")
    with pytest.raises(LineageError, match="is no call"):
        lineage.node("xyz" * 5)
    assert lineage.node(f" {first.upper()} ").node_id == first
    with pytest.raises(TypeError, match="keeps no lineage"):
        Lineage(MusubitoEngine(MemoryStore()))


def test_what_several_ids_begin_with_is_said(engine: MusubitoEngine):
    lineage = Lineage(engine)
    runs = [each.run_id for each in lineage.runs()]
    for number in range(3):
        fetch(str(number))
    runs = [each.run_id for each in lineage.runs()]
    with pytest.raises(LineageError, match="several runs begin with"):
        lineage.run(runs[0][:12])


def test_results_of_elsewhere_are_external(engine: MusubitoEngine, tmp_path: Path):
    with MusubitoEngine(SQLiteStorage(tmp_path / "other.db")) as other, use_musubito_engine(other):
        elsewhere = fetch("a")
    here = write(elsewhere)
    (parent,) = Lineage(engine).ancestors(here.node_id)
    assert (parent.node.status, parent.node.operation) == (NodeStatus.EXTERNAL, "")


def test_a_name_that_no_store_holds_costs_no_other_lines(engine: MusubitoEngine):
    with run("odd \ud800"):
        fetch("a")
    with run("even"):
        fetch("b")
    assert [each.name for each in Lineage(engine).runs()] == ["even", "odd \\ud800"]


def test_a_lineage_is_opened_where_there_is_one(tmp_path: Path):
    with pytest.raises(LineageError, match="there is no database"):
        Lineage.from_url(f"sqlite:///{tmp_path / 'none.db'}")
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(TypeError, match="takes an engine"):
        Lineage("musubito.db")  # type: ignore[arg-type]
    SQLiteStorage(tmp_path / "m.db").close()
    with Lineage.from_url(f"sqlite:///{tmp_path / 'm.db'}") as lineage:
        assert lineage.runs() == []


def test_a_large_input_is_written_in_pieces(engine: MusubitoEngine):
    @musubito_step(name="search")
    def search(vectors: list[list[float]], texts: list[str]) -> int:
        return len(vectors)

    vectors = [[float(number + place) for place in range(300)] for number in range(600)]
    texts = [f"text {number} " * 10 for number in range(3000)]
    node = search(vectors, texts).node_id
    lineage = Lineage(engine)
    assert lineage.input(lineage.node(node)) == {"vectors": vectors, "texts": texts}
    (count,) = lineage.engine.storage._reader.execute("SELECT count(*) FROM _parts").fetchone()  # type: ignore[attr-defined]
    assert 600 <= count < 700


DIES = """
import os, sys
from musubito import MusubitoEngine, SQLiteStorage, musubito_step, run, use_musubito_engine

@musubito_step(name="step")
def step():
    return 1

engine = MusubitoEngine(SQLiteStorage(sys.argv[1]))
with use_musubito_engine(engine), run("dies"):
    step()
    engine.flush()
    os._exit(1)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="whether a process is there is read from /proc")
def test_a_run_whose_process_is_gone_has_stopped(tmp_path: Path):
    script = tmp_path / "dies.py"
    script.write_text(DIES)
    done = subprocess.run([sys.executable, script, tmp_path / "m.db"], check=False, timeout=60)
    assert done.returncode == 1
    with Lineage.from_url(f"sqlite:///{tmp_path / 'm.db'}") as lineage:
        (run_,) = lineage.runs()
        assert (run_.name, run_.status, run_.finished_at, run_.ran) == ("dies", "stopped", None, 1)


def test_a_call_outside_of_runs_is_found_by_its_operation(engine: MusubitoEngine):
    fetch("a")
    fetch("b")
    lineage = Lineage(engine)
    assert lineage.run("fetch").summary.run_id == lineage.runs()[0].run_id
    assert len(lineage.runs(name="fetch")) == 2


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE _parts SET body = x'78ff'", "a stored input does not decode"),
        ("UPDATE _inputs SET body = x'ff'", "a stored input does not decode"),
        ("DELETE FROM _parts", "no longer stored"),
    ],
)
def test_a_damaged_input_says_so_and_keeps_nothing_else_back(
    engine: MusubitoEngine, tmp_path: Path, damage: str, said: str
):
    node = fetch("topic " * 200).node_id
    engine.flush()
    with closing(sqlite3.connect(tmp_path / "m.db")) as connection, connection:
        assert connection.execute(damage).rowcount == 1
    lineage = Lineage(engine)
    found = provenance(lineage, node)
    assert said in str(found.inputs[0].value)
    assert [each.status for each in lineage.nodes([lineage.number(node)])] == [NodeStatus.SUCCESS]


def test_parts_that_come_back_to_themselves_come_to_an_end(engine: MusubitoEngine, tmp_path: Path):
    @musubito_step(name="chat")
    def chat(messages: list[str]) -> int:
        return len(messages)

    node = chat([f"message {number} " * 90 for number in range(60)]).node_id
    chat([f"message {number} " * 90 for number in range(61)])
    engine.flush()
    with closing(sqlite3.connect(tmp_path / "m.db")) as connection, connection:
        connection.execute("UPDATE _parts SET before = (SELECT digest FROM _parts WHERE items = 60) WHERE items = 60")
    lineage = Lineage(engine)
    # What lacks its beginning would be another list.
    assert lineage.input(lineage.node(node))["messages"] == {"$type": "...", "value": "no longer stored"}


def test_a_list_whose_beginning_is_gone_is_not_shown_as_a_shorter_one(engine: MusubitoEngine, tmp_path: Path):
    @musubito_step(name="chat")
    def chat(messages: list[str]) -> int:
        return len(messages)

    messages = [f"message {number} " * 90 for number in range(61)]
    chat(messages[:60])
    node = chat(messages).node_id
    engine.flush()
    with closing(sqlite3.connect(tmp_path / "m.db")) as connection, connection:
        connection.execute("DELETE FROM _parts WHERE items = 60")
    lineage = Lineage(engine)
    assert lineage.input(lineage.node(node))["messages"] == {"$type": "...", "value": "no longer stored"}


def test_runs_of_a_name_are_found_however_many_others_there_are(engine: MusubitoEngine):
    write(fetch("first"))
    for topic in range(5):
        fetch(topic)
    assert [each.name for each in Lineage(engine).runs(3, name="write")] == ["write"]


def test_tokens_of_what_is_no_longer_stored(engine: MusubitoEngine, tmp_path: Path):
    @musubito_step(name="asks")
    def asks(x: int) -> int:
        record_usage(input_tokens=x, output_tokens=0, model="m")
        return x

    with run("long"):
        asks(1000)
        asks(7)
        asks(1000)
    engine.flush()
    with closing(sqlite3.connect(tmp_path / "m.db")) as connection, connection:
        connection.execute("DELETE FROM _usage WHERE input_tokens = 1000")
    lineage = Lineage(engine)
    summary, total = lineage.run("long").summary, savings(lineage).total
    assert summary.spent.tokens == {"": Tokens(1000, 0), "m": Tokens(7, 0)}
    assert (summary.spent.tokens, summary.saved.tokens) == (total.spent.tokens, total.saved.tokens)


def test_the_calls_of_a_run_in_pages(engine: MusubitoEngine):
    @musubito_step(name="outer")
    def outer(topic: str) -> str:
        with run("part"):
            fetch(topic)
        return write(fetch(topic)).value

    with run("long"):
        fetch("a")
        for topic in ("b", "c", "b"):
            outer(topic)
        with pytest.raises(ValueError, match="no"):
            breaks()
        fetch("d")
    lineage = Lineage(engine)
    whole = lineage.run("long")
    assert [call.number for call in whole.calls] == list(range(1, len(whole.calls) + 1))
    assert len({call.parent for call in whole.calls}) > 2
    for size in range(1, len(whole.calls) + 2):
        for replayed in (True, False):
            calls = [call for call in whole.calls if replayed or call.outcome != "replayed"]
            after, pages = 0, []
            while page := lineage.run("long", after=after, limit=size, replayed=replayed):
                assert page.summary == whole.summary
                if not page.calls:
                    break
                assert len(page.calls) <= size
                pages += page.calls
                after = page.calls[-1].number
            assert pages == calls
    assert whole.outcomes == {"ran": 8, "replayed": 3, "failed": 1}
    assert lineage.run("long", limit=2).outcomes == lineage.run("long", replayed=False).outcomes == whole.outcomes
