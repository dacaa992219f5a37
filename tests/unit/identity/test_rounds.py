"""A walk is repeated only if it asked for something that it found later."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from musubito.code import reachability
from musubito.code.fixpoint import Discoveries
from musubito.code.reachability import reach

PROGRAMS = {
    "helpers": (
        1,
        """
        LIMIT = [1, 2]
        def step(q): return one(q) + sum(LIMIT)
        def one(q): return two(q).lower()
        def two(q): return q.strip()
        """,
    ),
    "an object whose method is named later": (
        3,
        """
        class Writer:
            def __init__(self): self.lines = []
            def write(self, text): self.lines.append(text)
            def read(self): return other(self.lines)
        WRITER = Writer()
        def other(lines): return "".join(lines)
        def step(q): return WRITER, last(q)
        def last(q): return late(WRITER)
        def late(writer): return writer.read()
        """,
    ),
    "a container that is written later": (
        2,
        """
        SEEN = {"a": 1}
        def step(q): return SEEN.get(q), late(q)
        def late(q): SEEN["a"] = q
        """,
    ),
    "docstrings that are read later": (
        2,
        """
        def step(q): return one(q), late(one)
        def one(q):
            "Documentation."
            return q
        def late(f): return f.__doc__
        """,
    ),
    "fields that are read later": (
        2,
        """
        class Box:
            def __init__(self): self.a, self.b = 1, 2
        BOX = Box()
        def step(q): return BOX.a, late(q)
        def late(q): return later(q)
        def later(q): return BOX.b
        """,
    ),
}


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[reachability.ReachabilityWalk]:
    made: list[reachability.ReachabilityWalk] = []
    run = reachability.ReachabilityWalk.run

    def counting(walk: reachability.ReachabilityWalk) -> None:
        made.append(walk)
        run(walk)

    monkeypatch.setattr(reachability.ReachabilityWalk, "run", counting)
    return made


@pytest.fixture(params=PROGRAMS.values(), ids=PROGRAMS)
def program(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, Any]:
    most, text = request.param
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(text))
    module = ModuleType("program")
    module.__file__ = str(path)
    monkeypatch.setitem(sys.modules, "program", module)
    exec(compile(path.read_text(), str(path), "exec"), vars(module))
    return most, vars(module)["step"]


def test_a_round_more_finds_the_same(
    program: tuple[int, Any], rounds: list[reachability.ReachabilityWalk], monkeypatch: pytest.MonkeyPatch
) -> None:
    most, step = program
    found = reach(step, None)
    assert len(rounds) <= most
    # Walked until nothing at all is new.
    settled = property(lambda facts: facts._size() == facts._before)
    monkeypatch.setattr(reachability.FixpointFacts, "is_settled", settled)
    again = reach(step, None)
    assert len(rounds) > 2
    assert (found.digest, found.parts, found.state) == (again.digest, again.parts, again.state)


def test_what_was_asked_for_in_vain_and_is_found_later_is_not_settled() -> None:
    found = Discoveries()
    found.add("a")
    assert "a" in found
    found.add("b")
    assert found.is_settled
    assert "c" not in found
    assert found.is_settled
    found |= ["c"]
    assert not found.is_settled
    found.ask_anew()
    assert found.is_settled
    assert found.lacks(["c", "d"]) == {"d"}
    assert not found.meets(["e"])
    found.add("e")
    assert not found.is_settled
