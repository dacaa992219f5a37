"""`musubito edit`."""

from __future__ import annotations

import getpass
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, StepType, musubito_step, run, use_musubito_engine
from tests.cli.conftest import Musubito
from tests.fresh import fresh

Editor = Callable[[str], Path]
WHO = getpass.getuser()


@dataclass
class Report:
    title: str
    words: int


class Ran:
    """The names of the steps that ran; it is no part of their code."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def note(self, name: str) -> None:
        self.names.append(name)

    def __musubito_identity__(self) -> str:
        return "what ran"


RAN = Ran()


@musubito_step(StepConfiguration(step_type=StepType.STOCHASTIC), name="draft")
def draft_on(topic: str) -> str:
    RAN.note("draft")
    return f"a draft on {topic}"


@musubito_step(name="report")
def report_on(text: Any) -> Report:
    RAN.note("report")
    return Report(text.value, len(text.value.split()))


@musubito_step(name="whole")
def whole_on(topic: str) -> str:
    RAN.note("whole")
    return draft_on(topic).value.upper()


class Program:
    """A draft that a step makes, a report on it, and a step that calls the one that drafts."""

    def __init__(self, path: Path) -> None:
        self.path = fresh(path)
        self.nodes = {call.operation: call.node_id for call in self.play("first")}

    def play(self, name: str = "again") -> Any:
        RAN.names.clear()
        with MusubitoEngine(SQLiteStorage(self.path)) as engine, use_musubito_engine(engine):
            with run(name) as r:
                report = report_on(draft_on("cats")).value
            with run(f"{name} whole"):
                self.answers = [report, whole_on("cats").value]
            return r.calls

    @property
    def ran(self) -> list[str]:
        return list(RAN.names)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    (tmp_path / ".musubito").mkdir()
    return Program(tmp_path / ".musubito" / "musubito.db")


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Editor]:
    """A program in the place of an editor: a line of Python that makes `text` of `text`. It keeps what it was given."""

    def make(line: str) -> Path:
        script, seen = tmp_path / "editor.py", tmp_path / "seen"
        script.write_text(
            "import sys\nfrom pathlib import Path\npath = Path(sys.argv[1])\ntext = path.read_text()\n"
            f"Path({str(seen)!r}).write_text(str(path) + '\\n' + text)\n{line}\npath.write_text(text)\n"
        )
        monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")
        monkeypatch.delenv("VISUAL", raising=False)
        return seen

    return make


def test_a_text_is_edited_in_the_editor(musubito: Musubito, program: Program, editor: Editor) -> None:
    seen = editor("text = text.replace('a draft', 'an essay')")
    told = musubito("edit", "draft", "--reason", "a better word")
    draft = program.nodes["draft"][:10]
    assert re.fullmatch(
        rf"draft {draft}, sample 0: edited by {WHO} at [-\d: ]+: a better word\.\n"
        "1 execution that called it will not be replayed\\.\n1 call downstream is stale\\.\n",
        told.stdout,
    ), told.stdout
    assert re.fullmatch(rf"draft {draft}, sample 0, of [-\d: ]+\n", told.stderr)
    where, text = seen.read_text().split("\n", 1)
    assert text == "a draft on cats\n"
    assert not Path(where).parent.exists()
    program.play()
    assert program.answers == [Report("an essay on cats", 4), "AN ESSAY ON CATS"]
    assert program.ran == ["report", "whole"]


def test_any_other_output_is_edited_as_json(musubito: Musubito, program: Program, editor: Editor) -> None:
    seen = editor("text = text.replace('a draft', 'an essay')")
    assert musubito("edit", program.nodes["report"]).exit_code == 0
    assert json.loads(seen.read_text().split("\n", 1)[1]) == {"$type": "Report", "title": "a draft on cats", "words": 4}
    program.play()
    assert program.answers[0] == Report("an essay on cats", 4)
    assert program.ran == []


@pytest.mark.parametrize(
    ("output", "before", "after", "edited"),
    [
        ((["one result"], []), "one", "another", (["another result"], [])),
        (([1.0], [[[1.0, 2.0]]]), "2.0", "3.0", ([1.0], [[[1.0, 3.0]]])),
    ],
)
def test_a_tuple_is_never_taken_for_what_an_adapter_stores(
    musubito: Musubito, tmp_path: Path, editor: Editor, output: Any, before: str, after: str, edited: Any
) -> None:
    """Adapters store more than the output of a step: that is told by its type, and not by its shape."""
    (tmp_path / ".musubito").mkdir()

    @musubito_step
    def pair() -> Any:
        return output

    with MusubitoEngine(SQLiteStorage(fresh(tmp_path / ".musubito" / "musubito.db"))) as engine:
        with use_musubito_engine(engine):
            call = pair().node_id
            shown = {"$type": "tuple", "items": list(output)}
            assert json.loads(musubito("show", call, "--json").stdout)["output"] == shown
            seen = editor(f"text = text.replace({before!r}, {after!r})")
            assert musubito("edit", call).exit_code == 0
            assert json.loads(seen.read_text().split("\n", 1)[1]) == shown
            assert pair().value == edited
            engine.override(call, output, reason="as it was")
            assert pair().value == output


def test_what_is_left_as_it_is_changes_nothing(musubito: Musubito, program: Program, editor: Editor) -> None:
    seen = editor("pass")
    assert musubito("edit", "report").stdout == "Nothing was changed.\n"
    assert not Path(seen.read_text().split("\n")[0]).exists()
    assert musubito("edit", "draft", "--value", "-", given="a draft on cats\n").stdout == "Nothing was changed.\n"
    told = musubito("edit", "--undo", "draft")
    assert (told.exit_code, "nothing to undo" in told.stderr) == (2, True)


def test_what_cannot_be_stored_is_kept_in_its_file(musubito: Musubito, program: Program, editor: Editor) -> None:
    editor("text = text.replace('4', '\"four\"')")
    told = musubito("edit", "report")
    assert told.exit_code == 2
    assert "$.words: it is a whole number, and stays one; this is text" in told.stderr
    (path,) = re.findall(r"kept in (\S+)", told.stderr)
    assert '"four"' in Path(path).read_text()
    assert program.play()[1].outcome == "replayed"
    assert program.answers[0].words == 4


def test_an_editor_that_fails_changes_nothing(
    musubito: Musubito, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "false")
    monkeypatch.delenv("VISUAL", raising=False)
    told = musubito("edit", "draft")
    assert told.exit_code == 2
    assert "EDITOR" in told.stderr
    assert "kept" not in told.stderr


def test_a_wrong_text_is_opened_again_for_whoever_is_there(program: Program, editor: Editor) -> None:
    """In a terminal: the first text is no JSON, the second one is."""
    pty = pytest.importorskip("pty")
    editor("text = text.replace('cats', 'dogs') if 'JSON' in text else text.replace('}', '} JSON')")
    script = Path(os.environ["EDITOR"].split()[1])
    script.write_text(script.read_text().replace("if 'JSON' in text", ".replace(' JSON', '') if 'JSON' in text"))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "musubito", "--db", str(program.path), "edit", "report"]
    with subprocess.Popen(command, stdin=theirs, stderr=subprocess.PIPE, text=True) as process:
        os.write(ours, b"y\n")
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert "no JSON" in told
    program.play()
    assert program.answers[0].title == "a draft on dogs"


def test_a_value_from_a_file_or_the_standard_input(musubito: Musubito, program: Program, tmp_path: Path) -> None:
    file = tmp_path / "value.txt"
    file.write_text("an essay\n")
    told = musubito("edit", "draft", "--value", str(file), "--by", "Anna", "--json")
    document = json.loads(told.stdout)
    assert (document["edited"], document["callers"], document["stale"]) == (True, 1, 1)
    assert document["node"]["execution"]["edit"]["person"] == "Anna"
    program.play()
    assert program.answers[1] == "AN ESSAY"
    assert (
        musubito("edit", "report", "--value", "-", given='{"$type": "Report", "title": "x", "words": 1}').exit_code == 0
    )
    program.play()
    assert program.answers[0] == Report("x", 1)
    wrong = musubito("edit", "report", "--value", "-", given="[]")
    assert wrong.exit_code == 2
    assert "engine.override" in wrong.stderr
    file.write_bytes(b"\xff")
    assert "no text in UTF-8" in musubito("edit", "draft", "--value", str(file)).stderr
    assert "cannot be read" in musubito("edit", "draft", "--value", str(tmp_path / "none")).stderr


def test_an_edit_is_undone(musubito: Musubito, program: Program) -> None:
    musubito("edit", "draft", "--value", "-", given="an essay")
    told = musubito("edit", "--undo", "draft", "--reason", "it was right")
    assert "the edit was undone by" in told.stdout
    assert "stale" not in told.stdout
    assert "What was built on the earlier output is found again" in told.stdout
    program.play()
    assert program.answers == [Report("a draft on cats", 4), "A DRAFT ON CATS"]
    assert program.ran == ["whole"]


def test_readers_say_who_edited_it_and_why(musubito: Musubito, program: Program) -> None:
    musubito("edit", "draft", "--value", "-", "--by", "Anna", "--reason", "too short", given="an essay")
    program.play()
    by = r"by Anna at [-\d: ]+: too short"
    draft = program.nodes["draft"]
    assert re.search(rf"edited +{by}\n", musubito("show", "draft").stdout)
    assert re.search(rf"its output: edited {by}\n", musubito("why", "draft").stdout)
    assert re.search(rf"the output of draft {draft[:10]}: edited {by}\n", musubito("why", "report").stdout)
    lineage = musubito("lineage", "report").stdout
    assert re.search(rf"draft +edited .*{draft[:10]}", lineage)
    assert re.search(rf"draft {draft[:10]}: edited {by}\n", lineage)
    told = musubito("diff", "first", "again")
    assert re.search(r"~ +draft +ran +replayed +differs +edited", told.stdout)
    assert re.search(rf"draft {draft[:10]}: edited {by}\n", told.stdout)
    # The reason may quote what the output says.
    for command in ("show", "why", "lineage"):
        for flag in ((), ("--json",)):
            hidden = musubito(command, "draft", "--no-inputs", *flag).stdout
            assert "Anna" in hidden
            assert "too short" not in hidden


def test_an_edited_output_is_told_from_what_the_function_gave(musubito: Musubito, program: Program) -> None:
    def time_of(command: str) -> str:
        ran = re.search(r"^ran +(\S+ \S+),", musubito("show", command).stdout, re.MULTILINE)
        assert ran is not None
        return ran[1]

    with closing(sqlite3.connect(program.path)) as connection, connection:
        connection.execute("UPDATE _executions SET started_at = started_at - 3600")
    at = time_of("draft")
    for text in ("an essay", "a poem"):
        musubito("edit", "draft", "--value", "-", given=text)
        assert time_of("draft") == at, "the function ran when it ran"
    program.play()
    assert re.search(r"● draft .* same, edited ", musubito("show", "again").stdout)
    assert "edited" not in musubito("show", "first").stdout
    musubito("edit", "draft", "--undo")
    musubito("edit", "draft", "--undo")
    program.play("undone")
    assert "edited" not in musubito("show", "undone").stdout


def test_what_cannot_be_edited_is_said(musubito: Musubito, program: Program, tmp_path: Path) -> None:
    odd = musubito_step(name="odd")(lambda x: b"bytes")
    with MusubitoEngine(SQLiteStorage(program.path)) as engine, use_musubito_engine(engine):
        odd(1)
    told = musubito("edit", "odd")
    assert told.exit_code == 2
    assert "cannot be edited as text" in told.stderr
    assert "engine.override" in told.stderr
    assert "is a run" in musubito("edit", "first").stderr
    assert "give one of them" in musubito("edit", "odd", "--undo", "--value", "-").stderr
    assert musubito("edit", "nothing").exit_code == 2


@musubito_step(name="read")
def read_from(name: str) -> str:
    RAN.note("read")
    return Path(name).read_text()


def test_an_edit_that_cannot_answer_since_a_file_changed_is_told(
    musubito: Musubito, program: Program, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("a draft")
    with MusubitoEngine(SQLiteStorage(program.path)) as engine, use_musubito_engine(engine):
        result = read_from(str(file))
        assert musubito("edit", "read", "--value", "-", given="an essay").stderr == ""
        assert read_from(str(file)).value == "an essay"
        file.write_text("other notes")
        told = musubito("edit", "read", "--value", "-", given="a book")
        assert told.exit_code == 0
        assert f"notes.txt, which read {result.node_id[:10]} read, has changed since" in " ".join(told.stderr.split())
        engine.override(result, "a letter", reason="")
        assert "does not answer: notes.txt, which it read, has changed" in caplog.text
        assert read_from(str(file)).value == "other notes"
