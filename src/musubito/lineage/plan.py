"""What a call would replay and what it would run, and what that would take. Nothing is run and nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Any, Final

from musubito.engine.context import ANY, SCOPE, Run
from musubito.engine.engine import MusubitoEngine
from musubito.engine.explain import Explanation, explain
from musubito.engine.protocol import Call
from musubito.lineage.records import Cost, Tokens
from musubito.model import ReplayReason, StepType

__all__ = [
    "REPLAY",
    "RUN",
    "UNKNOWN",
    "Estimates",
    "Plan",
    "PlanLine",
    "inside",
    "never_ran",
    "plan",
    "planned",
    "said",
]

REPLAY: Final = "would replay"
RUN: Final = "would run"
UNKNOWN: Final = "unknown"
LOOKED_AT: Final = 20
"""How many of an operation's newest executions an estimate is made of."""


@dataclass(frozen=True, slots=True)
class PlanLine:
    """One call that would be made.

    `outcome` is "would replay", "would run" or "unknown"; `node_id` is None where it is not known on what it would be
    called. `estimate` is what running it takes, None if it never ran. `within` names the operation inside of which it
    may be called, whose own estimate has that of this one in it; None at the top. `parts` are the paths, files or names
    that differ from the nearest earlier call, and `remedy` says what to do about them.
    """

    operation: str
    node_id: str | None
    outcome: str
    reason: str
    estimate: Cost | None
    within: str | None = None
    parts: tuple[str, ...] = ()
    remedy: str = ""

    def __str__(self) -> str:
        parts = f": {', '.join(self.parts)}" if self.parts else ""
        remedy = f"\n    {self.remedy}" if self.remedy else ""
        return f"{'    ' if self.within else ''}{self.operation} {self.outcome}: {self.reason}{parts}{remedy}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The calls in the order in which they would be made, what is unknown at the end.

    `estimate` is what those take that would run, as far as they ever ran; of parallel work, the sum. `unknown` says in
    words what the plan cannot tell.
    """

    lines: tuple[PlanLine, ...]
    estimate: Cost
    unknown: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.lines))

    @property
    def perhaps(self) -> Cost:
        """What those would take besides that are unknown, if each of them ran once."""
        return _sum(line for line in self.lines if line.outcome == UNKNOWN and line.within is None)


class Estimates:
    """What operations took when they ran: the medians of their newest executions that succeeded."""

    def __init__(self, engine: MusubitoEngine) -> None:
        read: Any = getattr(engine.storage, "read", None)
        # Not by way of `Lineage`, which first writes what the ledger has buffered. Not every store is for readers.
        self._read: Callable[[Sequence[Any]], list[list[tuple[Any, ...]]]] | None = read if callable(read) else None
        self._namespace = engine.namespace
        self._newest = cache(self._newest_successes)

    def of(self, operation: str) -> Cost | None:
        """None if it never succeeded."""
        rows = self._newest(operation)
        durations = {execution: milliseconds for execution, milliseconds, *_ in rows}
        if not durations:
            return None
        tokens = {}
        for model in dict.fromkeys(row[2] for row in rows if row[2] is not None):
            used = [row[3:] for row in rows if row[2] == model]
            # Those that did not ask this model used none of its tokens.
            used += [(0, 0)] * (len(durations) - len(used))
            tokens[model] = Tokens(round(median(each[0] for each in used)), round(median(each[1] for each in used)))
        return Cost(median(durations.values()), {model: each for model, each in tokens.items() if each.total})

    def called_by(self, operation: str) -> list[str]:
        """The operations that its newest execution called."""
        rows = self._newest(operation)
        if not rows:
            return []
        return [name for (name,) in self._rows("operations_called", execution=rows[0][0])]

    def under(self, prefix: str) -> list[str]:
        """The operations that are recorded and whose names begin so."""
        return [name for (name,) in self._rows("operations_under", namespace=self._namespace, prefix=prefix)]

    def _newest_successes(self, operation: str) -> list[tuple[Any, ...]]:
        return self._rows("newest_successes", namespace=self._namespace, operation=operation, limit=LOOKED_AT)

    def _rows(self, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
        return [] if self._read is None else self._read([(query, parameters)])[0]


def plan(engine: MusubitoEngine, step: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Plan:
    """What `step(*args, **kwargs)` would do, in the run that is around. Steps that its code reaches are listed inside
    it: whether they are called is seen only when it runs.

    Raises TypeError if it is no step, `InputError` as the call would, and `StoreError`.
    """
    make: Callable[..., Call] | None = getattr(step, "__musubito_call__", None)
    if make is None:
        raise TypeError(f"{step!r} is not a step; decorate it with @musubito_step")
    receiver = getattr(step, "__self__", None)
    call = make(engine, args if receiver is None else (receiver, *args), kwargs)
    estimates = Estimates(engine)
    name = call.definition.name
    explanation = explain(engine, call, _like_the_run_around(engine))
    outcome, reason = _outcome(explanation, call.definition.semantics.step_type)
    cost, parts = estimates.of(name), explanation.parts
    lines = [PlanLine(name, explanation.node_id, outcome, reason, cost, parts=parts, remedy=explanation.remedy)]
    unknown: list[str] = []
    if outcome != REPLAY:
        lines += inside(name, (*sorted(call.fingerprint.steps), *estimates.called_by(name)), estimates)
        other = _recorded_as_script(call, estimates) if lines[0].estimate is None else None
        if other is not None:
            unknown.append(f"{name} never ran, but {other} did: as a script its names begin otherwise")
    return planned(lines, unknown)


def _like_the_run_around(engine: MusubitoEngine) -> Run:
    """One that has given the samples that the run around has given: it does not give these again."""
    run, scope = engine.new_run(), SCOPE.get()
    if scope.engine is engine and scope.run is not None and scope.run.gives_samples:
        run.samples = scope.run.samples.copy()
    return run


def _outcome(explanation: Explanation, step_type: StepType) -> tuple[str, str]:
    replay, reason = explanation.decision.replay, explanation.decision.reason
    if replay:
        return REPLAY, said(explanation)
    if reason is ReplayReason.NODE_RUNNING:
        return UNKNOWN, "it is running now"
    if step_type is StepType.EXTERNAL_EFFECT and reason is ReplayReason.NOT_REPLAYABLE:
        return UNKNOWN, "it has to be found out first whether it took place, or somebody has to agree again"
    return RUN, said(explanation)


def _recorded_as_script(call: Call, estimates: Estimates) -> str | None:
    """What the step is called in the lineage if its module was run as a script."""
    function = call.definition.function
    other = f"__main__.{getattr(function, '__qualname__', '')}"
    return other if estimates.under(other) == [other] and other != call.definition.name else None


def said(explanation: Explanation) -> str:
    """Why, in words."""
    reason = explanation.decision.reason
    if explanation.never is not None:
        return explanation.never.says
    if reason is not ReplayReason.NODE_NOT_FOUND:
        return str(reason.value)
    return "first of its operation" if explanation.nearest_node_id is None else "another sample"


def inside(operation: str, called: Iterable[str], estimates: Estimates) -> list[PlanLine]:
    """Lines for what an operation that would run may call."""
    reason = f"{operation} calls it, or does not"
    names = dict.fromkeys(name for name in called if name != operation and not name.endswith(f"/{ANY}"))
    return [PlanLine(name, None, UNKNOWN, reason, estimates.of(name), operation) for name in names]


def never_ran(operation: str) -> str:
    """Why an estimate leaves an operation out, in words."""
    return f"what {operation} takes: it never ran to its end"


def planned(lines: Sequence[PlanLine], unknown: Sequence[str]) -> Plan:
    """The plan of these lines."""
    never = dict.fromkeys(line.operation for line in lines if line.outcome == RUN and line.estimate is None)
    more = [never_ran(operation) for operation in never]
    return Plan(tuple(lines), _sum(line for line in lines if line.outcome == RUN), (*unknown, *more))


def _sum(lines: Iterable[PlanLine]) -> Cost:
    return sum((line.estimate for line in lines if line.estimate is not None), Cost())
