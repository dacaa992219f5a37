"""Run one step call, from its arguments to its result.

    identify -> look for an execution that may answer -> replay it
                                                      -> or claim the missing result, run the function, commit

Each part is a layer of the class, and uses only the layers below it:

    CallProtocol   call          the order of the parts
    CallCommit     commit        runs the body and records what it did
    CallClaim      claim         claims the missing result, or waits for it
    CallLookup     lookup        finds and replays a stored execution
    CallState      call_state    keys, scope, frame, history; `call_identity` makes the keys

They are layers of one class, because each replay would pay for an object or a call between them.
`CallProtocol.run` does all this as a generator. The generator yields requests (`engine.requests`) and never blocks. A
driver performs each request and sends the answer back. The code is written once, for sync and async calls and for every
store. External effects begin differently (`engine.effects`). Streams run their function piece by piece (`api.stream`).
The rest is the same for all.

If the store fails, the user's work goes on: the function runs unrecorded, and the fault is reported.
"""

from __future__ import annotations

import time
from typing import Any

from musubito.engine.call_identity import input_of
from musubito.engine.call_state import UNRECORDED, StartedExecution
from musubito.engine.commit import CallCommit
from musubito.engine.notices import say_unrecorded
from musubito.engine.requests import CallSteps, FetchLatest, Invoke, Join, Raised, RunQuery, Write
from musubito.engine.single_flight import FlightOutcome, FlightResult, JoinResult, SharedFailure
from musubito.errors import StoreError
from musubito.model import MusubitoResult
from musubito.reasons import ReplayReason
from musubito.store.changes import OpenNamespace
from musubito.store.queries import CurrentMoment, KeyCheckOf
from musubito.store.rows import Candidate
from musubito.values.digest import is_unchangeable


class CallProtocol(CallCommit):
    """One call of a step, from its arguments to its result."""

    def run(self) -> CallSteps[MusubitoResult[Any] | Raised]:
        """Replay or run the call, and return its result or its error."""
        begun: MusubitoResult[Any] | Raised | StartedExecution = UNRECORDED
        try:
            begun = yield from self.begin()
            if not isinstance(begun, StartedExecution):
                return begun
            try:
                begun = self.look_once_more(begun)
            except BaseException as error:
                yield from self._end_early(begun, error, called=False)
                raise
            started_at, clock = self.engine.now(), time.perf_counter()
            scope = self.body_scope()
            try:
                outcome = yield Invoke(self.call.function, scope)
            except BaseException as error:
                self._leave()
                yield from self._end_early(begun, error, called=True)
                raise
            return (yield from self.finish(begun, outcome, started_at, (time.perf_counter() - clock) * 1000))
        except BaseException:
            if isinstance(begun, StartedExecution):
                yield from self._abandon(begun)
            raise
        finally:
            self._land(FlightOutcome.LOOK_AGAIN)

    def look_once_more(self, begun: StartedExecution) -> StartedExecution:
        """Identify the input and the code of the call again, just before its function runs.

        Both were identified when the call was made. While the call waited for its turn or its store, others may have
        changed them. If others change them back before the function ends, a later look finds nothing. If the input or
        the code has changed, the execution is marked as never replayed. The node is described now too, because the
        function may change its arguments in place.
        """
        try:
            self.place()
            is_same = self._input_now() == self._input
        except Exception:  # a look at changed values may raise anything
            is_same = False
        if not is_same:
            self.frame().not_replayable = ReplayReason.CHANGED_MEANWHILE.of("its input or context")
        try:
            code = self._is_same_code()
        except Exception:
            code = False
        if not code:
            self.frame().not_replayable = ReplayReason.CHANGED_MEANWHILE.of("its code, or what that holds")
        if self._place is not None:
            return begun
        # A node that cannot be described cannot be recorded.
        if begun.lease is not None:
            self.engine._disown(begun.lease)
        say_unrecorded(self.call.definition.name, "its arguments cannot be described any more", self.ids())
        return UNRECORDED

    def _is_same_code(self) -> bool:
        """Tell whether the code is what it was when the call was made, but for what calls beside it have changed."""
        call = self.call
        if call.current().digest == call.fingerprint.digest:
            return True
        changes = call.fingerprint.changes_until(call.tracker.counted_as(call.fingerprint))
        if changes.others or changes.of_context:
            return False
        call.tracker.learn_state(call.fingerprint, changes.own)
        self.count_as(call.current())
        return True

    def _input_now(self) -> bytes:
        """Return the digest of the call's input at this moment (see `input_of`)."""
        call = self.call
        if call.again is None:
            if self.scope.ambient is None and is_unchangeable(call.arguments):
                return self._input
            return input_of(call, self.scope)[0]
        arguments = call.again()
        if arguments is None:
            return input_of(call, self.scope, self.given)[0]
        return input_of(call._replace(arguments=arguments), self.scope)[0]

    def _end_early(self, begun: StartedExecution, error: BaseException, *, called: bool) -> CallSteps[None]:
        """Release the claim after an error before the function could say how it ended, or (not `called`) began."""
        yield from self._abandon(begun)

    def begin(self) -> CallSteps[MusubitoResult[Any] | Raised | StartedExecution]:
        """Return a result to replay, an error to pass on, or the right to run."""
        try:
            try:
                if not self.engine.contents.settled:
                    yield from self._settle()
                yield from self.recall_state()
                return (yield from self._begin())
            except StoreError as fault:
                return self._on_store_fault(fault)
        except BaseException as error:
            self._give_back()
            if isinstance(error, Exception):
                # A line of history would begin the namespace, with this engine's key or without one, for a caller that
                # only asks.
                if self._may_write or self.engine.contents.settled:
                    self._add_to_history("failed", self._reason, None, 0.0, 0)
            elif self._frame is not None and self._frame.flight is not None:
                # An interrupt (Ctrl-C) may have come after the lease was taken and before this call was told.
                self.engine._disown((self._frame.flight, self.engine.owner))
            raise

    def _settle(self) -> CallSteps[None]:
        """Make sure that the namespace uses this engine's key, or none, before anything is stored in it.

        Raises `WrongKey`.
        """
        contents = self.engine.contents
        check: bytes | None = yield RunQuery(KeyCheckOf(contents.namespace))
        if check is None and self._may_write:
            check = yield Write(OpenNamespace(contents.namespace, contents.key_check))
        contents.verify_key(check)

    def _on_store_fault(self, fault: StoreError) -> StartedExecution:
        self.engine._report(fault, self.ids())
        return UNRECORDED

    def _begin(self) -> CallSteps[MusubitoResult[Any] | Raised | StartedExecution]:
        if self._is_live:
            self._reason = ReplayReason.LIVE
            return StartedExecution((yield RunQuery(CurrentMoment())))
        alone = self._is_forced
        distant = None if alone else self.engine.distant
        newest: Candidate | None
        if distant is None:
            newest = yield FetchLatest(self.keys, self.engine.namespace)
        else:
            first = yield from self._newest_or_begun(distant)
            if isinstance(first, StartedExecution):
                return first
            newest = first
        while True:
            hit = yield from self._select_candidate(newest)
            if hit is not None:
                return hit
            if alone:
                return StartedExecution((yield RunQuery(CurrentMoment())))
            joined: JoinResult | FlightResult = (
                JoinResult.MINE if self._holds_flight() else (yield Join(self.flight_key(), self.frame()))
            )
            if joined is JoinResult.CYCLE:
                say_unrecorded(self.call.definition.name, "it would wait for itself", self.ids())
                return UNRECORDED
            if joined is JoinResult.MINE:
                return (yield from self._claim_or_wait())
            if isinstance(joined, SharedFailure) and self._shares_failure(joined):
                return self._shared_failure(joined)
            alone = joined is not FlightOutcome.LOOK_AGAIN
            yield from self.recall_state()
            newest = yield FetchLatest(self.keys, self.engine.namespace)
