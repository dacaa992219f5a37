"""A look at a path is a dependency: whether it is there, how large it is, when it was changed."""

from __future__ import annotations

import asyncio
import filecmp
import glob
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from multiprocessing.pool import ThreadPool
from os.path import exists as is_there
from pathlib import Path
from typing import Any

import blockbuster
import jinja2
import pytest
from pydantic_settings import BaseSettings, SettingsConfigDict

from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, musubito_step, use_musubito_engine
from musubito.code.world import path_looks
from musubito.dependencies import events
from musubito.lineage import Lineage
from musubito.lineage.readers.files import files_read
from tests.fresh import fresh

SAMPLE = StepConfiguration(step_type="stochastic")
RAN: list[str] = []


@pytest.fixture(autouse=True)
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MusubitoEngine]:
    folder = tmp_path / "checkout"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with MusubitoEngine(SQLiteStorage(fresh(tmp_path / "m.db"))) as engine, use_musubito_engine(engine):
        yield engine


def asked(function: Callable[..., Any], *arguments: Any) -> Callable[[], tuple[Any, int]]:
    """Return a function that calls a step, and returns its value and how many bodies ran."""

    def body(*args: Any) -> Any:
        RAN.append("body")
        return function(*args)

    step = musubito_step(SAMPLE)(body)

    def ask() -> tuple[Any, int]:
        RAN.clear()
        return step(*arguments).value, len(RAN)

    return ask


def write(text: str, name: str = "a.txt") -> None:
    Path(name).write_text(text)


IS_THERE = {
    "exists": partial(os.path.exists, "a.txt"),
    "lexists": lambda: os.path.lexists("a.txt"),
    "isfile": lambda: os.path.isfile("a.txt"),
    "bound early": lambda: is_there("a.txt") is True,
    "Path.exists": lambda: Path("a.txt").exists(),
    "Path.is_file": lambda: (Path.cwd() / "a.txt").is_file() is True,
    "access": lambda: os.access("a.txt", os.R_OK),
    "bytes": lambda: os.path.exists(b"a.txt"),
    "glob": lambda: bool(glob.glob("a.txt")),
    "Path.glob": lambda: bool(list(Path.cwd().glob("a.txt"))),
}


@pytest.mark.parametrize("look", IS_THERE.values(), ids=IS_THERE)
def test_whether_a_file_is_there_counts_and_what_is_in_it_does_not(look: Callable[[], bool]) -> None:
    ask = asked(look)
    assert (ask(), ask()) == ((False, 1), (False, 0))
    write("1")
    assert (ask(), ask()) == ((True, 1), (True, 0))
    write("22")
    assert ask() == (True, 0)
    os.remove("a.txt")
    assert ask() == (False, 0)


LINKS = {
    "os.readlink": lambda: os.readlink("link"),
    "Path.readlink": lambda: str(Path("link").readlink()),
    "Path.resolve": lambda: Path("link").resolve().name,
    "realpath": lambda: os.path.basename(os.path.realpath("link")),
}


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
@pytest.mark.parametrize("look", LINKS.values(), ids=LINKS)
def test_where_a_link_leads_counts(look: Callable[[], str]) -> None:
    write("1"), write("1", "b.txt")
    os.symlink("a.txt", "link")
    ask = asked(look)
    assert (ask(), ask()) == (("a.txt", 1), ("a.txt", 0))
    write("22")
    assert ask() == ("a.txt", 0)
    os.remove("link")
    os.symlink("b.txt", "link")
    assert (ask(), ask()) == (("b.txt", 1), ("b.txt", 0))


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
@pytest.mark.parametrize(
    "look", [lambda: os.path.islink("a.txt"), lambda: Path("a.txt").is_symlink()], ids=["os", "Path"]
)
def test_whether_a_path_is_a_link_counts(look: Callable[[], bool]) -> None:
    write("1"), write("1", "b.txt")
    ask = asked(look)
    assert (ask(), ask()) == ((False, 1), (False, 0))
    os.remove("a.txt")
    os.symlink("b.txt", "a.txt")
    assert (ask(), ask()) == ((True, 1), (True, 0))


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_a_link_that_leads_nowhere_counts() -> None:
    ask = asked(lambda: os.readlink("link") if os.path.islink("link") else "none")
    assert (ask(), ask()) == (("none", 1), ("none", 0))
    for target in ("nowhere", "elsewhere"):
        os.symlink(target, "link")
        assert (ask(), ask()) == ((target, 1), (target, 0))
        os.remove("link")
    assert ask() == ("none", 0)


def test_where_a_program_lies_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path.cwd()))
    ask = asked(lambda: os.path.basename(shutil.which("program") or "none"))
    assert (ask(), ask()) == (("none", 1), ("none", 0))
    write("1", "program")
    os.chmod("program", 0o755)
    assert (ask(), ask()) == (("program", 1), ("program", 0))


def test_a_folder_is_another_thing_than_a_file() -> None:
    ask = asked(partial(os.path.isdir, "a.txt"))
    write("1")
    assert ask() == (False, 1)
    os.remove("a.txt")
    Path("a.txt").mkdir()
    assert ask() == (True, 1)


def test_sizes_count_by_the_size() -> None:
    ask = asked(lambda: os.path.getsize("a.txt"))
    write("1")
    assert ask() == (1, 1)
    write("2")
    os.utime("a.txt", (1, 1))
    assert ask() == (1, 0)
    write("22")
    assert (ask(), ask()) == ((2, 1), (2, 0))


TIMES = {
    "Path.stat": lambda: Path("a.txt").stat().st_mtime,
    "getmtime": lambda: os.path.getmtime("a.txt"),
    "os.stat": lambda: os.stat("a.txt").st_mtime,
}


@pytest.mark.parametrize("look", TIMES.values(), ids=TIMES)
def test_times_count_by_the_time(look: Callable[[], float]) -> None:
    ask = asked(look)
    write("1")
    os.utime("a.txt", (5, 5))
    assert (ask(), ask()) == ((5, 1), (5, 0))
    os.utime("a.txt", (6, 6))
    assert (ask(), ask()) == ((6, 1), (6, 0))


def test_an_override_that_appears_is_read() -> None:
    def prompt() -> str:
        file = Path("override.txt")
        return file.read_text() if file.exists() else "default"

    ask = asked(prompt)
    assert (ask(), ask()) == (("default", 1), ("default", 0))
    write("mine", "override.txt")
    assert (ask(), ask()) == (("mine", 1), ("mine", 0))
    write("other", "override.txt")
    assert ask() == ("other", 1)


def test_a_template_that_appears_earlier_in_the_search_path_is_taken() -> None:
    for folder in ("mine", "shipped"):
        Path(folder).mkdir()
    write("shipped {{ q }}", "shipped/t.txt")

    def render() -> str:
        return jinja2.Environment(loader=jinja2.FileSystemLoader(["mine", "shipped"])).get_template("t.txt").render(q=1)

    ask = asked(render)
    assert (ask(), ask()) == (("shipped 1", 1), ("shipped 1", 0))
    os.utime("shipped/t.txt", (5, 5))
    assert ask() == ("shipped 1", 0)
    write("mine {{ q }}", "mine/t.txt")
    assert (ask(), ask()) == (("mine 1", 1), ("mine 1", 0))


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_file="my.env")
    prompt: str = "default"


def test_settings_are_read_from_a_file_that_appears() -> None:
    ask = asked(lambda: Settings().prompt)
    assert (ask(), ask()) == (("default", 1), ("default", 0))
    write("prompt=mine", "my.env")
    assert (ask(), ask()) == (("mine", 1), ("mine", 0))
    os.remove("my.env")
    assert ask() == ("default", 0)


def test_a_file_that_the_step_makes_if_absent_counts_as_it_was() -> None:
    def settings() -> str:
        file = Path("settings.txt")
        if not file.exists():
            file.write_text("default")
        return file.read_text()

    ask = asked(settings)
    assert (ask(), ask(), ask()) == (("default", 1), ("default", 1), ("default", 0))
    write("mine", "settings.txt")
    assert (ask(), ask()) == (("mine", 1), ("mine", 0))


def test_a_file_that_the_step_removes_counts_as_it_was() -> None:
    def cleaned() -> bool:
        was_there = Path("a.txt").exists()
        Path("a.txt").unlink(missing_ok=True)
        return was_there

    ask = asked(cleaned)
    write("1")
    assert (ask(), ask(), ask()) == ((True, 1), (False, 1), (False, 0))
    write("1")
    assert ask()[0] is True


def test_folders_that_are_made_and_paths_that_are_resolved_cost_no_run() -> None:
    def make() -> str:
        os.makedirs("out/deep", exist_ok=True)
        Path("out/more").mkdir(exist_ok=True)
        return Path("out").resolve().name

    ask = asked(make)
    assert (ask(), ask()) == (("out", 1), ("out", 0))


def test_a_look_into_a_folder_that_the_step_made_counts() -> None:
    def choice() -> str:
        os.makedirs("work", exist_ok=True)
        os.makedirs("out", exist_ok=True)
        return "override" if os.path.exists("work/o.txt") or os.path.exists("out/../o.txt") else "default"

    ask = asked(choice)
    assert (ask(), ask()) == (("default", 1), ("default", 0))
    write("1", "o.txt")
    assert (ask(), ask()) == (("override", 1), ("override", 0))
    os.remove("o.txt")
    write("1", "work/o.txt")
    assert ask() == ("override", 1)


def test_what_is_removed_elsewhere_by_the_same_name_hides_no_look() -> None:
    def choice() -> bool:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "o.txt").write_text("1")
            assert Path(folder, "o.txt").exists()
        return os.path.exists("o.txt")

    ask = asked(choice)
    assert (ask(), ask()) == ((False, 1), (False, 0))
    write("1", "o.txt")
    assert (ask(), ask()) == ((True, 1), (True, 0))


def test_files_that_are_compared_count_by_size_and_time() -> None:
    write("1")
    write("22", "b.txt")
    ask = asked(partial(filecmp.cmp, "a.txt", "b.txt"))
    assert (ask(), ask()) == ((False, 1), (False, 0))
    write("22")
    assert (ask(), ask()) == ((True, 1), (True, 0))


@lru_cache
def is_there_once(name: str) -> bool:
    return os.path.exists(name)


def test_a_cache_that_was_filled_outside_of_any_step_counts_with_its_look() -> None:
    ask = asked(lambda: [is_there_once("a.txt")])
    assert ask() == ([False], 1)
    is_there_once.cache_clear()
    write("1")
    assert is_there_once("a.txt")
    assert ask() == ([True], 1)


def test_a_file_that_somebody_makes_meanwhile_is_never_replayed() -> None:
    def look() -> bool:
        found = Path("a.txt").exists()
        subprocess.run([sys.executable, "-c", "open('a.txt', 'w')"], check=True)
        return found

    ask = asked(look)
    assert (ask(), ask(), ask()) == ((False, 1), (True, 1), (True, 0))


def test_looks_of_tasks_and_threads_count() -> None:
    async def in_a_thread() -> bool:
        return await asyncio.to_thread(os.path.exists, "a.txt")

    def threaded() -> bool:
        found: list[bool] = []
        thread = threading.Thread(target=lambda: found.append(os.path.exists("a.txt")))
        thread.start()
        thread.join()
        return found[0]

    def pooled() -> bool:
        with ThreadPool(1) as pool:
            return pool.map(os.path.exists, ["a.txt"])[0]

    asks = [asked(lambda: asyncio.run(in_a_thread())), asked(threaded), asked(pooled)]
    assert [ask() for ask in asks] == [(False, 1)] * 3
    write("1")
    assert [ask() for ask in asks] == [(True, 1)] * 3


def test_a_cache_that_answers_counts_with_its_look() -> None:
    @lru_cache
    def found() -> bool:
        return os.path.exists("a.txt")

    first, second = asked(lambda: [1, found()]), asked(lambda: [2, found()])
    assert (first(), second()) == (([1, False], 1), ([2, False], 1))
    write("1")
    found.cache_clear()
    assert second() == ([2, True], 1)


def test_ignored_files_do_not_count() -> None:
    @musubito_step(StepConfiguration(step_type="stochastic", ignore_files=("*.txt",)))
    def look() -> bool:
        RAN.append("body")
        return os.path.exists("a.txt")

    RAN.clear()
    assert look().value is False
    write("1")
    assert (look().value, len(RAN)) == (False, 1)


def test_the_lineage_names_what_was_looked_at(engine: MusubitoEngine) -> None:
    result = musubito_step(SAMPLE)(lambda: os.path.exists("a.txt"))()
    lineage = Lineage(engine)
    (read,) = files_read(lineage, [lineage.node(result.node_id)])
    assert (read.kind, read.path, read.absent) == ("presence", "a.txt", True)


# -- the functions of `os` ---------------------------------------------------------------------------------------------
def test_the_functions_of_os_stay_what_they_are() -> None:
    for name in ("stat", "lstat", "access"):
        function = getattr(os, name)
        assert pickle.loads(pickle.dumps(function)) is function
        assert function.__name__ == name and function.__doc__
    assert {os.stat, os.access} <= os.supports_dir_fd and os.stat in os.supports_follow_symlinks
    assert os.stat(0).st_mode and os.access(".", os.R_OK, follow_symlinks=True) in (True, False)
    folder = os.open(".", os.O_RDONLY)
    write("1")
    assert os.stat("a.txt", dir_fd=folder).st_size == 1
    os.close(folder)
    assert type("Fs", (), {"stat": os.stat})().stat("a.txt").st_size == 1  # it binds to no object
    with pytest.raises(FileNotFoundError):
        os.stat("no")
    with pytest.raises(TypeError):
        os.stat()  # type: ignore[call-arg]


def test_a_replacement_of_these_functions_is_no_way_around() -> None:
    write("1")
    ask = asked(lambda: os.path.exists("b.txt"))
    before = os.stat
    path_looks.report_looks()
    assert os.stat is before
    detector = blockbuster.BlockBuster()
    detector.activate()  # it replaces `os.stat`, and calls ours
    try:
        around = os.stat
        path_looks.report_looks()
        assert os.stat is around
    finally:
        detector.deactivate()
    original = before.original  # type: ignore[attr-defined]
    os.stat = original
    try:
        assert ask() == (False, 1)
        write("1", "b.txt")
        assert ask() == (True, 1)
    finally:
        os.stat = before
        path_looks.report_looks()


def test_a_look_while_no_step_is_open_is_not_attributed(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[Any] = []
    monkeypatch.setattr(events.BodyFiles, "looked", lambda *args: noted.append(args))
    os.path.exists("a.txt")
    assert noted == []
