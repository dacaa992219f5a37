from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, run, use_musubito_engine
from musubito.cli.root import root
from musubito.lineage.readers.formatting import short
from tests.cli.conftest import Musubito, World


@musubito_step(name="fetch")
def fetch(what: str) -> str:
    return f"<{what}>" * 100


@musubito_step(name="draw")
def draw(text: object) -> str:
    return f"drawn of {getattr(text, 'value', text)}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    path = folder / "musubito.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        with run("first"):
            draw(fetch("of-great-weight"))
        with use_musubito_engine(engine.in_namespace("other")):
            fetch("other-matter")
    return path


def ask(path: Path, *args: str, answer: str | None = None):
    return CliRunner().invoke(root, ["--db", str(path), "forget", *args], input=answer)


def is_found(path: Path, text: str) -> bool:
    return any(text.encode() in file.read_bytes() for file in path.parent.iterdir())


def test_an_operation(path):
    said = ask(path, "draw", "--yes")
    assert said.exit_code == 0
    assert said.output.startswith("draw: 1 execution forgotten, ")
    assert "1 stored input" in said.output
    assert is_found(path, "of-great-weight")
    assert ask(path, "fetch", "--yes").exit_code == 0
    assert not is_found(path, "of-great-weight") and not is_found(path, "other-matter")


def test_with_all_below(path):
    shown = CliRunner().invoke(root, ["--db", str(path), "export", "first", "--json"])
    node = next(each["node_id"] for each in json.loads(shown.output)["nodes"] if each["operation"] == "fetch")
    said = ask(path, node[:10], "--below", "--yes", "--json")
    done = json.loads(said.output)
    assert done.keys() == {"executions", "inputs", "parts", "size", "elsewhere", "erased", "nodes", "runs"}
    assert (done["executions"], done["erased"]) == (2, True)
    assert not is_found(path, "of-great-weight") and is_found(path, "other-matter")


def test_a_run_and_a_namespace(path):
    assert ask(path, "first", "--yes").output.startswith("first: 2 executions")
    assert not is_found(path, "of-great-weight")
    assert ask(path, "--namespace", "other", "--yes").output.startswith("namespace other: 1 execution")
    assert not is_found(path, "other-matter")


def test_it_asks_before(path):
    said = ask(path, "fetch", answer="n\n")
    assert said.exit_code == 2 and "nothing was forgotten" in said.output
    assert "--yes" in ask(path, "fetch").output
    assert is_found(path, "of-great-weight")
    assert ask(path, "fetch", answer="y\n").exit_code == 0
    assert not is_found(path, "other-matter")


def test_wrong_usage(path):
    for args in ((), ("fetch", "--namespace", "other"), ("unheard of", "--yes"), ("--namespace", "none", "--yes")):
        assert ask(path, *args).exit_code == 2


def test_what_its_input_holds(path):
    said = ask(path, "--where", "$.what=of-great-weight", "--below", answer="n\n")
    assert "Forget $.what=of-great-weight (" in said.output and "nothing was forgotten" in said.output
    said = ask(path, "--where", "$.what=of-great-weight", "--below", "--yes")
    assert said.exit_code == 0 and said.output.startswith("$.what=of-great-weight: 2 executions forgotten")
    assert not is_found(path, "of-great-weight") and is_found(path, "other-matter")
    said = ask(path, "--where", "$.what=of-great-weight", "--yes")
    assert said.exit_code == 2 and "none of" in said.output
    assert ask(path, "--where", "other-matter", "--yes").exit_code == 0
    assert not is_found(path, "other-matter")
    said = ask(path, "--where", "$.what[?(@.a)]=1", "--yes")
    assert said.exit_code == 2
    # A terminal's width breaks the lines.
    words = " ".join(said.output.split())
    assert "--where: '$.what[?(@.a)]=1' is no field with a value. Such are $.name=value," in words


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("$.topic=x y", "'$..topic=x y'"),
        ("$.items[*].topic=x y", "'$..topic=x y'"),
        ("$.inner[0].topic=x y", "'$..inner[0].topic=x y'"),
        ("$..doc.topic=x y", "'$..topic=x y'"),
        ('$.topic="x y"', "'$..topic=\"x y\"'"),
        ("$['a.b']=7", "'$..[\"a.b\"]=7'"),
    ],
)
def test_what_is_deeper_than_it_was_looked_for_is_pointed_at(path, said, meant):
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        draw({"inner": [{"topic": "x y", "a.b": 7}]})
    result = ask(path, "--where", said, "--yes")
    assert result.exit_code == 2
    assert f"holds {said}. But {meant} would find some" in result.output
    assert ask(path, "--where", meant.strip("'"), "--yes").exit_code == 0


def test_a_search_shows_on_a_terminal_how_far_it_is(path, musubito):
    search = ("--db", str(path), "forget", "--where", "other-matter", "--dry-run")
    assert "stored inputs" in musubito(*search, FORCE_COLOR="1").stderr
    assert musubito(*search).stderr == ""
    assert musubito(*search, "--json", FORCE_COLOR="1").stderr == ""


def test_where_nothing_is_deeper_either_nothing_is_pointed_at(path):
    said = ask(path, "--where", "$.topic=x", "--yes").output
    assert said == "musubito: none of 3 stored inputs holds $.topic=x.\n"


KILLED = """
import os, signal, sys
from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine

@musubito_step(name="killed")
def killed(what):
    return what

use_musubito_engine(MusubitoEngine(SQLiteStorage(sys.argv[1])))
killed("matter-of-the-killed")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_search_cannot_see_is_counted(path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert is_found(path, "matter-of-the-killed")
    unseen = "forget --where cannot see 1 execution without a stored input"
    said = ask(path, "--where", "matter-of-the-killed", "--yes")
    assert said.exit_code == 2
    assert unseen in said.stderr and "none of 3 stored inputs holds" in said.stderr
    for args in (("--dry-run",), ("--yes", "--json")):
        said = ask(path, "--where", "of-great-weight", *args)
        assert (said.exit_code, said.stderr.startswith(unseen)) == (0, True)
    # Forgotten executions hold nothing that could be missed.
    assert ask(path, "killed", "--yes").exit_code == 0
    assert not is_found(path, "matter-of-the-killed")
    assert ask(path, "--where", "other-matter", "--yes").stderr == ""


def test_of_a_namespace_nothing_is_left(path):
    # The newest execution of all keeps its number.
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        fetch("newest")
    said = ask(path, "--namespace", "other", "--yes", "--json")
    assert json.loads(said.output)["nodes"] == 1
    assert ask(path, "--namespace", "other", "--below", "--yes").exit_code == 2


def test_two_ways_to_name_what_to_forget_are_told_as_what_they_are(path):
    said = ask(path, "fetch", "--where", "$.what=x", "--yes")
    assert said.exit_code == 2
    assert "each say what to forget; give one of them" in said.output


@pytest.mark.parametrize("option", ["--where", "--namespace"])
def test_an_option_that_names_what_to_forget_is_given_once(path, option):
    """Of two the first would silently stay."""
    said = ask(path, option, "a", option, "b", "--yes")
    assert said.exit_code == 2
    assert f"{option} names one thing; call forget once for each" in said.output


@pytest.mark.parametrize(
    "args",
    [("draw",), ("fetch",), ("first",), ("fetch", "--below"), ("--where", "of-great-weight"), ("--namespace", "other")],
    ids=" ".join,
)
def test_what_would_be_forgotten_is_told_and_stays(path, args):
    before = ask(path, *args, "--dry-run", "--json")
    again = ask(path, *args, "--dry-run")
    assert (before.exit_code, again.exit_code) == (0, 0)
    would = json.loads(before.output)
    done = json.loads(ask(path, *args, "--yes", "--json").output)
    assert would["executions"] == done["executions"] > 0
    assert would["inputs"] == done["inputs"] > 0
    assert would["size"] == done["size"] > 0
    assert again.output.startswith("Would forget ")
    assert f"{would['executions']} execution" in again.output


def test_it_says_which_run_of_a_name_is_meant(musubito: Musubito, world: World) -> None:
    runs = json.loads(musubito("--db", str(world.path), "runs", "--json").stdout)["runs"]
    (first,) = [run["run_id"] for run in runs if run["name"] == "first"]
    told = musubito("--db", str(world.path), "forget", "first", given="n\n")
    assert (told.exit_code, told.stderr.partition("?")[0]) == (2, f"Forget first (run {short(first)})")
