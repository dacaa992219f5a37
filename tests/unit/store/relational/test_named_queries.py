"""Each query uses exactly the indexes that it is meant to use, and each index serves some query."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import musubito
from musubito.store.relational import by_hand, history, leases, named_queries, prune, reads, sql_session, writes
from musubito.store.relational.named_queries import QUERIES, reading, schema_steps
from musubito.store.sqlite import connection as connection_module
from musubito.store.sqlite import storage

# Those that look through a whole table: what is done by hand, and what looks through rows of what runs just now.
SCANS = {
    "effects_may_run_again": {"_effects"},
    "correct_effect": {"_effects"},
    "forget_settled": {"_effects"},
    "forget_code_unless_in_use": {"n"},
    "forget_callers": {"_runs"},
    "executions_of_effects": {"_effects"},
    "invalidated_nodes": {"_invalidations"},
    "prune_shapes": {"_shapes", "_runs"},
    # Whether there is any row at all.
    "ahead": {"_retired", "_uses"},
    "codes_with_texts": {"_code_parts"},
    "operations_with_state": {"_state_places"},
}
# Rows that a query has made itself.
OWN = re.compile(
    r"SCAN (\d+-ROW|CONSTANT|.*SUBQUERY|tree|chain|wanted|outward|below|edited|json_each|t|c|o|b|f|w|bound|\(subquery|CTE)",
    re.IGNORECASE,
)

INDEXES = {
    "invalidate_node": {"_executions_by_node"},
    "edited_from": {"_edits_by_before"},
    "dismiss": {"_executions_by_reuse_key", "_executions_by_cross_key"},
    "newest": {"_executions_by_reuse_key"},
    "others": {"_executions_by_reuse_key"},
    "others_across": {"_executions_by_reuse_key", "_executions_by_cross_key"},
    "any_across": {"_executions_by_reuse_key", "_executions_by_cross_key", "_nodes_by_node_id"},
    "moment": {"_executions_by_reuse_key"},
    "claim": {"_executions_by_reuse_key"},
    "newer_across": {"_executions_by_reuse_key", "_executions_by_cross_key"},
    "node": {"_nodes_by_node_id", "_executions_by_reuse_key"},
    "ahead": {"_executions_by_reuse_key", "_uses_by_asked"},
    "newer_with_another_artifact": {"_executions_by_reuse_key"},
    "callers_of_others": {"_executions_by_reuse_key", "_uses_by_called", "_uses_by_asked"},
    "set_invalid": {"_uses_by_called"},
    "callers_after": {"_uses_by_called"},
    "callers_since": {"_uses_by_called"},
    "forget_code_unless_in_use": {"_executions_by_node"},
    "part": {"_parts_by_digest"},
    "inputs_of_callers": {"_runs_by_input"},
    "forget_input_of_runs": {"_runs_by_input"},
    "drop_input": {"_runs_by_input"},
    "prune_inputs": {"_runs_by_input"},
    "add_answer": {"_executions_by_reuse_key"},
    "neighbours": {"_nodes_by_node_id", "_executions_by_reuse_key", "_edges_by_child"},
    "replaced": {"_executions_by_reuse_key"},
    "revive": {"_executions_by_reuse_key", "_executions_by_cross_key"},
    "callers_of": {"_uses_by_called"},
    "bare_nodes": {"_nodes_by_node_id"},
    "prune_edges": {"_edges_by_child"},
}
# Those of what the schema itself does.
BY_TRIGGERS = {"_sums_by_executions"}


@pytest.fixture(scope="module")
def connection():
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.create_function("unhex", 1, bytes.fromhex, deterministic=True)
        for script in schema_steps("sqlite").values():
            connection.executescript(script)
        yield connection


def plan(connection: sqlite3.Connection, name: str) -> list[str]:
    query = (QUERIES | reading())[name]
    parameters = [None] * query.count("?") or dict.fromkeys(re.findall(r":(\w+)", query))
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", parameters)]


def used(lines: list[str]) -> set[str]:
    return {index for line in lines for index in re.findall(r"INDEX (_\w+)", line)}


@pytest.mark.parametrize("name", QUERIES)
def test_each_query_uses_exactly_the_indexes_meant_for_it(connection, name):
    assert used(plan(connection, name)) == INDEXES.get(name, set()), plan(connection, name)


@pytest.mark.parametrize("name", QUERIES)
def test_no_query_looks_through_a_whole_table_but_those_that_say_so(connection, name):
    scans = [line for line in plan(connection, name) if line.startswith("SCAN") and not OWN.match(line)]
    if name in SCANS:
        assert scans, "it is listed, and does not scan"
        assert {line.split()[1] for line in scans} <= SCANS[name]
    else:
        assert scans == []


def test_each_index_serves_a_query(connection):
    indexes = connection.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND name NOT LIKE 'sqlite_%'")
    by_readers = set().union(*(used(plan(connection, name)) for name in reading()))
    assert {row[0] for row in indexes} == set().union(*INDEXES.values()) | by_readers | BY_TRIGGERS


def test_each_query_is_asked_somewhere_and_none_is_asked_that_is_not_there():
    modules = (reads, leases, sql_session, writes, by_hand, history, prune, storage, connection_module)
    text = "".join(Path(module.__file__).read_text() for module in modules)
    asked = set(re.findall(r'"([a-z_]+)"', text))
    assert set(QUERIES) <= asked
    named = set(re.findall(r'(?:rows|many)\(\s*"(\w+)"', text))
    assert named <= set(QUERIES)


def test_each_query_of_readers_is_asked_somewhere():
    text = "".join(module.read_text() for module in Path(musubito.__file__).parent.rglob("*.py"))
    assert set(reading()) <= set(re.findall(r'"([a-z_]+)"', text))


def test_each_query_has_a_line_that_says_what_it_answers():
    folder = Path(named_queries.__file__).parents[1] / "sql"
    text = "".join(topic.read_text() for name in ("steps", "reading") for topic in (folder / name).iterdir())
    headers = re.findall(r"^-- name: (\w+)\n(-- .+)\n", text, re.MULTILINE)
    assert [name for name, _ in headers if not name.startswith("_")] == list(reading())
    assert len(headers) == text.count("-- name:")
    assert all(not query.endswith(";") and query for query in reading().values())


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_the_steps_of_the_schema_are_numbered_without_a_gap(dialect):
    steps = schema_steps(dialect)
    assert list(steps) == list(range(1, len(steps) + 1))
