"""Whether a call would be replayed, why or why not, and how it differs from earlier ones; nothing is run or written."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from musubito.engine import drivers, process
from musubito.engine.context import SCOPE, Scope, Usage
from musubito.engine.effects import Write
from musubito.engine.external import ANSWER
from musubito.engine.protocol import Call, Story
from musubito.errors import StoreError
from musubito.identity.keys import effect_key
from musubito.model import MusubitoResult, ReplayDecision, ReplayReason, StepType
from musubito.policy import no, yes
from musubito.store.base import (
    CodeOf,
    EffectQuery,
    EffectRow,
    Found,
    Holder,
    HolderOf,
    Neighbour,
    Neighbours,
    Read,
    ReadsOf,
)

if TYPE_CHECKING:
    from musubito.engine.engine import MusubitoEngine

__all__ = ["Explanation", "explain", "why_missing"]

NEIGHBOURS: Final = 500
"""How many earlier nodes of an operation are compared."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a call would do, and why.

    `nearest_node_id` is the earlier node of the operation that differs least, None if there is none or the call would
    be replayed; `arguments` and `code` name what differs from it. `untracked` lists what the code reaches and cannot be
    identified, `state` what it writes itself; changes of neither make it run again.
    """

    operation: str
    node_id: str
    decision: ReplayDecision
    nearest_node_id: str | None
    arguments: tuple[str, ...]
    code: tuple[str, ...]
    untracked: tuple[str, ...]
    state: tuple[str, ...]

    def __str__(self) -> str:
        verb = "would be replayed" if self.decision.replay else "would run"
        lines = [f"{self.operation} {verb}: {self.decision.reason.value}"]
        if self.nearest_node_id is not None:
            lines.append(f"  nearest earlier call: node {self.nearest_node_id[:12]}")
        for what, names in (
            ("arguments that differ", self.arguments),
            ("code that differs", self.code),
            ("not tracked", self.untracked),
            ("its own state", self.state),
        ):
            if names:
                lines.append(f"  {what}: {', '.join(names)}")
        return "\n".join(lines)


class _Question(Story):
    """A story that only looks."""

    __slots__ = ("answer",)

    def _replayed(
        self, found: Found, value: Any, reads: Sequence[Read], usage: Usage, reason: ReplayReason
    ) -> MusubitoResult[Any]:
        self.answer = yes(reason)
        return MusubitoResult(value, "", "", "")

    def ask(self) -> ReplayDecision:
        """In a run of its own, with nothing given yet."""
        telling = self.look()
        try:
            effect = telling.send(None)
            while True:
                effect = telling.send(True if isinstance(effect, Write) else drivers.perform(effect, self.engine))
        except StopIteration as stop:
            return no(self._reason) if stop.value is None else self.answer

    def neighbour(self) -> Neighbour:
        place = self.place()
        parents = frozenset(parent.node for parent in place.parents)
        return Neighbour(self.keys.node, place.code.fingerprint, place.input_hash, place.arguments, parents, None)


def explain(engine: MusubitoEngine, call: Call) -> Explanation:
    """See `Explanation`. Raises `InputError` as the call would, and `StoreError`."""
    scope = SCOPE.get()
    question = _Question(engine, call, Scope(engine, engine.new_run(), None, scope.parents, scope.ambient))
    effect = call.definition.semantics.step_type is StepType.EXTERNAL_EFFECT
    decision = _effect(engine, question) if effect else question.ask()
    nearest: str | None = None
    arguments: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    if not decision.replay:
        if decision.reason is ReplayReason.NODE_NOT_FOUND and _is_running(engine, question):
            decision = no(ReplayReason.NODE_RUNNING)
        found = _nearest(engine, question.neighbour(), call.definition.name)
        if found is not None:
            this, other = question.neighbour(), found
            nearest = other.node.hex()
            arguments = _changed(this.arguments, other.arguments)
            code = _changed(engine.storage.find(CodeOf(other.code)), _parts(call))
            if decision.reason is ReplayReason.NODE_NOT_FOUND:
                decision = no(_reason(this, other))
    return Explanation(
        call.definition.name,
        question.keys.node.hex(),
        decision,
        nearest,
        arguments,
        code,
        call.fingerprint.untracked,
        call.fingerprint.state,
    )


def why_missing(
    engine: MusubitoEngine, operation: str, nodes: Collection[bytes], before: float
) -> dict[bytes, ReplayReason]:
    """For nodes that ran since nothing was found for them, why: what differs from the nearest that ran before a
    time."""
    limit = NEIGHBOURS + len(nodes)
    try:
        rows: Sequence[Neighbour] = engine.storage.find(Neighbours(engine.namespace, operation, None, limit))
    except StoreError as fault:
        engine.log(fault)
        return {}
    earlier = [row for row in rows if row.started_at is not None and row.started_at < before]
    by_input = {row.input_hash: row for row in reversed(earlier)}
    codes = {row.code for row in earlier}
    reasons: dict[bytes, ReplayReason] = {}
    for this in rows:
        if this.node not in nodes or not earlier:
            continue
        nearest = by_input.get(this.input_hash)
        if nearest is not None:
            reasons[this.node] = _reason(this, nearest)
        else:
            reasons[this.node] = ReplayReason.INPUT_CHANGED if this.code in codes else ReplayReason.CODE_CHANGED
    return reasons


def _nearest(engine: MusubitoEngine, this: Neighbour, operation: str) -> Neighbour | None:
    rows: Sequence[Neighbour] = engine.storage.find(Neighbours(engine.namespace, operation, this.node, NEIGHBOURS))
    return min((row for row in rows if row.node != this.node), key=lambda row: _distance(this, row), default=None)


def _distance(a: Neighbour, b: Neighbour) -> tuple[int, int]:
    same = sum(a.arguments.get(name) == digest for name, digest in b.arguments.items())
    return (a.code != b.code) + (a.input_hash != b.input_hash) + (a.parents != b.parents), -same


def _reason(this: Neighbour, nearest: Neighbour) -> ReplayReason:
    if this.code != nearest.code:
        return ReplayReason.CODE_CHANGED
    if this.input_hash != nearest.input_hash:
        return ReplayReason.INPUT_CHANGED
    # Alike in all of it: another sample.
    return ReplayReason.NODE_NOT_FOUND if this.parents == nearest.parents else ReplayReason.UPSTREAM_CHANGED


def _changed(a: Any, b: Any) -> tuple[str, ...]:
    return tuple(sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name)))


def _parts(call: Call) -> dict[str, bytes]:
    return {part.name: part.digest for part in call.fingerprint.parts}


def _is_running(engine: MusubitoEngine, question: _Question) -> bool:
    holder: Holder | None = engine.storage.find(HolderOf(question.flight_key()))
    return holder is not None and holder.expires_at >= time.time() and not process.is_dead(holder)


def _effect(engine: MusubitoEngine, question: _Question) -> ReplayDecision:
    """An effect is replayed when it was done, whatever became of its code."""
    definition, place = question.call.definition, question.place()
    key = effect_key(engine.namespace, definition.name, definition.operation_version, place.input_hash, 0)
    row: EffectRow | None = engine.storage.find(EffectQuery(key, question.keys, engine.namespace))
    if row is None:
        return no(ReplayReason.NODE_NOT_FOUND)
    if definition.semantics.force_reexecution:
        return no(ReplayReason.FORCE_REEXECUTION)
    match row.outcome:
        case "done" if row.found and _was_answered(engine, row.found):
            return no(ReplayReason.NOT_REPLAYABLE)
        case "done":
            return yes(ReplayReason.EXACT_HIT if row.found and row.found.settled else ReplayReason.EARLY_CUTOFF_HIT)
        case "failed":
            return no(ReplayReason.NODE_FAILED)
        case "withdrawn":
            return no(ReplayReason.NODE_NOT_FOUND)
        case None:
            return no(ReplayReason.NODE_RUNNING)
        case _:
            return no(ReplayReason.NOT_REPLAYABLE)


def _was_answered(engine: MusubitoEngine, found: Found) -> bool:
    return any(read.kind == ANSWER for read in engine.storage.find(ReadsOf(found.execution)))
