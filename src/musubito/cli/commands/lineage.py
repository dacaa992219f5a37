"""`musubito lineage`: show what is upstream or downstream of a call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple

import click
from rich.text import Text

from musubito.cli.context import (
    CommandContext,
    as_json,
    json_option,
    no_inputs_option,
    without_error_texts,
)
from musubito.cli.table_layout import Name, table_of
from musubito.cli.targets import run_or_node
from musubito.cli.tree_lines import branches, grouped
from musubito.lineage import Attempt, NodeReport, RunReport
from musubito.lineage.readers.formatting import (
    clean,
    count,
    duration,
    edited_by,
    not_shown,
    short,
    short_ids,
    times,
    token_count,
)
from musubito.lineage.readers.provenance import Provenance, provenance
from musubito.lineage.reports import without_reason
from musubito.model import NodeStatus
from musubito.values.display import TYPE
from musubito.values.value_diff import shown

PROMPT_LINES: Final = 6
"""Lines of a prompt that are shown."""
FILES: Final = 20
"""Files that are shown."""
LEAVES: Final = 8
"""Values of an input that are shown."""


class Line(NamedTuple):
    """A line of the tree.

    `lead` is drawn before it. `nodes` are its equal nodes. `kind` is the kind of the edge between these nodes and the
    line above: "data" or "call".
    """

    lead: str
    kind: str
    nodes: list[NodeReport]
    note: str


@click.command(
    "lineage",
    short_help="What is upstream or downstream of a result.",
    epilog="Example: musubito lineage 3f9a1c20 --up",
)
@click.argument("what", metavar="CALL|STEP")
@click.option("--up/--down", default=True, help="Upstream (the default), or downstream.")
@click.option(
    "--depth", default=10, show_default=True, type=click.IntRange(1), help="The largest number of edges between."
)
@json_option
@no_inputs_option
@click.pass_obj
def command(context: CommandContext, what: str, up: bool, depth: int, json_: bool, no_inputs: bool) -> None:
    """Show what is upstream of a call, or with --down what is downstream of it.

    Without --down, the models, prompts, inputs and files that led to it are shown, too. Below a call stand the calls
    whose results it consumed and those that it made. With --down, the calls that consumed its result and those that
    made it stand there. CALL is an id as 'musubito show RUN' lists it, STEP a name that stands for its newest call.
    """
    lineage = context.lineage
    target = run_or_node(context, what)
    if isinstance(target, RunReport):
        raise click.UsageError(f"{what} is a run: name one of its calls, as 'musubito show {what}' lists them")
    node = target.node_id
    origins = provenance(lineage, node) if up else None
    if origins is not None and no_inputs:
        origins = replace(origins, inputs=tuple(replace(root, value=None) for root in origins.inputs))
    if json_:
        relatives = lineage.ancestors(node, depth) if up else lineage.descendants(node, depth)
        document = as_json({"node": target, "relatives": relatives, "origins": origins})
        context.json(without_error_texts(document) if no_inputs else document)
        return
    number = lineage.number(node)
    links = lineage.rows("links_above" if up else "links_below", id=number)
    numbers = sorted({number}.union(*((near, far) for near, far, _ in links)))
    nodes = dict(zip(numbers, lineage.nodes(numbers), strict=True))
    attempts = lineage.attempts(nodes.values())
    rows = [_cells(line, attempts, up=up) for line in _lines(number, links, nodes, depth)]
    context.console.print(table_of([""] * 5, rows, context.console.width, texts=(1, 4)))
    others = len(nodes) - 1
    click.echo(f"\n{times(others, 'ancestor' if up else 'descendant')}")
    for each in map(without_reason, nodes.values()) if no_inputs else nodes.values():
        if each.execution is not None and each.execution.edit is not None:
            context.print_text(f"{clean(each.operation)} {short(each.node_id)}: {edited_by(each.execution.edit)}")
    if origins is not None:
        _print_origins(context, origins, contents=not no_inputs)


def _lines(number: int, links: list[Any], nodes: dict[int, NodeReport], deepest: int) -> Iterator[Line]:
    """Yield the lines of the tree, from the top.

    The nodes beyond a node that several others lead to are drawn once.
    """
    further: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
    for near, far, kind in links:
        further[near].append((far, kind))
    drawn: set[int] = set()
    waiting: list[tuple[str, str, str, list[int], int]] = [("", " ", "", [number], 0)]
    while waiting:
        own, below, kind, numbers, depth = waiting.pop()
        first, note = numbers[0], ""
        beyond = further[first] if len(numbers) == 1 else []
        if beyond and first in drawn:
            beyond, note = [], "see above"
        elif beyond and depth == deepest:
            beyond, note = [], "--depth shows more"
        elif beyond:
            drawn.add(first)
        yield Line(own, kind, [nodes[same] for same in numbers], note)
        for lead, under, group in reversed([*branches(grouped(beyond, partial(_kind, nodes, further)), below)]):
            waiting.append((lead, under, group[0][1], [far for far, _ in group], depth + 1))


def _kind(nodes: dict[int, NodeReport], further: Mapping[int, Any], link: tuple[int, str]) -> Hashable:
    """Return what equal links share.

    Links are equal if they lead to nodes of one operation and status that have nothing beyond them.
    """
    far, kind = link
    return kind, nodes[far].operation, nodes[far].status, _is_edited(nodes[far]), far if further.get(far) else None


def _is_edited(node: NodeReport) -> bool:
    return node.execution is not None and node.execution.edit is not None


def _cells(line: Line, attempts: Mapping[str, Attempt], *, up: bool) -> tuple[Name | Text | str, ...]:
    first = line.nodes[0]
    many = f" × {count(len(line.nodes))}" if len(line.nodes) > 1 else ""
    operation = clean(first.operation or "(of another store)")
    executions = [done for node in line.nodes if (done := node.execution or attempts.get(node.node_id)) is not None]
    used = sum(done.cost.total_tokens for done in executions)
    fine = first.status in (NodeStatus.SUCCESS, NodeStatus.EXTERNAL)
    marks = [
        ("called" if up else "caller") if line.kind == "call" else "",
        "" if fine else first.status.value.lower(),
        "edited" if any(map(_is_edited, line.nodes)) else "",
        line.note,
    ]
    return (
        Name(operation, before=Text(line.lead, style="dim", end=""), after=many, style="not dim"),
        Text(", ".join(filter(None, marks)), style="cyan"),
        duration(sum(execution.duration_ms for execution in executions)) if executions else "",
        f"{token_count(used)} tok" if used else "",
        Text(short_ids([node.node_id for node in line.nodes]), style="dim"),
    )


def _print_origins(context: CommandContext, origins: Provenance, *, contents: bool) -> None:
    screen = context.console
    screen.print(Text("\nWhat led to this answer", style="bold"))
    if origins.models:
        screen.print("models")
    for model, used in origins.models.items():
        screen.print(f"  {clean(model or 'unnamed model')}  {used.input:,} in, {used.output:,} out")
    if origins.prompts:
        screen.print("prompts")
    for prompt in origins.prompts:
        read_by = f"read by {clean(', '.join(prompt.operations))}"
        context.print_text(Text.assemble(f"{clean(prompt.part)}  ", (read_by, "dim")), prefix="  ")
        shown_lines = clean(prompt.text.strip()).splitlines()
        if len(shown_lines) > PROMPT_LINES:
            shown_lines[PROMPT_LINES - 1 :] = [f"... {len(shown_lines) - PROMPT_LINES + 1} more lines"]
        for text in shown_lines:
            screen.print(Text("    ").append(text), no_wrap=True, overflow="ellipsis")
    if origins.inputs:
        screen.print("inputs")
    for root in origins.inputs:
        context.print_text(
            Text.assemble(f"{clean(root.node.operation)}  ", (short(root.node.node_id), "dim")), prefix="  "
        )
        if not contents:
            screen.print(f"    {clean(', '.join(root.node.arguments)) or 'no arguments'} (left out)")
        elif root.value is None:
            screen.print("    (erased)" if root.node.is_erased else "    (not stored)")
        elif (why_not := not_shown(root.value)) is not None:
            context.print_text(why_not, prefix="    ")
        else:
            leaves = [f"    {path}: {shown(leaf, 10_000)}" for path, leaf in _leaves(root.value, "")]
            if len(leaves) > LEAVES:
                leaves[LEAVES - 1 :] = [
                    f"    ... {len(leaves) - LEAVES + 1:,} more; musubito show {short(root.node.node_id)}"
                ]
            for line in leaves:
                screen.print(Text(clean(line)), no_wrap=True, overflow="ellipsis")
    if origins.files:
        screen.print("files")
    for file in origins.files[:FILES]:
        context.print_text(clean(str(file)), prefix="  ")
    if len(origins.files) > FILES:
        screen.print(f"  ... {count(len(origins.files) - FILES)} more; --json shows all")


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the values in plain data that are not empty, each with its path."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key == "items" and TYPE in value:
                yield from _leaves(part, path)
            elif key not in (TYPE, "id"):
                yield from _leaves(part, f"{path}.{key}".removeprefix("."))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _leaves(part, f"{path}[{index}]")
    elif value is not None and value != "":
        yield path or "value", value
