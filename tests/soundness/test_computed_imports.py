"""A module that a step imports by a computed name counts as a whole, though it was loaded before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine
from tests.fresh import fresh
from tests.soundness.changed_programs import Program, Runs, in_one_process, in_three_processes

HEAD: Final = """
import importlib, pkgutil, sys
from importlib import import_module as find
CALLS, CLIENT, ME = 0, None, __name__
def name(text): return "".join([text])
def helper(): return VALUE
def counted():
    global CALLS, CLIENT
    CALLS, CLIENT = CALLS + 1, CLIENT or [1]
    return CLIENT[0]
"""
CHANGE: Final = "def helper(): return VALUE"
COUNT: Final = {
    "by import_module": "return importlib.import_module(name(ME)).helper()",
    "under another name": "return find(name(ME)).helper()",
    "by a path to a function": "return pkgutil.resolve_name(name(f'{ME}:helper'))()",
    "in a thread": (
        "from concurrent.futures import ThreadPoolExecutor as Pool; "
        "return Pool(1).submit(find, name(ME)).result().helper()"
    ),
}
DO_NOT: Final = {
    "a module of Python's": "return find(name('json')).dumps(1)",
}
PROGRAMS: Final = {
    name: Program(f"{HEAD}def step(q): {text}", "1", "2", CHANGE) for name, text in (COUNT | DO_NOT).items()
}
STATE: Final = Program(f"{HEAD}def step(q): return find(name(ME)).counted()", "1", "1")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return in_three_processes(tmp_path_factory.mktemp("imported"), {**PROGRAMS, "state": STATE})


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_module_counts_in_another_process(name: str, runs: Runs) -> None:
    assert name not in runs.failed
    assert [name in ran for ran in (runs.first, runs.again, runs.other)] == [True, False, name in COUNT]


def test_what_its_functions_change_does_not_count(runs: Runs) -> None:
    assert not runs.failed
    assert ["state" in ran for ran in (runs.first, runs.again, runs.other)] == [True, False, False]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_module_counts_in_one_process(name: str, tmp_path: Path) -> None:
    assert in_one_process(tmp_path, "importing_program", PROGRAMS[name]) == [1, 1, 2 if name in COUNT else 1]


def test_a_package_that_makes_its_names_on_demand_counts_by_what_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A walk follows such names, so that only what the step uses of the module counts."""
    folder = tmp_path / "made_on_demand"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "import importlib\ndef __getattr__(name): return getattr(importlib.import_module(f'{__name__}.part'), name)\n"
    )
    (folder / "part.py").write_text("def used(): return 1\ndef unused(): return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    ran: list[int] = []

    import made_on_demand  # type: ignore[import-not-found]

    @musubito_step(name="asks")
    def asks(q: int) -> int:
        ran.append(q)
        return int(made_on_demand.used())

    with MusubitoEngine(SQLiteStorage(fresh(tmp_path / "m.db"))) as engine, use_musubito_engine(engine):
        assert asks(1).value == 1
        sys.modules["made_on_demand.part"].unused = lambda: 2  # type: ignore[attr-defined]
        assert (asks(1).value, len(ran)) == (1, 1)
        sys.modules["made_on_demand.part"].used = lambda: 2  # type: ignore[attr-defined]
        assert (asks(1).value, len(ran)) == (2, 2)


PLUGIN: Final = """
import importlib
import a_helper
from musubito import musubito_step

@musubito_step
def asks(q):
    print("asks")
    return importlib.import_module("".join(["a", "_plugin"])).answer()

@musubito_step
def asks_too(q):
    print("asks too")
    return importlib.import_module("".join(["a", "_plugin"])).answer()
"""


def test_the_files_count_for_a_step_that_loads_a_module_itself(tmp_path: Path) -> None:
    def told(call: str, answer: int = 1, helped: int = 1) -> str:
        (tmp_path / "a_helper.py").write_text(f"HELPED = {helped}\n")
        (tmp_path / "a_plugin.py").write_text(
            f"from a_helper import HELPED\nprint('loaded')\ndef answer(): return HELPED, {answer}\n"
        )
        environment = {**os.environ, "MUSUBITO_URL": f"sqlite:///{tmp_path}/m.db", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", f"from asking import *\n{call}"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    (tmp_path / "asking.py").write_text(PLUGIN)
    both = "asks(1); asks_too(1)"
    assert told(both) == "asks\nloaded\nasks too\n"
    assert told("asks(1)") == ""
    assert told("asks_too(1)") == "", "it had found the module loaded"
    assert told(both) == "", "nothing is imported for a check"
    assert told(both, answer=2) == "asks\nloaded\nasks too\n"
    assert told(both, helped=2) == "asks\nloaded\nasks too\n", "the helper was loaded before the plugin"


def test_the_text_of_a_module_that_is_read_as_data_counts_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "read_module.py").write_text("import its_helper\n")
    (tmp_path / "its_helper.py").write_text("A = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("read_module")
    ran: list[int] = []

    @musubito_step(name="reads a text")
    def reads(path: str) -> str:
        ran.append(1)
        return Path(path).read_text("utf-8")

    with MusubitoEngine(SQLiteStorage(fresh(tmp_path / "m.db"))) as engine, use_musubito_engine(engine):
        for text in ("A = 1\n", "A = 2\n"):
            (tmp_path / "its_helper.py").write_text(text)
            assert (reads(str(tmp_path / "read_module.py")).value, len(ran)) == ("import its_helper\n", 1)
