"""A run that is in progress, drawn anew while it goes on; it may run in another process."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Final

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from musubito.cli.calls import calls_table, lines
from musubito.cli.here import Here
from musubito.cli.words import clean, count, duration
from musubito.lineage import RunReport

__all__ = ["follow"]

EVERY: Final = 0.25
QUIET: Final = 3.0
"""Nobody says when the run of a graph ends: it has after so many seconds in which nothing was computed or written."""
Computing = list[tuple[str, float]]
"""Operations, and for how long each has been going on, in milliseconds."""


def follow(here: Here, run_id: str, head: Callable[[RunReport], RenderableType]) -> RunReport:
    """The run when it has ended. Until then it is shown, where there is a terminal."""
    screen = Live(console=here.console, auto_refresh=False, transient=True, vertical_overflow="crop")
    with screen if here.console.is_terminal else nullcontext():
        calls, changed = -1, time.monotonic()
        while True:
            report = here.lineage.run(run_id)
            computing = _computing(here, run_id)
            if report.summary.calls != calls or computing:
                calls, changed = report.summary.calls, time.monotonic()
            if _ended(here, run_id, quiet=time.monotonic() - changed):
                return report
            if here.console.is_terminal:
                screen.update(_picture(here, report, computing, head(report)), refresh=True)
            time.sleep(EVERY)


def _ended(here: Here, run_id: str, *, quiet: float) -> bool:
    known = here.lineage.rows("run", run=bytes.fromhex(run_id))
    status = known[0][5] if known else "finished"
    return bool(status != "running" and (status != "open" or quiet >= QUIET))


def _computing(here: Here, run_id: str) -> Computing:
    now = time.time()
    rows = here.lineage.rows("open_leases", owner=bytes.fromhex(run_id)[:12])
    return [(operation, 1000 * (now - started_at)) for operation, started_at, until in rows if until >= now]


def _picture(here: Here, report: RunReport, computing: Computing, head: RenderableType) -> RenderableType:
    """As much of the run as there is room for: its newest calls."""
    tree = lines(report.calls)
    room = max(3, here.console.height - 8 - len(computing))
    above = [Text(f"... {count(len(tree) - room)} lines above", style="dim")] if len(tree) > room else []
    going_on = [
        Text(f"▸ {clean(name)}  {duration(took)} so far", style="cyan", no_wrap=True) for name, took in computing
    ]
    return Group(head, *above, calls_table(tree[-room:], here.console.width), *going_on)
