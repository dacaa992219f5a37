"""`musubito why`: show what tells a node from the nearest earlier one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import click
from rich.text import Text

from musubito.cli.context import Here, as_json, json_option, no_inputs_option, says_what_is_wrong, without_error_texts
from musubito.cli.formatting import clean, count, one_line, short, times, when
from musubito.cli.targets import run_or_node_or_effect
from musubito.lineage import CallReport, LineageError, NodeReport, RunReport
from musubito.lineage.unknown_effects import REMEDY, UnknownEffect
from musubito.lineage.why import UNIDENTIFIED, Why, why, with_reasons
from musubito.model import NodeStatus, ReplayReason
from musubito.values.value_diff import MOST

__all__ = ["command"]


ALIKE: Final = (
    "Where they differ cannot be shown: what is stored of both is equal. Random ids, secrets and the code of "
    "classes are not stored as they are."
)
UNSTORED: Final = "Where they differ cannot be shown: the inputs are not stored."
ERASED: Final = "Where they differ cannot be shown: an input was erased with 'musubito forget'."
EXPLAINED: Final = 20
"""Different calls of a run that are explained at most."""


@click.command(
    "why", short_help="Why a call ran, or all that ran in a run.", epilog="Example: musubito why report/research"
)
@click.argument("what", metavar="RUN|CALL|STEP|EFFECT")
@json_option
@no_inputs_option
@click.pass_obj
@says_what_is_wrong
def command(here: Here, what: str, json_: bool, no_inputs: bool) -> None:
    """Show why a call ran, and what changed since the nearest earlier call of its step.

    A RUN (an id, a name or "last") stands for all calls that ran in it, a STEP for its newest call. CALL is an id as
    'musubito show RUN' lists it, EFFECT an id of an effect in doubt.
    """
    found, contents = run_or_node_or_effect(here, what), not no_inputs
    if isinstance(found, RunReport):
        _of_run(here, found, json_=json_, contents=contents)
    elif isinstance(found, UnknownEffect):
        _of_effect(here, found, json_=json_)
    else:
        explained = why(here.lineage, found.node_id)
        if json_:
            here.json(_document(explained, contents=contents))
        else:
            _tell(here, explained, contents=contents)


def _of_run(here: Here, report: RunReport, *, json_: bool, contents: bool) -> None:
    """Explain all calls of a run that ran; of calls that are alike, the first one."""
    ran = [call for call in with_reasons(here.lineage, report).calls if call.outcome != "replayed"]
    kinds: dict[tuple[Any, ...], list[CallReport]] = {}
    for call in ran:
        kinds.setdefault((call.namespace, call.operation, call.outcome, call.reason), []).append(call)
    stored = {call.number: call.reason for call in report.calls}
    calls = ran if json_ else [alike[0] for alike in kinds.values()][:EXPLAINED]
    explained = [_of_call(here, call, stored[call.number], report.summary.started_at) for call in calls]
    if json_:
        here.json(
            {
                "summary": report.summary if contents else replace(report.summary, tags=None),
                "calls": [
                    {"call": call, "why": None if each is None else _document(each, contents=contents)}
                    for call, each in zip(calls, explained, strict=True)
                ],
            }
        )
        return
    replayed = len(report.calls) - len(ran)
    here.say(
        Text.assemble(
            "run ",
            (short(report.summary.run_id), "bold"),
            f" {one_line(report.summary.name or '')}: {count(len(ran))} ran, {count(replayed)} replayed",
        )
    )
    for call, each, alike in zip(calls, explained, kinds.values(), strict=False):
        here.console.print()
        if each is None:
            here.say(f"{clean(call.operation)} {short(call.node_id)} {call.outcome}: {call.reason.sentence}")
        else:
            _tell(here, each, contents=contents)
        if len(alike) > 1:
            more = times(len(alike) - 1, "call")
            here.say(Text(f"and {more} of {clean(call.operation)} for the same reason: {_ids(alike[1:])}", style="dim"))
    if len(kinds) > EXPLAINED:
        here.say(
            f"\nand {count(len(kinds) - EXPLAINED)} more; 'musubito show {short(report.summary.run_id)}' lists them"
        )


def _ids(calls: Sequence[CallReport]) -> str:
    some = [short(call.node_id) for call in calls[:3]]
    return ", ".join([*some, *(["…"] if len(calls) > len(some) else [])])


def _of_call(here: Here, call: CallReport, reason: ReplayReason, began: float) -> Why | None:
    """Explain a call of a run; None if nothing is stored of it any more."""
    try:
        return why(here.lineage, call.node_id, (reason, began))
    except LineageError:
        return None


def _of_effect(here: Here, effect: UnknownEffect, *, json_: bool) -> None:
    if json_:
        here.json({"effect": effect})
        return
    name = Text.assemble((clean(effect.operation), "bold"), f" {short(effect.effect_key)} is in doubt: ")
    here.say(name.append(f"it was begun at {when(effect.began_at)}, and it is not known whether it took place"))
    here.say(f"what to do: {REMEDY}")


def _document(told: Why, *, contents: bool) -> Any:
    document = {**as_json(told), "remedy": told.remedy}
    if not contents:
        document["files"] = [{**as_json(each), "diff": ""} for each in told.files]
        document["fields"] = [{"path": each.path, "before": None, "after": None} for each in told.fields]
        document = without_error_texts(document)
    return document


def _tell(here: Here, told: Why, *, contents: bool) -> None:
    screen = here.console

    def say(text: str | Text) -> None:
        screen.print(text, soft_wrap=True)

    failed = told.node.error if told.node.status is NodeStatus.FAILED else None
    if failed is not None and not contents:
        failed = failed.partition(":")[0]
    name = Text.assemble((clean(told.node.operation or "of another store"), "bold"), f" {short(told.node.node_id)} ")
    if failed is None:
        here.say(name.append(_ran(told)))
    else:
        here.say(name.append(f"failed: {one_line(failed)}"))
        say(f"It {_ran(told)}.")
    if told.node.is_erased:
        here.say("its contents were erased with 'musubito forget'")
    elif told.never is not None and told.never.reason is not told.reason:
        here.say(f"a result stored for this call is never replayed: {clean(told.never.says)}")
    if told.remedy:
        here.say(f"what to do: {clean(told.remedy)}")
    if told.files:
        here.say("\nfiles that changed")
    for file in told.files:
        say(f"  {clean(file.path)}" + (f" ({file.change})" if file.change != "changed" else ""))
        if contents:
            _show_diff(say, file.diff)
    if told.reads:
        here.say(f"what it read that changed: {clean(', '.join(told.reads))}")
    if told.nearest is None:
        return
    ran = f" of {when(told.nearest.execution.started_at)}" if told.nearest.execution is not None else ""
    here.say(Text(f"compared with {short(told.nearest.node_id)}{ran}, the earlier call most like it", style="dim"))
    if told.arguments:
        here.say(f"\narguments that changed: {clean(', '.join(told.arguments))}")
        if not told.fields:
            erased = any(node.is_erased for node in (told.node, told.nearest))
            here.say(f"  {ALIKE if told.inputs_stored else ERASED if erased else UNSTORED}")
    for field in told.fields:
        say(f"  {clean(field.path)}")
        if contents:
            say(Text.assemble("    ", ("- " + clean(field.before), "red")))
            say(Text.assemble("    ", ("+ " + clean(field.after), "green")))
    if len(told.fields) == MOST:
        say("  ... these are the first; more may differ")
    if told.code:
        say("\ncode that changed")
    for part in told.code:
        how = "" if part.change == "changed" else f" ({part.change})"
        if part.change == "changed" and not part.diff:
            how = f" (changed: {_textless(part.part)})"
        say(f"  {clean(part.part)}{how}")
        _show_diff(say, part.diff)
    if told.parents:
        say("\nwhat it consumed")
    for before, after in told.parents:
        say(f"  {_parent(before)} → {_parent(after)}")
    if not (told.arguments or told.code or told.parents or told.files or told.reads):
        same = "Its input, its code and what it consumed are those of the earlier call."
        here.say(f"\n{ALIKE if told.reason is ReplayReason.INPUT_CHANGED else same}")


def _textless(part: str) -> str:
    """Return the words for a part of code that has no text to show."""
    return ("a tool" if "tool" in part.lower() else "an object") + " without text, such as a description or a setting"


def _show_diff(say: Callable[[Text], None], diff: str) -> None:
    for line in clean(diff).splitlines()[2:]:
        say(Text(f"    {line}", style={"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")))


def _ran(told: Why) -> str:
    because = told.reason.sentence
    if told.never is not None and told.never.reason is told.reason:
        because = told.never.says if told.reason in UNIDENTIFIED else f"its result is never replayed: {told.never.says}"
    because = clean(because)
    done = told.node.execution
    if done is not None and done.producer_node_id != told.node.node_id:
        return f"did not run: {because}, and the result of {short(done.producer_node_id)} answers here too"
    return f"ran: {because}"


def _parent(node: NodeReport | None) -> str:
    return "(nothing)" if node is None else clean(f"{node.operation or 'of another store'} {short(node.node_id)}")
