"""Explain why calls ran: compare each with the earlier call of its step that is most like it."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from musubito.engine.explain import why_missing
from musubito.engine.nearest import COMPARED, Earlier, changed_names, reasons
from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.files import ChangedFile, changed_reads
from musubito.lineage.reader import Lineage
from musubito.lineage.reports import NodeReport, RunReport
from musubito.reasons import NeverReplayed, ReplayReason, never_replayed
from musubito.remedies import remedy_of
from musubito.store.queries import SimilarNode
from musubito.values.redaction import HIDDEN, is_secret, without_secrets_in
from musubito.values.value_diff import Difference, text_diff

LOOKED_AT: Final = 50_000
"""Nodes before the explained node that are searched for earlier calls."""
UNIDENTIFIED: Final = (
    ReplayReason.INPUT_NOT_IDENTIFIED,
    ReplayReason.CONTEXT_NOT_IDENTIFIED,
    ReplayReason.REMEMBERS,
)
"""Reasons that make a call unlike every other, so that there is nothing to compare it with."""


@dataclass(frozen=True, slots=True)
class ChangedCode:
    """A function, class or constant that differs.

    `diff` is a unified diff of its text; it is empty if no text was kept. `change` is "changed", "added" or "gone".
    """

    part: str
    change: str
    diff: str


@dataclass(frozen=True, slots=True)
class Why:
    """The differences between a call and the nearest earlier call.

    - `reason`: the reason in the history for the call that ran last here. If no result was stored for that call, the
      difference from the nearest call that ran before its run.
    - `arguments`: the names of the arguments that differ.
    - `fields`: the places in the arguments that differ, if both inputs are stored.
    - `parents`: pairs of parents that differ.
    - `not_replayable`: the reason why a result stored for this very call is never replayed; None if there is no such
      result.
    - `never`: `not_replayable` as reason, part and remedy.
    - `files`: the files that the node's execution read with other content than the execution before it.
    - `reads`: the names of its other reads that returned something else: `$.configurable.thread_id`, `$.store`.
    - `varies`: one place of the input differs in each of several earlier calls, and all the rest is equal.
    - `inputs_stored`: both inputs are stored, so that `fields` holds all visible differences.
    """

    node: NodeReport
    reason: ReplayReason
    nearest: NodeReport | None
    arguments: tuple[str, ...]
    fields: tuple[Difference, ...]
    code: tuple[ChangedCode, ...]
    parents: tuple[tuple[NodeReport | None, NodeReport | None], ...]
    not_replayable: str | None
    files: tuple[ChangedFile, ...] = ()
    never: NeverReplayed | None = None
    reads: tuple[str, ...] = ()
    varies: bool = False
    inputs_stored: bool = True

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the names of the parts that differ: the paths in the input, and the ambient inputs."""
        if self.reason is ReplayReason.READ_CHANGED:
            return (*(file.path for file in self.files), *self.reads)
        paths = tuple(field.path for field in self.fields)
        around = tuple(name for name in self.arguments if name.startswith("$"))
        return paths + around or self.arguments

    @property
    def remedy(self) -> str:
        """Return what to do so that such a call is replayed; "" if nothing can or need be done."""
        return (self.never and self.never.remedy) or remedy_of(self.reason, self.parts, varies=self.varies)


@reports_damage
def why(lineage: Lineage, node: str, recorded: tuple[ReplayReason, float] | None = None) -> Why:
    """Explain why a node ran when it last did. Raises `LineageError` if the node does not exist.

    For another call at this node, `recorded` holds the reason of that call, and the time when its run began.
    """
    number = lineage.number(node)
    this = lineage.nodes([number])[0]
    reason, began = recorded or _recorded_reason(lineage, this)
    stored = next((row[0] for row in lineage.rows("why_not_replayable", id=number)), None)
    never = None if stored is None else never_replayed(stored)
    files, reads = changed_reads(lineage, this)
    numbers, calls = _calls(lineage, number, bytes.fromhex(this.node_id))
    call, *earlier = calls
    if never is not None and never.reason in UNIDENTIFIED:
        reason = never.reason
    arguments = lineage.input(this)

    def inputs_of(others: Sequence[SimilarNode]) -> list[Any]:
        return lineage.inputs(this.namespace, this.operation, [other.input_hash for other in others])

    if reason is ReplayReason.NODE_NOT_FOUND:
        reason = reasons(calls, {call.node}, began)[call.node]
    # Calls of the same run are its other parts, and no earlier state. Other samples of one call are siblings.
    before = [other for other in earlier if other.started_at is not None and other.started_at < began]
    is_unlike = reason in UNIDENTIFIED or reason is ReplayReason.NODE_NOT_FOUND
    near = Earlier([] if is_unlike else before or earlier).nearest(call, arguments, inputs_of)
    if near is None:
        return Why(this, reason, None, (), (), (), (), stored, files, never, reads)
    other = near.call
    return Why(
        this,
        reason,
        lineage.nodes([numbers[other.node]])[0],
        changed_names(other.arguments, call.arguments),
        near.fields,
        _changed_code(lineage, other.code, call.code) if other.code != call.code else (),
        _changed_parents(
            lineage, {numbers[parent] for parent in other.parents}, {numbers[parent] for parent in call.parents}
        ),
        stored,
        files,
        never,
        reads,
        near.varies,
        arguments is not None and inputs_of([other])[0] is not None,
    )


@reports_damage
def with_reasons(lineage: Lineage, report: RunReport) -> RunReport:
    """Return a run whose calls without a stored result carry the difference from an earlier call as their reason.

    Such a call is compared with the nearest call that ran before this run. Without such a call, the reason stays.
    """
    missing: defaultdict[tuple[str, str], set[bytes]] = defaultdict(set)
    for call in report.calls:
        if call.reason is ReplayReason.NODE_NOT_FOUND and call.namespace:
            missing[call.namespace, call.operation].add(bytes.fromhex(call.node_id))
    reasons_by_node: dict[str, ReplayReason] = {}
    for (namespace, operation), nodes in missing.items():
        engine = lineage.engine.in_namespace(namespace)
        for node, reason in why_missing(engine, operation, nodes, report.summary.started_at).items():
            reasons_by_node[node.hex()] = reason
    calls = tuple(
        replace(call, reason=reasons_by_node.get(call.node_id, call.reason))
        if call.reason is ReplayReason.NODE_NOT_FOUND
        else call
        for call in report.calls
    )
    return RunReport(report.summary, calls)


def _calls(lineage: Lineage, number: int, node_id: bytes) -> tuple[dict[bytes, int], list[SimilarNode]]:
    """Return a call and the earlier calls of its step, newest first, and the numbers of all nodes that they name."""
    params = {"id": number, "limit": COMPARED, "looked_at": LOOKED_AT}
    (own,), rows, edges = lineage.ask(
        ("identity_of_node", {"id": number}), ("earlier_nodes", params), ("parents_of_earlier_nodes", params)
    )
    parents_of: defaultdict[int, set[bytes]] = defaultdict(set)
    numbers: dict[bytes, int] = {}
    for child, parent, parent_id in edges:
        parents_of[child].add(binary(parent_id))
        numbers[binary(parent_id)] = parent
    calls = []
    for child, node, code, input_hash, arguments, sample, started_at in [(number, node_id, *own, None), *rows]:
        numbers[binary(node)] = child
        digests = json.loads(arguments or "{}")
        consumed = frozenset(parents_of[child])
        calls.append(SimilarNode(binary(node), code, input_hash, digests, consumed, sample, started_at))
    return numbers, calls


def _recorded_reason(lineage: Lineage, node: NodeReport) -> tuple[ReplayReason, float]:
    """Return the reason of the call that ran last at a node, and the time when its run began."""
    rows = lineage.rows("reason_of_run", node=bytes.fromhex(node.node_id))
    return (ReplayReason[rows[0][0]], rows[0][1]) if rows else (ReplayReason.NODE_NOT_FOUND, math.inf)


def _changed_parents(
    lineage: Lineage, before: set[int], after: set[int]
) -> tuple[tuple[NodeReport | None, NodeReport | None], ...]:
    gone, new = lineage.nodes(sorted(before - after)), lineage.nodes(sorted(after - before))
    pairs: list[tuple[NodeReport | None, NodeReport | None]] = []
    for node in new:
        match = next((parent for parent in gone if parent.operation == node.operation), None)
        if match is not None:
            gone.remove(match)
        pairs.append((match, node))
    return (*pairs, *((parent, None) for parent in gone))


def _changed_code(lineage: Lineage, before: bytes, after: bytes) -> tuple[ChangedCode, ...]:
    old, new = (
        {
            part: (digest, source and without_secrets_in(source))
            for part, digest, source in lineage.rows("code_of", fingerprint=fingerprint)
        }
        for fingerprint in (before, after)
    )
    changed: list[ChangedCode] = []
    for part in sorted(old.keys() | new.keys()):
        (digest, text), (new_digest, new_text) = old.get(part, (None, None)), new.get(part, (None, None))
        if digest == new_digest:
            continue
        change = "added" if digest is None else "gone" if new_digest is None else "changed"
        diff = text_diff(part, text or "", new_text or "") if text != new_text else ""
        changed.append(ChangedCode(part, change, diff))
    # A part that differs only because another part differs tells nothing new. A part with a hidden text is kept: it may
    # have changed itself.
    hidden = {
        part
        for part, (_, text) in (*old.items(), *new.items())
        if (text and HIDDEN in text) or is_secret(part.rpartition(".")[2])
    }
    names = {entry.part for entry in changed}
    # A constant without a stored text is kept for the same reason, unless the change in it is a part of its own.
    hidden |= {
        part
        for part in names & old.keys() & new.keys()
        if old[part][1] is new[part][1] is None and not any(part in _around(other) for other in names)
    }
    shown = [entry for entry in changed if entry.diff or entry.change != "changed" or entry.part in hidden]
    # A part inside another part that changed is shown with that part.
    outer = [entry for entry in changed if not any(name in names for name in _around(entry.part))]
    return tuple(shown or outer)


def _around(part: str) -> Iterator[str]:
    """Yield the parts that a part of code lies in, by their dotted names."""
    while "." in part:
        part = part.rpartition(".")[0]
        yield part
