"""Hold what a plan knows: the outline of each graph, the tasks that were looked up, and the lines of the plan."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from musubito import MusubitoEngine
from musubito.adapter import ReadOnlyEngine, current_engine
from musubito.lineage.readers.plan import Estimates, PlanLine
from musubito_langgraph import _graph_parts, _task_config
from musubito_langgraph.planning.checkpoint_overlay import OverlaySaver
from musubito_langgraph.settings import Settings

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver


class PlannedPart(Protocol):
    """A step of a node, or something in its place that cannot be looked up."""

    name: str

    def may_call(self, estimates: Estimates) -> list[PlanLine]:
        """Return lines for the calls that the step may make, as far as they can be told."""


@dataclass(slots=True)
class Successors:
    """The nodes that a node leads to: by edges, by declared ends of a `Command`, and by routers."""

    edges: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    """The ends of edges that may have to wait for more than this node."""
    commands: list[str] = field(default_factory=list)
    routers: dict[str, list[str] | None] = field(default_factory=dict)
    """The ends of each router, by the name of its step; None if the router may lead to any node."""
    looks: dict[str, list[str] | None] = field(default_factory=dict)
    """The same of each router that is no step, by its name."""


@dataclass(slots=True)
class GraphOutline:
    """The steps and graphs that each node of a graph consists of, and the nodes that it leads to."""

    name: str
    parts: dict[str, list[PlannedPart | GraphOutline]]
    successors: dict[str, Successors]
    settings: Settings = field(default_factory=Settings)

    @property
    def nodes(self) -> list[str]:
        """Return the nodes that something can lead to."""
        return [node for node in self.successors if node != "__start__"]


@dataclass(slots=True)
class TaskVisit:
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
        nodes, successors = self.site.outline.nodes, self.site.successors
        ends = [*successors.edges]
        commanded = _graph_parts.destinations(_graph_parts.commands_in(self.output))
        ends += commanded if self.ended else successors.commands
        for router, declared in (*successors.routers.items(), *successors.looks.items()):
            ends += self.routed.get(router, nodes if declared is None else declared)
        return list(dict.fromkeys(node for node in ends if node in nodes))


class PlanRecord:
    """The record of an invocation of a graph that was only looked up."""

    def __init__(self) -> None:
        self.visits: defaultdict[str, list[TaskVisit]] = defaultdict(list)
        """The tasks that were looked up, for each invocation of a graph."""
        self.pending: dict[str, list[str]] = {}
        """For each invocation: the channels and nodes that earlier tasks of its first superstep have written to
        already."""
        self._lines: list[tuple[tuple[Any, ...], int, PlanLine]] = []
        self._tasks: dict[tuple[str, str], TaskVisit] = {}
        self._orders: dict[str, tuple[Any, ...]] = {}
        self._read_only = cache(ReadOnlyEngine)
        self._estimates = cache(Estimates)
        self._savers: dict[int, OverlaySaver] = {}
        self._lock = threading.Lock()

    def lines(self) -> list[PlanLine]:
        """Return the calls that were looked up, in the order in which they would be made."""
        return [line for _, _, line in sorted(self._lines, key=lambda entry: entry[:2])]

    def note(self, visit: TaskVisit, *lines: PlanLine) -> None:
        """Note what a step of this task would do."""
        with self._lock:
            self._lines += [(visit.order, len(self._lines) + number, line) for number, line in enumerate(lines)]

    def estimates(self, engine: MusubitoEngine) -> Estimates:
        """Return the estimates that come from the records of an engine."""
        return self._estimates(engine.behind if isinstance(engine, ReadOnlyEngine) else engine)

    def visit(self, config: RunnableConfig, site: Site) -> TaskVisit:
        """Return the task that runs with this config."""
        place, step = _task_config.checkpoint_ns_in(config), _task_config.step_in(config)
        task = place, str(_task_config.task_in(config))
        around = place.rpartition("|")[0]
        with self._lock:
            if task not in self._tasks:
                before = self._orders.get(_unnumbered(around), ())
                at: tuple[Any, ...] = _task_config.place_of_task(config)
                order = (*before, (step, *(f"{part:08}" if isinstance(part, int) else str(part) for part in at)))
                self._tasks[task] = TaskVisit(site, step, order)
                self._orders[place] = order
                self.visits[around].append(self._tasks[task])
            return self._tasks[task]

    def overlay(self, saver: BaseCheckpointSaver[Any]) -> OverlaySaver:
        """Return the saver that stands for this one in the plan."""
        return self._savers.setdefault(id(saver), OverlaySaver(saver, self.pending))

    def reading(self, settings: Settings) -> Settings:
        """Return the same settings with an engine that only reads."""
        engine = settings.engine or current_engine()
        return settings if isinstance(engine, ReadOnlyEngine) else replace(settings, engine=self._read_only(engine))


class Site(NamedTuple):
    """A node of a graph that is planned."""

    record: PlanRecord
    outline: GraphOutline
    node: str

    @property
    def name(self) -> str:
        """Return the name of the node with the name of its graph."""
        return f"{self.outline.name}/{self.node}"

    @property
    def successors(self) -> Successors:
        """Return the nodes that the node leads to."""
        return self.outline.successors[self.node]

    def add(self, part: PlannedPart | GraphOutline) -> None:
        """Add a part to the node."""
        self.outline.parts[self.node].append(part)

    def settings(self, settings: Settings) -> Settings:
        """Return the settings of a part of the node, with an engine that only reads."""
        self.outline.settings = self.record.reading(settings)
        return self.outline.settings

    def visit(self, config: RunnableConfig) -> TaskVisit:
        """Return the task of this node that runs with this config."""
        return self.record.visit(config, self)


def _unnumbered(place: str) -> str:
    """Return the place without the numbers that distinguish the graphs which one task runs."""
    head, _, last = place.rpartition("|")
    return _unnumbered(head) if last.isdigit() else place
