"""The operations whose results never serve again: why, what to do about it, and what they took."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Final, NamedTuple

from musubito.causes import NeverReplayed, ReplayReason, never_replayed
from musubito.lineage.corruption import tells_damage
from musubito.lineage.reader import Lineage
from musubito.lineage.reports import Cost, Tokens
from musubito.lineage.why import why
from musubito.store.rows import FORGOTTEN

__all__ = ["Unreplayed", "unreplayed"]

RUNS: Final = 3
"""Runs in which an operation was called and never replayed, before that is told of."""
COMPARED: Final = 20
"""Operations of which it is found out what differs each time, the dearest first."""


@dataclass(frozen=True, slots=True)
class Unreplayed:
    """Executions of an operation that no call can be replayed with, for one cause.

    `cause` is the reason why, or the reason of the newest call where each call differs from all before it. `parts` are
    what it names, each once, `says` the sentence of the newest, `remedy` what to do about it ("" where nothing is).
    `cost` is without that of the calls inside.
    """

    namespace: str
    operation: str
    cause: ReplayReason
    parts: tuple[str, ...]
    says: str
    remedy: str
    executions: int
    cost: Cost


class _Place(NamedTuple):
    namespace: str
    operation: str


@tells_damage
def unreplayed(lineage: Lineage) -> list[Unreplayed]:
    """Return what is never replayed, the dearest first."""
    stated = _stated(lineage)
    known = {_Place(each.namespace, each.operation) for each in stated}
    found = [*stated, *_each_time_another(lineage, known)]
    return sorted(found, key=lambda each: (-each.cost.total_tokens, -each.cost.milliseconds, each.operation))


def _stated(lineage: Lineage) -> list[Unreplayed]:
    """Return those executions that say themselves why they are never replayed."""
    rows, usage = lineage.ask(
        ("never_replayed", {"forgotten": FORGOTTEN}), ("usage_of_never_replayed", {"forgotten": FORGOTTEN})
    )
    tokens: defaultdict[tuple[str, str, str], dict[str, Tokens]] = defaultdict(dict)
    for namespace, operation, says, model, tokens_in, tokens_out in usage:
        tokens[namespace, operation, says][model] = Tokens(tokens_in, tokens_out)
    groups: defaultdict[tuple[_Place, str], list[tuple[NeverReplayed, int, Cost]]] = defaultdict(list)
    for namespace, operation, says, count, milliseconds in rows:
        never = never_replayed(says)
        groups[_Place(namespace, operation), never.group].append(
            (never, count, Cost(milliseconds, tokens[namespace, operation, says]))
        )
    return [
        Unreplayed(
            *place,
            some[0][0].cause,
            tuple(dict.fromkeys(never.part for never, _, _ in some if never.part)),
            some[0][0].says,
            some[0][0].remedy,
            sum(count for _, count, _ in some),
            sum((cost for _, _, cost in some), Cost()),
        )
        for (place, _), some in groups.items()
    ]


def _each_time_another(lineage: Lineage, known: set[_Place]) -> list[Unreplayed]:
    """Return the operations that were called in several runs and never replayed, since each call differed."""
    rows, usage = lineage.ask(("without_replays", {"runs": RUNS}), ("usage_of_operations", {}))
    tokens: defaultdict[int, dict[str, Tokens]] = defaultdict(dict)
    for number, model, tokens_in, tokens_out in usage:
        tokens[number][model] = Tokens(tokens_in, tokens_out)
    asked = [
        (Cost(milliseconds, tokens[number]), _Place(namespace, operation), node.hex(), count)
        for number, namespace, operation, node, count, milliseconds in rows
        if (namespace, operation) not in known
    ]
    asked.sort(key=lambda each: (each[0].total_tokens, each[0].milliseconds), reverse=True)
    found = []
    for cost, place, node, count in asked[:COMPARED]:
        told = why(lineage, node)
        if told.remedy:
            found.append(Unreplayed(*place, told.reason, told.parts, told.reason.sentence, told.remedy, count, cost))
    return found
