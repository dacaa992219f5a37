"""Look up what each step of a graph would replay, and run nothing.

A step that would run returns nothing: it stops its graph, as an interrupt does, once all tasks beside it were looked
up.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn

from langchain_core.runnables import Runnable, RunnableConfig, ensure_config
from langgraph.errors import GraphInterrupt

from musubito import InputError, MusubitoEngine
from musubito.adapter import DRY_RUNS, DryRun, EffectDryRun, Fingerprint, Mode, ReplayReason, code_changes, explained
from musubito.errors import CodeError
from musubito.lineage.readers.plan import REPLAY, RUN, UNKNOWN, Estimates, PlanLine, inside, line_of
from musubito_langgraph import _compat, _graph_parts
from musubito_langgraph.graph_step import GraphStep
from musubito_langgraph.node_call import NodeCall, without_identity
from musubito_langgraph.planning.record import GraphOutline, Site, TaskVisit
from musubito_langgraph.settings import invocation_of
from musubito_langgraph.stand_in import StandIn


class StepLookup:
    """A step of a plan: each of its calls returns what would be replayed, or stops its graph."""

    def __init__(
        self,
        step: GraphStep,
        site: Site,
        *,
        router: _compat.BranchSpec | None = None,
        tools: Any = None,
        is_last: bool = True,
    ) -> None:
        """Plan a step.

        - `router`: the conditional edge that the step decides.
        - `tools`: the tool node that the step runs.
        - `is_last`: the output of the step is the output of its node.
        """
        self.name = step.operation.name
        self.step: GraphStep = _graph_parts.copied(step)
        """A step whose calls are looked up."""
        self.step.settings = site.settings(step.settings)
        self.step.look_up = self
        self._site = site
        self._router = router
        self._tools = tools
        self._is_last = is_last
        if router is None:
            site.add(self)

    def __call__(self, call: NodeCall) -> Any:
        """Return what would be replayed."""
        visit = self._site.visit(call.config)
        visit.asked.add(self.name)
        question = self._question(call, visit)
        result = question.ask()
        node = question.keys.node.hex()
        if result is None:
            explanation = explained(question, question.decision)
            if call.invocation.mode is Mode.REPLAY_ONLY:
                self._stop(call, visit, self._line(call, node, UNKNOWN, ReplayReason.REPLAY_ONLY))
            if question.problem is not None:
                self._stop(call, visit, self._line(call, node, UNKNOWN, question.problem, question.problem_with))
            self._stop(call, visit, line_of(explanation, RUN, self._estimates(call)))
        output = call.outcome(result)
        reason = question.decision.reason
        self._site.record.note(visit, PlanLine(self.name, node, REPLAY, reason, self._estimates(call).of(self.name)))
        if self._router is not None:
            visit.routed[self.name] = _ends(self._router, output)
        elif self._is_last:
            visit.ended, visit.output = True, output
        return output

    def _question(self, call: NodeCall, visit: TaskVisit) -> DryRun | EffectDryRun:
        if call.invocation.mode is Mode.OFF:
            self._stop(call, visit, self._line(call, None, RUN, ReplayReason.NOT_RECORDED))
        try:
            question = call.protocol(_nothing, DRY_RUNS)
        except (InputError, CodeError) as error:
            part = without_identity(error)
            self._stop(call, visit, self._line(call, None, RUN, ReplayReason.INPUT_NOT_IDENTIFIED, part))
        assert isinstance(question, DryRun | EffectDryRun)  # noqa: S101 - its kinds are these
        return question

    def _estimates(self, call: NodeCall) -> Estimates:
        return self._site.record.estimates(self.step.settings.engine_for(call.invocation))

    def _line(self, call: NodeCall, node: str | None, outcome: str, reason: ReplayReason, part: str = "") -> PlanLine:
        estimate, parts = self._estimates(call).of(self.name), (part,) if part else ()
        return PlanLine(self.name, node, outcome, reason, estimate, parts=parts, remedy=reason.remedy)

    def _stop(self, call: NodeCall, visit: TaskVisit, line: PlanLine) -> NoReturn:
        visit.stopped = True
        self._site.record.note(visit, line, *self.may_call(self._estimates(call), call.value))
        raise GraphInterrupt(())

    def may_call(self, estimates: Estimates, *inputs: Any) -> list[PlanLine]:
        """Return lines for the calls that the step may make, as far as they can be told.

        Of tools, only those are in the result that one of the `inputs` calls.
        """
        code = self._code()
        calls = [] if code is None else sorted(code.steps)
        if self._tools is None:
            calls += estimates.called_by(self.name)
        else:
            called = _graph_parts.tools_called(self._tools, *inputs) if inputs else None
            calls += [f"{self.name}.{tool}" for tool in called or self._tools.tools_by_name]
        return inside(self.name, calls, estimates)

    def code_changes(self, engine: MusubitoEngine) -> tuple[str, ...]:
        """Return the parts of the step's code that differ from its newest call, whatever its input."""
        code = self._code()
        return () if code is None else code_changes(engine, self.step.operation.call(engine, code, {}, _nothing))

    def may_go_anywhere(self) -> bool:
        """Tell whether the code of the step makes a `Command` that leads to another node."""
        code = self._code()
        sources = () if code is None else (part.source or "" for part in code.parts)
        return any("Command" in source and "goto" in source for source in sources)

    def _code(self) -> Fingerprint | None:
        """Return the fingerprint of the step's code, None if the code has no identity."""
        with suppress(CodeError):
            return self.step.operation.fingerprint()
        return None


def _nothing() -> NoReturn:
    raise AssertionError("what only looks runs nothing")


def _ends(router: _compat.BranchSpec, output: Any) -> list[str]:
    """Return the nodes that the output of a router leads to."""
    ends = router.ends or {}
    chosen = output if isinstance(output, list | tuple) else [output]
    return _graph_parts.destinations([_end(ends, value) for value in chosen])


def _end(ends: Mapping[Any, str], chosen: Any) -> Any:
    try:
        return ends.get(chosen, chosen)
    except TypeError:  # a Send whose state cannot be hashed
        return chosen


class PlannedGraph(StandIn):
    """A graph that is a node, and whose steps are looked up."""

    musubito_behind: Any
    musubito_site: Site
    musubito_outline: GraphOutline
    musubito_is_last: bool

    def invoke(self, input: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        """Invoke the graph."""
        visit = self.musubito_site.visit(config)
        visit.asked.add(self.musubito_outline.name)
        try:
            output = self.musubito_behind.invoke(input, config, **kwargs)
        except GraphInterrupt:
            visit.stopped = True
            raise
        except _compat.ParentCommand as left:
            visit.ended, visit.output = True, left.args[0]
            raise
        visit.ended = self.musubito_is_last
        return output


class FollowedRouter(Runnable[Any, Any]):
    """A router that is no step: it decides on what would be replayed."""

    name: str

    def __init__(self, branch: _compat.BranchSpec, site: Site) -> None:
        self.name = branch.path.get_name()
        self._branch = branch
        self._site = site

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Decide, and note the nodes that follow."""
        config = ensure_config(config)
        output = self._branch.path.invoke(input, config, **kwargs)
        self._site.visit(config).routed[self.name] = _ends(self._branch, output)
        return output


class OpaqueNode(Runnable[Any, Any]):
    """Stands for something that cannot be looked up."""

    name: str

    def __init__(self, name: str, why: ReplayReason, site: Site) -> None:
        self.name = name
        self._why = why
        self._site = site
        site.add(self)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Stop the graph."""
        config = ensure_config() if config is None else config
        visit = self._site.visit(config)
        visit.stopped = True
        visit.asked.add(self.name)
        estimates = self._site.record.estimates(self._site.outline.settings.engine_for(invocation_of(config)))
        line = PlanLine(self.name, None, UNKNOWN, self._why, None)
        self._site.record.note(visit, line, *self.may_call(estimates))
        raise GraphInterrupt(())

    def may_call(self, estimates: Estimates) -> list[PlanLine]:
        """Return lines for the calls that were recorded inside it earlier.

        Their estimates are all that is known of what it would take.
        """
        lines = inside(self.name, estimates.under(f"{self.name}/"), estimates)
        return [replace(line, within=None) for line in lines]
