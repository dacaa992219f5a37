"""Plan what a call would replay and what it would run, and what running it would take.

Nothing is run and nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from musubito.engine.engine import MusubitoEngine
from musubito.engine.explain import call_of, explain
from musubito.engine.explanation import Explanation
from musubito.engine.frame import ANY, Run
from musubito.engine.scope import SCOPE
from musubito.lineage.reports import Cost, Tokens
from musubito.model import ReplayReason, StepType
from musubito.store.protocol import NamedQuery, Row

REPLAY: Final = "would replay"
RUN: Final = "would run"
UNKNOWN: Final = "unknown"
OTHER: Final = ReplayReason.OTHER
LOOKED_AT: Final = 20
"""Newest executions of an operation from which an estimate is made."""


@dataclass(frozen=True, slots=True)
class PlanLine:
    """One call that would be made.

    `outcome` is "would replay", "would run" or "unknown". `node_id` is None if the input of the call is not known.
    `estimate` is the cost of running it, None if it never ran. `within` names the operation inside which it may be
    called, None at the top. The estimate of that operation includes this one. `parts` are the paths, files or names
    that the reason names, such as those that differ from the nearest earlier call. `remedy` says what to do about them.
    """

    operation: str
    node_id: str | None
    outcome: str
    reason: ReplayReason
    estimate: Cost | None
    within: str | None = None
    parts: tuple[str, ...] = ()
    remedy: str = ""
    code: tuple[str, ...] = ()

    def __str__(self) -> str:
        remedy = f"\n    {self.remedy}" if self.remedy else ""
        return f"{'    ' if self.within else ''}{self.operation} {self.outcome}: {self.says}{remedy}"

    @property
    def says(self) -> str:
        """Return the reason as a sentence, with the parts that it names, and what else is known to differ."""
        reason = self.reason.of(", ".join(self.parts))
        return f"{ReplayReason.CODE_CHANGED.of(', '.join(self.code))}; {reason}" if self.code else reason


@dataclass(frozen=True, slots=True)
class Plan:
    """The calls in the order in which they would be made, the unknown ones at the end.

    `estimate` is the cost of those that would run, as far as they ever ran; for parallel work, the sum. `unknown` says
    in words what the plan cannot tell.
    """

    lines: tuple[PlanLine, ...]
    estimate: Cost
    unknown: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.lines))

    @property
    def perhaps(self) -> Cost:
        """Return the additional cost if each of the unknown calls at the top ran once."""
        return _sum(line for line in self.lines if line.outcome == UNKNOWN and line.within is None)


class Estimates:
    """The usual costs of operations: the medians of their newest executions that succeeded."""

    def __init__(self, engine: MusubitoEngine) -> None:
        read: Any = getattr(engine.storage, "read", None)
        # A `Lineage` would first write the buffered history, and not every store can be asked by readers.
        self._read: Callable[[Sequence[NamedQuery]], list[list[Row]]] | None = read if callable(read) else None
        self._namespace = engine.namespace
        self._newest: dict[str, list[Row]] = {}

    def learn(self, operations: Iterable[str]) -> None:
        """Read the costs of several operations together."""
        of = {"namespace": self._namespace, "limit": LOOKED_AT}
        new = [name for name in dict.fromkeys(operations) if name not in self._newest]
        if new and self._read is not None:
            rows = self._read([("newest_successes", {**of, "operation": name}) for name in new])
            self._newest.update(zip(new, rows, strict=True))

    def of(self, operation: str) -> Cost | None:
        """Return the usual cost of an operation with all calls inside, or None if it never succeeded."""
        return self._cost(operation, slice(3, 5))

    def without_calls(self, operation: str) -> Cost | None:
        """Return the same with the tokens of the operation itself, without those of calls inside."""
        return self._cost(operation, slice(5, 7))

    def _cost(self, operation: str, tokens_in_row: slice) -> Cost | None:
        rows = self._newest_successes(operation)
        durations = {execution: milliseconds for execution, milliseconds, *_ in rows}
        if not durations:
            return None
        tokens = {}
        for model in dict.fromkeys(row[2] for row in rows if row[2] is not None):
            used = [row[tokens_in_row] for row in rows if row[2] == model]
            # Executions that did not ask this model used none of its tokens.
            used += [(0, 0)] * (len(durations) - len(used))
            tokens[model] = Tokens(round(median(pair[0] for pair in used)), round(median(pair[1] for pair in used)))
        return Cost(median(durations.values()), {model: used for model, used in tokens.items() if used.total})

    def called_by(self, operation: str) -> list[str]:
        """Return the operations that the newest successful execution of an operation called."""
        rows = self._newest_successes(operation)
        if not rows:
            return []
        return [name for (name,) in self._rows("operations_called", execution=rows[0][0])]

    def under(self, prefix: str) -> list[str]:
        """Return the recorded operations whose names begin with a prefix."""
        return [name for (name,) in self._rows("operations_under", namespace=self._namespace, prefix=prefix)]

    def _newest_successes(self, operation: str) -> list[Row]:
        self.learn([operation])
        return self._newest.get(operation, [])

    def _rows(self, query: str, **parameters: Any) -> list[Row]:
        return [] if self._read is None else self._read([(query, parameters)])[0]


def plan(engine: MusubitoEngine, step: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Plan:
    """Return what `step(*args, **kwargs)` would replay and what it would run, in the current run.

    Steps that its code reaches are listed inside it: only running it shows whether they are called. Raises TypeError if
    `step` is no step, `InputError` as the call would, and `StoreError`.
    """
    call = call_of(engine, step, args, kwargs)
    estimates = Estimates(engine)
    name = call.definition.name
    explanation = explain(engine, call, _copy_of_current_run(engine))
    outcome = outcome_of(explanation, StepType(call.definition.semantics.step_type))
    lines = [line_of(explanation, outcome, estimates)]
    if outcome != REPLAY:
        lines += inside(name, (*sorted(call.fingerprint.steps), *estimates.called_by(name)), estimates)
    return planned(lines, ())


def _copy_of_current_run(engine: MusubitoEngine) -> Run:
    """Return a run that has given the samples that the current run has given.

    So the plan does not give these samples again.
    """
    run, scope = engine._new_run(), SCOPE.get()
    if scope.engine is engine and scope.run is not None and scope.run.gives_samples:
        run.samples = scope.run.samples.copy()
    return run


def outcome_of(explanation: Explanation, step_type: StepType) -> str:
    """Return what would happen to a call that was explained."""
    if explanation.decision.replay:
        return REPLAY
    uncertain = [ReplayReason.NODE_RUNNING]
    if step_type is StepType.EXTERNAL_EFFECT:
        uncertain += [ReplayReason.OUTCOME_UNKNOWN, ReplayReason.RELEASED_BY_ANSWER]
    return UNKNOWN if explanation.decision.reason in uncertain else RUN


def line_of(explanation: Explanation, outcome: str, estimates: Estimates) -> PlanLine:
    """Return the line of a call that was explained."""
    never, reason, parts = explanation.never, explanation.decision.reason, explanation.parts
    if never is not None:
        reason, parts = never.reason, (never.part or never.says,) if never.part or never.reason is OTHER else ()
    name, remedy = explanation.operation, explanation.remedy
    return PlanLine(name, explanation.node_id, outcome, reason, estimates.of(name), parts=parts, remedy=remedy)


def inside(operation: str, called: Iterable[str], estimates: Estimates) -> list[PlanLine]:
    """Return lines for the operations that an operation may call if it runs."""
    reason = ReplayReason.CALLED_PERHAPS
    names = dict.fromkeys(name for name in called if name != operation and not name.endswith(f"/{ANY}"))
    estimates.learn(names)
    return [PlanLine(name, None, UNKNOWN, reason, estimates.of(name), operation, (operation,)) for name in names]


def never_ran(operation: str) -> str:
    """Return the words for an operation that an estimate leaves out."""
    return f"what {operation} takes: it never ran to its end"


def planned(lines: Sequence[PlanLine], unknown: Sequence[str]) -> Plan:
    """Return the plan with these lines, their sum, and the operations that the sum leaves out."""
    never = dict.fromkeys(line.operation for line in lines if line.outcome == RUN and line.estimate is None)
    more = [never_ran(operation) for operation in never]
    return Plan(tuple(lines), _sum(line for line in lines if line.outcome == RUN), (*unknown, *more))


def _sum(lines: Iterable[PlanLine]) -> Cost:
    return sum((line.estimate for line in lines if line.estimate is not None), Cost())
