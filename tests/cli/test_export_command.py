from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, run, use_musubito_engine
from musubito.cli.root import root
from tests.cli.conftest import Musubito, World


@musubito_step(name="fetch")
def fetch(what: str, api_key: str = "") -> str:
    return f"<{what}>"


@musubito_step(name="draw")
def draw(text: object) -> str:
    return "drawn"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "musubito.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine), run("nightly"):
        draw(fetch("some-content", "sk-very-secret"))
    return path


def ask(path: Path, *args: str):
    return CliRunner().invoke(root, ["--db", str(path), "export", *args])


@pytest.mark.parametrize(
    ("format_", "begins"), [("mermaid", "---\ntitle:"), ("dot", "digraph"), ("json", "{"), ("openlineage", "[")]
)
def test_a_run_and_a_node_in_each_format(path, format_, begins):
    node = json.loads(ask(path, "nightly", "--json").output)["nodes"][0]["node_id"]
    for what in ("last", "nightly", node[:12]):
        said = ask(path, what, "--format", format_)
        assert said.exit_code == 0 and said.output.startswith(begins)
        assert "fetch" in said.output and "draw" in said.output
        assert ("some-content" in said.output) is (format_ == "json")
        assert "sk-very-secret" not in said.output
        if format_ in ("json", "openlineage"):
            json.loads(said.output)


def test_the_shape_of_json(path):
    told = json.loads(ask(path, "last", "--format", "json").output)
    assert told.keys() == {"title", "nodes", "edges", "calls"}
    assert [node.keys() for node in told["nodes"]] == 2 * [
        {"node_id", "namespace", "operation", "outcomes", "input", "output"}
    ]
    (edge,) = told["edges"]
    assert edge == {"source": told["nodes"][0]["node_id"], "target": told["nodes"][1]["node_id"], "kind": "data"}
    assert [call["outcome"] for call in told["calls"]] == ["ran", "ran"]


def test_without_contents(path):
    said = ask(path, "last", "--json", "--no-inputs").output
    assert "some-content" not in said and "input" not in json.loads(said)["nodes"][0]


def test_into_a_file(path, tmp_path):
    said = ask(path, "last", "-o", str(tmp_path / "run.mmd"))
    assert (said.exit_code, said.output) == (0, "")
    assert "flowchart TD" in (tmp_path / "run.mmd").read_text()
    said = ask(path, "last", "-o", str(tmp_path / "no folder" / "run.mmd"))
    assert said.exit_code == 2 and "no folder: make it first" in said.output


def test_what_is_not_there(path):
    said = ask(path, "0123456789")
    assert said.exit_code == 2 and "no run, call" in said.output


def test_json_does_nothing_to_a_terminal(musubito: Musubito, tmp_path: Path) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine:
        engine.execute("\x9b31m\x7f\u202e", {"x": "\x9b31m"}, lambda x: x)
    for how in ("json", "openlineage"):
        told = musubito("--db", "m.db", "export", "last", "--format", how).stdout
        assert not {"\x9b", "\x7f", "\u202e"} & set(told)
        assert repr("\x9b31m")[1:-1] in str(json.loads(told))


def test_a_folder_that_is_not_there_is_not_made(musubito: Musubito, world: World, tmp_path: Path) -> None:
    done = musubito("--db", str(world.path), "export", "last", "-o", "gone/run.mmd")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "there is no folder gone: make it first" in done.stderr
    assert not (tmp_path / "gone").exists()
