"""A small project whose tests are recorded, and what is asked of it."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

__all__ = ["ANSWERS", "SETTINGS", "Run", "cassette", "edit", "last_line", "runs"]

ANSWERS = """
from pathlib import Path
from musubito import StepConfiguration, musubito_step, record_usage

PROMPT = "Answer briefly: "
HERE = Path(__file__).parent


def ran():
    with (HERE / "ran.txt").open("a") as file:
        file.write("x")


@musubito_step(StepConfiguration(ignore_files=("ran.txt",)))
def ask(question: str) -> str:
    ran()
    record_usage(model="gpt-4o", input_tokens=1000, output_tokens=200)
    return f"an answer to '{PROMPT}{question}'"
"""
TEST = """
import pytest
from answers import ask


@pytest.mark.musubito
def test_it():
    assert "why?" in ask("why?").value
"""
SETTINGS = "[pytest]\npythonpath = .\nasyncio_default_fixture_loop_scope = function\n"
Run = Callable[..., pytest.RunResult]


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    pytester.makepyfile(answers=ANSWERS)
    (pytester.path / "tests").mkdir()
    (pytester.path / "tests" / "test_it.py").write_text(TEST)
    (pytester.path / "pytest.ini").write_text(SETTINGS)
    return pytester.path


@pytest.fixture
def play(pytester: pytest.Pytester, project: Path) -> Run:
    """Run the tests of the project."""

    def play(*args: str) -> pytest.RunResult:
        return pytester.runpytest_inprocess("-p", "musubito_pytest", "-p", "no:cacheprovider", *args)

    return play


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("a test opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)


def runs(project: Path) -> int:
    """How often the body of `ask` has run since the last question."""
    file = project / "ran.txt"
    count = len(file.read_text()) if file.exists() else 0
    file.unlink(missing_ok=True)
    return count


def cassette(project: Path, name: str = "test_it") -> Any:
    return json.loads((project / "tests" / "__musubito__" / "test_it" / f"{name}.json").read_text("utf-8"))


def last_line(result: pytest.RunResult) -> str:
    (line,) = [line for line in result.outlines if re.match(r"musubito: [\d,]+ (replayed|verified)", line)]
    return line


def edit(file: Path, before: str, after: str) -> None:
    text = file.read_text("utf-8")
    assert before in text
    file.write_text(text.replace(before, after), "utf-8")
