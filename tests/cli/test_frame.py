"""What holds for all commands: errors, where the database is, colours, pipes, help, completion."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from musubito import MusubitoEngine, SQLiteStorage
from musubito.cli.root import COMMANDS
from tests.cli.conftest import Musubito, World

COMMAND = (sys.executable, "-m", "musubito")


OPENING = [
    ["runs"],
    ["show", "last"],
    ["why", "summarise"],
    ["stats"],
    ["doctor"],
    ["ui"],
    ["copy", "--to", "sqlite:///copy.db"],
    ["plan", "a:b"],
]


@pytest.mark.parametrize("place", ["path", "url"])
@pytest.mark.parametrize(("name", "value"), [("MUSUBITO_KEEP", "30"), ("MUSUBITO_OTEL", "maybe")])
def test_a_bad_setting_is_one_line(musubito: Musubito, world: World, place: str, name: str, value: str) -> None:
    option = ["--db", str(world.path)] if place == "path" else ["--url", f"sqlite:///{world.path}"]
    for arguments in OPENING:
        result = musubito(*option, *arguments, **{name: value})
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"musubito: the environment variable {name} is ")
        assert result.stderr.count("\n") == 1
        assert repr(value) in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "nothing-like-it"],
        ["show", "abcdef"],
        ["why", "abcdef"],
        ["why", "no id"],
        ["lineage", "abcdef"],
        ["invalidate", "nothing-like-it"],
        ["runs", "--limit", "0"],
        ["runs", "--nothing-like-it"],
        ["nothing-like-it"],
        ["lineage"],
    ],
)
def test_errors_are_one_line(musubito: Musubito, world: World, arguments: list[str]) -> None:
    result = musubito("--db", str(world.path), *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("musubito: ")
    assert result.stderr.count("\n") == 1


def test_what_is_no_store_is_one_line(musubito: Musubito, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no database at all\n" * 100)
    for arguments in (["--db", str(text)], ["--url", "postgres://host/x"], ["--url", "sqlite:///"]):
        result = musubito(*arguments, "runs")
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert text.read_text() == "no database at all\n" * 100


def test_where_the_database_is(musubito: Musubito, world: World, tmp_path: Path) -> None:
    with_db = musubito("--db", str(world.path), "runs", "--json").stdout
    assert "edited" in with_db
    url = f"sqlite:///{world.path}"
    assert musubito("--url", url, "runs", "--json").stdout == with_db
    assert musubito("runs", "--json", MUSUBITO_URL=url).stdout == with_db
    assert musubito("--db", "gone.db", "runs", MUSUBITO_URL=url).exit_code == 2
    (tmp_path / ".musubito").mkdir()
    MusubitoEngine(SQLiteStorage(tmp_path / ".musubito/musubito.db")).close()
    assert musubito("runs").stdout == "Nothing has run yet.\n"


def test_a_database_is_named_in_one_way(musubito: Musubito, world: World) -> None:
    said = musubito("--db", str(world.path), "--url", f"sqlite:///{world.path}", "runs")
    assert (said.exit_code, said.stdout) == (2, "")
    assert "--db and --url both say where the store is" in said.stderr
    for twice in (("--db", "x.db", "--db", str(world.path), "runs"), ("runs", "--db", "x.db", "--db", str(world.path))):
        said = musubito(*twice)
        assert (said.exit_code, said.stdout) == (2, "")
        assert "--db is given twice" in said.stderr


def test_a_path_with_signs_of_a_url(musubito: Musubito, tmp_path: Path) -> None:
    MusubitoEngine(SQLiteStorage(tmp_path / "what?.db")).close()
    assert musubito("--db", "what?.db", "runs").exit_code == 0


def test_colours_only_where_they_are_wanted(musubito: Musubito, world: World) -> None:
    plain = musubito("--db", str(world.path), "show", "first")
    assert "\x1b" not in plain.stdout
    assert "\x1b[" in musubito("--db", str(world.path), "show", "first", FORCE_COLOR="1").stdout
    without = musubito("--db", str(world.path), "show", "first", FORCE_COLOR="1", NO_COLOR="1").stdout
    assert "\x1b[3" not in without
    assert "○ digest" in plain.stdout


@pytest.mark.parametrize("arguments", [["runs", "--json"], ["show", "first"], ["show", "first", "--json"]])
def test_a_reader_that_has_gone(world: World, arguments: list[str]) -> None:
    reads, writes = os.pipe()
    child = subprocess.Popen(
        [*COMMAND, "--db", str(world.path), *arguments], stdout=writes, stderr=subprocess.PIPE, text=True
    )
    os.close(reads)
    os.close(writes)
    _, complaint = child.communicate(timeout=60)
    assert (child.returncode, complaint) == (0, "")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_with_an_example(musubito: Musubito, name: str) -> None:
    result = musubito(name, "--help")
    assert result.exit_code == 0
    assert f"musubito {name}" in result.stdout.partition("Example: ")[2]
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_help_lists_all_commands(musubito: Musubito) -> None:
    told = musubito("--help").stdout
    assert all(f"  {name} " in told for name in COMMANDS)
    assert "..." not in told.partition("Commands:")[2]
    assert musubito().stdout == told


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(musubito: Musubito, shell: str) -> None:
    assert "_MUSUBITO_COMPLETE" in musubito("completion", shell).stdout


def test_completes_commands() -> None:
    environment = {**os.environ, "_MUSUBITO_COMPLETE": "bash_complete", "COMP_WORDS": "musubito inv", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "from musubito.cli import main; main()"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == ["plain,invalidate"]


def test_what_the_recorded_says_does_nothing_to_a_terminal(musubito: Musubito, tmp_path: Path) -> None:
    path = tmp_path / "odd.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine:
        node = engine.execute("\x1b[31m[bold]odd[/bold]", {"x": "\x1b]0;title\x07"}, lambda x: x).node_id
    for arguments in (["runs"], ["show", "last"], ["show", node], ["lineage", node], ["why", node]):
        told = musubito("--db", str(path), *arguments, columns=200).stdout
        assert "\x1b" not in told
        assert "\x07" not in told
        assert "[bold]odd[/bold]" in told


def test_what_cannot_be_written_is_said_in_one_line(world: World) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs a device that is always full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "musubito", "--db", str(world.path), "stats"],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (done.returncode, done.stderr.count("\n"), "Traceback" in done.stderr) == (2, 1, False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "01a"), "'01a' is too short: an id takes at least 4 digits"),
        (("why", "nightly"), "no run and no step is called 'nightly'; 'musubito runs' lists the runs."),
        (("lineage", "first"), "first is a run: name one of its calls, as 'musubito show first' lists them"),
        (("diff", "x", "y"), "see 'musubito runs'"),
        (("saving",), "did you mean 'savings'?"),
        (("show", "nightly"), "no run and no step is called 'nightly'; 'musubito runs' lists the runs."),
        (("export", "nightly"), "no run and no step is called 'nightly'; 'musubito runs' lists the runs."),
        (("export", "abcdef"), "no run, call or effect in doubt begins with abcdef. 'musubito runs' lists the runs"),
        (("diff", "nightly", "last"), "no run is called 'nightly', see 'musubito runs'"),
        (("forget", "nightly"), "no step, call or run is called 'nightly'; 'musubito runs' and"),
        (("forget", "loads"), "no step, call or run is called 'loads'; did you mean load?"),
        (("--no-inputs", "runs"), "runs takes no --no-inputs"),
        (("runs", "--db", "y"), "--db is given twice"),
        (("runs", "--url", "sqlite:///y"), "--db and --url both say where the store is"),
        (("impact", "nope"), "there is digest, load, rate, summarise"),
    ],
)
def test_what_is_wrong_is_said_with_the_remedy(
    musubito: Musubito, world: World, arguments: tuple[str, ...], said: str
) -> None:
    result = musubito("--db", str(world.path), *arguments)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert said in result.stderr


def test_some_of_many_operations_are_told(musubito: Musubito, tmp_path: Path) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine:
        for number in range(9):
            engine.execute(f"step {number}", {}, lambda: 0)
    assert musubito("--db", "m.db", "impact", "nope").stderr.rstrip().endswith("step 4, …")
    assert "nothing has run here yet" in musubito("--db", "other.db", "runs").stderr


@pytest.mark.parametrize(
    "arguments",
    [("runs",), ("show", "first"), ("stats",), ("savings", "--by", "step"), ("diff", "first", "edited")],
)
def test_in_a_narrow_terminal_only_names_are_cut(musubito: Musubito, world: World, arguments: tuple[str, ...]) -> None:
    wide = musubito("--db", str(world.path), *arguments, columns=100).stdout
    narrow = musubito("--db", str(world.path), *arguments, columns=40).stdout
    cells = [cell for cell in re.findall(r"[\d.,/%]+(?: ms| tok)?|ran|same|replayed", wide) if not cell.startswith(".")]
    # Sentences are broken elsewhere.
    assert [cell for cell in cells if cell not in " ".join(narrow.split())] == []
    assert len(cells) > 10
    # Blanks at the end of a row would go on below.
    table = narrow.partition("operation")[2] if arguments == ("stats",) else narrow
    assert [line for line in table.splitlines() if line.endswith("  ")] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("--db", "DB", "--json", "runs"),
        ("runs", "--json", "--db", "DB"),
        ("--json", "runs", "--url", "sqlite:///DB"),
        ("--url", "sqlite:///DB", "runs", "--json"),
    ],
)
def test_common_options_stand_before_or_after_the_command(
    musubito: Musubito, world: World, arguments: tuple[str, ...]
) -> None:
    said = musubito(*(each.replace("DB", str(world.path)) for each in arguments), MUSUBITO_URL="sqlite:///gone.db")
    assert said.stdout == musubito("--db", str(world.path), "runs", "--json").stdout


def test_no_inputs_stands_before_or_after_the_command(musubito: Musubito, world: World) -> None:
    after = musubito("--db", str(world.path), "show", "first", "--no-inputs").stdout
    assert musubito("--no-inputs", "--db", str(world.path), "show", "first").stdout == after
    assert "who=me" not in after


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "completion"])
def test_every_command_says_where_the_store_may_be(musubito: Musubito, command: str) -> None:
    told = musubito(command, "--help").stdout
    assert "--db PATH" in told and "--url URL" in told


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", [("runs",), ("show", "first"), ("stats",), ("impact", "load"), ("savings",)])
def test_columns_are_two_blanks_apart(musubito: Musubito, world: World, command: tuple[str, ...], columns: int) -> None:
    lines = musubito("--db", str(world.path), *command, columns=columns).stdout.splitlines()
    for line in lines:
        if "summarise" in line or "digest" in line:
            assert re.search(r"\S  +\S", line), line
            assert not re.search(r"(tok|ms) [a-z0-9]", line), line


def test_the_command_shows_warnings_of_the_library(tmp_path: Path) -> None:
    program = """
import logging, sys, musubito.cli
sys.argv[1:] = ["--version"]
try:
    musubito.cli.main()
finally:
    logging.getLogger("musubito").info("nothing")
    logging.getLogger("musubito").warning("only the owner may do that")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "only the owner may do that\n"
