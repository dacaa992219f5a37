"""Take the results of a cassette out of a store, and load a cassette into a store."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

from musubito.dependencies.paths import AT
from musubito.engine.engine import MusubitoEngine
from musubito.engine.recorded_inputs import stored
from musubito.lineage.corruption import reports_damage
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.readers.store_reader import batches, by_first, of_many
from musubito.lineage.reports import RunReport
from musubito.lineage.transfer.cassette import Cassette, CassetteError, RecordedResult, ResultCall
from musubito.lineage.transfer.named_paths import NamedPaths
from musubito.reasons import NeverReplayed, ReplayReason, never_replayed, reason_of
from musubito.store.changes import Commit, LearnState, Moment
from musubito.store.protocol import Row
from musubito.store.queries import CurrentMoment, KeyCheckOf, OlderCandidates
from musubito.store.rows import (
    CallDependency,
    CallKeys,
    Candidate,
    CodeRecord,
    EdgeKind,
    EffectOutcome,
    ExecutionFlags,
    ExternalRead,
    Ledger,
    NodeSpec,
    ParentRef,
    SampleRef,
    Used,
)

AT_ONCE: Final = 500
"""Executions that are read together."""
FOR_READERS: Final = ExecutionFlags.OUTSIDE | ExecutionFlags.CONFIGURED
"""The flags of an execution that no replay needs."""
LOCAL: Final = re.compile(r"(localhost|127\.[\d.]+|\[?::1\]?):\d+$")
"""Matches the address of a server on this machine."""
_ABOUT: Final = (
    "results_of_executions",
    "uses_of_executions",
    "reads_of_executions",
    "attempts_of_executions",
    "usage_of_executions",
    "effects_of_executions",
)


@reports_damage
def recorded_results(lineage: Lineage, executions: Sequence[int]) -> list[RecordedResult]:
    """Return the executions that may be replayed, in this order, each followed by all that was called inside it.

    A recorded test replays LIVE steps, too, and what they ran inside of. Of executions that nothing tells apart, one is
    returned.

    Raises `CassetteError` if one lies in an encrypted namespace: its keys hold only with the key.
    """
    rows: dict[int, Row] = {}
    of: dict[str, dict[int, list[Row]]] = {query: {} for query in _ABOUT[1:]}
    ahead, seen = set(executions), set[int]()
    while ahead:
        seen |= ahead
        for numbers in batches(sorted(ahead), AT_ONCE):
            answers = lineage.ask(*(of_many(query, numbers) for query in _ABOUT))
            rows |= {row[0]: row for row in answers[0] if row[20] is None or _is_live_inside(row[20])}
            for query, more in zip(_ABOUT[1:], answers[1:], strict=True):
                of[query] |= by_first(more)
        called = {row[0] for number in ahead for row in of["uses_of_executions"].get(number, ())}
        ahead = called - seen
    for namespace in {row[2] for row in rows.values()}:
        if lineage.engine.storage.find(KeyCheckOf(namespace)):
            raise CassetteError(f"the namespace {namespace!r} is encrypted, and no cassette is made of it")
    if not rows:
        return []
    edges = by_first(lineage.about("edges_of_nodes", (row[1] for row in rows.values())))
    payloads = dict(zip(rows, lineage.ask(*(("payload", {"execution": number}) for number in rows)), strict=True))
    inputs = dict(zip(rows, lineage.inputs((row[2], row[3], bytes(row[10])) for row in rows.values()), strict=True))
    codes = _codes(lineage, rows.values())
    states = _states(lineage, {(row[2], row[3]) for row in rows.values()})
    results: dict[int, RecordedResult] = {}
    turns = Counter[bytes]()
    for number in sorted(rows):  # a call has a lower number than its caller
        row = rows[number]
        if row[15] & ExecutionFlags.LIVE:
            turns[bytes(row[5])] += 1
        contents = lineage.contents(row[2])
        payload, codec = payloads[number][0]
        usage = of["usage_of_executions"].get(number, ())
        effects = of["effects_of_executions"].get(number, ())
        result = RecordedResult(
            namespace=row[2],
            operation=row[3],
            input=inputs[number],
            payload=bytes(contents.open(codec, payload, bytes(row[16]))),
            keys=CallKeys(*map(bytes, row[4:7])),
            code=codes[bytes(row[7])],
            input_hash=bytes(row[10]),
            step_type=row[11],
            sample=row[12],
            arguments={name: bytes.fromhex(digest) for name, digest in json.loads(row[13]).items()},
            parents=tuple(
                ParentRef(bytes(node), bytes(artifact), EdgeKind(kind)) for node, artifact, kind in edges[row[1]]
            ),
            pool=None if row[14] is None else bytes(row[14]),
            holds=row[15] & ~FOR_READERS,
            duration_ms=round(row[18]),
            valid_for=None if row[19] is None else round(row[19] - row[17], 3),
            calls=tuple(
                ResultCall(results[called], bytes(node), bytes(asked) or results[called].keys.reuse)
                for called, node, asked in of["uses_of_executions"].get(number, ())
                if called in results
            ),
            reads=tuple(
                sorted(
                    (
                        ExternalRead(kind, key, bytes(digest) or None)
                        for kind, key, digest in of["reads_of_executions"].get(number, ())
                    ),
                    key=str,
                )
            ),
            attempts=tuple(
                SampleRef(bytes(pool), sample) for pool, sample in of["attempts_of_executions"].get(number, ())
            ),
            usage=tuple(Used(*used) for used in usage),
            effect=(bytes(effects[0][0]), effects[0][1]) if effects else None,
            turn=turns[bytes(row[5])],
            holds_live=row[20] is not None,
            state=states[row[2], row[3]],
        )
        results[number] = replace(result, reads=tuple(_portable(result)))
    return _with_calls(results[number] for number in executions if number in results)


def _with_calls(results: Iterable[RecordedResult]) -> list[RecordedResult]:
    """Return results and the calls inside of them, each once."""
    ordered: dict[tuple[Any, ...], RecordedResult] = {}
    rest = list(results)[::-1]
    while rest:
        result = rest.pop()
        if result.identity not in ordered:
            ordered[result.identity] = result
            rest += [call.result for call in reversed(result.calls)]
    return list(ordered.values())


def _is_live_inside(not_replayable: str) -> bool:
    return reason_of(not_replayable) is ReplayReason.LIVE_INSIDE


def _codes(lineage: Lineage, rows: Iterable[Row]) -> dict[bytes, CodeRecord]:
    wanted = {bytes(row[7]): row for row in rows}
    parts = lineage.ask(*(("code_of", {"fingerprint": fingerprint}) for fingerprint in wanted))
    return {
        fingerprint: CodeRecord(
            fingerprint,
            [(part, bytes(digest), source) for part, digest, source in of_code],
            tuple(json.loads(row[8])),
            tuple(json.loads(row[9])),
        )
        for (fingerprint, row), of_code in zip(wanted.items(), parts, strict=True)
    }


def _states(lineage: Lineage, steps: Iterable[tuple[str, str]]) -> dict[tuple[str, str], tuple[tuple[bytes, str], ...]]:
    """Return the names of what steps change themselves, by namespace and operation."""
    wanted = list(steps)
    answers = lineage.ask(
        *(("state_of_operation", {"namespace": namespace, "operation": operation}) for namespace, operation in wanted)
    )
    return {step: tuple((bytes(code), part) for code, part in rows) for step, rows in zip(wanted, answers, strict=True)}


def _portable(result: RecordedResult) -> Iterator[ExternalRead]:
    """Yield the reads that hold in another checkout.

    The absolute path of a file below the working directory is left out, unless something names that path: the same file
    is read by its relative path. A server on this machine has another port there.
    """
    named = NamedPaths(result)
    for read in result.reads:
        if read.kind == "network" and LOCAL.match(read.key):
            yield read._replace(key=read.key.rpartition(":")[0])
        elif read.kind not in AT.values() or named.hold(read.key):
            yield read


def unanswered_calls(lineage: Lineage) -> dict[str, NeverReplayed]:
    """Return the operations of calls that no replay would answer, and why nothing of them is recorded.

    Left out are calls that were made again and then recorded, and those inside a recorded one: a replay does not make
    them.
    """
    calls = {(row[1], row[2]): (row[0], (row[3], row[4])) for row in lineage.rows("executions_of_calls")}
    executions = [execution for execution, _ in calls.values() if execution is not None]
    refused = {row[0]: row[1:] for row in lineage.about("refused_executions", executions)}
    refused = {execution: row for execution, row in refused.items() if not _is_live_inside(row[2])}
    recorded = {
        bytes(row[5]): row[0] for row in lineage.about("results_of_executions", executions) if row[0] not in refused
    }
    missing = {execution for execution, (_, key, _) in refused.items() if recorded.get(bytes(key), 0) < execution}

    def is_made(place: tuple[Any, Any]) -> bool:
        """Tell whether a replay comes to a call, or to the call at a place around one."""
        if place not in calls:
            return True
        execution, around = calls[place]
        return (execution is None or execution in missing) and is_made(around)

    return {
        refused[execution][0]: never_replayed(refused[execution][2])
        for execution, around in calls.values()
        if execution in missing and is_made(around)
    }


def cassette_of_run(lineage: Lineage, report: RunReport) -> Cassette:
    """Return the results that the calls of a run replayed or recorded, with all that was called inside them.

    They count as recorded when the run ended. Raises `CassetteError` if nothing of the run can be replayed.
    """
    results = recorded_results(lineage, [call.execution for call in report.calls if call.execution is not None])
    if not results:
        raise CassetteError("no result of this run may be replayed, so a cassette of it would be empty")
    namespaces = Counter(call.namespace for call in report.calls if call.execution is not None)
    at = report.summary.finished_at or report.summary.started_at
    return Cassette(int(at), namespaces.most_common(1)[0][0], tuple(results))


_Stored: TypeAlias = tuple[int, float]
"""The number of an execution, and the time when it began."""


def load_cassette(engine: MusubitoEngine, cassette: Cassette) -> int:
    """Write the results of a cassette into the engine's store, and return how many were not there.

    They count as begun when the cassette was recorded. A call that the store has an answer for is left as it is: it may
    have another answer by now, or one that was invalidated. Nor is anything written that was built on the cassette's
    answer to such a call. Raises `CassetteError` if the store keeps the namespace encrypted, and `StoreError`.
    """
    storage = engine.storage
    began: Moment = storage.find(CurrentMoment())
    for namespace in {result.namespace for result in cassette.results}:
        if engine.in_namespace(namespace).contents.keys is not None or storage.find(KeyCheckOf(namespace)):
            raise CassetteError(f"the namespace {namespace!r} is encrypted here, and takes no cassette")
    states = {(each.namespace, each.operation, code, (part,)) for each in cassette.results for code, part in each.state}
    storage.write([LearnState(*state) for state in sorted(states)])
    executions: dict[tuple[Any, ...], _Stored] = {}
    left = set[tuple[Any, ...]]()
    added = 0
    rest: Sequence[RecordedResult] = cassette.results
    while rest:
        # A result comes after those that it called.
        known = executions.keys() | left
        ready = [result for result in rest if all(call.result.identity in known for call in result.calls)]
        rest = [result for result in rest if result not in ready]
        left |= {item.identity for item in ready if any(call.result.identity in left for call in item.calls)}
        new: list[RecordedResult] = []
        for result in (item for item in ready if item.identity not in left):
            before = _stored_before(engine, result, began)
            equal = _equal(engine, result, before)
            if equal is not None:
                executions[result.identity] = equal
            elif before:
                left.add(result.identity)
            else:
                new.append(result)
        commits = [_commit(engine, cassette.recorded_at, result, executions, began) for result in new]
        for result, committed in zip(new, storage.write(commits), strict=True):
            executions[result.identity] = committed.execution, float(cassette.recorded_at)
        storage.write([_inputs(result, executions[result.identity][0]) for result in new if result.input is not None])
        added += len(new)
    return added


def _stored_before(engine: MusubitoEngine, result: RecordedResult, began: Moment) -> Sequence[Candidate]:
    """Return the answers to a call that the store held before the cassette was loaded."""
    if not began.executions:
        return ()
    candidates: Sequence[Candidate] = engine.storage.find(
        OlderCandidates(result.keys, result.namespace, across=False, oldest=-math.inf)
    )
    return [
        candidate
        for candidate in candidates
        if candidate.artifact is not None and candidate.execution <= began.executions
    ]


def _equal(engine: MusubitoEngine, result: RecordedResult, candidates: Sequence[Candidate]) -> _Stored | None:
    """Return an answer that is equal to that of the cassette and still valid; None if there is none."""
    artifact = engine.in_namespace(result.namespace).contents.digest(result.payload)
    for candidate in candidates:
        if candidate.artifact == artifact and not candidate.invalid:
            return candidate.execution, candidate.started_at
    return None


def _inputs(result: RecordedResult, execution: int) -> Ledger:
    line = stored(execution, result.operation, result.input_hash, result.input)
    return Ledger(result.namespace, (), (), [line])


def _commit(
    engine: MusubitoEngine,
    recorded_at: int,
    result: RecordedResult,
    executions: Mapping[tuple[Any, ...], _Stored],
    began: Moment,
) -> Commit:
    contents = engine.in_namespace(result.namespace).contents
    artifact = contents.digest(result.payload)
    sealed = contents.seal(artifact, result.payload)
    at = float(recorded_at)
    return Commit(
        place=NodeSpec(
            keys=result.keys,
            namespace=result.namespace,
            operation=result.operation,
            code=result.code,
            input_hash=result.input_hash,
            step_type=result.step_type,
            sample=result.sample,
            arguments=result.arguments,
            parents=result.parents,
        ),
        began=began,
        started_at=at,
        duration_ms=float(result.duration_ms),
        artifact=artifact,
        payload=sealed.body,
        valid_from=None if result.valid_for is None else at,
        valid_until=None if result.valid_for is None else at + result.valid_for,
        not_replayable=ReplayReason.LIVE_INSIDE.of() if result.holds_live else None,
        pool=result.pool,
        uses=[CallDependency(call.node, call.asked, *executions[call.result.identity]) for call in result.calls],
        reads=result.reads,
        attempts=result.attempts,
        holds=result.holds,
        usage=result.usage,
        lease=None,
        effect=None if result.effect is None else EffectOutcome(*result.effect, "done"),
        codec=sealed.codec,
        size=len(result.payload),
    )
