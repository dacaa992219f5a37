"""`musubito copy`: copy a store into another one, on SQLite or PostgreSQL."""

from __future__ import annotations

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from musubito import MusubitoEngine
from musubito.cli.blob_option import blobs_at
from musubito.cli.context import CommandContext, json_option
from musubito.lineage import Lineage
from musubito.lineage.readers.formatting import clean, times
from musubito.lineage.transfer.copy import BLOBS, CopyCounts, copy_store
from musubito.payloads.blobs import FolderBlobs
from musubito.store.urls import open_store

REMEDY = "Their steps run again when they are called; 'musubito verify' names them."


@click.command(
    "copy",
    short_help="Copy the store to SQLite or PostgreSQL.",
    epilog="Example: musubito copy --to postgresql://me@db.example/work",
)
@click.option("--to", "to", metavar="URL", required=True, help="The store to copy to; it is made if it is not there.")
@click.option("--to-blobs", metavar="URL", help="Where its large outputs are to lie if not beside a SQLite file.")
@json_option
@click.pass_context
def command(ctx: click.Context, to: str, to_blobs: str | None, json_: bool) -> None:
    """Copy all that the store holds into another one, and compare both by their digests.

    Programs go on meanwhile, and the copy is as of the moment at which it began. Encrypted data stays encrypted. A copy
    that was interrupted goes on where it was: what is there and equal is left as it is, and nothing is overwritten.
    Exit status 1 if a large output was lost before.
    """
    context: CommandContext = ctx.obj
    source = context.lineage
    blobs = None if to_blobs is None else blobs_at(to_blobs) if "://" in to_blobs else FolderBlobs(to_blobs)
    counts = CopyCounts()
    with MusubitoEngine(open_store(to), blobs=blobs) as engine:
        _copy(context, source, Lineage(engine), counts, bar=not json_ and context.console.is_terminal)
    if json_:
        context.json({"copied": counts.copied, "present": counts.present, "missing": counts.missing})
    else:
        files, rows = counts.copied.pop(BLOBS, 0), counts.copied.total()
        already = f", {times(counts.present.total(), 'row')} were there already" if counts.present.total() else ""
        large = f" and {times(files, 'large output')}" if files else ""
        context.print_text(f"Copied {times(rows, 'row')}{large}{already}. The digests of both are equal.")
        if counts.missing:
            lost = f"{times(len(counts.missing), 'large output')} not found in the source, and not copied. {REMEDY}"
            context.print_text(clean(lost))
    ctx.exit(1 if counts.missing else 0)


def _copy(context: CommandContext, source: Lineage, target: Lineage, counts: CopyCounts, *, bar: bool) -> None:
    columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=context.console, disable=not bar, transient=True) as progress:
        task = progress.add_task("", total=None)
        for part in copy_store(source, target, counts):
            table = part.table.strip("_").replace("_", " ")
            progress.update(task, description=f"{part.stage} {table}", completed=part.done, total=part.total)
