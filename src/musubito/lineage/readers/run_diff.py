"""Compare two runs: calls that are the same, calls that differ, and calls of one run alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from musubito.engine.nearest import changed_arguments, difference
from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.readers.store_reader import by_first, of_many, short_id
from musubito.lineage.readers.why import with_reasons
from musubito.lineage.reports import CallReport, EditReport, LineageError, RunReport, RunSummary
from musubito.model import ReplayReason
from musubito.store.queries import SimilarNode
from musubito.store.relational.reads import similar_node

ANSWERED: Final = ("ran", "replayed")
"""Outcomes of calls that returned a result."""


@dataclass(frozen=True, slots=True)
class CallDiff:
    """A call of one run beside its partner in the other run.

    `change` is "same" (equal nodes and outputs), "changed", "added", "gone" or "inside". A call is inside if the other
    run replayed the call that made it. The other run knows nothing of such a call, so the call counts as no difference.
    Of `before`, the reason is the recorded one: what an earlier call looked like counts for `after` alone.
    `reason` says how the identities of a changed call differ, or that nothing like it was asked before. If they are
    equal, it says why the second call ran and returned another output. It is None if the call ended otherwise, or if
    one of the identities is not stored. `parts` are the names of the arguments that differ. `same_output` is None if
    one of the outputs is not stored. If a person corrected the result between the two runs, `edit` says who, when and
    why.
    """

    operation: str
    change: str
    before: CallReport | None
    after: CallReport | None
    reason: ReplayReason | None
    same_output: bool | None
    parts: tuple[str, ...] = ()
    edit: EditReport | None = None


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
    return _compare(lineage, lineage.run(before), lineage.run(after))


def _compare(lineage: Lineage, first: RunReport, second: RunReport) -> RunDiff:
    second = with_reasons(lineage, second)
    old, new = _Side(first.calls), _Side(second.calls)
    # From the plainest partner to the last resort: the pairs of one round decide which calls are inside in the next.
    for kind in (_at_same_place, _of_same_node_and_end, _of_same_node, _of_same_operation):
        _pair_up(old, new, kind)
    facts = _facts(lineage, [(new.partners[call.number], call) for call in second.calls if call.number in new.partners])
    compared: list[CallDiff] = []
    for call in second.calls:
        partner = new.partners.get(call.number)
        if partner is not None:
            compared.append(_compared(facts, partner, call))
        else:
            compared.append(CallDiff(call.operation, new.alone(call, "added"), None, call, None, None))
    compared += [
        CallDiff(call.operation, old.alone(call, "gone"), call, None, None, None)
        for call in first.calls
        if call.number not in old.partners
    ]
    return RunDiff(first.summary, second.summary, tuple(compared))


@reports_damage
def compare_with_previous(lineage: Lineage, run: str) -> RunDiff:
    """Compare a run with the run of the same name that began before it.

    Raises `LineageError` if there is none.
    """
    report = lineage.run(run)
    summary = report.summary
    previous = lineage.newest_runs(1, summary.started_at, summary.name)
    if not previous:
        named = f" called {summary.name!r}" if summary.name else ""
        raise LineageError(f"there is no run{named} before {short_id(summary.run_id)}; give two runs")
    return _compare(lineage, lineage.run(binary(previous[0][1]).hex()), report)


class _Side:
    """The calls of one run, with their partners in the other run."""

    def __init__(self, calls: Sequence[CallReport]) -> None:
        self.calls = {call.number: call for call in calls}
        self.partners: dict[int, CallReport] = {}
        self._alone: Iterable[CallReport] = calls

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
        if not call.parent or not self.partners:
            return False
        partners = (self.partners.get(outer.number) for outer in self.around(call))
        return any(partner is not None and partner.outcome == "replayed" for partner in partners)

    def free(self) -> list[CallReport]:
        """Return the calls that need a partner."""
        self._alone = [call for call in self._alone if call.number not in self.partners]
        return [call for call in self._alone if not self.is_inside(call)]


def _pair_up(old: _Side, new: _Side, kind: Callable[[_Side, CallReport], Hashable]) -> None:
    waiting: defaultdict[Hashable, list[CallReport]] = defaultdict(list)
    for call in reversed(old.free()):
        waiting[kind(old, call)].append(call)
    for call in new.free():
        same = waiting.get(kind(new, call))
        if same:
            partner = same.pop()  # the earliest
            old.partners[partner.number] = call
            new.partners[call.number] = partner


def _of_same_operation(_: _Side, call: CallReport) -> Hashable:
    return call.namespace, call.operation


def _of_same_node(_: _Side, call: CallReport) -> Hashable:
    return call.node_id


def _of_same_node_and_end(_: _Side, call: CallReport) -> Hashable:
    return call.node_id, "answered" if call.outcome in ANSWERED else call.outcome


def _at_same_place(side: _Side, call: CallReport) -> Hashable:
    return _of_same_node_and_end(side, call), tuple(outer.node_id for outer in side.around(call)) if call.parent else ()


class _Facts(NamedTuple):
    """The stored facts of calls.

    These are the artifacts of their executions, which of these a person made, and what tells their nodes from others.
    """

    artifacts: dict[int | None, bytes]
    edits: dict[int, EditReport]
    identities: dict[str, SimilarNode]


def _facts(lineage: Lineage, pairs: Sequence[tuple[CallReport, CallReport]]) -> _Facts:
    differing = [pair for pair in pairs if pair[0].execution != pair[1].execution]
    executions = [call.execution for pair in differing for call in pair if call.execution is not None]
    artifacts: dict[int | None, bytes] = dict(lineage.about("artifacts_of_executions", executions))
    numbers = lineage.numbers(call.node_id for pair in pairs if pair[0].node_id != pair[1].node_id for call in pair)
    found, consumed = lineage.ask(*(of_many(query, numbers.values()) for query in ("identities", "parents")))
    parents = by_first(consumed)
    identities = {
        binary(row[0]).hex(): similar_node(row, (binary(parent) for (parent,) in parents[number]))
        for number, *row in found
    }
    return _Facts(artifacts, lineage.edits(executions), identities)


def _compared(facts: _Facts, before: CallReport, after: CallReport) -> CallDiff:
    is_same = before.execution is not None and before.execution == after.execution and before.node_id == after.node_id
    if is_same and before.outcome in ANSWERED and after.outcome in ANSWERED:
        return CallDiff(after.operation, "same", before, after, None, same_output=True)
    same_output = _same_output(facts, before, after)
    if before.node_id != after.node_id:
        first, second = facts.identities.get(before.node_id), facts.identities.get(after.node_id)
        if first is None or second is None:
            return CallDiff(after.operation, "changed", before, after, None, same_output)
        if after.reason is ReplayReason.NOTHING_LIKE_IT:
            return CallDiff(after.operation, "changed", before, after, after.reason, same_output)
        parts = changed_arguments(first, second)
        return CallDiff(after.operation, "changed", before, after, difference(second, first), same_output, parts)
    ended = [call.outcome for call in (before, after) if call.outcome not in ANSWERED]
    # The newer of two answers may be a person's, in whichever of the runs it was given.
    newer = max(call.execution or 0 for call in (before, after))
    edit = facts.edits.get(newer) if before.execution != after.execution else None
    is_another = same_output is False and edit is None
    changed = edit is not None or is_another or (ended and before.outcome != after.outcome)
    reason = after.reason if is_another and after.outcome == "ran" else None
    change = "changed" if changed else "same"
    return CallDiff(after.operation, change, before, after, reason, same_output, edit=edit)


def _same_output(facts: _Facts, before: CallReport, after: CallReport) -> bool | None:
    if before.execution is None or after.execution is None:
        return None
    if before.execution == after.execution:
        return True
    first, second = facts.artifacts.get(before.execution), facts.artifacts.get(after.execution)
    return None if first is None or second is None else first == second
