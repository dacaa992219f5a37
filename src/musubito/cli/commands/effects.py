"""`musubito effects`: list external effects whose outcome is unknown, and settle one."""

from __future__ import annotations

import json
from typing import Final

import click

from musubito.cli.context import CommandContext, CommandError, json_option, no_inputs_option
from musubito.cli.table_layout import table_of
from musubito.cli.targets import effects_in_doubt, is_effect
from musubito.errors import EncodingError
from musubito.lineage.readers.formatting import clean, short, when
from musubito.lineage.readers.unknown_effects import REMEDY, UnknownEffect, settle, unknown_effects
from musubito.lineage.reports import WITHHELD

LONGEST: Final = 120
"""Characters of the arguments of an effect that are shown at most."""
NOT_JSON: Final = "--happened takes JSON: a text stands in quotes, as in --happened '\"accepted\"'"


@click.group(
    "effects",
    invoke_without_command=True,
    short_help="External effects whose outcome is unknown, and how to settle them.",
    epilog="Example: musubito effects settle 3f9a1c20 --never-happened",
)
@json_option
@no_inputs_option
@click.pass_context
def command(ctx: click.Context, json_: bool, no_inputs: bool) -> None:
    """List the external effects whose outcome is unknown, oldest first.

    Once you have found out, 'musubito effects settle' records it, and the next call uses your answer.
    """
    if ctx.invoked_subcommand is not None:
        return
    context: CommandContext = ctx.obj
    effects = unknown_effects(context.lineage)
    if json_:
        context.json({"effects": [effect._replace(arguments=None) for effect in effects] if no_inputs else effects})
        return
    if not effects:
        click.echo("No effect has an unknown outcome.")
        return
    rows = [
        [
            short(effect.effect_key),
            clean(effect.operation),
            when(effect.began_at),
            effect.settled or "",
            WITHHELD if no_inputs else clean(effect.shown_arguments(LONGEST)),
        ]
        for effect in effects
    ]
    columns = ["effect", "step", "begun", "found out", "arguments"]
    if not any(effect.settled for effect in effects):
        for row in (columns, *rows):
            del row[3]
    last = len(columns) - 1
    context.console.print(table_of(columns, rows, context.console.width, name=last, texts=range(last)))
    if any(effect.settled is None for effect in effects):
        context.print_text(f"\n{REMEDY}")


@command.command("settle", short_help="Record whether an effect happened.")
@click.argument("what", metavar="EFFECT|STEP")
@click.option("--happened", metavar="VALUE", help="It took place, and VALUE is what it returned, as JSON.")
@click.option("--never-happened", is_flag=True, help="It did not take place.")
@click.option("--undo", is_flag=True, help="Take the answer back: the outcome is unknown again.")
@json_option
@click.pass_obj
def settle_command(
    context: CommandContext, what: str, happened: str | None, never_happened: bool, undo: bool, json_: bool
) -> None:
    """Record whether an effect with an unknown outcome happened. No code has to be edited for it.

    Its next call returns VALUE, or runs if the effect never happened. EFFECT is an id as 'musubito effects' lists it,
    or the idempotency key that an error names. STEP stands for its only effect whose outcome is
    unknown. An answer cannot be overwritten; use --undo first.
    """
    if (happened is not None) + never_happened + undo != 1:
        raise click.UsageError("give one of --happened VALUE, --never-happened and --undo")
    effect = _effect(context, what)
    name = f"{clean(effect.operation)} {_named(effect)}"
    if undo and effect.settled is None:
        raise CommandError(f"{name} has no answer yet: there is nothing to undo")
    if not undo and effect.settled is not None:
        raise CommandError(
            f"{name}: it is already marked as {effect.settled}. To change that, run "
            f"'musubito effects settle {short(effect.effect_key)} --undo' first"
        )
    try:
        value = None if happened is None else json.loads(happened)
    except ValueError as error:
        raise click.UsageError(NOT_JSON) from error
    try:
        known = settle(context.lineage, effect, value, happened=None if undo else not never_happened)
    except EncodingError as error:
        raise CommandError(f"this value cannot be stored: {error}") from error
    if not known:
        raise CommandError(f"{name} has changed meanwhile: see 'musubito effects'")
    if json_:
        context.json({"effect": _effect(context, effect.effect_key)})
    else:
        then = (
            "its outcome is unknown again"
            if undo
            else f"its next call {'runs' if never_happened else 'returns that value'}"
        )
        context.print_text(f"{name}: {then}.")


def _effect(context: CommandContext, what: str) -> UnknownEffect:
    effects = effects_in_doubt(context, what)
    if len(effects) == 1:
        return effects[0]
    if not effects:
        if is_effect(context, what):
            raise CommandError(
                f"{what}: its outcome is known: it took place or failed, "
                "or its next call has already used the answer. 'musubito show' shows its result"
            )
        raise CommandError(f"no effect whose outcome is unknown is called {what!r}. 'musubito effects' lists them")
    names = "; ".join(map(_named, effects[:3]))
    raise CommandError(f"{what!r} names several effects whose outcome is unknown: {names}. Give the id of one")


def _named(effect: UnknownEffect) -> str:
    return f"{short(effect.effect_key)} {clean(effect.shown_arguments(LONGEST))}"
