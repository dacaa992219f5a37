"""What a replay costs by what the code of its step reaches: the first one in a process, and each further one.

A program stores a result in one process, and replays it in another, which imports what it needs before it is measured.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from bench.goals import Bytes, Goal, Seconds, size
from bench.measure import Sample
from bench.reach_programs import PROGRAMS, Program
from bench.rows import Row, executions_in
from bench.starts import printed_by

ROUNDS: Final = 3
"""Processes that replay, for each program."""
ON_LINUX: Final = platform.system() == "Linux"
PARSING: Final = "a parser"
"""What other figures can be compared with: Python's own parser, and a walk over its trees, in the same processes."""
REPLAYS: Final = """
import ast, gc, json, sys, time
from pathlib import Path
import app

def cpu(call, *arguments):
    began = time.process_time_ns()
    call(*arguments)
    return (time.process_time_ns() - began) / 1e9

def parse():
    for _ in ast.walk(ast.parse(TEXT)):
        pass

def memory(field):
    return int(Path("/proc/self/status").read_text().partition(f"{field}:")[2].split()[0]) * 1024

TEXT = "def function(one, two=3):\\n    return [one + each.two for each in two if each]\\n" * 200
measured = {}
gc.collect()
if "memory" in sys.argv:
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    app.answer("what?")
    measured["memory"] = memory("VmHWM") - before
else:
    measured["first"] = cpu(app.answer, "what?")
if "again" in sys.argv:
    until = time.process_time() + 0.5
    measured["again"] = []
    while len(measured["again"]) < 5 or (len(measured["again"]) < 2_000 and time.process_time() < until):
        measured["again"].append(cpu(app.answer, "what?"))
    measured["parsing"] = [cpu(parse) for _ in range(5)]
print(json.dumps(measured))
"""
"""A program that prints what calls of another program's step take, the opening of the database included.

The imports leave more garbage than the call, so it is collected before, and the peak of memory begins anew.
"""


def row(names: Sequence[str]) -> Row:
    """Return the row of the programs with these names, two lines for each."""
    return Row(
        "what a step's code reaches, and the CPU of a replay: the first one in a process, and each further one",
        tuple(goal for name in names for goal in goals(name)),
        lambda folder: replays(folder, names),
        left_out=lambda: left_out(names),
    )


def goals(name: str) -> Iterator[Goal]:
    """Return what the replays of this program may take."""
    yield Seconds(PROGRAMS[name].first, subject=first(name))
    yield Seconds(PROGRAMS[name].again, subject=again(name))


def first(name: str) -> str:
    """Return what the first replay of a process is called."""
    return f"{name}: first"


def again(name: str) -> str:
    """Return what all other replays are called."""
    return f"{name}: each"


def replays(folder: Path, names: Sequence[str]) -> dict[str, Sample]:
    """Measure the CPU of replays."""
    samples: dict[str, Sample] = {}
    parsing: list[float] = []
    for number, name in enumerate(names):
        if not missing(PROGRAMS[name]):
            runs = list(measured(folder / str(number), PROGRAMS[name], ROUNDS, "again"))
            samples[first(name)] = Sample.of([run["first"] for run in runs])
            samples[again(name)] = Sample.of([seconds for run in runs for seconds in run["again"]])
            parsing.extend(seconds for run in runs for seconds in run["parsing"])
    return {**samples, PARSING: Sample.of(parsing)}


def peaks(folder: Path, names: Sequence[str]) -> dict[str, Sample]:
    """Measure what the first replay of a process adds to its memory."""
    return {
        name: Sample.of([run["memory"] for run in measured(folder / str(number), PROGRAMS[name], 1, "memory")])
        for number, name in enumerate(names)
        if ON_LINUX and not missing(PROGRAMS[name])
    }


def measured(folder: Path, program: Program, rounds: int, *what: str) -> Iterator[Any]:
    """Run the step of a program in a process, and measure its replay in others."""
    folder.mkdir()
    for path, text in {**program.files(), "replays.py": REPLAYS}.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text, "utf-8")
    printed_by([sys.executable, "replays.py"], folder)
    for _ in range(rounds):
        yield json.loads(printed_by([sys.executable, "replays.py", *what], folder))
    assert executions_in(folder / ".musubito") == 1


def missing(program: Program) -> list[str]:
    """Return the modules that a program needs and that are not installed."""
    return [module for module in program.needs if find_spec(module) is None]


def left_out(names: Sequence[str]) -> str:
    """Tell which programs cannot run, and why."""
    lines = {name: missing(PROGRAMS[name]) for name in names}
    return "; ".join(f"{name}: not measured, as {lines[name][0]} is not installed" for name in names if lines[name])


MEMORY: Final = {name: program.memory for name, program in PROGRAMS.items() if program.memory is not None}
ROWS: Final = {
    "reach-cpu": row(tuple(PROGRAMS)),
    "reach-memory": Row(
        "what the first replay in a process adds to its memory at its peak",
        tuple(Bytes(most, subject=name) for name, most in MEMORY.items()),
        lambda folder: peaks(folder, tuple(MEMORY)),
        size,
        lambda: left_out(tuple(MEMORY)) if ON_LINUX else "Only Linux tells a new peak of memory.",
    ),
}
