"""Keep the plan of a graph or a step up to date while its code is edited.

The plan needs the user's code, so it is made by a child process: `musubito plan TARGET --json`. It is made again when a
Python file beside the target has changed.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

EVERY: Final = 0.5
"""Seconds between two looks at the files."""
LONGEST: Final = 60.0
"""Seconds after which the child process is ended."""
MAX_FILES: Final = 2000
"""Files that are looked at, or a few more: those of the last folder."""
SKIPPED: Final = ("node_modules", "site-packages", "__pycache__", "venv")
"""Folders that hold no code of the user's own."""


class PlanNow(NamedTuple):
    """The plan as `musubito plan --json` prints it, or why there is none. `number` counts the plans so far."""

    number: int
    plan: dict[str, Any] | None
    says: str


class WatchedPlan:
    """The plan of a target, made anew after each edit until `close`."""

    def __init__(self, target: str, given: Sequence[str], place: Sequence[str], variables: Mapping[str, str]) -> None:
        """Make the plan of `target`, such as `app.py:graph`.

        `given` are the options that say what the target is called with. The options `place` and the environment
        variables `variables` say where the store is.
        """
        self.target = target
        self.command = shlex.join(["musubito", "plan", target, *given])
        """The command that prints the same plan of the default store."""
        self._command = [sys.executable, "-m", "musubito", "plan", target, "--json", *given, *place]
        self._environment = {**os.environ, **variables}
        file = Path(target.rpartition(":")[0] or target)
        self._folder = file.parent if file.suffix == ".py" else Path()
        self.now = PlanNow(0, None, "The plan is being made.")
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="musubito plan", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()

    def _watch(self) -> None:
        seen: object = None
        while not self._closed.is_set():
            files = self._files()
            if files != seen:
                seen = files
                self._make()
            self._closed.wait(EVERY)

    def _files(self) -> object:
        """Return the times of the Python files beside the target and in folders below it."""
        found = []
        for folder, folders, names in os.walk(self._folder):
            folders[:] = [name for name in folders if not name.startswith(".") and name not in SKIPPED]
            for path in (Path(folder, name) for name in names if name.endswith(".py")):
                with suppress(OSError):  # it was just removed
                    found.append((str(path), path.stat().st_mtime_ns))
            if len(found) >= MAX_FILES:
                break
        return sorted(found)

    def _make(self) -> None:
        number = self.now.number + 1
        try:
            done = subprocess.run(  # noqa: S603 - the command is Musubito's own
                self._command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=LONGEST,
                check=False,
                env=self._environment,
                stdin=subprocess.DEVNULL,
            )
        except OSError as error:
            self.now = PlanNow(number, None, f"The plan could not be made: {error.strerror or error}.")
            return
        except subprocess.TimeoutExpired:
            self.now = PlanNow(number, None, f"The plan was not ready after {LONGEST:.0f} s.")
            return
        try:
            self.now = PlanNow(number, json.loads(done.stdout), "")
        except ValueError:
            self.now = PlanNow(number, None, (done.stderr or done.stdout).strip()[-4000:] or "The plan failed.")
