"""`musubito savings`: show what was spent, and what replays saved."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

import click
from rich.console import Console

from musubito.cli.context import CommandContext, as_json, json_option, no_runs_text
from musubito.cli.table_layout import Name, table_of
from musubito.lineage.readers.cost_format import cost_text, unpriced_note, worth
from musubito.lineage.readers.formatting import WIDE, clean, duration, one_line, short, times
from musubito.lineage.readers.savings import By, Savings, SavingsRow, savings

BY_MODEL: Final = (
    "Calls that used several models appear in several rows; calls without a model appear only in the total."
)
KINDS_OF_ROW: Final[dict[str, By]] = {
    "day": "day",
    "model": "model",
    "step": "operation",
    "run": "run",
    "operation": "operation",
}
"""What may make a row, by the words for it. "operation" is what JSON calls a step; help does not show it."""
UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
"""The unit of time for each letter."""


def _since(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Return a date, a moment or an age as seconds since the epoch."""
    if value is None:
        return None
    ago = re.fullmatch(r"(\d{1,5})([mhdw])", value)
    try:
        if ago:
            return (datetime.now().astimezone() - timedelta(**{UNITS[ago[2]]: int(ago[1])})).timestamp()
        return datetime.fromisoformat(value).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        expected = "a date, as 2026-11-25 or 2026-11-25T08:30, or an age, as 30m, 12h, 7d, 4w"
        raise click.BadParameter(f"{value!r} is no time; give {expected}") from None


@click.command("savings", epilog="Example: musubito savings --by model --since 7d")
@click.option(
    "--by",
    default="day",
    show_default=True,
    type=click.Choice([*KINDS_OF_ROW]),
    metavar="[day|model|step|run]",
    callback=lambda _ctx, _option, word: KINDS_OF_ROW[word],
    help="What makes a row.",
)
@click.option("--since", metavar="WHEN", callback=_since, help="Only calls since then: a date, or 30m, 12h, 7d, 4w.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="How many rows are shown.")
@json_option
@click.pass_obj
def command(context: CommandContext, by: By, since: float | None, limit: int, json_: bool) -> None:
    """Show what was spent, and what replays saved.

    "hits" are the calls that were replayed, of all. Money is shown where the prices of the models are known (extra
    "prices"), tokens otherwise. A + says that tokens without a known price are left out.

    Compute is the sum of what calls took, each without the calls inside it. Calls side by side add up, so that it may
    exceed the wall: the time from the start of a run to its end. The wall saved is an estimate.

    By step, "saved" is counted for the step that was replayed, with all that it had called.
    """
    report = savings(context.lineage, since=since, by=by)
    if json_:
        document = as_json(report)
        for row in document["rows"] if by == "model" else ():
            # The time of a call cannot be divided among its models.
            row["compute_ms"] = row["saved_compute_ms"] = None
        context.json(document)
        return
    if not report.total.calls:
        click.echo(no_runs_text(context) if since is None else "Nothing has run since then; give an earlier --since.")
        return
    total = report.total
    context.console.print(f"Saved {cost_text(total.saved)}; spent {cost_text(total.spent)}.")
    if not report.rows:
        click.echo("No model has reported its tokens; 'musubito savings --by day' shows the time.")
        return
    click.echo()
    _print(context.console, report, limit)
    for note in (
        f"... and {times(len(report.rows) - limit, 'more row')}; --limit shows them."
        if len(report.rows) > limit
        else "",
        BY_MODEL if by == "model" else "",
        unpriced_note(total.spent + total.saved),
    ):
        if note:
            context.console.print(note)


def _print(console: Console, report: Savings, limit: int) -> None:
    timed, walled = report.by != "model", report.by == "run" and console.width >= WIDE
    priced = bool((report.total.spent + report.total.saved).total_tokens)
    columns = [
        next(word for word, by in KINDS_OF_ROW.items() if by == report.by),
        "hits",
        *(("spent", "saved") if priced else ()),
    ]
    columns += ["compute", "compute saved"] if timed else []
    columns += ["wall", "wall saved"] if walled else []
    rows: list[tuple[str | Name, ...]] = []
    for row in (*report.rows[:limit], report.total):
        key = "total" if row is report.total else _key(report.by, row)
        took = [duration(row.compute_ms), duration(row.saved_compute_ms)] if timed else []
        took += [_wall(row.wall_ms), _wall(row.saved_wall_ms, estimate=True)] if walled else []
        costs = (worth(row.spent), worth(row.saved)) if priced else ()
        # A `Name` is cut at its beginning, where a run has its id.
        rows.append((key if report.by == "run" else Name(key), f"{row.replayed:,}/{row.calls:,}", *costs, *took))
    console.print(table_of(columns, rows, console.width, total=True))


def _wall(milliseconds: float | None, *, estimate: bool = False) -> str:
    return "" if milliseconds is None else f"{'~' if estimate else ''}{duration(milliseconds)}"


def _key(by: By, row: SavingsRow) -> str:
    if by == "run":
        return f"{short(row.key)} {one_line(row.name or '')}".rstrip()
    return clean(row.key) or "(no name)"
