"""Plan a plain program: look up each call of an earlier run with the code, the files and the environment of now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from musubito.engine.call_identity import Call
from musubito.engine.dry_run import DRY_RUNS
from musubito.engine.engine import MusubitoEngine
from musubito.engine.explain import code_changes, explained
from musubito.engine.frame import Run
from musubito.engine.scope import Scope
from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.readers.calls_of_run import by_outer_call
from musubito.lineage.readers.input_search import holds_output
from musubito.lineage.readers.plan import (
    OTHER,
    REPLAY,
    RUN,
    UNKNOWN,
    Estimates,
    Plan,
    PlanLine,
    inside,
    line_of,
    outcome_of,
    planned,
)
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.reports import CallReport, NodeReport, RunReport
from musubito.model import MusubitoResult, ReplayReason, StepType
from musubito.values.call_keys import Parent

Step = Callable[[MusubitoEngine], Call]
"""Makes a call of a step with its present code, whose arguments are not known."""
NO_STEP: Final = "the program defines no step of this name; a graph is planned by its own name"
REMOVED: Final = "its result was removed"


@reports_damage
def plan_of_run(lineage: Lineage, report: RunReport, steps: Mapping[str, Step]) -> Plan:
    """Return what the calls of a run would replay and run, if the program made them again.

    `steps` are the program's, by their names. What follows from a call that would run is unknown: a call that consumed
    its result, or whose input holds its output. Nothing runs, and nothing is written.
    """
    calls = by_outer_call(report.calls)[None]
    return planned(list(_RunPlan(lineage, calls, steps).lines()), ())


class _RunPlan:
    """The calls of a run, as they would be made again."""

    def __init__(self, lineage: Lineage, calls: list[CallReport], steps: Mapping[str, Step]) -> None:
        self._lineage = lineage
        self._calls = calls
        self._steps = steps
        self._numbers = lineage.numbers(call.node_id for call in calls)
        self._nodes = dict(zip(self._numbers, lineage.nodes(self._numbers.values()), strict=True))
        edges = lineage.about("data_edges", self._numbers.values())
        above = sorted({parent for _, parent, _ in edges})
        ids = dict(zip(above, (node.node_id for node in lineage.nodes(above)), strict=True))
        self._consumed: defaultdict[int, list[Parent]] = defaultdict(list)
        for child, parent, artifact in edges:
            self._consumed[child].append(Parent(bytes.fromhex(ids[parent]), binary(artifact)))
        self._found: dict[str, MusubitoResult[object]] = {}
        self._changed: dict[str, NodeReport] = {}
        """The nodes whose outputs may differ from those of the run."""
        self._runs: dict[str, Run] = {}
        self._estimates: dict[str, Estimates] = {}

    def lines(self) -> Iterator[PlanLine]:
        made: dict[str, PlanLine] = {}
        for call in self._calls:
            before = made.get(call.node_id)
            if before is not None and before.outcome == RUN:
                # The same call once more in the run: it is replayed with what the first one has stored.
                yield replace(before, outcome=REPLAY, reason=ReplayReason.EXACT_HIT, parts=(), remedy="")
                continue
            engine = self._lineage.engine.in_namespace(call.namespace)
            estimates = self._estimates.setdefault(call.namespace, Estimates(engine))
            line, *more = self._lines_of(call, engine, estimates)
            made[call.node_id] = line
            yield from (line, *more)

    def _lines_of(self, call: CallReport, engine: MusubitoEngine, estimates: Estimates) -> list[PlanLine]:
        name, node, step = call.operation, self._nodes.get(call.node_id), self._steps.get(call.operation)
        if node is None or step is None:
            if node is not None:
                self._changed[node.node_id] = node
            why = REMOVED if node is None else NO_STEP
            return [PlanLine(name, call.node_id, UNKNOWN, OTHER, estimates.of(name), parts=(why,))]
        again = step(engine)
        awaited = self._awaited(node)
        if awaited:
            self._changed[node.node_id] = node
            reason, code = ReplayReason.DEPENDS_ON_RESULT, code_changes(engine, again)
            return [PlanLine(name, None, UNKNOWN, reason, estimates.of(name), parts=awaited, code=code)]
        run = self._runs.setdefault(call.namespace, engine._new_run())
        step_type = StepType(again.definition.semantics.step_type)
        question = DRY_RUNS[step_type is StepType.EXTERNAL_EFFECT](engine, again, Scope(engine, run))
        consumed = self._consumed[self._numbers[node.node_id]]
        question.stand_for(bytes.fromhex(node.input_hash), sorted(map(self._now, consumed)))
        result = question.ask()
        explanation = explained(question, question.decision)
        outcome = outcome_of(explanation, step_type)
        artifact = None if node.execution is None else node.execution.artifact_id
        if result is not None:
            self._found[node.node_id] = result
        if result is None or result.artifact_id != artifact:
            self._changed[node.node_id] = node
        lines = [line_of(explanation, outcome, estimates)]
        if outcome != REPLAY:
            lines += inside(name, (*sorted(again.fingerprint.steps), *estimates.called_by(name)), estimates)
        return lines

    def _now(self, parent: Parent) -> Parent:
        """Return a parent as the child would see it now: the same output may be found at another node."""
        found = self._found.get(parent.node.hex())
        return parent if found is None else parent._replace(node=bytes.fromhex(found.node_id))

    def _awaited(self, node: NodeReport) -> tuple[str, ...]:
        """Return the names of the steps upstream whose outputs may differ from those of the run."""
        changed = dict(self._changed)
        changed.pop(node.node_id, None)
        if not changed:
            return ()
        parents = {parent.node.hex() for parent in self._consumed[self._numbers[node.node_id]]}
        (given,) = self._lineage.inputs([(node.namespace, node.operation, bytes.fromhex(node.input_hash))])
        outputs = zip(changed.values(), self._lineage.outputs(list(changed.values())), strict=True)
        return tuple(
            dict.fromkeys(
                above.operation for above, output in outputs if above.node_id in parents or holds_output(given, output)
            )
        )
