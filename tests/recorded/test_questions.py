"""Tests of a desk whose work waits for a person: what is asked is recorded, and what came of each answer."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.recorded.conftest import SETTINGS, edit

DESK = Path(__file__).parent / "desk_project"


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    folder = tmp_path / "desk"
    shutil.copytree(DESK, folder, ignore=shutil.ignore_patterns("__pycache__", "ran.txt"))
    (folder / "pytest.ini").write_text(SETTINGS)
    return folder


def play(folder: Path, mode: str, *args: str, passes: bool = True) -> str:
    """Run the tests of a desk in a process of its own, and return what they say."""
    options = ("-q", "-p", "musubito_pytest", "-p", "no:cacheprovider", f"--musubito={mode}", *args)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode == 0) == passes, done.stdout + done.stderr
    return done.stdout


def ran(folder: Path) -> Counter[str]:
    """Return what ran since the last question."""
    file = folder / "ran.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return Counter(lines)


def cassettes(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in sorted(folder.rglob("__musubito__/**/*.md"))}


def test_questions_are_asked_again_and_answers_lead_where_they_led(desk: Path) -> None:
    play(desk, "record")
    assert ran(desk)["refund"] == 7
    recorded = cassettes(desk)
    assert len(recorded) == 15
    play(desk, "replay")
    assert ran(desk) == {}
    play(desk, "record")
    assert ran(desk) == {}
    play(desk, "refresh")
    assert ran(desk)["refund"] == 7
    assert cassettes(desk) == recorded
    assert "without a recorded answer" not in play(desk, "verify")


def test_a_model_is_asked_once_though_its_agent_is_resumed(desk: Path) -> None:
    play(desk, "record", "-k", "test_approved")
    assert ran(desk) == {"model": 2, "refund": 1}


def test_another_answer_is_named(desk: Path) -> None:
    play(desk, "record", "-k", "a_node_asks")
    edit(desk / "test_desk.py", 'sent(graph, "We are sorry.")', 'sent(graph, "We regret it.")')
    said = play(desk, "replay", "-k", "a_node_asks", passes=False)
    assert "LangGraph/approve was not replayed: what it reads changed: `$.answers`" in said


def test_an_edited_question_is_missed(desk: Path) -> None:
    play(desk, "record", "-k", "a_node_asks")
    edit(desk / "desk.py", '"send?"', '"shall it go?"')
    assert "its code changed: `desk.approve`" in play(desk, "replay", "-k", "a_node_asks", passes=False)
