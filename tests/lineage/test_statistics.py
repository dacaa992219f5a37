"""What there is, and how each operation did."""

from __future__ import annotations

import random
import sqlite3

import pytest

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, record_usage, run, use_musubito_engine
from musubito.lineage import Lineage
from musubito.lineage.readers.store_stats import StoredSize, statistics


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.db"


@pytest.fixture
def engine(path):
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        yield engine


@musubito_step(name="ask")
def ask(question: str) -> str:
    record_usage(input_tokens=100, output_tokens=10, model="gpt-4o")
    return question


@musubito_step(name="report")
def report(question: str) -> str:
    record_usage(input_tokens=1, output_tokens=0, model="mine")
    return ask(question).value


@musubito_step(name="breaks")
def breaks(x: int) -> None:
    raise ValueError(x)


@musubito_step(name="long")
def long(n: int) -> str:
    return "x" * n


def test_counts(engine):
    with run("outer"):
        report("why?")
        with run("inner"):
            report("how?")
    report("why?")
    with pytest.raises(ValueError):
        breaks(1)
    found = statistics(Lineage(engine))
    assert (found.nodes, found.executions, found.failed) == (5, 5, 1)
    assert (found.runs, found.calls) == (3, 6)
    assert (found.inputs.count, found.parts) == (5, StoredSize(0, 0))
    assert found.code.count > 0 < found.code.bytes


def test_a_small_artifact_counts_with_each_execution_and_a_large_one_once(engine, path):
    for name in ("one", "other"):
        noise = musubito_step(name=name)(lambda n: random.Random(n).randbytes(n))
        for size in (10, 20_000):
            noise(size)
            noise(size)
    found = statistics(Lineage(engine)).artifacts
    with sqlite3.connect(path) as database:
        (small,) = database.execute("SELECT sum(length(payload)) FROM _executions").fetchone()
        (large,) = database.execute("SELECT sum(length(payload)) FROM _artifacts").fetchone()
    database.close()
    assert (found.count, found.bytes) == (2 + 1, small + large)


def test_operations(engine):
    report("why?")
    report("why?")
    report("how?")
    for _ in range(2):
        with pytest.raises(ValueError):
            breaks(1)
    rows = {each.operation: each for each in statistics(Lineage(engine)).operations}
    assert {name: (each.executions, each.failed, each.calls, each.replays) for name, each in rows.items()} == {
        "report": (2, 0, 3, 1),
        "ask": (2, 0, 2, 0),
        "breaks": (2, 2, 2, 0),
    }
    assert (rows["report"].hit_rate, rows["ask"].hit_rate) == (pytest.approx(1 / 3), 0.0)
    # Its own tokens, not those of what it called.
    assert {name: each.spent.total_tokens for name, each in rows.items()} == {"report": 2, "ask": 220, "breaks": 0}
    assert rows["ask"].spent_dollars > 0
    assert (rows["report"].spent_dollars, rows["breaks"].mean_ms, rows["breaks"].last_ms) == (None, None, None)
    durations = [
        call.wall_ms
        for each in Lineage(engine).runs()
        for call in Lineage(engine).run(each.run_id).calls
        if (call.operation, call.outcome) == ("report", "ran")
    ]
    assert rows["report"].mean_ms == pytest.approx(sum(durations) / 2)
    assert rows["report"].last_ms == pytest.approx(durations[0])  # the newest run comes first


def test_namespaces_are_told_apart(path):
    for namespace in ("one", "two"):
        with MusubitoEngine(SQLiteStorage(path), namespace=namespace) as engine, use_musubito_engine(engine):
            ask("why?")
            found = statistics(Lineage(engine))
    assert [(each.namespace, each.operation, each.executions) for each in found.operations] == [
        ("one", "ask", 1),
        ("two", "ask", 1),
    ]
    assert found.artifacts.count == 2


def test_an_empty_store(engine):
    found = statistics(Lineage(engine))
    assert (found.nodes, found.artifacts, found.operations) == (0, StoredSize(0, 0), ())
