"""A small project whose tests are recorded, and what is asked of it."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from musubito.lineage.transfer.cassette_files import read_cassette, write_cassette
from musubito.values.display import plain

__all__ = [
    "ANSWERS",
    "SETTINGS",
    "Run",
    "cassette",
    "cassette_file",
    "edit",
    "held",
    "last_line",
    "recorded_long_ago",
    "runs",
]

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


def cassette_file(project: Path, name: str = "test_it") -> Path:
    return project / "tests" / "__musubito__" / "test_it" / f"{name}.md"


def cassette(project: Path, name: str = "test_it") -> Any:
    """Return what the cassette of a test holds, as plain data."""
    return held(cassette_file(project, name))


def recorded_long_ago(file: Path) -> None:
    """Rewrite a cassette as one that a slower machine recorded."""
    recorded = read_cassette(file)
    slow = tuple(replace(result, duration_ms=777) for result in recorded.results)
    write_cassette(file, replace(recorded, recorded_at=1_600_000_000, results=slow))


def held(file: Path) -> Any:
    recorded = read_cassette(file)
    return {
        "recorded_at": recorded.recorded_at,
        "namespace": recorded.namespace,
        "results": [
            {
                "operation": result.operation,
                "input": result.input,
                "output": plain(result.payload[1:]),
                "id": result.keys.reuse.hex()[:12],
                "reads": [(read.kind, read.key) for read in result.reads],
                "valid_for": result.valid_for,
                "milliseconds": result.duration_ms,
            }
            for result in recorded.results
        ],
    }


def last_line(result: pytest.RunResult) -> str:
    (line,) = [line for line in result.outlines if re.match(r"musubito: [\d,]+ (replayed|verified)", line)]
    return line


def edit(file: Path, before: str, after: str) -> None:
    text = file.read_text("utf-8")
    assert before in text
    file.write_text(text.replace(before, after), "utf-8")
