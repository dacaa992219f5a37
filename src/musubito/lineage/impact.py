"""What would go stale if an operation changed, and what it took to run it.

Looks through all nodes of the store. A node that a later one stands for does not count: one at the same place of the
workflow (operation, input, sample and place of its parents), which an edit put there, and what lies below the former.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from musubito.lineage.damage import tells_damage
from musubito.lineage.names import similar_names
from musubito.lineage.prices import dollars
from musubito.lineage.reader import Lineage
from musubito.lineage.records import Cost, LineageError, Tokens
from musubito.model import StepType

__all__ = ["Impact", "ImpactRow", "impact"]


@dataclass(frozen=True, slots=True)
class ImpactRow:
    """The nodes of one operation that would go stale, and what it took to run them.

    Tokens are those that these nodes used themselves. Milliseconds are those of nodes that no other affected node
    called, each with all that it called: so neither counts anything twice.
    """

    namespace: str
    operation: str
    nodes: int
    cost: Cost
    dollars: float | None


@dataclass(frozen=True, slots=True)
class Impact:
    """What a change of an operation could make run again, with all inputs that it was ever given: at most this, since
    what gets an equal result from above is replayed all the same. Operations come in the order in which the first
    of these nodes were recorded."""

    operation: str
    rows: tuple[ImpactRow, ...]
    total: ImpactRow


@dataclass(frozen=True, slots=True)
class _Place:
    number: int
    operation: int
    effect: bool
    execution: int
    duration_ms: float


@tells_damage
def impact(lineage: Lineage, operation: str) -> Impact:
    """What would go stale if the operation of this name changed, in all namespaces. `LineageError` if there is none.

    These are its nodes, those below along data edges, and those that called any of them. An external effect that was
    done stays done, whatever its code.
    """
    operations, rows, edges, uses, usage = lineage.ask(
        ("all_operations", {}), ("places", {}), ("all_data_edges", {}), ("all_uses", {}), ("own_usage", {})
    )
    names: dict[int, tuple[str, str]] = {number: (space, name) for number, space, name in operations}
    changed = {number for number, (_, name) in names.items() if name == operation}
    if not changed:
        raise LineageError(_unknown(operation, {name for _, name in names.values()}))
    parents: defaultdict[int, list[int]] = defaultdict(list)
    below: defaultdict[int, list[int]] = defaultdict(list)
    for parent, child in edges:
        parents[child].append(parent)
        below[parent].append(child)
    places = _current(rows, parents)
    answered: defaultdict[int, list[int]] = defaultdict(list)
    for place in places.values():
        answered[place.execution].append(place.number)
    for execution, _, node in uses:
        below[node] += answered[execution]
    affected = _reached(places, below, changed)
    called = _called(uses, {place.execution for place in affected})
    tokens: defaultdict[int, dict[str, Tokens]] = defaultdict(dict)
    for execution, model, tokens_in, tokens_out in usage:
        tokens[execution][model] = Tokens(tokens_in, tokens_out)
    counts: dict[int, int] = {}
    costs: dict[int, Cost] = {}
    counted: set[int] = set()
    for place in affected:
        counts[place.operation] = counts.get(place.operation, 0) + 1
        costs.setdefault(place.operation, Cost())
        # Several nodes may be answered by one execution.
        if place.execution not in counted:
            counted.add(place.execution)
            took = 0.0 if place.execution in called else place.duration_ms
            costs[place.operation] += Cost(took, tokens[place.execution])
    total = sum(costs.values(), Cost())
    return Impact(
        operation,
        tuple(ImpactRow(*names[each], counts[each], costs[each], dollars(costs[each])) for each in counts),
        ImpactRow("", "total", len(affected), total, dollars(total)),
    )


def _current(rows: Collection[tuple[Any, ...]], parents: dict[int, list[int]]) -> dict[int, _Place]:
    """The nodes that have an answer and are not a place that a later node has taken."""
    slots: dict[tuple[Any, ...], int] = {}
    slot_of: dict[int, int] = {}
    newest: dict[int, int] = {}
    for number, operation, _, input_hash, sample, *_ in rows:
        # What is not in this store stands for itself.
        above = frozenset(slot_of.get(parent, -parent) for parent in parents.get(number, ()))
        slot = slots.setdefault((operation, input_hash, sample, above), len(slots))
        slot_of[number] = slot
        newest[slot] = number
    gone: set[int] = set()
    places: dict[int, _Place] = {}
    for number, operation, step_type, _, _, execution, invalid, duration_ms in rows:
        if newest[slot_of[number]] != number or not gone.isdisjoint(parents.get(number, ())):
            gone.add(number)
        elif execution is not None and not invalid:
            effect = step_type == StepType.EXTERNAL_EFFECT.value
            places[number] = _Place(number, operation, effect, execution, duration_ms)
    return places


def _reached(places: dict[int, _Place], below: dict[int, list[int]], changed: Collection[int]) -> list[_Place]:
    """The nodes of these operations and all that hangs on them, in the order in which they were recorded."""
    ahead = [place.number for place in places.values() if place.operation in changed]
    reached = set(ahead)
    for number in ahead:
        for child in below.get(number, ()):
            if child in places and child not in reached:
                reached.add(child)
                ahead.append(child)
    affected = [places[number] for number in sorted(reached)]
    return [place for place in affected if not (place.effect and place.operation in changed)]


def _called(uses: Collection[tuple[Any, ...]], executions: Collection[int]) -> set[int]:
    """What these executions called, directly or through others."""
    inside: defaultdict[int, list[int]] = defaultdict(list)
    for execution, called, _ in uses:
        inside[execution].append(called)
    found: set[int] = set()
    ahead = list(executions)
    for execution in ahead:
        for called in inside.get(execution, ()):
            if called not in found:
                found.add(called)
                ahead.append(called)
    return found


def _unknown(operation: str, known: Collection[str]) -> str:
    similar = similar_names(operation, known)
    if similar:
        return f"no operation is called {operation!r}; there is {_some(similar)}"
    return f"no operation is called {operation!r}; " + (
        f"there is {_some(sorted(known))}" if known else "nothing has run yet"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:5], *(["…"] if len(names) > 5 else [])])
