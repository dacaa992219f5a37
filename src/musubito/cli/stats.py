"""`musubito stats`: what there is in the store, and how each operation did."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from musubito.cli.columns import Name
from musubito.cli.here import Here, json_option, says_what_is_wrong
from musubito.cli.money import unpriced_note, worth
from musubito.cli.tables import print_table
from musubito.cli.words import clean, count, duration, size, times
from musubito.lineage import Cost
from musubito.lineage.statistics import OperationStatistics, Statistics, statistics

__all__ = ["command"]


@click.command("stats", epilog="Example: musubito stats --limit 5")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="How many operations are shown.")
@json_option
@click.pass_obj
@says_what_is_wrong
def command(here: Here, limit: int, json_: bool) -> None:
    """What there is in the store, and how each operation did.

    "hits" is the share of its calls that were replayed, "mean" and "last" how long it took when it ran, "used" what
    its executions cost, without what they called.
    """
    found = statistics(here.lineage)
    if json_:
        here.json(found)
        return
    here.console.print(_counts(found))
    if not found.operations:
        return
    click.echo()
    _print(here.console, found.operations[:limit])
    if len(found.operations) > limit:
        click.echo(f"... and {times(len(found.operations) - limit, 'more operation')}; --limit shows them.")
    note = unpriced_note(sum((each.spent for each in found.operations), Cost()))
    if note:
        here.console.print(note)


def _counts(found: Statistics) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for name, number, more in (
        ("runs", found.runs, ""),
        ("calls", found.calls, ""),
        ("nodes", found.nodes, ""),
        ("executions", found.executions, f"{count(found.failed)} failed" if found.failed else ""),
        ("artifacts", found.artifacts.count, size(found.artifacts.bytes)),
        *([("blobs of large artifacts", found.blobs.count, size(found.blobs.bytes))] if found.blobs.count else []),
        ("inputs", found.inputs.count, size(found.inputs.bytes)),
        ("shared parts of inputs", found.parts.count, size(found.parts.bytes)),
        ("texts of code", found.code.count, size(found.code.bytes)),
    ):
        table.add_row(name, count(number), more)
    return table


def _print(console: Console, operations: tuple[OperationStatistics, ...]) -> None:
    several = len({each.namespace for each in operations}) > 1
    rows = [
        (
            Name(clean(f"{each.namespace}: {each.operation}" if several else each.operation)),
            count(each.executions - each.failed),
            count(each.failed) if each.failed else "",
            count(each.replays),
            "" if each.hit_rate is None else f"{each.hit_rate:.0%}",
            "" if each.mean_ms is None else duration(each.mean_ms),
            "" if each.last_ms is None else duration(each.last_ms),
            worth(each.spent),
        )
        for each in operations
    ]
    print_table(console, ("operation", "ran", "failed", "replayed", "hits", "mean", "last", "used"), rows)
