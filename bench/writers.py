"""Eight processes that write at once, into one SQLite file and into one PostgreSQL: how many calls a second they get
done together, and how long the slowest of them waited.

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


def writers(folder: Path) -> dict[str, Sample]:
    """What one call takes, of all that were made at once: its mean is the inverse of what each process gets done."""
    url = lasting_database()
    try:
        return {
            "SQLite": at_once(f"sqlite:///{folder / 'musubito.db'}"),
            "PostgreSQL": at_once(url),
        }
    finally:
        drop_database(url)


def at_once(url: str) -> Sample:
    """Eight of `one_of_them`, begun together."""
    command = [sys.executable, "-m", "bench.writers", url]
    started = [
        subprocess.Popen([*command, str(n), str(CALLS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
        for n in range(PROCESSES)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    taken = [seconds for process in started for seconds in json.loads(process.communicate()[0])]
    assert len(taken) == PROCESSES * CALLS
    return Sample.of(taken)


def one_of_them(url: str, process: int, calls: int) -> None:
    """Calls of a step, each with an argument of its own; prints what each took."""
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
    sys.stdout.write(json.dumps(taken))


ROWS: Final = {"writers": Row(f"a miss while {PROCESSES} processes write at once", (), writers)}

if __name__ == "__main__":
    one_of_them(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
