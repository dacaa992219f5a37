"""Programs with one thing in them that changes: what runs again, in one process and from one process to the next.

Each program has a function `step(q)` and the word VALUE. It is run by three processes on one database: with the first
value, with the first again, and with the other; and in one process, where the change is made between two calls.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from musubito import MusubitoEngine, SQLiteStorage, use_musubito_engine
from tests.fresh import fresh

RECORDER = """
import contextlib
from musubito import musubito_step
class Noted:
    '''Says which steps ran, and counts as nothing.'''
    def __init__(self): self.names = []
    def __musubito_identity__(self): return "noted"
    def add(self, name): self.names.append(name)
noted = Noted()
"""
DRIVER = """
import importlib, json, os, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, os.getcwd())
import recorder
failed = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name).step(1)
    except Exception as error:
        failed[name] = repr(error)
print(json.dumps([sorted(set(recorder.noted.names)), failed]))
"""


class Program(NamedTuple):
    """`change` is done in the module of the program after its first call; with VALUE in it, for the other value.

    Without a `change` the program is loaded anew, with the other value.
    """

    text: str
    first: str
    other: str
    change: str = ""


def written(name: str, text: str) -> str:
    """The text of a program, whose step says that it ran."""
    before, _, body = text.partition("def step(q): ")
    assert body, text
    future = "from __future__ import annotations\n"
    head = future if before.startswith(future) else ""
    step = f"@musubito_step\ndef step(q):\n    noted.add({name!r})\n    {body}"
    return f"{head}from recorder import musubito_step, noted\n{before.removeprefix(head)}\n{step}\n"


class Runs(NamedTuple):
    """The programs that ran in each of the three processes."""

    first: set[str]
    again: set[str]
    other: set[str]
    failed: Mapping[str, str]


def in_three_processes(folder: Path, programs: Mapping[str, Program]) -> Runs:
    """Run all programs in three processes, the last with the other value."""
    (folder / "recorder.py").write_text(RECORDER)
    names = {f"program_{number}": name for number, name in enumerate(programs)}
    ran: list[set[str]] = []
    failed: dict[str, str] = {}
    for number, seed in enumerate(("1", "2", "3")):
        for module, name in names.items():
            each = programs[name]
            text = each.text.replace("VALUE", each.other if number == 2 else each.first)
            (folder / f"{module}.py").write_text(written(name, text))
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "PYTHONDONTWRITEBYTECODE": "1",
            "MUSUBITO_URL": f"sqlite:////{str(folder).lstrip('/')}/programs.db",
        }
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, *names],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        noted, wrong = json.loads(done.stdout.splitlines()[-1])
        ran.append(set(noted))
        failed |= {names[module]: error for module, error in wrong.items()}
    return Runs(*ran, failed)


def loaded(module: ModuleType, folder: Path, text: str) -> None:
    """Write the text of a module and run it, as an import does."""
    path = folder / f"{module.__name__}.py"
    path.write_text(text)
    module.__file__ = str(path)
    exec(compile(text, str(path), "exec", dont_inherit=True), vars(module))


def in_one_process(folder: Path, name: str, program: Program) -> list[int]:
    """How often the step had run after one call, after two, and after a third that follows the change."""
    recorder, module = ModuleType("recorder"), ModuleType(name)
    sys.modules["recorder"], sys.modules[name] = recorder, module
    text = written(name, program.text.replace("VALUE", program.first))
    counts: list[int] = []
    try:
        with MusubitoEngine(SQLiteStorage(fresh(folder / "one.db"))) as engine, use_musubito_engine(engine):
            loaded(recorder, folder, RECORDER)
            loaded(module, folder, text)
            for number in range(3):
                if number == 2 and not program.change:
                    loaded(module, folder, written(name, program.text.replace("VALUE", program.other)))
                elif number == 2:
                    exec(program.change.replace("VALUE", program.other), vars(module))
                vars(module)["step"](1)
                counts.append(len(vars(recorder)["noted"].names))
    finally:
        del sys.modules["recorder"], sys.modules[name]
    return counts
