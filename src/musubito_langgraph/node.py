"""Describe a node of a wrapped graph: its names, its settings, and the place of its tasks in the lineage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from musubito import MusubitoEngine, StepConfiguration
from musubito.adapter import Run, Scope
from musubito_langgraph import _compat
from musubito_langgraph.lineage_channel import (
    TaskContext,
    UpstreamRef,
    external,
    is_let_go,
    parents_of,
    turn_of,
)
from musubito_langgraph.node_call import CallSite
from musubito_langgraph.settings import Settings

__all__ = ["Node"]


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a graph: its name, its triggers, and how it may be replayed."""

    graph: str
    path: str
    """The path of the node in the outermost graph; its last part is the node's name."""
    triggers: Mapping[str, tuple[str, ...]]
    """The triggers of all nodes of the node's graph."""
    semantics: StepConfiguration
    settings: Settings
    has_its_own_say: bool = False
    """True if the node's configuration was given for this very node."""

    @property
    def name(self) -> str:
        """Return the name that LangGraph knows the node by."""
        return self.path.rpartition("/")[2]

    @property
    def operation(self) -> str:
        """Return the name that the lineage knows the node by."""
        return f"{self.graph}/{self.path}"

    def run(self, standing: TaskContext | None) -> Callable[[MusubitoEngine, Scope], Run]:
        """Return a function that finds the run of a task of this node."""
        if standing is None:
            return self._run_of_its_own
        return lambda engine, scope: standing.loop.run(engine, scope, self.graph, standing.config, self.operation)

    def _run_of_its_own(self, engine: MusubitoEngine, scope: Scope) -> Run:
        return scope.run if scope.engine is engine and scope.run is not None else engine._new_run(self.graph)

    def parents(self, standing: TaskContext | None, number: int = 0) -> tuple[UpstreamRef, ...]:
        """Return the parents of a task of this node, or of a part of the task.

        The first part of a sequence has the parents of the task; any other part has the part before it as its parent.
        """
        if standing is None:
            return ()
        if number == 0:
            return parents_of(standing, self.name, self.triggers)
        return standing.loop.done.get(f"{standing.task}:{number}") or (external("a part of", self.name, str(number)),)

    def place(self, standing: TaskContext | None, number: int = 0) -> CallSite:
        """Return the place of a task of this node, or of a part of the task."""
        parents = self.parents(standing, number)
        turn = partial(turn_of, standing) if number == 0 else None
        return CallSite(parents, self.run(standing), turn, self.is_released(standing, parents))

    def is_released(self, standing: TaskContext | None, parents: Sequence[UpstreamRef]) -> bool:
        """Tell whether somebody's answer to an interrupt, or to a stop before this task, released the task."""
        return standing is not None and (any(parent.releases for parent in parents) or is_let_go(standing))

    def tries(self, standing: TaskContext | None, fails: Callable[[], tuple[UpstreamRef, ...]]) -> None:
        """Note the function that returns the steps that failed, for the case that this task fails."""
        if standing is not None:
            standing.loop.tried[_compat.place_of_task(standing.config)] = (standing.task, fails)

    def came_to_be(
        self, standing: TaskContext | None, origins: tuple[UpstreamRef, ...], number: int = 0, count: int = 1
    ) -> None:
        """Note the parents of what follows this task, or of what follows one of its parts."""
        if standing is not None:
            standing.loop.done[standing.task if number == count - 1 else f"{standing.task}:{number + 1}"] = origins
