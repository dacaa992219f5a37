"""`musubito verify`: check stored data against its checksums."""

from __future__ import annotations

from collections import Counter

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from musubito.cli.context import Here, json_option, says_what_is_wrong
from musubito.cli.formatting import clean, short, times
from musubito.errors import StoreError
from musubito.lineage.verify import Finding, verify

__all__ = ["command"]


@click.command("verify", short_help="Whether all that is stored is what was stored.", epilog="Example: musubito verify")
@json_option
@click.pass_context
@says_what_is_wrong
def command(ctx: click.Context, json_: bool) -> None:
    """Check every artifact, every stored input and every reference in the store.

    Exit status 1 if something is damaged. Nothing is changed.
    """
    here: Here = ctx.obj
    checked, findings = _all(here, bar=not json_ and here.console.is_terminal)
    if json_:
        here.json({"checked": checked, "findings": list(dict.fromkeys(findings))})
    else:
        _tell(here, findings)
        # Small artifacts are checked in the rows of their executions, so only large ones are counted.
        looked_at = ", ".join(
            times(number, "large artifact" if table == "artifacts" else table[:-1])
            for table, number in checked.items()
            if number
        )
        fine = "all is as it was stored." if not findings else f"{times(len(findings), 'finding')}."
        nothing = "an empty store" if not findings else "nothing, since it cannot be read"
        here.console.print(f"Checked {looked_at or nothing}: {fine}")
    sealed = _sealed(here, findings)
    if sealed:
        click.echo(
            f"Encrypted, and not looked into: {', '.join(sealed)}. That takes their key: "
            "musubito.lineage.verify.verify(Lineage(engine)) in Python.",
            err=True,
        )
    ctx.exit(1 if findings else 0)


def _sealed(here: Here, findings: list[Finding]) -> list[str]:
    """Return the encrypted namespaces.

    If they cannot be read, the findings say so already.
    """
    try:
        return [clean(name) for _, name, is_sealed in here.lineage.rows("namespaces") if is_sealed]
    except StoreError:
        if not findings:
            raise
        return []


def _all(here: Here, *, bar: bool) -> tuple[dict[str, int], list[Finding]]:
    """Return how many rows of each table were checked, and what was found."""
    checked: dict[str, int] = {}
    findings: list[Finding] = []
    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=here.console, disable=not bar, transient=True) as progress:
        tasks = {}
        for progress_in_table in verify(here.lineage):
            if progress_in_table.table not in tasks:
                tasks[progress_in_table.table] = progress.add_task(
                    progress_in_table.table, total=progress_in_table.total
                )
            progress.update(
                tasks[progress_in_table.table], completed=progress_in_table.done, total=progress_in_table.total
            )
            checked[progress_in_table.table] = progress_in_table.done
            findings += progress_in_table.findings
    return checked, findings


def _tell(here: Here, findings: list[Finding]) -> None:
    """Print each finding once, and each remedy once below all its findings.

    Many artifacts of one node may be missing.
    """
    counts = Counter(findings)
    by_remedy: dict[str, list[Finding]] = {}
    for finding in counts:
        by_remedy.setdefault(finding.remedy, []).append(finding)
    for remedy, same_remedy in by_remedy.items():
        for finding in same_remedy:
            at = " ".join(filter(None, (short(finding.node_id), clean(finding.operation)))) or finding.table
            number = f" ({counts[finding]:,} times)" if counts[finding] > 1 else ""
            here.say(Text(f"{at}: {clean(finding.problem)}{number}.", style="red"), after=Text("✗ ", style="red"))
        here.say(remedy, after="  ")
