"""`musubito rerun`: make recorded runs once more with today's code, and show which answers differ."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from musubito import MusubitoError, use_musubito_engine
from musubito.cli.commands.export import html_writer, writing
from musubito.cli.commands.runs import to_tags
from musubito.cli.context import CommandContext, CommandError, as_json, json_option
from musubito.cli.program import (
    REMEDY,
    called_without_arguments,
    json_option_value,
    made_by,
    makes_graph,
    named_in_module,
)
from musubito.cli.quantities import to_seconds
from musubito.cli.run_table import runs_table
from musubito.lineage import RerunReport, RerunRow, rerun_report
from musubito.lineage.readers.cost_format import money, unpriced_note, worth
from musubito.lineage.readers.formatting import clean, duration, one_line, short, times
from musubito.lineage.readers.prices import dollars
from musubito.lineage.readers.run_texts import text_of_output
from musubito.lineage.reruns.api import target_of
from musubito.lineage.reruns.cases import Case, Selection, cases_of, cases_of_inputs
from musubito.lineage.reruns.judge import Scores, scores_of, step_of_judge
from musubito.lineage.reruns.report import VERDICTS
from musubito.lineage.reruns.runner import RerunOptions, rerun_cases
from musubito.lineage.reruns.target import Target

SHOWN = 10
"""Rows that are shown without --all."""
MAX_TEXT = 300
"""Characters of an answer that are shown."""
MAX_STEPS = 4
"""Steps that are named in one line."""


class _RerunGroup(click.Group):
    """A group whose first argument may be a target in place of a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments as Click does; without a command, they are those of `start`."""
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["start", *args]
        return super().parse_args(ctx, args)


@click.group(
    "rerun",
    cls=_RerunGroup,
    short_help="Make recorded runs once more with today's code.",
    epilog="Example: musubito rerun app:graph --last 50 --budget 1.00",
    subcommand_metavar="TARGET [OPTIONS] | show RERUN | list",
)
def command() -> None:
    """Make recorded runs once more with today's code, and show which answers differ.

    'musubito rerun TARGET --help' lists the options.
    """


def _live(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Sequence[str] | bool:
    return () if value is None else True if value == "*" else tuple(filter(None, value.split(",")))


def _can_be_written(_ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Raise an error for a file that cannot be written before anything runs."""
    if value is not None:
        html_writer()
        with writing(value, param.opts[0]):
            pass
    return value


html_option = click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    callback=_can_be_written,
    help="Also write it as one HTML file, with both answers of each run that differs.",
)


@command.command("start", short_help="Make the runs of TARGET once more; the word may be left out.")
@click.argument("target")
@click.option("--last", type=click.IntRange(1), metavar="N", help="The newest N runs. Default: 20.")
@click.option("--run", "runs", multiple=True, metavar="RUN", help="These runs, by their ids.")
@click.option("--since", callback=to_seconds, metavar="AGE", help="Only runs that began since then: 30d, 12h or 2w.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", callback=to_tags, help="Only runs with this tag.")
@click.option("--where", metavar="TEXT", help="Only runs whose input holds it, such as '$.user=\"ann\"'.")
@click.option(
    "--inputs",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Inputs in place of runs: a file with one JSON value a line.",
)
@click.option(
    "--live-tools",
    "live",
    is_flag=False,
    flag_value="*",
    callback=_live,
    metavar="[NAMES]",
    help="Let these live tools and steps run, as search,fetch; without names, all.",
)
@click.option("--samples", default=1, type=click.IntRange(1), help="How often each run is made. Default: once.")
@click.option("--budget", type=click.FloatRange(0), metavar="DOLLARS", help="Stop before the call that would pass it.")
@click.option(
    "--concurrency", default=4, show_default=True, type=click.IntRange(1), help="Runs that are made at a time."
)
@click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A config, as a JSON file."
)
@click.option("--context", "context_", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A context.")
@click.option("--call", "call_", metavar="JSON", help="What a function that returns a graph is called with.")
@click.option("--judge", metavar="MODULE:NAME", help="A function of (input, before, after) that returns scores.")
@click.option("--fail-under", type=float, metavar="SCORE", help="Status 1 if a mean is lower, or a run has no answer.")
@html_option
@json_option
@click.pass_obj
def start(
    context: CommandContext,
    target: str,
    last: int | None,
    runs: Sequence[str],
    since: float | None,
    tags: dict[str, str],
    where: str | None,
    inputs: Path | None,
    live: Sequence[str] | bool,
    samples: int,
    budget: float | None,
    concurrency: int,
    config: Path | None,
    context_: Path | None,
    call_: str | None,
    judge: str | None,
    fail_under: float | None,
    html: Path | None,
    json_: bool,
) -> None:
    """Make recorded runs of TARGET once more with today's code, and show which answers differ.

    TARGET is path/to/file.py:name or module:name: a graph, a function that returns one, or a step.

    A call whose code and input are those of before is answered as it was. The others run, and are recorded. Live steps,
    tools and external effects are answered as they were when they were asked the same; a run that asks them something
    new has diverged, and stops there.

    Ctrl-C keeps what was done: the same command replays it, and goes on.
    """
    if fail_under is not None and judge is None:
        raise click.UsageError("--fail-under needs a --judge")
    if fail_under is not None and not isfinite(fail_under):
        raise click.UsageError(f"--fail-under is a number, not {fail_under}")
    if inputs is not None and (last or runs or since is not None or tags or where is not None):
        raise click.UsageError("--inputs stands in place of runs: leave out --last, --run, --since, --tag and --where")
    lineage = context.lineage
    with called_without_arguments(target), use_musubito_engine(context.engine):
        what = _target(context, target, call_)
        scoring = None if judge is None else step_of_judge(named_in_module(context, judge)[1])
        try:
            options = RerunOptions(
                live, samples, budget, concurrency, _file("--config", config) or {}, _file("--context", context_)
            )
        except (TypeError, ValueError) as error:
            raise CommandError(str(error)) from None
        if inputs is not None:
            cases = cases_of_inputs(what, _lines(inputs), context.engine.namespace)
        else:
            began = 0.0 if since is None else context.engine.now() - since
            newest = None if runs else last or (20 if since is None and not tags and where is None else None)
            cases = cases_of(lineage, what, Selection(newest, began, tags, where, runs), options.known)
        run_id = _made(context, what, cases, options, scoring, bar=not json_)
    report = rerun_report(lineage, run_id)
    _write(report, html)
    _show(context, report, json_=json_, most=SHOWN)
    scores = scores_of(report)
    if fail_under is not None:
        low = [f"{score.name} {score.mean:.3g}" for score in scores if score.mean < fail_under]
        unjudged = Counter(row.verdict for row in report.rows if not row.scores)
        bad = [f"{number} {VERDICTS[verdict]}, without a score" for verdict, number in unjudged.items()]
        if low or bad:
            click.echo(f"--fail-under {fail_under:g}: {'; '.join([*low, *bad])}", err=True)
            raise click.exceptions.Exit(1)


@command.command("show", short_help="Show a rerun that was made.", epilog="Example: musubito rerun show last --all")
@click.argument("rerun", default="last")
@click.option("--all", "all_", is_flag=True, help="Show all runs, those with the same answer, too.")
@html_option
@json_option
@click.pass_obj
def show(context: CommandContext, rerun: str, all_: bool, html: Path | None, json_: bool) -> None:
    """Show a rerun: its runs, what each answered before, and what it answers now.

    RERUN is the id of a rerun, or "last".
    """
    report = rerun_report(context.lineage, rerun)
    _write(report, html)
    _show(context, report, json_=json_, most=None if all_ else 50, same=all_)


@command.command("list", short_help="List the newest reruns.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="How many are listed.")
@json_option
@click.pass_obj
def list_(context: CommandContext, limit: int, json_: bool) -> None:
    """List the newest reruns, newest first."""
    runs = context.lineage.reruns(limit)
    if json_:
        context.json({"reruns": runs})
    elif not runs:
        context.print_text("Nothing was rerun yet: musubito rerun TARGET.")
    else:
        context.console.print(runs_table(runs, context.console.width))


def _target(context: CommandContext, target: str, call: str | None) -> Target:
    module, thing = named_in_module(context, target)
    if call is not None or makes_graph(thing):
        thing = made_by(context, target, thing, json_option_value("--call", call or "[]"))
    try:
        return target_of(thing, module.__name__)
    except MusubitoError as error:
        raise CommandError(f"{target}: {error}. {REMEDY}") from error


def _file(option: str, path: Path | None) -> Any:
    return None if path is None else json_option_value(option, _text(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{path} is no text in UTF-8: {error}") from None


def _lines(path: Path) -> list[Any]:
    """Return the values of a file with one JSON value a line."""
    values = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if line.strip():
            try:
                values.append(json.loads(line))
            except ValueError as error:
                raise click.UsageError(f"{path}, line {number}, is not JSON: {error}") from None
    return values


def _made(
    context: CommandContext, target: Target, cases: list[Case], options: RerunOptions, judge: Any, *, bar: bool
) -> str:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("runs"))
    bar = bar and context.console.is_terminal
    try:
        with Progress(*columns, console=context.console, disable=not bar, transient=True) as progress:
            task = progress.add_task(f"rerun {target.name}")

            def tell(done: int, total: int, spent: float) -> None:
                progress.update(task, completed=done, total=total, description=f"spent {money(spent)}")

            return rerun_cases(context.lineage, target, cases, options, judge, tell)
    except KeyboardInterrupt:
        click.echo("What was done is kept: 'musubito rerun show' shows it, and the same command goes on.", err=True)
        raise


# -- to show it --------------------------------------------------------------------------------------------------------


def _write(report: RerunReport, html: Path | None) -> None:
    if html is not None:
        writer: Any = html_writer()
        with writing(html, "--html"):
            html.write_text(writer.html_of_rerun(report), encoding="utf-8")


def _show(context: CommandContext, report: RerunReport, *, json_: bool, most: int | None, same: bool = False) -> None:
    if json_:
        document = as_json(report)
        listed = [{**as_json(row), "differences": row.differences} for row in report.rows]
        summed = {
            scores.name: {
                "mean": scores.mean,
                "count": scores.count,
                "worst": [{"score": score, "rerun_id": row.rerun_id} for score, row in scores.worst],
            }
            for scores in scores_of(report)
        }
        money_of = {"spent_dollars": dollars(report.spent), "whole_dollars": dollars(report.whole)}
        context.json({**document, "counts": report.counts, "scores": summed, **money_of, "rows": listed})
        return
    for line in _summary(report):
        context.print_text(line)
    for scores in scores_of(report):
        for line in _scored(scores):
            context.print_text(line, prefix="  ")
    rows = [row for row in report.rows if same or row.verdict != "same"]
    for row in rows[:most]:
        context.print_text("")
        for line in _row(row):
            context.print_text(line)
    if most is not None and len(rows) > most:
        context.print_text("")
        shown = f"musubito rerun show {short(report.summary.run_id)} --all"
        context.print_text(f"{len(rows) - most:,} more: {shown}")


def _summary(report: RerunReport) -> list[str]:
    counts = [f"{number:,} {VERDICTS[verdict]}" for verdict, number in report.counts.items()]
    if report.left:
        counts.append(f"{report.left:,} not made")
    parts = [f"ran {report.ran:,} of {report.calls:,} calls"]
    spent, whole = worth(report.spent), worth(report.whole)
    is_whole = not report.left and report.counts.keys() <= {"same", "differs", "new", "not rerun"}
    if whole:
        parts.append(f"spent {spent or 'nothing'}" + (f", a full rerun {whole}" if is_whole else ""))
    if judging := worth(report.judging):
        parts.append(f"judging {judging}")
    if report.summary.wall_ms is not None:
        parts.append(duration(report.summary.wall_ms))
    what = f"{times(len(report.rows), 'run')} of {clean(report.target)}"
    if report.edited:
        what += f", code edited since: {_named(map(clean, report.edited))}"
    lines = [what, f"  {' · '.join(counts)}", f"  {' · '.join(parts)}"]
    if report.steps:
        lines.append(f"  what ran: {_named(f'{clean(name)} {number:,}' for name, number in report.steps.items())}")
    if report.not_run:
        lines.append(
            f"  not known: {_named(map(clean, report.not_run))} edited, and answered as before; --live-tools runs it"
        )
    note = unpriced_note(report.whole) if report.whole.total_tokens else ""
    return [*lines, f"  {note}"] if note else lines


def _named(names: Iterable[str]) -> str:
    steps = list(names)
    more = f" and {times(len(steps) - MAX_STEPS, 'more step')}" if len(steps) > MAX_STEPS else ""
    return ", ".join(steps[:MAX_STEPS]) + more


def _scored(scores: Scores) -> list[str]:
    lowest = [
        f"  {score:.3g}  {short(row.rerun_id or '')}  {_asked(row)}"
        for score, row in scores.worst
        if score < scores.mean
    ]
    text = f"{clean(scores.name)}: mean {scores.mean:.3g} over {times(scores.count, 'answer')}"
    return [f"{text}, the lowest:" if lowest else text, *lowest]


def _asked(row: RerunRow) -> str:
    return one_line(clean(row.question))[:100]


def _row(row: RerunRow) -> list[str]:
    run = short(row.rerun_id or (row.run_ids[0] if row.run_ids else ""))
    lines = [f"{row.verdict}  {run}  {_asked(row)}"]
    if row.why:
        lines.append(f"  {one_line(clean(row.why))}")
    if row.verdict == "differs":
        before, after = text_of_output(row.before), text_of_output(row.after)
        if before != after:
            lines += [f"    - {_cut(before)}", f"    + {_cut(after)}"]
        else:
            lines += [f"    {clean(str(difference))}" for difference in row.differences[:3]]
    if row.verdict == "new":
        lines.append(f"    + {_cut(text_of_output(row.after))}")
    return lines


def _cut(text: str) -> str:
    shown = one_line(clean(text))
    return shown if len(shown) <= MAX_TEXT else f"{shown[: MAX_TEXT - 1]}…"
