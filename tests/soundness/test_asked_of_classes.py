"""Of a class counts what code asks of it: the classes that are registered with it, and its bases as they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.soundness.changed_programs import Program, Runs, in_one_process, in_three_processes

HEAD: Final = """
import abc
class Shape(abc.ABC): pass
class Round(Shape): pass
class Square: pass
class Other: pass
Shape.register(VALUE)
"""
ASKS: Final = {
    "isinstance": "return isinstance(Square(), Shape)",
    "issubclass": "return issubclass(Square, Shape)",
    "a pattern": "\n    match Square():\n        case Shape(): return True\n        case _: return False",
    "a base of the class": "return isinstance(Square(), Round.__mro__[1])",
}
PROGRAMS: Final[dict[str, Program]] = {
    name: Program(f"{HEAD}def step(q): {text}", "Other", "Square", "Shape.register(VALUE)")
    for name, text in ASKS.items()
}

GENERIC: Final = """
from typing import Generic, TypeVar, get_args
T = TypeVar("T")
class User: pass
class Order: pass
class Repository(Generic[T]):
    @classmethod
    def model(cls): return get_args(cls.__orig_bases__[0])[0].__name__
class Items(Repository[VALUE]): pass
"""
PROGRAMS["the bases as they are written"] = Program(
    f"{GENERIC}def step(q): return Items.model()", "User", "Order", "class Items(Repository[VALUE]): pass"
)

OWN: Final = """
import abc, importlib
class Shape(abc.ABC): pass
class Square: pass
def round_shapes(): Shape.register(Square)
"""
DO_NOT: Final = {
    "what a step registers itself": Program(
        f"{OWN}def step(q): round_shapes(); return isinstance(Square(), Shape)", "1", "1"
    ),
    "what is registered by code that a step finds": Program(
        f"{OWN}def step(q): getattr(Shape, 'regis' + 'ter')(Square); return isinstance(Square(), Shape)", "1", "1"
    ),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return in_three_processes(tmp_path_factory.mktemp("registered"), PROGRAMS | DO_NOT)


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_asked_of_a_class_counts_in_another_process(name: str, runs: Runs) -> None:
    assert name not in runs.failed
    assert [name in ran for ran in (runs.first, runs.again, runs.other)] == [True, False, True]


@pytest.mark.parametrize("name", DO_NOT)
def test_what_a_step_registers_is_its_own_state(name: str, runs: Runs) -> None:
    assert name not in runs.failed
    assert [name in ran for ran in (runs.first, runs.again, runs.other)] == [True, False, False]


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_asked_of_a_class_counts_in_one_process(name: str, tmp_path: Path) -> None:
    assert in_one_process(tmp_path, "registering_program", PROGRAMS[name]) == [1, 1, 2]
