"""`musubito forget`: contents that must not be stored any more."""

from __future__ import annotations

import click

from musubito.cli.here import CommandError, Here, json_option, says_what_is_wrong
from musubito.cli.words import clean, short, size, times
from musubito.lineage.removal import forget, in_namespace, meant, with_all_below
from musubito.store.base import Forget

__all__ = ["command"]


@click.command("forget", epilog="Example: musubito forget 3f2a9c --below")
@click.argument("what", metavar="NODE|RUN|OPERATION", required=False)
@click.option("--namespace", metavar="NAME", help="All that was recorded in this namespace, in place of WHAT.")
@click.option("--below", is_flag=True, help="Also all that came of it, which may hold the same contents.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
@says_what_is_wrong
def command(here: Here, what: str | None, namespace: str | None, below: bool, yes: bool, json_: bool) -> None:
    """Erase inputs, outputs and error texts for good, from the file too.

    Ids, times and costs stay. What was made with it runs again; a forgotten external effect does not take place again.
    """
    if (what is None) == (namespace is None):
        raise click.UsageError("name a node, a run or an operation, or a --namespace")
    lineage = here.lineage
    wanted = meant(lineage, what) if what is not None else in_namespace(lineage, namespace or "")
    wanted = with_all_below(lineage, wanted) if below else wanted
    name = clean(what or f"namespace {namespace}")
    if not yes:
        _ask(f"{name}{_all_of(wanted)}")
    done = forget(lineage, wanted)
    if json_:
        here.json(done)
        return
    click.echo(f"{name}: {times(done.executions, 'execution')} forgotten, {size(done.size)} of contents erased.")
    click.echo(f"{times(done.inputs, 'stored input')} and {times(done.parts, 'piece')} of stored inputs among it.")
    if not done.erased:
        click.echo(
            "Somebody is reading: the bytes leave the files when forget is called again, or the last one closes."
        )


def _all_of(wanted: list[Forget]) -> str:
    """What else is concerned than what was named."""
    operations = sorted({clean(each.operation) for each in wanted if each.operation})
    nodes = sorted(short(each.node.hex()) for each in wanted if each.node)
    some = [*operations, *nodes]
    if len(some) < 2:
        return ""
    return f" ({', '.join(some[:5])}{f' and {len(some) - 5} more' if len(some) > 5 else ''})"


def _ask(what: str) -> None:
    try:
        said = click.confirm(f"Forget {what}? It cannot be undone.", err=True)
    except click.Abort:
        click.echo(err=True)
        raise CommandError("nothing was forgotten; --yes skips the question.") from None
    if not said:
        raise CommandError("nothing was forgotten.")
