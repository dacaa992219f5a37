"""Begin a call of an EXTERNAL_EFFECT: its intent is durable before the function runs, and its outcome after it.

Attempts are found by the effect key. So neither an edit of the code nor a change upstream repeats an effect:

    nothing known, or certainly failed      -> intend, run
    interrupted by a framework              -> intend, run from its start, with the same idempotency key
    done                                    -> replay (unless the policy forces, or it is too old)
    done after a human had agreed to it     -> run, which asks again: another human may not agree
    begun, and its owner is alive           -> wait
    begun, and its owner is gone; unknown   -> as the policy says: raise, run again, or ask

An owner is gone once its process has ended or its lease has run out. A living process of this host may only have been
stopped, perhaps with the whole machine. Before such an owner counts as gone, it gets the time of another lease to come
back.

A lease of an effect is never taken over. Without a store, an effect is refused before it runs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from musubito.code.fingerprint import Fingerprint
from musubito.deferred import is_cancellation
from musubito.dependencies.check import without_files
from musubito.engine import maintenance, process_identity
from musubito.engine.call import CallProtocol
from musubito.engine.call_state import StartedExecution
from musubito.engine.commit import error_text
from musubito.engine.frame import Dependencies
from musubito.engine.recorded_inputs import CallInputs
from musubito.engine.requests import CallSteps, CheckDependency, Join, Raised, Returned, RunQuery, Sleep, Write
from musubito.engine.single_flight import FlightOutcome, FlightResult, JoinResult, SharedFailure
from musubito.errors import ArtifactUnreadable, ChangedInput, EffectOutcomeUnknown, StoreError
from musubito.model import EffectHappened, EffectNeverHappened, MusubitoResult, ReplayReason
from musubito.payloads.codec import SETTLED, Sealed
from musubito.store.changes import BeginEffect, LeaseHeld, Moment, RecordReplay, Release, Superseded
from musubito.store.queries import EffectQuery, SampleTree
from musubito.store.rows import ANSWER, EffectRow, ExecutionFlags, ExternalRead, FoundOut, InputLine
from musubito.values.artifact_codec import decode_value
from musubito.values.call_keys import effect_key, idempotency_key

CallKinds: TypeAlias = "tuple[type[CallProtocol], type[EffectCall]]"
"""The classes that make a call: of a step, and of an effect."""
PAUSE: Final = 0.02
"""Seconds of a pause while another owner has the effect."""
REMEDY: Final = (
    "Check whether it happened, then run `musubito effects settle {} --happened VALUE` or `--never-happened`. "
    "To automate this, set `on_unknown`."
)
REMEDY_WHEN_DONE: Final = (
    "Running it again would do it twice. Set `on_unknown` to a function that takes the key and returns "
    "EffectHappened(value), or invalidate the step to do it again."
)
SHORT: Final = 10
"""Digits of the id of an effect, as `musubito effects` lists it."""


class EffectCall(CallProtocol):
    """One call of an external effect."""

    def _pool_of_samples(self) -> bytes | None:
        # Identical effects of one run are numbered like samples, whatever code and parents they have.
        pool = self._key_of(-1)
        self._run.samples.effects.add(pool)
        return pool

    def _reads_for_outer(self, reads: Sequence[ExternalRead]) -> Sequence[ExternalRead]:
        # A done effect stays done, even if files that it read change.
        return without_files(super()._reads_for_outer(reads))

    def _key_of(self, number: int) -> bytes:
        definition = self.call.definition
        digest = self._identity.input_digest
        run = (self._run_id(),) if definition.semantics.once_per == "run" else ()
        key = effect_key(self.engine.namespace, definition.name, definition.version(), digest, number, run)
        return key if self.engine.keyed is None else self.engine.keyed.effect(key)

    def _run_id(self) -> bytes | str:
        """Return the id of the run that this effect takes place in.

        Other processes may resume the run of a framework, so it comes first: the outermost one, if several are nested.
        """
        outer = self.scope.frame
        bodies = self._possible_bodies() if outer is None else [outer]
        around = [*bodies[-1].enclosing()][::-1] if bodies else []
        for ambient in (*(frame.ambient for frame in around), self.scope.ambient):
            resumable = getattr(ambient, "run_id", None)
            run_id: str | None = None if resumable is None else resumable()
            if run_id is not None:
                return run_id
        run = self.scope.run or (bodies[-1].run if bodies else self._run)
        return run.run_id

    def _propagate(self, dependencies: Dependencies) -> None:
        if self.call.definition.semantics.once_per == "run":
            # Another run has to do it again, so the enclosing steps have to run again.
            not_replayable = dependencies.not_replayable or ReplayReason.EFFECT_OF_RUN.of(self.call.definition.name)
            dependencies = dependencies._replace(not_replayable=not_replayable)
        super()._propagate(dependencies)

    def _begin(self) -> CallSteps[MusubitoResult[Any] | Raised | StartedExecution]:
        self._effect_key = self._key_of(self._number)
        while True:
            joined: JoinResult | FlightResult = yield Join(self._effect_key, self.frame())
            if joined is JoinResult.MINE:
                return (yield from self._intend())
            if joined is JoinResult.CYCLE:
                raise StoreError(f"{self.call.definition.name}: refused, since it would have to wait for itself")
            if isinstance(joined, SharedFailure) and self._shares_failure(joined):
                return self._shared_failure(joined)
            if joined is FlightOutcome.RUN_YOURSELF:
                # The call that began the effect is suspended, perhaps in an event loop that does not run just now.
                yield Sleep(PAUSE)

    def _shares_failure(self, failed: SharedFailure) -> bool:
        # An effect that may have taken place is not begun once more: each call that waited for it gets its failure.
        live = self._live() if self._effect_outcome(failed.error) == "failed" else failed.live
        return failed.concerns(self._run, self.call.fingerprint, live)

    def _on_store_fault(self, fault: StoreError) -> StartedExecution:
        raise StoreError(
            f"{self.call.definition.name}: refused, since the effect could not be recorded: {fault}"
        ) from fault

    def look_once_more(self, begun: StartedExecution) -> StartedExecution:
        """Check the input again just before the effect runs. Raises `ChangedInput` if it has changed.

        Otherwise the function would do one thing, and the record would hold another.
        """
        try:
            same = self._input_now() == self._input
        except Exception:  # a look at changed values may raise anything
            same = False
        if not same:
            self._add_to_history("failed", ReplayReason.INPUT_CHANGED, None, 0.0, 0)
            raise ChangedInput(self.call.definition.name)
        return begun

    def _end_early(self, begun: StartedExecution, error: BaseException, *, called: bool) -> CallSteps[None]:
        # A driver throws a cancellation in place of a call that has not begun. Other errors from there, such as the
        # close of a dropped coroutine, may have come while the function ran.
        outcome = "unknown" if called and not is_cancellation(error) else "failed"
        text = "cut short" if called else error_text(error)
        yield from self._record(self._failure(begun, text, outcome, self.engine.now(), 0.0))

    def _intend(self) -> CallSteps[MusubitoResult[Any] | StartedExecution]:
        holder = _WaitedFor(self.engine.owner)
        waits_since: float | None = None
        while True:
            row: EffectRow | None = yield RunQuery(EffectQuery(self._effect_key, self.keys, self.engine.namespace))
            if row is not None and row.outcome is None and holder.may_end(row):
                waits_since = waits_since or time.perf_counter()
                yield Sleep(PAUSE)
                continue
            self._tell_wait(waits_since)
            waits_since = None
            earlier = None if row is None else (yield from self._earlier_outcome(row))
            if isinstance(earlier, MusubitoResult):
                return earlier
            begun = yield from self._intent(row)
            if begun is None:
                continue
            if earlier is None or isinstance(begun, MusubitoResult):
                return begun
            self._reason = ReplayReason.EFFECT_HAPPENED
            now: Returned[Fingerprint] | Raised = yield CheckDependency(self.call.current)
            value = earlier.value if self.call.stated is None else self.call.stated(earlier.value)
            changed = yield from self._changed_meanwhile(now)
            return (yield from self._succeeded(begun, value, self.engine.now(), 0.0, changed))

    def _intent(self, row: EffectRow | None) -> CallSteps[MusubitoResult[Any] | StartedExecution | None]:
        """Write the intent durably before anything runs; return None if another call was faster."""
        attempt, settled = (0, 0) if row is None else (row.attempt, row.settled_attempts)
        if row is not None and row.holder is not None and process_identity.is_dead(row.holder):
            # The policy has decided already: no call is to wait until the lease of the dead owner runs out.
            yield Write(Release((self._effect_key, row.holder.owner)))
        # Before anything is durable: later the arguments may not be describable any more.
        self.place()
        yield from self.until_released(self._effect_key)
        intent = BeginEffect(
            self._effect_key,
            self.call.definition.name,
            self.engine.namespace,
            attempt + 1,
            time.time(),
            self.engine._lease_owner(),
            self._input_line(),
        )
        try:
            answer: Moment | LeaseHeld | Superseded = yield Write(intent)
        except BaseException as error:
            if not isinstance(error, Exception):
                yield from self._interrupted(intent, error)
            raise
        if not isinstance(answer, Moment):
            yield Sleep(PAUSE)
            return None
        self.engine.flights.claimed(self._effect_key, self.call.definition.name)
        self.engine.keeper.wake()
        self.frame().idempotency_key = idempotency_key(self._effect_key, settled)
        return StartedExecution(answer, (self._effect_key, intent.holder.owner), (self._effect_key, attempt + 1))

    def _input_line(self) -> InputLine | None:
        """Return the arguments as readers see them, so that a person can tell which effect is in doubt."""
        definition, given = self.call.definition, self.given
        if not definition.semantics.record_inputs:
            return None
        inputs = CallInputs(0, definition.name, self._identity.input_digest, given.packed, given.texts)
        return self.engine.journal.input_line(inputs)

    def _interrupted(self, intent: BeginEffect, error: BaseException) -> CallSteps[None]:
        """Settle an intent whose write was cut short by an interrupt (Ctrl-C).

        If the intent was written, record that the effect never ran.
        """
        try:
            row: EffectRow | None = yield RunQuery(EffectQuery(self._effect_key, self.keys, self.engine.namespace))
        except StoreError:
            return  # then it counts as unknown
        if row is None or row.outcome is not None or row.holder is None:
            return
        if (row.attempt, row.holder.owner) == (intent.attempt, intent.holder.owner):
            lease = self._effect_key, intent.holder.owner
            begun = StartedExecution(None, lease, (self._effect_key, intent.attempt))
            yield from self._end_early(begun, error, called=False)

    def _earlier_outcome(self, row: EffectRow) -> CallSteps[MusubitoResult[Any] | EffectHappened | None]:
        """Return the result of an earlier attempt; None if the effect may run."""
        if row.outcome == "done":
            return (yield from self._done(row))
        if row.outcome == "withdrawn":
            return None
        if row.outcome == "failed":
            self._reason = ReplayReason.NODE_FAILED
            return None
        self._reason = ReplayReason.OUTCOME_UNKNOWN
        if row.found_out is not None:
            return self._found_out(row.found_out)
        why = "whether it took place is unknown, since "
        why += "whoever began it is gone" if row.outcome is None else "its last attempt failed or was cut short"
        on_unknown = self.call.definition.semantics.on_unknown
        return None if on_unknown == "rerun" else (yield from self._ask(row, why))

    def _done(self, row: EffectRow) -> CallSteps[MusubitoResult[Any] | EffectHappened | None]:
        """Replay a done effect. It stays done, whatever happens to its code, its parents and the steps inside it."""
        semantics, candidate = self.call.definition.semantics, row.candidate
        if semantics.force_reexecution:
            self._reason = ReplayReason.FORCE_REEXECUTION
            return None
        if candidate is None:
            self._reason = ReplayReason.ARTIFACT_MISSING
            return (yield from self._ask(row, "it took place, but its record is gone"))
        reads: Sequence[ExternalRead] = (
            (yield from self._reads(candidate)) if candidate.holds & ExecutionFlags.READS else []
        )
        if any(read.kind == ANSWER for read in reads):
            self._reason = ReplayReason.RELEASED_BY_ANSWER
            return None
        if semantics.ttl_seconds is not None and self.engine.now() - candidate.started_at >= semantics.ttl_seconds:
            self._reason = ReplayReason.TTL_EXPIRED
            return None
        value = yield from self._value(candidate)
        if isinstance(value, ReplayReason):
            self._reason = value
            return (yield from self._ask(row, f"it took place, but its result is lost: {value.value}"))
        if candidate.holds & ExecutionFlags.SAMPLES:
            self._run.samples.give((yield RunQuery(SampleTree(candidate.execution))), candidate.execution)
        reason = ReplayReason.EXACT_HIT if candidate.settled else ReplayReason.EARLY_CUTOFF_HIT
        if not candidate.settled and not (
            yield Write(RecordReplay(self.place(), candidate.execution, candidate.started_at))
        ):
            return None
        return self._replayed(candidate, value.value, reads, (yield from self._usage(candidate)), reason)

    def _found_out(self, found_out: FoundOut) -> EffectHappened | None:
        """Return what a person has found out of the last attempt; None if the effect may run."""
        if found_out.stored is None:
            self._reason = ReplayReason.EFFECT_NEVER_HAPPENED
            return None
        try:
            body, codec = found_out.stored.payload, found_out.stored.codec
            payload = self.engine.contents.opened_item(SETTLED, Sealed(codec, body))
            return EffectHappened(decode_value(payload, {}))
        except ArtifactUnreadable as error:
            raise StoreError(
                f"{self.call.definition.name}: what was found out of it cannot be read: {error}"
            ) from error

    def _ask(self, row: EffectRow, why: str) -> CallSteps[EffectHappened | None]:
        """Ask the policy's callable whether the effect took place. Raises `EffectOutcomeUnknown` if there is none."""
        reconcile = self.call.definition.semantics.on_unknown
        name = self.call.definition.name
        key = idempotency_key(self._effect_key, row.settled_attempts - (row.outcome == "done"))
        if not callable(reconcile):
            self._say_in_doubt(why)
            remedy = REMEDY_WHEN_DONE if row.outcome == "done" else REMEDY.format(self._effect_key.hex()[:SHORT])
            raise EffectOutcomeUnknown(name, key, why, remedy)
        found_out = yield CheckDependency(lambda: reconcile(key))
        if isinstance(found_out, Raised):
            raise found_out.error
        match found_out.value:
            case EffectHappened():
                return found_out.value
            case EffectNeverHappened():
                self._reason = ReplayReason.EFFECT_NEVER_HAPPENED
                return None
            case other:
                problem = "on_unknown must return EffectHappened or EffectNeverHappened"
                raise TypeError(f"{name}: {problem}, not {other!r}")


class _WaitedFor:
    """The owner of a begun effect, as seen by a waiting call of the engine `owner`.

    No other call of this engine runs the effect now. So a lease of this engine is one that could not be released, and
    no call uses it while this call waits.
    """

    def __init__(self, owner: bytes) -> None:
        self._owner = owner
        self._lapsed: float | None = None
        """The time since when the owner's lease has run out, by a clock that stands still while the machine sleeps."""

    def may_end(self, row: EffectRow) -> bool:
        """Tell whether the effect may still come to its end."""
        holder = row.holder
        if holder is None or holder.owner == self._owner or process_identity.is_dead(holder):
            return False
        if holder.expires_at >= time.time():
            self._lapsed = None
            return True
        if self._lapsed is None:
            self._lapsed = time.monotonic()
        return process_identity.is_of_this_host(holder) and time.monotonic() < self._lapsed + maintenance.LEASE_SECONDS
