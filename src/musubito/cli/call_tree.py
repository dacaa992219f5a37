"""Draw the calls of a run as a tree: inner calls below the outer call, and many equal calls as one line."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from rich.console import Console
from rich.text import Text

from musubito.cli.table_layout import Fitted, Name, table_of
from musubito.cli.tree_lines import branches, grouped
from musubito.lineage import CallReport
from musubito.lineage.readers.calls_of_run import by_outer_call
from musubito.lineage.readers.formatting import MARKS, clean, count, duration, one_line, short, short_ids, token_count
from musubito.lineage.readers.run_texts import Failure

Kind: TypeAlias = tuple[Any, ...]
"""The operation, outcome and reason of a call, and the kinds of its inner calls."""


class Line(NamedTuple):
    """A line of the tree. `lead` is drawn before it. `calls` are its equal calls.

    `edited` tells that a person has corrected what they returned.
    """

    lead: str
    calls: Sequence[CallReport]
    edited: bool


def lines(calls: Sequence[CallReport], edited: Collection[int | None] = ()) -> list[Line]:
    """Return all lines of the tree, from the top; `edited` are the executions that a person has made by an edit."""
    inner = by_outer_call(calls)
    kinds: dict[int, Kind] = {}
    # An inner call has a higher number than its outer one: from the last call on, its kind is known in time.
    for call in reversed(calls):
        kinds[call.number] = (
            call.operation,
            call.outcome,
            call.reason,
            call.execution in edited,
            *(kinds[inner_call.number] for inner_call in inner[call.number]),
        )

    def below_call(siblings: Sequence[CallReport], lead: str) -> Iterator[Line]:
        for own, below, group in branches(grouped(siblings, lambda call: kinds[call.number]), lead):
            yield Line(own, group, group[0].execution in edited)
            yield from below_call([inner_call for call in group for inner_call in inner[call.number]], below)

    tree: list[Line] = []
    for group in grouped(inner[None], lambda call: kinds[call.number]):
        inside = [inner_call for call in group for inner_call in inner[call.number]]
        tree += [Line("", group, group[0].execution in edited), *below_call(inside, " ")]
    return tree


def calls_table(tree_lines: Sequence[Line], width: int) -> Fitted:
    """Return a table of lines: the wall of each or the compute that it saved, and the reason.

    If there is no room, only the name of the operation is shortened.
    """
    return table_of([""] * 6, [_cells(line) for line in tree_lines], width, texts=(2, 4, 5))


def _cells(line: Line) -> tuple[Name | Text | str, ...]:
    first = line.calls[0]
    mark, colour = MARKS.get(first.outcome, ("·", "cyan"))
    before = Text(line.lead, style="dim", end="").append(mark, style=f"not dim {colour}").append(" ")
    many = f" × {count(len(line.calls))}" if len(line.calls) > 1 else ""
    replayed = first.outcome == "replayed"
    took = sum(call.saved_compute_ms if replayed else call.wall_ms for call in line.calls) / len(line.calls)
    used = sum(call.saved_tokens if replayed else call.tokens for call in line.calls)
    why = first.reason.word + (", edited" if line.edited else "")
    return (
        Name(clean(first.operation), before=before, after=many, style="not dim"),
        duration(took) + (" each" if many else ""),
        Text("saved" if replayed else "", style="green"),
        f"{token_count(used)} tok" if used else "",
        why if first.outcome in ("replayed", "ran") else f"{first.outcome}, {why}" if why != "new" else first.outcome,
        Text(short_ids([call.node_id for call in line.calls]), style="dim"),
    )


def print_failures(console: Console, failures: Iterable[Failure]) -> None:
    """Print the failed calls of a run, each with its error and its input."""
    for failure in failures:
        name = f" {clean(failure.operation)} {short(failure.node_id)} {one_line(failure.error)}"
        console.print(Text().append("✗", "red").append(name), no_wrap=True, overflow="ellipsis")
        if failure.input is not None:
            console.print(Text(f"  input: {one_line(failure.input)}", "dim"), no_wrap=True, overflow="ellipsis")
