"""An object counts by the lines that made it, and by what they name, where cloudpickle brings it without its script."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import musubito
from tests import launcher
from tests.pairs import third

LIBRARY = str(Path(musubito.__file__).parents[1])
SCRIPT = """
import functools
import json
import operator
import sys
from pathlib import Path

import cloudpickle

from musubito import musubito_step, run

PLACES = {"first": 1}
DEFAULT = 0


def place(name):
    return PLACES[name] + DEFAULT


READERS = [place]


def named(name):
    return functools.reduce(operator.add, [read(name) for read in READERS])


ENCODER = json.JSONEncoder(indent=named("first"))


@musubito_step
def written(value):
    return ENCODER.encode(value)


def work():
    with run() as record:
        written([1, 2])
    return [call.operation for call in record.calls if call.outcome == "ran"]


if __name__ == "__main__":
    Path("sent").write_bytes(cloudpickle.dumps(work))
    print(*(work() if sys.argv[1:] else []))
"""
WORKER = "import pickle\nprint(*pickle.load(open('sent', 'rb'))())\n"


def ran(folder: Path, program: str, *args: str) -> list[str]:
    """What the program ran; it is gone afterwards."""
    (folder / "program.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": LIBRARY, "MUSUBITO_URL": f"sqlite:///{folder}/m.db"}
    done = launcher.run(folder / "program.py", *args, folder=folder, environment=environment)
    assert done.returncode == 0, done.stderr
    (folder / "program.py").unlink()
    return done.stdout.split()


EDITS = [
    ('{"first": 1}', '{"first": 2}'),
    ("DEFAULT = 0", "DEFAULT = 1"),
    ("PLACES[name] + DEFAULT", "PLACES[name] - DEFAULT"),
    ("operator.add, [", "operator.sub, ["),
]


@pytest.mark.parametrize("edit", third(0, EDITS))
def test_what_only_lines_name_counts_where_the_script_is_not(tmp_path: Path, edit: tuple[str, str]) -> None:
    assert ran(tmp_path, SCRIPT, "here") == ["program.written"]
    assert ran(tmp_path, WORKER) == []

    assert SCRIPT.count(edit[0]) == 1
    ran(tmp_path, SCRIPT.replace(*edit))
    assert ran(tmp_path, WORKER) == ["program.written"]
    assert ran(tmp_path, SCRIPT.replace(*edit), "here") == []

    ran(tmp_path, SCRIPT)
    assert ran(tmp_path, WORKER) == []
