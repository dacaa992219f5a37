"""The engine of reruns: what is unaffected is answered as it was, nothing touches the world, and the rest runs.

    a call of the same code with the same input     -> the answer that the original run was given
    a LIVE step or an effect, asked the same        -> likewise, whatever its code is now
    a LIVE step or an effect, asked something new   -> the rerun has diverged, unless the step may run
    any other call                                  -> as always: replayed if it is stored, else it runs

A LIVE step whose answer is taken counts as LIVE: no step around it is replayed for that in an ordinary run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any, Final

from musubito.api.stream import StreamCall
from musubito.dependencies.check import counting
from musubito.engine.call import CallProtocol
from musubito.engine.call_identity import Call
from musubito.engine.call_state import READS, StartedExecution
from musubito.engine.dry_run import DRY_RUNS
from musubito.engine.effects import CallKinds, EffectCall
from musubito.engine.engine import MusubitoEngine
from musubito.engine.frame import Dependencies, Run
from musubito.engine.modes import REPLAY, Mode
from musubito.engine.requests import CallSteps, CheckDependency, Raised, Returned, RunQuery
from musubito.engine.scope import Scope
from musubito.errors import MusubitoError, StoreError
from musubito.lineage.reruns.answers import RecordedAnswer, RecordedAnswers
from musubito.model import MusubitoResult, StepDefinition, StepType
from musubito.reasons import ReplayReason, reason_of
from musubito.store.queries import OlderCandidates, SampleTree
from musubito.store.rows import ANSWER, SEEN, Candidate, ExternalRead

OF_ONE_RUN: Final = (
    ReplayReason.LIVE_INSIDE,
    ReplayReason.EFFECT_OF_RUN,
    ReplayReason.INTERRUPT_ANSWERED,
    ReplayReason.TOOL_FAILED,
    ReplayReason.GRAPH_INSIDE,
    ReplayReason.STORE_WRITTEN,
)
"""Reasons for which a result is never replayed in another run, though it is what this run was given."""


MAY_HOLD_LIVE: Final = (ReplayReason.LIVE_INSIDE, ReplayReason.INTERRUPT_ANSWERED, ReplayReason.TOOL_FAILED)
"""Those of results inside of which a live step may have run."""
_OF_THEN: Final = ReplayReason.CALL_NOT_RECORDED.of("an answer of then, which has been replaced since")


class Diverged(MusubitoError):
    """A rerun asked a LIVE step or an effect something that the original run did not ask."""

    def __init__(self, operation: str, why: str) -> None:
        super().__init__(f"{operation}: {why}")
        self.operation = operation
        self.why = why


class BudgetSpent(MusubitoError):
    """A call of a rerun did not run, since it would have passed the budget."""


@dataclass
class RerunAttempt:
    """One rerun of a recorded run: the answers that are left, and what has become of it."""

    answers: RecordedAnswers
    stopped_by: MusubitoError | None = None
    """The error that stopped it. Code of the user may have caught the error, so that further calls come."""

    def diverged(self, operation: str, why: str) -> Diverged:
        """Stop, and return the error that says why."""
        self.stopped_by = error = Diverged(operation, why)
        return error


_ATTEMPT: Final[ContextVar[RerunAttempt | None]] = ContextVar("musubito_rerun", default=None)


class RerunEngine(MusubitoEngine):
    """Reruns recorded runs on the store of another engine, which it does not close.

    - `live`: the LIVE steps that may run, by the last part of their names; True for all.
    - `may_run`: called with the operation of each call that is about to run; it raises to prevent that.
    - `ran`: called with an operation and its tokens by model, when a call has run.
    """

    _stands_for_others = True
    live: Collection[str] | bool = ()
    attempts: dict[Run, RerunAttempt]
    """The reruns that go on, by their runs."""
    may_run: Callable[[str], None] = staticmethod(lambda _: None)
    ran: Callable[[str, Mapping[str, Sequence[int]]], None] = staticmethod(lambda _, __: None)

    @classmethod
    def on(cls, engine: MusubitoEngine) -> RerunEngine:
        """Return an engine on the store and in the namespace of another."""
        new = cls(
            engine.storage,
            namespace=engine.namespace,
            now_provider=engine.now if engine._has_own_clock else None,
            strict=True,  # without the store, a LIVE step would run unrecorded
            redact=engine.redact,
            blobs=engine._blobs,
            key=engine._key_for if engine._named_key is False else engine._named_key,
            track_files=engine._track_files,
        )
        new.keep, new.observer, new.url, new.attempts = None, engine.observer, engine.url, {}
        return new

    def in_namespace(self, namespace: str) -> MusubitoEngine:
        """Return the engine of another namespace, which makes calls in the same way."""
        engine = super().in_namespace(namespace)
        if isinstance(engine, RerunEngine):
            engine.live, engine.may_run, engine.ran = self.live, self.may_run, self.ran
            engine.attempts = self.attempts
        return engine

    @contextmanager
    def attempt(self, run: Run, attempt: RerunAttempt) -> Iterator[None]:
        """Answer the calls of a run inside the block, in this thread or task and those that inherit from it."""
        token = _ATTEMPT.set(attempt)
        self.attempts[run] = attempt
        try:
            yield
        finally:
            self.attempts.pop(run, None)
            _ATTEMPT.reset(token)

    def close(self) -> None:
        """Write the buffered history; the store belongs to the other engine."""
        for engine in dict.fromkeys((*self._namesakes.values(), self)):
            engine.writer.close()
            engine.keeper.stop()

    def _protocol(
        self, call: Call, mode: Mode = REPLAY, scope: Scope | None = None, kinds: CallKinds | None = None
    ) -> CallProtocol:
        if kinds is not DRY_RUNS:
            is_stream = kinds is not None and issubclass(kinds[0], StreamCall)
            kinds = _RerunStream if is_stream else _RerunCall, _RerunEffect
        return super()._protocol(call, REPLAY, scope, kinds)

    def _before_unrecorded(self, definition: StepDefinition) -> None:
        """Refuse to run a LIVE step or an effect whose call cannot be identified, and so was not recorded."""
        attempt, kind = _ATTEMPT.get(), definition.semantics.step_type
        if kind is StepType.EXTERNAL_EFFECT or (kind is StepType.LIVE and not self.runs_live(definition)):
            raise (attempt or RerunAttempt(RecordedAnswers())).diverged(definition.name, "it cannot be identified")

    def runs_live(self, definition: StepDefinition) -> bool:
        """Tell whether a LIVE step may run."""
        name = definition.name
        return self.live is True or (
            self.live is not False
            and not {name, name.rpartition("/")[2], name.rpartition(".")[2]}.isdisjoint(self.live)
        )


class _AnsweredCall(CallProtocol):
    """A call that may be answered as in the original run."""

    _is_replaced = False
    """True if the answer of then is no sample, and a newer one is stored."""

    @property
    def _reruns(self) -> RerunEngine:
        engine: Any = self.engine
        reruns: RerunEngine = engine
        return reruns

    def _attempt(self) -> RerunAttempt:
        """Return the rerun that the call belongs to. Raises the error that has stopped it.

        In a thread that inherits no context, it is the one whose bodies reach the step. If it cannot be told, all stop.
        """
        attempt = _ATTEMPT.get()
        if attempt is None:
            runs, going = {frame.run for frame in self._possible_bodies()}, dict(self._reruns.attempts)
            found = [one for run, one in going.items() if run in runs] or list(going.values())
            if len(found) != 1:
                for one in found:
                    one.diverged(self.call.definition.name, "it was called in a thread that does not know its run")
                self._reason = ReplayReason.DIVERGED
                raise Diverged(self.call.definition.name, "it was called in a thread that does not know its run")
            (attempt,) = found
        if attempt.stopped_by is not None:
            self._reason = ReplayReason.DIVERGED
            raise attempt.stopped_by
        return attempt

    def _same_as_before(self, attempt: RerunAttempt) -> CallSteps[MusubitoResult[Any] | None]:
        """Return what the original run was given, if neither the code nor the input nor a dependency has changed.

        It is given whatever has become of it since: it may be too old by now, invalidated, or given as a sample.
        """
        same = operation, *_ = self.call.definition.name, self._identity.input_digest, self.call.code.fingerprint
        answer = attempt.answers.to_same_call(*same)
        if answer is None:
            given = attempt.answers.given_to_same_call(*same)
            is_sample = given is None or (yield from self._is_sample(given))
            return None if given is None or is_sample else (yield from self._given(given, attempt))
        hit = yield from self._given(answer, attempt)
        if hit is None:
            attempt.answers.give_back(operation, answer)  # as before an interrupt that is resumed
        return hit

    def _is_sample(self, answer: RecordedAnswer) -> CallSteps[bool]:
        candidate = yield from self._candidate(answer)
        return candidate is None or candidate.pool is not None

    def _given(self, answer: RecordedAnswer, attempt: RerunAttempt) -> CallSteps[MusubitoResult[Any] | None]:
        if not (self._identity.across or answer.keys.reuse == self.keys.reuse):
            return None
        candidate = yield from self._candidate(answer)
        why = None if candidate is None else candidate.not_replayable
        if candidate is None or (why is not None and not self._is_of_one_run(reason_of(why))):
            return None
        reads: Sequence[ExternalRead] = ()
        if candidate.holds & READS:
            reads = counting(self.call, self.engine, (yield from self._reads(candidate)))
            if any(read.kind == ANSWER for read in reads) and (yield from self._is_answered()):
                reads = [read for read in reads if read.kind != ANSWER]  # it is answered as it was then
            if not (yield from self._unchanged(reads)):
                return None
        value = yield from self._value(candidate)
        if isinstance(value, ReplayReason):
            return None
        if why is not None:
            attempt.answers.use_up((yield RunQuery(SampleTree(candidate.execution))).keys())
        self.keys = answer.keys  # there the answer is recorded
        usage = yield from self._usage(candidate)
        hit = self._replayed(candidate, value.value, reads, usage, ReplayReason.AS_RECORDED)
        if why is not None or candidate.invalid or self._is_replaced or self.call.definition.semantics.runs_each_time:
            # Steps around it may be recorded now, and are not replayed, either.
            self._propagate(Dependencies((), (), None, None, why or _OF_THEN, samples=False))
        return hit

    def _is_answered(self) -> CallSteps[bool]:
        """Tell whether the call is given a person's answer now."""
        ambient = self.scope.ambient
        if ambient is None:
            return False
        answers: Returned[Any] | Raised = yield CheckDependency(partial(ambient.observe, SEEN, "answers"))
        return isinstance(answers, Returned) and answers.value is not None

    def _is_of_one_run(self, reason: ReplayReason) -> bool:
        """Tell whether a result that no other run may be given can be given to a rerun of its run."""
        if self._reruns.live and reason in MAY_HOLD_LIVE:
            return False
        return reason in OF_ONE_RUN

    def _as_recorded(self, attempt: RerunAttempt) -> CallSteps[MusubitoResult[Any]]:
        """Return what the original run was given for the same question. Raises `Diverged` if it did not ask that."""
        name, place = self.call.definition.name, self.place()
        answer = attempt.answers.to_same_question(name, self._identity.input_digest, place.arguments)
        if answer is None:
            raise self._diverged(attempt, "it was asked something that the original run did not ask")
        if not answer.succeeded:
            raise self._diverged(attempt, "it had failed in the original run")
        candidate = yield from self._candidate(answer)
        value = ReplayReason.ARTIFACT_MISSING if candidate is None else (yield from self._value(candidate))
        if candidate is None or isinstance(value, ReplayReason):
            raise self._diverged(attempt, f"what it was answered is not there: {value}")
        is_edited = answer.code != self.call.code.fingerprint
        is_of_then = answer.keys.reuse != self.keys.reuse or self.call.definition.semantics.force_reexecution
        self.keys = answer.keys  # there the answer is recorded, whatever the code is now
        usage = yield from self._usage(candidate)
        reason = ReplayReason.OLD_CODE if is_edited else ReplayReason.AS_RECORDED
        result = self._replayed(candidate, value.value, (), usage, reason)
        if is_of_then:
            # An ordinary run has to do it anew, so a step around it that is recorded now is not replayed there.
            self._propagate(Dependencies((), (), None, None, _OF_THEN, samples=False))
        return result

    def _stopped_by(self) -> MusubitoError | None:
        """Return the error that has stopped the rerun of the call's run, or of any run where it cannot be told."""
        attempt = _ATTEMPT.get() or self._reruns.attempts.get(self._run)
        attempts = list(self._reruns.attempts.values()) if attempt is None else [attempt]
        return next((one.stopped_by for one in attempts if one.stopped_by is not None), None)

    def _candidate(self, answer: RecordedAnswer) -> CallSteps[Candidate | None]:
        found: Sequence[Candidate] = yield RunQuery(
            OlderCandidates(answer.keys, self.engine.namespace, across=False, oldest=-inf)
        )
        candidate = next((candidate for candidate in found if candidate.execution == answer.execution), None)
        # Of samples, each is as good as another.
        self._is_replaced = (
            bool(found) and candidate is not found[0] and candidate is not None and candidate.pool is None
        )
        return candidate

    def _diverged(self, attempt: RerunAttempt, why: str) -> Diverged:
        self._reason = ReplayReason.DIVERGED
        return attempt.diverged(self.call.definition.name, why)

    def _on_store_fault(self, fault: StoreError) -> StartedExecution:
        raise fault


_STOPPED: Final = ReplayReason.CALL_NOT_RECORDED.of("a call that a rerun refused")


class _RerunCall(_AnsweredCall):
    """A call of a step in a rerun."""

    def _begin(self) -> CallSteps[MusubitoResult[Any] | Raised | StartedExecution]:
        attempt, definition = self._attempt(), self.call.definition
        is_live = definition.semantics.step_type is StepType.LIVE
        if is_live and not self._reruns.runs_live(definition):
            result = yield from self._as_recorded(attempt)
            self._propagate(Dependencies((), (), None, None, None, samples=False, live=definition.name))
            return result
        hit = None if is_live else (yield from self._same_as_before(attempt))
        return (yield from super()._begin()) if hit is None else hit

    def look_once_more(self, begun: StartedExecution) -> StartedExecution:
        """Ask whether the call may run, just before its function does."""
        try:
            self._reruns.may_run(self.call.definition.name)
        except MusubitoError as error:
            attempt = self._attempt()
            attempt.stopped_by = error
            raise
        return super().look_once_more(begun)

    def finish(
        self, begun: StartedExecution, outcome: Returned[Any] | Raised, started_at: float, duration_ms: float
    ) -> CallSteps[MusubitoResult[Any] | Raised]:
        """Record what the function did, and tell what it used.

        After the rerun was stopped, the code may have gone on with something in place of an answer.
        """
        stopped = self._stopped_by()
        if stopped is not None:
            self.frame().absorb(Dependencies((), (), None, None, _STOPPED, samples=False))
        result = yield from super().finish(begun, outcome, started_at, duration_ms)
        self._reruns.ran(self.call.definition.name, self.frame().tokens)
        return result


class _RerunStream(_RerunCall, StreamCall):
    """The same for a call of a stream."""


class _RerunEffect(_AnsweredCall, EffectCall):
    """A call of an effect in a rerun. It never runs."""

    def _begin(self) -> CallSteps[MusubitoResult[Any] | Raised | StartedExecution]:
        return (yield from self._as_recorded(self._attempt()))
