"""`musubito impact`: show what would go stale if a step changed."""

from __future__ import annotations

import click
from rich.console import Console

from musubito.cli.context import CommandContext, json_option
from musubito.cli.table_layout import Name, table_of
from musubito.lineage.readers.cost_format import cost_text, unpriced_note, worth
from musubito.lineage.readers.formatting import clean, count, duration, times
from musubito.lineage.readers.impact import Impact, impact


@click.command(
    "impact",
    short_help="What would go stale if a step or a file changed, and its cost.",
    epilog="Example: musubito impact report/research",
)
@click.argument("operation", metavar="STEP|PART|FILE")
@json_option
@click.pass_obj
def command(context: CommandContext, operation: str, json_: bool) -> None:
    """Show what would go stale if a step, a part of code or a file changed, with the recorded cost of running it again.

    PART is a helper, a prompt or a tool as 'musubito why' names it. FILE is a path that steps read. Listed are the
    results of the step, of steps whose code contains the part, of those that read the file, the results downstream, and
    those that called any of them, each as it stands after the last edits. If one of the list called another, the
    compute of the outer one includes that of the inner one. The wall is an estimate: the time that the results covered
    when they were made. In a large store, the results are those recorded last, and those that the newest runs of the
    step asked for.
    """
    report = impact(context.lineage, operation)
    if json_:
        context.json(report)
        return
    name = clean(operation)
    newest = _newest_note(report)
    if not report.total.nodes:
        click.echo(f"Nothing goes stale if {name} changes.{newest and f' {newest}'}")
        return
    cost = report.total.cost
    results = times(report.total.nodes, "result")
    context.console.print(
        f"If {name} changes, {results} may have to run again: at most {cost_text(cost, estimate=True)}."
    )
    click.echo()
    _print(context.console, report)
    for note in (unpriced_note(cost), newest):
        if note:
            context.console.print(note)


def _newest_note(report: Impact) -> str:
    """Return a sentence that says which results were looked at; "" if all were."""
    if report.looked_at == report.stored:
        return ""
    return f"Looked at: the {count(report.looked_at)} newest of {times(report.stored, 'result')}."


def _print(console: Console, report: Impact) -> None:
    several = len({row.namespace for row in report.rows}) > 1
    rows: list[tuple[str | Name, ...]] = []
    for row in (*report.rows, report.total):
        name = f"{row.namespace}: {row.operation}" if several and row.namespace else row.operation
        compute = duration(row.cost.compute_ms) if row.cost.compute_ms else ""
        rows.append((Name(clean(name)), count(row.nodes), worth(row.cost), compute))
    console.print(table_of(("step", "results", "cost", "compute"), rows, console.width, total=True))
