"""`musubito invalidate`: never replay some results again."""

from __future__ import annotations

from typing import NamedTuple

import click

from musubito.cli.context import CommandContext, confirm, json_option
from musubito.lineage import Lineage, LineageError
from musubito.lineage.readers.formatting import clean, short, times
from musubito.lineage.readers.suggestions import suggestion
from musubito.store.changes import Invalidate


class Target(NamedTuple):
    """A thing to invalidate in one namespace.

    `change` is the change for the store. `operation` or `node` is the store's number of the thing.
    """

    change: Invalidate
    operation: int | None
    node: int | None


@click.command(
    "invalidate", short_help="Never replay these results again.", epilog="Example: musubito invalidate summarise"
)
@click.argument("what", metavar="CALL|STEP")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def command(context: CommandContext, what: str, yes: bool, json_: bool) -> None:
    """Never again replay the results of a step, or of one call.

    Results of steps that called it are not replayed again either. A step that consumed its result is stale: the next
    call is replayed if it is given an equal result, and runs if not. An EXTERNAL_EFFECT takes place again.

    STEP is a name (in all namespaces that have it), CALL an id as 'musubito show RUN' lists it.
    """
    lineage = context.lineage
    targets = _targets(lineage, what)
    params = [{"operation": target.operation, "node": target.node} for target in targets]
    counts = [row for (row,) in lineage.ask(*(("executions_of", named) for named in params))]
    executions, _, effects = (sum(row[column] for row in counts) for column in range(3))
    name = short(what) if targets[0].node is not None else clean(what)
    if not yes:
        namespaces = [target.change.namespace for target in targets]
        places = f"namespace{'s' if len(namespaces) > 1 else ''} {', '.join(namespaces)}"
        warning = f" {_effects_warning(effects)}" if effects else ""
        confirm(
            f"{name}: {times(executions, 'execution')} in {places}.{warning} Never replay them again?",
            "nothing was invalidated",
        )
    elif effects:
        click.echo(_effects_warning(effects), err=True)
    # Counted again: while the question was open, others may have gone on.
    invalid, all_invalid = _invalid(lineage, params)
    # Written without the engine, which has no key: ids and names are the same in an encrypted namespace.
    count = sum(lineage.engine.storage.write([target.change])[0] for target in targets)
    now_invalid, all_now_invalid = _invalid(lineage, params)
    newly = now_invalid - invalid
    callers = max(0, all_now_invalid - all_invalid - newly)
    stale = sum(rows[0][0] for rows in lineage.ask(*(("stale_below", named) for named in params)))
    if json_:
        context.json({"executions": count, "newly_invalid": newly, "callers": callers, "stale": stale})
        return
    before = f" ({count - newly:,} had been before)" if count > newly else ""
    click.echo(f"{name}: {times(count, 'execution')} invalidated{before}.")
    if callers:
        click.echo(f"{times(callers, 'execution')} that called them too.")
    click.echo(f"{times(stale, 'call')} downstream {'is' if stale == 1 else 'are'} stale.")


def _invalid(lineage: Lineage, params: list[dict[str, int | None]]) -> tuple[int, int]:
    """Return how many of these executions, and how many of all, are INVALID at one moment."""
    *own, every = lineage.ask(*(("executions_of", named) for named in params), ("invalid_executions", {}))
    return sum(rows[0][0] - rows[0][1] for rows in own), every[0][0]


def _targets(lineage: Lineage, what: str) -> list[Target]:
    named = [
        Target(Invalidate(namespace, name, None), number, None)
        for namespace, name, number in lineage.rows("operations")
        if name == what
    ]
    if named:
        return named
    try:
        number = lineage.number(what)
    except LineageError as error:
        if "several" in str(error):
            raise
        hint = suggestion(lineage, what, "'musubito show last' names some.")
        raise LineageError(f"no step and no call is named {what!r}; {hint}") from None
    node = lineage.nodes([number])[0]
    change = Invalidate(node.namespace or lineage.engine.namespace, None, bytes.fromhex(node.node_id))
    return [Target(change, None, number)]


def _effects_warning(effects: int) -> str:
    """Return the warning that effects are no longer known to be done."""
    was = "was done; it" if effects == 1 else "were done; they"
    return f"{times(effects, 'external effect')} {was} will take place again at the next call."
