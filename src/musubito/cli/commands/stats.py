"""`musubito stats`: show what the store contains, and how each step did."""

from __future__ import annotations

import click
from rich.console import Console

from musubito.cli.context import CommandContext, json_option
from musubito.cli.table_layout import Fitted, Name, table_of
from musubito.lineage import Cost
from musubito.lineage.readers.cost_format import unpriced_note, worth
from musubito.lineage.readers.formatting import clean, count, duration, size, times
from musubito.lineage.readers.store_stats import StepStatistics, StoreStatistics, statistics


@click.command("stats", epilog="Example: musubito stats --limit 5")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="How many steps are shown.")
@json_option
@click.pass_obj
def command(context: CommandContext, limit: int, json_: bool) -> None:
    """Show what the store contains, and how each step did.

    "hits" is the share of a step's calls that were replayed. "mean" and "last" are durations of its executions.
    "used" is the cost of its executions, without that of the calls inside.
    """
    report = statistics(context.lineage)
    if json_:
        context.json(report)
        return
    context.console.print(_counts(report, context.console.width))
    if not report.operations:
        return
    click.echo()
    _print(context.console, report.operations[:limit])
    if len(report.operations) > limit:
        click.echo(f"... and {times(len(report.operations) - limit, 'more step')}; --limit shows them.")
    note = unpriced_note(sum((operation.spent for operation in report.operations), Cost()))
    if note:
        context.console.print(note)


def _counts(report: StoreStatistics, width: int) -> Fitted:
    counts = (
        ("runs", report.runs, ""),
        ("calls", report.calls, ""),
        ("step results", report.nodes, ""),
        ("executions", report.executions, f"{count(report.failed)} failed" if report.failed else ""),
        ("artifacts", report.artifacts.count, size(report.artifacts.bytes)),
        *([("blobs of large artifacts", report.blobs.count, size(report.blobs.bytes))] if report.blobs.count else []),
        ("inputs", report.inputs.count, size(report.inputs.bytes)),
        ("shared parts of inputs", report.parts.count, size(report.parts.bytes)),
        ("texts of code", report.code.count, size(report.code.bytes)),
    )
    return table_of([""] * 3, [(name, count(number), more) for name, number, more in counts], width, texts=(2,))


def _print(console: Console, operations: tuple[StepStatistics, ...]) -> None:
    several = len({operation.namespace for operation in operations}) > 1
    rows = [
        (
            Name(clean(f"{operation.namespace}: {operation.operation}" if several else operation.operation)),
            count(operation.executions - operation.failed),
            count(operation.failed) if operation.failed else "",
            count(operation.replays),
            "" if operation.hit_rate is None else f"{operation.hit_rate:.0%}",
            "" if operation.mean_ms is None else duration(operation.mean_ms),
            "" if operation.last_ms is None else duration(operation.last_ms),
            worth(operation.spent),
        )
        for operation in operations
    ]
    titles = ("step", "ran", "failed", "replayed", "hits", "mean", "last", "used")
    console.print(table_of(titles, rows, console.width))
