"""`musubito prune`: what is old and needed by nothing."""

from __future__ import annotations

import re
from typing import Any, Final

import click

from musubito.cli.here import CommandError, Here, json_option, says_what_is_wrong
from musubito.cli.words import size, times, when
from musubito.lineage.removal import old_runs, prunable, prune
from musubito.store.base import Compactable

__all__ = ["command"]

SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}


def _seconds(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    """An age, a number with a unit, in seconds."""
    said = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", value.strip().lower())
    if said is None:
        raise click.BadParameter(f"{value!r} is no age; say 30d, 12h or 2w")
    return float(said[1]) * SECONDS[said[2]]


@click.command("prune", epilog="Example: musubito prune --older-than 30d --vacuum")
@click.option("--older-than", required=True, callback=_seconds, metavar="AGE", help="Such as 30d, 12h or 2w.")
@click.option("--vacuum", is_flag=True, help="Then give the room back to the disk; nobody can write meanwhile.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
@says_what_is_wrong
def command(here: Here, older_than: float, vacuum: bool, dry_run: bool, yes: bool, json_: bool) -> None:
    """Remove what is older and was not asked for since.

    Kept whatever its age: what younger results came of, external effects, and what is being computed. What was removed
    runs again when it is called. Claims that dead processes left behind go, too.
    """
    lineage = here.lineage
    before = max(0.0, here.engine.now() - older_than)
    old, runs = prunable(lineage, before), old_runs(lineage, before)
    what = ", ".join(
        (
            times(len(old.executions), "execution"),
            times(len(old.bare) + len(old.nodes), "node"),
            times(len(runs), "run"),
        )
    )
    if dry_run:
        if json_:
            nodes = len(old.bare) + len(old.nodes)
            here.json({"before": before, "executions": len(old.executions), "nodes": nodes, "runs": len(runs)})
        else:
            click.echo(f"Would remove what is older than {when(before)}: {what}.")
        return
    if not yes:
        _ask(f"Remove what is older than {when(before)}: {what}?")
    done = prune(lineage, before)
    if vacuum:
        store: Any = here.engine.storage
        _compact(store)
    if json_:
        here.json({"before": before, "removed": done})
        return
    click.echo(
        f"Removed {times(done.executions, 'execution')}, {times(done.nodes, 'node')}, {times(done.runs, 'run')}: "
        f"{size(done.size)} of contents."
    )
    if not vacuum and done.size:
        click.echo("The room is used again by what comes; --vacuum gives it back to the disk.")


def _compact(store: Compactable) -> None:
    store.vacuum()


def _ask(question: str) -> None:
    try:
        said = click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)
        raise CommandError("nothing was removed; --yes skips the question.") from None
    if not said:
        raise CommandError("nothing was removed.")
