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
from musubito.cli.columns import Name
from musubito.cli.here import Here
from musubito.cli.words import clean, count, duration, times
from musubito.lineage import RunReport
from musubito.lineage.reasons import compared

__all__ = ["follow"]

EVERY: Final = 0.25
STOPPED: Final = "stopped"
QUIET: Final = 3.0
"""A graph whose last call failed or was suspended may go on; after so many seconds it is taken not to."""
Computing = list[tuple[str, float]]
"""Operations, and for how long each has been going on, in milliseconds."""


def follow(here: Here, run_id: str, head: Callable[[RunReport], RenderableType]) -> RunReport:
    """The run when it has ended. Until then it is shown, where there is a terminal."""
    screen = Live(console=here.console, auto_refresh=False, transient=True, vertical_overflow="crop")
    with screen if here.console.is_terminal else nullcontext():
        calls, changed = -1, time.monotonic()
        while True:
            report = here.lineage.run(run_id)
            # A lease outlives a process that was killed.
            computing = [] if report.summary.status == STOPPED else _computing(here, run_id)
            if report.summary.calls != calls or computing:
                calls, changed = report.summary.calls, time.monotonic()
            if _ended(report, quiet=time.monotonic() - changed):
                return report
            if here.console.is_terminal:
                told = compared(here.lineage, report)
                screen.update(_picture(here, told, computing, head(told)), refresh=True)
            time.sleep(EVERY)


def _ended(report: RunReport, *, quiet: float) -> bool:
    run = report.summary
    return run.status == STOPPED or (run.status != "running" and (run.finished_at is not None or quiet >= QUIET))


def _computing(here: Here, run_id: str) -> Computing:
    now = time.time()
    rows = here.lineage.rows("open_leases", owner=bytes.fromhex(run_id)[:12])
    return [(operation, 1000 * (now - started_at)) for operation, started_at, until in rows if until >= now]


def _picture(here: Here, report: RunReport, computing: Computing, head: RenderableType) -> RenderableType:
    """As much of the run as there is room for: what is being computed, and its newest calls. The last line of the
    terminal stays free, since what was pushed out of it cannot be taken back."""
    console, tree = here.console, lines(report.calls)
    width = console.width - 2  # for the ^C of who has seen enough: on a line of its own it would stay behind
    room = console.height - 1 - len(console.render_lines(head, pad=False))
    most = max(1, room // 2, room - len(tree))
    shown = computing if len(computing) <= most else computing[: max(1, most - 1)]
    names = [
        Name(clean(name), before=Text("▸ "), after=f"  {duration(took)} so far", style="cyan") for name, took in shown
    ]
    going_on = [Text.assemble(name.within(width)) for name in names]
    if len(shown) < len(computing):
        going_on.append(Text(f"▸ and {count(len(computing) - len(shown))} more", style="cyan"))
    room -= len(going_on)
    above: list[RenderableType] = []
    if len(tree) > max(0, room):
        room = max(0, room - 1)
        above = [Text(f"... {times(len(tree) - room, 'line')} above", style="dim")]
    return Group(head, *above, calls_table(tree[max(0, len(tree) - room) :], width), *going_on)
