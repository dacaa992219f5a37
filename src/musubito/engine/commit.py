"""Run the body of a call in its frame, and record what it did."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, Final

from musubito.code.argument_classes import changed_in_classes, classes_at_hand
from musubito.code.fingerprint import Fingerprint, shown_names
from musubito.code.ownership import home_of
from musubito.deferred import is_cancellation
from musubito.dependencies import events
from musubito.dependencies.check import counting, take_files
from musubito.dependencies.named_files import note_named
from musubito.dependencies.output_places import where_valid
from musubito.engine.call_identity import Call
from musubito.engine.call_state import CALLS, EFFECT, LIVE, READS, SAMPLES, UNRECORDED, StartedExecution
from musubito.engine.claim import CallClaim
from musubito.engine.connections import flags_of, function_in, reads_of
from musubito.engine.frame import Costs, Dependencies, Frame, Work
from musubito.engine.lookup import AT_ONCE
from musubito.engine.lost_classes import warn_of_class
from musubito.engine.notices import say_in_doubt, say_unrecorded, say_why
from musubito.engine.recorded_inputs import CallInputs, FileText
from musubito.engine.requests import CallSteps, CheckDependency, Offload, Raised, Returned, RunQuery, Write
from musubito.engine.scope import Scope, control_flow, suspends
from musubito.engine.single_flight import FlightOutcome, SharedFailure
from musubito.errors import EncodingError, StoreError, warn
from musubito.model import UNSTORABLE, MusubitoResult
from musubito.payloads.codec import ERROR, PLAIN, Sealed
from musubito.reasons import ReplayReason, reason_of, without_part
from musubito.store.changes import Commit, CommitFailure, Committed
from musubito.store.queries import PayloadOf, SampleTree
from musubito.store.rows import BLOB, CallDependency, EffectOutcome, SampleRef
from musubito.values.artifact_codec import encode_output
from musubito.values.class_instances import not_found_again
from musubito.values.redaction import scrubbed

MAX_ERROR: Final = 2000
"""Characters of an error's text that are stored at most."""


def stops_call(error: BaseException) -> bool:
    """Tell whether an exception stops a call without making it a failure."""
    return is_cancellation(error) or isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit))


def _encode(call: Call, argument_classes: Collection[type], value: Any) -> tuple[bytes | None, str | None]:
    """Return the payload of an output, or the reason why it cannot be stored.

    `argument_classes` holds the classes of the call's arguments.
    """
    try:
        payload, met = encode_output(value)
    except EncodingError as error:
        at = next((prefix for prefix in call.output_at if error.path.startswith(prefix)), "$")
        path = f"${error.path.removeprefix(at)}"
        what, _, remedy = error.problem.partition(". ")
        problem = f"{ReplayReason.NOT_STORABLE.sentence}: {path}: {what}; the value is returned, and not replayed."
        warn(f"{call.definition.name}: {problem}{remedy and f' {remedy}.'}", function_in(call.definition.function))
        return None, ReplayReason.NOT_STORABLE.of(f"{path}, {what}")
    if met:
        for name in not_found_again(met, classes_at_hand(call.fingerprint, argument_classes)):
            warn_of_class(call.definition.name, name)
    return payload, None


def error_text(error: BaseException) -> str:
    """Return the text of an error as it is stored, without secrets."""
    try:
        text = str(error)
    except Exception as unsaid:
        text = f"its text cannot be had: {type(unsaid).__qualname__}"
    return error_as_stored(f"{type(error).__qualname__}: {text}")


def error_as_stored(text: str) -> str:
    """Return the text of an error without secrets, no longer than `MAX_ERROR`."""
    # Cut twice: half a secret at the end of the text would no longer be recognised as one.
    text = scrubbed(text[: 2 * MAX_ERROR])[:MAX_ERROR]
    # No store holds lone surrogates.
    return text.encode("utf-8", "backslashreplace").decode()


def _own_tokens(frame: Frame) -> int:
    """Return the number of tokens that the body used itself."""
    return sum(map(sum, frame.tokens.values())) if frame.tokens else 0


def _own_tokens_as_json(frame: Frame) -> str | None:
    """Return the tokens that the body used itself, by model, as JSON for the history.

    The history holds them only where no execution does.
    """
    return json.dumps(frame.tokens) if _own_tokens(frame) else None


def _effect(begun: StartedExecution, outcome: str) -> EffectOutcome | None:
    return None if begun.effect is None else EffectOutcome(*begun.effect, outcome)


class CallCommit(CallClaim):
    """A call whose function ran."""

    __slots__ = ()

    def body_scope(self) -> Scope:
        """Open the step's body and return its scope.

        A merge context around the call does not reach into the body.
        """
        frame = self.frame()
        self.engine.open.enter(self._run, frame)
        observer, outer = self.engine.observer, self.scope.frame
        if observer is not None:
            frame.spans = observer.began(
                self.call.definition.name, None if outer is None else outer.spans, self.spans_here
            )
        if self.engine.track_files:
            files = frame.files = events.begin(self.call.definition.function)
            note_named(files, self.call.fingerprint, (self.call.arguments, self.call.live, self._around))
        return Scope(self.engine, self._run, frame, None, self.scope.ambient, self.scope.mode)

    def _leave(self) -> None:
        """Close the step's body."""
        frame = self.frame()
        self.engine.open.leave(self._run, frame)
        if frame.files is not None:
            events.end(frame.files)

    def finish(
        self, begun: StartedExecution, outcome: Returned[Any] | Raised, started_at: float, duration_ms: float
    ) -> CallSteps[MusubitoResult[Any] | Raised]:
        """Record what the function did, and return its result or its error."""
        now = yield from self._code_now()
        codes = [self.call.fingerprint]
        if isinstance(now, Returned) and now.value is not codes[0]:
            codes.append(now.value)
        if begun.lease is not None and begun.lease[1] != self.engine.owner:
            # This process was forked while the function ran. The process that began the execution records it.
            say_unrecorded(self.call.definition.name, "its process was forked while it ran", self.ids())
            begun = UNRECORDED
        changed = (yield from self._changed_meanwhile(now)) if isinstance(outcome, Returned) else None
        given, state = self.given.classes, self.known_state()
        self._texts = yield from take_files(self.call, self.engine, self.frame(), codes, given, state)
        match outcome:
            case Returned(value):
                return (yield from self._succeeded(begun, value, started_at, duration_ms, changed))
            case Raised(error):
                yield from self._failed(begun, error, started_at, duration_ms)
                return outcome

    def _code_now(self) -> CallSteps[Returned[Fingerprint] | Raised]:
        """Return the fingerprint of the code as it is after the body has ended."""
        call = self.call
        self._leave()
        # The version of a step may be asked for, too, and is not what the tracker looks at.
        if call.current == call.tracker.current and call.fingerprint.holds():
            return Returned(call.fingerprint)
        now: Returned[Fingerprint] | Raised = yield CheckDependency(call.current)
        return now

    def _changed_meanwhile(self, now: Returned[Fingerprint] | Raised) -> CallSteps[str | None]:
        """Return the reason why the execution may not be replayed, if something else changed its code while it ran.

        `now` is the code's fingerprint after the run. The code includes the values that it holds. What the run may have
        changed itself does not count from now on, and the call is identified without it.
        """
        if isinstance(now, Raised):
            return ReplayReason.CHANGED_MEANWHILE.of("its code, which cannot be identified any more")
        call = self.call
        own: Collection[str] = ()
        if now.value.digest != call.fingerprint.digest:
            changes = call.fingerprint.changes_until(call.tracker.counted_as(call.fingerprint))
            if changes.others or not (any(changes) or now.value.state != call.fingerprint.state):
                return ReplayReason.CHANGED_MEANWHILE.of(shown_names(changes.others))
            call.tracker.learn_own_values(call.fingerprint, now.value)
            own = {*changes.own, *now.value.state}
        if self.given.classes:
            home = home_of(call.definition.function)
            own = changed_in_classes(self.given.classes, home, call.fingerprint).union(own)
        yield from self.learn_state({*own, *call.fingerprint.state})
        return None

    def _succeeded(
        self,
        begun: StartedExecution,
        value: Any,
        started_at: float,
        duration_ms: float,
        changed: str | None,
    ) -> CallSteps[MusubitoResult[Any]]:
        """Record the value that the function returned, or that its effect is known to have had.

        `changed`: see `_changed_meanwhile`.
        """
        frame = self.frame()
        payload, problem = _encode(self.call, self.given.classes, value)
        if payload is None:
            artifact, artifact_id = None, UNSTORABLE + uuid.uuid4().hex
        else:
            artifact = self.engine.contents.digest(payload)
            artifact_id = artifact.hex()
        if payload is not None and self.engine.track_files and (places := [*where_valid(payload)]):
            digest = self.engine._digest_of_read
            frame.add_reads([place._replace(digest=digest(place.digest)) for place in places], None)
        inside, usage = frame.end(), frame.used()
        costs = frame.costs(duration_ms)
        if inside.reads:
            inside = inside._replace(reads=counting(self.call, self.engine, inside.reads))
        not_replayable = self.why_not or problem or inside.not_replayable or changed
        live_inside = None if inside.live is None else ReplayReason.LIVE_INSIDE.of(inside.live)
        committed: Committed | None = None
        sealed: Sealed | None = None
        if begun.moment is not None and payload is not None and artifact is not None:
            try:
                sealed = yield from self._sealed(artifact, payload)
            except StoreError as fault:
                if begun.effect is None:
                    if begun.lease is not None:
                        self.engine._disown(begun.lease)
                    begun = UNRECORDED
                self.engine._report(fault, self.ids())
                # Even so, the store records that an effect was done.
                not_replayable = ReplayReason.STORE_FAILED.of(fault)
                artifact, artifact_id = None, UNSTORABLE + uuid.uuid4().hex
        if not_replayable is not None and self.engine.keyed is not None:
            not_replayable = without_part(not_replayable)  # the part may show what the user stores
        if begun.moment is not None:
            attempts, usage = self._attempts_before(), frame.used()
            unchecked = reads_of(frame)
            flags = self._execution_flags(inside, attempts, begun) | flags_of(self.call.definition, frame, unchecked)
            commit = Commit(
                place=self.place(),
                began=begun.moment,
                started_at=started_at,
                duration_ms=duration_ms,
                artifact=artifact,
                payload=None if sealed is None else sealed.body,
                valid_from=inside.valid_from,
                valid_until=inside.valid_until,
                not_replayable=not_replayable or live_inside,
                pool=self._pool,
                uses=inside.uses,
                reads=self.engine.contents.sealed_reads((*inside.reads, *unchecked)),
                attempts=attempts,
                holds=flags,
                usage=usage,
                lease=begun.lease,
                effect=_effect(begun, "done"),
                saved_ms=costs.saved_ms,
                compute_ms=costs.total_ms,
                codec=PLAIN if sealed is None else sealed.codec,
                size=None if payload is None else len(payload),
            )
            committed = yield from self._record(commit)
            if committed is not None and committed.forgotten:
                yield from self._discard(committed.execution, artifact, commit.codec)
            if committed is not None and commit.holds & SAMPLES:
                self._run.samples.remember(committed.execution)
        uses = inside.uses
        if committed is not None:
            uses = (CallDependency(self.keys.node, self.keys.reuse, committed.execution, started_at),)
        since, until = self._validity(started_at, inside.valid_from, inside.valid_until)
        live = self._live_for_outer(inside)
        self._propagate(
            Dependencies(
                uses=uses,
                reads=self._reads_for_outer(inside.reads),
                valid_from=since,
                valid_until=until,
                not_replayable=self._why_outer_not_replayable(not_replayable, committed),
                samples=inside.samples or self._pool is not None,
                usage=inside.usage,
                live=live,
                work=self._work(costs, duration_ms, started_at),
            )
        )
        reason = self._reason_it_ran(not_replayable)
        if live is None and (not_replayable is not None or reason is not ReplayReason.NODE_NOT_FOUND):
            say_why(self.call.definition.name, reason, self.part_that_differs(), not_replayable, self.ids())
        # Tokens that are reported while the commit is written are in no execution, so the history holds them.
        used = None if committed and usage else _own_tokens_as_json(frame)
        # An effect that is known to have taken place returns what it gave then, and its function did not run.
        outcome = "replayed" if reason is ReplayReason.EFFECT_HAPPENED else "ran"
        self._add_to_history(
            outcome,
            reason,
            committed.execution if committed else None,
            costs.own_ms,
            _own_tokens(frame),
            used,
            None if outcome == "replayed" else duration_ms,
        )
        can_serve_others = not_replayable is None and (live_inside is None or self.call.definition.is_configured)
        self._land(
            FlightOutcome.LOOK_AGAIN if committed is not None and can_serve_others else FlightOutcome.RUN_YOURSELF
        )
        node_id = self.keys.node.hex()
        return MusubitoResult(value, artifact_id, node_id, node_id, self.call.definition.name)

    def _reason_it_ran(self, not_replayable: str | None) -> ReplayReason:
        """Return the reason why the call ran, now that it has; `not_replayable` is what it says of its result."""
        if not_replayable is not None and reason_of(not_replayable) is ReplayReason.INTERRUPT_ANSWERED:
            return ReplayReason.INTERRUPT_RESUMED
        if self.why_not is not None and self._reason is ReplayReason.NODE_NOT_FOUND:
            return reason_of(self.why_not)  # it has an identity of its own each time, so that nothing is found
        return self._reason

    def _sealed(self, artifact: bytes, payload: bytes) -> CallSteps[Sealed]:
        """Return the payload as it is stored. Raises `StoreError` if it cannot be stored."""
        if len(payload) <= AT_ONCE:
            return self.engine.contents.seal(artifact, payload)
        sealed: Sealed = yield Offload(partial(self.engine.contents.seal, artifact, payload))
        return sealed

    def _execution_flags(self, inside: Dependencies, attempts: Sequence[SampleRef], begun: StartedExecution) -> int:
        holds = 0
        if inside.samples or attempts:
            holds |= SAMPLES
        if inside.reads:
            holds |= READS
        if inside.uses:
            holds |= CALLS
        if begun.effect is not None:
            holds |= EFFECT
        if self._live_for_outer(inside) is not None:
            holds |= LIVE
        return holds

    def _live_for_outer(self, inside: Dependencies) -> str | None:
        """Return the name of the LIVE step for which the enclosing execution is not replayed, if there is one.

        A step that the user configured answers for the LIVE steps inside it.
        """
        definition = self.call.definition
        if definition.semantics.runs_each_time:
            return definition.name
        return None if definition.is_configured else inside.live

    def _attempts_before(self) -> Sequence[SampleRef]:
        if not self._run.gives_samples:
            return ()
        return self._run.samples.attempts_before(SampleRef(self._identity.pool(), self._number))

    def _record(self, change: Commit | CommitFailure) -> CallSteps[Committed | None]:
        """Write what happened, and return what was committed; None if the store fails.

        The user's work then goes on without a record.
        """
        try:
            committed: Committed = yield Write(change)
        except StoreError as fault:
            if change.lease is not None:
                self.engine._disown(change.lease)
            self.engine._report(fault, self.ids())
            return None
        if self.call.definition.semantics.record_inputs:
            arguments, name = self.given, self.call.definition.name
            digest = self._identity.input_digest
            self.engine.journal.append(CallInputs(committed.execution, name, digest, arguments.packed, arguments.texts))
            for read, text in self._texts:
                stored = self.engine._keep_text(name, read)
                self.engine.journal.append(FileText(committed.execution, name, stored, read.key, text))
        return committed

    def _discard(self, execution: int, artifact: bytes | None, codec: str) -> CallSteps[None]:
        """Remove the blob of an execution that was forgotten while it ran, unless another execution needs the blob."""
        try:
            if artifact is not None and codec.endswith(BLOB) and not (yield RunQuery(PayloadOf(execution))):
                yield Offload(partial(self.engine.contents.discard, artifact, codec))
        except StoreError as fault:
            self.engine._report(fault, self.ids())

    def _why_outer_not_replayable(self, not_replayable: str | None, committed: Committed | None) -> str | None:
        """Return the reason why the enclosing execution is never replayed, if this call is the cause.

        An execution that is not in the store cannot be invalidated. So nothing that was built on it may be replayed.
        """
        if self.call.why_not is not None:
            return ReplayReason.CALL_NOT_RECORDED.of(f"{self.call.definition.name}, which cannot be identified")
        if not_replayable is None and committed is None:
            return ReplayReason.CALL_NOT_RECORDED.of(self.call.definition.name)
        if not_replayable is not None and reason_of(not_replayable) is ReplayReason.CHANGED_IN_PLACE:
            return None  # the outer one looks itself at what it was given, and a replay of it runs none of this
        return not_replayable

    def _failed(
        self, begun: StartedExecution, error: BaseException, started_at: float, duration_ms: float
    ) -> CallSteps[None]:
        """Record the failure of the function as an execution, and pass it on to the calls that wait.

        A control-flow exception of a framework and a cancellation are no executions.
        """
        frame = self.frame()
        self._give_back()
        inside = frame.taken()
        if inside.samples:
            yield from self._remember_attempt(inside, error)
        since, until = self._validity(started_at, inside.valid_from, inside.valid_until)
        handed_up = inside._replace(valid_from=since, valid_until=until, live=self._live_for_outer(inside))
        costs = frame.costs(duration_ms)
        self._propagate(handed_up._replace(work=self._work(costs, duration_ms, started_at)))
        cancelled = stops_call(error)
        passing = cancelled or isinstance(error, control_flow())
        recorded: Committed | None = None
        if begun.effect is not None or (begun.moment is not None and not passing):
            change = self._failure(begun, error_text(error), self._effect_outcome(error), started_at, duration_ms)
            recorded = yield from self._record(change)
        elif begun.lease is not None:
            yield from self._abandon(begun)
        outcome = "cancelled" if cancelled else "suspended" if passing else "failed"
        used = None if recorded else _own_tokens_as_json(frame)
        self._add_to_history(
            outcome,
            self._reason,
            recorded.execution if recorded else None,
            costs.own_ms,
            _own_tokens(frame),
            used,
            duration_ms,
        )
        if cancelled:
            self._land(FlightOutcome.LOOK_AGAIN)
        else:
            failed = SharedFailure.of(error, handed_up, self._run, self.call.fingerprint, self._live())
            self._land(FlightOutcome.RUN_YOURSELF if passing else failed)

    def _work(self, costs: Costs, duration_ms: float, started_at: float) -> Work:
        """Return the work of this call, which has run, for the enclosing bodies."""
        compute_ms = duration_ms if costs.total_ms is None else costs.total_ms
        return Work(self._began_at, time.perf_counter(), compute_ms, started_at, costs.saved_ms)

    def _effect_outcome(self, error: BaseException) -> str:
        """Return the outcome of an effect whose function raised this error."""
        if isinstance(error, self.call.definition.semantics.definite_failures):
            return "failed"
        return "withdrawn" if suspends(error) else "unknown"

    def _failure(
        self, begun: StartedExecution, error: str, effect: str, started_at: float, duration_ms: float
    ) -> CommitFailure:
        frame = self.frame()
        costs = frame.costs(duration_ms)
        if begun.effect is not None and effect == "unknown":
            # The class alone: the text may show what the user stores.
            self._say_in_doubt(error.partition(":")[0])
        return CommitFailure(
            place=self.place(),
            started_at=started_at,
            duration_ms=duration_ms,
            error=self.engine.contents.sealed_text(ERROR, error),
            pool=self._pool,
            uses=frame.taken().uses,
            usage=frame.used(),
            lease=begun.lease,
            effect=_effect(begun, effect),
            saved_ms=costs.saved_ms,
            compute_ms=costs.total_ms,
            began=begun.moment,
        )

    def _say_in_doubt(self, why: str) -> None:
        """Report that nobody knows whether the effect of this call took place."""
        name = self.call.definition.name
        say_in_doubt(name, why, self.ids())
        if self.engine.observer is not None:
            self.engine.observer.in_doubt(name)

    def _remember_attempt(self, inside: Dependencies, error: BaseException) -> CallSteps[None]:
        trees = []
        for use in inside.uses:
            try:
                trees.append(((yield RunQuery(SampleTree(use.execution))), use.execution))
            except StoreError as fault:
                self.engine._report(fault, self.ids())
        if suspends(error):
            self._run.samples.suspended(trees)
        else:
            self._run.samples.failed(SampleRef(self._identity.pool(), self._number), trees)
