"""`musubito rekey`: seal encrypted contents with the newest part of a key that was changed."""

from __future__ import annotations

import click
from rich.progress import Progress, SpinnerColumn, TextColumn

from musubito.cli.context import CommandContext, CommandError, json_option
from musubito.lineage import Lineage
from musubito.lineage.formatting import clean, counted, times
from musubito.lineage.rekey import RekeyCounts, namespaces_of_key, rekey
from musubito.payloads.key_derivation import LENGTH

AGAIN = "Programs that have the earlier key sealed it meanwhile: start them with the changed key, then say this again."
REMEDY = "No part of the key opens it; its steps run again."


@click.command(
    "rekey",
    short_help="Encrypt with a key that was changed.",
    epilog="Example: MUSUBITO_KEY_FILE=key.next musubito rekey",
)
@json_option
@click.pass_context
def command(ctx: click.Context, json_: bool) -> None:
    """Encrypt all contents with the newest part of the key in MUSUBITO_KEY_FILE.

    The key consists of the part that makes all ids, the new part, and the part of before. Programs that have this key
    go on, and everything is replayed before, meanwhile and after. If it was interrupted, say it again. Exit status 1 if
    anything is not encrypted with the new part in the end.
    """
    context: CommandContext = ctx.obj
    key = context.key
    if key is None or len(key) < 2 * LENGTH:
        raise CommandError(
            "MUSUBITO_KEY_FILE has to name the file of a key that was changed: the part that makes ids, the new part, "
            "and the part of before, of 32 bytes each"
        )
    lineage = context.lineage
    own, others = namespaces_of_key(lineage)
    counts, left = RekeyCounts(), RekeyCounts()
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        console=context.console,
        disable=json_ or not context.console.is_terminal,
        transient=True,
    ) as progress:
        _run(lineage, counts, progress)
        # Once more, for what programs have written since.
        _run(lineage, left, progress)
    names, is_over = [name for _, name in own], not left.sealed and not left.unreadable
    if json_:
        context.json(
            {
                "namespaces": names,
                "other_keys": others,
                "sealed": counts.sealed,
                "left": left.sealed,
                "unreadable": left.unreadable,
            }
        )
    else:
        parts = ", ".join(counted(number, kind) for kind, number in counts.sealed.items()) or "nothing"
        context.print_text(f"Sealed with the new part of the key: {parts}, in {times(len(names), 'namespace')}.")
        if others:
            context.print_text(clean(f"Left alone, since it has another key: {', '.join(others)}."))
        if left.sealed:
            context.print_text(f"{times(left.sealed.total(), 'row')} more. {AGAIN}")
        if left.unreadable:
            context.print_text(f"{times(left.unreadable.total(), 'row')} not readable. {REMEDY}")
    ctx.exit(0 if is_over else 1)


def _run(lineage: Lineage, counts: RekeyCounts, progress: Progress) -> None:
    task = progress.add_task("")
    for kind in rekey(lineage, counts):
        progress.update(task, description=f"{counts.looked_at.total():,} looked at, {kind}")
