"""`musubito forget`: erase contents that must not be stored any more."""

from __future__ import annotations

import shlex

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from musubito.cli.blob_option import not_found
from musubito.cli.context import CommandContext, CommandError, confirm, json_option
from musubito.lineage import LineageError
from musubito.lineage.readers.formatting import clean, short, size, times, without_input_text
from musubito.lineage.readers.input_search import InputMatches, InputQuery, search_deeper, search_inputs
from musubito.lineage.removal.erase import (
    ForgetCounts,
    changes_for,
    changes_for_namespace,
    changes_for_nodes,
    forget,
    forget_namespace,
    with_downstream,
)
from musubito.lineage.removal.erase_preview import ForgetPreview, preview_forget
from musubito.store.changes import Forget


def _once(_: click.Context, option: click.Parameter, values: tuple[str, ...]) -> str | None:
    """Return the one value of an option, or None.

    Raises a usage error for several: the last one would win, and the data of the others would stay.
    """
    if len(values) > 1:
        raise click.UsageError(f"{option.opts[0]} names one thing; call forget once for each")
    return values[0] if values else None


@click.command(
    "forget", short_help="Erase contents for good, from the file too.", epilog="Example: musubito forget 3f2a9c --below"
)
@click.argument("what", metavar="[CALL|RUN|STEP]", required=False)
@click.option(
    "--namespace",
    multiple=True,
    callback=_once,
    metavar="NAME",
    help="All that was recorded in this namespace, instead of a CALL, RUN or STEP.",
)
@click.option(
    "--where",
    multiple=True,
    callback=_once,
    metavar="'$.FIELD=VALUE'|TEXT",
    help="All whose stored input holds this value in a field ($.user_id=42, $['a.key'].id=\"7\", $.items[*].id=7, "
    "$..id=7 at any depth), or this text anywhere, instead of a CALL, RUN or STEP.",
)
@click.option("--below", is_flag=True, help="Also all results downstream, which may hold the same contents.")
@click.option("--dry-run", is_flag=True, help="Only say what would be erased.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def command(
    context: CommandContext,
    what: str | None,
    namespace: str | None,
    where: str | None,
    below: bool,
    dry_run: bool,
    yes: bool,
    json_: bool,
) -> None:
    """Erase inputs, outputs, error texts and code for good, from the file too.

    Ids, times and costs stay, but of a namespace only the names. A step whose result is erased runs again; a forgotten
    external effect does not take place again. Results of matching steps that are running now are not stored. If
    another step is using a forgotten result now, its own result is stored: --below erases it when that step has ended.
    """
    if what is None and namespace is None and where is None:
        raise click.UsageError("name a call, a run or a step, or a --namespace, or a value of the input by --where")
    if [what, namespace, where].count(None) != 2:
        raise click.UsageError(
            "a call, a run or a step, a --namespace and --where each say what to forget; give one of them, and call "
            "forget once for each"
        )
    if namespace is not None and below:
        raise click.UsageError(
            "a --namespace is forgotten whole; --below of a call finds the results of other namespaces that used it"
        )
    lineage, inputs = context.lineage, list[tuple[int, bytes]]()
    if namespace is not None:
        wanted = changes_for_namespace(lineage, namespace)
    elif where is not None:
        query = _query(where)
        matches = _search(context, query, bar=not json_)
        wanted, inputs = changes_for_nodes(matches.nodes), matches.inputs
        if matches.unreadable:
            click.echo(f"{times(matches.unreadable, 'stored input')} could not be read: see musubito verify.", err=True)
        if matches.encrypted:
            click.echo(
                f"{times(matches.encrypted, 'stored input')} of encrypted namespaces could not be looked at: use "
                "Python with their key, --namespace, or throw the key away.",
                err=True,
            )
        if matches.without_input:
            click.echo(without_input_text(matches.without_input), err=True)
        if not wanted and not inputs:
            if not dry_run:
                # A process that erased these inputs may have been killed before it removed all that they led to.
                context.before_removal()
                forget(lineage, [])
            other = search_deeper(lineage, query)
            hint = "" if other is None else f" But {shlex.quote(other)} would find some: $. begins at the arguments."
            if query.path is None:
                hint += " The context and the config of a graph are not stored: name the run that was given them."
            raise CommandError(f"none of {times(matches.looked_at, 'stored input')} holds {clean(where)}.{hint}")
    else:
        wanted = changes_for(lineage, what or "")
    wanted = with_downstream(lineage, wanted) if below else wanted
    name = clean(what or where or f"namespace {namespace}")
    if dry_run:
        _print_preview(context, f"{name}{_targets(wanted)}", preview_forget(lineage, wanted, inputs), json_=json_)
        return
    if not yes:
        confirm(f"Forget {name}{_targets(wanted)}? It cannot be undone.", "nothing was forgotten")
    context.before_removal()
    done = forget_namespace(lineage, namespace) if namespace is not None else forget(lineage, wanted, inputs)
    _print_report(context, name, done, json_=json_)


def _query(where: str) -> InputQuery:
    try:
        return InputQuery.of(where)
    except LineageError as error:
        raise click.UsageError(f"--where: {error}") from error


def _search(context: CommandContext, wanted: InputQuery, *, bar: bool) -> InputMatches:
    """Search the stored inputs, and show on a terminal how many of them were looked at."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not (bar and console.is_terminal), transient=True) as progress:
        task = progress.add_task("stored inputs", total=None)
        return search_inputs(
            context.lineage, wanted, lambda done, total: progress.update(task, completed=done, total=total)
        )


def _print_preview(context: CommandContext, name: str, would: ForgetPreview, *, json_: bool) -> None:
    if json_:
        context.json(would)
        return
    context.print_text(
        f"Would forget {name}: {times(would.executions, 'execution')}, {times(would.inputs, 'stored input')}, "
        f"{size(would.size)} of contents."
    )


def _print_report(context: CommandContext, name: str, done: ForgetCounts, *, json_: bool) -> None:
    if json_:
        context.json(done)
        return
    context.print_text(
        f"{name}: {times(done.executions, 'execution')} forgotten, {size(done.size)} of contents erased."
    )
    click.echo(f"{times(done.inputs, 'stored input')} and {times(done.parts, 'piece')} of stored inputs among it.")
    if done.nodes or done.runs:
        click.echo(f"{times(done.nodes, 'step result')} and {times(done.runs, 'run')} removed.")
    if done.elsewhere:
        click.echo(not_found(context.lineage, done.elsewhere), err=True)
    if not done.erased:
        context.print_text(
            "The database is being read: the bytes leave its files when forget is called again, or when its last user "
            "closes it."
        )


def _targets(wanted: list[Forget]) -> str:
    """Return the steps, calls and runs that are concerned, in parentheses.

    A single one is the one that the user named, and is not repeated.
    """
    operations = sorted({clean(change.operation) for change in wanted if change.operation})
    nodes = sorted({short(node.hex()) for change in wanted for node in change.nodes})
    # A name stands for its newest run, and the user has to see which. The runs inside it are not listed.
    runs = [f"run {short(change.run.hex())}" for change in wanted if change.run is not None]
    things = [*operations, *runs[:1], *nodes]
    if len(things) < 2 and not runs:
        return ""
    return f" ({', '.join(things[:5])}{f' and {len(things) - 5} more' if len(things) > 5 else ''})"
