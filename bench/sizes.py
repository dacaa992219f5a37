"""How long the command takes in a database of many runs: the seconds of CPU that its processes use.

python -m bench.sizes FILE        only makes such a database
"""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from itertools import cycle, islice
from pathlib import Path
from typing import Final

from bench.bulk import bulk_engine
from bench.goals import Seconds
from bench.measure import Sample
from bench.rows import Row
from musubito import MusubitoResult, SQLiteStorage, musubito_merge, musubito_step, record_usage, run
from musubito.engine.history_buffer import Entry
from musubito.store.changes import CleanUp
from musubito.store.rows import CallLine

RUNS: Final = 5_000
STEPS: Final = 20
"""Executions of `research` in a run, and as many of `search` inside them."""
REPLAYED: Final = 60
"""Replayed calls of a run."""
LONE: Final = 2_000
"""Calls outside of runs."""
LONG: Final = 20_000
"""Replayed calls of the run that is the last but one."""
NUMBER: Final = RUNS * STEPS * 2 + LONE
"""Executions."""
SPAN: Final = 90 * 86_400.0
"""Seconds over which the runs are spread."""
ROUNDS: Final = 3
COMMAND: Final = (sys.executable, "-m", "musubito")
COMMANDS: Final = {
    "the start alone": ("--version",),
    "runs": ("runs",),
    "runs --name": ("runs", "--name", "deploy"),
    "show last": ("show", "last"),
    "show (20,000 calls)": ("show", "long"),
    "show STEP": ("show", "search"),
    "why last": ("why", "last"),
    "why STEP": ("why", "search"),
    "lineage STEP": ("lineage", "search"),
    "savings": ("savings",),
    "savings --by operation": ("savings", "--by", "operation"),
    "savings --by run": ("savings", "--by", "run"),
    "stats": ("stats",),
    "doctor": ("doctor",),
    "impact": ("impact", "search"),
    "prune --dry-run": ("prune", "--older-than", "30d", "--dry-run"),
    "forget STEP --dry-run": ("forget", "search", "--dry-run"),
    "forget STEP --below --dry-run": ("forget", "search", "--below", "--dry-run"),
    "forget --where --dry-run": ("forget", "--where", "$.number=77", "--dry-run"),
}


@musubito_step(name="search")
def search(number: int) -> str:
    """Return what a search found, as small as a result can be."""
    return f"what was found for {number}"


@musubito_step(name="research")
def research(number: int) -> dict[str, object]:
    """Search once, and ask a model."""
    record_usage(model="gpt-5-mini", input_tokens=900 + number % 100, output_tokens=100)
    return {"number": number, "text": search(number).value}


@musubito_step(name="ask")
def ask(number: int) -> int:
    """Return the answer of a call outside of runs."""
    return number


def make(path: Path) -> None:
    """Make a database of 5,000 runs with 500,000 calls and 200,000 executions, spread over some months."""
    with bulk_engine(path, history=True) as engine:
        runs: dict[bytes, list[CallLine]] = {}
        write = engine.journal.append

        def keep(entry: Entry) -> None:
            if isinstance(entry, CallLine):
                runs.setdefault(entry.run_id, []).append(entry)
            write(entry)

        engine.journal.append = keep
        for number in range(LONE):
            ask(number)
        for number in range(RUNS):
            with run({0: "deploy", RUNS - 2: "long"}.get(number, "report")) as record:
                chain(number * STEPS)
            run_id = bytes.fromhex(record.run_id)
            for line in replays(runs.pop(run_id), LONG if number == RUNS - 2 else REPLAYED):
                write(line)
    with closing(sqlite3.connect(path)) as database:
        spread(database)
    with closing(SQLiteStorage(path)) as storage:
        storage.write([CleanUp()])  # sums up the calls of the runs anew


def spread(database: sqlite3.Connection) -> None:
    """Move the start of each run, call and execution back, the first ones by the most."""
    database.execute("UPDATE _executions SET started_at = started_at - ? * (1 - 1.0 * id / ?)", (SPAN, NUMBER))
    runs = database.execute(
        "SELECT run_id, coalesce((SELECT max(execution) FROM _calls c WHERE c.run_id = r.run_id), 0) FROM ("
        "SELECT run_id FROM _runs UNION SELECT run_id FROM _calls) r"
    ).fetchall()
    for run_id, execution in runs:
        shift = SPAN * (1 - execution / NUMBER)
        database.execute("UPDATE _calls SET at = at - ? WHERE run_id = ?", (shift, run_id))
        database.execute(
            "UPDATE _runs SET started_at = started_at - ?, finished_at = finished_at - ? WHERE run_id = ?",
            (shift, shift, run_id),
        )
    database.commit()


def chain(first: int) -> None:
    """Call `research` several times, each time below the call before."""
    parents: list[MusubitoResult[dict[str, object]]] = []
    for number in range(first, first + STEPS):
        with musubito_merge(*parents):
            parents = [research(number)]


def replays(ran: Sequence[CallLine], number: int) -> list[CallLine]:
    """Return lines of replayed calls, as they would be if these calls were made again and again."""
    on_top = [line for line in ran if line.parent is None]
    return [
        line._replace(
            call=10_000 + each,
            outcome="replayed",
            reason="EXACT_HIT",
            duration_ms=0.1,
            compute_ms=line.duration_ms,
            saved_tokens=line.tokens,
            tokens=0,
        )
        for each, line in enumerate(islice(cycle(on_top), number))
    ]


def commands(folder: Path) -> dict[str, Sample]:
    """Measure each command in a process of its own, Python's start included."""
    path = folder / "musubito.db"
    make(path)
    return {name: cpu([*COMMAND, "--db", str(path), *arguments]) for name, arguments in COMMANDS.items()}


def cpu(command: Sequence[str]) -> Sample:
    """Return the seconds of CPU that a command uses, after a run that does not count."""
    taken = []
    for _ in range(ROUNDS + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)  # noqa: S603
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return Sample.of(taken[1:])


ROWS: Final = {
    "size": Row(
        "a command among 200,000 executions, 500,000 calls and 5,000 runs: its CPU",
        tuple(Seconds(0.5, subject=name) for name in COMMANDS),
        commands,
    )
}

if __name__ == "__main__":
    make(Path(sys.argv[1]))
