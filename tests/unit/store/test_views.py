"""What is recorded can be read by hand, under the names that are promised."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import threading
import time
from contextlib import closing

import pytest

from musubito import (
    MusubitoEngine,
    NodeStatus,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    musubito_step,
    record_usage,
    run,
    use_musubito_engine,
)
from musubito.engine import maintenance

PROMISED = {
    "artifacts": "namespace artifact_id codec payload size created_at",
    "executions": "execution_id node_id reuse_key cross_key sample outcome started_at duration_ms artifact_id error"
    " valid_until replayable invalid tokens code_id input_artifact_id",
    "uses": "execution_id called_execution_id asked_reuse_key",
    "nodes": "node_id namespace operation_name code_fingerprint input_hash step_type arguments execution_id"
    " status executed_at duration_ms output_artifact_id producer_node_id error",
    "edges": "parent_node_id child_node_id kind artifact_id",
    "runs": "run_id name tags started_at finished_at status",
    "calls": "run_id call_id node_id execution_id outcome reason at duration_ms compute_ms saved_compute_ms",
    "reads": "execution_id kind key digest",
    "code": "code_id part digest source",
    "effects": "effect_key execution_id attempt intent_at outcome outcome_at artifact_id",
    "state_places": "namespace operation_name code part",
    "leases": "key owner host pid started_at expires_at",
}


class Rows:
    def __init__(self, path):
        self.path = path

    def __call__(self, query: str, *parameters: object) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(query, parameters).fetchall()

    def status(self, operation: str) -> list[object]:
        query = "SELECT status FROM nodes WHERE operation_name LIKE ? ORDER BY rowid"
        return [row[0] for row in self(query.replace(" ORDER BY rowid", ""), f"%{operation}")]


@pytest.fixture
def engine(tmp_path):
    with MusubitoEngine(SQLiteStorage(tmp_path / "musubito.db")) as engine, use_musubito_engine(engine):
        yield engine


@pytest.fixture
def rows(engine):
    return Rows(engine.storage.db_path)


@musubito_step()
def first(n):
    return [n]


@musubito_step()
def second(result):
    return sum(result.value)


def test_the_promised_columns_are_there(rows):
    for view, columns in PROMISED.items():
        have = [row[1] for row in rows(f"PRAGMA table_info({view})")]
        assert set(columns.split()) <= set(have), view


def test_the_shell_reads_them(engine, rows):
    if shutil.which("sqlite3") is None:
        pytest.skip("the sqlite3 shell is not installed")
    result = first(1)
    for view in PROMISED:
        command = ["sqlite3", "-readonly", str(rows.path), f"SELECT * FROM {view}"]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
    command = ["sqlite3", "-readonly", str(rows.path), "SELECT status, output_artifact_id FROM nodes"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
    assert shown == f"SUCCESS|{result.artifact_id}\n"


def test_ids_are_those_that_the_caller_got(rows):
    a = first(1)
    b = second(a)
    nodes = dict(rows("SELECT node_id, output_artifact_id FROM nodes"))
    assert nodes == {a.node_id: a.artifact_id, b.node_id: b.artifact_id}
    assert set(rows("SELECT artifact_id FROM artifacts")) == {(a.artifact_id,), (b.artifact_id,)}
    assert rows("SELECT * FROM edges") == [(a.node_id, b.node_id, "data", a.artifact_id)]
    assert set(rows("SELECT producer_node_id FROM nodes")) == {(a.node_id,), (b.node_id,)}
    assert all(re.fullmatch("[0-9a-f]{64}", node) for node in nodes)


def test_small_and_large_artifacts_are_shown_once_each(rows):
    @musubito_step()
    def text(size, why):
        return "x" * size

    for size in (10, 5000):
        for why in (1, 2):
            text(size, why)
    shown = rows("SELECT namespace, length(payload), size FROM artifacts ORDER BY size")
    assert [namespace for namespace, *_ in shown] == ["default"] * 2
    assert all(length == size for _, length, size in shown)


def test_a_success_a_failure_and_what_came_of_it(rows):
    @musubito_step()
    def fails(n):
        raise ValueError(f"no {n}")

    first(1)
    with pytest.raises(ValueError):
        fails(1)
    assert rows.status("first") == [NodeStatus.SUCCESS.value]
    assert rows("SELECT status, error, execution_id FROM nodes WHERE error IS NOT NULL") == [
        (NodeStatus.FAILED.value, "ValueError: no 1", None)
    ]
    assert rows("SELECT outcome FROM executions ORDER BY execution_id") == [("succeeded",), ("failed",)]


def test_invalid_and_stale(engine, rows):
    a = first(1)
    second(a)
    engine.invalidate(first)
    assert rows.status("first") == [NodeStatus.INVALID.value]
    assert rows.status("second") == [NodeStatus.STALE.value]
    assert rows("SELECT invalid FROM executions ORDER BY execution_id") == [(1,), (0,)]
    a = first(1)
    second(a)
    assert rows.status("first") == rows.status("second") == [NodeStatus.SUCCESS.value]


def test_running(monkeypatch, tmp_path):
    monkeypatch.setattr(maintenance, "TICK", 0.02)
    go_on, inside = threading.Event(), threading.Event()

    def body(n):
        inside.set()
        go_on.wait(10)
        return n

    with MusubitoEngine(SQLiteStorage(tmp_path / "musubito.db")) as engine:
        rows = Rows(engine.storage.db_path)

        def call(force):
            with use_musubito_engine(engine):
                musubito_step(StepConfiguration(), name="slow")(body)(1)

        go_on.set()
        call(False)
        engine.invalidate("slow")
        go_on.clear(), inside.clear()
        thread = threading.Thread(target=call, args=(False,))
        thread.start()
        assert inside.wait(10)
        until = time.monotonic() + 5
        while rows.status("slow") != [NodeStatus.RUNNING.value] and time.monotonic() < until:
            time.sleep(0.01)
        assert rows.status("slow") == [NodeStatus.RUNNING.value]
        assert rows("SELECT operation FROM leases") == [("slow",)]
        go_on.set()
        thread.join()
        assert rows.status("slow") == [NodeStatus.SUCCESS.value]
        assert rows("SELECT * FROM leases") == []


def test_uses_and_call_edges(rows):
    @musubito_step()
    def outer(n):
        record_usage(input_tokens=3, output_tokens=4)
        return first(n).value

    result = outer(1)
    inner = first(1)
    assert rows("SELECT * FROM edges") == [(inner.node_id, result.node_id, "call", inner.artifact_id)]
    assert rows("SELECT asked_reuse_key FROM uses") == [(inner.node_id,)]
    assert rows("SELECT tokens FROM executions ORDER BY execution_id") == [(None,), (7,)]


def test_runs_and_calls(engine, rows):
    with run("a name", tags={"k": "v"}) as record:
        first(1)
        first(1)
    first(2)
    engine.close()
    assert rows("SELECT name, tags, status FROM runs WHERE run_id = ?", record.run_id) == [
        ("a name", '{"k": "v"}', "finished")
    ]
    assert rows("SELECT outcome FROM calls WHERE run_id = ? ORDER BY call_id", record.run_id) == [
        ("ran",),
        ("replayed",),
    ]
    # A call outside of a run has a run of its own.
    assert rows("SELECT count(*) FROM runs") == [(2,)]
    assert rows("SELECT count(*) FROM calls WHERE run_id NOT IN (SELECT run_id FROM runs)") == [(0,)]
    assert rows("SELECT reason FROM calls ORDER BY at LIMIT 2") == [("NODE_NOT_FOUND",), ("EXACT_HIT",)]


def test_code_is_kept_with_its_source(rows):
    first(1)
    parts = rows("SELECT part, source FROM code")
    assert any(source and "return [n]" in source for _, source in parts)


def test_effects(rows):
    @musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="send")
    def send(n):
        if n == 2:
            raise ValueError
        return n

    done = send(1)
    with pytest.raises(ValueError):
        send(2)
    assert set(rows("SELECT outcome, artifact_id FROM effects")) == {("done", done.artifact_id), ("unknown", None)}


def test_what_is_a_part_of_nothing_has_no_id_of_it(tmp_path):
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine, use_musubito_engine(engine):

        @musubito_step(name="reads")
        def reads(texts: list[str]) -> int:
            return len(texts)

        with run("outer"):
            with run("inner"):
                reads([f"{n} " * 500 for n in range(3)])
    rows = Rows(tmp_path / "m.db")
    assert rows("SELECT name FROM runs WHERE parent_run_id IS NULL") == [("outer",)]
    assert rows("SELECT count(*) FROM runs WHERE parent_run_id = ''") == [(0,)]
    whole, without = rows("SELECT count(*), count(*) - count(before_part_id) FROM parts")[0]
    assert whole > 0 < without
