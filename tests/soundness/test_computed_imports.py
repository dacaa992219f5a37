"""The files of a module count for a step that loads it by a computed name, with those of the modules that it imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine
from tests.fresh import fresh


def test_a_package_that_makes_its_names_on_demand_counts_by_what_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.11 does not tell which code runs")
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
    assert told("asks(1)") == "asks\nloaded\n"
    assert told("asks(1)") == ""
    assert told("asks(1)", answer=2) == "asks\nloaded\n"
    assert told("asks(1)", helped=2) == "asks\nloaded\n", "the helper was loaded before the plugin"
    assert told("asks(1)", helped=2) == ""
    assert told("asks(1)", answer=2) == "", "as it was before"


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
