"""Measures all rows, or those named: `python -m bench small chat`. Prints, and writes bench/results.json.

A name that no row has selects those that begin with it: `reach` means `reach-cpu` and `reach-memory`.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench import (
    conversation,
    effects,
    graphs,
    growth,
    histories,
    reach,
    replay,
    servers,
    sizes,
    starts,
    storage,
    tasks,
    telemetry,
    writers,
)
from bench.goals import Goal, Ratio
from bench.machine import facts
from bench.measure import Sample
from bench.rows import Row

ROWS: Final = {
    **replay.ROWS,
    **tasks.ROWS,
    **effects.ROWS,
    **servers.ROWS,
    **writers.ROWS,
    **graphs.ROWS,
    **histories.ROWS,
    **starts.ROWS,
    **conversation.ROWS,
    **growth.ROWS,
    **storage.ROWS,
    **sizes.ROWS,
    **reach.ROWS,
    **telemetry.ROWS,
}
# Beside the sources, because temporary folders often lie in memory, where fsync costs nothing.
WORKSHOP = Path(__file__).resolve().parent.parent / ".bench"
RESULTS = Path(__file__).resolve().with_name("results.json")


def main(names: list[str]) -> None:
    """Measure, print, write."""
    unknown = [name for name in names if not named(name)]
    if unknown:
        sys.exit(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    console = Console()
    on = facts()
    console.print(", ".join(f"{what} {value}" for what, value in on.items()), style="dim", highlight=False)
    results = {}
    chosen = {row for name in names for row in named(name)}
    for name, row in ROWS.items():
        if not names or name in chosen:
            with console.status(f"{row.title} ..."):
                samples = measured(row)
            console.print(table_of(name, row, samples))
            if left_out := row.left_out():
                console.print(left_out, style="dim", highlight=False)
            results[name] = as_json(row, samples)
    RESULTS.write_text(json.dumps({"machine": on, "rows": results}, indent=2) + "\n", "utf-8")
    console.print(f"{RESULTS} written", highlight=False)


def named(name: str) -> list[str]:
    """Return the row with this name, or else the rows whose names begin with it."""
    return [name] if name in ROWS else [row for row in ROWS if row.startswith(f"{name}-")]


def measured(row: Row) -> dict[str, Sample]:
    """Measure a row in a folder of its own."""
    WORKSHOP.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=WORKSHOP))
    try:
        return row.measure(folder)
    finally:
        shutil.rmtree(folder)


def table_of(name: str, row: Row, samples: dict[str, Sample]) -> Table:
    """One row: its contenders, and below them whether the goals are reached."""
    table = Table(title=f"[bold]{name}[/]: {row.title}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for head in ("", "median", "mean", "99 %", "goal", "measured"):
        table.add_column(head, justify="left" if head in ("", "goal") else "right", no_wrap=True)
    for contender, sample in samples.items():
        goals = [goal for goal in row.goals if goal.subject == contender]
        table.add_row(
            contender,
            *(row.show(each) for each in (sample.median, sample.mean, sample.p99)),
            "\n".join(map(str, goals)),
            "\n".join(verdict(goal, samples, row) for goal in goals),
        )
    return table


def verdict(goal: Goal, samples: dict[str, Sample], row: Row) -> str:
    """Return the measured value; its colour says whether it is good."""
    value = goal.value(samples)
    text = f"{value:.2f} ×" if isinstance(goal, Ratio) else row.show(value)
    return f"[{'green' if value <= goal.most else 'red'}]{text}[/]"


def as_json(row: Row, samples: dict[str, Sample]) -> dict[str, object]:
    """One row, for those who compute with it."""
    return {
        "title": row.title,
        "seconds": {contender: asdict(sample) for contender, sample in samples.items()},
        "goals": [
            {"subject": goal.subject, "goal": str(goal), "value": goal.value(samples), "most": goal.most}
            for goal in row.goals
            if goal.subject in samples
        ],
    }


if __name__ == "__main__":
    main(sys.argv[1:])
