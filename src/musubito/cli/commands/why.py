"""`musubito why`: show why calls ran, and what changed since the nearest earlier call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import click
from rich.text import Text

from musubito.cli.call_tree import print_failures
from musubito.cli.context import (
    CommandContext,
    as_json,
    json_option,
    no_inputs_option,
    without_error_texts,
)
from musubito.cli.targets import effects_in_doubt, run_or_node_or_effect
from musubito.lineage import CallReport, NodeReport, RunReport
from musubito.lineage.readers.formatting import NO_CALLS, clean, count, edited_by, one_line, short, times, when
from musubito.lineage.readers.run_reader import FIRST_CALLS
from musubito.lineage.readers.run_texts import failures_of_run
from musubito.lineage.readers.unknown_effects import REMEDY, UnknownEffect
from musubito.lineage.readers.why import UNIDENTIFIED, Recorded, Why, why, whys, with_reasons
from musubito.lineage.reports import without_reason
from musubito.model import NodeStatus, ReplayReason
from musubito.values.value_diff import ABSENT, MOST

EQUAL_TEXTS: Final = (
    "Where they differ cannot be shown: what is stored of both is equal. Random ids, secrets and the code of "
    "classes are not stored as they are."
)
DIGESTS_ALONE: Final = "Of these, only digests are stored: their values cannot be shown."
UNSTORED: Final = "Where they differ cannot be shown: the inputs are not stored."
ERASED: Final = "Where they differ cannot be shown: an input was erased with 'musubito forget'."
EXPLAINED: Final = 20
"""The most calls of a run that are explained, of calls that differ."""


@click.command(
    "why", short_help="Why a call ran, or all that ran in a run.", epilog="Example: musubito why report/research"
)
@click.argument("what", metavar="RUN|CALL|STEP|EFFECT")
@click.option("--all", "all_", is_flag=True, help=f"Also the later ones of over {FIRST_CALLS:,} calls that ran.")
@json_option
@no_inputs_option
@click.pass_obj
def command(context: CommandContext, what: str, all_: bool, json_: bool, no_inputs: bool) -> None:
    """Show why a call ran, and what changed since the nearest earlier call of its step.

    The nearest call is one whose run has the same tags, such as a thread or a user, then the one whose input has most
    words in common. A call that follows from no other, and shares few words with any earlier one, is new.

    A RUN (an id, a name or "last") stands for all calls that ran in it, a STEP for its newest call. CALL is an id as
    'musubito show RUN' lists it, EFFECT an id of an effect in doubt.
    """
    target = run_or_node_or_effect(context, what, limit=None if all_ else FIRST_CALLS, replayed=False)
    contents = not no_inputs
    if isinstance(target, RunReport):
        _explain_run(context, target, json_=json_, contents=contents)
    elif isinstance(target, UnknownEffect):
        _explain_effect(context, target if contents else target._replace(arguments=None), json_=json_)
    else:
        report = why(context.lineage, target.node_id)
        if json_:
            context.json(_document(report, contents=contents))
        else:
            _print_report(context, report, contents=contents)


def _explain_run(context: CommandContext, report: RunReport, *, json_: bool, contents: bool) -> None:
    """Explain the calls of a run that were not replayed; of equal calls, the first one."""
    ran = with_reasons(context.lineage, report).calls
    kinds: dict[tuple[Any, ...], list[CallReport]] = {}
    # What failed comes first, and all of it is told.
    for call in sorted(ran, key=lambda call: call.outcome != "failed"):
        kinds.setdefault((call.namespace, call.operation, call.outcome, call.reason), []).append(call)
    failed = {failure.number: failure for failure in failures_of_run(context.lineage, report, contents=contents)}
    stored = {call.number: call.reason for call in report.calls}
    explained = max(EXPLAINED, sum(outcome == "failed" for *_, outcome, _ in kinds))
    calls = ran if json_ else [alike[0] for alike in kinds.values()][:explained]
    reports = _whys_of_calls(context, [(call, (stored[call.number], report.outermost_started_at)) for call in calls])
    if json_:
        context.json(
            {
                "summary": report.summary if contents else replace(report.summary, tags=None),
                "calls": [
                    {"call": call, "why": None if why_call is None else _document(why_call, contents=contents)}
                    for call, why_call in zip(calls, reports, strict=True)
                ],
                "failures": [*failed.values()],
            }
        )
        return
    outcomes = Counter({"ran": 0, "replayed": 0})
    outcomes.update(report.outcomes)
    counts = ", ".join(f"{count(number)} {outcome}" for outcome, number in outcomes.items())
    context.print_text(
        Text.assemble(
            "run ",
            (short(report.summary.run_id), "bold"),
            f" {one_line(report.summary.name)}" if report.summary.name else "",
            f": {counts}",
        )
    )
    for call, why_call, alike in zip(calls, reports, kinds.values(), strict=False):
        context.console.print()
        if call.execution is None and call.reason is ReplayReason.OUTCOME_UNKNOWN:
            context.print_text(f"{clean(call.operation)} {short(call.node_id)} did not run: {call.reason.sentence}")
            effects = effects_in_doubt(context, call.operation)
            context.print_text(f"what to do: {effects[0].remedy if len(effects) == 1 else REMEDY}")
        elif why_call is None:
            context.print_text(f"{clean(call.operation)} {short(call.node_id)} {call.outcome}: {call.reason.sentence}")
        else:
            _print_report(context, why_call, contents=contents)
        if call.outcome == "failed":
            print_failures(context.console, (failed[each.number] for each in alike if each.number in failed))
        elif len(alike) > 1:
            others = times(len(alike) - 1, "call")
            context.print_text(
                Text(f"and {others} of {clean(call.operation)} for the same reason: {_ids(alike[1:])}", style="dim")
            )
    if len(kinds) > explained:
        context.print_text(
            f"\nand {count(len(kinds) - explained)} more; 'musubito show {short(report.summary.run_id)}' lists them"
        )
    if report.summary.calls == 0 and report.summary.status == "finished":
        context.print_text(f"\n{NO_CALLS}")
    later = report.summary.calls - report.summary.replayed - len(ran)
    if later:
        context.print_text(f"\nand {times(later, 'later call')} that ran; --all explains them, too")


def _ids(calls: Sequence[CallReport]) -> str:
    ids = [short(call.node_id) for call in calls[:3]]
    return ", ".join([*ids, *(["…"] if len(calls) > len(ids) else [])])


def _whys_of_calls(context: CommandContext, calls: Sequence[tuple[CallReport, Recorded]]) -> list[Why | None]:
    """Return the explanation of each call, or None if nothing of the call is stored any more."""
    numbers = context.lineage.numbers(call.node_id for call, _ in calls)
    stored = [(numbers[call.node_id], recorded) for call, recorded in calls if call.node_id in numbers]
    reports = iter(whys(context.lineage, stored))
    return [next(reports) if call.node_id in numbers else None for call, _ in calls]


def _explain_effect(context: CommandContext, effect: UnknownEffect, *, json_: bool) -> None:
    if json_:
        context.json({"effect": effect})
        return
    name = Text.assemble((clean(effect.operation), "bold"), f" {short(effect.effect_key)} ")
    context.print_text(name.append(f"is {effect.says}. It was begun at {when(effect.began_at)}."))
    context.print_text(f"what to do: {effect.remedy}")


def _document(report: Why, *, contents: bool) -> Any:
    document = {**as_json(report), "remedy": report.remedy}
    if not contents:
        document["files"] = [{**as_json(file), "diff": ""} for file in report.files]
        document["fields"] = [{"path": field.path, "before": None, "after": None} for field in report.fields]
        document = without_error_texts(document)
    return document


def _print_report(context: CommandContext, report: Why, *, contents: bool) -> None:
    screen = context.console

    def print_line(text: str | Text) -> None:
        screen.print(text, soft_wrap=True)

    failed = report.node.error if report.node.status is NodeStatus.FAILED else None
    if failed is not None and not contents:
        failed = failed.partition(":")[0]
    name = Text.assemble(
        (clean(report.node.operation or "of another store"), "bold"), f" {short(report.node.node_id)} "
    )
    if failed is None:
        context.print_text(name.append(_ran_because(report)))
    else:
        context.print_text(name.append(f"failed: {one_line(failed)}"))
        print_line(f"It {_ran_because(report)}.")
    if report.run_id is not None and report.replayed_since:
        run = one_line(f"{short(report.run_id)} {report.run_name or ''}").rstrip()
        execution = report.node.execution
        # An edited output is as old as the edit.
        at = f" at {when(execution.started_at)}" if execution is not None and execution.edit is None else ""
        context.print_text(f"that was{at} in the run {run}; it was replayed since")
    for node in (report.node, *report.edited):
        shown = node if contents else without_reason(node)
        if shown.execution is not None and shown.execution.edit is not None:
            output = "its output" if node is report.node else f"the output of {_parent(node)}"
            context.print_text(f"{output}: {edited_by(shown.execution.edit)}")
    if report.node.is_erased:
        context.print_text("its contents were erased with 'musubito forget'")
    elif report.never is not None and report.never.reason is not report.reason:
        context.print_text(f"a result stored for this call is never replayed: {clean(report.never.says)}")
    if report.same_code is not None:
        context.print_text(f"step `{clean(report.same_code)}` had the same code")
    if report.remedy:
        context.print_text(f"what to do: {clean(report.remedy)}")
    if report.files:
        context.print_text("\nfiles that changed")
    for file in report.files:
        print_line(f"  {clean(file.path)}" + (f" ({file.change})" if file.change != "changed" else ""))
        if contents:
            _print_diff(print_line, file.diff)
    if report.reads:
        how = "cannot be compared" if report.reason is ReplayReason.NOT_COMPARED else "changed"
        context.print_text(f"what it read that {how}: {clean(', '.join(report.reads))}")
    if report.nearest is None:
        return
    ran = f" of {when(report.nearest.execution.started_at)}" if report.nearest.execution is not None else ""
    context.print_text(
        Text(f"compared with {short(report.nearest.node_id)}{ran}, the earlier call most like it", style="dim")
    )
    if report.arguments:
        context.print_text(f"\narguments that changed: {clean(', '.join(report.arguments))}")
        if not report.fields:
            erased = any(node.is_erased for node in (report.node, report.nearest))
            around = all(name.startswith("$") for name in report.arguments)
            differ = DIGESTS_ALONE if around else EQUAL_TEXTS if report.inputs_stored else UNSTORED
            if report.hidden and not around:
                differ = f"Where they differ cannot be shown. Hidden as secrets are: {clean(', '.join(report.hidden))}"
            context.print_text(f"  {ERASED if erased else differ}")
    for field in report.fields:
        note = " (added)" if field.before == ABSENT else " (gone)" if field.after == ABSENT else ""
        print_line(f"  {clean(field.path)}{note}")
        for mark, text, colour in (("-", field.before, "red"), ("+", field.after, "green")):
            if contents and text != ABSENT:
                print_line(Text.assemble("    ", (f"{mark} {clean(text)}", colour)))
    if len(report.fields) == MOST:
        print_line("  ... these are the first; more may differ")
    if report.code:
        print_line("\ncode that changed")
    for part in report.code:
        note = "" if part.change == "changed" else f" ({part.change})"
        if part.change == "changed" and not part.diff:
            note = " (it has another value now, which is not stored)"
        print_line(f"  {clean(part.part)}{note}")
        _print_diff(print_line, part.diff)
    if report.parents:
        print_line("\nwhat it consumed")
    for before, after in report.parents:
        print_line(f"  {_parent(before)} → {_parent(after)}")
    if not (report.arguments or report.code or report.parents or report.files or report.reads):
        same = "Its input, its code and what it consumed are those of the earlier call."
        context.print_text(f"\n{EQUAL_TEXTS if report.reason is ReplayReason.INPUT_CHANGED else same}")


def _print_diff(print_line: Callable[[Text], None], diff: str) -> None:
    for line in clean(diff).splitlines()[2:]:
        print_line(Text(f"    {line}", style={"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")))


def _ran_because(report: Why) -> str:
    because = report.reason.sentence
    if report.never is not None and report.never.reason is report.reason:
        because = (
            report.never.says if report.reason in UNIDENTIFIED else f"its result is never replayed: {report.never.says}"
        )
    because = clean(because)
    execution = report.node.execution
    if report.reason is ReplayReason.EFFECT_HAPPENED:
        return f"did not run: {because}"
    if execution is not None and execution.producer_node_id != report.node.node_id:
        return f"did not run: {because}, and the result of {short(execution.producer_node_id)} answers here too"
    return f"ran: {because}"


def _parent(node: NodeReport | None) -> str:
    return "(nothing)" if node is None else clean(f"{node.operation or 'of another store'} {short(node.node_id)}")
