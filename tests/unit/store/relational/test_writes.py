"""What is the relational stores' own: numbers for names, small payloads in their rows, rows that hold something else."""

from __future__ import annotations

import pytest

from musubito import SQLiteStorage, StoreError
from musubito.store.queries import OlderCandidates, PayloadOf
from musubito.store.relational import writes
from musubito.store.relational.reads import found_of
from musubito.store.rows import Candidate
from musubito.testing.changes import commit, digest, place, ran, use

F = place("f")
ROW = (1, b"p", b"a", b"x", 1.0, 2.0, 2.0, None, None, None, 0, 1, 0, None, 0, None, 1, "msgpack")


@pytest.fixture
def store(tmp_path):
    store = SQLiteStorage(tmp_path / "musubito.db")
    yield store
    store.close()


def test_a_row_is_taken_as_it_was_written():
    assert found_of(ROW) == Candidate(*ROW)
    held = (*ROW[:7], 1.5, 2.5, "why", 1, 0, 15, b"pool", 3, 9, 0, "msgpack+zlib")
    assert found_of(held) == Candidate(*held)


@pytest.mark.parametrize("column", [i for i, name in enumerate(Candidate._fields) if name != "payload"])
@pytest.mark.parametrize("value", ["text", b"bytes", 7, 7.5, None])
def test_a_row_that_holds_something_else_is_refused_column_by_column(column, value):
    changed = (*ROW[:column], value, *ROW[column + 1 :])
    typical = {
        int: (int,),
        bytes: (bytes,),
        float: (float,),
        str: (str,),
        type(None): (type(None), float, str, bytes, int),
    }
    if type(value) in typical[type(ROW[column])]:
        return
    if value is None and Candidate._fields[column] == "artifact":
        return
    with pytest.raises(StoreError, match="belongs"):
        found_of(changed)


@pytest.mark.parametrize("size", [writes.INLINE, writes.INLINE + 1])
def test_a_payload_is_found_wherever_it_lies(store, size):
    text = "x" * size
    store.write([commit(F, text)])
    found = store.newest(F.keys, "default")
    assert found is not None
    assert found.payload == text.encode()
    inline = store._writer.execute("SELECT payload IS NOT NULL FROM _executions").fetchone()[0]
    assert bool(inline) is (size <= writes.INLINE)
    rows = store._writer.execute("SELECT count(*) FROM _artifacts").fetchone()[0]
    assert rows == (size > writes.INLINE)
    others = store.find(OlderCandidates(F.keys, "default", False, float("-inf")))
    assert [row.artifact for row in others] == [digest(text)]
    if size > writes.INLINE:
        assert store.find(PayloadOf(found.execution)) == (text.encode(), "msgpack")


def test_a_large_payload_is_kept_once_in_each_namespace(store):
    text = "x" * 5000
    for argument in "ab":
        store.write([commit(place("f", argument=argument), text)])
        store.write([commit(place("f", argument=argument, namespace="other"), text)])
    assert store._writer.execute("SELECT count(*) FROM _artifacts").fetchone() == (2,)


def test_numbers_of_names_that_were_rolled_back_are_forgotten(store):
    with pytest.raises(StoreError):
        store.write([commit(place("new"), "x"), commit(F, "y", uses=[use(F, 99)])])
    ran(store, place("other"), "x")
    ran(store, place("new"), "x")
    names = store._writer.execute("SELECT name FROM _operations ORDER BY id").fetchall()
    assert names == [("other",), ("new",)]
    shown = store._writer.execute("SELECT operation_name FROM nodes ORDER BY 1").fetchall()
    assert shown == [("new",), ("other",)]
