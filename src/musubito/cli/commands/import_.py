"""`musubito import`: load cassettes into the store."""

from __future__ import annotations

from pathlib import Path

import click

from musubito.cli.context import CommandContext, json_option
from musubito.lineage.readers.formatting import times
from musubito.lineage.transfer.cassette_files import read_cassette
from musubito.lineage.transfer.cassette_store import load_cassette


@click.command(
    "import",
    short_help="Load the results of cassettes into the store.",
    epilog="Example: musubito import tests/__musubito__/test_answers/test_it.md",
)
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@json_option
@click.pass_obj
def command(context: CommandContext, files: tuple[Path, ...], json_: bool) -> None:
    """Load the results of cassettes into the store, from which steps then replay them.

    A cassette is what the pytest plugin records and what 'export --format cassette' writes. A result counts as recorded
    when its cassette was. What the store holds already is left as it is. Effects are left out: they would count as
    done. The store is made if it is not there.
    """
    read = [read_cassette(file) for file in files]
    cassettes = [cassette.without_effects() for cassette in read]
    context.make_store()
    added = sum(load_cassette(context.engine, cassette) for cassette in cassettes)
    results = sum(len(cassette.results) for cassette in cassettes)
    present, left_out = results - added, sum(len(cassette.results) for cassette in read) - results
    if json_:
        context.json({"added": added, "present": present, "effects": left_out})
        return
    already = f", {times(present, 'result')} were there already" if present else ""
    effects = f", {times(left_out, 'result')} of effects left out" if left_out else ""
    context.print_text(f"Imported {times(added, 'result')}{already}{effects}.")
