"""`musubito runs`: list the newest runs, with what each spent and saved."""

from __future__ import annotations

from collections.abc import Sequence

import click

from musubito.cli.context import CommandContext, json_option, no_runs_text
from musubito.cli.quantities import to_seconds
from musubito.cli.run_table import runs_table
from musubito.lineage import RunSummary
from musubito.lineage.readers.run_reader import EVER
from musubito.lineage.reports import STATUSES


def to_tags(_ctx: click.Context, _param: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    """Return the tags by their keys."""
    for value in values:
        if "=" not in value:
            raise click.BadParameter(f"{value!r} is no tag; say KEY=VALUE")
    return dict(value.split("=", 1) for value in values)


@click.command("runs", epilog="Example: musubito runs --limit 5 --name nightly --since 7d")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="How many runs to list.")
@click.option("--name", help="Only runs of this name.")
@click.option("--operation", help="Only runs that called this step.")
@click.option(
    "--status",
    type=click.Choice(STATUSES),
    metavar="STATUS",
    help=f"Only runs with this status: {', '.join(STATUSES)}.",
)
@click.option("--failed", is_flag=True, help="Only runs with a failed call, whatever the status of the run is.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", callback=to_tags, help="Only runs with this tag.")
@click.option("--since", callback=to_seconds, metavar="AGE", help="Only runs that began since then: 30d, 12h or 2w.")
@click.option("--before", metavar="RUN", help="Only runs that began before this run: the next page.")
@json_option
@click.pass_obj
def command(
    context: CommandContext,
    limit: int,
    name: str | None,
    operation: str | None,
    status: str | None,
    failed: bool,
    tags: dict[str, str],
    since: float | None,
    before: str | None,
    json_: bool,
) -> None:
    """List the newest runs, newest first.

    "hits" are the calls that were replayed, of all. "wall" is the time from a run's start to its end, "compute" the sum
    of what its calls took. "saved" is the earlier cost of the replayed calls: money or tokens, then compute. In a wide
    terminal follows the wall that they saved, by estimate.
    """
    lineage = context.lineage

    def matching(run: RunSummary) -> bool:
        given = {key: str(value) for key, value in (run.tags or {}).items()}
        return (
            (status is None or run.status == status)
            and (not failed or run.failed > 0)
            and all(given.get(key) == value for key, value in tags.items())
        )

    runs = lineage.runs(
        limit,
        name=name,
        operation=operation,
        since=0.0 if since is None else lineage.engine.now() - since,
        before=EVER if before is None else lineage.run(before).summary.started_at,
        matching=matching,
    )
    if json_:
        context.json({"runs": runs})
    elif not runs:
        if not lineage.runs(1):
            text = no_runs_text(context)
        elif name is not None and not lineage.runs(1, name=name):
            text = f"No run is called {name!r}."
        else:
            text = "No run is like that; 'musubito runs' lists all."
        context.print_text(text)
    else:
        context.console.print(runs_table(runs, context.console.width))
