"""Preview which nodes would go stale if an operation changed, and what running them took.

All nodes of the store are looked through. A node does not count if a later node took its place in the workflow: an edit
put that node there. The place is operation, input, sample and the places of the parents. A node below one that does not
count does not count either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from musubito.lineage.corruption import reports_damage
from musubito.lineage.prices import dollars
from musubito.lineage.reader import Lineage
from musubito.lineage.reports import Cost, LineageError, Tokens
from musubito.lineage.suggestions import similar_names
from musubito.model import StepType


@dataclass(frozen=True, slots=True)
class ImpactRow:
    """The nodes of one operation that would go stale, and what running them took.

    Tokens are those that these nodes used themselves. Milliseconds are those of nodes that no other affected node
    called, each with all that it called. So neither counts anything twice.
    """

    namespace: str
    operation: str
    nodes: int
    cost: Cost
    dollars: float | None


@dataclass(frozen=True, slots=True)
class Impact:
    """The nodes that a change of an operation could make run again, with all inputs so far.

    At most these nodes run: one whose upstream results stay equal is replayed all the same. Operations come in the
    order in which the first of these nodes were recorded.
    """

    operation: str
    rows: tuple[ImpactRow, ...]
    total: ImpactRow


@dataclass(frozen=True, slots=True)
class _Node:
    number: int
    operation: int
    effect: bool
    execution: int
    duration_ms: float
    code: int | None


@reports_damage
def impact(lineage: Lineage, operation: str) -> Impact:
    """Return the nodes that would go stale if an operation or a part of code changed, in all namespaces.

    A part of code is named as `why` names it: `pipeline.PROMPT`. These nodes would go stale:

    - nodes of the operation
    - nodes whose code contains the part or the tool
    - all nodes below these along data edges, and the callers of any of them

    An external effect that was done stays done, whatever its code. Raises `LineageError` if nothing has this name.
    """
    place, _, tool = operation.rpartition(".")
    operations, rows, edges, uses, usage, parts = lineage.ask(
        ("all_operations", {}),
        ("places", {}),
        ("all_data_edges", {}),
        ("all_uses", {}),
        ("own_usage", {}),
        ("codes_with_part", {"part": operation, "inside": f"{operation}.%", "tool": f"%{tool}%" if place else ""}),
    )
    names: dict[int, tuple[str, str]] = {number: (space, name) for number, space, name in operations}
    changed = {number for number, (_, name) in names.items() if name == operation}
    graph = operation.partition("/")[0] if "/" in place else None
    codes_with_part = {code for code, part in parts if part == operation or part.startswith(f"{operation}.")}
    codes_with_tool = {code for code, part in parts if graph is not None and changed and _names_tool(part, tool)}
    if not changed and not codes_with_part:
        raise LineageError(_unknown(operation, {name for _, name in names.values()}))
    parents: defaultdict[int, list[int]] = defaultdict(list)
    below: defaultdict[int, list[int]] = defaultdict(list)
    for parent, child in edges:
        parents[child].append(parent)
        below[parent].append(child)
    nodes = _current(rows, parents)
    answered: defaultdict[int, list[int]] = defaultdict(list)
    for node in nodes.values():
        answered[node.execution].append(node.number)
    for execution, _, called_node in uses:
        below[called_node] += answered[execution]
    in_graph = {number for number, (_, name) in names.items() if name.partition("/")[0] == graph}
    first = {
        node.number
        for node in nodes.values()
        if node.operation in changed
        or node.code in codes_with_part
        or (node.operation in in_graph and node.code in codes_with_tool)
    }
    affected = _reached(nodes, below, first)
    called = _called(uses, {node.execution for node in affected})
    tokens: defaultdict[int, dict[str, Tokens]] = defaultdict(dict)
    for execution, model, tokens_in, tokens_out in usage:
        tokens[execution][model] = Tokens(tokens_in, tokens_out)
    counts: dict[int, int] = {}
    costs: dict[int, Cost] = {}
    counted: set[int] = set()
    for node in affected:
        counts[node.operation] = counts.get(node.operation, 0) + 1
        costs.setdefault(node.operation, Cost())
        # Several nodes may be answered by one execution.
        if node.execution not in counted:
            counted.add(node.execution)
            took = 0.0 if node.execution in called else node.duration_ms
            costs[node.operation] += Cost(took, tokens[node.execution])
    total = sum(costs.values(), Cost())
    return Impact(
        operation,
        tuple(ImpactRow(*names[number], counts[number], costs[number], dollars(costs[number])) for number in counts),
        ImpactRow("", "total", len(affected), total, dollars(total)),
    )


def _current(rows: Collection[tuple[Any, ...]], parents: dict[int, list[int]]) -> dict[int, _Node]:
    """Return the nodes that have a valid answer and whose place no later node has taken."""
    slots: dict[tuple[Any, ...], int] = {}
    slot_of: dict[int, int] = {}
    newest: dict[int, int] = {}
    for number, operation, _, input_hash, sample, *_ in rows:
        # A parent that is not in this store has no slot, and stands for itself.
        above = frozenset(slot_of.get(parent, -parent) for parent in parents.get(number, ()))
        slot = slots.setdefault((operation, input_hash, sample, above), len(slots))
        slot_of[number] = slot
        newest[slot] = number
    replaced: set[int] = set()
    nodes: dict[int, _Node] = {}
    for number, operation, step_type, _, _, execution, invalid, duration_ms, code in rows:
        if newest[slot_of[number]] != number or not replaced.isdisjoint(parents.get(number, ())):
            replaced.add(number)
        elif execution is not None and not invalid:
            effect = step_type == StepType.EXTERNAL_EFFECT.value
            nodes[number] = _Node(number, operation, effect, execution, duration_ms, code)
    return nodes


def _names_tool(part: str, tool: str) -> bool:
    """Return whether a part of code is a tool of this name, or the entry of a `ToolNode` that holds it."""
    return part == tool or part.endswith((f".{tool}", f"['{tool}']"))


def _reached(nodes: dict[int, _Node], below: dict[int, list[int]], changed: Collection[int]) -> list[_Node]:
    """Return the changed nodes and all below, in the order in which they were recorded."""
    ahead = sorted(changed)
    reached = set(ahead)
    for number in ahead:
        for child in below.get(number, ()):
            if child in nodes and child not in reached:
                reached.add(child)
                ahead.append(child)
    affected = [nodes[number] for number in sorted(reached)]
    return [node for node in affected if not (node.effect and node.number in changed)]


def _called(uses: Collection[tuple[Any, ...]], executions: Collection[int]) -> set[int]:
    """Return the executions that these executions called, directly or through others."""
    inside: defaultdict[int, list[int]] = defaultdict(list)
    for execution, called, _ in uses:
        inside[execution].append(called)
    reached: set[int] = set()
    ahead = list(executions)
    for execution in ahead:
        for called in inside.get(execution, ()):
            if called not in reached:
                reached.add(called)
                ahead.append(called)
    return reached


def _unknown(operation: str, names: Collection[str]) -> str:
    similar = similar_names(operation, names)
    if similar:
        return f"no step is called {operation!r}; there is {_first_names(similar)}"
    return f"no step is called {operation!r}; " + (
        f"there is {_first_names(sorted(names))}" if names else "nothing has run yet, or it ran in another database"
    )


def _first_names(names: Sequence[str]) -> str:
    return ", ".join([*names[:5], *(["…"] if len(names) > 5 else [])])
