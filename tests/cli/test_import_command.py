"""A run is taken home as a cassette, and a cassette is loaded into a store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from musubito import (
    MusubitoEngine,
    NotReplayed,
    SQLiteStorage,
    StepConfiguration,
    musubito_step,
    record_usage,
    run,
    use_musubito_engine,
)
from musubito.cli.root import root
from musubito.lineage import Lineage
from musubito.store.changes import LearnState
from musubito.store.queries import StatePlaces
from tests.recorded.conftest import Run, cassette_file, edit, held, play, project, runs
from tests.server import drop_database, new_store

__all__ = ["play", "project"]

pytest_plugins = ["pytester"]


@musubito_step(name="fetch")
def fetch(what: str) -> str:
    record_usage(model="small", input_tokens=10, output_tokens=2)
    return f"<{what}>" * 500


@musubito_step(name="draw")
def draw(text: str) -> tuple[str, int]:
    return fetch(text).value[:20], 1


def command(*args: object) -> Result:
    return CliRunner().invoke(root, [*map(str, args)])


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    with MusubitoEngine(SQLiteStorage(tmp_path / "a.db")) as engine, use_musubito_engine(engine), run("nightly"):
        draw("x")
        engine.storage.write([LearnState("default", "draw", b"code", ["m.USAGE", "m.SEEN"])])
    file = tmp_path / "run.md"
    done = command("--db", tmp_path / "a.db", "export", "nightly", "--format", "cassette", "-o", file)
    assert (done.exit_code, done.output) == (0, "")
    return file


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/new/b.db"
        return
    url = new_store()
    yield url
    drop_database(url)


def test_what_was_exported_is_replayed_from_another_store(exported: Path, url: str) -> None:
    done = command("--url", url, "import", exported)
    assert (done.exit_code, done.output) == (0, "Imported 2 results.\n")
    again = command("--url", url, "import", exported, exported, "--json")
    assert json.loads(again.output) == {"added": 0, "present": 4, "effects": 0}
    with MusubitoEngine.from_url(url) as engine, use_musubito_engine(engine), run(mode="replay_only"):
        assert draw("x").value == ("<x>" * 6 + "<x", 1)
        assert fetch("x").value == "<x>" * 500
        with pytest.raises(NotReplayed):
            draw("y")
        lineage = Lineage(engine)
        assert lineage.input(lineage.node(draw("x").node_id)) == {"text": "x"}
        # The keys leave out what a step changes itself.
        assert engine.storage.find(StatePlaces("default", "draw", b"code")) == ("m.SEEN", "m.USAGE")
    assert command("--url", url, "verify").exit_code == 0


def test_a_store_that_has_a_newer_answer_keeps_what_it_has(exported: Path, tmp_path: Path) -> None:
    before = command("--db", tmp_path / "a.db", "stats", "--json").output
    assert command("--db", tmp_path / "a.db", "import", exported).output == (
        "Imported 0 results, 2 results were there already.\n"
    )
    assert command("--db", tmp_path / "a.db", "stats", "--json").output == before


def test_an_answer_that_was_invalidated_does_not_come_back(exported: Path, tmp_path: Path) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / "a.db")) as engine, use_musubito_engine(engine):
        engine.invalidate("fetch")
        assert not engine.explain(draw, "x").decision.replay
    done = command("--db", tmp_path / "a.db", "import", exported)
    assert "Imported 0 results" in done.output
    with MusubitoEngine(SQLiteStorage(tmp_path / "a.db")) as engine, use_musubito_engine(engine):
        assert not engine.explain(fetch, "x").decision.replay
        assert not engine.explain(draw, "x").decision.replay


def test_what_cannot_be_done_is_told(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    for args in (("draw",), ("last", "--no-inputs")):
        refused = command("--db", path, "export", *args, "--format", "cassette")
        assert refused.exit_code == 2
        assert "a cassette holds a run with its contents" in refused.output
    exported.write_text("{}")
    damaged = command("--db", tmp_path / "c.db", "import", exported)
    assert damaged.exit_code == 2
    assert "run.md: it is no cassette of version 2" in damaged.output
    assert not (tmp_path / "c.db").exists()
    with MusubitoEngine(SQLiteStorage(path), namespace="secret", key=b"k" * 32) as engine, use_musubito_engine(engine):
        draw("z")
    encrypted = command("--db", path, "export", "last", "--format", "cassette")
    assert encrypted.exit_code == 2
    assert "the namespace 'secret' is encrypted, and no cassette is made of it" in encrypted.output


def test_an_encrypted_namespace_takes_no_cassette(exported: Path, tmp_path: Path) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / "b.db"), key=b"k" * 32) as engine, use_musubito_engine(engine):
        draw("z")
    refused = command("--db", tmp_path / "b.db", "import", exported)
    assert refused.exit_code == 2
    assert "the namespace 'default' is encrypted here, and takes no cassette" in refused.output


@musubito_step(StepConfiguration(step_type="external_effect"), name="mail")
def mail(to: str) -> str:
    SENT.append(to)
    return to


@musubito_step(name="mails")
def mails(to: str) -> str:
    return mail(to).value


SENT: list[str] = []


def test_an_effect_of_a_cassette_takes_place_in_another_store(tmp_path: Path) -> None:
    SENT.clear()
    with MusubitoEngine(SQLiteStorage(tmp_path / "a.db")) as engine, use_musubito_engine(engine), run("nightly"):
        mails("Ada")
        fetch("x")
    file = tmp_path / "run.md"
    command("--db", tmp_path / "a.db", "export", "nightly", "--format", "cassette", "-o", file)
    assert len(held(file)["results"]) == 3
    done = command("--db", tmp_path / "b.db", "import", file)
    assert done.output == "Imported 1 result, 2 results of effects left out.\n"
    with MusubitoEngine(SQLiteStorage(tmp_path / "b.db")) as engine, use_musubito_engine(engine):
        mails("Ada")
    assert SENT == ["Ada", "Ada"]


def test_a_secret_stops_the_export(tmp_path: Path) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / "a.db")) as engine, use_musubito_engine(engine):
        musubito_step(name="log_in")(lambda: {"token": "t" * 9})()
    refused = command("--db", tmp_path / "a.db", "export", "last", "--format", "cassette", "-o", tmp_path / "c.md")
    assert refused.exit_code == 2
    assert "the output of log_in holds what looks like a secret at $.token" in refused.output
    assert not (tmp_path / "c.md").exists()


def test_a_run_of_production_becomes_a_test(
    project: Path, play: Run, monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester
) -> None:
    edit(
        project / "answers.py",
        "HERE = Path(__file__).parent",
        "import os\n\n\ndef here():\n    return Path(os.getcwd())",
    )
    edit(project / "answers.py", "(HERE /", "(here() /")
    file = cassette_file(project)
    file.parent.mkdir(parents=True)
    program = (
        "from answers import ask\nfrom musubito import MusubitoEngine, use_musubito_engine\n"
        "with MusubitoEngine.from_url('sqlite:///work.db', namespace='live') as engine, use_musubito_engine(engine):\n"
        "    ask('why?')\n"
    )
    assert pytester.runpython_c(program).ret == 0
    assert runs(project) == 1
    assert command("--db", project / "work.db", "export", "last", "--format", "cassette", "-o", file).exit_code == 0
    assert held(file)["namespace"] == "live"
    play("--musubito=replay").assert_outcomes(passed=1)
    assert runs(project) == 0
