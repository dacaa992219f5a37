"""Code of the user's that runs in a step and that its code does not name counts by its text, whoever loaded it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import pytest

from tests import launcher

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.11 does not tell which code runs")

PROGRAM: Final = """
import functools, importlib, pickle, sys, threading
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint
from musubito import musubito_step
if "early" in sys.argv:
    importlib.import_module("plugins.agent")
PLUGIN = "".join(["plugins", ".agent"])
def load(): return importlib.import_module(PLUGIN)
@musubito_step
def step(q):
    print("ran")
    {body}
print(step(1).value)
"""
AGENT: Final = """
from plugins.prompts import PROMPT
from plugins import settings
import json as coder
RATE = 2
TABLE = {"add": lambda number: number + 1}
class Base:
    factor = RATE
    def ask(self, number): return self.scaled(number), PROMPT, settings.TONE, coder.dumps(number)
    def scaled(self, number): return number * self.factor
    def unused(self): return 1
class Agent(Base):
    def __call__(self, number): return self.ask(number)
def make(**options): return Agent()
def reply(number): return Agent().ask(number)
async def later(number): return number
def pieces(number): yield number
def other(): return 1
"""
WAYS: Final = {
    "getattr": "return getattr(load(), 'Agent')().ask(3)",
    "a target as hydra has it": (
        "where, _, name = 'plugins.agent.Agent'.rpartition('.')\n"
        "    return functools.partial(getattr(importlib.import_module(where), name))()(3)"
    ),
    "an entry point": "return EntryPoint('a', 'plugins.agent:reply', 'g').load()(3)",
    "a pickle": "return pickle.loads(b'cplugins.agent\\nAgent\\n)R.').ask(3)",
    "a thread without context": (
        "found = []\n    thread = threading.Thread(target=lambda: found.append(load().reply(3)))\n"
        "    thread.start()\n    thread.join()\n    return found"
    ),
    "a callback in a pool": "return ThreadPoolExecutor(1).submit(getattr(load(), 'reply'), 3).result()",
}
EDITS: Final = {
    "a method": ("agent", "number * self.factor", "number + self.factor"),
    "a field of a class": ("agent", "factor = RATE", "factor = -RATE"),
    "a constant of its module": ("agent", "RATE = 2", "RATE = 5"),
    "a constant that is imported": ("prompts", "'be kind'", "'be brief'"),
    "a constant of an imported module": ("settings", "'soft'", "'loud'"),
    "an import": ("agent", "import json as coder", "import pickle as coder"),
    "a base class": ("agent", "class Agent(Base):", "class Agent(Base, object):"),
}
UNRELATED: Final = {
    "a comment": ("agent", "RATE = 2", "RATE = 2  # a remark"),
    "an unused method": ("agent", "def unused(self): return 1", "def unused(self): return 2"),
    "an unused function": ("agent", "def other(): return 1", "def other(): return 2\nNEW = 1"),
    "a constant that is not used": ("settings", "OTHER = 1", "OTHER = 2"),
}


class Project:
    def __init__(self, folder: Path, body: str) -> None:
        self.folder = folder
        (folder / "plugins").mkdir()
        (folder / "program.py").write_text(PROGRAM.replace("{body}", body))
        self.write({"__init__": "", "agent": AGENT, "prompts": "PROMPT = 'be kind'\n"})
        self.write({"settings": "TONE = 'soft'\nOTHER = 1\n"})

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            (self.folder / "plugins" / f"{name}.py").write_text(text)

    def edit(self, name: str, before: str, after: str) -> None:
        path = self.folder / "plugins" / f"{name}.py"
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))

    def ran(self, *arguments: str) -> bool:
        return self.said(*arguments).startswith("ran\n")

    def said(self, *arguments: str) -> str:
        environment = {**os.environ, "MUSUBITO_URL": f"sqlite:///{self.folder}/m.db", "PYTHONDONTWRITEBYTECODE": "1"}
        done = launcher.run(self.folder / "program.py", *arguments, folder=self.folder, environment=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.mark.parametrize("way", WAYS)
def test_an_edit_of_code_that_is_found_runs_the_step_again(way: str, tmp_path: Path) -> None:
    project = Project(tmp_path, WAYS[way])
    assert [project.ran(), project.ran(), project.ran("early")] == [True, False, False]
    project.edit(*EDITS["a method"])
    assert [project.ran("early"), project.ran()] == [True, False]


@pytest.mark.parametrize("edit", EDITS)
def test_what_the_code_that_ran_is_made_of_counts(edit: str, tmp_path: Path) -> None:
    project = Project(tmp_path, WAYS["getattr"])
    assert project.ran("early")
    project.edit(*EDITS[edit])
    assert [project.ran("early"), project.ran("early")] == [True, False]


@pytest.mark.parametrize("edit", UNRELATED)
def test_an_unrelated_edit_of_the_file_runs_nothing(edit: str, tmp_path: Path) -> None:
    project = Project(tmp_path, WAYS["getattr"])
    assert project.ran("early")
    project.edit(*UNRELATED[edit])
    assert not project.ran("early")


def test_code_in_a_table_counts_by_the_statement(tmp_path: Path) -> None:
    project = Project(tmp_path, "return load().TABLE['add'](3)")
    assert project.ran("early")
    project.edit("agent", "number + 1", "number + 2")
    assert [project.ran(), project.ran()] == [True, False]


@pytest.mark.parametrize(
    ("body", "before", "after"),
    [
        (
            "import asyncio\n    return asyncio.run(load().later(3))",
            "later(number): return number",
            "later(n): return 5",
        ),
        ("return [*load().pieces(3)]", "yield number", "yield 5"),
    ],
    ids=["a coroutine", "a generator"],
)
def test_code_that_goes_on_counts(body: str, before: str, after: str, tmp_path: Path) -> None:
    project = Project(tmp_path, body)
    assert project.ran("early")
    project.edit("agent", before, after)
    assert project.ran()


def test_code_that_is_gone_runs_the_step_again(tmp_path: Path) -> None:
    project = Project(tmp_path, "return getattr(load(), 'other', int)()")
    assert project.ran("early")
    project.edit("agent", "def other(): return 1", "")
    assert [project.ran(), project.ran()] == [True, False]


def test_equal_code_of_two_files_is_told_apart(tmp_path: Path) -> None:
    project = Project(tmp_path, "import plugins.one\n    return plugins.one.f(), getattr(load(), 'f')()")
    project.write({"one": "def f(): return 1\n", "agent": "def f(): return 1\n"})
    assert project.ran("early")
    project.edit("agent", "return 1", "return 2")
    assert project.ran("early")


AT_ONCE: Final = """
import importlib, threading
from musubito import musubito_step
importlib.import_module("plugins.agent")
@musubito_step
def step(n):
    print(f"ran {n}\\n", end="")
    threading.current_thread().barrier.wait(20)
    answer = getattr(importlib.import_module("".join(["plugins", ".agent"])), "reply")(n)
    threading.current_thread().barrier.wait(20)
    return answer
class Thread(threading.Thread):
    barrier = threading.Barrier(2)
threads = [Thread(target=step, args=(n,)) for n in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


def test_code_that_two_steps_find_at_once_counts_for_both(tmp_path: Path) -> None:
    project = Project(tmp_path, "")
    (tmp_path / "program.py").write_text(AT_ONCE)
    assert sorted(project.said().splitlines()) == ["ran 0", "ran 1"]
    assert project.said() == ""
    project.edit(*EDITS["a method"])
    assert sorted(project.said().splitlines()) == ["ran 0", "ran 1"]


def test_each_of_two_calls_in_a_row_depends_on_what_it_runs(tmp_path: Path) -> None:
    project = Project(tmp_path, "return load().reply(q)")
    program = tmp_path / "program.py"
    program.write_text(program.read_text().replace("print(step(1).value)", "step(1), step(2)"))
    assert [project.said("early"), project.said("early")] == ["ran\nran\n", ""]
    project.edit(*EDITS["a method"])
    assert project.said("early") == "ran\nran\n"
