"""Classes of a script are the same ones in the processes that cloudpickle brings them to, and back in the script."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import musubito
from tests import launcher

LIBRARY = str(Path(musubito.__file__).parents[1])
SCRIPT = '''
import enum
import json
import sys
from collections import namedtuple
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, NamedTuple, TypedDict, TypeVar

import cloudpickle
from pydantic import BaseModel, Field, computed_field, field_validator

from musubito import MusubitoEngine, musubito_step, run, use_musubito_engine

T = TypeVar("T")
RATE = 2


def rated(text):
    return text * RATE


@dataclass
class Plain:
    topic: str = "a"


@dataclass
class Method:
    """What it says does not count."""

    topic: str = "a"

    def told(self):
        return rated(self.topic) + self.more

    @property
    def more(self):
        return "method"


@dataclass(frozen=True, order=True)
class Frozen:
    topic: str = "a"
    items: tuple = field(default_factory=tuple, metadata={"frozen": 1})


@dataclass(slots=True)
class Slots:
    topic: str = "a"
    number: int = 3

    def told(self):
        return "slots"


@dataclass(frozen=True, slots=True, kw_only=True)
class Factory:
    topic: str = "a"
    items: list = field(default_factory=lambda: ["factory"])


@dataclass
class Derived(Method):
    number: int = 1

    def told(self):
        return super().told() + "derived"


@dataclass
class Box(Generic[T]):
    topic: T = "a"

    def told(self):
        return ["box", self.topic]


class Outer:
    @dataclass
    class Inner:
        topic: str = "a"

        def told(self):
            return "nested"


@dataclass
class Holds:
    inner: Frozen = field(default_factory=Frozen)
    next: "Holds | None" = None


def local():
    @dataclass
    class Local:
        topic: str = "a"

        def told(self):
            return "local"

    return Local


Local = local()


class Named(NamedTuple):
    topic: str = "a"

    def told(self):
        return "named"


Old = namedtuple("Old", "topic old", defaults=("a", 1))


class Typed(TypedDict, total=False):
    topic: str


class Tone(enum.Enum):
    A = "a"

    def told(self):
        return "tone"


class Flags(enum.Flag):
    A = 1
    B = 2


class Model(BaseModel):
    topic: str = Field("a", description="model")


class Checked(BaseModel):
    topic: str = "a"
    inner: Model | None = None

    @field_validator("topic")
    @classmethod
    def stripped(cls, value):
        return value.strip()

    @computed_field
    @property
    def size(self) -> int:
        return len(self.topic)

    def told(self):
        return rated("checked")


class Speaks:
    def __init__(self, topic):
        self.topic = topic

    def __musubito_identity__(self):
        return self.topic

    def told(self):
        return "speaks"


MAKE = {
    "Plain": lambda: Plain(),
    "Method": lambda: Method(),
    "Frozen": lambda: Frozen(),
    "Slots": lambda: Slots(),
    "Factory": lambda: Factory(),
    "Derived": lambda: Derived(),
    "Box": lambda: Box("a"),
    "Nested": lambda: Outer.Inner(),
    "Holds": lambda: Holds(),
    "Local": lambda: Local(),
    "Named": lambda: Named(),
    "Old": lambda: Old(),
    "Typed": lambda: Typed(topic="a"),
    "Tone": lambda: Tone.A,
    "Flags": lambda: Flags.A | Flags.B,
    "Model": lambda: Model(),
    "Checked": lambda: Checked(),
    "Speaks": lambda: Speaks("a"),
}


def steps(name, make):
    @musubito_step(name=f"told/{name}")
    def told(given):
        return str(given.told() if hasattr(given, "told") else given)

    @musubito_step(name=f"same/{name}")
    def same(given):
        return 1 if name == "Speaks" else [given]

    @musubito_step(name=f"made/{name}")
    def made():
        return 1 if name == "Speaks" else [make()]

    return told, same, made


STEPS = {name: steps(name, make) for name, make in MAKE.items()}


def work(instances):
    ran = []
    for name, (told, same, made) in STEPS.items():
        given = instances[name]
        with run() as r:
            values = told(given).value, same(given).value, made().value
        for value in values[1:] if name != "Speaks" else ():
            assert type(value[0]) is type(given) and value[0] == given, (value, given)
        ran += [f"{each}/{name}" for each, call in zip(("told", "same", "made"), r.calls) if call.outcome == "ran"]
    return ran


if __name__ == "__main__":
    instances = {name: make() for name, make in MAKE.items()}
    # So does a scheduler that runs in the client: whatever it is given comes back, each task by itself.
    came_back = [cloudpickle.loads(cloudpickle.dumps(instances[name])) for name in sys.argv[2:] and MAKE]
    came_back += [cloudpickle.loads(cloudpickle.dumps((STEPS[name], instances[name]))) for name in sys.argv[2:] and MAKE]
    Path("sent").write_bytes(cloudpickle.dumps((work, instances)))
    print(json.dumps([work(instances), work(instances)] if sys.argv[1:] else []))
'''
WORKER = """
import json
import pickle
from pathlib import Path

print(json.dumps([work(instances) for work, instances in (pickle.loads(Path("sent").read_bytes()) for _ in range(2))]))
"""
KINDS = [line.split('"')[1] for line in SCRIPT.splitlines() if line.startswith('    "') and '": lambda' in line]
ALL = [f"{step}/{kind}" for kind in KINDS for step in ("told", "same", "made")]


def ran(folder: Path, program: str, *args: str) -> list[list[str]]:
    """What its two rounds ran; the program is gone afterwards."""
    (folder / "program.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": LIBRARY, "MUSUBITO_URL": f"sqlite:///{folder}/m.db"}
    done = launcher.run(folder / "program.py", *args, folder=folder, environment=environment, imports="pydantic")
    assert done.returncode == 0, done.stderr
    (folder / "program.py").unlink()
    found: list[list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
def test_what_the_script_ran_its_workers_do_not(tmp_path: Path, future: str) -> None:
    assert ran(tmp_path, future + SCRIPT, "here") == [ALL, []]
    assert ran(tmp_path, WORKER) == [[], []]


def test_what_a_worker_ran_neither_another_nor_the_script_does(tmp_path: Path) -> None:
    assert ran(tmp_path, SCRIPT) == []
    assert ran(tmp_path, WORKER) == [ALL, []]
    assert ran(tmp_path, WORKER) == [[], []]
    assert ran(tmp_path, SCRIPT, "here") == [[], []]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the script has run."""
    folder = tmp_path_factory.mktemp("known")
    assert ran(folder, SCRIPT, "here") == [ALL, []]
    return folder


@pytest.fixture
def after(known: Path, tmp_path: Path) -> Path:
    """A folder as it was when the script had run."""
    return shutil.copytree(known, tmp_path, dirs_exist_ok=True)


def test_nor_a_script_to_which_its_classes_came_back(after: Path) -> None:
    assert ran(after, SCRIPT, "here", "and back") == [[], []]
    assert ran(after, WORKER) == [[], []]


EDITS = {
    "Plain": ('class Plain:\n    topic: str = "a"', 'class Plain:\n    topic: str = "a"\n    number: int = 0'),
    "Method": ('return "method"', 'return "other"'),
    "Frozen": ('metadata={"frozen": 1}', 'metadata={"frozen": 2}'),
    "Slots": ('return "slots"', 'return "other"'),
    "Factory": ('["factory"]', '["other"]'),
    "Box": ('["box", self.topic]', "[self.topic]"),
    "Nested": ('return "nested"', 'return "other"'),
    "Local": ('return "local"', 'return "other"'),
    "Named": ('return "named"', 'return "other"'),
    "Old": ('"topic old", defaults=("a", 1)', '"topic old new", defaults=("a", 1, 2)'),
    "Tone": ('return "tone"', 'return "other"'),
    "Flags": ("B = 2", "B = 4"),
    "Model": ('description="model"', 'description="other"'),
    "Checked": ("value.strip()", "value.lstrip()"),
    "Speaks": ('return "speaks"', 'return "other"'),
}
"""By what is edited: a field, a property, metadata, a method, a default, a base, a member, a description, a
validator."""
WITH_IT = {"Method": ["Derived"], "Frozen": ["Holds"], "Model": ["Checked"]}


@pytest.mark.parametrize("which", [sorted(EDITS)[::2], sorted(EDITS)[1::2]])
def test_an_edited_class_is_another_one_in_the_workers(after: Path, which: list[str]) -> None:
    edited = SCRIPT
    for kind in which:
        assert edited.count(EDITS[kind][0]) == 1, kind
        edited = edited.replace(*EDITS[kind])
    changed = {kind for each in which for kind in (each, *WITH_IT.get(each, ()))}
    ran(after, edited)
    again = ran(after, WORKER)[0]
    assert {each.partition("/")[2] for each in again} == changed
    assert {f"told/{kind}" for kind in changed} <= set(again)


def test_an_edited_helper_of_methods_runs_what_may_call_them(after: Path) -> None:
    ran(after, SCRIPT.replace("RATE = 2", "RATE = 3"))
    again = ran(after, WORKER)[0]
    assert {each for each in again if each.startswith("told/")} == {"told/Method", "told/Derived", "told/Checked"}
