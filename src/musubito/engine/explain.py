"""Explain whether a call would be replayed, why or why not, and how it differs from earlier calls.

Nothing is run or written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from musubito.code.unrepeatable import Unrepeatable, unrepeatable_in
from musubito.engine import process_identity
from musubito.engine.call import CallProtocol
from musubito.engine.call_identity import Call
from musubito.engine.code_diff import ChangedCode, PartsOfCode, changed_code
from musubito.engine.dry_run import DRY_RUNS, neighbour_of
from musubito.engine.explanation import Explanation
from musubito.engine.failure_log import FAULT
from musubito.engine.frame import Run
from musubito.engine.host import EngineHost
from musubito.engine.nearest import (
    COMPARED,
    Earlier,
    Reasons,
    changed_arguments,
    floor_of,
    nearest,
    newest_of_codes,
    of_closest_code,
)
from musubito.engine.recorded_inputs import CallInputs, InputName, input_query, stored_inputs
from musubito.engine.scope import SCOPE, Scope
from musubito.errors import StoreError
from musubito.model import ReplayDecision, ReplayReason, StepType
from musubito.policy import no
from musubito.reasons import never_replayed
from musubito.store.protocol import SupportsFindTogether
from musubito.store.queries import CodeOf, LeaseOwnerOf, SimilarNode, SimilarNodes, SimpleQuery
from musubito.store.rows import ExternalRead, LeaseOwner

LOOKED_AT: Final = 5000
"""Newest nodes among which executions of an operation are looked for."""
BY_CODE: Final = frozenset({"clock", "random", "ids", "source"})
"""Kinds of unrepeatable answers that the present code tells."""


def call_of(engine: EngineHost, step: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """Return the call `step(*args, **kwargs)`, which is not made. Raise TypeError if `step` is no step."""
    make: Callable[..., Call] | None = getattr(step, "__musubito_call__", None)
    if make is None:
        raise TypeError(f"{step!r} is not a step; decorate it with @musubito_step")
    receiver = getattr(step, "__self__", None)
    return make(engine, args if receiver is None else (receiver, *args), kwargs)


def explain(engine: EngineHost, call: Call, run: Run | None = None) -> Explanation:
    """Explain a call in a run of its own, with no samples given yet, or in `run` (see `Explanation`).

    The samples that are found count as given in `run`. Raises `InputError` as the call would, and `StoreError`.
    """
    scope = SCOPE.get()
    kind = DRY_RUNS[call.definition.semantics.step_type is StepType.EXTERNAL_EFFECT]
    question = kind(engine, call, Scope(engine, run or engine._new_run(), None, scope.parents, scope.ambient))
    question.ask()
    return explained(question, question.decision)


def explained(question: CallProtocol, decision: ReplayDecision, *, floor: float | None = None) -> Explanation:
    """Explain a decision about a call, with the differences from earlier calls. Raises `StoreError`.

    A new call is compared with one whose likeness reaches `floor`, by default with one that is much like it.
    """
    engine, call = question.engine, question.call
    nearest_id: str | None = None
    arguments: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    diffs: tuple[str, ...] = ()
    varies = False
    differs = question.part_that_differs()
    this = neighbour_of(question)
    alike: list[SimilarNode] = []
    if not decision.replay:
        queries: list[SimpleQuery] = [SimilarNodes(engine.namespace, call.definition.name, this.node, COMPARED)]
        if decision.reason is ReplayReason.NODE_NOT_FOUND:
            queries.append(LeaseOwnerOf(question.flight_key()))
        rows, *owners = _found(engine.storage, queries)
        if any(map(_is_running, owners)):
            decision = no(ReplayReason.NODE_RUNNING)
        alike = Earlier(row for row in rows if row.node != this.node).alike(this)
    stored = _stored(question, this, alike)
    is_new = decision.reason is ReplayReason.NODE_NOT_FOUND
    codes = {this.code: _parts(call.code.parts), **stored.codes}
    floor = floor_of(this) if floor is None else floor
    near = nearest(this, stored.inputs, alike, codes, floor if is_new else 0.0, {})
    if near is not None:
        is_effect = call.definition.semantics.step_type is StepType.EXTERNAL_EFFECT
        nearest_id, varies = near.call.node.hex(), near.varies and not is_effect
        arguments = changed_arguments(this, near.call)
        changed = _changed_code(call, stored.codes[near.call.code])
        code, diffs = tuple(entry.part for entry in changed), tuple(entry.diff for entry in changed if entry.diff)
        fields = tuple(map(str, near.fields))
        if is_new:
            decision = no(near.reason)
    elif alike:
        decision = no(ReplayReason.NOTHING_LIKE_IT)
    return Explanation(
        call.definition.name,
        question.keys.node.hex(),
        decision,
        nearest_id,
        arguments,
        code,
        fields,
        diffs,
        call.fingerprint.untracked,
        call.fingerprint.state,
        (differs,) if differs and question.differs_in_a_file else (),
        _unrepeatable(engine, call, stored.asked),
        () if not differs or question.differs_in_a_file else (differs,),
        None if decision.replay or question.refused is None else never_replayed(question.refused),
        varies,
    )


class _Stored(NamedTuple):
    """The stored facts of a call's operation and of the calls that it is compared with.

    - `inputs`: the input of the call itself and those of the others as a reader sees them, by their hashes.
    - `codes`: the parts of their code, each with its digest and its text.
    - `asked`: the kinds and keys of what the operation's executions asked for that is another each time.
    """

    inputs: Mapping[bytes, Any]
    codes: Mapping[bytes, PartsOfCode]
    asked: Sequence[tuple[str, str]]


def _stored(question: CallProtocol, this: SimilarNode, alike: Sequence[SimilarNode]) -> _Stored:
    engine, call = question.engine, question.call
    storage: Any = engine.storage
    operation, codes = call.definition.name, list(dict.fromkeys(other.code for other in alike))
    if not callable(getattr(storage, "read", None)):
        return _Stored({}, _parts_of_codes(storage, codes), ())
    inputs: dict[bytes, Any] = {}
    names: list[InputName] = []
    if alike and alike[0].input_hash != this.input_hash:
        engine.flush()
        arguments = question.given
        given = CallInputs(0, operation, this.input_hash, arguments.packed, arguments.texts).as_stored(engine.redact)
        inputs = {} if given is None else {this.input_hash: given}
        names = _input_names(engine, operation, {other.input_hash: None for other in alike})
    asked, *answers = storage.read(
        [
            ("asked_by_operation", {"operation": operation, "namespace": engine.namespace, "looked_at": LOOKED_AT}),
            *(("code_of", {"fingerprint": code}) for code in codes),
            *map(input_query, names),
        ]
    )
    parts_of_codes = {code: _parts(rows) for code, rows in zip(codes, answers, strict=False)}
    others = zip(names, stored_inputs(storage, names, answers[len(codes) :]), strict=True)
    inputs |= {name.input_hash: value for name, value in others if value is not None}
    return _Stored(inputs, parts_of_codes, asked)


def _input_names(engine: EngineHost, operation: str, hashes: Iterable[bytes]) -> list[InputName]:
    return [InputName(engine.contents, operation, digest) for digest in hashes]


def code_changes(engine: EngineHost, call: Call) -> tuple[str, ...]:
    """Return the parts of a step's code that differ from its most similar version; none if none ran.

    An earlier call that had the present code shows that the code is no reason to run. Raises `StoreError`.
    """
    rows = engine.storage.find(SimilarNodes(engine.namespace, call.definition.name, None, COMPARED))
    if not rows or any(row.code == call.code.fingerprint for row in rows):
        return ()
    versions = newest_of_codes(rows)
    codes = _parts_of_codes(engine.storage, [row.code for row in versions])
    closest = of_closest_code(_parts(call.code.parts), versions, codes)[0]
    return tuple(entry.part for entry in _changed_code(call, codes[closest.code]))


def _parts_of_codes(storage: Any, fingerprints: Sequence[bytes]) -> dict[bytes, PartsOfCode]:
    """Return the parts of codes, each with its digest, and its text if readers can ask the store."""
    if not callable(getattr(storage, "read", None)):
        return {
            code: {part: (digest, None) for part, digest in storage.find(CodeOf(code)).items()} for code in fingerprints
        }
    answers = storage.read([("code_of", {"fingerprint": code}) for code in fingerprints])
    return {code: _parts(rows) for code, rows in zip(fingerprints, answers, strict=True)}


def _parts(rows: Iterable[tuple[str, bytes, str | None]]) -> PartsOfCode:
    return {part: (digest, source) for part, digest, source in rows}


def _found(storage: Any, queries: Sequence[SimpleQuery]) -> list[Any]:
    if not callable(getattr(storage, "find_together", None)):
        return list(map(storage.find, queries))
    distant: SupportsFindTogether = storage
    return distant.find_together(queries)


def _unrepeatable(engine: EngineHost, call: Call, rows: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return the unrepeatable answers that the code asks for and that its newest executions got."""
    asked = dict.fromkeys(answer for answer in unrepeatable_in(call.fingerprint) if answer.kind in BY_CODE)
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
    reasons, storage = Reasons(rows, nodes, before), cast("Any", engine.storage)
    names = _input_names(engine, operation, reasons.hashes())
    if not names or not callable(getattr(storage, "read", None)):
        return reasons.by_digests
    engine.flush()
    return reasons.by_inputs(stored_inputs(storage, names, storage.read(list(map(input_query, names)))))


def _changed_code(call: Call, old: PartsOfCode) -> tuple[ChangedCode, ...]:
    has_texts = any(source is not None for _, source in old.values())
    new = {part: (digest, source if has_texts else None) for part, digest, source in call.code.parts}
    return changed_code(old, new)


def _is_running(owner: LeaseOwner | None) -> bool:
    return owner is not None and owner.expires_at >= time.time() and not process_identity.is_dead(owner)
