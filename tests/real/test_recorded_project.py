"""A project's tests are recorded with the clients of OpenAI and Anthropic, replayed with no server, and refreshed.

Its folder `recorded_desk` holds twenty tests of a support desk, as its users would write them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real.model_server import ModelServer
from tests.recorded.conftest import SETTINGS, edit

DESK = Path(__file__).parent / "recorded_desk"
NO_SERVER = {
    "OPENAI_API_KEY": "none",
    "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
    "ANTHROPIC_API_KEY": "none",
    "ANTHROPIC_BASE_URL": "http://127.0.0.1:9",
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "desk"
    shutil.copytree(DESK, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pytest.ini").write_text(SETTINGS)
    return folder


@pytest.fixture
def desk(template: Path, tmp_path: Path, server: ModelServer) -> Path:
    """The project with its cassettes, recorded once."""
    if not (template / "__musubito__").exists():
        play(template, "record", server.environment)
        assert server.took() == 45
    return Path(shutil.copytree(template, tmp_path / "desk"))


def play(folder: Path, mode: str, environment: dict[str, str], *args: str, passes: bool = True) -> str:
    options = ("-q", "-p", "musubito_pytest", "-p", "no:cacheprovider", f"--musubito={mode}", *args)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode == 0) == passes, done.stdout + done.stderr
    return done.stdout


def cassettes(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((folder / "__musubito__").rglob("*.md"))}


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one", "xdist"])
def test_replayed_with_no_server(desk: Path, workers: tuple[str, ...]) -> None:
    """Only the step runs that its test lets run; a time-out and a port are no matter."""
    settings = {"SUPPORT_TIMEOUT": "5", "SUPPORT_PORT": "1234"}
    said = play(desk, "replay", {**NO_SERVER, **settings}, *workers)
    assert "20 passed" in said
    assert " 1 ran" in said


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one", "xdist"])
def test_equal_answers_make_equal_files(desk: Path, server: ModelServer, workers: tuple[str, ...]) -> None:
    """The answers of the server have other ids, times and usage each time."""
    before = cassettes(desk)
    assert len(before) == 20
    play(desk, "refresh", server.environment, *workers)
    assert server.took() == 45
    assert cassettes(desk) == before
    play(desk, "record", NO_SERVER, *workers)
    assert cassettes(desk) == before


def test_cassettes_are_as_short_as_what_they_show(desk: Path) -> None:
    sizes = {name: len(file) for name, file in cassettes(desk).items()}
    assert sizes["test_says_hello.md"] < 7_000
    assert sum(sizes.values()) < 20 * 14_000


def test_another_answer_changes_the_files_of_its_tests(desk: Path, server: ModelServer) -> None:
    before = cassettes(desk)
    edit(desk / "support.py", "You know bills.", "You know all bills.")
    said = play(desk, "replay", NO_SERVER, passes=False)
    assert "1 failed, 19 passed" in said
    assert any(line.startswith("  +") and "You know all bills." in line for line in said.splitlines()[-12:])
    play(desk, "refresh", server.environment)
    after = cassettes(desk)
    assert [name for name in before if before[name] != after[name]] == ["test_routes[billing].md"]


def test_an_edited_prompt_file_fails_the_tests_that_read_it(desk: Path) -> None:
    edit(desk / "prompts" / "summary.md", "one sentence", "two sentences")
    said = play(desk, "replay", NO_SERVER, passes=False)
    assert "1 failed, 19 passed" in said
    assert "a file that it read changed: `prompts/summary.md`" in said


def test_an_edited_tool_fails_the_tests_that_used_it(desk: Path) -> None:
    edit(desk / "support.py", "is on its way", "is late")
    said = play(desk, "replay", NO_SERVER, passes=False)
    failed = {line.split("::")[1].split(" ")[0] for line in said.splitlines() if line.startswith("FAILED")}
    assert failed == {"test_looks_an_order_up", "test_looks_up_and_opens_a_ticket", "test_answers_many_at_once"}
