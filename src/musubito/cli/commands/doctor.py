"""`musubito doctor`: check whether the store is sound, and show how large it is."""

from __future__ import annotations

from typing import Final

import click
from rich.text import Text

from musubito.cli.context import CommandContext, json_option
from musubito.errors import StoreError
from musubito.lineage import LineageError
from musubito.lineage.readers.cost_format import cost_text
from musubito.lineage.readers.formatting import clean, counted, times
from musubito.lineage.readers.health import Check, checks_of
from musubito.lineage.readers.never_replayed import Unreplayed, unreplayed
from musubito.lineage.readers.store_stats import sizes

SHOWN: Final = 5
"""Findings that are named at most. JSON names all."""


@click.command("doctor", short_help="Whether the store is sound.", epilog="Example: musubito doctor")
@json_option
@click.pass_context
def command(ctx: click.Context, json_: bool) -> None:
    """Tell whether the store is sound: schema, integrity, size, permissions, what was left behind.

    Whether all artifacts and inputs are what was stored is for 'musubito verify', which reads them all. Exit status 1
    if something is not as it should be. A step that did something outside, which no replay does again, is a finding
    until its StepConfiguration says how it is replayed. Steps that have a StepConfiguration are not reported.
    """
    context: CommandContext = ctx.obj
    context.make_schema()
    lineage = context.lineage
    checks = checks_of(lineage)
    counts: dict[str, int] = {}
    never: list[Unreplayed] = []
    try:
        never += unreplayed(lineage)
        counts |= sizes(lineage)
    except (StoreError, LineageError) as fault:
        if all(check.fine for check in checks):
            raise
        if checks[-1].name != "contents":
            checks.append(Check("contents", False, str(fault)))
    if json_:
        context.json({"checks": checks, "counts": counts, "never_replayed": never})
    else:
        for check in checks:
            mark = ("✓ ", "green") if check.fine else ("✗ ", "red")
            context.print_text(clean(check.says), prefix=Text.assemble(mark, (f"{check.name:<12}", "bold")))
            for finding in check.which[:SHOWN]:
                context.print_text(clean(finding), prefix="    ")
            if len(check.which) > SHOWN:
                context.print_text(f"and {len(check.which) - SHOWN:,} more", prefix="    ")
        if counts:
            contents = ", ".join(counted(number, kind) for kind, number in counts.items())
            context.print_text(contents, prefix=Text.assemble("  ", (f"{'contents':<12}", "bold")))
        _print_never_replayed(context, never)
    if not all(check.fine for check in checks):
        ctx.exit(1)


def _print_never_replayed(context: CommandContext, never: list[Unreplayed]) -> None:
    if never:
        context.print_text(Text("\nnever replayed", style="bold"))
    for entry in never[:SHOWN]:
        cost = cost_text(entry.cost)
        context.print_text(f"{clean(entry.operation)}: {times(entry.executions, 'execution')}, {cost}", prefix="  ")
        others = [part for part in entry.parts if part not in entry.says]
        parts = f": {', '.join(others[:SHOWN])}" if others else ""
        context.print_text(clean(f"{entry.says}{parts}"), prefix="    ")
        if entry.remedy:
            context.print_text(Text(clean(entry.remedy), style="dim"), prefix="    ")
    if len(never) > SHOWN:
        context.print_text(f"and {len(never) - SHOWN:,} more; --json shows all", prefix="  ")
