"""`musubito why`: show what tells a node from the nearest earlier one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from rich.text import Text

from musubito.cli.context import Here, as_json, json_option, no_inputs_option, says_what_is_wrong, without_error_texts
from musubito.cli.formatting import clean, one_line, short, when
from musubito.lineage import NodeReport
from musubito.lineage.why import Why, why
from musubito.model import NodeStatus, ReplayReason
from musubito.values.value_diff import MOST

__all__ = ["command"]

REASONS = {
    **{reason.value: reason.says for reason in ReplayReason},
    "first of its operation": "nothing of its operation had run before",
    "another sample": "another sample was asked for",
    "not identified": "nothing can tell whether it was asked the same before",
}


@click.command(
    "why", short_help="What changed since the nearest earlier node.", epilog="Example: musubito why 3f9a1c20"
)
@click.argument("node")
@json_option
@no_inputs_option
@click.pass_obj
@says_what_is_wrong
def command(here: Here, node: str, json_: bool, no_inputs: bool) -> None:
    """Why a node ran: what changed since the nearest earlier node of its operation."""
    told = why(here.lineage, node)
    if json_:
        here.json(_document(told, contents=not no_inputs))
    else:
        _tell(here, told, contents=not no_inputs)


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
    if told.not_replayable is not None:
        here.say(f"a result stored for this call is never replayed: {clean(told.not_replayable)}")
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
    here.say(Text(f"compared with {short(told.nearest.node_id)}{ran}, the earlier node most like it", style="dim"))
    if told.arguments:
        here.say(f"\narguments that changed: {clean(', '.join(told.arguments))}")
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
        how = (
            f" ({part.change})"
            if part.change != "changed"
            else ""
            if part.diff
            else " (changed; it has no text to show)"
        )
        say(f"  {clean(part.part)}{how}")
        _show_diff(say, part.diff)
    if told.parents:
        say("\nwhat it consumed")
    for before, after in told.parents:
        say(f"  {_parent(before)} → {_parent(after)}")
    if not (told.arguments or told.code or told.parents or told.files or told.reads):
        here.say("\nIts input, its code and what it consumed are those of the earlier node.")


def _show_diff(say: Callable[[Text], None], diff: str) -> None:
    for line in clean(diff).splitlines()[2:]:
        say(Text(f"    {line}", style={"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")))


def _ran(told: Why) -> str:
    because = REASONS.get(told.reason, told.reason)
    done = told.node.execution
    if done is not None and done.producer_node_id != told.node.node_id:
        return f"did not run: {because}, and the result of {short(done.producer_node_id)} answers here too"
    return f"ran: {because}"


def _parent(node: NodeReport | None) -> str:
    return "(nothing)" if node is None else clean(f"{node.operation or 'of another store'} {short(node.node_id)}")
