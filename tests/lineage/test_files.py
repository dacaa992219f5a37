"""What readers are told of the files that steps read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from musubito import MusubitoEngine, MusubitoResult, NotReplayed, SQLiteStorage, StepConfiguration, musubito_step, run
from musubito.cli.root import root
from musubito.lineage import Lineage
from musubito.lineage.readers.files import ChangedFile, FileRead, files_read
from musubito.lineage.readers.provenance import provenance
from musubito.lineage.readers.why import why
from musubito.lineage.removal.erase import changes_for, forget
from musubito.lineage.removal.prune import prune_to_size
from tests.fresh import fresh
from tests.server import drop_database, new_store

KEY = bytes(32)


class World:
    """A working directory and a database."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.path = folder / "lineage.db"
        self.engine = MusubitoEngine(SQLiteStorage(fresh(self.path)), **options)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def ask(self, *names: str, **semantics: Any) -> MusubitoResult[Any]:
        """A step that reads these files."""

        def read(names: list[str]) -> list[str]:
            return [Path(name).read_text() if Path(name).suffix else str(list(Path(name).iterdir())) for name in names]

        return self.engine.execute("read", {"names": list(names)}, read, StepConfiguration(**semantics))

    def changed(self, result: MusubitoResult[Any]) -> tuple[ChangedFile, ...]:
        lineage = Lineage(self.engine)
        return why(lineage, result.node_id).files

    def says(self, *args: str) -> str:
        self.engine.flush()
        done = CliRunner().invoke(root, ["--db", str(self.path), *args], env={"COLUMNS": "200"})
        assert done.exit_code == 0, done.output
        return done.stdout


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.chdir(tmp_path)
    world = World(tmp_path)
    yield world
    world.engine.close()


def test_why_shows_what_changed_in_a_text(world: World) -> None:
    world.write("prompt.txt", "You are an editor.\nBe brief.\n")
    world.ask("prompt.txt")
    world.write("prompt.txt", "You are an editor.\nBe kind.\n")
    result = world.ask("prompt.txt")
    (changed,) = world.changed(result)
    assert (changed.kind, changed.path, changed.change) == ("file", "prompt.txt", "changed")
    assert changed.diff.splitlines()[2:] == ["@@ -1,2 +1,2 @@", " You are an editor.", "-Be brief.", "+Be kind."]
    told = world.says("why", result.node_id)
    assert "ran: what it reads changed" in told
    assert "files that changed\n  prompt.txt\n" in told
    assert "    -Be brief.\n    +Be kind.\n" in told
    assert "Be kind" not in world.says("why", result.node_id, "--no-inputs")
    document = json.loads(world.says("why", result.node_id, "--json"))
    assert document["reason"] == "read changed"
    assert document["files"] == [
        {"kind": "file", "path": "prompt.txt", "change": "changed", "diff": changed.diff},
    ]
    assert "Be kind" not in world.says("why", result.node_id, "--json", "--no-inputs")


def test_files_that_appear_and_go_and_folders(world: World) -> None:
    (world.folder / "docs").mkdir()
    world.write("docs/a.txt", "1")

    def read(x: int) -> list[str]:
        found = [Path(each).read_text() for each in ("a.txt", "b.txt") if each in (p.name for p in Path(".").iterdir())]
        return [*found, *sorted(each.name for each in Path("docs").iterdir())]

    world.write("a.txt", "1\n")
    world.engine.execute("f", {"x": 0}, read)
    (world.folder / "a.txt").unlink()
    world.write("b.txt", "2\n")
    world.write("docs/b.txt", "2")
    result = world.engine.execute("f", {"x": 0}, read)
    told = {(each.path, each.kind): (each.change, each.diff.splitlines()[3:]) for each in world.changed(result)}
    assert told == {
        (".", "folder"): ("changed", []),
        ("a.txt", "file"): ("gone", ["-1"]),
        ("b.txt", "file"): ("added", ["+2"]),
        ("docs", "folder"): ("changed", []),
    }


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("large.txt", "1" * 70_000, "2" * 70_000),
        ("binary.txt", "\0", "\0\0"),
        (".env", "PLAIN=1", "PLAIN=2"),
        ("server.pem", "1", "2"),
        ("credentials.json", "1", "2"),
    ],
)
def test_what_is_no_text_or_is_secret_is_not_kept(world: World, name: str, before: str, after: str) -> None:
    def read(name: str) -> str:
        return Path(name).read_text()

    for text in (before, after):
        world.write(name, text)
        result = world.engine.execute("f", {"name": name}, read)
    assert world.changed(result) == (ChangedFile("file", name, "changed", ""),)
    assert "PLAIN=" not in "".join(map(str, rows(world, "SELECT count(*) FROM _inputs")))
    assert rows(world, "SELECT count(*) FROM _inputs") == [(1,)], "the argument alone"


def rows(world: World, sql: str) -> list[tuple[Any, ...]]:
    import sqlite3
    from contextlib import closing

    world.engine.flush()
    with closing(sqlite3.connect(world.path)) as connection:
        return connection.execute(sql).fetchall()


def test_secrets_in_texts_are_hidden(world: World) -> None:
    for text in ("url: https://me:pa55word@example/1\n", "url: https://me:pa55word@example/2\n"):
        world.write("settings.yml", text)
        result = world.ask("settings.yml")
    (changed,) = world.changed(result)
    assert "pa55word" not in changed.diff
    assert "example/2" in changed.diff


def test_without_recorded_inputs_no_text_is_kept(world: World) -> None:
    for text in ("1", "2"):
        world.write("a.txt", text)
        result = world.ask("a.txt", record_inputs=False)
    assert world.changed(result) == (ChangedFile("file", "a.txt", "changed", ""),)
    assert rows(world, "SELECT count(*) FROM _inputs") == [(0,)]


def test_a_redaction_is_asked_for_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[Any] = []

    def redact(operation: str, value: Any) -> Any:
        asked.append(value)
        return {**value, "text": "redacted"} if "text" in value else value

    world = World(tmp_path, redact=redact)
    for text in ("1", "2"):
        world.write("a.txt", text)
        result = world.ask("a.txt")
    assert world.changed(result)[0].diff == ""
    assert {"file": "a.txt", "text": "1"} in asked
    world.engine.close()


def test_encrypted_texts_are_read_with_the_key_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    world = World(tmp_path, key=KEY)
    for text in ("first text\n", "second text\n"):
        world.write("a.txt", text)
        result = world.ask("a.txt")
    (changed,) = world.changed(result)
    assert changed.diff.splitlines()[-2:] == ["-first text", "+second text"]
    world.engine.close()
    assert b"second text" not in world.path.read_bytes()
    with Lineage.from_url(f"sqlite:///{world.path}") as lineage:
        assert files_read(lineage, [lineage.node(result.node_id)]) == ()


def test_texts_are_forgotten(world: World) -> None:
    for text in ("first text\n", "second text\n"):
        world.write("a.txt", text)
        result = world.ask("a.txt")
    world.write("b.txt", "other text\n")
    kept = world.ask("b.txt")
    assert rows(world, "SELECT count(*) FROM _inputs") == [(5,)]
    lineage = Lineage(world.engine)
    foretold = json.loads(world.says("forget", result.node_id, "--dry-run", "--json"))
    done = forget(lineage, changes_for(lineage, result.node_id))
    assert (foretold["inputs"], done.inputs) == (3, 3)
    assert rows(world, "SELECT count(*) FROM _inputs") == [(2,)]
    assert files_read(lineage, [lineage.node(kept.node_id)]) == (FileRead("file", "b.txt", absent=False),)
    for file in world.folder.glob("lineage.db*"):
        assert b"first text" not in file.read_bytes()


def test_files_in_postgres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    url = new_store()

    def read(name: str) -> list[str]:
        return [Path(name).read_text(), *os.listdir("docs")]

    (tmp_path / "docs").mkdir()
    with MusubitoEngine.from_url(url) as engine:
        for text in ("first text\n", "first text\n", "second text\n", "first text\n"):
            (tmp_path / "a.txt").write_text(text)
            result = engine.execute("read", {"name": "a.txt"}, read)
            assert result.value == [text]
        (tmp_path / "a.txt").write_text("third text\n")
        result = engine.execute("read", {"name": "a.txt"}, read)
        lineage = Lineage(engine)
        (changed,) = why(lineage, result.node_id).files
        assert changed.diff.splitlines()[-2:] == ["-second text", "+third text"]
        assert [each.path for each in files_read(lineage, [lineage.node(result.node_id)])] == ["a.txt", "docs"]
        foretold = CliRunner().invoke(root, ["--url", url, "forget", "read", "--dry-run", "--json"])
        assert foretold.exit_code == 0, foretold.output
        assert json.loads(foretold.stdout)["inputs"] == 4
        assert forget(lineage, changes_for(lineage, result.node_id)).inputs == 4
    drop_database(url)


def test_texts_stay_as_long_as_an_execution_that_read_them(world: World) -> None:
    for text in ("1", "2"):
        world.write("a.txt", text)
        world.ask("a.txt")
    lineage = Lineage(world.engine)
    prune_to_size(lineage, 1 << 30)
    assert rows(world, "SELECT count(*) FROM _inputs") == [(3,)]
    prune_to_size(lineage, 0)
    assert rows(world, "SELECT count(*) FROM _executions") == [(1,)], "the newest of all stays"
    assert rows(world, "SELECT count(*) FROM _inputs") == [(2,)]
    forget(lineage, changes_for(lineage, "read"))
    assert rows(world, "SELECT count(*) FROM _inputs") == [(0,)]


def test_show_and_lineage_name_the_files(world: World) -> None:
    (world.folder / "docs").mkdir()
    world.write("prompt.txt", "1")

    @musubito_step(name="inner")
    def inner(x: int) -> str:
        try:
            Path("gone.txt").read_text()
        except FileNotFoundError:
            return Path("prompt.txt").absolute().read_text() + str(list(Path("docs").iterdir()))
        return ""

    def outer(x: int) -> str:
        return inner(0).value

    result = in_use(world, lambda: world.engine.execute("outer", {"x": 0}, outer))
    files = (
        FileRead("folder", "docs", absent=False),
        FileRead("file", "gone.txt", absent=True),
        FileRead("file", "prompt.txt", absent=False),
    )
    lineage = Lineage(world.engine)
    assert files_read(lineage, [lineage.node(result.node_id)]) == files
    assert provenance(lineage, result.node_id).files == files
    told = world.says("show", result.node_id)
    assert "read        docs, folder\n            gone.txt, which was not there\n            prompt.txt\n" in told
    assert "files\n  docs, folder\n  gone.txt, which was not there\n  prompt.txt\n" in world.says(
        "lineage", result.node_id
    )
    document = [
        {"kind": "folder", "path": "docs", "absent": False},
        {"kind": "file", "path": "gone.txt", "absent": True},
        {"kind": "file", "path": "prompt.txt", "absent": False},
    ]
    assert json.loads(world.says("show", result.node_id, "--json"))["files"] == document
    assert json.loads(world.says("lineage", result.node_id, "--json"))["origins"]["files"] == document


def in_use(world: World, work: Callable[[], Any]) -> Any:
    from musubito import use_musubito_engine

    with use_musubito_engine(world.engine):
        return work()


def test_explain_and_replay_only_name_the_file(world: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> str:
        return Path("prompt.txt").read_text()

    world.write("prompt.txt", "1")
    in_use(world, lambda: f(0))
    world.write("prompt.txt", "2")
    told = world.engine.explain(f, 0)
    assert told.files == ("prompt.txt",)
    assert "files that changed: prompt.txt" in str(told)
    with run(mode="replay_only"), pytest.raises(NotReplayed, match="prompt.txt"):
        in_use(world, lambda: f(0))
    world.write("prompt.txt", "1")
    assert world.engine.explain(f, 0).decision.replay
    assert why(Lineage(world.engine), in_use(world, lambda: f(0)).node_id).files == ()
