"""A package's decorator may keep what it likes in its own variables: that is the state of the steps that call it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.soundness.changed_programs import Program, Runs, in_one_process, in_three_processes

PACKAGE: Final = """
def memo(cache):
    def decorate(function):
        calls, last = 0, None
        def wrapper(*args):
            nonlocal calls, last
            calls, last = calls + 1, args
            if args not in cache:
                cache[args] = function(*args)
            return cache[args]
        return wrapper
    return decorate
"""
HEAD: Final = f"""
import os, sys
os.makedirs("site-packages", exist_ok=True)
with open("site-packages/memos_of_a_package.py", "w") as file: file.write({PACKAGE!r})
sys.path.insert(0, os.path.abspath("site-packages"))
import memos_of_a_package
KEPT = {{}}
"""
MEMO: Final = "@memos_of_a_package.memo({})\ndef work(x): return x\n"
DO_NOT: Final = {
    "a memo": f"{HEAD}{MEMO}def step(q): return work(q)",
    "a memo that the program can see": f"{HEAD}{MEMO.replace('{}', 'KEPT')}def step(q): return work(q)",
    "a memo that another step has filled": (
        f"{HEAD}{MEMO}@musubito_step\ndef other(q): return work((q, q))\ndef step(q): return other(q).value, work(q)"
    ),
}
COUNT: Final = {
    "what was put into a memo": (
        f"{HEAD}KEPT[1,] = VALUE\n{MEMO.replace('{}', 'KEPT')}def step(q): return work(q)",
        "KEPT[1,] = VALUE",
    ),
    "the function below a memo": (
        f"{HEAD}LIMIT = VALUE\n@memos_of_a_package.memo({{}})\ndef work(x): return LIMIT\ndef step(q): return work(q)",
        "LIMIT = VALUE",
    ),
}
PROGRAMS: Final = {
    **{name: Program(text, "1", "1") for name, text in DO_NOT.items()},
    **{name: Program(text, "1", "2", change) for name, (text, change) in COUNT.items()},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return in_three_processes(tmp_path_factory.mktemp("memos"), PROGRAMS)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    del sys.modules["memos_of_a_package"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_memo_in_another_process(name: str, runs: Runs) -> None:
    assert name not in runs.failed
    assert [name in ran for ran in (runs.first, runs.again, runs.other)] == [True, False, name in COUNT]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_memo_in_one_process(name: str, here: Path) -> None:
    assert in_one_process(here, "memo_program", PROGRAMS[name]) == [1, 1, 2 if name in COUNT else 1]
