"""Let eight processes write at once, into one SQLite file and into one PostgreSQL.

Measured are their calls a second, and how long the slowest call waited.

    python -m bench.writers URL PROCESS CALLS        is one of the eight
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from bench.measure import Sample
from bench.replay import small
from bench.rows import Row
from bench.servers import lasting_database
from musubito import MusubitoEngine
from tests.server import drop_database

PROCESSES: Final = 8
CALLS: Final = 250


def each(folder: Path) -> dict[str, Sample]:
    """Measure one call among all that are made at once."""
    return {name: Sample.of(taken) for name, (taken, _) in on_both(folder).items()}


def together(folder: Path) -> dict[str, Sample]:
    """How many calls a second all of them get done."""
    return {name: Sample.of([len(taken) / seconds]) for name, (taken, seconds) in on_both(folder).items()}


def worst(folder: Path) -> dict[str, Sample]:
    """Measure the slowest call of all."""
    return {name: Sample.of([max(taken)]) for name, (taken, _) in on_both(folder).items()}


def on_both(folder: Path) -> dict[str, tuple[list[float], float]]:
    """Return the seconds of each call, and of all together."""
    url = lasting_database()
    try:
        return {"SQLite": at_once(f"sqlite:///{folder / 'musubito.db'}"), "PostgreSQL": at_once(url)}
    finally:
        drop_database(url)


def at_once(url: str) -> tuple[list[float], float]:
    """Eight of `one_of_them`, begun together."""
    command = [sys.executable, "-m", "bench.writers", url]
    started = [
        subprocess.Popen([*command, str(n), str(CALLS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
        for n in range(PROCESSES)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    began = time.perf_counter()
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.stdout.readline() for process in started if process.stdout is not None]
    seconds = time.perf_counter() - began
    for process in started:
        process.communicate()
    taken = [each for line in said for each in json.loads(line)]
    assert len(taken) == PROCESSES * CALLS
    return taken, seconds


def one_of_them(url: str, process: int, calls: int) -> None:
    """Call a step, each time with an argument of its own, and print the seconds of each call."""
    with MusubitoEngine.from_url(url, strict=True) as engine:
        engine.execute("bench.small", {"number": -process}, small)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        taken = []
        for number in range(calls):
            began = time.perf_counter()
            engine.execute("bench.small", {"number": (process + 1) * 1_000_000 + number}, small)
            taken.append(time.perf_counter() - began)
        sys.stdout.write(json.dumps(taken) + "\n")
        sys.stdout.flush()


ROWS: Final = {
    "writers": Row(f"a miss while {PROCESSES} processes write at once", (), each),
    "writers-together": Row("what the eight get done in a second", (), together, lambda calls: f"{calls:,.0f}"),
    "writers-worst": Row("what the slowest miss of the eight took", (), worst),
}

if __name__ == "__main__":
    one_of_them(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
