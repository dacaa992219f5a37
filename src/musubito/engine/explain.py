"""Explain whether a call would be replayed, why or why not, and how it differs from earlier calls.

Nothing is run or written.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from musubito.code.fingerprint import shown_source
from musubito.code.world.unrepeatable import Unrepeatable
from musubito.engine import process_identity
from musubito.engine.call import CallProtocol
from musubito.engine.call_identity import Call
from musubito.engine.dry_run import DRY_RUNS, neighbour_of
from musubito.engine.failure_log import FAULT
from musubito.engine.frame import Run
from musubito.engine.host import EngineHost
from musubito.engine.nearest import COMPARED, Earlier, Nearest, changed_names, reasons
from musubito.engine.recorded_inputs import CallInputs, stored_inputs
from musubito.engine.scope import SCOPE, Scope
from musubito.errors import StoreError
from musubito.model import ReplayDecision, ReplayReason, StepType
from musubito.policy import no
from musubito.reasons import NeverReplayed, never_replayed
from musubito.remedies import remedy_of
from musubito.store.queries import CodeOf, LeaseOwnerOf, SimilarNode, SimilarNodes
from musubito.store.rows import ExternalRead, LeaseOwner
from musubito.values.value_diff import text_diff

LOOKED_AT: Final = 5000
"""Newest nodes among which executions of an operation are looked for."""
BY_CODE: Final = frozenset({"clock", "random", "ids", "source"})
"""Kinds of unrepeatable answers that the present code tells."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The decision about a call, and the reasons for it.

    - `nearest_node_id`: the earlier node of the operation that differs least. It is None if there is none, or if the
      call would be replayed.
    - `arguments` and `code`: the names of the parts that differ from that node.
    - `fields`: the places in the arguments that differ (`$.messages[3].content: "..." → "..."`), if both inputs are
      stored.
    - `diffs`: unified diffs of the code, if both texts are stored.
    - `files`: the first file or folder that an earlier execution read and that has changed since.
    - `reads`: the first key of a store or of the configuration that has changed in this way.
    - `never`: the reason why the newest result for this very call is never replayed.
    - `untracked`: objects that the code reaches and that cannot be identified. A change of them runs nothing again.
    - `state`: objects that the code writes itself. A change of them runs nothing again.
    - `varies`: one place of the input differs in each of several earlier calls, and all the rest is equal.
    - `unrepeatable`: sources of answers that differ each time. The code may ask for the clock, random numbers or ids,
      and earlier executions may have made connections or started processes. A replay returns the answer of that moment.
    """

    operation: str
    node_id: str
    decision: ReplayDecision
    nearest_node_id: str | None
    arguments: tuple[str, ...]
    code: tuple[str, ...]
    fields: tuple[str, ...]
    diffs: tuple[str, ...]
    untracked: tuple[str, ...]
    state: tuple[str, ...]
    files: tuple[str, ...] = ()
    unrepeatable: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    never: NeverReplayed | None = None
    varies: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the names of the parts that differ: the code, or the paths in the input and the ambient inputs."""
        if self.decision.reason is ReplayReason.CODE_CHANGED:
            return self.code
        if self.decision.reason is ReplayReason.READ_CHANGED:
            return self.files + self.reads
        if self.decision.reason is not ReplayReason.INPUT_CHANGED:
            return ()
        paths = tuple(field.partition(": ")[0] for field in self.fields)
        around = tuple(name for name in self.arguments if name.startswith("$"))
        return paths + around or self.arguments

    @property
    def remedy(self) -> str:
        """Return what to do so that such a call is replayed; "" where nothing can or need be done."""
        if self.never is not None:
            return self.never.remedy
        reason = self.decision.reason
        parts = self.files if reason is ReplayReason.READ_CHANGED else self.parts
        return "" if self.decision.replay else remedy_of(reason, parts, varies=self.varies)

    def __str__(self) -> str:
        verb = "would be replayed" if self.decision.replay else "would run"
        lines = [f"{self.operation} {verb}: {self.decision.reason.sentence if self.never is None else self.never.says}"]
        if self.nearest_node_id is not None:
            lines.append(f"  nearest earlier call: {self.nearest_node_id[:12]}")
        for what, names in (
            ("arguments that differ", self.arguments),
            ("code that differs", self.code),
            ("where", self.fields),
            ("files that changed", self.files),
            ("read otherwise", self.reads),
            ("not tracked", self.untracked),
            ("its own state", self.state),
            ("another each time", self.unrepeatable),
        ):
            if names:
                lines.append(f"  {what}: {', '.join(names)}")
        if self.remedy:
            lines.append(f"  what to do: {self.remedy}")
        return "\n".join(lines)


def explain(engine: EngineHost, call: Call, run: Run | None = None) -> Explanation:
    """Explain a call in a run of its own, with no samples given yet, or in `run` (see `Explanation`).

    The samples that are found count as given in `run`. Raises `InputError` as the call would, and `StoreError`.
    """
    scope = SCOPE.get()
    kind = DRY_RUNS[call.definition.semantics.step_type is StepType.EXTERNAL_EFFECT]
    question = kind(engine, call, Scope(engine, run or engine._new_run(), None, scope.parents, scope.ambient))
    question.ask()
    return explained(question, question.decision)


def explained(question: CallProtocol, decision: ReplayDecision) -> Explanation:
    """Explain a decision about a call, with the differences from earlier calls. Raises `StoreError`."""
    engine, call = question.engine, question.call
    nearest: str | None = None
    arguments: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    diffs: tuple[str, ...] = ()
    varies = False
    differs = question.part_that_differs()
    if not decision.replay:
        if decision.reason is ReplayReason.NODE_NOT_FOUND and _is_running(engine, question):
            decision = no(ReplayReason.NODE_RUNNING)
        near = _nearest(question)
        if near is not None:
            nearest, varies = near.call.node.hex(), near.varies
            arguments = changed_names(neighbour_of(question).arguments, near.call.arguments)
            parts = {part: digest for part, digest, _ in call.code.parts}
            code = changed_names(engine.storage.find(CodeOf(near.call.code)), parts)
            fields, diffs = tuple(map(str, near.fields)), _diffs(question, near.call)
            if decision.reason is ReplayReason.NODE_NOT_FOUND:
                decision = no(near.reason)
    return Explanation(
        call.definition.name,
        question.keys.node.hex(),
        decision,
        nearest,
        arguments,
        code,
        fields,
        diffs,
        (*call.fingerprint.untracked, *call.fingerprint.unseen),
        call.fingerprint.state,
        (differs,) if differs and question.differs_in_a_file else (),
        _unrepeatable(engine, call),
        () if not differs or question.differs_in_a_file else (differs,),
        None if decision.replay or question.refused is None else never_replayed(question.refused),
        varies,
    )


def _unrepeatable(engine: EngineHost, call: Call) -> tuple[str, ...]:
    """Return the unrepeatable answers that the code asks for and that its newest executions got."""
    storage: Any = engine.storage
    asked = dict.fromkeys(answer for answer in call.fingerprint.unrepeatable if answer.kind in BY_CODE)
    if callable(getattr(storage, "read", None)):
        of = {"operation": call.definition.name, "namespace": engine.namespace, "looked_at": LOOKED_AT}
        (rows,) = storage.read([("asked_by_operation", of)])
        reads = engine.contents.opened_reads([ExternalRead(kind, key, None) for kind, key in rows])
        asked |= dict.fromkeys(Unrepeatable(read.kind, read.key) for read in reads if read.kind not in BY_CODE)
    return tuple(map(str, asked))


def why_missing(
    engine: EngineHost, operation: str, nodes: Collection[bytes], before: float
) -> dict[bytes, ReplayReason]:
    """Return the reasons of calls that ran because nothing was found for them, by their nodes.

    Each call is compared with the nearest one that ran before the time `before`.
    """
    try:
        rows: Sequence[SimilarNode] = engine.storage.find(
            SimilarNodes(engine.namespace, operation, None, COMPARED + len(nodes))
        )
    except StoreError as fault:
        engine.fault_log.say(FAULT, fault)
        return {}
    return reasons(rows, nodes, before)


def _nearest(question: CallProtocol) -> Nearest | None:
    """Return the earlier call that is most like a call."""
    engine, this, operation = question.engine, neighbour_of(question), question.call.definition.name
    rows: Sequence[SimilarNode] = engine.storage.find(SimilarNodes(engine.namespace, operation, this.node, COMPARED))
    storage: Any = engine.storage
    return Earlier(row for row in rows if row.node != this.node).nearest(
        this,
        _given(question),
        lambda calls: stored_inputs(storage, engine.contents, operation, [call.input_hash for call in calls]),
    )


def _given(question: CallProtocol) -> Any:
    """Return the arguments as a reader would see them; None in a store that has no readers."""
    engine, arguments = question.engine, question.given
    if not callable(getattr(engine.storage, "read", None)):
        return None
    engine.flush()
    name, hashed = question.call.definition.name, neighbour_of(question).input_hash
    return CallInputs(0, name, hashed, arguments.packed, arguments.texts).as_stored(engine.redact)


def _diffs(question: CallProtocol, other: SimilarNode) -> tuple[str, ...]:
    storage: Any = question.engine.storage
    if question.engine.keyed is not None:  # no texts of code are kept
        return ()
    if not callable(getattr(storage, "read", None)):
        return ()
    (rows,) = storage.read([("code_of", {"fingerprint": other.code})])
    before = {part: source for part, _, source in rows}
    now = {part.name: shown_source(part) for part in question.call.fingerprint.parts}
    names = sorted(before.keys() | now.keys())
    diffs = (text_diff(name, before.get(name) or "", now.get(name) or "") for name in names)
    return tuple(filter(None, diffs))


def _is_running(engine: EngineHost, question: CallProtocol) -> bool:
    holder: LeaseOwner | None = engine.storage.find(LeaseOwnerOf(question.flight_key()))
    return holder is not None and holder.expires_at >= time.time() and not process_identity.is_dead(holder)
