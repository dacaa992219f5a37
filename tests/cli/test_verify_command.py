from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, musubito_step, use_musubito_engine
from musubito.cli.root import root


@musubito_step(name="fetch")
def fetch(what: str) -> str:
    return f"<{what}>"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "musubito.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        fetch("a")
        fetch("b")
    return path


def ask(path: Path, *args: str):
    return CliRunner().invoke(root, ["--db", str(path), "verify", *args])


def damage(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE _executions SET payload = x'00' WHERE id = 1")


def test_all_is_well(path):
    said = ask(path)
    assert said.exit_code == 0
    assert said.output == "Checked 2 executions, 2 inputs, 2 step results: all is as it was stored.\n"


def test_executions_without_an_input_are_counted(path):
    @musubito_step(StepConfiguration(record_inputs=False), name="private")
    def private(what: str) -> str:
        return what

    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        private("c")
    said = ask(path)
    assert said.exit_code == 0
    assert said.stdout.endswith("all is as it was stored.\n")
    assert said.stderr.startswith(
        "forget --where cannot see 1 execution without a stored input: its step has record_inputs"
    )
    assert json.loads(ask(path, "--json").stdout)["without_input"] == 1


def test_what_is_damaged_is_told_with_the_remedy(path):
    damage(path)
    said = ask(path)
    assert said.exit_code == 1
    assert "fetch: the bytes of its artifact are not those" in " ".join(said.output.split())
    assert "musubito invalidate" in said.output and "1 finding" in said.output


def test_for_machines(path):
    damage(path)
    said = ask(path, "--json")
    assert said.exit_code == 1
    document = json.loads(said.output)
    assert document["checked"]["executions"] == 2
    (finding,) = document["findings"]
    assert finding.keys() == {"table", "node_id", "operation", "problem", "remedy"}
    assert finding["operation"] == "fetch"


def test_a_damaged_file_is_told_with_its_remedy_once(path):
    damaged = bytearray(path.read_bytes())
    with closing(sqlite3.connect(path)) as connection:
        pages = connection.execute("SELECT rootpage FROM sqlite_master WHERE type = 'table'").fetchall()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    for (page,) in pages:
        damaged[(page - 1) * size : page * size] = b"A" * size
    path.write_bytes(damaged)
    said = " ".join(ask(path).output.split())
    assert said.count("malformed.") == 1 and said.count("restore a copy") == 1
    assert said.endswith("Checked nothing, since it cannot be read: 1 finding.")


def test_damaged_pages_are_found_that_hold_nothing_to_verify(path):
    with closing(sqlite3.connect(path)) as connection:
        ((page,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = '_runs_by_start'")
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    damaged = bytearray(path.read_bytes())
    damaged[(page - 1) * size : page * size] = b"A" * size
    path.write_bytes(damaged)
    said = ask(path)
    assert said.exit_code == 1
    assert "file: " in said.output and "restore a copy" in said.output
    assert json.loads(ask(path, "--json").output)["findings"][0]["table"] == "file"


def test_what_is_encrypted_is_said_not_to_be_looked_into_but_for_whether_it_is_there(tmp_path):
    @musubito_step(name="large")
    def large(size: int) -> bytes:
        return os.urandom(size)

    path = tmp_path / "sealed.db"
    with MusubitoEngine(SQLiteStorage(path), key=b"k" * 32) as engine, use_musubito_engine(engine):
        large(1_500_000)
    said = ask(path)
    assert (said.exit_code, said.stdout.count("all is as it was stored")) == (0, 1)
    assert (
        "Not checked, since it is encrypted: default. Name the file of its key: MUSUBITO_KEY_FILE=path." in said.stderr
    )
    for blob in (tmp_path / "sealed.db-blobs").rglob("*.*"):
        blob.unlink()
    said = ask(path)
    assert said.exit_code == 1
    assert f"large: its blob is not in {path}-blobs" in "".join(said.stdout.splitlines()).replace("  ", " ")
