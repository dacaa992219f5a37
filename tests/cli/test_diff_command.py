"""`musubito diff`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, record_usage, run, use_musubito_engine
from tests.cli.conftest import Musubito, World


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Runs "a" and "b" that are the same, and "c" with other arguments and one call less and more."""
    path = tmp_path / "runs.db"
    ask = musubito_step(name="report/ask")(lambda question, how: question)
    judge = musubito_step(name="report/judge")(lambda text: text == "why?")
    send = musubito_step(name="a_package.with_modules.and_a_very_long_name/of_a_graph/and_its_node/send")(
        lambda text: text
    )
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        for name in ("a", "b"):
            with run(name):
                judge(ask("why?", "briefly").value)
                ask("when?", "briefly")
        with run("c"):
            ask("why?", "at length")
            ask("when?", "briefly")
            send("text")
    return str(path)


def test_no_difference(musubito: Musubito, path: str) -> None:
    for before, after, how in (("a", "b", ""), ("a", "a", " (3 ran in both)"), ("b", "b", " (3 replayed in both)")):
        result = musubito("--db", path, "diff", before, after)
        assert result.exit_code == 0
        assert result.stdout.endswith(f"The runs do not differ: 3 calls are the same{how}.\n")


def test_one_run_is_compared_with_the_one_of_its_name_before_it(musubito: Musubito, world: World) -> None:
    with MusubitoEngine(SQLiteStorage(world.path)) as engine, use_musubito_engine(engine):
        ask = musubito_step(name="ask")(lambda question: question)
        for name, question in (("one", "why?"), ("other", "what?"), ("one", "when?")):
            with run(name):
                ask(question)
    made = json.loads(musubito("--db", str(world.path), "diff", "last", "--json").stdout)
    assert json.loads(musubito("--db", str(world.path), "diff", "--json").stdout) == made
    assert [made[side]["name"] for side in ("before", "after")] == ["one", "one"]
    assert made["before"]["started_at"] < made["after"]["started_at"]
    assert [(call["change"], call["reason"]) for call in made["calls"]] == [("changed", "nothing like it")]
    shown = json.loads(musubito("--db", str(world.path), "show", "last", "--json").stdout)
    assert [call["after"] for call in made["calls"]] == shown["calls"]
    alone = musubito("--db", str(world.path), "diff", "other")
    assert (alone.exit_code, alone.stdout) == (2, "")
    assert re.search(r"there is no run called 'other' before [0-9a-f-]+; give two runs", alone.stderr)


@pytest.mark.parametrize("columns", [80, 140])
def test_differences(musubito: Musubito, path: str, columns: int) -> None:
    result = musubito("--db", path, "diff", "b", "last", columns=columns)
    assert result.exit_code == 1
    *runs, calls, summary = result.stdout.split("\n\n")
    shown = [musubito("--db", path, "show", name, columns=columns).stdout for name in ("b", "c")]
    assert runs == [told.partition("\n\n")[0] for told in shown]
    assert [line.split() for line in calls.splitlines()[1:]] == [
        ["~", "report/ask", "replayed", "ran", "same", "input", "changed:", "how"],
        ["+", calls.splitlines()[2].split()[1], "ran"],
        ["-", "report/judge", "replayed"],
    ]
    sent = calls.splitlines()[2].split()[1]
    assert (sent[0] == "…", sent.endswith("/and_its_node/send")) == (columns == 80, True)
    assert summary == "1 call is the same (1 replayed in both), 1 changed, 1 added, 1 gone.\n"
    assert max(map(len, result.stdout.splitlines())) <= columns
    assert "\x1b" not in result.stdout


def test_saved_money_and_saved_time_are_two_columns(musubito: Musubito, tmp_path: Path) -> None:
    @musubito_step(name="ask")
    def ask(x: int) -> int:
        record_usage(input_tokens=1000, output_tokens=10, model="gpt-4o")
        return x

    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine, use_musubito_engine(engine):
        for name in ("a", "b"):
            with run(name):
                ask(1)
    for columns in (80, 140):
        told = musubito("--db", "m.db", "runs", columns=columns).stdout.splitlines()
        assert max(map(len, told)) <= columns
        assert " ".join(told[0].split()) == (
            "run name started status hits wall saved"
            if columns == 80
            else "run name started status hits wall compute tokens saved compute saved wall saved"
        )
        assert "$" in told[1]


def test_contents_are_not_shown(musubito: Musubito, path: str) -> None:
    for arguments in (("diff", "a", "c"), ("diff", "a", "c", "--json")):
        assert "briefly" not in musubito("--db", path, *arguments).stdout


def test_json(musubito: Musubito, path: str, as_golden: Callable[[str, str], None]) -> None:
    result = musubito("--db", path, "diff", "b", "c", "--json")
    assert result.exit_code == 1
    as_golden("diff", result.stdout)
    same = musubito("--db", path, "diff", "a", "b", "--json")
    assert same.exit_code == 0
    assert '"differ": false' in same.stdout


def test_short_ids(musubito: Musubito, world: World) -> None:
    lines = musubito("--db", str(world.path), "runs").stdout.splitlines()[1:]
    edited, second, first = (line.split()[0] for line in lines)
    assert musubito("--db", str(world.path), "diff", first, second).exit_code == 1
    assert musubito("--db", str(world.path), "diff", edited, edited).exit_code == 0


def test_an_unknown_run(musubito: Musubito, path: str) -> None:
    result = musubito("--db", path, "diff", "a", "zzz")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert musubito("--db", path, "diff", "a").exit_code == 2
