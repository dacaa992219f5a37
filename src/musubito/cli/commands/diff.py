"""`musubito diff`: show two runs side by side."""

from __future__ import annotations

from collections import Counter
from typing import Final

import click
from rich.console import Console
from rich.text import Text

from musubito.cli.commands.show import head
from musubito.cli.context import CommandContext, as_json, json_option
from musubito.cli.table_layout import Name, table_of
from musubito.lineage import RunReport
from musubito.lineage.readers.formatting import clean, edited_by, short, times
from musubito.lineage.readers.run_diff import CallDiff, RunDiff, compare_runs, compare_with_previous
from musubito.model import ReplayReason

REASON: Final = 32
"""Characters of a reason that are shown; a reason may name many arguments."""
MARKS: Final = {"changed": ("~", "yellow"), "added": ("+", "green"), "gone": ("-", "red")}
"""The mark and the colour of each change that is shown."""


@click.command("diff", short_help="What differs between two runs.", epilog="Example: musubito diff nightly last")
@click.argument("before", metavar="[RUN]", default="last")
@click.argument("after", metavar="[RUN]", required=False)
@json_option
@click.pass_context
def command(ctx: click.Context, before: str, after: str | None, json_: bool) -> None:
    """Show what differs between two runs: calls that changed (~), came (+) or went (-).

    A RUN is an id, a name (its newest run), or "last". One RUN alone is compared with the one of its name before it,
    and without a RUN the newest one is.
    Calls with one id and equal outputs are the same, whether they ran or were replayed. The calls that a replayed call
    does not make again count as no difference. Exit status 1 if the runs differ.
    """
    context: CommandContext = ctx.obj
    comparison = (
        compare_with_previous(context.lineage, before)
        if after is None
        else compare_runs(context.lineage, before, after)
    )
    if json_:
        context.json({"differ": comparison.differ, **as_json(comparison)})
    else:
        for run, calls in (
            (comparison.before, [call.before for call in comparison.calls if call.before is not None]),
            (comparison.after, [call.after for call in comparison.calls if call.after is not None]),
        ):
            context.console.print(head(RunReport(run, tuple(calls), run.started_at), contents=True))
        if comparison.differ:
            _print_calls(context.console, comparison)
            click.echo()
        for call in comparison.calls:
            if call.edit is not None and call.after is not None:
                name = f"{clean(call.operation)} {short(call.after.node_id)}"
                context.print_text(f"{name}: {edited_by(call.edit)}")
        context.print_text(_summary(comparison))
    if comparison.differ:
        ctx.exit(1)


def _print_calls(console: Console, comparison: RunDiff) -> None:
    # Calls that differ in the same way are one line, with their number.
    alike = Counter(
        (call.change, clean(call.operation), *_ends(call), _output(call), _why(call))
        for call in comparison.calls
        if call.change in MARKS
    )
    rows: list[tuple[str | Text | Name, ...]] = []
    for (change, operation, before, after, output, why), number in alike.items():
        mark, colour = MARKS[change]
        shown_reason = why if len(why) <= REASON else f"{why[: REASON - 1]}…"
        many = f"× {number:,}" if number > 1 else ""
        rows.append((Text(mark, style=colour), Name(operation), many, before, after, output, shown_reason))
    columns = ("", "step", "", "before", "after", "output", "why")
    console.print(table_of(columns, rows, console.width, name=1, texts=(0, 2, 3, 4, 5, 6)))


def _why(call: CallDiff) -> str:
    if call.edit is not None:
        return "the edit was undone" if call.edit.undone else "edited"
    if call.reason is None:
        return ""
    parts = f": {', '.join(call.parts)}" if call.parts and call.reason is ReplayReason.INPUT_CHANGED else ""
    return clean(f"{call.reason.word}{parts}")


def _ends(call: CallDiff) -> tuple[str, str]:
    return call.before.outcome if call.before else "", call.after.outcome if call.after else ""


def _output(call: CallDiff) -> str:
    return "" if call.same_output is None else "same" if call.same_output else "differs"


def _summary(comparison: RunDiff) -> str:
    counts = Counter(call.change for call in comparison.calls)
    same = [_ends(call) for call in comparison.calls if call.change == "same"]
    text = f"{times(counts['same'], 'call is', 'calls are')} the same"
    both = Counter(pair for pair in same if pair[0] == pair[1])
    alike = [f"{both[end, end]:,} {end} in both" for end in ("replayed", "ran") if both[end, end]]
    if alike:
        text += f" ({', '.join(alike)})"
    text += "".join(f", {counts[change]:,} {change}" for change in MARKS if counts[change])
    return f"{text}." if comparison.differ else f"The runs do not differ: {text}."
