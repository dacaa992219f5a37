"""`musubito runs`: list the newest runs, with what each spent and saved."""

from __future__ import annotations

from collections.abc import Sequence

import click

from musubito.cli.context import CommandContext, json_option, no_runs_text
from musubito.cli.quantities import to_seconds
from musubito.cli.table_layout import Fitted, table_of
from musubito.lineage import RunSummary
from musubito.lineage.formatting import WIDE, count, duration, lately, one_line, short, tokens, when
from musubito.lineage.reports import STATUSES
from musubito.lineage.run_reader import EVER


def to_tags(_ctx: click.Context, _param: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    """Return the tags by their keys."""
    for value in values:
        if "=" not in value:
            raise click.BadParameter(f"{value!r} is no tag; say KEY=VALUE")
    return dict(value.split("=", 1) for value in values)


@click.command("runs", epilog="Example: musubito runs --limit 5 --name nightly --since 7d")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="How many.")
@click.option("--name", help="Only those of this name.")
@click.option("--operation", help="Only those in which this step was called.")
@click.option("--status", type=click.Choice(STATUSES), help="Only those with this status.")
@click.option("--failed", is_flag=True, help="Only those in which a call failed, whatever became of the run.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", callback=to_tags, help="Only those with this tag.")
@click.option("--since", callback=to_seconds, metavar="AGE", help="Only those that began since then: 30d, 12h or 2w.")
@click.option("--before", metavar="RUN", help="Only those that began before this run: the next page.")
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

    "hits" are the calls that were replayed, of all. "spent" and "tokens" are the cost of the calls that ran, "saved" is
    the earlier cost of the replayed ones.
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
        context.console.print(_table(runs, context.console.width))


def _table(runs: list[RunSummary], width: int) -> Fitted:
    wide = width >= WIDE
    titles = (
        ("ran", "hits", "failed", "spent", "tokens", "time saved", "tokens saved")
        if wide
        else ("hits", "spent", "tokens", "time saved")
    )
    rows: list[tuple[str, ...]] = []
    for run in runs:
        started = when(run.started_at) if wide else lately(run.started_at)
        head = short(run.run_id), one_line(run.name or ""), started, run.status
        spent, saved = duration(run.spent.milliseconds), duration(run.saved.milliseconds) if run.replayed else ""
        if wide:
            calls = count(run.ran), count(run.replayed), count(run.failed) if run.failed else ""
            rows.append((*head, *calls, spent, tokens(run.spent), saved, tokens(run.saved)))
        else:
            rows.append((*head, f"{run.replayed}/{run.calls}", spent, tokens(run.spent), saved))
    return table_of(("run", "name", "started", "status", *titles), rows, width, name=1, texts=(0, 2, 3))
