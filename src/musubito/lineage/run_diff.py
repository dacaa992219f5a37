"""Compare two runs: calls that are the same, calls that differ, and calls of one run alone."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from musubito.engine.nearest import changed_names, difference
from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.reader import Lineage
from musubito.lineage.reports import CallReport, LineageError, RunSummary
from musubito.model import ReplayReason
from musubito.store.queries import SimilarNode

ANSWERED: Final = ("ran", "replayed")
"""Outcomes of calls that returned a result."""


@dataclass(frozen=True, slots=True)
class CallDiff:
    """A call of one run beside its partner in the other run.

    `change` is "same" (equal nodes), "changed", "added", "gone" or "inside". A call is inside if the other run replayed
    the call that made it. The other run knows nothing of such a call, so the call counts as no difference. `reason`
    says how the identities of a changed call differ. It is None if the identities are equal and the call ended
    otherwise, or if one of them is not stored. `parts` are the names of the arguments
    that differ. `same_output` is None if one of the outputs is not stored.
    """

    operation: str
    change: str
    before: CallReport | None
    after: CallReport | None
    reason: ReplayReason | None
    same_output: bool | None
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunDiff:
    """Two runs, with their calls in the order of the second run, then the calls that are gone."""

    before: RunSummary
    after: RunSummary
    calls: tuple[CallDiff, ...]

    @property
    def differ(self) -> bool:
        """Return whether any call changed, was added or is gone."""
        return any(call.change not in ("same", "inside") for call in self.calls)


@reports_damage
def compare_runs(lineage: Lineage, before: str, after: str) -> RunDiff:
    """Compare two runs, by their ids, their names, or "last".

    Calls of one operation that are not the same are paired in the order in which they were made.
    """
    first, second = lineage.run(before), lineage.run(after)
    old, new = _Side(first.calls), _Side(second.calls)
    # From the plainest partner to the last resort: the pairs of one round decide which calls are inside in the next.
    for kind in (_at_same_place, _of_same_node_and_end, _of_same_node, _of_same_operation):
        _pair_up(old, new, kind)
    compared: list[CallDiff] = []
    for call in second.calls:
        partner = new.partners.get(call.number)
        if partner is not None:
            compared.append(_compared(lineage, partner, call))
        else:
            compared.append(CallDiff(call.operation, new.alone(call, "added"), None, call, None, None))
    compared += [
        CallDiff(call.operation, old.alone(call, "gone"), call, None, None, None)
        for call in first.calls
        if call.number not in old.partners
    ]
    return RunDiff(first.summary, second.summary, tuple(compared))


class _Side:
    """The calls of one run, with their partners in the other run."""

    def __init__(self, calls: Sequence[CallReport]) -> None:
        self.calls = {call.number: call for call in calls}
        self.partners: dict[int, CallReport] = {}

    def around(self, call: CallReport) -> Iterator[CallReport]:
        """Yield the calls around a call, from the inside out."""
        above = call.parent
        while above is not None:
            outer = self.calls[above]
            yield outer
            above = outer.parent

    def alone(self, call: CallReport, otherwise: str) -> str:
        """Return the change of a call without a partner."""
        return "inside" if self.is_inside(call) else otherwise

    def is_inside(self, call: CallReport) -> bool:
        """Return whether a call around this one was replayed in the other run."""
        partners = (self.partners.get(outer.number) for outer in self.around(call))
        return any(partner is not None and partner.outcome == "replayed" for partner in partners)

    def free(self) -> list[CallReport]:
        """Return the calls that need a partner."""
        return [call for call in self.calls.values() if call.number not in self.partners and not self.is_inside(call)]


def _pair_up(old: _Side, new: _Side, kind: Callable[[_Side, CallReport], Hashable]) -> None:
    waiting: defaultdict[Hashable, deque[CallReport]] = defaultdict(deque)
    for call in old.free():
        waiting[kind(old, call)].append(call)
    for call in new.free():
        same = waiting[kind(new, call)]
        if same:
            partner = same.popleft()
            old.partners[partner.number] = call
            new.partners[call.number] = partner


def _of_same_operation(_: _Side, call: CallReport) -> Hashable:
    return call.namespace, call.operation


def _of_same_node(side: _Side, call: CallReport) -> Hashable:
    return _of_same_operation(side, call), call.node_id


def _of_same_node_and_end(side: _Side, call: CallReport) -> Hashable:
    return _of_same_node(side, call), "answered" if call.outcome in ANSWERED else call.outcome


def _at_same_place(side: _Side, call: CallReport) -> Hashable:
    return _of_same_node_and_end(side, call), tuple(outer.node_id for outer in side.around(call))


def _compared(lineage: Lineage, before: CallReport, after: CallReport) -> CallDiff:
    same_output = _same_output(lineage, before, after)
    if before.node_id != after.node_id:
        return CallDiff(after.operation, "changed", before, after, *_difference(lineage, before, after, same_output))
    ended = [call.outcome for call in (before, after) if call.outcome not in ANSWERED]
    change = "changed" if ended and before.outcome != after.outcome else "same"
    return CallDiff(after.operation, change, before, after, None, same_output)


def _same_output(lineage: Lineage, before: CallReport, after: CallReport) -> bool | None:
    if before.execution is None or after.execution is None:
        return None
    if before.execution == after.execution:
        return True
    first, second = lineage.ask(*(("artifact_of_execution", {"execution": call.execution}) for call in (before, after)))
    if not first or not second or first[0][0] is None or second[0][0] is None:
        return None
    return bool(first[0][0] == second[0][0])


def _difference(
    lineage: Lineage, before: CallReport, after: CallReport, same_output: bool | None
) -> tuple[ReplayReason | None, bool | None, tuple[str, ...]]:
    """Return how two calls differ, whether their outputs do, and the names of the arguments that differ."""
    try:
        first, second = (_identity(lineage, call) for call in (before, after))
    except LineageError:
        return None, same_output, ()
    return difference(second, first), same_output, changed_names(first.arguments, second.arguments)


def _identity(lineage: Lineage, call: CallReport) -> SimilarNode:
    number = lineage.number(call.node_id)
    ((code, input_hash, digests, sample),), parents = lineage.ask(
        ("identity_of_node", {"id": number}), ("parents", {"children": json.dumps([number])})
    )
    consumed = frozenset(binary(parent) for _, parent in parents)
    return SimilarNode(
        bytes.fromhex(call.node_id), code, input_hash, json.loads(digests or "{}"), consumed, sample, None
    )
