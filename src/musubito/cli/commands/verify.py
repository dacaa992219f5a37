"""`musubito verify`: check stored data against its checksums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from musubito.cli.context import CommandContext, json_option
from musubito.errors import StoreError
from musubito.lineage.readers.formatting import clean, counted, short, times, without_input_text
from musubito.lineage.readers.input_search import without_input
from musubito.lineage.readers.verify import FILE, Finding, verify
from musubito.lineage.removal.rekey import namespaces_of_key

T = TypeVar("T")


@click.command("verify", short_help="Check stored data against its checksums.", epilog="Example: musubito verify")
@json_option
@click.pass_context
def command(ctx: click.Context, json_: bool) -> None:
    """Check every artifact, every stored input and every reference in the store.

    Exit status 1 if something is damaged. Nothing is changed.
    """
    context: CommandContext = ctx.obj
    checked, findings = _check_all(context, bar=not json_ and context.console.is_terminal)
    unseen = _read(lambda: without_input(context.lineage), 0, findings)
    if json_:
        context.json({"checked": checked, "findings": list(dict.fromkeys(findings)), "without_input": unseen})
    else:
        _print_findings(context, findings)
        # Small artifacts are checked in the rows of their executions, so only large ones are counted.
        looked_at = ", ".join(
            counted(number, "large artifacts" if table == "artifacts" else table)
            for table, number in checked.items()
            if number
        )
        fine = "all is as it was stored." if not findings else f"{times(len(findings), 'finding')}."
        nothing = "an empty store" if not findings else "nothing, since it cannot be read"
        context.print_text(f"Checked {looked_at or nothing}: {fine}")
    if unseen and not json_:
        click.echo(without_input_text(unseen), err=True)
    encrypted: list[str] = _read(lambda: namespaces_of_key(context.lineage)[1], [], findings)
    if encrypted:
        click.echo(
            f"Not checked, since it is encrypted: {clean(', '.join(encrypted))}. Name the file of its key: "
            "MUSUBITO_KEY_FILE=path.",
            err=True,
        )
    ctx.exit(1 if findings else 0)


def _read(read: Callable[[], T], otherwise: T, findings: list[Finding]) -> T:
    """Return what `read` returns; `otherwise` if the store cannot be read, as the findings say already."""
    try:
        return read()
    except StoreError:
        if not findings:
            raise
        return otherwise


def _check_all(context: CommandContext, *, bar: bool) -> tuple[dict[str, int], list[Finding]]:
    """Return the number of checked rows of each table, and the findings."""
    checked: dict[str, int] = {}
    findings: list[Finding] = []
    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=context.console, disable=not bar, transient=True) as progress:
        tasks = {}
        for part in verify(context.lineage):
            if part.table not in tasks:
                tasks[part.table] = progress.add_task(part.table, total=part.total)
            progress.update(tasks[part.table], completed=part.done, total=part.total)
            if part.table != FILE:
                checked[part.table] = part.done
            findings += part.findings
    return checked, findings


def _print_findings(context: CommandContext, findings: list[Finding]) -> None:
    """Print each finding once, and each remedy once below all its findings."""
    counts = Counter(findings)
    by_remedy: dict[str, list[Finding]] = {}
    for finding in counts:
        by_remedy.setdefault(finding.remedy, []).append(finding)
    for remedy, same_remedy in by_remedy.items():
        for finding in same_remedy:
            at = " ".join(filter(None, (short(finding.node_id), clean(finding.operation)))) or finding.table
            number = f" ({counts[finding]:,} times)" if counts[finding] > 1 else ""
            context.print_text(
                Text(f"{at}: {clean(finding.problem)}{number}.", style="red"), prefix=Text("✗ ", style="red")
            )
        context.print_text(remedy, prefix="  ")
