"""`musubito edit`: correct a stored output by hand."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from musubito.cli.context import CommandContext, CommandError, json_option
from musubito.cli.targets import run_or_node
from musubito.engine.override import ByHand, ResultToEdit, by_hand, replace_payload, result_to_edit, undo
from musubito.lineage import NodeReport, RunReport
from musubito.lineage.readers.formatting import clean, edited_by, short, times, when
from musubito.model import NodeStatus
from musubito.values.editable import EditableText, NotReadBack, editable_text, edited

IN_PYTHON: Final = "In Python, engine.override(ID, value, reason=...) takes any value."


@click.command(
    "edit", short_help="Correct a stored output by hand.", epilog="Example: musubito edit report/draft --reason typo"
)
@click.argument("what", metavar="CALL|STEP")
@click.option("--value", metavar="FILE", help="Take the output from this file, or from the standard input (-).")
@click.option("--reason", metavar="TEXT", help="Why; it is shown with the result.")
@click.option("--by", metavar="NAME", help="Who corrects it. Default: the user of this process.")
@click.option("--undo", "undo_", is_flag=True, help="Take back the last edit: the output from before answers again.")
@json_option
@click.pass_obj
def command(
    context: CommandContext,
    what: str,
    value: str | None,
    reason: str | None,
    by: str | None,
    undo_: bool,
    json_: bool,
) -> None:
    """Correct a stored output: open it in $EDITOR, and let what is saved answer in its place.

    A text is shown as it is, any other output as JSON. What was built on the earlier output runs again. The edited one
    answers until the input, the code or a dependency of its step changes. The step itself is not called.

    CALL is an id as 'musubito show RUN' lists it, STEP a name that stands for its newest call. An output is that of one
    sample; the command says which.
    """
    if undo_ and value is not None:
        raise click.UsageError("--undo takes back an edit, and --value makes one; give one of them")
    target = run_or_node(context, what)
    if isinstance(target, RunReport):
        raise click.UsageError(f"{what} is a run: name one of its calls, as 'musubito show {what}' lists them")
    made = by_hand(reason or "", by)
    edits = _undone if undo_ else _edited
    before = _invalid(context)
    artifact = edits(context, target, made, value)
    node = context.lineage.node(target.node_id)
    # What was built on the output from before an edit is found again.
    stale, callers = 0 if undo_ else _stale(context, node), _invalid(context) - before
    if json_:
        document = {"node": node, "edited": artifact is not None, "artifact_id": artifact, "callers": callers}
        context.json({**document, "stale": stale})
    elif artifact is None:
        click.echo("Nothing was changed.")
    else:
        edit = None if node.execution is None else node.execution.edit
        context.print_text(f"{_name(node)}: {'edited' if edit is None else edited_by(edit)}.")
        if callers:
            click.echo(f"{times(callers, 'execution')} that called it will not be replayed.")
        if undo_:
            click.echo("What was built on the earlier output is found again where nothing else has changed.")
        else:
            click.echo(f"{times(stale, 'call')} downstream {'is' if stale == 1 else 'are'} stale.")


def _name(node: NodeReport) -> str:
    sample = f", sample {node.sample}" if node.step_type == "stochastic" else ""
    return f"{clean(node.operation)} {short(node.node_id)}{sample}"


def _invalid(context: CommandContext) -> int:
    return int(context.lineage.rows("invalid_executions")[0][0])


def _stale(context: CommandContext, node: NodeReport) -> int:
    number = context.lineage.number(node.node_id)
    return int(context.lineage.rows("stale_below", operation=None, node=number)[0][0])


def _undone(context: CommandContext, node: NodeReport, made: ByHand, _: str | None) -> str | None:
    return undo(context.engine.in_namespace(node.namespace), bytes.fromhex(node.node_id), made)


def _edited(context: CommandContext, node: NodeReport, made: ByHand, value: str | None) -> str | None:
    """Edit the output of a node; return the id of the new artifact, or None if nothing was changed."""
    engine = context.engine.in_namespace(node.namespace)
    result = result_to_edit(engine, bytes.fromhex(node.node_id))
    try:
        shown = editable_text(result.payload)
    except NotReadBack as error:
        raise CommandError(f"{_name(node)} cannot be edited as text ({error}). {IN_PYTHON}") from error

    differs = result.changed_file(engine)
    if differs is not None:
        click.echo(
            f"musubito: {clean(differs)}, which {_name(node)} read, has changed since, as seen from this folder. "
            "Its step will run again, and the edit does not answer.",
            err=True,
        )

    def replace(text: str) -> str | None:
        payload = edited(result.payload, _as_saved(text, shown))
        artifact = replace_payload(engine, result, payload, made)
        return None if artifact == result.commit.artifact else artifact.hex()

    if value is not None:
        try:
            return replace(_read(value))
        except NotReadBack as error:
            raise CommandError(f"{_name(node)}: {error}. Nothing was changed. {IN_PYTHON}") from error
    click.echo(f"{_about(node, result)}", err=True)
    return _in_editor(shown, replace)


def _about(node: NodeReport, result: ResultToEdit) -> str:
    """Return which output is edited, and what should be known of it before."""
    about = f"{_name(node)}, of {when(result.commit.started_at)}"
    if node.status is NodeStatus.STALE:
        about += "; what is upstream of it has changed since, so its step may run again with another input"
    return about


def _as_saved(text: str, shown: EditableText) -> str:
    """Return the edited text without the line break that editors add at the end."""
    return text if shown.is_json or shown.text.endswith("\n") else text.removesuffix("\n")


def _read(value: str) -> str:
    """Return the text of a file, or of the standard input."""
    try:
        content = sys.stdin.buffer.read() if value == "-" else Path(value).read_bytes()
        return content.decode()
    except OSError as error:
        raise CommandError(f"{value} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{value} is no text in UTF-8: {error.reason}") from error


def _in_editor(shown: EditableText, replace: Callable[[str], str | None]) -> str | None:
    """Let the user edit a text until it can be stored. A text that was not stored stays in its file."""
    # Only this user may read the folder: the text may be confidential.
    folder = Path(tempfile.mkdtemp(prefix="musubito-edit-"))
    path = folder / ("output.json" if shown.is_json else "output.txt")
    text = shown.text if shown.text.endswith("\n") else f"{shown.text}\n"
    path.write_bytes(text.encode())
    try:
        answer = _edit_until_stored(path, replace)
    except BaseException as error:
        if path.exists() and path.read_bytes() != text.encode():
            click.echo(f"musubito: what you wrote is kept in {path}", err=True)
        else:
            shutil.rmtree(folder)
        if isinstance(error, click.ClickException) and not isinstance(error, CommandError):
            raise CommandError(f"{error.format_message()} (see EDITOR in the environment)") from error
        raise
    shutil.rmtree(folder)
    return answer


def _edit_until_stored(path: Path, replace: Callable[[str], str | None]) -> str | None:
    while True:
        click.edit(filename=str(path))
        try:
            return replace(_read(str(path)))
        except NotReadBack as error:
            click.echo(f"musubito: {clean(str(error))}", err=True)
            if not _wants_to_go_on():
                raise CommandError("nothing was changed") from error


def _wants_to_go_on() -> bool:
    """Ask whether the editor is to be opened again. Without anybody to ask, the answer is no."""
    if not os.isatty(0):
        return False
    return click.confirm("Edit it again?", default=True, err=True)
