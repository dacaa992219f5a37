"""`musubito run`: the program runs as under Python alone, as one run, of which the summary tells."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import musubito

LIBRARY = str(Path(musubito.__file__).parents[1])
PROGRAM = """
import os
import sys
import threading
import time

from musubito import musubito_step


@musubito_step
def doubled(x):
    return x * 2


def late():
    time.sleep(0.3)
    print("late")


if __name__ == "__main__":
    print(sys.argv[0], sys.argv[1:], __file__, sys.path[0], __name__, sys.modules["__main__"].__dict__ is globals())
    if "calls" in sys.argv:
        print([doubled(x).value for x in (1, 2, 2)])
    if "thread" in sys.argv:
        threading.Thread(target=late).start()
    if "raise" in sys.argv:
        raise ValueError("no such thing")
    if "text" in sys.argv:
        sys.exit("wrong")
    if "seven" in sys.argv:
        sys.exit(7)
    if "zero" in sys.argv:
        sys.exit(0)
    if "gone" in sys.argv:
        os._exit(5)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "below" / "pack").mkdir(parents=True)
    (tmp_path / "below" / "app.py").write_text(PROGRAM)
    (tmp_path / "below" / "pack" / "__main__.py").write_text(PROGRAM)
    (tmp_path / "mod.py").write_text(PROGRAM)
    return tmp_path


def python(folder: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MUSUBITO_")}
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=60,
        env={**environment, "PYTHONPATH": LIBRARY, "COLUMNS": "100", **more},
        cwd=folder,
        check=False,
    )


def run(folder: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    return python(folder, "-m", "musubito", "run", *command, **more)


@pytest.mark.parametrize("program", ["below/app.py", "-m mod", "below/pack"])
@pytest.mark.parametrize("what", ["calls thread", "raise thread", "text", "seven", "zero", "gone", "--json --mode x"])
def test_a_program_runs_as_under_python_alone(folder: Path, program: str, what: str) -> None:
    command = [*program.split(), *what.split()]
    bare, here = python(folder, *command), run(folder, *command)

    assert (here.returncode, here.stdout.replace(f"{folder}/", "")) == (
        bare.returncode,
        bare.stdout.replace(f"{folder}/", ""),
    )
    errors, _, summary = here.stderr.partition("\nrun ")
    assert _own(errors) == _own(bare.stderr)
    assert bool(summary) == (what != "gone")


def _own(errors: str) -> str:
    """The output without the frames of runpy, which a folder and a module have under Python alone."""
    lines = errors.rstrip("\n").splitlines()
    return "\n".join(line for line in lines if "runpy" not in line)


def test_the_summary_tells_what_was_replayed(folder: Path) -> None:
    first = run(folder, "--name", "nightly", "--tag", "team=a", "below/app.py", "calls")
    assert "2 ran, 1 replayed" in first.stderr
    second = run(folder, "--mode", "replay_only", "--json", "below/app.py", "calls")
    report = json.loads(second.stderr)
    assert (report["summary"]["name"], report["summary"]["replayed"], report["summary"]["ran"]) == (
        "below/app.py",
        3,
        0,
    )
    listed = json.loads(python(folder, "-m", "musubito", "runs", "--name", "nightly", "--json").stdout)
    assert [(one["tags"], one["status"]) for one in listed["runs"]] == [({"team": "a"}, "finished")]


@pytest.mark.parametrize(("what", "status"), [("raise", "failed"), ("seven", "failed"), ("zero", "finished")])
def test_the_run_ends_as_the_program_does(folder: Path, what: str, status: str) -> None:
    errors = run(folder, "--json", "below/app.py", "calls", what).stderr
    assert json.loads(errors[errors.index("{") :])["summary"]["status"] == status


def test_modes_and_namespaces_hold_for_other_processes_too(folder: Path) -> None:
    (folder / "parent.py").write_text(
        "import subprocess, sys\nsys.exit(subprocess.run([sys.executable, 'below/app.py', 'calls']).returncode)\n"
    )
    assert run(folder, "--namespace", "mine", "parent.py").returncode == 0
    assert "2 ran" in run(folder, "below/app.py", "calls").stderr, "another namespace"
    assert "3 replayed" in run(folder, "--namespace", "mine", "below/app.py", "calls").stderr
    assert run(folder, "--namespace", "third", "--mode", "replay_only", "parent.py").returncode == 1


def test_a_program_without_a_step_and_one_that_records_nothing(folder: Path) -> None:
    assert "No step was called" in run(folder, "below/app.py").stderr
    off = run(folder, "--mode", "off", "below/app.py", "calls")
    assert off.returncode == 0
    assert off.stderr == "\nmusubito: the mode is off, so nothing was recorded.\n"
    lost = run(folder, "below/app.py", "calls", MUSUBITO_URL="sqlite:////dev/null/m.db")
    assert lost.returncode == 0
    assert "nothing was recorded" in lost.stderr


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["none.py"], "there is no file none.py"),
        (["--mode", "quick", "below/app.py"], "'quick' is not one of"),
        (["--tag", "x", "below/app.py"], "'x' is no tag"),
        ([], "Missing argument 'SCRIPT'"),
        (["--namespace", "n" * 501, "below/app.py"], "501 characters"),
    ],
)
def test_wrong_usage_runs_nothing(folder: Path, command: list[str], says: str) -> None:
    done = run(folder, *command)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_a_mode_of_the_environment_that_is_none(folder: Path) -> None:
    done = run(folder, "below/app.py", MUSUBITO_MODE="quick")
    assert (done.returncode, done.stdout) == (2, "")
    assert "MUSUBITO_MODE" in done.stderr


def test_steps_in_children_and_in_tasks(folder: Path) -> None:
    (folder / "spread.py").write_text(
        """
import asyncio
import multiprocessing

from musubito import musubito_step


@musubito_step
def asked(x):
    return x


async def main():
    async def one(x):
        return asked(x).value
    return await asyncio.gather(*map(one, range(3)))


def work(x):
    return asked(x).value


if __name__ == "__main__":
    print(asyncio.run(main()))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(work, range(3)))
"""
    )
    done = run(folder, "--json", "spread.py")
    assert done.stdout == "[0, 1, 2]\n[0, 1, 2]\n"
    assert json.loads(done.stderr)["summary"]["ran"] == 3, "the children replay"


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGINT for one process")
def test_ctrl_c_ends_it_with_a_summary(folder: Path) -> None:
    (folder / "long.py").write_text("import time\nprint('began', flush=True)\ntime.sleep(60)\n")
    child = subprocess.Popen(
        [sys.executable, "-m", "musubito", "run", "long.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": LIBRARY},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "began\n"
    time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "KeyboardInterrupt" in errors
    assert "run " in errors
    assert "cancelled" in errors


ABRUPT = """
import os
from musubito import StepConfiguration, musubito_step

@musubito_step(StepConfiguration(step_type="external_effect"), name="pay")
def pay(n):
    os._exit(3)

pay(1)
"""


def test_a_program_that_ends_abruptly_has_its_run(tmp_path: Path) -> None:
    (tmp_path / "abrupt.py").write_text(ABRUPT)
    assert run(tmp_path, "--name", "pn", "abrupt.py").returncode == 3
    told = python(tmp_path, "-m", "musubito", "show", "pn").stdout
    assert "stopped" in told
    assert "no calls were recorded before it stopped" in told
    assert "pay" in python(tmp_path, "-m", "musubito", "effects").stdout
