"""Files that compiled code or a process opens: a path that the step names is a dependency."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from musubito import (
    MusubitoEngine,
    SQLiteStorage,
    StepConfiguration,
    musubito_step,
    use_musubito_engine,
)
from tests.fresh import fresh

NAME = "numbers.csv"
QUIET = StepConfiguration(step_type="stochastic")
RAN: list[str] = []


class Hook:
    """What happens beside the next body. It says of itself that it never changes."""

    do: Callable[[], object] | None = None

    def __musubito_identity__(self) -> str:
        return "a hook"

    def __call__(self) -> None:
        do, self.do = self.do, None
        if do is not None:
            do()


HOOK = Hook()


@dataclass
class Source:
    path: Path


@dataclass(slots=True)
class Compact:
    path: str


@pytest.fixture(autouse=True)
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MusubitoEngine]:
    folder = tmp_path / "checkout"
    folder.mkdir()
    monkeypatch.chdir(folder)
    write(1)
    RAN.clear()
    with MusubitoEngine(SQLiteStorage(fresh(tmp_path / "m.db"))) as engine, use_musubito_engine(engine):
        yield engine


def ran() -> int:
    """How many bodies have run since this was asked."""
    number = len(RAN)
    RAN.clear()
    return number


def total(table: pl.DataFrame) -> int:
    RAN.append("total")
    return table["a"].sum()


def write(number: int, name: str = NAME) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(f"a\n{number}\n")


def of_argument(path: Any) -> int:
    return total(pl.read_csv(path))


def of_field(source: Source) -> int:
    return total(pl.read_csv(source.path))


def of_slot(source: Compact) -> int:
    return total(pl.read_csv(source.path))


def of_constant() -> int:
    return total(pl.scan_csv("numbers.csv").collect())


def of_global() -> int:
    return total(pl.read_csv(NAME))


def of_joined(folder: str) -> int:
    return total(pl.read_csv(Path(folder) / "numbers.csv"))


def of_query() -> int:
    return total(pl.read_csv(Path("numbers.csv"), columns=["a"]).sql("select a from self"))


def of_pattern(pattern: str = "nested/*.csv") -> int:
    return total(pl.read_csv(pattern))


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (of_argument, ("numbers.csv",)),
        (of_argument, (Path("numbers.csv"),)),
        (of_argument, (["numbers.csv"],)),
        (of_field, (Source(Path("numbers.csv")),)),
        (of_slot, (Compact("numbers.csv"),)),
        (of_constant, ()),
        (of_global, ()),
        (of_joined, (".",)),
        (of_query, ()),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_edit_of_a_named_file_runs_the_step_again(function: Callable[..., int], arguments: tuple[Any, ...]) -> None:
    step = musubito_step(QUIET)(function)
    answers = [step(*arguments)]
    answers.append(step(*arguments))
    write(2)
    answers.append(step(*arguments))
    write(1)
    answers.append(step(*arguments))
    assert ([answer.value for answer in answers], ran()) == ([1, 1, 2, 1], 2)


def test_files_that_match_a_pattern_and_new_ones_count() -> None:
    write(1, "nested/one.csv")
    step = musubito_step(QUIET)(of_pattern)
    assert ([step().value, step().value], ran()) == ([1, 1], 1)
    write(3, "nested/one.csv")
    assert step().value == 3
    write(4, "nested/two.csv")
    assert step().value == 7


@pytest.mark.parametrize("pattern", ["nested/**/*.csv", "nested/*/two.csv"])
def test_files_in_folders_that_match_a_pattern_count(pattern: str) -> None:
    write(1, "nested/one.csv")
    write(2, "nested/a/two.csv")
    write(1, "nested/a/no.txt")
    step = musubito_step(QUIET)(of_pattern)
    before = step(pattern).value
    assert (step(pattern).value, ran()) == (before, 1)
    write(5, "nested/a/two.csv")
    assert step(pattern).value == before + 3
    write(7, "nested/b/two.csv")
    assert step(pattern).value == before + 10
    write(9, "nested/a/no.txt")
    ran()
    assert (step(pattern).value, ran()) == (before + 10, 0)


def test_code_that_opens_no_file_unseen_depends_on_none() -> None:
    @musubito_step(QUIET)
    def names(path: str) -> str:
        RAN.append(path)
        return path.upper()

    names("numbers.csv")
    write(2)
    names("numbers.csv")
    assert ran() == 1


def test_a_table_in_memory_opens_nothing() -> None:
    @musubito_step
    def of_numbers(numbers: list[int]) -> int:
        return total(pl.DataFrame({"a": numbers}))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ([of_numbers([1, 2]).value, of_numbers([1, 2]).value], ran()) == ([3, 3], 1)


def test_a_file_that_the_step_writes_costs_at_most_one_run_more() -> None:
    @musubito_step(QUIET)
    def doubled() -> int:
        table = pl.read_csv("numbers.csv") * 2
        table.write_csv("doubled.csv")
        return total(table)

    assert ([doubled().value for _ in range(3)], ran()) == ([2, 2, 2], 1)
    write(2)
    assert ([doubled().value for _ in range(4)], ran()) == ([4, 4, 4, 4], 2)
    assert Path("doubled.csv").read_text() == "a\n4\n"


@pytest.mark.parametrize("by_python", [False, True])
def test_a_file_that_the_step_changes_in_place_is_never_taken_for_what_it_was(*, by_python: bool) -> None:
    @musubito_step(QUIET)
    def increased(by_python: bool) -> int:
        table = pl.read_csv("numbers.csv") + 1
        if by_python:
            Path("numbers.csv").write_text(table.write_csv())
        else:
            table.write_csv("numbers.csv")
        return total(table)

    assert ([increased(by_python).value for _ in range(3)], ran()) == ([2, 3, 4], 3)


def test_a_file_that_another_changes_meanwhile_is_never_replayed(tmp_path: Path) -> None:
    @musubito_step(QUIET)
    def slow(path: str) -> int:
        number = total(pl.read_csv(path))
        HOOK()
        return number

    def by_another() -> None:
        subprocess.run(["mv", str(tmp_path / "new.csv"), "numbers.csv"], check=True)

    HOOK.do = by_another
    (tmp_path / "new.csv").write_text("a\n2\n")
    assert ([slow("numbers.csv").value for _ in range(3)], ran()) == ([1, 2, 2], 2)


def test_ignored_files_do_not_count() -> None:
    step = musubito_step(StepConfiguration(step_type="stochastic", ignore_files=("*.csv",)))(of_argument)
    step("numbers.csv")
    write(2)
    step("numbers.csv")
    assert ran() == 1


def test_folders_above_the_checkout_are_no_data() -> None:
    @musubito_step(QUIET)
    def listed(folder: str) -> int:
        return len(folder) and total(pl.read_csv("numbers.csv"))

    for folder in ("/", str(Path.cwd().parent), str(Path.cwd()), "."):
        listed(folder)
        Path("another.txt").write_text(folder)
        listed(folder)
    assert ran() == 4


# -- processes ---------------------------------------------------------------------------------------------------------
def by_list() -> str:
    RAN.append("cat")
    return subprocess.run(["cat", "numbers.csv"], capture_output=True, text=True, check=True).stdout


def by_shell() -> str:
    RAN.append("cat")
    return subprocess.run("cat numbers.csv | tr a b", shell=True, capture_output=True, text=True, check=True).stdout


def by_redirection() -> str:
    RAN.append("cat")
    return str(os.system("test $(tail -n 1 <numbers.csv) -eq 2"))


def by_spawning() -> str:
    RAN.append("cat")
    with tempfile.NamedTemporaryFile() as out:
        redirected = (os.POSIX_SPAWN_DUP2, out.fileno(), 1)
        child = os.posix_spawn("/bin/cat", ["cat", "numbers.csv"], os.environ, file_actions=[redirected])
        os.waitpid(child, 0)
        return Path(out.name).read_text()


def in_a_folder() -> str:
    RAN.append("cat")
    return subprocess.run(
        ["cat", "numbers.csv"], cwd=Path.cwd() / "nested", capture_output=True, text=True, check=True
    ).stdout


def by_program() -> str:
    RAN.append("program")
    return subprocess.run(["./program.sh"], capture_output=True, text=True, check=True).stdout


async def by_task() -> str:
    RAN.append("cat")
    process = await asyncio.create_subprocess_exec("cat", "numbers.csv", stdout=asyncio.subprocess.PIPE)
    return (await process.communicate())[0].decode()


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (by_list, "numbers.csv"),
        (by_shell, "numbers.csv"),
        (by_redirection, "numbers.csv"),
        (by_spawning, "numbers.csv"),
        (in_a_folder, "nested/numbers.csv"),
        (by_program, "program.sh"),
        (by_task, "numbers.csv"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_file_that_a_command_names_is_a_dependency(function: Callable[[], Any], name: str) -> None:
    step = musubito_step(QUIET)(function)

    def ask() -> str:
        return asyncio.run(step()).value if asyncio.iscoroutinefunction(function) else step().value

    def change(number: int) -> None:
        if name.endswith(".sh"):
            Path(name).write_text(f"#!/bin/sh\necho {number}\n")
            Path(name).chmod(0o755)
        else:
            write(number, name)

    change(1)
    first = ask()
    assert (ask(), ran()) == (first, 1)
    change(2)
    assert (ask() != first, ran()) == (True, 1)
    change(1)
    assert (ask(), ran()) == (first, 0)


def test_a_file_that_a_process_writes_costs_at_most_one_run_more() -> None:
    @musubito_step(QUIET)
    def copied() -> str:
        RAN.append("cp")
        subprocess.run(["cp", "numbers.csv", "copy.csv"], check=True)
        return Path("copy.csv").read_text()

    assert ([copied().value for _ in range(3)], ran() <= 2) == (["a\n1\n"] * 3, True)
    write(2)
    assert ([copied().value for _ in range(4)], ran() <= 2) == (["a\n2\n"] * 4, True)


def test_temporary_files_of_a_command_do_not_count() -> None:
    @musubito_step(QUIET)
    def of_temporary(text: str) -> str:
        RAN.append("cat")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text.txt"
            path.write_text(text)
            return subprocess.run(["cat", path], capture_output=True, text=True, check=True).stdout

    assert ([of_temporary("a").value for _ in range(3)], ran()) == (["a"] * 3, 1)


# -- what must not be touched ------------------------------------------------------------------------------------------
def of_folder(folder: str) -> int:
    RAN.append(folder)
    return len(folder) and pl.read_csv("numbers.csv")["a"].sum()


@pytest.mark.parametrize("name", ["app.db", "data", "./data/../data", "data/*.db"])
def test_an_open_database_keeps_its_locks(name: str) -> None:
    Path("data").mkdir()
    path = "app.db" if name == "app.db" else "data/app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (n)")
        connection.execute("BEGIN IMMEDIATE")
        musubito_step(QUIET)(of_folder)(name)
        ls = musubito_step(QUIET)(lambda named: subprocess.run(["ls", "-l", named], check=False).returncode)
        ls(name)
        writes = f"import sqlite3; sqlite3.connect({path!r}, timeout=0).execute('INSERT INTO t VALUES (1)')"
        other = subprocess.run([sys.executable, "-c", writes], capture_output=True, text=True, check=False)
        assert "database is locked" in other.stderr
        connection.execute("COMMIT")


@pytest.mark.parametrize("text", ["How many rows?", "what *is* this", "[0-9]+", "*", "?", "a[0]", "**/*.csv"])
def test_a_text_that_is_no_path_depends_on_no_folder(text: str) -> None:
    step = musubito_step(QUIET)(of_folder)
    for number in range(3):
        Path("made").mkdir(exist_ok=True)
        Path("made", f"{number}.txt").touch()
        Path(f"{number}.txt").touch()
        step(text)
    assert ran() == 1


def test_the_store_in_a_named_folder_costs_no_run(tmp_path: Path) -> None:
    with MusubitoEngine(SQLiteStorage("data/m.db")) as engine, use_musubito_engine(engine):
        step = musubito_step(QUIET)(of_folder)
        for folder in ("data", "./data", f"../{Path.cwd().name}/data"):
            step(folder)
            step(folder)
        assert ran() == 3


def test_a_folder_that_a_command_writes_to_costs_no_run() -> None:
    @musubito_step(QUIET)
    def converted(number: int) -> int:
        RAN.append("cp")
        Path("out").mkdir(exist_ok=True)
        return subprocess.run(["cp", "numbers.csv", "-t", "out"], check=True).returncode + number

    for _ in range(2):
        converted(1)
        converted(2)
    assert ran() == 2


@pytest.mark.parametrize("name", ["/proc/self", "/dev", "/sys", "/dev/stdin", "pipe", "folder"])
def test_what_is_no_file_is_not_waited_for(name: str) -> None:
    os.mkfifo("pipe")
    Path("folder").mkdir()
    os.mkfifo("folder/pipe")
    step = musubito_step(QUIET)(of_folder)
    step(name)
    step(name)
    assert ran() == 1


def test_a_command_in_one_text_may_begin_with_a_path() -> None:
    @musubito_step(QUIET)
    def ask() -> int:
        RAN.append("test")
        return os.system("/usr/bin/env test $(tail -n 1 numbers.csv) -eq 1")

    assert (ask().value, ask().value, ran()) == (0, 0, 1)
    write(2)
    assert (ask().value != 0, ran()) == (True, 1)
