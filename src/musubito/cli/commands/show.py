"""`musubito show`: show one run with its calls, or one call with its input and output."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import click
from rich.console import Group, RenderableType
from rich.text import Text

from musubito.cli.call_tree import calls_table, lines, print_failures
from musubito.cli.context import CommandContext, as_json, json_option, no_inputs_option
from musubito.cli.follow import follow
from musubito.cli.targets import run_or_node_or_effect
from musubito.lineage import Attempt, CallReport, Lineage, NodeReport, RunReport
from musubito.lineage.readers.calls_of_run import without_routers
from musubito.lineage.readers.cost_format import cost_text
from musubito.lineage.readers.files import FileRead, files_read
from musubito.lineage.readers.formatting import (
    NO_CALLS,
    clean,
    count,
    duration,
    edited_by,
    not_shown,
    one_line,
    short,
    times,
    when,
    words_of_tags,
)
from musubito.lineage.readers.run_reader import FIRST_CALLS
from musubito.lineage.readers.run_texts import failures_of_run
from musubito.lineage.readers.unknown_effects import UnknownEffect, is_settled_as_happened
from musubito.lineage.readers.unrepeatable import unrepeatable_of
from musubito.lineage.readers.why import with_reasons
from musubito.lineage.reports import WITHHELD, without_texts

LINES: Final = 40
"""Lines that are shown of an input or an output at most."""
MAX_FAILURES: Final = 20
"""Failed calls of a run that are shown at most."""
FILES: Final = 10
"""Files of a call that are shown at most."""
ERASED: Final = "(erased)"
ERASED_BY: Final = "it was erased with 'musubito forget'"


@click.command(
    "show",
    short_help="One run with its calls, or one call with its input and output.",
    epilog="Example: musubito show last --live",
)
@click.argument("what", metavar="[RUN|CALL|STEP|EFFECT]", default="last")
@click.option(
    "--live",
    is_flag=True,
    help="Follow a run that is in progress, until it ends; what takes over a second is shown as it runs.",
)
@click.option(
    "--all",
    "all_",
    is_flag=True,
    help=f"Also calls of routers (conditional edges), and all calls of a run of over {FIRST_CALLS:,}.",
)
@json_option
@no_inputs_option
@click.pass_obj
def command(context: CommandContext, what: str, live: bool, all_: bool, json_: bool, no_inputs: bool) -> None:
    """Show one run with its calls, or one call with its input and output.

    RUN is an id, a name (its newest run) or "last", which is shown without an argument. CALL is an id as the run lists
    it, STEP a name that stands for its newest call, EFFECT an id of an effect whose outcome is unknown. In the tree: ●
    replayed, ○ ran, ✗ failed; beside each what it took, or what its replay saved, why, and its id.

    \b
    call         a step was asked once in a run, and was replayed or ran
    step result  what answers a call: its id is that of the call
    execution    one actual run of a step's function
    run          one top-level piece of work, such as a graph's invocation
    replayed     an earlier result was returned, and the function did not run
    ran          the function was called, for the reason that is told
    reason       why a call ran or was replayed; 'musubito why' explains it
    sample       one of several stored answers of a STOCHASTIC step
    effect       a call of an EXTERNAL_EFFECT, which is never repeated by itself
    """  # noqa: D301 - Click leaves a paragraph after \b as it is
    target = run_or_node_or_effect(context, what, limit=None if all_ else FIRST_CALLS)
    if isinstance(target, UnknownEffect):
        _show_effect(context, target, json_=json_, contents=not no_inputs)
        return
    if isinstance(target, NodeReport):
        if live:
            raise click.UsageError("--live follows a run, and this is a call; give the id or the name of a run")
        _show_node(context, target, json_=json_, contents=not no_inputs)
        return
    if live:
        target = follow(context, target.summary.run_id, partial(head, contents=not no_inputs))
    report = with_reasons(context.lineage, target)
    if no_inputs and report.summary.tags is not None:
        report = replace(report, summary=replace(report.summary, tags=None))
    ended = report
    if report.summary.failed and len(report.calls) < report.summary.calls:
        ended = context.lineage.run(report.summary.run_id, limit=FIRST_CALLS, replayed=False)
    failed = failures_of_run(context.lineage, ended, contents=not no_inputs)
    if json_:
        context.json({**as_json(report), "failures": failed})
    else:
        calls = report.calls if all_ else without_routers(report.calls)
        tree = lines(calls, _edited(context.lineage, calls))
        context.console.print(Group(head(report, contents=not no_inputs), calls_table(tree, context.console.width)))
        if len(calls) < len(report.calls):
            hidden = times(len(report.calls) - len(calls), "call of a router", "calls of routers")
            context.print_text(Text(f"{hidden} left out; --all shows them", style="dim"))
        later = report.summary.calls - len(report.calls)
        if later:
            context.print_text(Text(f"{times(later, 'later call')} left out; --all shows them", style="dim"))
        if len(failed) > MAX_FAILURES:
            every = f"'musubito why {short(report.summary.run_id)}' shows all"
            context.print_text(f"\nThe first {MAX_FAILURES} failed calls ({every}):")
        elif failed:
            click.echo()
        print_failures(context.console, failed[:MAX_FAILURES])


# -- a run -------------------------------------------------------------------------------------------------------------
def head(report: RunReport, *, contents: bool) -> RenderableType:
    """Return the name, the end, the outcomes and the costs of a run, as lines."""
    run = report.summary
    title = Text.assemble("run ", (short(run.run_id), "bold"), f"  {one_line(run.name or '')}")
    about = [run.status, when(run.started_at)]
    words, tags = words_of_tags((run.tags or {}) if contents else {})
    about += words
    if tags:
        about.append("tags " + ", ".join(one_line(f"{key}={value}") for key, value in tags.items()))
    ended = report.outcomes
    outcomes = [(ended[outcome], outcome) for outcome in dict.fromkeys(("ran", "replayed", "failed", *sorted(ended)))]
    calls = ", ".join(f"{count(number)} {outcome}" for number, outcome in outcomes if number)
    if not calls:
        calls = {"running": "no calls yet", "stopped": "no calls were recorded before it stopped"}.get(
            run.status, NO_CALLS
        )
    head = [title, Text(clean(" · ".join(about))), Text(f"{calls}")]
    head.append(Text(f"spent {cost_text(run.spent, by_model=True)}"))
    if run.replayed:
        head.append(Text(f"saved {cost_text(run.saved, by_model=True, estimate=True)}"))
    return Group(*head, Text(""))


def _edited(lineage: Lineage, calls: Sequence[CallReport]) -> set[int | None]:
    """Return the executions behind these calls that hold what a person wrote."""
    edits = lineage.edits(call.execution for call in calls if call.execution is not None)
    return {number for number, edit in edits.items() if not edit.undone}


# -- an effect ---------------------------------------------------------------------------------------------------------
def _show_effect(context: CommandContext, effect: UnknownEffect, *, json_: bool, contents: bool) -> None:
    if not contents:
        effect = effect._replace(arguments=None)
    if json_:
        context.json({"effect": effect})
        return
    facts = [
        ("effect", effect.effect_key),
        ("step", effect.operation),
        ("status", effect.says),
        ("begun", when(effect.began_at)),
        ("key", f"{effect.idempotency_key}  (idempotency key)"),
        ("last call", effect.node_id),
        ("what to do", effect.remedy),
    ]
    for label, text in facts:
        if text:
            context.print_text(clean(text), prefix=Text(f"{label:<12}", style="dim"))
    text = WITHHELD if not contents else "(not stored)" if effect.arguments is None else _text(effect.arguments)
    context.console.print(Text.assemble(("\narguments\n", "bold"), text), soft_wrap=True)


# -- a call ------------------------------------------------------------------------------------------------------------
def _show_node(context: CommandContext, node: NodeReport, *, json_: bool, contents: bool) -> None:
    if not contents:
        node = without_texts(node)
    attempt = context.lineage.attempt(node)
    input_ = context.lineage.input(node) if contents and node.input_hash else None
    output = context.lineage.output(node) if contents else None
    files, unrepeatable = files_read(context.lineage, [node]), unrepeatable_of(context.lineage, node)
    if json_:
        document = {"node": node, "attempt": attempt, "input": input_, "output": output}
        context.json({**document, "files": as_json(files), "unrepeatable": unrepeatable})
        return
    notes = (("repeatable", f"no: {thing}") for thing in unrepeatable)
    settled = is_settled_as_happened(context.lineage, node)
    facts = _facts(node, attempt, ran=_ran(context.lineage, node), settled=settled)
    for label, text in [*facts, *_files(files), *notes]:
        context.print_text(clean(text), prefix=Text(f"{label:<12}", style="dim"))
    for label, value in (("input", input_), ("output", output)):
        if not contents:
            text = WITHHELD
        elif value is None:
            absent = "null, or not stored" if label == "output" and node.execution else "not stored"
            text = ERASED if node.is_erased else f"({absent})"
        else:
            text = _text(value)
        context.console.print(Text.assemble((f"\n{label}\n", "bold"), text), soft_wrap=True)


def _ran(lineage: Lineage, node: NodeReport) -> str:
    """Return when the function of a result ran, and what that took; "" if it is not known."""
    execution = node.execution
    if execution is None:
        return ""
    if execution.edit is None or execution.edit.undone:
        return f"{when(execution.started_at)}, {cost_text(execution.cost, by_model=True)}"
    rows = lineage.rows("run_before_edits", execution=execution.number)
    return f"{when(rows[0][0])}, took {duration(rows[0][1])}" if rows else ""


def _facts(node: NodeReport, attempt: Attempt | None, *, ran: str, settled: bool) -> list[tuple[str, str]]:
    facts = [
        ("call", node.node_id),
        ("step", f"{node.operation or 'unknown'}  (namespace {node.namespace})" if node.namespace else "unknown"),
        ("status", node.status.value),
        ("type", node.step_type + (f", sample {node.sample}" if node.sample else "")),
    ]
    if node.execution is not None:
        execution = node.execution
        if settled:
            facts.append(("settled", f"{when(execution.started_at)}, as happened: it did not run"))
        else:
            facts.append(("ran", ran))
        if execution.producer_node_id != node.node_id:
            facts.append(("under", f"{short(execution.producer_node_id)}, whose result answers here too"))
        if execution.edit is not None:
            facts.append(("edited", edited_by(execution.edit).removeprefix("edited ")))
        facts.append(("artifact", execution.artifact_id or "none: it cannot be stored"))
        if execution.not_replayable is not None:
            facts.append(("replay", f"never: {ERASED_BY if node.is_erased else execution.not_replayable}"))
        if execution.never is not None:
            facts.append(("what to do", execution.never.remedy))
    if attempt is not None:
        facts.append(("ran", f"{when(attempt.started_at)}, failed: {cost_text(attempt.cost, by_model=True)}"))
    if node.error is not None:
        facts.append(("error", ERASED if node.is_erased else one_line(node.error)))
    facts.append(("code", short(node.code)))
    return [(label, text) for label, text in facts if text]


def _files(files: Sequence[FileRead]) -> Iterator[tuple[str, str]]:
    for number, file in enumerate(files[:FILES]):
        yield "read" if number == 0 else "", str(file)
    if len(files) > FILES:
        yield "", f"... and {count(len(files) - FILES)} more; --json shows all"


def _text(value: Any) -> str:
    why_not = not_shown(value)
    if why_not is not None:
        return why_not
    # A text of several lines is shown as lines, and not as JSON.
    is_long = isinstance(value, str) and "\n" in value
    text = clean(value if is_long else json.dumps(as_json(value), indent=2, ensure_ascii=False)).splitlines()
    if len(text) > LINES:
        text[LINES:] = [f"... {count(len(text) - LINES)} more lines; --json shows all"]
    return "\n".join(text)
