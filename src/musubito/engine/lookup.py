"""Look for an execution that may answer a call, and replay it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from musubito.code.argument_classes import classes_at_hand
from musubito.dependencies.check import counting, first_difference
from musubito.dependencies.registry import AMBIENT, is_checked, is_path
from musubito.engine.call_state import OUTSIDE, READS, SAMPLES, CallState
from musubito.engine.connections import is_settled, warn_of_replay
from musubito.engine.frame import NO_USAGE, Dependencies, Usage, Work
from musubito.engine.observer import Observer, Origin
from musubito.engine.requests import CallSteps, FetchLatest, Offload, Returned, RunQuery, Write
from musubito.errors import ArtifactCorrupt, ArtifactMissing, ArtifactUnreadable, StoreError
from musubito.model import MusubitoResult, ReplayDecision, StepType
from musubito.payloads.codec import PLAIN
from musubito.policy import decide, no
from musubito.reasons import ReplayReason, reason_of
from musubito.store.changes import RecordReplay
from musubito.store.queries import CurrentMoment, OlderCandidates, PayloadOf, ReadsOf, SampleTree, TraceOf, UsageOf
from musubito.store.rows import BLOB, CallDependency, Candidate, ExternalRead, SampleRef, Stored, TraceLine, Used
from musubito.values.artifact_codec import decode_value

AT_ONCE: Final = 65_536
"""Bytes of the largest payload that is decoded or sealed without a thread, in less than a millisecond."""
_AGAIN: Final = MusubitoResult(None, "", "", "")
"""The answer instead of a hit, if the execution became INVALID before the hit was written. The caller looks again."""


def with_live_steps(candidate: Candidate) -> Candidate:
    """Return the candidate without the reason that a LIVE step ran inside it, if that is its reason."""
    if candidate.not_replayable is None or reason_of(candidate.not_replayable) is not ReplayReason.LIVE_INSIDE:
        return candidate
    return candidate._replace(not_replayable=None)


class CallLookup(CallState):
    """A call that looks for its result."""

    def lookup(self) -> CallSteps[MusubitoResult[Any] | None]:
        """Replay the newest execution that may be replayed; return None if there is none.

        An execution with the call's reuse key comes first. If the policy allows it, one with its cross key comes next.
        """
        if self._is_live:
            self._reason = ReplayReason.LIVE
            return None
        return (yield from self._select_candidate((yield FetchLatest(self.keys, self.engine.namespace))))

    @property
    def _is_live(self) -> bool:
        """Tell whether the call runs each time, so that nothing is looked up for it."""
        call = self.call
        return call.definition.semantics.step_type is StepType.LIVE or call.forced_by is ReplayReason.LIVE

    @property
    def _is_forced(self) -> bool:
        """Tell whether the call runs whatever is stored, though it may be replayed at another time."""
        return self.call.forced_by is not None or self.call.definition.semantics.force_reexecution

    def _decide(self, candidate: Candidate) -> ReplayDecision:
        """Decide whether an execution may be replayed. A step that the user configured may hold LIVE steps."""
        if self.call.forced_by is not None:
            return no(self.call.forced_by)
        if candidate.not_replayable is not None and self.call.definition.is_configured:
            candidate = with_live_steps(candidate)
        return decide(candidate, self.call.definition.semantics, self.engine.now())

    def _select_candidate(self, newest: Candidate | None) -> CallSteps[MusubitoResult[Any] | None]:
        """Replay the newest of the stored executions that may be replayed. `newest` is the first candidate."""
        self._reason = ReplayReason.NODE_NOT_FOUND
        while True:
            hit: MusubitoResult[Any] | None = None
            if newest is not None:
                self._seen = newest.execution
                hit = yield from self._replay(newest, ReplayReason.EARLY_CUTOFF_HIT)
            if hit is None:
                if newest is None and not self._identity.across:
                    return None
                if self._is_forced:
                    return None
                hit = yield from self._search_older(newest)
            if hit is not _AGAIN:
                return hit
            newest = yield FetchLatest(self.keys, self.engine.namespace)

    def _search_older(self, newest: Candidate | None) -> CallSteps[MusubitoResult[Any] | None]:
        self._seen = (yield RunQuery(CurrentMoment())).executions
        ttl = self.call.definition.semantics.ttl_seconds
        oldest = float("-inf") if ttl is None else self.engine.now() - ttl
        passed = set[int]()
        wanted: list[tuple[bool, ReplayReason]] = []
        if newest is not None:
            # Without a newest execution there is no older one, either, but for one that was committed since: it has
            # the same cross key.
            passed.add(newest.execution)
            wanted.append((False, ReplayReason.EARLY_CUTOFF_HIT))
        if self._identity.across:
            wanted.append((True, ReplayReason.CROSS_PARENT_HIT))
        for across, reason in wanted:
            for candidate in (yield RunQuery(OlderCandidates(self.keys, self.engine.namespace, across, oldest))):
                if candidate.execution not in passed:
                    passed.add(candidate.execution)
                    hit = yield from self._replay(candidate, reason)
                    if hit is not None:
                        return hit
        return None

    def _replay(self, candidate: Candidate, reason: ReplayReason) -> CallSteps[MusubitoResult[Any] | None]:
        """Replay this execution, or return None if it may not be replayed.

        `_reason` then says why. If the execution became INVALID meanwhile, `_AGAIN` is returned.
        """
        decision = self._decide(candidate)
        if not decision.replay:
            match decision.reason:
                case ReplayReason.NOT_REPLAYABLE if candidate.not_replayable:
                    self._refuse(reason_of(candidate.not_replayable))
                    self.refused = self.refused or candidate.not_replayable
                case other:
                    self._refuse(other)
            return None
        reads: Sequence[ExternalRead] = ()
        if candidate.holds & READS:
            reads = counting(self.call, self.engine, (yield from self._reads(candidate)))
            if not (yield from self._unchanged(reads)):
                return None
        if candidate.payload is not None and candidate.codec == PLAIN:
            value = self._decoded(candidate.payload, PLAIN, candidate.artifact)
        else:
            value = yield from self._value(candidate)
        if isinstance(value, ReplayReason):
            self._refuse(value)
            return None
        if candidate.pool is not None and candidate.pool != self._pool:
            # The sample was stored under another policy. It counts as given there too, so that no call gets it twice.
            fresh = self._run.samples.give_one(SampleRef(candidate.pool, candidate.sample))
            if not fresh and self._pool is not None:
                self._refuse(ReplayReason.ANOTHER_SAMPLE)
                return None
        if candidate.holds & SAMPLES:
            tree = yield RunQuery(SampleTree(candidate.execution))
            if not self._run.samples.give(tree, candidate.execution):
                self._refuse(ReplayReason.ANOTHER_SAMPLE)
                return None
        if candidate.settled:
            reason = ReplayReason.EXACT_HIT
        elif not (yield Write(RecordReplay(self.place(), candidate.execution, candidate.started_at))):
            return _AGAIN
        elif candidate.producer == self.keys.node and reason is not ReplayReason.CROSS_PARENT_HIT:
            reason = ReplayReason.EXACT_HIT
        elif not self._identity.parents:
            reason = ReplayReason.CROSS_PARENT_HIT
        if candidate.holds & OUTSIDE and self._may_write:
            yield from self._warn_of_outside(candidate)
        return self._replayed(candidate, value.value, reads, (yield from self._usage(candidate)), reason)

    def _unchanged(self, reads: Sequence[ExternalRead]) -> CallSteps[bool]:
        """Tell whether these dependencies are as they were. `differs` is the first that is not.

        The first difference is kept, because it belongs to the newest execution.
        """
        differs = yield from first_difference(self.engine, reads, self.scope.ambient)
        if differs is None:
            return True
        self._refuse(differs.reason)
        if differs.error is not None:
            self._not_compared(differs.error)
        self.differs = self.differs or differs
        return False

    def _not_compared(self, error: BaseException) -> None:
        """Note that an error kept a dependency from being compared."""

    @property
    def differs_in_a_file(self) -> bool:
        """Tell whether `differs` is a file or a folder."""
        return self.differs is not None and is_path(self.differs.read.kind)

    def part_that_differs(self) -> str:
        """Return the name of the read of an earlier execution that differs now; "" if the name is not known."""
        differs = self.differs
        if differs is None:
            return ""
        kind, key = differs.read[:2]
        if is_path(kind):
            return key
        if kind not in AMBIENT:
            return differs.named
        named: Callable[[str, str], str] | None = getattr(self.scope.ambient, "named", None)
        return "" if named is None else named(kind, key)

    def _reads(self, candidate: Candidate) -> CallSteps[Sequence[ExternalRead]]:
        """Return the reads of an execution that a replay checks. Raises `StoreError` if they cannot be opened."""
        cached = self.engine.reads_of.get((candidate.execution, candidate.started_at))
        if cached is not None:
            return cached
        # Reads of the other kinds are stored for readers, and no replay checks them.
        reads = [read for read in (yield from self._opened_reads(candidate)) if is_checked(read.kind)]
        return self.engine._keep_reads(candidate.execution, candidate.started_at, reads)

    def _opened_reads(self, candidate: Candidate) -> CallSteps[Sequence[ExternalRead]]:
        reads: Sequence[ExternalRead] = yield RunQuery(ReadsOf(candidate.execution))
        try:
            return self.engine.contents.opened_reads(reads)
        except ArtifactUnreadable as error:
            raise StoreError(f"what an execution read cannot be told: {error}") from error

    def _warn_of_outside(self, candidate: Candidate) -> CallSteps[None]:
        """Warn, once for each engine and step, that a replay does not repeat what the execution did outside."""
        definition, warned = self.call.definition, self.engine.warned
        if definition.name not in warned and not is_settled(definition):
            warned.add(definition.name)
            warn_of_replay(definition, (yield from self._opened_reads(candidate)))

    def _value(self, candidate: Candidate) -> CallSteps[Returned[Any] | ReplayReason]:
        """Return the stored value, or the reason why it cannot be returned."""
        body, codec = candidate.payload, candidate.codec
        if body is None:
            stored: Stored | None = None
            if candidate.artifact is not None:
                stored = yield RunQuery(PayloadOf(candidate.execution))
            if stored is None:
                return ReplayReason.ARTIFACT_MISSING
            body, codec = stored
        if codec == PLAIN or type(body) is not bytes or (len(body) <= AT_ONCE and not codec.endswith(BLOB)):
            return self._decoded(body, codec, candidate.artifact)
        value: Returned[Any] | ReplayReason = yield Offload(partial(self._decoded, body, codec, candidate.artifact))
        return value

    def _decoded(self, body: bytes, codec: str, artifact: bytes | None) -> Returned[Any] | ReplayReason:
        """Return the stored value, after a check that its bytes are those that were stored."""
        try:
            payload = self.engine.contents.open(codec, body, artifact)
            return Returned(decode_value(payload, classes_at_hand(self.call.fingerprint, self.given.classes)))
        except ArtifactMissing:
            return ReplayReason.ARTIFACT_MISSING
        except (ArtifactCorrupt, MemoryError):  # a damaged payload may ask for more memory than there is
            return ReplayReason.ARTIFACT_CORRUPT
        except ArtifactUnreadable:
            return ReplayReason.ARTIFACT_UNREADABLE

    def _usage(self, candidate: Candidate) -> CallSteps[Usage]:
        """Return the tokens of a replayed execution, if a step encloses this call and takes them."""
        observer = self.engine.observer
        if observer is not None:
            self.origin = observer.origin(candidate.execution, candidate.started_at)
            if self.origin is None:
                self.origin = yield from self._origin(observer, candidate)
        if candidate.tokens is None or not self._is_inside():
            return NO_USAGE
        return {used.model: used[3:] for used in (yield RunQuery(UsageOf(candidate.execution)))}

    def _origin(self, observer: Observer, candidate: Candidate) -> CallSteps[Origin | None]:
        """Return the facts about an execution with which its replay is marked; None if the store fails.

        A fault is logged even if the engine is strict: the replay needs none of this.
        """
        try:
            trace: TraceLine | None = yield RunQuery(TraceOf(candidate.execution))
            usage: Sequence[Used] = (yield RunQuery(UsageOf(candidate.execution))) if candidate.tokens else ()
        except StoreError as fault:
            self.engine.fault_log.say("the span of a replay has no link", fault, self.ids())
            return None
        age = self.engine.now() - candidate.started_at - candidate.wall_ms / 1000
        return observer.keep_origin(candidate.execution, candidate.started_at, age, trace, usage)

    def _replayed(
        self, candidate: Candidate, value: Any, reads: Sequence[ExternalRead], usage: Usage, reason: ReplayReason
    ) -> MusubitoResult[Any]:
        if self._is_inside():
            since, until = self._validity(candidate.started_at, candidate.valid_from, candidate.valid_until)
            self._propagate(
                Dependencies(
                    uses=(CallDependency(self.keys.node, self.keys.reuse, candidate.execution, candidate.started_at),),
                    reads=self._reads_for_outer(reads),
                    valid_from=since,
                    valid_until=until,
                    not_replayable=None,
                    samples=candidate.pool is not None or bool(candidate.holds & SAMPLES),
                    usage=usage,
                    work=Work(
                        self._began_at,
                        time.perf_counter(),
                        candidate.compute_ms,
                        candidate.started_at,
                        candidate.wall_ms,
                    ),
                )
            )
        self._add_to_history("replayed", reason, candidate.execution, candidate.compute_ms, candidate.tokens or 0)
        artifact, name = candidate.artifact or b"", self.call.definition.name
        return MusubitoResult(value, artifact.hex(), candidate.producer.hex(), self.keys.node.hex(), name)
