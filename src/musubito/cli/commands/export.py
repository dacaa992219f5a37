"""`musubito export`: export a run, or a call with its lineage, for other programs or for a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import click

from musubito.cli.context import CommandContext, CommandError, json_option, json_text, missing_package, no_inputs_option
from musubito.cli.targets import run_or_node
from musubito.lineage import Lineage, NodeReport, RunReport
from musubito.lineage.transfer.cassette_files import file_of
from musubito.lineage.transfer.cassette_store import cassette_of_run
from musubito.lineage.transfer.export import document, dot, graph_of_node, graph_of_run, mermaid
from musubito.lineage.transfer.openlineage import events_of_nodes, events_of_run

FORMATS: Final = ("html", "mermaid", "dot", "json", "openlineage", "cassette")


@click.command(
    "export",
    short_help="A run or a call as HTML, Mermaid, DOT, JSON, OpenLineage or cassette.",
    epilog="Example: musubito export last --format mermaid -o run.mmd",
)
@click.argument("what", metavar="RUN|CALL|STEP")
@click.option(
    "--format", "format_", type=click.Choice(FORMATS), default="mermaid", show_default=True, help="The format."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write; else the export is printed.",
)
@json_option
@no_inputs_option
@click.pass_obj
def command(
    context: CommandContext, what: str, format_: str, output: Path | None, json_: bool, no_inputs: bool
) -> None:
    """Export the graph of a run, or of a call with all calls upstream and downstream of it.

    HTML is one file to look at in a browser. OpenLineage are run events as one JSON list. A cassette holds the results
    of a run for a test, or for 'musubito import'. Only html, json and cassette have contents, and none with
    --no-inputs.
    """
    lineage, target = context.lineage, run_or_node(context, what)
    if format_ == "cassette" and not json_:
        if no_inputs or not isinstance(target, RunReport):
            raise CommandError("a cassette holds a run with its contents: name a run, and leave out --no-inputs")
        text = file_of(cassette_of_run(lineage, target))
    else:
        text = _exported(lineage, target, "json" if json_ else format_, contents=not no_inputs)
    if output is None:
        click.echo(text, nl=False)
        return
    with writing(output, "-o"):
        output.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def writing(output: Path, option: str) -> Iterator[None]:
    """Raise a `CommandError` if the file that an option names cannot be written in the block."""
    if not output.parent.is_dir():
        raise CommandError(f"there is no folder {output.parent}: make it first, or name another file with {option}")
    try:
        yield
    except OSError as error:
        raise CommandError(f"{output}: {error.strerror or error}") from error


def html_writer() -> ModuleType:
    """Return the module that writes HTML. Raise `CommandError` if a package that it needs is not installed."""
    try:
        return import_module("musubito.web.export")  # needs packages of its own
    except ImportError as error:
        raise CommandError(f"HTML needs {missing_package(error)}: pip install 'musubito[web]'") from error


def _exported(lineage: Lineage, target: RunReport | NodeReport, format_: str, *, contents: bool) -> str:
    if format_ == "html":
        return _html(lineage, target, contents=contents)
    if format_ == "openlineage":
        if isinstance(target, RunReport):
            return _json(events_of_run(lineage, target))
        related = (*lineage.ancestors(target.node_id), *lineage.descendants(target.node_id))
        return _json(events_of_nodes(lineage, [target, *(relative.node for relative in related)]))
    graph = graph_of_run(lineage, target) if isinstance(target, RunReport) else graph_of_node(lineage, target)
    if format_ == "json":
        return _json(document(lineage, graph, contents=contents))
    return mermaid(graph) if format_ == "mermaid" else dot(graph)


def _html(lineage: Lineage, target: RunReport | NodeReport, *, contents: bool) -> str:
    writer: Any = html_writer()
    write = writer.html_of_run if isinstance(target, RunReport) else writer.html_of_result
    return str(write(lineage, target, contents=contents))


def _json(value: object) -> str:
    return json_text(value) + "\n"
