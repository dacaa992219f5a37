"""`musubito runs`."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, run, use_musubito_engine
from musubito.lineage import Lineage
from tests.cli.conftest import Musubito, World


def test_newest_first(musubito: Musubito, world: World) -> None:
    lines = musubito("--db", str(world.path), "runs").stdout.splitlines()
    assert lines[0].split() == ["run", "name", "started", "status", "hits", "wall", "saved"]
    assert [line.split()[1] for line in lines[1:]] == ["edited", "second", "first"]
    assert [re.search(r"\d+ of \d+(, \d+ failed)?", line)[0] for line in lines[1:]] == [
        "1 of 3",
        "6 of 10",
        "0 of 45, 1 failed",
    ]


def test_after_a_prune_it_does_not_say_that_nothing_ran(musubito: Musubito, tmp_path: Path) -> None:
    assert musubito("--db", "m.db", "runs").exit_code == 2
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db"), now_provider=lambda: 1e9) as engine:
        engine.execute("old", {}, lambda: 0)
        engine.execute("old", {"x": 1}, lambda x: 0)
    with contextlib.closing(sqlite3.connect(tmp_path / "m.db")) as connection, connection:
        connection.execute("DELETE FROM _calls")
    for arguments in (("runs",), ("savings",)):
        assert musubito("--db", "m.db", *arguments).stdout.startswith(
            "The history has no run: it was pruned, or a process was killed"
        )
    assert (
        "The history has no run: it was pruned, or a process was killed"
        in musubito("--db", "m.db", "show", "last").stderr
    )


def test_a_moment_that_no_calendar_has_is_shown_as_a_number(musubito: Musubito, tmp_path: Path) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db"), now_provider=lambda: 1.8e12) as engine:
        engine.execute("step", {}, lambda: 0)
    for arguments in (("runs",), ("show", "last"), ("show", "step"), ("diff", "last", "last")):
        shown = musubito("--db", "m.db", *arguments)
        assert shown.exit_code == 0
        assert "1.8e+12 s" in shown.stdout
    with contextlib.closing(sqlite3.connect(tmp_path / "m.db")) as connection, connection:
        connection.execute("UPDATE _executions SET started_at = 1e300")
    assert "1e+300 s" in musubito("--db", "m.db", "show", "step").stdout


def test_json(musubito: Musubito, world: World, as_golden: Callable[[str, str], None]) -> None:
    as_golden("runs", musubito("--db", str(world.path), "runs", "--json").stdout)


def test_limit_and_name(musubito: Musubito, world: World) -> None:
    def names(*arguments: str) -> list[str]:
        return [
            each["name"]
            for each in json.loads(musubito("--db", str(world.path), "runs", "--json", *arguments).stdout)["runs"]
        ]

    assert names("--limit", "2") == ["edited", "second"]
    assert names("--name", "first") == ["first"]
    assert musubito("--db", str(world.path), "runs", "--name", "third").stdout == "No run is called 'third'.\n"


def test_short_ids_are_taken(musubito: Musubito, world: World) -> None:
    lines = musubito("--db", str(world.path), "runs").stdout.splitlines()[1:]
    shown = [musubito("--db", str(world.path), "show", line.split()[0]).stdout.split()[2] for line in lines]
    assert shown == ["edited", "second", "first"]


@pytest.mark.parametrize("columns", [80, 180])
def test_a_status_has_the_same_words_in_the_list_and_in_its_json(musubito: Musubito, tmp_path, columns: int) -> None:
    path = tmp_path / "m.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine), run("caught"):
        with contextlib.suppress(ZeroDivisionError):
            halve(0)
    (told,) = json.loads(musubito("--db", str(path), "runs", "--json").stdout)["runs"]
    assert told["status"] == "finished with failures"
    assert f" {told['status']} " in musubito("--db", str(path), "runs", columns=columns).stdout


@musubito_step
def halve(n: int) -> float:
    return 1 / n


def test_filters_and_pages(musubito: Musubito, tmp_path: Path) -> None:
    now = 1e9
    with (
        MusubitoEngine(SQLiteStorage(tmp_path / "m.db"), now_provider=lambda: now) as engine,
        use_musubito_engine(engine),
    ):
        for number in range(6):
            with contextlib.suppress(ZeroDivisionError), run(f"r{number}", tags={"team": "ab"[number % 2]}):
                halve(number % 3)
            now += 10
        with run("caught"), contextlib.suppress(ZeroDivisionError):
            halve(0)
        engine.execute("alone", {}, lambda: 0)

    def names(*arguments: str) -> list[str]:
        shown = musubito("--db", "m.db", "runs", "--json", *arguments)
        assert shown.exit_code == 0, shown.stderr
        return [each["name"] for each in json.loads(shown.stdout)["runs"]]

    every = names()
    assert set(every) == {"alone", "caught", *(f"r{number}" for number in range(6))}
    assert names("--status", "failed") == ["r3", "r0"]
    assert names("--failed") == ["caught", "r3", "r0"]
    assert names("--tag", "team=b") == ["r5", "r3", "r1"]
    assert names("--tag", "team=b", "--status", "finished") == ["r5", "r1"]
    assert names("--operation", "alone") == ["alone"]
    assert sorted(names("--operation", f"{__name__}.halve")) == sorted(set(every) - {"alone"})
    assert names("--name", "r2", "--operation", "alone") == []
    # Page by page, each after the last run of the one before.
    pages, before = [], ()
    while page := names("--limit", "3", *before):
        pages += page
        before = ("--before", page[-1])
    assert pages == every
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db"), now_provider=lambda: now) as engine:
        assert [each.name for each in Lineage(engine).runs(since=now - 25)] == every[:4]


def test_filters_say_what_is_wrong(musubito: Musubito, world: World) -> None:
    assert "is no tag; say KEY=VALUE" in musubito("--db", str(world.path), "runs", "--tag", "team").stderr
    assert "is no age; say 30d" in musubito("--db", str(world.path), "runs", "--since", "yesterday").stderr
    assert musubito("--db", str(world.path), "runs", "--status", "failed").stdout == (
        "No run is like that; 'musubito runs' lists all.\n"
    )
