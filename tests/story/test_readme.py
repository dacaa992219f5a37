"""What the README shows is what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
FIRST, SECOND = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
BEFORE_SECOND = """
from musubito import musubito_step
import random

def ask_model(question):
    return random.random()
"""


def said(folder: Path, program: str) -> list[str]:
    (folder / "program.py").write_text(program, encoding="utf-8")
    done = subprocess.run([sys.executable, "program.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_the_first_example_runs_once(tmp_path: Path) -> None:
    summary = "context for 'why?'; policy of ada"
    assert said(tmp_path, FIRST) == ["fetch_context runs", "fetch_policy runs", "summarize runs", summary]
    assert said(tmp_path, FIRST) == [summary]
    assert said(tmp_path, FIRST.replace('f"{context.value}; {policy', 'f"{context.value} and {policy')) == [
        "summarize runs",
        "context for 'why?' and policy of ada",
    ]


def test_the_second_example_gives_five_answers_and_explains(tmp_path: Path) -> None:
    lines = said(tmp_path, BEFORE_SECOND + SECOND + "\n    assert len(set(votes)) == 5\n")
    assert [line.split()[:2] for line in lines[:5]] == [["__main__.ask_model", "ran"]] * 5
    assert lines[5] == "__main__.ask_model would be replayed: exact hit"
