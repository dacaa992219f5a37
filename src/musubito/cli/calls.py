"""The calls of a run as a tree: those that a call made are below it, and many alike are one line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from rich.table import Table
from rich.text import Text

from musubito.cli.columns import Fitted, Name, fitted
from musubito.cli.trees import branches, grouped
from musubito.cli.words import MARKS, clean, count, duration, reason, short_ids, token_count
from musubito.lineage import CallReport

__all__ = ["Line", "calls_table", "lines"]

Kind: TypeAlias = tuple[Any, ...]


class Line(NamedTuple):
    """A line of the tree: what is drawn before it, and the calls that it stands for, which are alike."""

    lead: str
    calls: Sequence[CallReport]


def lines(calls: Sequence[CallReport]) -> list[Line]:
    """All lines of the tree, from the top."""
    inner: defaultdict[int | None, list[CallReport]] = defaultdict(list)
    numbers = {call.number for call in calls}
    for call in calls:
        inner[call.parent if call.parent in numbers else None].append(call)
    kinds: dict[int, Kind] = {}
    # A call has a higher number than the one that made it, so what it made is known when its turn comes.
    for call in reversed(calls):
        kinds[call.number] = (
            call.operation,
            call.outcome,
            call.reason,
            *(kinds[each.number] for each in inner[call.number]),
        )

    def told(some: Sequence[CallReport], lead: str) -> Iterator[Line]:
        for own, below, group in branches(grouped(some, lambda call: kinds[call.number]), lead):
            yield Line(own, group)
            yield from told([each for call in group for each in inner[call.number]], below)

    found: list[Line] = []
    for group in grouped(inner[None], lambda call: kinds[call.number]):
        found += [Line("", group), *told([each for call in group for each in inner[call.number]], " ")]
    return found


def calls_table(some: Sequence[Line], width: int) -> Fitted:
    """These lines with what each took or saved, and why; the name of the operation gives way where there is no room."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True, overflow="ellipsis")
    for justify in ("right", "left", "right", "left", "left"):
        table.add_column(justify=justify, no_wrap=True)
    for line in some:
        table.add_row(*_cells(line))
    return fitted(table, width)


def _cells(line: Line) -> tuple[Name | Text | str, ...]:
    first = line.calls[0]
    mark, colour = MARKS.get(first.outcome, ("·", "cyan"))
    before = Text(line.lead, style="dim", end="").append(mark, style=f"not dim {colour}").append(" ")
    many = f" × {count(len(line.calls))}" if len(line.calls) > 1 else ""
    replayed = first.outcome == "replayed"
    took = sum(call.saved_ms if replayed else call.duration_ms for call in line.calls)
    used = sum(call.saved_tokens if replayed else call.tokens for call in line.calls)
    why = reason(first.reason)
    return (
        Name(clean(first.operation), before=before, after=many, style="not dim"),
        duration(took),
        Text("saved" if replayed else "", style="green"),
        f"{token_count(used)} tok" if used else "",
        why if first.outcome in ("replayed", "ran") else f"{first.outcome}, {why}" if why != "new" else first.outcome,
        Text(short_ids([call.node_id for call in line.calls]), style="dim"),
    )
