"""`musubito runs`: list the newest runs, with what each spent and saved."""

from __future__ import annotations

import click

from musubito.cli.context import CommandContext, json_option, no_runs_text
from musubito.cli.formatting import WIDE, count, duration, lately, one_line, short, tokens, when
from musubito.cli.table_layout import Fitted, table_of
from musubito.lineage import RunSummary


@click.command("runs", epilog="Example: musubito runs --limit 5 --name nightly")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="How many.")
@click.option("--name", help="Only those of this name.")
@json_option
@click.pass_obj
def command(context: CommandContext, limit: int, name: str | None, json_: bool) -> None:
    """List the newest runs, newest first.

    "hits" are the calls that were replayed, of all. "spent" and "tokens" are the cost of the calls that ran, "saved" is
    the earlier cost of the replayed ones.
    """
    runs = context.lineage.runs(limit, name=name)
    if json_:
        context.json({"runs": runs})
    elif not runs:
        context.print_text(no_runs_text(context) if name is None else f"No run is called {name!r}.")
    else:
        context.console.print(_table(runs, context.console.width))


def _table(runs: list[RunSummary], width: int) -> Fitted:
    wide = width >= WIDE
    titles = (
        ("ran", "hits", "failed", "spent", "tokens", "time saved", "tokens saved")
        if wide
        else ("hits", "spent", "tokens", "time saved")
    )
    rows = []
    for run in runs:
        numbers = (
            (
                count(run.ran),
                count(run.replayed),
                count(run.failed) if run.failed else "",
                duration(run.spent.milliseconds),
                tokens(run.spent),
                duration(run.saved.milliseconds) if run.replayed else "",
                tokens(run.saved),
            )
            if wide
            else (
                f"{run.replayed}/{run.calls}",
                duration(run.spent.milliseconds),
                tokens(run.spent),
                duration(run.saved.milliseconds) if run.replayed else "",
            )
        )
        started = when(run.started_at) if wide else lately(run.started_at)
        rows.append((short(run.run_id), one_line(run.name or ""), started, run.status, *numbers))
    return table_of(("run", "name", "started", "status", *titles), rows, width, name=1, texts=(0, 2, 3))
