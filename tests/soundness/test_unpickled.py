"""The user's classes and functions that a step unpickles count, though its code names none of them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, run, use_musubito_engine
from musubito.lineage import Lineage
from musubito.lineage.why import why
from tests.fresh import fresh
from tests.soundness.changed_programs import Program, Runs, in_one_process, in_three_processes

CLASS: Final = """
import io, pickle
def helper(): return VALUE
class A:
    class Inner:
        def go(self): return helper()
    def go(self): return helper()
class B:
    def go(self): return 1
"""


def of(held: str, loaded: str = "pickle.loads(DATA)", called: str = ".go()") -> str:
    """Return the text of a program that unpickles what it has pickled when it was imported."""
    return f"{CLASS}DATA = pickle.dumps({held})\ndef step(q): return {loaded}{called}"


COUNT: Final = {
    "an object": of("A()"),
    "an object in a list": of("[1, A()]", called="[1].go()"),
    "an object of a nested class": of("A.Inner()"),
    "a class": of("A", called="().go()"),
    "a function": of("helper", called="()"),
    "a method of an object": of("A().go", called="()"),
    "by Python's own unpickler": of("A()", "pickle._Unpickler(io.BytesIO(DATA)).load()"),
    "in a thread": (
        f"{CLASS}from concurrent.futures import ThreadPoolExecutor\nDATA = pickle.dumps(A())\n"
        "def step(q): return ThreadPoolExecutor(1).submit(pickle.loads, DATA).result().go()"
    ),
    "in a step that it calls": (
        f"{CLASS}DATA = pickle.dumps(A())\n@musubito_step\ndef inner(): return pickle.loads(DATA).go()\n"
        "def step(q): return inner().value"
    ),
}
DO_NOT: Final = {
    "an object of another class": of("B()"),
    "what its methods change": (
        "import pickle\nCLIENT, CALLS = None, 0\nclass A:\n    def go(self):\n        global CLIENT, CALLS\n"
        "        CLIENT, CALLS = CLIENT or [1], CALLS + 1\n        return CLIENT[0]\n"
        "DATA = pickle.dumps(A())\ndef helper(): pass\ndef step(q): return pickle.loads(DATA).go()"
    ),
    "an object of Python's": of("[1]", called=""),
}
PROGRAMS: Final = {name: Program(text, "1", "2") for name, text in (COUNT | DO_NOT).items()}
pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.11 does not tell which code runs")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return in_three_processes(tmp_path_factory.mktemp("unpickled"), PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_unpickled_counts_in_another_process(name: str, runs: Runs) -> None:
    assert name not in runs.failed
    assert [name in ran for ran in (runs.first, runs.again, runs.other)] == [True, False, name in COUNT]


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_unpickled_counts_in_one_process(name: str, tmp_path: Path) -> None:
    assert in_one_process(tmp_path, "unpickled_program", PROGRAMS[name]) == [1, 1, 2 if name in COUNT else 1]


def test_what_was_unpickled_and_changed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("unpickled_module")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec("class A:\n    def go(self): return 1", vars(module))
    data = pickle.dumps(vars(module)["A"]())

    @musubito_step(name="loads")
    def loads(q: int) -> int:
        return int(pickle.loads(data).go())

    with MusubitoEngine(SQLiteStorage(fresh(tmp_path / "m.db"))) as engine, use_musubito_engine(engine):
        assert loads(1).value == 1
        vars(module)["A"].go = lambda self: 2
        explained = engine.explain(loads, 1)
        assert (explained.reads, explained.files, explained.remedy) == (("code <unpickled_module>:A.go",), (), "")
        with run("again"):
            result = loads(1)
        assert result.value == 2
        told = why(Lineage(engine), result.node_id)
        assert "code <unpickled_module>:A.go" in told.reads
        assert (told.files, told.remedy) == ((), "")


SCALER: Final = """
import pickle, sys
from musubito import musubito_step

@musubito_step
def scales(number):
    print(number, end=" ")
    with open("scaler.bin", "rb") as file:
        return pickle.load(file).scale(number)

if sys.argv[1:]:
    import scaling
values = [scales(number).value for number in range(3)]
"""
SCALING: Final = "from factors import FACTOR\nclass Scaler:\n    def scale(self, number): return number * FACTOR\n"


def test_calls_that_share_a_class_replay_where_it_is_not_loaded(tmp_path: Path) -> None:
    def ran(*arguments: str) -> str:
        environment = {**os.environ, "MUSUBITO_URL": f"sqlite:///{tmp_path}/m.db", "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "program.py", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    (tmp_path / "factors.py").write_text("FACTOR = 2\n")
    (tmp_path / "scaling.py").write_text(SCALING)
    (tmp_path / "program.py").write_text(SCALER)
    made = "import pickle, scaling; pickle.dump(scaling.Scaler(), open('scaler.bin', 'wb'))"
    subprocess.run([sys.executable, "-c", made], cwd=tmp_path, check=True)
    assert ran() == "0 1 2"
    assert ran() == ""
    assert ran("loaded") == ""
    (tmp_path / "scaling.py").write_text(SCALING.replace("* FACTOR", "+ FACTOR"))
    assert ran() == "0 1 2"
    assert ran() == ""
    (tmp_path / "factors.py").write_text("FACTOR = 3\n")
    assert ran("loaded") == "0 1 2"
    assert ran() == ""
    (tmp_path / "scaling.py").write_text("# a remark\n" + (tmp_path / "scaling.py").read_text())
    assert ran("loaded") == "", "the code tells more exactly than its file"
