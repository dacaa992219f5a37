"""`musubito invalidate`: results that must not be replayed any more."""

from __future__ import annotations

from typing import NamedTuple

import click

from musubito.cli.here import CommandError, Here, json_option, says_what_is_wrong
from musubito.cli.words import clean, short, times
from musubito.lineage import Lineage, LineageError
from musubito.lineage.names import similar_names
from musubito.store.base import Invalidate

__all__ = ["command"]


class Target(NamedTuple):
    """What is invalidated in one namespace, as the store takes it; and the number of the operation, or of the node."""

    change: Invalidate
    operation: int | None
    node: int | None


@click.command(
    "invalidate", short_help="Never replay these results again.", epilog="Example: musubito invalidate summarise"
)
@click.argument("what", metavar="NODE|OPERATION")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
@says_what_is_wrong
def command(here: Here, what: str, yes: bool, json_: bool) -> None:
    """Never again replay the results of an operation, or of one node, nor those of steps that called it. What was given
    its results is stale: at the next call it is replayed if it is given equal ones, and runs if not.

    WHAT is an operation's name (in all namespaces that have it) or a node's id.
    """
    lineage = here.lineage
    targets = _targets(lineage, what)
    where = [{"operation": each.operation, "node": each.node} for each in targets]
    known = [row for (row,) in lineage.ask(*(("executions_of", each) for each in where))]
    executions, _, effects = (sum(row[column] for row in known) for column in range(3))
    name = short(what) if targets[0].node is not None else clean(what)
    if not yes:
        _ask(f"{name}: {times(executions, 'execution')}", [each.change.namespace for each in targets], effects)
    # Not what was known before the question: others may have gone on since.
    invalid, all_invalid = _invalid(lineage, where)
    # Past the engine, which has no key: the ids and names are the store's own, also where it is encrypted.
    count = sum(lineage.engine.storage.write([each.change])[0] for each in targets)
    now_invalid, all_now_invalid = _invalid(lineage, where)
    newly = now_invalid - invalid
    callers = max(0, all_now_invalid - all_invalid - newly)
    stale = sum(rows[0][0] for rows in lineage.ask(*(("stale_below", each) for each in where)))
    if json_:
        here.json({"executions": count, "newly_invalid": newly, "callers": callers, "stale": stale})
        return
    before = f" ({count - newly:,} had been before)" if count > newly else ""
    click.echo(f"{name}: {times(count, 'execution')} invalidated{before}.")
    if callers:
        click.echo(f"{times(callers, 'execution')} that called them too.")
    click.echo(f"{times(stale, 'node')} below {'is' if stale == 1 else 'are'} stale.")


def _invalid(lineage: Lineage, where: list[dict[str, int | None]]) -> tuple[int, int]:
    """How many of these executions, and how many of all, are INVALID at one moment."""
    *own, every = lineage.ask(*(("executions_of", each) for each in where), ("invalid_executions", {}))
    return sum(rows[0][0] - rows[0][1] for rows in own), every[0][0]


def _targets(lineage: Lineage, what: str) -> list[Target]:
    operations = lineage.rows("operations")
    named = [
        Target(Invalidate(namespace, name, None), number, None)
        for namespace, name, number in operations
        if name == what
    ]
    if named:
        return named
    try:
        number = lineage.number(what)
    except LineageError as error:
        if "several" in str(error):
            raise
        similar = similar_names(what, [name for _, name, _ in operations])
        hint = f"did you mean {', '.join(similar)}?" if similar else "'musubito show last' names some."
        raise LineageError(f"no operation and no node is called {what!r}; {hint}") from None
    node = lineage.nodes([number])[0]
    change = Invalidate(node.namespace or lineage.engine.namespace, None, bytes.fromhex(node.node_id))
    return [Target(change, None, number)]


def _ask(what: str, namespaces: list[str], effects: int) -> None:
    where = f"namespace{'s' if len(namespaces) > 1 else ''} {', '.join(namespaces)}"
    again = f" {times(effects, 'external effect')} may then take place again." if effects else ""
    try:
        said = click.confirm(f"{what} in {where}.{again} Never replay them again?", err=True)
    except click.Abort:
        click.echo(err=True)
        raise CommandError("nothing was invalidated; --yes skips the question.") from None
    if not said:
        raise CommandError("nothing was invalidated.")
