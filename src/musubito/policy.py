"""Whether an execution may be replayed: a pure function of the execution, the policy and the time.

It never reads a clock or a store. What needs a look elsewhere (the artifact's digest, what was read from stores, which
samples this run was given) is checked by the protocol once this function has agreed.
"""

from __future__ import annotations

from typing import Final, Protocol

from musubito.model import ReplayDecision, ReplayReason, StepConfiguration

__all__ = ["Execution", "decide", "no", "yes"]


class Execution(Protocol):
    """What the decision looks at."""

    @property
    def outcome(self) -> int:
        """1 if it succeeded, 0 if it failed."""

    @property
    def invalid(self) -> int:
        """1 if it is INVALID."""

    @property
    def not_replayable(self) -> str | None:
        """Why it may not be replayed, None if it may."""

    @property
    def started_at(self) -> float:
        """Seconds since the epoch."""

    @property
    def valid_from(self) -> float | None:
        """Before this, something nested inside it lies in the future."""

    @property
    def valid_until(self) -> float | None:
        """From this on, something nested inside it has expired."""


# Made once: a decision is taken on every call.
_YES: Final = {reason: ReplayDecision(replay=True, reason=reason) for reason in ReplayReason}
_NO: Final = {reason: ReplayDecision(replay=False, reason=reason) for reason in ReplayReason}


def yes(reason: ReplayReason) -> ReplayDecision:
    """Replay, for this reason."""
    return _YES[reason]


def no(reason: ReplayReason) -> ReplayDecision:
    """Run, for this reason."""
    return _NO[reason]


def decide(execution: Execution, policy: StepConfiguration, now: float) -> ReplayDecision:
    """Replay only if it succeeded, is not INVALID and replayable, the policy does not force, it is younger than its
    time to live and not from the future, and the same holds for everything nested inside it."""
    if policy.force_reexecution:
        return _NO[ReplayReason.FORCE_REEXECUTION]
    if not execution.outcome:
        return _NO[ReplayReason.NODE_FAILED]
    if execution.invalid:
        return _NO[ReplayReason.NODE_INVALID]
    if execution.not_replayable is not None:
        return _NO[ReplayReason.NOT_REPLAYABLE]
    # Each asks for what must hold: a clock that says nan lets nothing pass.
    age = now - execution.started_at
    if not age >= 0 or not (policy.ttl_seconds is None or age < policy.ttl_seconds):
        return _NO[ReplayReason.TTL_EXPIRED]
    until, since = execution.valid_until, execution.valid_from
    if not (until is None or now < until) or not (since is None or now >= since):
        return _NO[ReplayReason.DEPENDENCY_EXPIRED]
    return _YES[ReplayReason.EXACT_HIT]
