"""Compare a few ratios with the committed ones: `python -m bench.gate`; `--write` measures what to commit.

Each row is measured three times, and the median counts. A ratio depends on the interpreter and on the system, so it is
compared only with ratios of the same ones.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
from pathlib import Path
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.__main__ import ROWS, measured

COMPARED: Final = {
    "small": [("musubito", "diskcache")],
    "import": [("musubito", "standard library"), ("alone", "standard library")],
    "chain-again": [("musubito", "langgraph cache")],
}
"""The contenders that are compared, by row.

Between runs on a busy machine these ratios stay within a tenth of their median. Those of `agent-again`, `agent-first`,
`chat`, `fan-again` and `history-again` do not. Left out are rows that wait for a disk, for a server or for other
processes, those that count things, and those that take minutes.
"""
RUNS: Final = 3
WORSE: Final = 1.25
"""A ratio that is so many times the committed one fails."""
CONSOLE: Final = Console(highlight=False)
RATIOS: Final = Path(__file__).resolve().with_name("ratios.json")


def measure() -> dict[str, float]:
    """Return the median of each ratio."""
    ratios: dict[str, list[float]] = {}
    for _ in range(RUNS):
        for row, pairs in COMPARED.items():
            samples = measured(ROWS[row])
            for subject, other in pairs:
                ratios.setdefault(f"{row}: {subject} / {other}", []).append(samples[subject].cpu / samples[other].cpu)
    return {name: round(statistics.median(each), 3) for name, each in sorted(ratios.items())}


def measured_on() -> dict[str, str]:
    """Return what ratios depend on."""
    return {"python": "{}.{}".format(*sys.version_info), "system": platform.system()}


def main(arguments: list[str]) -> None:
    """Measure, and write or compare; end with status 1 if a ratio is worse."""
    if arguments == ["--write"]:
        RATIOS.write_text(json.dumps({"on": measured_on(), "ratios": measure()}, indent=2) + "\n", "utf-8")
        return
    committed = json.loads(RATIOS.read_text("utf-8"))
    if committed["on"] != measured_on():
        CONSOLE.print(f"bench/ratios.json was measured on {committed['on']}: nothing is compared on {measured_on()}")
        return
    now, before = measure(), committed["ratios"]
    if now.keys() != before.keys():
        sys.exit(f"bench/ratios.json has other rows: {sorted(now.keys() ^ before.keys())}; make bench-ratios writes it")
    table = Table("row", "committed", "measured", "change", box=SIMPLE_HEAD, pad_edge=False)
    for name, ratio in now.items():
        table.add_row(name, f"{before[name]:.2f}", f"{ratio:.2f}", f"{ratio / before[name] - 1:+.0%}")
    CONSOLE.print(table)
    worse = [name for name, ratio in now.items() if ratio > WORSE * before[name]]
    if worse:
        sys.exit(f"more than a quarter slower than committed: {', '.join(worse)}")


if __name__ == "__main__":
    main(sys.argv[1:])
