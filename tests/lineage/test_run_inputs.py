"""The input of a run is kept as long as a run has it, shared by equal ones, and erased with its run, in both databases."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from musubito import MusubitoEngine, musubito_step
from musubito.adapter import Scope
from musubito.engine.run_input import RunInput
from musubito.engine.scope import SCOPE, in_scope
from musubito.lineage import Lineage, LineageError
from musubito.lineage.readers.input_search import InputQuery, search_inputs
from musubito.lineage.readers.verify import verify
from musubito.lineage.removal import prune
from musubito.lineage.removal.erase import changes_for, forget, forget_namespace
from musubito.lineage.removal.erase_preview import preview_forget
from musubito.lineage.removal.rekey import RekeyCounts, rekey
from musubito.lineage.transfer.copy import CopyCounts, copy_store
from musubito.store.changes import Forget
from tests.fresh import fresh
from tests.server import drop_database, new_store

LONG = "a long text about marmalade " * 400
OLD, NEW = secrets.token_bytes(32), secrets.token_bytes(32)


@musubito_step(name="load")
def load(what: str) -> str:
    return what.upper()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    url = new_store() if request.param == "postgres" else f"sqlite:///{fresh(tmp_path / 'm.db')}"
    yield url
    if request.param == "postgres":
        drop_database(url)


@pytest.fixture
def engine(url: str) -> Iterator[MusubitoEngine]:
    with MusubitoEngine.from_url(url) as engine:
        yield engine


def ran(engine: MusubitoEngine, given: Mapping[str, Any] | None, *calls: str, name: str = "support") -> str:
    """A run of a graph that was given this and asked for these."""
    run = engine._open_run(name, None, "load", given=given)
    with in_scope(Scope(engine, run)):
        for what in calls:
            load(what)
    engine._end_run(run)
    engine.flush()
    return run.run_id.hex()


def stored(engine: MusubitoEngine) -> int:
    """How many inputs of runs are stored."""
    lineage = Lineage(engine)
    names = {number: name for number, _, name in lineage.rows("all_operations")}
    inputs = lineage.slices("inputs_after", 100, operation=0, input_hash=b"")
    return sum(names[operation].endswith("/") for operation, *_ in inputs)


def found(engine: MusubitoEngine, run: str) -> Any:
    given = Lineage(engine).input_of_run(run)
    assert given is None or not given.missing
    return given and given.values


def test_equal_inputs_are_one_and_others_are_not(engine: MusubitoEngine):
    runs = [ran(engine, {"state": state}) for state in ({"a": LONG}, {"a": LONG}, {"a": 2})]
    assert [found(engine, run) for run in runs] == [{"state": {"a": LONG}}] * 2 + [{"state": {"a": 2}}]
    assert stored(engine) == 2
    other = ran(engine.in_namespace("other"), {"state": {"a": 2}})
    assert (found(engine, other), stored(engine)) == ({"state": {"a": 2}}, 3)
    assert Lineage(engine).input_of_run(ran(engine, None, "x")) is None


def test_it_is_written_when_the_run_begins(engine: MusubitoEngine):
    run = engine._open_run("support", None, "load", given={"state": 1})
    engine.flush()
    assert found(engine, run.run_id.hex()) == {"state": 1}
    engine._end_run(run)
    assert found(engine, run.run_id.hex()) == {"state": 1}


def test_it_is_pruned_with_the_last_run_that_has_it(engine: MusubitoEngine):
    kept = {"state": {"text": LONG, "more": ["x" * 900] * 3}}
    first, second = ran(engine, kept, "x"), ran(engine, kept, "x")
    lineage = Lineage(engine)
    prune.remove_runs(writer := prune.Writer(lineage), [bytes.fromhex(first)])
    assert lineage.rows("unused_inputs") == []
    prune.remove_unused_contents(lineage, writer)
    assert found(engine, second) == kept
    prune.remove_runs(writer, [bytes.fromhex(second)])
    prune.remove_unused_contents(lineage, writer)
    assert stored(engine) == 0
    assert LONG[:50] not in str([row[-1] for row in lineage.slices("parts_after", 100, after=0)])


def test_a_run_that_comes_while_a_prune_removes_its_input_keeps_it(engine: MusubitoEngine, monkeypatch: Any):
    first, lineage = ran(engine, {"state": LONG}), Lineage(engine)
    runs: list[str] = []
    found_unused = Lineage.rows

    def rows(self: Lineage, query: str, /, **parameters: Any) -> Any:
        answer = found_unused(self, query, **parameters)
        if query == "unused_inputs":
            runs.append(ran(engine, {"state": LONG}))
        return answer

    prune.remove_runs(writer := prune.Writer(lineage), [bytes.fromhex(first)])
    monkeypatch.setattr(Lineage, "rows", rows)
    prune.remove_unused_contents(lineage, writer)
    assert found(engine, runs[0]) == {"state": LONG}


@pytest.mark.parametrize("what", ["run", "operation", "node"])
def test_it_is_forgotten_with_what_its_run_asked_for(engine: MusubitoEngine, what: str):
    hers = ran(engine, {"state": {"name": "hers", "text": LONG}}, "hers")
    again = ran(engine, {"state": {"name": "hers", "text": LONG}}, "hers")
    theirs = ran(engine, {"state": {"name": "theirs"}}, "theirs")
    lineage = Lineage(engine)
    node = lineage.run(hers).calls[0].node_id
    wanted = changes_for(lineage, {"run": hers, "operation": "load", "node": node}[what])
    preview, counts = preview_forget(lineage, wanted), forget(lineage, wanted)
    assert [found(engine, run) for run in (hers, again)] == [None, None]
    assert found(engine, theirs) == (None if what == "operation" else {"state": {"name": "theirs"}})
    assert stored(engine) == (0 if what == "operation" else 1)
    assert (counts.inputs, counts.executions) == (preview.inputs, preview.executions)
    assert LONG[:50] not in str([row[-1] for row in lineage.slices("parts_after", 100, after=0)])


def test_a_name_of_a_graph_is_that_of_its_newest_run(engine: MusubitoEngine):
    first, last = ran(engine, {"state": 1}, "x"), ran(engine, {"state": 2}, "y")
    assert changes_for(Lineage(engine), "support") == [Forget("", run=bytes.fromhex(last))]
    assert found(engine, first) == {"state": 1}


def test_nothing_comes_back_of_a_run_that_is_forgotten_before_it_is_written(engine: MusubitoEngine):
    run = engine._open_run("support", None, "load", given={"state": LONG})
    with in_scope(SCOPE.get()._replace(engine=engine, run=run)):
        node = load("hers").node_id
    line, ledgers = engine.journal.drain(), list[Any]()
    ledgers += [line._replace(inputs=()), line._replace(runs=(), calls=())]
    engine.storage.write([ledgers[0]])
    engine.storage.write([Forget("", nodes=[bytes.fromhex(node)])])
    engine.storage.write([ledgers[1]])
    assert (found(engine, run.run_id.hex()), stored(engine)) == (None, 0)


@pytest.mark.parametrize("is_written", [False, True])
def test_it_goes_at_the_end_of_a_run_if_its_calls_were_told_after_they_were_forgotten(
    engine: MusubitoEngine, is_written: bool
):
    run = engine._open_run("support", None, "load", given={"state": LONG})
    if is_written:
        engine.flush()
    with in_scope(SCOPE.get()._replace(engine=engine, run=run)):
        node = load("his").node_id
    engine.storage.write([Forget("", nodes=[bytes.fromhex(node)])])
    engine._end_run(run)
    engine.flush()
    assert (found(engine, run.run_id.hex()), stored(engine)) == (None, 0)


def test_a_run_that_asked_for_nothing_that_is_forgotten_keeps_the_same_input(engine: MusubitoEngine):
    hers, theirs = ran(engine, {"state": LONG}, "hers"), ran(engine, {"state": LONG}, "theirs")
    lineage = Lineage(engine)
    wanted = changes_for(lineage, lineage.run(hers).calls[0].node_id)
    assert preview_forget(lineage, wanted).inputs == forget(lineage, wanted).inputs == 1
    assert [found(engine, run) for run in (hers, theirs)] == [None, {"state": LONG}]


def test_all_inputs_of_the_runs_of_a_graph_go_with_the_operation_that_they_have(engine: MusubitoEngine):
    run, other = ran(engine, {"state": 1}), ran(engine, {"state": 1}, name="other")
    assert forget(Lineage(engine), [Forget("default", operation="support/")]).inputs == 1
    assert [found(engine, each) for each in (run, other)] == [None, {"state": 1}]


def test_a_search_finds_it_and_forgets_it(engine: MusubitoEngine):
    hers = ran(engine, {"state": {"user": {"email": "ann@x.org"}, "text": LONG}}, "x")
    his = ran(engine, {"state": {"user": {"email": "bob@x.org"}}}, "x")
    lineage = Lineage(engine)
    for query in ("ann@x.org", "$.state.user.email=ann@x.org", "$..email=ann@x.org"):
        matches = search_inputs(lineage, InputQuery.of(query))
        assert (matches.nodes, len(matches.inputs)) == ([], 1)
    assert forget(lineage, [], matches.inputs).inputs == 1
    assert (found(engine, hers), found(engine, his)) == (None, {"state": {"user": {"email": "bob@x.org"}}})
    assert search_inputs(lineage, InputQuery.of("ann@x.org")).inputs == []
    assert search_inputs(lineage, InputQuery.of("marmalade")).inputs == []


def test_it_goes_with_its_namespace(engine: MusubitoEngine):
    gone, stays = ran(engine.in_namespace("gone"), {"state": 1}, "x"), ran(engine, {"state": 2}, "x")
    running = engine.in_namespace("gone")._open_run("support", None, "load", given={"state": LONG})
    forget_namespace(Lineage(engine), "gone")
    assert (stored(engine), found(engine, stays)) == (1, {"state": 2})
    with pytest.raises(LineageError, match="no run"):
        found(engine, gone)
    engine.in_namespace("gone")._end_run(running)
    assert (stored(engine), found(engine, running.run_id.hex())) == (1, None)


def test_nothing_is_wrong_with_it_until_it_is_damaged(url: str):
    with MusubitoEngine.from_url(url) as engine:
        run, lineage = ran(engine, {"state": {"text": LONG}}), Lineage(engine)
        assert [finding for progress in verify(lineage) for finding in progress.findings] == []
        parts = [number for number, *_ in lineage.slices("parts_after", 100, after=0)]
        prune.Writer(lineage).write(prune.Prune(0, parts=parts))
        assert lineage.input_of_run(run) == RunInput(
            {}, {"input": "it is damaged, or a part of it is no longer stored"}
        )
        findings = [finding for progress in verify(lineage) for finding in progress.findings]
        assert [(finding.table, finding.operation) for finding in findings] == [("inputs", "support/")]


def test_of_an_encrypted_namespace_it_is_read_with_the_key_alone_and_given_another(url: str):
    given = {"state": {"text": LONG, "name": "ann"}, "configurable": {"model": "small"}}
    with MusubitoEngine.from_url(url, key=OLD) as engine:
        run = ran(engine, given)
        assert found(engine, run) == given
    with MusubitoEngine.from_url(url) as engine:
        lineage = Lineage(engine)
        assert lineage.input_of_run(run) == RunInput({}, {"input": "it cannot be read: encrypted"})
        for query in ("parts_after", "inputs_after"):
            begin = {"after": 0} if query == "parts_after" else {"operation": 0, "input_hash": b""}
            assert b"marmalade" not in b"".join(bytes(row[-1]) for row in lineage.slices(query, 100, **begin))
    with MusubitoEngine.from_url(url, key=OLD + NEW + OLD) as engine:
        counts = RekeyCounts()
        for _ in rekey(Lineage(engine), counts):
            pass
        assert (counts.sealed["inputs"], counts.sealed["parts"] > 0) == (1, True)
    with MusubitoEngine.from_url(url, key=OLD + NEW) as engine:
        assert found(engine, run) == given


def test_it_survives_a_copy(engine: MusubitoEngine, tmp_path: Path):
    run = ran(engine, {"state": {"text": LONG}}, "x")
    path = tmp_path / "copy.db"
    with MusubitoEngine.from_url(f"sqlite:///{path}") as copy, closing(sqlite3.connect(path)) as connection:
        for _ in copy_store(Lineage(engine), Lineage(copy), CopyCounts()):
            pass
        assert found(copy, run) == {"state": {"text": LONG}}
        assert connection.execute("SELECT count(*) FROM _runs WHERE input IS NOT NULL").fetchone() == (1,)
