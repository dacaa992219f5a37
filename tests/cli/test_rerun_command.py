"""`musubito rerun`: of a step in a user's module, and of what is wrong with a target, a file or a judge."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
from musubito import musubito_step

@musubito_step
def greet(name: str) -> str:
    return f"Dear {name}"

def longer(given, before, after):
    return len(after) > len(before)

def length(given, before, after):
    return len(after)

def broken(given, before, after):
    raise KeyError("no")

number = 3

if __name__ == "__main__":
    for name in ("Ann", "Bob"):
        greet(name)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "greeting.py").write_text(PROGRAM)
    assert subprocess.run([sys.executable, "greeting.py"], cwd=tmp_path, check=False).returncode == 0
    (tmp_path / "greeting.py").write_text(PROGRAM.replace("Dear", "Hello"))
    return tmp_path


def told(folder: Path, *arguments: str, status: int = 0) -> str:
    command = [sys.executable, "-m", "musubito", "rerun", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stdout + done.stderr


def test_it_says_what_became_of_the_runs_and_shows_what_differs(folder: Path) -> None:
    text = told(folder, "greeting.py:greet", "--last", "5")
    assert text.startswith(
        "2 runs of greeting.greet, code edited since: greeting.greet\n  2 different\n  ran 2 of 2 calls · "
    )
    assert "    - Dear Ann\n    + Hello Ann" in text
    assert told(folder, "show").splitlines()[1:3] == text.splitlines()[1:3]
    assert "rerun greeting.greet" in told(folder, "list")


def test_json_has_the_rows_and_the_counts(folder: Path) -> None:
    document = json.loads(told(folder, "greeting.py:greet", "--where", "Ann", "--json"))
    (row,) = document["rows"]
    assert document["counts"] == {"differs": 1}
    assert (row["before"], row["after"], row["verdict"]) == ("Dear Ann", "Hello Ann", "differs")
    assert row["differences"] == [{"path": "$", "before": '"Dear Ann"', "after": '"Hello Ann"'}]
    assert json.loads(told(folder, "list", "--json"))["reruns"][0]["run_id"] == document["summary"]["run_id"]


def test_a_low_score_ends_with_status_1(folder: Path) -> None:
    judged = ("greeting.py:greet", "--judge", "greeting.py:longer")
    assert "score: mean 1 over 2 answers" in told(folder, *judged, "--fail-under", "1")
    (folder / "greeting.py").write_text(PROGRAM.replace("Dear", "Oh"))
    assert "score: mean 0 over 2 answers" in told(folder, *judged, "--fail-under", "0.5", status=1)
    (folder / "greeting.py").write_text(PROGRAM.replace("return f", "raise ValueError(name) or f"))
    assert "--fail-under 0: 2 failed, without a score" in told(folder, *judged, "--fail-under", "0", status=1)


def test_the_ten_worst_answers_are_listed_with_their_scores(folder: Path) -> None:
    (folder / "names.jsonl").write_text("\n".join(f'["{"n" * size}"]' for size in range(1, 14)))
    judged = ("greeting.py:greet", "--inputs", "names.jsonl", "--judge", "greeting.py:length")
    text = told(folder, *judged)
    assert "  score: mean 13 over 13 answers, the lowest:\n    7  " in text
    document = json.loads(told(folder, *judged, "--json"))
    score = document["scores"]["score"]
    assert ([worst["score"] for worst in score["worst"]], score["count"]) == ([*range(7, 17)], 13)
    assert {worst["rerun_id"] for worst in score["worst"]} < {row["rerun_id"] for row in document["rows"]}


def test_ctrl_c_keeps_what_was_done_and_the_same_command_goes_on(folder: Path) -> None:
    slow = """import pathlib, time
    pathlib.Path("began").touch()
    time.sleep(0.5)
    return"""
    (folder / "greeting.py").write_text(PROGRAM.replace("return f", f"{slow} f"))
    command = [sys.executable, "-m", "musubito", "rerun", "greeting.py:greet", "--concurrency", "1"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        while not (folder / "began").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        says = process.communicate(timeout=60)[1]
    assert (process.returncode, says.splitlines()[0]) == (
        130,
        "What was done is kept: 'musubito rerun show' shows it, and the same command goes on.",
    )
    assert "\n  1 the same · 1 not made\n" in told(folder, "show")
    assert "\n  2 the same\n  ran 1 of 2 calls" in told(folder, "greeting.py:greet")


def test_inputs_of_a_file_are_asked(folder: Path) -> None:
    (folder / "names.jsonl").write_text('["Cas"]\n\n{"name": "Dan"}\n')
    text = told(folder, "greeting.py:greet", "--inputs", "names.jsonl")
    assert "\n  2 new\n" in text
    assert "    + Hello Cas" in text


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("greeting.py:number",), "only a step or a graph is rerun, and not a int"),
        (("greeting.py:nothing",), "greeting.py has no nothing"),
        (("greeting.py:greet", "--run", "last"), "is a run of"),
        (("greeting.py:greet", "--where", "Zoe"), "no run of greeting.greet was recorded that is like that"),
        (("greeting.py:greet", "--inputs", "greeting.py"), "greeting.py, line 2, is not JSON"),
        (("greeting.py:greet", "--fail-under", "1"), "--fail-under needs a --judge"),
        (("greeting.py:greet", "--judge", "greeting.py:broken"), "greeting.broken: KeyError: 'no'"),
        (("greeting.py:greet", "--judge", "greeting.py:number"), "a judge is a function"),
        (("show", "ffff"), "no run begins with"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(folder: Path, arguments: tuple[str, ...], error: str) -> None:
    if "--run" in arguments:
        subprocess.run(
            [sys.executable, "-c", "from musubito import run\nwith run('other'): pass"], cwd=folder, check=True
        )
    text = told(folder, *arguments, status=2)
    assert error in text
    assert "Traceback" not in text
