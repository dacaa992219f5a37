"""`musubito impact`: what would go stale if an operation changed."""

from __future__ import annotations

import click
from rich.console import Console

from musubito.cli.columns import Name
from musubito.cli.here import Here, json_option, says_what_is_wrong
from musubito.cli.money import unpriced_note, worth
from musubito.cli.tables import print_table
from musubito.cli.words import clean, count, duration, times
from musubito.lineage.impact import Impact, impact

__all__ = ["command"]


@click.command(
    "impact",
    short_help="What would go stale if an operation changed, and its cost.",
    epilog="Example: musubito impact report/research",
)
@click.argument("operation")
@json_option
@click.pass_obj
@says_what_is_wrong
def command(here: Here, operation: str, json_: bool) -> None:
    """What would go stale if OPERATION changed, with the recorded cost of running it again.

    Its nodes, those below, and those that called any of them, each as it stands after the last edits. Time of what is
    called inside another node of the list is in that one's.
    """
    found = impact(here.lineage, operation)
    if json_:
        here.json(found)
        return
    name = clean(operation)
    if not found.total.nodes:
        click.echo(f"Nothing goes stale if {name} changes.")
        return
    cost = found.total.cost
    said = " and ".join(part for part in (worth(cost), duration(cost.milliseconds)) if part)
    here.console.print(f"If {name} changes, {times(found.total.nodes, 'node')} may have to run again: at most {said}.")
    click.echo()
    _print(here.console, found)
    note = unpriced_note(cost)
    if note:
        here.console.print(note)


def _print(console: Console, found: Impact) -> None:
    several = len({row.namespace for row in found.rows}) > 1
    rows: list[tuple[str | Name, ...]] = []
    for row in (*found.rows, found.total):
        name = f"{row.namespace}: {row.operation}" if several and row.namespace else row.operation
        time = duration(row.cost.milliseconds) if row.cost.milliseconds else ""
        rows.append((Name(clean(name)), count(row.nodes), time, worth(row.cost)))
    print_table(console, ("operation", "nodes", "time", "cost"), rows, total=True)
