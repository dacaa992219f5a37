"""A script's steps are the same ones in the children that multiprocessing starts anew, where the script goes by another
name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import musubito
from tests.pairs import in_turn, third

LIBRARY = str(Path(musubito.__file__).parents[1])
NEW = [each for each in ("spawn", "forkserver") if os.name == "posix" or each == "spawn"]
PROGRAM = """
from __future__ import annotations

import enum
import json
import logging
import multiprocessing
import sys
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypedDict

from pydantic import BaseModel, field_validator

from musubito import StepConfiguration, StepType, current_idempotency_key, musubito_merge, musubito_step

RATE = 2
LOG = logging.getLogger(__name__)
HERE = Path.cwd()


def noted(what):
    with open(HERE / "ran", "a") as file:
        print(what, file=file)


class Color(enum.Enum):
    RED = 1


Perm = enum.Flag("Perm", "R W")
Pair = namedtuple("Pair", "a b")


class Triple(NamedTuple):
    a: Color
    b: int


@dataclass
class Point:
    x: int
    color: Color = Color.RED

    def times(self):
        return self.x * RATE


class Order(BaseModel):
    point: Point
    note: str = ""

    @field_validator("note")
    @classmethod
    def short(cls, note):
        return note[:3]


class Said(TypedDict, total=False):
    point: Point


class Name(str):
    pass


class Ticket:
    def __musubito_identity__(self):
        return 1


TABLE = {Color.RED: Point(1), "order": Order(point=Point(2))}


@musubito_step
def dated(point, color, perm, pair, triple, order):
    noted("dated")
    return Point(point.times()), color, perm, Pair(*pair), triple, Order(point=Point(RATE), note=order.note)


@musubito_step
def given(name, ticket):
    noted("given")
    return [TABLE, str(name)]


@musubito_step
def logged(point):
    noted("logged")
    LOG.debug("%s", Said.__annotations__)
    return globals()["RATE"]


class Shop:
    @classmethod
    @musubito_step
    def opened(cls, day):
        noted("opened")
        return [cls.__qualname__, day, RATE]

    @musubito_step
    def sold(self, point):
        noted("sold")
        return point

    def __musubito_identity__(self):
        return "shop"


def made():
    def inner(x):
        noted("inner")
        return x * RATE

    return musubito_step(inner)


@musubito_step
def joined(text):
    noted("joined")
    return text


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT))
def pay(order):
    noted("pay")
    return current_idempotency_key()


def calls(_=None):
    first = dated(Point(3), Color.RED, Perm.R | Perm.W, Pair(1, 2), Triple(Color.RED, 2), Order(point=Point(4), note="n"))
    values = [first.value, given(Name("a"), Ticket()).value, logged(Point(1)).value, Shop.opened("monday").value]
    values += [Shop().sold(Point(5)).value, made()(4).value, pay("o1").value]
    with musubito_merge(first):
        values.append(joined("both").value)
    point, *_, order = first.value
    assert type(point) is Point and type(order) is Order and type(order.point) is Point, first.value
    return repr(values)


def child():
    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
        [said] = pool.map(calls, [None])
        pool.close()
        pool.join()
        return said


if __name__ == "__main__":
    print(json.dumps([each() for each in ((calls, child) if sys.argv[2] == "parent" else (child, calls))]))
"""
EACH = ("dated", "given", "logged", "opened", "sold", "inner", "pay", "joined")


def said(folder: Path, *command: str) -> list[Any]:
    environment = {**os.environ, "PYTHONPATH": LIBRARY}
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    values: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return values


def ran(folder: Path) -> dict[str, int]:
    """How often each step has run by now."""
    return dict(Counter((folder / "ran").read_text().split()))


@pytest.mark.parametrize(("method", "first"), in_turn(NEW, ["parent", "child"]))
def test_what_a_script_has_done_its_child_replays_and_the_other_way_round(
    tmp_path: Path, method: str, first: str
) -> None:
    script = tmp_path / "shop.py"
    script.write_text(PROGRAM)

    one, other = said(tmp_path, "shop.py", method, first)

    assert one == other
    assert ran(tmp_path) == dict.fromkeys(EACH, 1)

    # What the child was not told of an edit it sees in the script itself.
    script.write_text(PROGRAM.replace("RATE = 2", "RATE = 3"))
    edited, again = said(tmp_path, "shop.py", method, first)

    assert edited == again != one
    assert ran(tmp_path) == {**dict.fromkeys(EACH, 2), "pay": 1, "sold": 1}, "what it is given is not asked for `times`"


@pytest.mark.parametrize("method", third(0, NEW))
def test_a_module_that_is_run_is_the_same_one_in_a_child(tmp_path: Path, method: str) -> None:
    package = tmp_path / "shops"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "one.py").write_text(PROGRAM)

    one, other = said(tmp_path, "-m", "shops.one", method, "child")

    assert one == other
    assert ran(tmp_path) == dict.fromkeys(EACH, 1)
    # And its effect is that of the module where that is imported.
    imported = f"import json, sys; sys.argv = ['', {method!r}, '']; from shops import one; one.pay('o1')"
    said(tmp_path, "-c", f"{imported}; print(json.dumps([]))")
    assert ran(tmp_path)["pay"] == 1


ALONE = """
import json
import sys
from dataclasses import dataclass
from multiprocessing import get_context

from musubito import StepConfiguration, StepType, musubito_step


@dataclass
class Point:
    x: "Optional[int]" = 1


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT))
def pay(point: "Point"):
    with open("ran", "a") as file:
        print("pay", file=file)
    return point


@musubito_step
def looked(points):
    with open("ran", "a") as file:
        print("looked", file=file)
    return [Point(points)]


@musubito_step
def named(x):
    return __name__


DONE = [pay(Point(2)).value, looked(1).value]
assert type(DONE[0]) is Point and type(DONE[1][0]) is Point


def work(_):
    return repr(DONE), named(1).value


if __name__ == "__main__":
    with get_context(sys.argv[1]).Pool(1) as pool:
        print(json.dumps([work(1), *pool.map(work, [1])]))
"""


@pytest.mark.parametrize("method", third(1, NEW))
def test_a_child_that_is_still_running_the_script_replays_as_well(tmp_path: Path, method: str) -> None:
    """What stands at the top of a script runs in each child, when `__main__` is not yet the script there."""
    (tmp_path / "alone.py").write_text(ALONE)

    (one, name), (other, other_name) = said(tmp_path, "alone.py", method)

    assert one == other
    # What the code itself is told differs, and may differ in what comes of it.
    assert (name, other_name) == ("__main__", "__mp_main__")
    assert ran(tmp_path) == {"pay": 1, "looked": 1}


def test_two_scripts_are_two_modules(tmp_path: Path) -> None:
    for name in ("one.py", "other.py"):
        (tmp_path / name).write_text(ALONE)
        said(tmp_path, name, NEW[0])

    assert ran(tmp_path) == {"pay": 2, "looked": 2}
