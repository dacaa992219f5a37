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
from musubito.lineage.readers.why import why
from tests.fresh import fresh

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.11 does not tell which code runs")


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
