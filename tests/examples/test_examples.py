"""The examples print what `examples/README.md` shows, in new processes, as they do for a user."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import musubito

LIBRARY = str(Path(musubito.__file__).parents[1])
EXAMPLES = Path(__file__).parents[2] / "examples"
README = (EXAMPLES / "README.md").read_text(encoding="utf-8")
SHOWN = dict(re.findall(r"^## (\S+)\.py\n.*?```console\n(.*?)```", README, re.MULTILINE | re.DOTALL))


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """A copy that may be edited."""
    shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns(".*", "__pycache__"))
    return tmp_path / "examples"


def start(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    if sys.platform == "darwin":
        command = command.replace("sed -i ", "sed -i '' ")
    environment = {**os.environ, "PATH": path, "PYTHONPATH": LIBRARY, "PYTHONIOENCODING": "utf-8", "COLUMNS": "80"}
    return subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def output(folder: Path, command: str) -> str:
    done = start(folder, command)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["quickstart", "research_graph", "memo"])
def test_an_example_prints_what_is_shown(examples: Path, name: str) -> None:
    commands = [each.partition("\n")[::2] for each in SHOWN[name].split("$ ")[1:]]
    assert [(command, output(examples, command)) for command, _ in commands] == commands


def test_in_a_cluster_each_step_runs_once(examples: Path) -> None:
    first, second, third = output(examples, "python cluster.py").split("\n\n")[1:]
    shown = [line.partition(", in ")[0] for line in SHOWN["cluster"].splitlines()[1:]]
    assert [batch.splitlines()[-1].partition(", in ")[0] for batch in (first, second)] == shown[:2]
    assert "was killed" in third
    ran, replayed = map(int, re.findall(r"(\d+) steps ran, (\d+) were replayed, in", third)[0])
    assert ran + replayed == 40
    assert ran <= 24


@pytest.mark.parametrize("name", ["on_ray", "on_temporal"])
def test_an_engine_prints_what_is_shown(examples: Path, name: str) -> None:
    commands = [each.partition("\n")[::2] for each in SHOWN[name].split("$ ")[1:]]
    assert [(command, start(examples, command).stdout) for command, _ in commands] == commands


def test_tasks_of_celery_print_what_is_shown(examples: Path) -> None:
    worker, *commands = (each.partition("\n")[::2] for each in SHOWN["on_celery"].split("$ ")[1:])
    assert output(examples, f"{worker[0]} echo $! >worker.pid") == ""
    try:
        assert [(command, output(examples, command)) for command, _ in commands] == commands
    finally:
        os.kill(int((examples / "worker.pid").read_text(encoding="utf-8")), signal.SIGTERM)


def test_the_demo_fits_a_terminal_and_shows_what_ran_and_what_it_cost(examples: Path) -> None:
    lines = output(examples, "python demo.py").splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 80
    # The demo starts the agent as the README does, so its test is the one of that section, too.
    agent = [line for line in SHOWN["agent"].splitlines() if not line.startswith("$")]
    assert [line for line in lines if line in agent] == agent
    assert [line.split()[2] for line in lines if line.startswith("$ musubito")] == ["show", "why", "savings", "export"]
    why = "\n".join(lines).partition("$ musubito why")[2].partition("$ musubito")[0]
    assert "within 30 days" in why
    assert "within 14 days" in why
    assert any(re.match(r"Saved \$0\.\d+, 351 tokens.*spent \$0\.\d+, 363 tokens", line) for line in lines)
    assert "flowchart" in (examples.parent / ".demo" / "picture.mmd").read_text(encoding="utf-8")


def test_the_demo_ends_with_an_error_if_a_replay_gives_another_answer(examples: Path) -> None:
    program = (examples / "agent.py").read_text(encoding="utf-8")
    (examples / "agent.py").write_text(program.replace("print(*(line_of", "print(uuid4(), *(line_of"), encoding="utf-8")
    done = start(examples, "python demo.py")
    assert done.returncode == 1
    assert "the replay gives the answer of the run" in done.stderr


def test_the_examples_are_short_and_each_is_listed() -> None:
    files = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in EXAMPLES.glob("*.py")}
    assert {name: lines for name, lines in files.items() if lines > 150} == {}
    assert set(re.findall(r"\[(\S+)\]\(\1\)", README)) == {*files.keys() - {"reports.py"}, "recorded_tests"}


def test_the_recorded_tests_replay_and_an_edit_of_the_prompt_fails(
    examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "musubito_pytest")
    folder = examples / "recorded_tests"
    (shown,) = re.findall(r"^## recorded_tests\n.*?```console\n\$ (.*?)```", README, re.MULTILINE | re.DOTALL)
    command, *lines = shown.splitlines()
    assert output(folder, command).splitlines()[:-1] == lines[:-1]
    assert output(folder, f"{command} --musubito=verify").splitlines()[1] == "musubito: 6 verified"
    edited = start(folder, f"sed -i 's/politely/briefly/' support.py && {command}")
    assert edited.returncode == 1
    assert "+You answer customers briefly." in edited.stdout
    assert edited.stdout.splitlines()[-1].startswith("3 failed")
