"""Preview which nodes would go stale if an operation changed, and what running them took.

The nodes that are in use are looked through: those that were recorded last, and those that the newest runs of the
operation asked for. A small store is looked through whole. A node does not count if another node took its place in the
workflow, and was used later: an edit put that node there. The place is operation, input, sample and the places of the
parents. A node below one that does not count does not count either.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, Final, NamedTuple

from musubito.engine.frame import covered
from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.readers.files import executions_that_read
from musubito.lineage.readers.prices import dollars
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.readers.store_reader import of_many
from musubito.lineage.readers.suggestions import similar_names
from musubito.lineage.reports import Cost, LineageError, Tokens
from musubito.model import StepType

NEWEST_NODES: Final = 8_000
"""Nodes recorded last that are looked through at least."""
NEWEST_CALLS: Final = 8_000
"""Calls, in the newest runs of the operation, whose nodes are looked through besides."""


@dataclass(frozen=True, slots=True)
class ImpactRow:
    """The nodes of one operation that would go stale, and what running them took.

    Tokens are those that these nodes used themselves. Compute is that of nodes that no other affected node called, each
    with all that it called. So neither counts anything twice. Only the total has a wall: the time that these nodes
    covered when they ran, side by side or one after the other.
    """

    namespace: str
    operation: str
    nodes: int
    cost: Cost
    dollars: float | None


@dataclass(frozen=True, slots=True)
class Impact:
    """The nodes that a change of an operation could make run again.

    At most these nodes run: one whose upstream results stay equal is replayed all the same. Operations come in the
    order in which the first of these nodes were recorded. `looked_at` nodes of `stored` were looked at. In a large
    store these are the newest, as `impact` says; older ones run again, too, if something asks for them.
    """

    operation: str
    rows: tuple[ImpactRow, ...]
    total: ImpactRow
    looked_at: int
    stored: int


class _Node(NamedTuple):
    """A row of `places`: a node of an operation."""

    number: int
    operation: int
    step_type: str
    input_hash: bytes
    sample: int
    execution: int | None
    invalid: int | None
    compute_ms: float | None
    started_at: float | None
    wall_ms: float | None
    code: int | None
    used: float
    """When the node was last called, 0 if that is not among the newest calls."""


@reports_damage
def impact(lineage: Lineage, operation: str) -> Impact:
    """Return the nodes that would go stale if an operation, a part of code or a file changed, in all namespaces.

    A part of code is named as `why` names it: `pipeline.PROMPT`. A file is named by its path. These nodes would go
    stale:

    - nodes of the operation
    - nodes whose code contains the part, under this or another name, or the tool
    - nodes whose execution read the file
    - all nodes below these along data edges, and the callers of any of them

    An external effect that was done stays done, whatever its code. Raises `LineageError` if nothing has this name.

    In a large store, two kinds of nodes are looked at: the `NEWEST_NODES` nodes that were recorded last, and the nodes
    of the newest `NEWEST_CALLS` calls in runs that called one of these operations.
    """
    place, _, tool = operation.rpartition(".")
    rows, parts = lineage.ask(
        ("all_operations", {}),
        ("codes_with_part", {"part": operation, "inside": f"{operation}.%", "tool": f"%{tool}%" if place else ""}),
    )
    names: dict[int, tuple[str, str]] = {number: (space, name) for number, space, name in rows}
    changed = {number for number, (_, name) in names.items() if name == operation}
    graph = operation.partition("/")[0] if "/" in place else None
    digests = {binary(digest) for _, part, digest in parts if part == operation}
    codes_with_part = {
        code
        for code, part, digest in parts
        if part == operation or part.startswith(f"{operation}.") or binary(digest) in digests
    }
    codes_with_tool = {code for code, part, _ in parts if graph is not None and changed and _names_tool(part, tool)}
    in_graph = {number for number, (_, name) in names.items() if name.partition("/")[0] == graph}
    changed_codes = {number for (number,) in lineage.about("operations_with_codes", codes_with_part | codes_with_tool)}
    looked_at, stored = _looked_at(lineage, changed | changed_codes)
    executions = [(names[node.operation][0], node.execution) for node in looked_at if node.execution is not None]
    readers = set() if changed or codes_with_part else executions_that_read(lineage, executions, operation)
    if not changed and not codes_with_part and not readers:
        raise LineageError(_unknown(lineage, operation, {name for _, name in names.values()}))
    edges, uses = lineage.ask(
        of_many("data_edges", [node.number for node in looked_at]),
        of_many("uses_below", {node.execution: None for node in looked_at if node.execution is not None}),
    )
    parents: defaultdict[int, list[int]] = defaultdict(list)
    below: defaultdict[int, list[int]] = defaultdict(list)
    for child, parent, _ in edges:
        parents[child].append(parent)
        below[parent].append(child)
    nodes = _current(looked_at, parents)
    answered: defaultdict[int | None, list[int]] = defaultdict(list)
    for node in nodes.values():
        answered[node.execution].append(node.number)
    for execution, _, called_node in uses:
        below[called_node] += answered.get(execution, ())
    first = {
        node.number
        for node in nodes.values()
        if node.operation in changed
        or node.code in codes_with_part
        or node.execution in readers
        or (node.operation in in_graph and node.code in codes_with_tool)
    }
    affected = _reached(nodes, below, first)
    usage = lineage.about("own_usage", {node.execution for node in affected if node.execution is not None})
    costs = _costs(affected, uses, usage)
    total = sum((cost for _, cost in costs.values()), Cost())
    total = replace(total, wall_ms=1000 * covered(_spans(affected, uses)))
    return Impact(
        operation,
        tuple(ImpactRow(*names[number], count, cost, dollars(cost)) for number, (count, cost) in costs.items()),
        ImpactRow("", "total", len(affected), total, dollars(total)),
        len(looked_at),
        stored,
    )


def _looked_at(lineage: Lineage, operations: Collection[int]) -> tuple[list[_Node], int]:
    """Return the nodes to look at, the oldest first, and how many are stored."""
    wanted = {"newest_nodes": NEWEST_NODES, "newest_calls": NEWEST_CALLS, "operations": json.dumps(sorted(operations))}
    rows, ((stored,),) = lineage.ask(("places", wanted), ("number_of_nodes", {}))
    return list(map(_Node._make, rows)), stored


def _costs(
    affected: Sequence[_Node], uses: Collection[tuple[Any, ...]], usage: Collection[tuple[Any, ...]]
) -> dict[int, tuple[int, Cost]]:
    """Return the number of affected nodes of each operation and their cost, in the order of the first of them."""
    called = _called(uses, {node.execution for node in affected})
    counts: dict[int, int] = {}
    times: defaultdict[int, float] = defaultdict(float)
    # Several nodes may be answered by one execution.
    operation_of: dict[int | None, int] = {}
    for node in affected:
        counts[node.operation] = counts.get(node.operation, 0) + 1
        if node.execution not in operation_of:
            operation_of[node.execution] = node.operation
            times[node.operation] += 0.0 if node.execution in called else node.compute_ms or 0.0
    tokens: defaultdict[int, dict[str, tuple[int, int]]] = defaultdict(dict)
    for execution, model, tokens_in, tokens_out in usage:
        operation = operation_of.get(execution)
        if operation is not None:
            before_in, before_out = tokens[operation].get(model, (0, 0))
            tokens[operation][model] = before_in + tokens_in, before_out + tokens_out
    return {
        operation: (count, Cost(times[operation], {model: Tokens(*used) for model, used in tokens[operation].items()}))
        for operation, count in counts.items()
    }


def _spans(affected: Sequence[_Node], uses: Collection[tuple[Any, ...]]) -> Iterator[tuple[float, float]]:
    """Yield when the executions of these nodes ran, without those that another of them called."""
    called = _called(uses, {node.execution for node in affected})
    for node in affected:
        if node.started_at is not None and node.wall_ms is not None and node.execution not in called:
            yield node.started_at, node.started_at + node.wall_ms / 1000


def _current(rows: Sequence[_Node], parents: Mapping[int, Sequence[int]]) -> dict[int, _Node]:
    """Return the nodes that have a valid answer and whose place no node has taken that was used later."""
    slots: dict[tuple[Any, ...], int] = {}
    slot_of: dict[int, int] = {}
    newest: dict[int, tuple[float, int]] = {}
    for number, operation, _, input_hash, sample, *_, used in rows:
        # A parent that is not in this store has no slot, and stands for itself.
        above = parents.get(number)
        place = frozenset([slot_of.get(parent, -parent) for parent in above]) if above else None
        slot = slots.setdefault((operation, input_hash, sample, place), len(slots))
        slot_of[number] = slot
        newest[slot] = max(newest.get(slot, (0.0, 0)), (used, number))
    replaced: set[int] = set()
    nodes: dict[int, _Node] = {}
    for node in rows:
        number = node.number
        if newest[slot_of[number]][1] != number or (replaced and not replaced.isdisjoint(parents.get(number, ()))):
            replaced.add(number)
        elif node.execution is not None and not node.invalid:
            nodes[number] = node
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
    effect = StepType.EXTERNAL_EFFECT.value
    return [node for node in affected if not (node.step_type == effect and node.number in changed)]


def _called(uses: Collection[tuple[Any, ...]], executions: Collection[int | None]) -> set[int | None]:
    """Return the executions that these executions called, directly or through others."""
    inside: defaultdict[int | None, list[int]] = defaultdict(list)
    for execution, called, _ in uses:
        inside[execution].append(called)
    reached: set[int | None] = set()
    ahead = list(executions)
    for execution in ahead:
        for called in inside.get(execution, ()):
            if called not in reached:
                reached.add(called)
                ahead.append(called)
    return reached


def _unknown(lineage: Lineage, operation: str, names: set[str]) -> str:
    module = f"{PurePath(operation).stem}." if operation.endswith(".py") else None
    rows = lineage.rows("codes_with_part", part="", inside="", tool=f"%{module or operation}%")
    # LIKE takes "_" for any character.
    parts = {
        part
        for _, part, _ in rows
        if (module is not None and module in part) or part.endswith((f".{operation}", f" {operation}"))
    }
    similar = sorted(parts) if module else similar_names(operation, names | parts)
    unknown = f"no step, no part of code and no file that a step read is called {operation!r}"
    if similar:
        return f"{unknown}; did you mean {_first_names(similar)}?"
    return f"{unknown}; " + (
        f"there is {_first_names(sorted(names))}" if names else "nothing has run yet, or it ran in another database"
    )


def _first_names(names: Sequence[str]) -> str:
    return ", ".join([*names[:5], *(["…"] if len(names) > 5 else [])])
