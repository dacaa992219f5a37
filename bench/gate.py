"""Compare a few ratios with the committed ones: `python -m bench.gate`; `--write` measures what to commit.

Each row is measured several times, and the median counts. A ratio that is worse is measured once more, and the better
of both counts: what another program did meanwhile is not there the second time. A ratio depends on the interpreter and
on the system, so it is compared only with ratios of the same ones.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench import reach
from bench.__main__ import ROWS, measured

REACHED: Final = (
    "nothing",
    "3 ORM models",
    "10,000 instances",
    "100,000 tuples",
    "100 pydantic models",
    "10 modules",
)
"""The programs of `reach-cpu` whose replays are compared: one for each kind of thing, as all take minutes."""
COMPARED: Final = {
    "small": [("musubito", "diskcache")],
    "import": [("musubito", "standard library"), ("alone", "standard library")],
    "chain-again": [("musubito", "langgraph cache")],
    "reach-cpu": [
        *((reach.first(name), reach.PARSING) for name in REACHED),
        *((reach.again(name), reach.again("nothing")) for name in REACHED[1:]),
    ],
}
"""The contenders that are compared, by row.

Between runs on a busy machine these ratios stay within a tenth of their median. Those of `agent-again`, `agent-first`,
`chat`, `fan-again` and `history-again` do not. Left out are rows that wait for a disk, for a server or for other
processes, those that count things, and those that take minutes.
"""
MEASURED: Final = {**ROWS, "reach-cpu": reach.row(REACHED)}
RUNS: Final = {"small": 3, "import": 3, "chain-again": 3, "reach-cpu": 1}
"""How often each row is measured. One measurement of `reach-cpu` takes several processes for each program."""
WORSE: Final = 1.25
"""A ratio that is so many times the committed one fails."""
CONSOLE: Final = Console(highlight=False)
RATIOS: Final = Path(__file__).resolve().with_name("ratios.json")


def measure(rows: Iterable[str] = COMPARED) -> dict[str, float]:
    """Return the median of each ratio of some rows, except for what cannot be measured here."""
    ratios: dict[str, list[float]] = {}
    for number in range(max(RUNS.values())):
        for row in (row for row in rows if number < RUNS[row]):
            samples = measured(MEASURED[row])
            for subject, other in COMPARED[row]:
                if subject in samples:
                    ratio = samples[subject].cpu / samples[other].cpu
                    ratios.setdefault(ratio_name(row, subject, other), []).append(ratio)
    return {name: round(statistics.median(each), 3) for name, each in sorted(ratios.items())}


def ratio_name(row: str, subject: str, other: str) -> str:
    """Return what a ratio is called in `ratios.json`."""
    return f"{row}: {subject} / {other}"


def measured_on() -> dict[str, str]:
    """Return what ratios depend on."""
    return {"python": "{}.{}".format(*sys.version_info), "system": platform.system()}


def worse_than(before: dict[str, float], now: dict[str, float]) -> list[str]:
    """Return the names of the ratios that are too much worse than the committed ones."""
    return [name for name, ratio in now.items() if ratio > WORSE * before[name]]


def main(arguments: list[str]) -> None:
    """Measure, and write or compare; end with status 1 if a ratio is worse."""
    if arguments == ["--write"]:
        RATIOS.write_text(json.dumps({"on": measured_on(), "ratios": measure()}, indent=2) + "\n", "utf-8")
        return
    committed = json.loads(RATIOS.read_text("utf-8"))
    if committed["on"] != measured_on():
        CONSOLE.print(f"bench/ratios.json was measured on {committed['on']}: nothing is compared on {measured_on()}")
        return
    before = committed["ratios"]
    compared = {ratio_name(row, *pair) for row, pairs in COMPARED.items() for pair in pairs}
    if compared != before.keys():
        sys.exit(f"bench/ratios.json has other rows: {sorted(compared ^ before.keys())}; make bench-ratios writes it")
    now = measure()
    if worse := worse_than(before, now):
        again = measure([row for row in COMPARED if any(name.startswith(f"{row}:") for name in worse)])
        now |= {name: min(now[name], ratio) for name, ratio in again.items()}
    for row in COMPARED:
        if left_out := MEASURED[row].left_out():
            CONSOLE.print(left_out)
    table = Table("row", "committed", "measured", "change", box=SIMPLE_HEAD, pad_edge=False)
    for name, ratio in now.items():
        table.add_row(name, f"{before[name]:.2f}", f"{ratio:.2f}", f"{ratio / before[name] - 1:+.0%}")
    CONSOLE.print(table)
    if worse := worse_than(before, now):
        sys.exit(f"more than a quarter slower than committed: {', '.join(worse)}")


if __name__ == "__main__":
    main(sys.argv[1:])
