"""`musubito rekey`: encrypt contents again with the new key of a key file that was changed."""

from __future__ import annotations

import click
from rich.progress import Progress, SpinnerColumn, TextColumn

from musubito.cli.context import CommandContext, CommandError, json_option
from musubito.lineage import Lineage
from musubito.lineage.readers.formatting import clean, counted, times
from musubito.lineage.removal.rekey import RekeyCounts, namespaces_of_key, rekey
from musubito.payloads.key_derivation import LENGTH

AGAIN = "Programs with the old key encrypted it meanwhile: start them with the changed key file, then run this again."
REMEDY = "No key in the file opens it; its steps run again."


@click.command(
    "rekey",
    short_help="Encrypt with a key that was changed.",
    epilog="Example: MUSUBITO_KEY_FILE=key.next musubito rekey",
)
@json_option
@click.pass_context
def command(ctx: click.Context, json_: bool) -> None:
    """Encrypt all contents with the new key in MUSUBITO_KEY_FILE.

    The key file holds the id key, the new key and the old key. Programs that have this file go on, and everything is
    replayed before, meanwhile and after. If it was interrupted, run it again. Exit status 1 if anything is not
    encrypted with the new key in the end.
    """
    context: CommandContext = ctx.obj
    key = context.key
    if key is None or len(key) < 2 * LENGTH:
        raise CommandError(
            "MUSUBITO_KEY_FILE has to name a file with three keys of 32 bytes each: the id key, the new key and the "
            "old key"
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
        context.print_text(f"Encrypted with the new key: {parts}, in {times(len(names), 'namespace')}.")
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
