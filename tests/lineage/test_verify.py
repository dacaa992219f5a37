"""Everything that is damaged is found, and told with the node and the remedy; nothing else is."""

from __future__ import annotations

import importlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, StepType, musubito_step, use_musubito_engine
from musubito.lineage import Lineage
from musubito.lineage.readers.verify import Finding, verify
from musubito.payloads import compression

LARGE = 5_000


@musubito_step(name="fetch")
def fetch(what: str, size: int = 1) -> str:
    return f"<{what}>" * size


@musubito_step(name="draw")
def draw(text: object) -> str:
    return "drawn"


@musubito_step(name="outer")
def outer(what: str) -> str:
    return fetch(what).value + "!"


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="send")
def send(to: str) -> str:
    return f"sent to {to}"


@musubito_step(name="cannot be stored")
def odd() -> object:
    return open


@pytest.fixture(autouse=True)
def uncompressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """These look at the bytes and at how many there are."""
    monkeypatch.setattr(compression, "WORTH_IT", 1 << 40)


@pytest.fixture
def damage(tmp_path: Path) -> Iterator[Callable[[str], list[Finding]]]:
    """What is found after a statement has been run on a small lineage."""
    path = tmp_path / "musubito.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        draw(fetch("a", LARGE))
        fetch("small")
        outer("inside")
        fetch("long " * 1000)
        for length in (20, 30):
            draw([{"text": f"message {number} " * 20} for number in range(length)])
            engine.flush()
        send("somebody")
        with pytest.warns(match="cannot be stored"):
            odd()
        with pytest.raises(TypeError):
            fetch(1, "x")
    engine = MusubitoEngine(SQLiteStorage(path))

    def damage(statement: str) -> list[Finding]:
        with closing(sqlite3.connect(path)) as connection, connection:
            assert connection.execute(statement).rowcount > 0
        return [finding for checked in verify(Lineage(engine)) for finding in checked.findings]

    yield damage
    engine.close()


def test_nothing_is_found_where_all_is_well(damage):
    assert damage("UPDATE _calls SET at = at") == []


SMALL = "(SELECT e.id FROM _executions e WHERE e.payload IS NOT NULL ORDER BY e.id LIMIT 1)"


@pytest.mark.parametrize(
    ("statement", "table", "problem"),
    [
        (
            f"UPDATE _executions SET payload = CAST(payload || 'x' AS BLOB) WHERE id = {SMALL}",
            "executions",
            "not those that were",
        ),
        (f"UPDATE _executions SET payload = 'text' WHERE id = {SMALL}", "executions", "holds no bytes"),
        (f"UPDATE _executions SET payload = NULL WHERE id = {SMALL}", "executions", "missing"),
        ("UPDATE _artifacts SET payload = substr(payload, 2)", "artifacts", "not those that were stored"),
        ("DELETE FROM _artifacts WHERE length(payload) > 10000", "executions", "missing"),
        (
            "UPDATE _inputs SET body = x'c1' WHERE input_hash = (SELECT max(input_hash) FROM _inputs)",
            "inputs",
            "decode",
        ),
        ("DELETE FROM _parts WHERE id = 1", "inputs", "1 piece is missing"),
        ("UPDATE _parts SET body = x'78' WHERE id = 1", "parts", "decode"),
        ("DELETE FROM _parts WHERE digest IN (SELECT before FROM _parts)", "parts", "1 piece is missing"),
        ("DELETE FROM _executions WHERE id = (SELECT called FROM _uses)", "nodes", "names its execution"),
        ("DELETE FROM _executions WHERE id = (SELECT called FROM _uses)", "uses", "called"),
        ("DELETE FROM _nodes WHERE id = (SELECT parent FROM _edges)", "edges", "leads from a step result"),
        ("DELETE FROM _nodes WHERE id = (SELECT child FROM _edges)", "executions", "step result that is not there"),
        ("UPDATE _uses SET node = 99", "uses", "a step result that is not there"),
        ("UPDATE _nodes SET code = 99 WHERE id = 1", "nodes", "names its code"),
        ("DELETE FROM _operations WHERE name = 'outer'", "nodes", "names its operation"),
        ("INSERT INTO _shapes VALUES (x'00', '{}')", "shapes", "not the one that was stored"),
        ("UPDATE _effects SET execution = 99", "effects", "an execution that is not there"),
    ],
)
def test_what_is_damaged_is_found(damage, statement, table, problem):
    found = damage(statement)
    assert [each for each in found if each.table == table and problem in each.problem], found
    assert all(each.remedy for each in found)


def test_a_finding_names_the_node_and_its_operation(damage):
    (finding,) = damage("UPDATE _artifacts SET payload = x'00' || payload WHERE length(payload) > 10000")
    assert finding.operation == "fetch" and len(finding.node_id) == 64
    assert f"musubito invalidate {finding.node_id[:10]}" in finding.remedy


def test_a_lost_result_of_an_effect_is_not_said_to_run_again(damage):
    (finding,) = damage("UPDATE _executions SET payload = NULL WHERE holds & 8")
    assert finding.operation == "send" and "took place" in finding.remedy


def test_a_payload_with_the_right_digest_that_does_not_decode_is_found(damage):
    from hashlib import sha256

    bad = b"\x01\xc1"
    (finding,) = damage(
        f"UPDATE _executions SET payload = x'{bad.hex()}', artifact = x'{sha256(bad).hexdigest()}' WHERE id = {SMALL}"
    )
    assert "does not decode" in finding.problem


def test_a_file_that_cannot_be_read_is_a_finding(tmp_path):
    path = tmp_path / "musubito.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        for number in range(300):
            fetch(f"{number}", 30)
    raw = bytearray(path.read_bytes())
    for page in range(60, len(raw) // 4096, 2):
        raw[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    path.write_bytes(raw)
    with MusubitoEngine(SQLiteStorage(path)) as engine:
        findings = [finding for checked in verify(Lineage(engine)) for finding in checked.findings]
    assert findings and any("restore a copy" in each.remedy for each in findings)


def test_it_tells_how_far_it_has_come(tmp_path, monkeypatch):
    # By its module: the package has the function under the same name.
    monkeypatch.setattr(importlib.import_module("musubito.lineage.readers.verify"), "SLICE", 3)
    with MusubitoEngine(SQLiteStorage(tmp_path / "musubito.db")) as engine, use_musubito_engine(engine):
        for number in range(8):
            fetch(f"{number}")
        steps = [(each.done, each.total) for each in verify(Lineage(engine)) if each.table == "executions"]
    assert steps == [(0, 8), (3, 8), (6, 8), (8, 8)]
