"""Explain why calls ran: compare each with the earlier call of its step that is most like it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, NamedTuple, TypeAlias

from musubito.engine.code_diff import ChangedCode, PartsOfCode, changed_code, is_renamed
from musubito.engine.nearest import (
    COMPARED,
    VERSIONS,
    Earlier,
    Nearest,
    Reasons,
    changed_arguments,
    floor_of,
    nearest,
)
from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.readers.files import ChangedFile, ChangedReads, changed_reads
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.readers.store_reader import batches, by_first, of_many
from musubito.lineage.reports import NodeReport, RunReport
from musubito.model import StepType
from musubito.reasons import OF_DEPENDENCIES, NeverReplayed, ReplayReason, never_replayed
from musubito.remedies import remedy_of
from musubito.store.protocol import NamedQuery, Row
from musubito.store.queries import SimilarNode
from musubito.store.relational.reads import similar_node
from musubito.values.redaction import scrubbed, without_secrets_in
from musubito.values.value_diff import Difference

LOOKED_AT: Final = 50_000
"""Nodes before the explained node that are searched for earlier calls."""
AT_ONCE: Final = 200
"""Calls that are explained together."""
NO_READS: Final = ChangedReads((), (), ())
Recorded = tuple[ReplayReason, float]
"""The reason of a call, and the time when the outermost run around it began."""
UNIDENTIFIED: Final = (
    ReplayReason.INPUT_NOT_IDENTIFIED,
    ReplayReason.CONTEXT_NOT_IDENTIFIED,
    ReplayReason.REMEMBERS,
)
"""Reasons that make a call unlike every other."""
DIFFERING: Final = (
    ReplayReason.CODE_CHANGED,
    ReplayReason.INPUT_CHANGED,
    ReplayReason.UPSTREAM_CHANGED,
    ReplayReason.VERSION_CHANGED,
    ReplayReason.ANOTHER_SAMPLE,
)
"""Reasons that say how a call differs from an earlier one, so that the two are compared."""


@dataclass(frozen=True, slots=True)
class Why:
    """The differences between a call and the nearest earlier call.

    - `reason`: the reason in the history for the call that ran last here. If no result was stored for that call, the
      difference from the nearest call that ran before the outermost run around it.
    - `nearest`: the earlier call that is most like it; None if nothing like it was asked before.
    - `arguments`: the names of the arguments that differ.
    - `fields`: the places in the arguments that differ, if both inputs are stored.
    - `hidden`: the places in the arguments whose values are hidden, if no other place differs.
    - `parents`: pairs of parents that differ.
    - `not_replayable`: the reason why a result stored for this very call is never replayed; None if there is no such
      result.
    - `never`: `not_replayable` as reason, part and remedy.
    - `files`: the files that the node's execution read with other content than the execution before it.
    - `reads`: the names of its other reads that returned something else: `$.configurable.thread_id`, `$.store`, and
      of its declared dependencies that differ or were not compared.
    - `varies`: one place of the input differs in each of several earlier calls, and all the rest is equal.
    - `edited`: results that it consumed or called, and that a person has corrected.
    - `run_id`, `run_name`: the run in which it ran last; None if the history does not hold it, or was not asked.
    - `replayed_since`: it was replayed after that.
    - `same_code`: the name of the step that had the same code before, if the name of this step is new.
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
    edited: tuple[NodeReport, ...] = ()
    run_id: str | None = None
    run_name: str | None = None
    replayed_since: bool = False
    hidden: tuple[str, ...] = ()
    same_code: str | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the names of the parts that differ: the paths in the input, and the ambient inputs."""
        if self.reason in OF_DEPENDENCIES:
            return (*(file.path for file in self.files), *self.reads)
        paths = tuple(field.path for field in self.fields)
        around = tuple(name for name in self.arguments if name.startswith("$"))
        return paths + around or self.arguments

    @property
    def remedy(self) -> str:
        """Return what to do so that such a call is replayed; "" if nothing can or need be done."""
        parts = self.objects if self.reason is ReplayReason.CODE_CHANGED else self.parts
        if self.reason is ReplayReason.READ_CHANGED and not self.files:
            parts = tuple(part for part in parts if part.startswith("$."))
        return (self.never and self.never.remedy) or remedy_of(self.reason, parts, varies=self.varies)

    @property
    def objects(self) -> tuple[str, ...]:
        """Return the names of the objects that differ if no text of the code does."""
        return () if any(part.diff for part in self.code) else tuple(part.part for part in self.code)


@reports_damage
def why(lineage: Lineage, node: str, recorded: Recorded | None = None) -> Why:
    """Explain why a node ran when it last did. Raises `LineageError` if the node does not exist.

    For another call at this node, `recorded` holds the reason of that call, and when the outermost run around it began.
    """
    return whys(lineage, [(lineage.number(node), recorded)])[0]


@reports_damage
def whys(lineage: Lineage, calls: Sequence[tuple[int, Recorded | None]]) -> list[Why]:
    """Explain calls as `why` does, by the numbers of their nodes. Their facts are read together, step by step."""
    return [report for some in batches(calls, AT_ONCE) for report in _whys(lineage, some)]


def _whys(lineage: Lineage, calls: Sequence[tuple[int, Recorded | None]]) -> list[Why]:
    facts = _facts(lineage, calls)
    codes = codes_of(
        lineage,
        {call.code for fact in facts if _is_of_another_code(fact) for call in (fact.call, *fact.alike)},
    )
    changed = changed_reads(
        lineage,
        {
            fact.node.execution.number: (fact.node.namespace, fact.execution_before)
            for fact in facts
            if fact.node.execution is not None and fact.execution_before is not None
        },
    )
    texts = [name for reads in changed.values() for file in reads.files for name in file.texts]
    of_calls: dict[tuple[str, str | None, bytes], None] = {
        (fact.node.namespace, fact.node.operation, call.input_hash): None
        for fact in facts
        for call in ((fact.call, *fact.alike) if fact.alike else ())
    }
    inputs = lineage.inputs([*texts, *of_calls])
    stored_texts = dict(zip(texts, islice(inputs, len(texts)), strict=True))
    stored = dict(zip(of_calls, inputs, strict=True))
    tags, renamed = _tags_and_renamed(lineage, facts)
    near: list[tuple[Nearest, bool] | None] = []
    for position, fact in enumerate(facts):
        given = {
            call.input_hash: value
            for call in (fact.call, *fact.alike)
            if (value := stored.get((fact.node.namespace, fact.node.operation, call.input_hash))) is not None
        }
        own = tags[fact.call.node]
        kin = {call.node: len(own & tags[call.node]) for call in fact.alike}
        is_new = fact.last.reason is ReplayReason.NODE_NOT_FOUND
        found = nearest(fact.call, given, fact.alike, codes, floor_of(fact.call) if is_new else 0.0, kin)
        near.append(found and (found, {fact.call.input_hash, found.call.input_hash} <= given.keys()))
        if is_new and fact.alike and fact.reason in DIFFERING:
            facts[position] = fact._replace(reason=found.reason if found else ReplayReason.NOTHING_LIKE_IT)
    compared = [(fact, found[0].call) for fact, found in zip(facts, near, strict=True) if found is not None]
    numbers = sorted(
        {fact.numbers[node] for fact, other in compared for node in (other.node, *(fact.call.parents ^ other.parents))}
        | {number for fact in facts for number in fact.edited}
    )
    nodes = dict(zip(numbers, lineage.nodes(numbers), strict=True))
    reports = []
    for fact, found_call in zip(facts, near, strict=True):
        execution = fact.node.execution
        files, names, _ = changed.get(execution.number, NO_READS) if execution is not None else NO_READS
        if fact.reason in OF_DEPENDENCIES[1:] and execution is not None and execution.number in changed:
            names = names or changed[execution.number].declared
        report = Why(
            fact.node,
            fact.reason,
            None,
            (),
            (),
            (),
            (),
            fact.not_replayable,
            tuple(file.reported(stored_texts) for file in files),
            fact.never,
            names,
            edited=tuple(nodes[number] for number in fact.edited),
            run_id=fact.last.run_id,
            run_name=fact.last.run_name,
            replayed_since=fact.last.replayed_since,
            same_code=renamed.get((fact.node.namespace, fact.node.operation)),
        )
        reports.append(report if found_call is None else _compared(report, fact, *found_call, nodes, codes))
    return reports


def _tags_and_renamed(
    lineage: Lineage, facts: Sequence[_Facts]
) -> tuple[Mapping[bytes, set[str]], dict[tuple[str, str | None], str]]:
    """Return the tags of the runs of calls, and the steps that had the same code before, by the steps that are new."""
    numbers = {fact.numbers[call.node] for fact in facts if len(fact.alike) > 1 for call in (fact.call, *fact.alike)}
    new = {
        (fact.node.namespace, fact.node.operation): fact
        for fact in reversed(facts)
        if fact.reason is ReplayReason.NODE_NOT_FOUND
    }
    of = {"looked_at": LOOKED_AT, "limit": VERSIONS}
    rows, *similar = lineage.ask(
        of_many("tags_of_nodes", numbers),
        *(("steps_of_similar_code", {**of, "id": fact.numbers[fact.call.node]}) for fact in new.values()),
    )
    tags: defaultdict[bytes, set[str]] = defaultdict(set)
    for node, stored in rows:
        tags[binary(node)].update(f"{key}={value}" for key, value in (lineage.tags(stored) or {}).items())
    found = [
        (step, fact.call.code, name, code)
        for (step, fact), others in zip(new.items(), similar, strict=True)
        for name, code in reversed(others)
    ]
    codes = codes_of(lineage, {code for _, own, _, other in found for code in (own, other)})
    renamed: dict[tuple[str, str | None], str] = {
        step: name for step, own, name, other in found if is_renamed(codes[other], codes[own], name, step[1] or "")
    }
    return tags, renamed


def _is_of_another_code(fact: _Facts) -> bool:
    return any(call.code != fact.call.code for call in fact.alike)


def _compared(
    report: Why,
    fact: _Facts,
    near: Nearest,
    inputs_stored: bool,
    nodes: Mapping[int, NodeReport],
    codes: Mapping[bytes, PartsOfCode],
) -> Why:
    """Return the report with the differences from the nearest earlier call."""
    call, other = fact.call, near.call
    gone, new = (
        [nodes[number] for number in sorted(fact.numbers[parent] for parent in parents)]
        for parents in (other.parents - call.parents, call.parents - other.parents)
    )
    return replace(
        report,
        nearest=nodes[fact.numbers[other.node]],
        arguments=changed_arguments(other, call),
        fields=near.fields,
        code=changed_code(codes[other.code], codes[call.code]) if other.code != call.code else (),
        parents=_changed_parents(gone, new),
        varies=near.varies and report.node.step_type != StepType.EXTERNAL_EFFECT.value,  # no argument of it is left out
        inputs_stored=inputs_stored,
        hidden=near.hidden,
    )


@reports_damage
def with_reasons(lineage: Lineage, report: RunReport) -> RunReport:
    """Return a run whose calls without a stored result carry the difference from an earlier call as their reason.

    Such a call is compared with the nearest call that ran before this run, and before any run around it. Without such a
    call, the reason stays.
    """
    before = report.outermost_started_at
    missing: defaultdict[tuple[str, str, float], set[str]] = defaultdict(set)
    for call in report.calls:
        if call.reason is ReplayReason.NODE_NOT_FOUND and call.namespace:
            missing[call.namespace, call.operation, before].add(call.node_id)
    reasons = reasons_before(lineage, missing)
    explained = tuple(
        replace(call, reason=reasons.get((call.node_id, before), call.reason))
        if call.reason is ReplayReason.NODE_NOT_FOUND
        else call
        for call in report.calls
    )
    return replace(report, calls=explained)


def reasons_before(
    lineage: Lineage, missing: Mapping[tuple[str, str, float], Collection[str]]
) -> dict[tuple[str, float], ReplayReason]:
    """Return how calls differ from earlier ones, by their nodes and the times.

    `missing` has the nodes of calls by namespace, step, and the time before which the earlier calls ran.
    """
    numbers = lineage.numbers(node for nodes in missing.values() for node in nodes)
    stored = {key: {numbers[node] for node in nodes if node in numbers} for key, nodes in missing.items()}
    asked = [(nodes, before) for (*_, before), nodes in stored.items() if nodes]
    found = [
        (step, before, Reasons([*own, *earlier], {call.node for call in own}, before))
        for (*step, before), (own, earlier, _) in zip(
            [key for key, nodes in stored.items() if nodes],
            _similar_calls(asked, lineage.ask(*_questions(asked))),
            strict=True,
        )
    ]
    inputs = lineage.inputs(
        (namespace, step, digest) for (namespace, step), _, reasons in found for digest in reasons.hashes()
    )
    return {
        (node.hex(), before): reason
        for _, before, reasons in found
        for node, reason in reasons.by_inputs(islice(inputs, len(reasons.hashes()))).items()
    }


class _Facts(NamedTuple):
    """A node to be explained, with the earlier calls that are most like its call.

    `last` is the call that ran last. `numbers` has the numbers of these calls, and of what they consumed, by their ids.
    `edited` are the numbers of what the node consumed or called and a person has corrected.
    """

    node: NodeReport
    reason: ReplayReason
    not_replayable: str | None
    never: NeverReplayed | None
    execution_before: int | None
    call: SimilarNode
    alike: list[SimilarNode]
    numbers: Mapping[bytes, int]
    edited: list[int]
    last: _LastCall


class _LastCall(NamedTuple):
    """The reason of the call that ran last at a node, when the outermost run around it began, and more if known."""

    reason: ReplayReason
    began: float
    run_id: str | None = None
    run_name: str | None = None
    replayed_since: bool = False


def _facts(lineage: Lineage, calls: Sequence[tuple[int, Recorded | None]]) -> list[_Facts]:
    numbers = [number for number, _ in calls]
    # This one may look through all calls.
    ran = iter(lineage.ask(*(("reason_of_run", {"id": number}) for number, recorded in calls if recorded is None)))
    newest = [_LastCall(*recorded) if recorded else _last_call(next(ran)) for _, recorded in calls]
    asked = [({number}, last.began) for number, last in zip(numbers, newest, strict=True)]
    edited, *rows = lineage.ask(
        of_many("edited_above", numbers),
        *((query, {"id": number}) for number in numbers for query in ("why_not_replayable", "execution_before")),
        *_questions(asked),
    )
    above, answers = by_first(edited), iter(rows)
    refused_and_older = [(next(answers), next(answers)) for _ in calls]
    return [
        _facts_of(node, last, similar, above[number], *facts)
        for number, node, last, facts, similar in zip(
            numbers, lineage.nodes(numbers), newest, refused_and_older, _similar_calls(asked, answers), strict=True
        )
    ]


class _SimilarCalls(NamedTuple):
    """Calls of one step and earlier ones, each from the newest to the oldest.

    `numbers` has the numbers of all these, and of what they consumed, by their ids.
    """

    own: list[SimilarNode]
    earlier: list[SimilarNode]
    numbers: Mapping[bytes, int]


Asked: TypeAlias = Sequence[tuple[Collection[int], float]]
"""Nodes of one step, by their numbers, each with a time: earlier calls are those before it."""


def _questions(asked: Asked) -> list[NamedQuery]:
    """Return the queries whose rows `_similar_calls` reads."""
    own = [node for nodes, _ in asked for node in nodes]
    earlier = [
        (query, {"id": max(nodes), "before": before, "limit": COMPARED, "looked_at": LOOKED_AT})
        for nodes, before in asked
        for query in ("earlier_nodes", "parents_of_earlier_nodes")
    ]
    return [of_many("identities", own), of_many("parents_of_nodes", own), *earlier]


def _similar_calls(asked: Asked, rows: Iterable[list[Row]]) -> list[_SimilarCalls]:
    """Return the nodes asked for, and the newest calls of their step before a time, or else those beside them."""
    answers = iter(rows)
    identities, of_own = {row[0]: row for row in next(answers)}, next(answers)
    result = []
    for nodes, _ in asked:
        own = [identities[node] for node in sorted(nodes, reverse=True)]
        earlier = [row for row in next(answers) if row[0] not in nodes]
        parents = by_first([*(row for row in of_own if row[0] in nodes), *next(answers)])
        numbers = {binary(node): number for number, node, *_ in (*own, *earlier)}
        numbers |= {binary(parent_id): parent for each in parents.values() for parent, parent_id in each}
        own_calls, earlier_calls = (
            [
                similar_node((binary(node), *rest), (binary(parent) for _, parent in parents[number]))
                for number, node, *rest in some
            ]
            for some in (own, earlier)
        )
        result.append(_SimilarCalls(own_calls, earlier_calls, numbers))
    return result


def _last_call(rows: list[Row]) -> _LastCall:
    if not rows:
        return _LastCall(ReplayReason.NODE_NOT_FOUND, math.inf)
    reason, began, run, name, replayed_since = rows[0]
    return _LastCall(ReplayReason[reason], began, binary(run).hex(), name and scrubbed(name), bool(replayed_since))


def _facts_of(
    node: NodeReport, last: _LastCall, similar: _SimilarCalls, edited: list[Row], refused: list[Row], older: list[Row]
) -> _Facts:
    ((execution_before,),) = older
    (call,), earlier, numbers = similar
    reason, began = last.reason, last.began
    not_replayable = next((says for (says,) in refused), None)
    never = None if not_replayable is None else never_replayed(not_replayable)
    if never is not None and never.reason in UNIDENTIFIED:
        reason = never.reason
    if reason is ReplayReason.NODE_NOT_FOUND:
        reason = Reasons([call, *earlier], {call.node}, began).by_digests[call.node]
    # Calls of the same run are its other parts, and no earlier state. Other samples of one call are siblings.
    before = [other for other in earlier if other.started_at is not None and other.started_at < began]
    alike = Earlier(before or earlier).alike(call) if reason in DIFFERING else []
    if reason is ReplayReason.LIVE and before and before[0].code != call.code:
        alike = before[:1]  # it would have run anyway, but what somebody has edited is of interest
    corrected = [number for (number,) in edited]
    return _Facts(node, reason, not_replayable, never, execution_before, call, alike, numbers, corrected, last)


def _changed_parents(
    gone: list[NodeReport], new: list[NodeReport]
) -> tuple[tuple[NodeReport | None, NodeReport | None], ...]:
    pairs: list[tuple[NodeReport | None, NodeReport | None]] = []
    for node in new:
        match = next((parent for parent in gone if parent.operation == node.operation), None)
        if match is not None:
            gone.remove(match)
        pairs.append((match, node))
    return (*pairs, *((parent, None) for parent in gone))


def codes_of(lineage: Lineage, fingerprints: Collection[bytes]) -> dict[bytes, PartsOfCode]:
    """Return the parts of code, without secrets, by their fingerprints."""
    rows = lineage.ask(*(("code_of", {"fingerprint": fingerprint}) for fingerprint in fingerprints))
    return {
        fingerprint: {part: (digest, source and without_secrets_in(source)) for part, digest, source in parts}
        for fingerprint, parts in zip(fingerprints, rows, strict=True)
    }
