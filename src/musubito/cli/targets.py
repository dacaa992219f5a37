"""Find the run, the call or the effect that a user names."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from itertools import chain

from musubito.cli.context import CommandContext, no_runs_text
from musubito.lineage import LineageError, NodeReport, RunReport
from musubito.lineage.corruption import binary
from musubito.lineage.readers.formatting import short
from musubito.lineage.readers.store_reader import DIGITS, LONGEST, SHORTEST
from musubito.lineage.readers.suggestions import suggestion
from musubito.lineage.readers.unknown_effects import UnknownEffect, unknown_effects
from musubito.lineage.reports import NothingRan
from musubito.model import StepType


def run_or_node(
    context: CommandContext, what: str, *, limit: int | None = None, replayed: bool = True
) -> RunReport | NodeReport:
    """Return the run or the node that a text names. `limit` and `replayed` are those of `Lineage.run`.

    A run is named by its id, its name, or "last". A node is named by its id, or by the name of its step, which stands
    for the newest call of the step. Raises `LineageError` with a hint where to look.
    """
    lineage = context.lineage
    run = partial(lineage.run, limit=limit, replayed=replayed)
    if what == "last":
        try:
            return run(what)
        except NothingRan:
            raise LineageError(no_runs_text(context)) from None
    named, *nodes = lineage.ask(
        ("runs_named", {"name": what, "limit": 1}),
        ("newest_call_of", {"operation": what}),
        ("newest_node_of", {"operation": what}),
    )
    if named:
        return run(what)
    # A call that failed before anything was recorded has no result: the newest that has one stands for its step.
    for node, *_ in chain(*nodes):
        with suppress(LineageError):
            return lineage.node(binary(node).hex())
    try:
        return run(what)
    except LineageError as no_run:
        is_id = bool(what) and DIGITS.issuperset(what.lower())
        if not is_id or len(what) < SHORTEST:
            raise LineageError(_unknown(context, what, is_id=is_id)) from None
        try:
            return lineage.node(what)
        except LineageError as no_node:
            if str(no_run).startswith("several"):
                raise no_run from None
            if str(no_node).startswith("several"):
                raise no_node from None
            raise LineageError(_unstored(context, what)) from None


def run_or_node_or_effect(
    context: CommandContext, what: str, *, limit: int | None = None, replayed: bool = True
) -> RunReport | NodeReport | UnknownEffect:
    """Return what `run_or_node` finds, or the effect in doubt that a text names.

    An effect is named by the id that `doctor` shows, by the idempotency key that an error names, or by its step.
    """
    effects = effects_in_doubt(context, what)
    if len(effects) == 1 or (effects and not _is_id(what)):
        return effects[-1]
    return run_or_node(context, what, limit=limit, replayed=replayed)


def effects_in_doubt(context: CommandContext, what: str) -> list[UnknownEffect]:
    """Return the effects in doubt that a text names, oldest first; see `run_or_node_or_effect`."""
    text = what.lower()
    return [
        effect
        for effect in unknown_effects(context.lineage)
        if effect.operation == what or (_is_id(what) and effect.is_called(text))
    ]


def is_effect(context: CommandContext, what: str) -> bool:
    """Tell whether a text is the id of an effect or names a step with effects, whatever is known of them."""
    if _is_id(what) and len(what) <= 2 * LONGEST["call"]:
        first, last = _range(what)
        if context.lineage.rows("effects_like", first=first, last=last):
            return True
    with suppress(LineageError):
        named = run_or_node(context, what, limit=0)
        return isinstance(named, NodeReport) and named.step_type == StepType.EXTERNAL_EFFECT.value
    return False


def _is_id(what: str) -> bool:
    return len(what) >= SHORTEST and DIGITS.issuperset(what.lower())


def _unstored(context: CommandContext, what: str) -> str:
    """Return what is known of a call of which no result is stored, such as one that was refused."""
    first, last = _range(what)
    calls = context.lineage.rows("calls_like", first=first, last=last) if len(what) <= len(first.hex()) else []
    for run, operation in calls:
        why = f"musubito why {short(binary(run).hex())}"
        return f"{what} is a call of {operation} that stored nothing; '{why}' explains it"
    return (
        f"no run, call or effect in doubt begins with {what}. 'musubito runs' lists the runs, 'musubito show RUN' its "
        "calls, 'musubito doctor' the effects."
    )


def _range(what: str) -> tuple[bytes, bytes]:
    """Return the first and the last id that begins with these digits."""
    digits = 2 * LONGEST["call"]
    first, last = (bytes.fromhex(what[:digits].ljust(digits, digit)) for digit in "0f")
    return first, last


def _unknown(context: CommandContext, what: str, *, is_id: bool) -> str:
    if is_id:
        return f"{what!r} is too short: an id takes at least {SHORTEST} digits. 'musubito runs' lists the runs."
    return f"no run and no step is called {what!r}; " + suggestion(
        context.lineage, what, "'musubito runs' lists the runs."
    )
