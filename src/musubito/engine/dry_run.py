"""Ask what a call would replay, if anything. Nothing runs and nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from musubito.engine import drivers
from musubito.engine.call import CallProtocol
from musubito.engine.effects import EffectCall
from musubito.engine.frame import Usage
from musubito.engine.requests import CallSteps, RunQuery, Write
from musubito.model import EffectHappened, MusubitoResult, ReplayDecision, ReplayReason
from musubito.policy import no, yes
from musubito.store.queries import EffectQuery, SimilarNode
from musubito.store.rows import Candidate, EffectRow, ExternalRead
from musubito.values.call_keys import Parent


def neighbour_of(call: CallProtocol) -> SimilarNode:
    """Return the node of a call, to be compared with others."""
    place = call.place()
    parents = frozenset(parent.node for parent in place.parents)
    code = place.code.fingerprint
    return SimilarNode(call.keys.node, code, place.input_hash, place.arguments, parents, place.sample, None)


class DryRun(CallProtocol):
    """A question about a step: a call that only looks."""

    _may_write: ClassVar = False

    decision: ReplayDecision
    """The decision, once `ask` has returned."""
    problem: ReplayReason | None = None
    """The reason why the decision is not certain: it depends on facts that only the call itself can know."""
    problem_with: str = ""
    """The part that `problem` names."""

    def stand_for(self, input_digest: bytes, parents: Sequence[Parent]) -> None:
        """Ask about a recorded call, of whose input only the digest is known."""
        self._input = input_digest
        self._identity = self._identity._replace(input_digest=input_digest, parents=parents)
        self.count_as(self.call.fingerprint)

    def ask(self) -> MusubitoResult[Any] | None:
        """Return the result that would be replayed; None if the call would run.

        All samples in a replayed result count as given in the call's run.
        """
        steps = self._settled_answer()
        result: MusubitoResult[Any] | None = None
        try:
            request = steps.send(None)
            while True:
                # A write would only record what was asked for, so it is not made.
                request = steps.send(True if isinstance(request, Write) else drivers.perform(request, self.engine))
        except StopIteration as stop:
            result = stop.value
        if result is None:
            self.decision = no(self._reason)
        return result

    def _settled_answer(self) -> CallSteps[MusubitoResult[Any] | None]:
        if not self.engine.contents.settled:
            yield from self._settle()
        yield from self.recall_state()
        return (yield from self._answer())

    def _answer(self) -> CallSteps[MusubitoResult[Any] | None]:
        return self.lookup()

    def _replayed(
        self, candidate: Candidate, value: Any, reads: Sequence[ExternalRead], usage: Usage, reason: ReplayReason
    ) -> MusubitoResult[Any]:
        self.decision = yes(reason)
        return MusubitoResult(value, (candidate.artifact or b"").hex(), candidate.producer.hex(), self.keys.node.hex())

    def _not_compared(self, error: BaseException) -> None:
        self.problem, self.problem_with = ReplayReason.NOT_COMPARED, str(error)


class EffectDryRun(DryRun, EffectCall):
    """A question about an effect, which is replayed if it was done, whatever happened to its code."""

    def _answer(self) -> CallSteps[MusubitoResult[Any] | None]:
        query = EffectQuery(self._key_of(self._number), self.keys, self.engine.namespace)
        row: EffectRow | None = yield RunQuery(query)
        if row is None or row.outcome == "withdrawn":
            return None
        if row.outcome == "done":
            done = yield from self._done(row)
            return None if isinstance(done, EffectHappened) else done
        if row.found_out is not None and row.found_out.stored is None:
            self._reason = ReplayReason.EFFECT_NEVER_HAPPENED
        elif row.outcome == "failed":
            self._reason = ReplayReason.NODE_FAILED
        elif row.outcome is None:
            self._reason = ReplayReason.NODE_RUNNING
            self.problem = ReplayReason.OUTCOME_UNKNOWN
        else:
            self._reason = ReplayReason.OUTCOME_UNKNOWN
            if self.call.definition.semantics.on_unknown != "rerun":
                self.problem = ReplayReason.OUTCOME_UNKNOWN
        return None

    def _ask(self, row: EffectRow, why: str) -> CallSteps[None]:
        # The policy's callable is the user's code, so it is not called.
        self._reason = self.problem = ReplayReason.OUTCOME_UNKNOWN
        self.problem_with = why
        return None
        yield  # makes a generator of it, as the method that it replaces is


DRY_RUNS: Final = (DryRun, EffectDryRun)
"""The classes that ask about a call: of a step, and of an effect."""
