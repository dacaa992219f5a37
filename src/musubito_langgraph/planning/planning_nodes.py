"""Look up what each step of a graph would replay, and run nothing.

A step that would run returns nothing: it stops its graph, as an interrupt does, once all tasks beside it were looked
up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from langchain_core.runnables import Runnable, RunnableConfig, ensure_config
from langgraph.errors import GraphInterrupt

from musubito import InputError, MusubitoEngine
from musubito.adapter import DRY_RUNS, DryRun, EffectDryRun, Mode, ReplayReason, Scope, explained
from musubito.lineage.plan import REPLAY, RUN, UNKNOWN, Estimates, PlanLine, inside, line_of
from musubito_langgraph import _compat, _graph_parts
from musubito_langgraph.ambient_inputs import NodeAmbient
from musubito_langgraph.node_call import ANYWHERE, CallSite, GraphStep, NodeCall, without_identity
from musubito_langgraph.nodes import Subgraph
from musubito_langgraph.recorder.store import STORE, asks_a_model, store_behind
from musubito_langgraph.settings import Settings, invocation_of

if TYPE_CHECKING:
    from musubito_langgraph.planning.graph_planner import GraphPlanner

__all__ = ["Ground", "LookingSubgraph", "OpaqueNode", "PlanningStep", "Site", "Visit", "Ways"]


# -- where they are ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Ways:
    """The ends that a node leads to: by edges, by declared ends of a `Command`, and by routers (None: anywhere)."""

    edges: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    """The ends of edges that may have to wait for more than this node."""
    commands: list[str] = field(default_factory=list)
    routers: dict[str, list[str] | None] = field(default_factory=dict)
    """The ends of each router, by the name of its operation."""


@dataclass(slots=True)
class Ground:
    """The parts of a graph: its nodes, the steps and graphs that make up each node, and where each node leads."""

    name: str
    settings: Settings
    parts: dict[str, list[PlanningStep | OpaqueNode | Ground]] = field(default_factory=dict)
    ways: dict[str, Ways] = field(default_factory=dict)

    @property
    def nodes(self) -> list[str]:
        """Return the nodes that something can lead to."""
        return [node for node in self.ways if node != "__start__"]


class Site(NamedTuple):
    """A node of a graph."""

    ground: Ground
    node: str


@dataclass(slots=True)
class Visit:
    """One task of a graph, as far as it was looked up."""

    site: Site
    step: int
    order: tuple[Any, ...]
    ended: bool = False
    """True if the task returned all that it would return."""
    stopped: bool = False
    """True if something in the task would run."""
    output: Any = None
    asked: set[str] = field(default_factory=set)
    """The parts and the routers of the node that were looked up."""
    routed: dict[str, list[str]] = field(default_factory=dict)
    """The nodes that each router led to, for the routers whose result is known."""

    @property
    def leads(self) -> list[str]:
        """Return the nodes that may follow."""
        ways = self.site.ground.ways[self.site.node]
        nodes = [*ways.edges]
        nodes += _commanded(self.output) if self.ended else ways.commands
        for router, ends in ways.routers.items():
            if router in self.routed:
                nodes += self.routed[router]
            else:
                nodes += self.site.ground.nodes if ends is None else ends
        return list(dict.fromkeys(node for node in nodes if node in self.site.ground.nodes))


def _commanded(output: Any) -> list[str]:
    each = output if isinstance(output, list | tuple) else (output,)
    return [node for one in each if hasattr(one, "goto") for node in _graph_parts.destinations(one)]


# -- what they do ------------------------------------------------------------------------------------------------------


class PlanningStep(GraphStep):
    """The same operation, whose calls only look up what would be replayed."""

    def __init__(
        self,
        step: GraphStep,
        foresight: GraphPlanner,
        site: Site,
        *,
        router: _compat.BranchSpec | None = None,
        runnable: Any = None,
        last: bool = True,
    ) -> None:
        vars(self).update(vars(step))
        self.settings = foresight.settings(step.settings)
        self.foresight = foresight
        self.site = site
        self.router = router
        self.runnable = runnable
        self.last = last

    def attempt(
        self,
        value: Any,
        config: RunnableConfig,
        place: CallSite = ANYWHERE,
        others: Mapping[str, object] | None = None,
        given: RunnableConfig | None = None,
    ) -> NodeCall:
        """Return a call that only looks up what would be replayed."""
        return _Look(self, value, config, place, others or {}, config if given is None else given)

    @property
    def name(self) -> str:
        """Return the name of the operation."""
        return self.operation.name

    def may_call(self, estimates: Estimates, *given: Any) -> list[PlanLine]:
        """Return lines for the calls that the step may make, as far as they can be told.

        Of tools, only those are in the result that the `given` input calls.
        """
        calls = sorted(self.operation.fingerprint().steps)
        if _graph_parts.is_tool_node(self.runnable):
            called = _graph_parts.tools_called(self.runnable, *given) if given else None
            calls += [f"{self.name}.{tool}" for tool in called or _graph_parts.tools_of(self.runnable)]
        else:
            calls += estimates.called_by(self.name)
        return inside(self.name, calls, estimates)


class _Look(NodeCall):
    """One call that returns what would be replayed, or stops."""

    step: PlanningStep

    def run(self, go: Callable[[RunnableConfig], Any]) -> Any:
        """Return what would be replayed."""
        step = self.step
        visit = step.foresight.visit(self.config, step.site)
        visit.asked.add(step.operation.name)
        output = self._found(visit)
        node, reason = self._told
        step.foresight.saw(
            visit, PlanLine(step.operation.name, node, REPLAY, reason, self._estimates().of(step.operation.name))
        )
        if step.router is not None:
            ends = step.router.ends or {}
            named = output if isinstance(output, list | tuple) else [output]
            visit.routed[step.operation.name] = _graph_parts.destinations([_end(ends, each) for each in named])
        elif step.last:
            visit.ended, visit.output = True, output
        return output

    def standing(self) -> tuple[MusubitoEngine, Scope]:
        """Return the engine and the scope, as any call does."""
        engine, scope = super().standing()
        around = _Around(self.config, self.step.settings.ignore_config, self.all_given)
        self._scope = scope._replace(ambient=around)
        return engine, self._scope

    def _found(self, visit: Visit) -> Any:
        if self._invocation.mode is Mode.OFF:
            self._stop(visit, self._line(None, RUN, ReplayReason.NOT_RECORDED))
        engine, scope = self.standing()
        try:
            question = engine._protocol(self.call(engine, _nothing), self._invocation.mode, scope, DRY_RUNS)
        except InputError as error:
            self._stop(visit, self._line(None, RUN, ReplayReason.INPUT_NOT_IDENTIFIED, without_identity(error)))
        assert isinstance(question, DryRun | EffectDryRun)  # noqa: S101 - its kinds are these
        self._identify(question)
        result = question.ask()
        node = question.keys.node.hex()
        if result is None:
            explanation = explained(question, question.decision)
            if self._invocation.mode is Mode.REPLAY_ONLY:
                self._stop(visit, self._line(node, UNKNOWN, ReplayReason.REPLAY_ONLY))
            if question.problem is not None:
                self._stop(visit, self._line(node, UNKNOWN, question.problem, question.problem_with))
            self._stop(visit, line_of(explanation, RUN, self._estimates()))
        self._told = node, question.decision.reason
        return self.outcome(result)

    def _estimates(self) -> Estimates:
        return self.step.foresight.estimates(self.step.settings.engine_for(self._invocation))

    def _line(self, node: str | None, outcome: str, reason: ReplayReason, part: str = "") -> PlanLine:
        name, parts = self.step.operation.name, (part,) if part else ()
        return PlanLine(name, node, outcome, reason, self._estimates().of(name), parts=parts, remedy=reason.remedy)

    def _stop(self, visit: Visit, line: PlanLine) -> NoReturn:
        visit.stopped = True
        self.step.foresight.saw(visit, line, *self.step.may_call(self._estimates(), self._value))
        raise GraphInterrupt(())


class _Around(NodeAmbient):
    """The surroundings of a call, with reads for which no model is asked."""

    def observe(self, kind: str, key: str) -> Any:
        """Return the digest of what a read would find now."""
        store = None if self._runtime is None else self._runtime.store
        if kind == STORE and store is not None and asks_a_model(store_behind(store), key):
            raise LookupError("it searched the store by meaning, for which a model is asked")
        return super().observe(kind, key)


def _nothing() -> NoReturn:
    raise AssertionError("what only looks runs nothing")


def _end(ends: Mapping[Any, str], chosen: Any) -> Any:
    try:
        return ends.get(chosen, chosen)
    except TypeError:  # a Send whose state cannot be hashed
        return chosen


class LookingSubgraph(Subgraph):
    """A node that is a graph, and whose steps are only looked up."""

    def __init__(self, bound: Subgraph, graph: Any, ground: Ground, foresight: GraphPlanner, site: Site) -> None:
        super().__init__(graph, foresight.node(bound._node, site))
        self._ground = ground
        self._foresight = foresight
        self._site = site

    def __getattr__(self, name: str) -> Any:
        if name in ("_ground", "_foresight", "_site"):
            raise AttributeError(name)
        return super().__getattr__(name)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002 - LangChain's
        """Invoke the graph."""
        config = ensure_config() if config is None else config
        visit = self._foresight.visit(config, self._site)
        visit.asked.add(self._ground.name)
        try:
            output = super().invoke(input, config, **kwargs)
        except GraphInterrupt:
            visit.stopped = True
            raise
        except _compat.ParentCommand as left:
            visit.ended, visit.output = True, left.args[0]
            raise
        visit.ended = self._node.is_last
        return output


class OpaqueNode(Runnable[Any, Any]):
    """Stands for something that cannot be looked up."""

    def __init__(self, name: str, why: ReplayReason, foresight: GraphPlanner, site: Site, settings: Settings) -> None:
        self.name = name
        self._why = why
        self._foresight = foresight
        self._site = site
        self._settings = settings

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002 - LangChain's
        """Stop the graph."""
        config = ensure_config() if config is None else config
        visit = self._foresight.visit(config, self._site)
        visit.stopped = True
        visit.asked.add(str(self.name))
        estimates = self._foresight.estimates(self._settings.engine_for(invocation_of(config)))
        line = PlanLine(str(self.name), None, UNKNOWN, self._why, None)
        self._foresight.saw(visit, line, *self.may_call(estimates))
        raise GraphInterrupt(())

    def may_call(self, estimates: Estimates) -> list[PlanLine]:
        """Return lines for the calls that were recorded inside it earlier.

        Their estimates are all that is known of what it would take.
        """
        lines = inside(str(self.name), estimates.under(f"{self.name}/"), estimates)
        return [replace(line, within=None) for line in lines]
