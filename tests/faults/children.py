"""Programs that a test runs in processes of their own, so that they can be killed, forked and run side by side."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import musubito
from tests.launcher import Forked, fork

__all__ = ["bury", "finish", "heard", "kill", "log_of", "program", "run_program", "start", "time_limit"]

SOURCE = Path(musubito.__file__).resolve().parents[1]
_STARTED: list[Forked] = []
PRELUDE = '''\
from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
import warnings

from musubito import *
from musubito import current_idempotency_key

DATABASE = os.environ.get("DATABASE", "")


def log(line):
    """One line, in one write: nothing of it is lost when the process is killed a moment later."""
    with open(os.environ["LOG"], "a") as file:
        file.write(f"{line}\\n")


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

'''


def program(directory: Path, body: str, name: str = "program.py") -> Path:
    """A program that begins with `PRELUDE`; its folder holds `musubito.db` and `log` too."""
    path = directory / name
    path.write_text(PRELUDE + textwrap.dedent(body))
    return path


def start(path: Path, *arguments: object, imports: str = "musubito", **environment: str) -> Forked:
    """The program, running; what it says is read from its stdout."""
    # The same Musubito as here, however the tests were told where it is.
    source = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH"))))
    where = {"PYTHONPATH": source, "DATABASE": str(path.parent / "musubito.db"), "LOG": str(path.parent / "log")}
    process = fork(path, *arguments, environment={**os.environ, **where, **environment}, imports=imports)
    _STARTED.append(process)
    return process


def bury() -> None:
    """End all that a failed test has left."""
    while _STARTED:
        process = _STARTED.pop()
        process.kill()
        process.communicate()


def heard(process: Forked) -> str:
    """The next line that it says."""
    line = process.stdout.readline()
    return line.rstrip() if line else f"nothing: {process.communicate()[1]}"


def finish(process: Forked, timeout: float = 60) -> list[str]:
    """What it said, once it has ended well."""
    try:
        said, complaints = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        said, complaints = process.communicate()
        raise AssertionError(f"it did not end in {timeout} s; it said {said!r} and {complaints!r}") from None
    assert process.returncode == 0, (process.returncode, said, complaints)
    return said.splitlines()


def run_program(path: Path, *arguments: object, timeout: float = 60, **environment: str) -> list[str]:
    """What the program says."""
    return finish(start(path, *arguments, **environment), timeout)


def kill(process: Forked) -> list[str]:
    """Kill -9, and what it had said by then."""
    process.send_signal(signal.SIGKILL)
    return process.communicate(timeout=30)[0].splitlines()


def log_of(directory: Path) -> list[str]:
    """The lines that programs in this folder have logged."""
    path = directory / "log"
    return path.read_text().splitlines() if path.exists() else []


@contextmanager
def time_limit(seconds: int) -> Any:
    """What hangs fails (main thread only)."""

    def too_long(*_: object) -> None:
        raise AssertionError(f"it hangs: {seconds} s are over")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
