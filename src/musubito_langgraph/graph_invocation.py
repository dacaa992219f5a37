"""Keep what belongs to one invocation of a graph in this process: its runs, its samples, and where its tasks led."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Collection
from hashlib import sha256
from typing import Any, Final, NamedTuple, Protocol

from langchain_core.runnables import RunnableConfig

from musubito import MusubitoEngine, MusubitoResult
from musubito.adapter import Mode, Run, SampleRef, Scope, stops_call
from musubito_langgraph import _compat, _task_config
from musubito_langgraph.settings import VOLATILE, invocation_of


class Shape(Protocol):
    """The shape of a graph, as `graph_shape` describes it."""

    def text(self) -> str | None:
        """Return the shape as JSON; None if there is none."""


class UpstreamRef(NamedTuple):
    """A step that something came from: the id of its node, and the id of its artifact."""

    node: str
    artifact: str
    releases: bool = False
    """True if somebody's answer to an interrupt released the step that follows."""

    def as_result(self) -> MusubitoResult[None]:
        """Return the origin as a parent that the core knows."""
        return MusubitoResult(None, self.artifact, self.node, self.node)


GivenSample = SampleRef | int
"""A sample that was given, or an execution that holds samples and was given as a whole."""


def given_sample(sample: Any) -> GivenSample:
    """Return a sample as it was before it was packed."""
    return SampleRef(*sample) if isinstance(sample, list) else int(sample)


def external(*what: str) -> UpstreamRef:
    """Return an origin that no step of Musubito made: an update from outside, or a task that ran unrecorded."""
    digest = sha256("\0".join(("external", *what)).encode("utf-8", "surrogatepass")).hexdigest()
    return UpstreamRef(digest, digest)


RELEASED: Final = external("somebody resumed")._replace(releases=True)
"""Stands for the parents of a graph's first task, if the graph stopped before that task and somebody resumed the
graph."""


def _given(config: RunnableConfig) -> dict[str, Any]:
    """Return the pieces of the input of the invocation that a task belongs to."""
    given = _task_config.begun_with(config)
    context = getattr(_task_config.runtime_in(config), "context", None)
    if given and context is not None:
        given["context"] = context
    if given:
        given["configurable"] = {
            key: value
            for key, value in (config.get("configurable") or {}).items()
            if not key.startswith("__") and key not in VOLATILE
        }
    return given


class GraphInvocation:
    """One invocation of a graph, in this process."""

    def __init__(self, shape: Shape | None = None) -> None:
        self._shape = shape
        self.done: dict[str, tuple[UpstreamRef, ...]] = {}
        """For each task that is done: its origins in the lineage."""
        self.fired: dict[str, list[str]] = {}
        """For each task that runs: the triggers that it uses up."""
        self.tried: dict[tuple[Any, ...], tuple[str, Callable[[], tuple[UpstreamRef, ...]]]] = {}
        """For each place among the tasks of a superstep: the last task that was begun there, and a function. The
        function returns the steps that failed if the task fails."""
        self.known: dict[GivenSample, None] = {}
        """The samples that the invocation's run is known to have given, before an interrupt as well."""
        self._runs: dict[MusubitoEngine, Run] = {}
        self._left: list[weakref.finalize[..., GraphInvocation]] = []
        """Finalisers that end these runs if nothing else does."""
        self._marks: dict[Run, int] = {}
        """For each run: the length of its journal of samples when the superstep began."""
        self.releasing: set[str] = set()
        """The tasks after which an answer to an interrupt releases the tasks that follow."""
        self.turns: dict[bytes, frozenset[int]] = {}
        """`SiblingOrder.before` of this superstep."""
        self._lock = threading.Lock()

    def failed(self) -> tuple[UpstreamRef, ...]:
        """Return the steps that were begun and did not end."""
        tried = list(self.tried.values())
        return tuple(dict.fromkeys(step for task, steps in tried if task not in self.done for step in steps()))

    def run(
        self,
        engine: MusubitoEngine,
        scope: Scope,
        name: str,
        config: RunnableConfig | None = None,
        operation: str = "",
        *,
        keeps_input: bool = False,
    ) -> Run:
        """Return the run of this invocation's steps: the run around the invocation, else a run of its own.

        `config` and `operation` are those of one of the invocation's tasks. With `keeps_input`, what the invocation
        was given is stored with a run of its own.
        """
        run = (scope.run if scope.engine is engine else None) or self._runs.get(engine)
        if run is None or run not in self._marks:
            with self._lock:
                run = run or self._runs.get(engine)
                shape = None if self._shape is None else self._shape.text()
                if run is None:
                    only_asks = config is not None and invocation_of(config).mode is Mode.REPLAY_ONLY
                    tags = None if config is None else _task_config.tags_in(config)
                    given = _given(config) if config is not None and keeps_input else None
                    run = engine._open_run(
                        name, scope.frame, operation, tags=tags, only_asks=only_asks, given=given, shape=shape
                    )
                    self._runs[engine] = run
                    if config is not None and len(self._runs) == 1:
                        _task_config.when_left(config, self._left_by)
                    # If nothing else ends the run, it ends when nobody holds this object any more.
                    self._left.append(weakref.finalize(self, engine._end_run, run))
                run.shape = run.shape or shape
                if run not in self._marks:
                    self._marks[run] = len(run.samples.journal)
                    run.samples.go_on(tuple(self.known))
        return run

    def ended(self, status: str | None = None) -> None:
        """End the runs of the invocation, since nothing is left to run.

        `status` says how the invocation ended, if its last call does not show it.
        """
        for left in self._left:
            left.detach()
        for engine, run in self._runs.items():
            engine._end_run(run, status)

    def _left_by(self, error: BaseException | None) -> None:
        """End the runs with a status if LangGraph leaves the invocation with an error.

        No call shows an error that LangGraph itself raises: a limit that is reached, or updates that exclude each
        other.
        """
        if error is not None and not isinstance(error, _compat.GraphBubbleUp):
            stopped = stops_call(error) and not isinstance(error, SystemExit)
            self.ended("cancelled" if stopped else "failed")

    def given(self) -> list[GivenSample]:
        """Return the samples that were given in this superstep."""
        return [sample for run, mark in tuple(self._marks.items()) for sample in run.samples.since(mark)]

    def superstep(self, samples: Collection[GivenSample]) -> None:
        """End a superstep in which these samples were given, perhaps in another process, and begin another."""
        self.turns = {}
        if samples:
            self.known.update(dict.fromkeys(samples))
        for run in self._marks:
            if samples:
                run.samples.go_on(samples)
            self._marks[run] = len(run.samples.journal)
