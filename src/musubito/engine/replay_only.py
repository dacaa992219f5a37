"""Make a call in the mode `replay_only`: replay it, or raise `NotReplayed`, which says what differs.

Nothing runs, even if the store fails. The callable that finds out about an effect is not called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Final

from musubito.engine.call import CallProtocol
from musubito.engine.call_state import StartedExecution
from musubito.engine.effects import EffectCall
from musubito.engine.explain import explained
from musubito.engine.explanation import Explanation
from musubito.engine.lookup import with_live_steps
from musubito.engine.requests import CallSteps, Offload, Raised
from musubito.engine.shown_misses import show_misses_last
from musubito.errors import NotReplayed, StoreError
from musubito.model import MusubitoResult, ReplayDecision, ReplayReason, StepConfiguration, StepType
from musubito.policy import decide, no
from musubito.store.rows import Candidate, EffectRow

MOST: Final = 3
"""Differing places that are named at most."""
NOT_RECORDED: Final = "not recorded yet"
"""Why a call of which no earlier one is stored cannot be replayed."""
_MISSING: Final = (
    ReplayReason.NODE_NOT_FOUND,
    ReplayReason.CODE_CHANGED,
    ReplayReason.INPUT_CHANGED,
    ReplayReason.UPSTREAM_CHANGED,
    ReplayReason.ANOTHER_SAMPLE,
    ReplayReason.VERSION_CHANGED,
)
"""Reasons for which no stored result was found."""


class RecordedCall(CallProtocol):
    """A call for which a recorded answer stands in, even that of a step which runs each time."""

    _is_live: ClassVar = False

    def _decide(self, candidate: Candidate) -> ReplayDecision:
        """Decide as at other times, but that what is LIVE or always forced is replayed."""
        if self.call.forced_by not in (None, ReplayReason.LIVE):
            return super()._decide(candidate)
        return decide(with_live_steps(candidate), self._policy(), self.engine.now())

    def _policy(self) -> StepConfiguration:
        policy = self.call.definition.semantics
        if policy.runs_each_time:
            kind = StepType.STOCHASTIC if policy.step_type is StepType.LIVE else policy.step_type
            policy = replace(policy, step_type=kind, force_reexecution=False)
        return policy


class _ReplayOnly(RecordedCall):
    """A call in which nothing runs."""

    _may_write: ClassVar = False

    def _on_store_fault(self, fault: StoreError) -> StartedExecution:
        raise self._miss(f"the store failed: {fault}") from fault

    def _miss(self, why: str, explanation: Explanation | None = None) -> NotReplayed:
        show_misses_last()
        return NotReplayed(self.call.definition.name, why, explanation)


class ReplayOnlyStepCall(_ReplayOnly):
    """A call of a step."""

    _floor: ClassVar[float | None] = None
    """The least likeness of an earlier call that a call is compared with; None for the usual one."""

    def _begin(self) -> CallSteps[MusubitoResult[Any] | Raised | StartedExecution]:
        hit = yield from self.lookup()
        if hit is None:
            explanation: Explanation = yield Offload(partial(explained, self, no(self._reason), floor=self._floor))
            raise self._miss(_difference(explanation), explanation)
        return hit


class ReplayOnlyEffectCall(_ReplayOnly, EffectCall):
    """A call of an effect: either it was done, or it is an error."""

    def _intent(self, row: EffectRow | None) -> CallSteps[MusubitoResult[Any] | StartedExecution | None]:
        # What was recorded of an effect of each run is that of another run.
        hit = (yield from self.lookup()) if self.call.definition.semantics.once_per == "run" else None
        if hit is None:
            raise self._miss("the effect has not taken place")
        return hit

    def _ask(self, row: EffectRow, why: str) -> CallSteps[None]:
        raise self._miss(why)
        yield  # makes a generator of it, as the method that it replaces is


REPLAYS: Final = (ReplayOnlyStepCall, ReplayOnlyEffectCall)
"""The classes that make a call which must not run: of a step, and of an effect."""


def _difference(explanation: Explanation) -> str:
    """Say why a call would run, and what differs from the nearest earlier one. Values are not shown."""
    reason, nearest = explanation.decision.reason, explanation.nearest_node_id
    if explanation.files:
        return f"a file that it read changed: {_listed(explanation.files)}"
    if explanation.reads:
        return reason.naming.format(_listed(explanation.reads))
    if reason not in _MISSING:
        return reason.sentence if explanation.never is None else explanation.never.says
    if nearest is None:
        return NOT_RECORDED
    paths = [field.partition(": ")[0] for field in explanation.fields]
    paths += [name for name in explanation.arguments if paths and name.startswith("$")]
    differing = [
        f"its {what} changed: {_listed(names)}"
        for what, names in (("code", explanation.code), ("input", paths or explanation.arguments))
        if names
    ]
    return f"{'; '.join(differing) or reason.sentence}; nearest earlier call: {nearest[:12]}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(f"`{name}`" for name in names[:MOST]) + more
