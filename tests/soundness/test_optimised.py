"""`python -O` and `-OO` leave out some of what stands in the source: what comes of it is not replayed without them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import musubito
from tests.pairs import third

PROGRAM = """
from musubito import musubito_step


@musubito_step
def refuses(x):
    try:
        assert x > 0
    except AssertionError:
        return "refused"
    return "accepted"


@musubito_step
def nested(x):
    def check():
        assert x > 0
        return "accepted"

    try:
        return check()
    except AssertionError:
        return "refused"


@musubito_step
def told(x):
    def inner():
        'Said of it.'

    return inner.__doc__


@musubito_step
def plain(x):
    print("plain runs")
    return x


print(refuses(-1).value, nested(-1).value, told(-1).value, plain(-1).value)
"""
DEBUG, OPTIMISED, WITHOUT_DOCS = (
    "refused refused Said of it. -1",
    "accepted accepted Said of it. -1",
    "accepted accepted None -1",
)


@pytest.mark.parametrize("levels", third(0, [("", "-O", "-OO", ""), ("-OO", "-O", ""), ("-O", "", "-O")]))
def test_what_was_left_out_is_not_replayed(tmp_path: Path, levels: tuple[str, ...]) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    library = str(Path(musubito.__file__).parents[1])
    said: list[str] = []
    for level in levels:
        command = [sys.executable, *filter(None, [level]), "program.py"]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": library}, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        said += done.stdout.splitlines()
    # What has nothing to leave out is the same step in all.
    assert said.pop(0) == "plain runs"
    assert said == [{"": DEBUG, "-O": OPTIMISED, "-OO": WITHOUT_DOCS}[level] for level in levels]
