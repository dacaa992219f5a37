"""Decide whether an execution may be replayed: a pure function of the execution, the policy and the time.

The function never reads a clock or a store. Some conditions need a look elsewhere: the artifact's digest, the reads
from stores, the samples that this run was given. `CallLookup` checks these after the function has agreed.
"""

from __future__ import annotations

from typing import Final, Protocol

from musubito.model import ReplayDecision, ReplayReason, StepConfiguration

__all__ = ["SKEW", "Execution", "decide", "no", "yes"]


class Execution(Protocol):
    """The facts about an execution that the decision uses."""

    @property
    def outcome(self) -> int:
        """1 if it succeeded, 0 if it failed."""

    @property
    def invalid(self) -> int:
        """1 if it is INVALID."""

    @property
    def not_replayable(self) -> str | None:
        """The reason why the execution may not be replayed; None if it may."""

    @property
    def started_at(self) -> float:
        """The start of the execution, in seconds since the epoch."""

    @property
    def valid_from(self) -> float | None:
        """The latest start of something nested inside that expires, in seconds since the epoch; None without one."""

    @property
    def valid_until(self) -> float | None:
        """Seconds since the epoch from which on something nested inside has expired; None if nothing expires."""


SKEW: Final = 60.0
"""Seconds by which clocks may differ: a result that began so far ahead of this clock counts as begun now."""
# Made once, since every call takes a decision.
_YES: Final = {reason: ReplayDecision(replay=True, reason=reason) for reason in ReplayReason}
_NO: Final = {reason: ReplayDecision(replay=False, reason=reason) for reason in ReplayReason}


def yes(reason: ReplayReason) -> ReplayDecision:
    """Return the decision to replay, for this reason."""
    return _YES[reason]


def no(reason: ReplayReason) -> ReplayDecision:
    """Return the decision to run, for this reason."""
    return _NO[reason]


def decide(execution: Execution, policy: StepConfiguration, now: float) -> ReplayDecision:
    """Return whether an execution may be replayed, and the reason.

    It may be replayed if all of this holds:

    - The step is not LIVE, and its policy does not force a run.
    - The execution succeeded, is not INVALID and is replayable.
    - With a time to live: its age is below that, and it began at most `SKEW` seconds ahead of `now`.
    - The same holds for what is nested inside and has a time to live.
    """
    if policy.runs_each_time:
        return _NO[ReplayReason.FORCE_REEXECUTION if policy.force_reexecution else ReplayReason.LIVE]
    if not execution.outcome:
        return _NO[ReplayReason.NODE_FAILED]
    if execution.invalid:
        return _NO[ReplayReason.NODE_INVALID]
    if execution.not_replayable is not None:
        return _NO[ReplayReason.NOT_REPLAYABLE]
    # Each condition asks for what must hold, so that a clock that returns nan lets nothing pass.
    if policy.ttl_seconds is not None:
        age = now - execution.started_at
        if not age < policy.ttl_seconds:
            return _NO[ReplayReason.TTL_EXPIRED]
        if not age >= -SKEW:
            return _NO[ReplayReason.CLOCK_BEHIND]
    if execution.valid_until is not None:
        if not now < execution.valid_until:
            return _NO[ReplayReason.DEPENDENCY_EXPIRED]
        if execution.valid_from is not None and not now >= execution.valid_from - SKEW:
            return _NO[ReplayReason.CLOCK_BEHIND]
    return _YES[ReplayReason.EXACT_HIT]
