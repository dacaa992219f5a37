"""`musubito prune`: remove old results that no retained result depends on."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, cast

import click
from rich.progress import Progress, SpinnerColumn, TextColumn

from musubito.cli.blob_option import not_found
from musubito.cli.context import CommandContext, confirm, json_option
from musubito.cli.quantities import to_bytes, to_seconds
from musubito.lineage.readers.blobs import blobs
from musubito.lineage.readers.formatting import counted, size, times, when
from musubito.lineage.readers.store_stats import StoredSize
from musubito.lineage.removal.prune import (
    PruneCounts,
    Watch,
    number_prunable,
    old_runs,
    prune,
    prune_to_size,
    release_space,
    used_bytes,
)
from musubito.payloads.blobs import BlobFile
from musubito.store.protocol import Compactable
from musubito.store.sqlite.storage import SQLiteStorage


@click.command("prune", epilog="Example: musubito prune --older-than 30d --keep-size 2GB")
@click.option("--older-than", callback=to_seconds, metavar="AGE", help="Such as 30d, 12h or 2w.")
@click.option(
    "--keep-size", callback=to_bytes, metavar="SIZE", help="Then the oldest, until no more is left: 500MB, 2GB."
)
@click.option(
    "--vacuum",
    is_flag=True,
    help="Then write a SQLite file anew, as small as it can be; nobody can write meanwhile. In PostgreSQL, make the "
    "room free for what comes; the disk gets it back by the administrator's VACUUM FULL alone.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def command(
    context: CommandContext,
    older_than: float | None,
    keep_size: int | None,
    vacuum: bool,
    dry_run: bool,
    yes: bool,
    json_: bool,
) -> None:
    """Remove old results that were not asked for since.

    Kept whatever their age and size: results on which younger ones were built, external effects, and results that are
    being computed. A removed result runs again when it is called. Leases that dead processes left behind go, too.
    Others can go on meanwhile.
    """
    if older_than is None and keep_size is None:
        raise click.UsageError("say what may go: --older-than AGE, --keep-size SIZE, or both")
    store = _compactable(context)
    before = max(0.0, context.engine.now() - older_than) if older_than is not None else None
    context.before_removal()
    older = _older(context, before)
    used = used_bytes(context.lineage)
    orphans = _total(blobs(context.lineage).orphans)
    if dry_run and json_:
        context.json({"before": before, **older, "used": used, "blobs": orphans})
        return
    texts = [f"what is older than {when(before)}: {_counts_text(older)}"] if before is not None else []
    if keep_size is not None and used > keep_size:
        texts.append(f"the oldest of {size(used)} until {size(keep_size)} are left")
    if texts and orphans.count:
        texts.append(f"{times(orphans.count, 'file')} of large outputs that nothing needs ({size(orphans.bytes)})")
    if dry_run:
        context.print_text(
            f"Would remove {', then '.join(texts) or f'nothing: {size(used)} are no more than was asked for'}."
        )
        return
    if texts and not yes:
        confirm(f"Remove {', then '.join(texts)}?", "nothing was removed")
    done = PruneCounts()
    with _watched(context, bar=not json_) as watch:
        if before is not None:
            done = prune(context.lineage, before, watch)
        if keep_size is not None:
            done = done.plus(prune_to_size(context.lineage, keep_size, watch))
        if vacuum:
            store.vacuum()
        else:
            release_space(context.lineage)
    young = _total(blobs(context.lineage).young)
    if json_:
        context.json({"before": before, "removed": done, "used": used_bytes(context.lineage), "young_blobs": young})
        return
    context.print_text(
        f"Removed {times(done.executions, 'execution')}, {times(done.nodes, 'step result')}, "
        f"{times(done.runs, 'run')}: {size(done.size)} of contents."
    )
    if done.elsewhere:
        click.echo(not_found(context.lineage, done.elsewhere), err=True)
    if young.count:
        context.print_text(
            f"{times(young.count, 'file')} of large outputs ({size(young.bytes)}) kept: a process may be writing files "
            "younger than an hour. A prune an hour from now removes those that nothing needs then."
        )
    if keep_size is not None and (left := used_bytes(context.lineage)) > keep_size:
        context.print_text(
            f"{size(left)} remain, more than {size(keep_size)}: nothing more can go. That is the newest results, those "
            "that younger ones were built on, external effects, and the tables themselves."
        )
    if done.executions or done.nodes or done.runs:
        _print_free_space(context, vacuum=vacuum)


def _print_free_space(context: CommandContext, *, vacuum: bool) -> None:
    """Print how the disk gets the free space back."""
    store = _compactable(context)
    if not isinstance(store, SQLiteStorage):
        at_once = "" if vacuum else ", at once with --vacuum"
        context.print_text(
            f"The server uses the free space again{at_once}. Its administrator returns it to the disk: VACUUM FULL."
        )
    elif not vacuum and store.free():
        context.print_text("Free space in the file is used again; --vacuum returns it to the disk.")


def _total(files: Collection[BlobFile]) -> StoredSize:
    return StoredSize(len(files), sum(file.size for file in files))


def _compactable(context: CommandContext) -> Compactable:
    store: Any = context.engine.storage
    return cast("Compactable", store)


def _older(context: CommandContext, before: float | None) -> dict[str, int | None]:
    """Return how many executions, nodes and runs are older; None for each if no age was given."""
    if before is None:
        return {"executions": None, "nodes": None, "runs": None}
    executions, nodes = number_prunable(context.lineage, before)
    return {"executions": executions, "nodes": nodes, "runs": len(old_runs(context.lineage, before))}


def _counts_text(older: dict[str, int | None]) -> str:
    return ", ".join(counted(number or 0, kind) for kind, number in older.items())


@contextmanager
def _watched(context: CommandContext, *, bar: bool) -> Iterator[Watch]:
    """Show on a terminal how much was removed so far. Yield the function that is told of it."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    with Progress(
        *columns, console=context.console, disable=not (bar and context.console.is_terminal), transient=True
    ) as shown:
        task = shown.add_task("looking for results that nothing needs", total=None)

        def watch(removed: PruneCounts) -> None:
            text = f"{times(removed.executions, 'execution')} removed, {size(removed.size)} of contents"
            shown.update(task, description=text)

        yield watch
