"""Code that gets modules out of `sys.modules` counts those that it names, and never the table as a whole."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from musubito.code import reachability
from musubito.code.fingerprint import CodeTracker, Fingerprint

HEAD = """
import sys
import sys as renamed
from sys import modules
KEY = "helper"
table = sys.modules
get = lambda name: sys.modules[name]
class Holder:
    def __init__(self, held): self.held = held
HOLDER = Holder(sys.modules)
def other(): return 1
"""
NAMED = {
    "item": 'sys.modules["helper"].answer()',
    "get": 'sys.modules.get("helper").answer()',
    "another name": 'renamed.modules["helper"].answer()',
    "imported": 'modules["helper"].answer()',
    "a constant": "table[KEY].answer()",
    "a local": 'modules["helper"].answer() if modules else None',
}


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], ModuleType]:
    def load(name: str, text: str) -> ModuleType:
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(text))
        module = ModuleType(name)
        module.__file__ = str(path)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(path.read_text(), str(path), "exec"), vars(module))
        return module

    return load


def code_of(load: Any, body: str) -> Fingerprint:
    return CodeTracker(load("program", f"{HEAD}\ndef step(name=None):\n    return {body}\n").step).current()


@pytest.mark.parametrize("body", NAMED.values(), ids=NAMED)
def test_a_module_that_is_named_counts(load: Any, body: str) -> None:
    load("helper", "def answer(): return 1")
    tracker = CodeTracker(load("program", f"{HEAD}\ndef step():\n    return {body}\n").step)
    before = tracker.current()
    assert tracker.current() is before
    load("unrelated", "def f(): return 1")
    assert tracker.current().digest == before.digest
    load("helper", "def answer(): return 2")
    assert tracker.current().digest != before.digest
    load("helper", "def answer(): return 1")
    assert tracker.current().digest == before.digest
    sys.modules["helper"].answer = lambda: 3  # type: ignore[attr-defined]
    assert tracker.current().digest != before.digest


def test_its_own_module_counts_whole(load: Any) -> None:
    program = f"{HEAD}\ndef step(name):\n    return getattr(sys.modules[__name__], name)()\n"
    before = CodeTracker(load("program", program).step).current()
    after = CodeTracker(load("program", program.replace("return 1", "return 2")).step).current()
    assert before.digest != after.digest


@pytest.mark.parametrize(
    "body", ["sys.modules[name]", "len(sys.modules)", "[*modules]", "get(name)", "HOLDER.held[name]", "[HOLDER]"]
)
def test_the_table_is_never_taken_in_whole(load: Any, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    described: list[Any] = []
    describe = reachability.ReachabilityWalk.describe_all

    def counting(walk: reachability.ReachabilityWalk) -> None:
        describe(walk)
        described.extend(walk._kept)

    monkeypatch.setattr(reachability.ReachabilityWalk, "describe_all", counting)
    code = code_of(load, body)
    assert len(described) < 30
    assert any("the loaded modules" in each for each in code.unseen)
    load("unrelated", "def f(): return 1")
    assert code_of(load, body).digest == code.digest


def test_the_environment_in_an_object_is_not_taken_in_whole(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import os\nclass Holder:\n    def __init__(self): self.held = os.environ\nHOLDER = Holder()\n"
    step = load("program", f"{program}\ndef step(name):\n    return HOLDER.held[name]\n").step
    before = CodeTracker(step).current()
    monkeypatch.setitem(os.environ, "UNRELATED", "1")
    assert CodeTracker(step).current().digest == before.digest
    assert any("the environment" in each for each in before.unseen)
