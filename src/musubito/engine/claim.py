"""Claim a missing result, so that equal calls run once: within a process, and between processes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from musubito.engine import process_identity
from musubito.engine.call_state import UNRECORDED, StartedExecution
from musubito.engine.lookup import CallLookup
from musubito.engine.notices import say_unrecorded
from musubito.engine.requests import CallSteps, FetchLatest, FetchOrClaim, Raised, Sleep, Write
from musubito.engine.single_flight import FlightResult, SharedFailure
from musubito.errors import StoreError
from musubito.model import MusubitoResult
from musubito.reasons import ReplayReason
from musubito.store.changes import Claim, LeaseHeld, Moment, RegisterWait, Release, Renew, Superseded
from musubito.store.protocol import SupportsFetchOrClaim
from musubito.store.rows import Candidate

FIRST_PAUSE: Final = 0.002
"""Seconds of the first pause while another process computes the result."""
MAX_PAUSE: Final = 0.1
"""Seconds of the longest such pause."""


class CallClaim(CallLookup):
    """A call that claims its result, or waits for the call that has claimed it."""

    def flight_key(self) -> bytes:
        """Return the widest key by which the policy may replay."""
        return self.keys.cross if self._identity.across else self.keys.reuse

    def _newest_or_begun(self, distant: SupportsFetchOrClaim) -> CallSteps[Candidate | StartedExecution | None]:
        """Fetch the newest execution, or claim the result, in one message to the store.

        If this process already computes the result, only the newest execution is fetched.
        """
        key = self.flight_key()
        if not self.engine.flights.begin(key, self.frame()) or key in self.engine.keeper.releasing:
            newest: Candidate | None = yield FetchLatest(self.keys, self.engine.namespace)
            return newest
        claim = self._claim(self.engine.owner)
        fetched: Candidate | Moment | None = yield FetchOrClaim(distant, claim, self.engine.namespace)
        return self._claimed(fetched, claim) if isinstance(fetched, Moment) else fetched

    def _claim_or_wait(self) -> CallSteps[MusubitoResult[Any] | StartedExecution]:
        """Claim the result in the store, for all callers in this process, and return a hit or the right to run.

        While another process computes the result, this call waits.
        """
        frame, key = self.frame(), self.flight_key()
        # A lease of this engine that still stands could not be released. This call leads the flight here, so it may
        # take the lease over.
        pause, over = FIRST_PAUSE, self.engine.owner
        held_keys: list[bytes] = []
        begun: StartedExecution | None = None
        waits_since: float | None = None
        yield from self.until_released(key)
        try:
            while True:
                claim = self._claim(over)
                answer: Moment | LeaseHeld | Superseded = yield Write(claim)
                if isinstance(answer, Moment):
                    begun = self._claimed(answer, claim)
                    return begun
                if isinstance(answer, LeaseHeld):
                    if process_identity.is_dead(answer.holder):
                        over = answer.holder.owner
                        continue
                    holding = self.engine.flights.held_up_by(frame)
                    if holding:
                        held_keys = [key_held for key_held, _ in holding]
                        yield Write(Renew(self.engine._lease_owner(), holding, time.time()))
                        if (yield Write(RegisterWait(held_keys, claim.holder.owner, key, time.time()))):
                            name = self.call.definition.name
                            say_unrecorded(name, "another process waits for a step around it", self.ids())
                            return UNRECORDED
                    waits_since = waits_since or time.perf_counter()
                    yield Sleep(pause)
                    pause = min(pause * 1.5, MAX_PAUSE)
                hit = yield from self.lookup()
                if hit is not None:
                    return hit
                if isinstance(answer, Superseded) and self._seen == claim.seen:
                    raise StoreError("the database contradicts itself: it holds something newer that cannot be found")
        finally:
            self._tell_wait(waits_since)
            if held_keys:
                yield from self._end_wait(held_keys, begun)

    def _tell_wait(self, since: float | None) -> None:
        """Tell the observer for how long another owner's lease made this call wait, if it did (`since`)."""
        if since is not None and self.engine.observer is not None:
            self.engine.observer.waited(self.call.definition.name, time.perf_counter() - since)

    def until_released(self, key: bytes) -> CallSteps[None]:
        """Wait while the keeper releases an earlier lease of this key, because that would end a new lease too."""
        while key in self.engine.keeper.releasing:
            yield Sleep(FIRST_PAUSE)

    def _end_wait(self, held_keys: Sequence[bytes], begun: StartedExecution | None) -> CallSteps[None]:
        """Record that nothing waits any more for these keys.

        If that fails, the fault is reported, and a result that was found or claimed meanwhile is not lost. A strict
        engine raises the fault, so a lease that was claimed meanwhile is handed over to be released. A wait that stays
        recorded makes other calls run unrecorded, at worst, instead of waiting.
        """
        try:
            yield Write(RegisterWait(held_keys, self.engine.owner, None, time.time()))
        except StoreError as fault:
            if self.engine.strict and begun is not None and begun.lease is not None:
                self.engine._disown(begun.lease)
            self.engine._report(fault, self.ids())

    def _holds_flight(self) -> bool:
        """Tell whether this call holds the flight that others in this process wait for."""
        return self._frame is not None and self._frame.flight is not None

    def _claim(self, over: bytes) -> Claim:
        holder, name = self.engine._lease_owner(), self.call.definition.name
        return Claim(self.flight_key(), self.keys, self._identity.across, self._seen, holder, name, time.time(), over)

    def _claimed(self, moment: Moment, claim: Claim) -> StartedExecution:
        self.engine.flights.claimed(claim.key, claim.operation)
        self.engine.keeper.wake()
        return StartedExecution(moment, (claim.key, claim.holder.owner))

    def _shares_failure(self, failed: SharedFailure) -> bool:
        """Tell whether this call would have failed like the call that it waited for."""
        return failed.concerns(self._run, self.call.fingerprint, self._live())

    def _shared_failure(self, failed: SharedFailure) -> Raised:
        """Return the failure of the call that this one waited for."""
        self._give_back()
        self._propagate(failed.handed_up)
        self._add_to_history("failed", ReplayReason.NODE_RUNNING, None, 0.0, 0)
        return Raised(failed.raised())

    def _land(self, landed: FlightResult) -> None:
        if self._frame is not None:
            self.engine.flights.land(self._frame, landed)

    def _abandon(self, begun: StartedExecution) -> CallSteps[None]:
        """Release the lease if the call ended before its result was recorded, so that nothing stays claimed."""
        if begun.lease is not None and self._frame is not None and self._frame.flight is not None:
            try:
                yield Write(Release(begun.lease))
            except StoreError:
                self.engine._disown(begun.lease)
