"""Draw a run in progress until it ends. The run may belong to another process."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Final

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from musubito.cli.call_tree import calls_table, lines
from musubito.cli.context import CommandContext
from musubito.cli.table_layout import Name
from musubito.lineage import RunReport
from musubito.lineage.readers.calls_of_run import without_routers
from musubito.lineage.readers.formatting import clean, count, duration, times
from musubito.lineage.readers.run_reader import computing
from musubito.lineage.readers.why import with_reasons

EVERY: Final = 0.25
"""Seconds between two looks at the run."""
STOPPED: Final = "stopped"
"""The status of a run whose process is gone."""
QUIET: Final = 3.0
"""Seconds without a new call after which a failed or suspended graph has ended.

Before that, such a graph may go on.
"""


def follow(context: CommandContext, run_id: str, head: Callable[[RunReport], RenderableType]) -> RunReport:
    """Return the run when it has ended; until then, show it if there is a terminal."""
    screen = Live(console=context.console, auto_refresh=False, transient=True, vertical_overflow="crop")
    with screen if context.console.is_terminal else nullcontext():
        calls, changed = -1, time.monotonic()
        while True:
            report = context.lineage.run(run_id)
            # The leases of a killed process are still there, but compute nothing.
            leases = [] if report.summary.status == STOPPED else computing(context.lineage, run_id)
            if report.summary.calls != calls or leases:
                calls, changed = report.summary.calls, time.monotonic()
            if _ended(report, quiet=time.monotonic() - changed):
                return report
            if context.console.is_terminal:
                explained = with_reasons(context.lineage, report)
                screen.update(_picture(context, explained, leases, head(explained)), refresh=True)
            time.sleep(EVERY)


def _ended(report: RunReport, *, quiet: float) -> bool:
    run = report.summary
    return run.status == STOPPED or (run.status != "running" and (run.finished_at is not None or quiet >= QUIET))


def _picture(
    context: CommandContext, report: RunReport, leases: list[tuple[str, float]], head: RenderableType
) -> RenderableType:
    """Return as much of the run as fits: its newest calls, and the operations that are being computed.

    The last line of the terminal stays free, since a line that was pushed out of the terminal cannot be erased.
    """
    console, tree = context.console, lines(without_routers(report.calls))
    width = console.width - 2  # room for the user's ^C: on a line of its own it would stay on the terminal
    room = console.height - 1 - len(console.render_lines(head, pad=False))
    most = max(1, room // 2, room - len(tree))
    shown = leases if len(leases) <= most else leases[: max(1, most - 1)]
    names = [
        Name(clean(name), before=Text("▸ "), after=f"  {duration(took)} so far", style="cyan") for name, took in shown
    ]
    going_on = [Text.assemble(name.within(width)) for name in names]
    if len(shown) < len(leases):
        going_on.append(Text(f"▸ and {count(len(leases) - len(shown))} more", style="cyan"))
    room -= len(going_on)
    above: list[RenderableType] = []
    if len(tree) > max(0, room):
        room = max(0, room - 1)
        above = [Text(f"... {times(len(tree) - room, 'line')} above", style="dim")]
    return Group(head, *above, calls_table(tree[max(0, len(tree) - room) :], width), *going_on)
