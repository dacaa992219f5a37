"""Describe a node of a wrapped graph: its names, its settings, and the place of its tasks in the lineage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from musubito import MusubitoEngine, StepConfiguration
from musubito.adapter import Run, Scope
from musubito_langgraph import _task_config
from musubito_langgraph.ambient_inputs import is_released_here
from musubito_langgraph.call_site import CallSite
from musubito_langgraph.graph_invocation import UpstreamRef, external
from musubito_langgraph.settings import Settings
from musubito_langgraph.task_lineage import TaskContext, is_resumed_after_stop, parents_of, turn_of


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a graph, or a part of one: its name, its triggers, and how it may be replayed."""

    graph: str
    path: str
    """The path of the node in the outermost graph; its last part is the node's name."""
    triggers: Mapping[str, tuple[str, ...]]
    """The triggers of all nodes of the node's graph."""
    semantics: StepConfiguration
    settings: Settings
    has_own_config: bool = False
    """True if the node's configuration was given for this very node."""
    number: int = 0
    """The position among the parts of a node that is a sequence."""
    count: int = 1
    """The number of these parts."""

    @property
    def name(self) -> str:
        """Return the name that LangGraph knows the node by."""
        return self.path.rpartition("/")[2]

    @property
    def operation(self) -> str:
        """Return the name that the lineage knows the node by."""
        return f"{self.graph}/{self.path}"

    @property
    def is_last(self) -> bool:
        """Tell whether the output is the output of the node."""
        return self.number == self.count - 1

    @property
    def step_name(self) -> str:
        """Return the name of the step: the last part has the name of the node, any other part its number as well."""
        return self.operation if self.is_last else f"{self.operation}:{self.number + 1}"

    def part(self, number: int, count: int) -> Node:
        """Return one of `count` parts of this node.

        Only the first part is given a state, so `inputs` applies to no other.
        """
        semantics = replace(self.semantics, inputs=None) if number else self.semantics
        return replace(self, semantics=semantics, number=number, count=count)

    def run(self, task: TaskContext | None) -> Callable[[MusubitoEngine, Scope], Run]:
        """Return a function that finds the run of a task of this node."""
        if task is not None:
            given = self.graph, task.config, self.operation
            keeps_input = self.settings.keeps_inputs and self.semantics.record_inputs
            return lambda engine, scope: task.loop.run(engine, scope, *given, keeps_input=keeps_input)
        return lambda engine, scope: (scope.run if scope.engine is engine else None) or engine._new_run(self.graph)

    def parents(self, task: TaskContext | None) -> tuple[UpstreamRef, ...]:
        """Return the parents of a task of this node.

        The first part of a sequence has the parents of the task; any other part has the part before it as its parent.
        """
        if task is None:
            return ()
        if self.number == 0:
            return parents_of(task, self.name, self.triggers)
        before = task.loop.done.get(f"{task.id}:{self.number}")
        return before or (external("a part of", self.name, str(self.number)),)

    def place(self, task: TaskContext | None) -> CallSite:
        """Return the place of a task of this node."""
        parents = self.parents(task)
        turn = partial(turn_of, task) if self.number == 0 else None
        return CallSite(parents, self.run(task), turn, self.is_released(task, parents))

    def is_released(self, task: TaskContext | None, parents: Sequence[UpstreamRef]) -> bool:
        """Tell whether somebody's answer to an interrupt, or to a stop before this task, released the task.

        The task of a graph that a step invokes is released with that step.
        """
        led = task is not None and (any(parent.releases for parent in parents) or is_resumed_after_stop(task))
        return led or is_released_here()

    def on_failure(self, task: TaskContext | None, list_failed: Callable[[], tuple[UpstreamRef, ...]]) -> None:
        """Note the function that returns the steps that failed, for the case that this task fails."""
        if task is not None:
            task.loop.tried[_task_config.place_of_task(task.config)] = (task.id, list_failed)

    def note_origins(self, task: TaskContext | None, origins: tuple[UpstreamRef, ...]) -> None:
        """Note the parents of what follows this task, or of the next part of its node."""
        if task is not None:
            task.loop.done[task.id if self.is_last else f"{task.id}:{self.number + 1}"] = origins
