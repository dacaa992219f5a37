"""Record which tasks of a graph led to which, so that every step has its parents.

LangGraph does not record which task triggered which. So each task says, in one hidden channel and after all its other
writes, who it was and what it triggered. LangGraph keeps the channel in the checkpoint like any other. So lineage
survives a resume in another process, `update_state`, forks and time travel. It also works without a checkpointer. A
value of the channel holds, for everything that is not consumed yet:

- who wrote each trigger
- who made each `Send`, in the order of LangGraph's own list of `Send`s
- which tasks led nowhere further; these are the ends of a subgraph
- which samples were given, so that a sample asked for again after an interrupt is another one
- which run it is: the id of the task that took the run's input. That id is made of the checkpoint of the input, so it
  is the same if the task runs again

In a raw checkpoint, the channel is one value with its version; nothing else differs from the checkpoint of the bare
graph. LangGraph has no less visible place that outlives a process: it copies checkpoints field by field. It shows the
metadata of checkpoints in `get_state`, and pending writes beside the raw checkpoint.

Each invocation of a graph makes a new channel object, so that object also keeps what belongs to one invocation.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256
from typing import Any, Final, NamedTuple

from langchain_core.runnables import RunnableConfig
from ormsgpack import packb, unpackb

from musubito import EncodingError, MusubitoEngine, MusubitoResult
from musubito.adapter import Mode, Run, SampleRef, Scope, SiblingOrder, stops_call
from musubito.values.canonical import canonical
from musubito_langgraph import _compat
from musubito_langgraph.id_renaming import rename
from musubito_langgraph.settings import invocation_of

LINEAGE: Final = "__musubito_lineage__"
"""Name of the hidden channel."""
_compat.keep_apart(LINEAGE)


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


def _given(sample: Any) -> GivenSample:
    return SampleRef(*sample) if isinstance(sample, list) else int(sample)


def external(*what: str) -> UpstreamRef:
    """Return an origin that no step of Musubito made: an update from outside, or a task that ran unrecorded."""
    digest = sha256("\0".join(("external", *what)).encode("utf-8", "surrogatepass")).hexdigest()
    return UpstreamRef(digest, digest)


RELEASED: Final = external("somebody resumed")._replace(releases=True)
"""Stands for the parents of a graph's first task, if the graph stopped before that task and somebody resumed the
graph."""


class GraphInvocation:
    """One invocation of a graph, in this process."""

    def __init__(self) -> None:
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
    ) -> Run:
        """Return the run of this invocation's steps: the run around the invocation, else a run of its own.

        `config` and `operation` are those of one of the invocation's tasks.
        """
        run = (scope.run if scope.engine is engine else None) or self._runs.get(engine)
        if run is None or run not in self._marks:
            with self._lock:
                run = run or self._runs.get(engine)
                if run is None:
                    only_asks = config is not None and invocation_of(config).mode is Mode.REPLAY_ONLY
                    run = self._runs[engine] = engine._open_run(name, scope.frame, operation, only_asks=only_asks)
                    if config is not None and len(self._runs) == 1:
                        _compat.when_left(config, self._left_by)
                    # If nothing else ends the run, it ends when nobody holds this object any more.
                    self._left.append(weakref.finalize(self, engine._end_run, run))
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


class SubgraphContext:
    """The surroundings of a subgraph's invocation: the parents of its first tasks, and its channel once it has one."""

    def __init__(self, parents: tuple[UpstreamRef, ...], run_id: str | None = None) -> None:
        self.parents = parents
        self.run_id = run_id
        """The id of the enclosing graph's run; None if that cannot be resumed."""
        self.channel: LineageChannel | None = None
        self.left_by: tuple[UpstreamRef, ...] | None = None
        """The step that left the subgraph with a `Command` for the parent graph."""

    def failed(self) -> tuple[UpstreamRef, ...]:
        """Return the steps in the subgraph that failed, if the subgraph fails."""
        return () if self.channel is None else self.channel.loop.failed()

    def ends(self) -> tuple[UpstreamRef, ...]:
        """Return the steps that become the parents of what follows the subgraph."""
        if self.left_by is not None:
            return self.left_by
        ends = () if self.channel is None else self.channel.ends()
        return ends or self.parents


INSIDE: Final[ContextVar[SubgraphContext | None]] = ContextVar("musubito_inside", default=None)
"""The surroundings of the graph that runs here; None unless the graph is the subgraph of a node."""


@contextmanager
def inside(context: SubgraphContext | None) -> Iterator[None]:
    """Mark that a subgraph is invoked here; None if nothing is recorded."""
    token = INSIDE.set(context)
    try:
        yield
    finally:
        INSIDE.reset(token)


class LineageChannel(_compat.BaseChannel[Any, bytes, Any]):
    """The hidden channel of a wrapped graph.

    `lasting` are the triggers that keep their values until these are consumed: joins and deferred nodes. All other
    triggers keep their values for one superstep. The channel is in checkpoints, but nobody can read it: for readers it
    is always empty.
    """

    __slots__ = ("_pull", "_push", "_terminal", "inputs", "lasting", "loop", "may_have_stopped", "outer_run", "run_id")

    def __init__(self, lasting: frozenset[str], inputs: frozenset[str], key: str = LINEAGE) -> None:
        """Make an empty channel; `inputs` are the channels that the graph's input is written to."""
        super().__init__(bytes, key)
        self.lasting = lasting
        self.inputs = inputs
        self.may_have_stopped = False
        """True if the invocation that is resumed here had been told to stop before or after nodes."""
        self.run_id: str | None = None
        """The id of the task that took the input of the run that goes on here."""
        self.outer_run: str | None = None
        """The id of the enclosing graph's run, if that can be resumed."""
        self.loop = GraphInvocation()
        self._pull: dict[str, list[UpstreamRef]] = {}
        self._push: list[tuple[list[UpstreamRef], str]] = []
        self._terminal: list[UpstreamRef] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.lasting, self.inputs, self.key)

    def __musubito_identity__(self) -> str:
        """Return the same identity for every such channel.

        So code that reads all channels of its graph does not depend on the lineage.
        """
        return LINEAGE

    @property
    def ValueType(self) -> Any:  # noqa: N802 - the interface is LangGraph's
        """Return the type of the channel's value."""
        return bytes

    @property
    def UpdateType(self) -> Any:  # noqa: N802 - the interface is LangGraph's
        """Return the type of the updates that are written to the channel."""
        return bytes

    def finish(self) -> bool:
        """End the runs of the invocation; LangGraph calls this when it has no task left to run."""
        self.loop.ended()
        return False

    def copy(self) -> LineageChannel:
        """Return an empty channel; LangGraph copies the channels for a task that reads after it has written."""
        return LineageChannel(self.lasting, self.inputs, self.key)

    def from_checkpoint(self, checkpoint: Any) -> LineageChannel:
        """Return the channel of an invocation that begins at this checkpoint."""
        restored = LineageChannel(self.lasting, self.inputs, self.key)
        if isinstance(checkpoint, bytes):
            pull, push, ends, samples, restored.may_have_stopped, restored.run_id = unpackb(checkpoint)
            restored._pull = {channel: [UpstreamRef(*ref) for ref in refs] for channel, refs in pull.items()}
            restored._push = [([UpstreamRef(*ref) for ref in refs], node) for refs, node in push]
            restored._terminal = [UpstreamRef(*ref) for ref in ends]
            restored.loop.known.update(dict.fromkeys(map(_given, samples)))
        around = INSIDE.get()
        if around is not None:
            restored.outer_run = around.run_id
            around.channel = around.channel or restored
        return restored

    def checkpoint(self) -> Any:
        """Return all that the channel holds, as bytes."""
        if not (self._pull or self._push or self._terminal):
            return _compat.MISSING
        samples = list(self.loop.known)
        return packb((self._pull, self._push, self._terminal, samples, self.may_have_stopped, self.run_id), tuple)

    def get(self) -> bytes:
        """Raise `EmptyChannelError`, since nobody may read the channel."""
        raise _compat.EmptyChannelError

    def is_available(self) -> bool:
        """Return False: otherwise a checkpoint would name this channel among the updated ones."""
        return False

    def update(self, values: Sequence[bytes]) -> bool:
        """Take in the messages of the tasks of a superstep, in the order in which LangGraph applies their writes."""
        if not values:
            return False
        writes = [unpackb(value) for value in values]
        pull, used = self._pull, self._pull.keys() - self.lasting
        others: set[str] = set()
        given: list[GivenSample] = []
        is_begun = False
        for _, fired, by_others, _, _, begins, samples, may_stop in writes:
            used.update(fired)
            others.update(by_others)
            given += map(_given, samples)
            if begins:
                is_begun, self.run_id = True, begins if isinstance(begins, str) else None
            # An update from outside does not know whether the invocation was told to stop.
            self.may_have_stopped = self.may_have_stopped if may_stop is None else may_stop
        led: list[UpstreamRef] = []
        for origins, _ in self._push:
            led += origins
        for channel in used:
            led += pull.pop(channel, ())
        if is_begun:
            self._terminal = []
            self.loop.known.clear()
        elif self._terminal and led:
            self._terminal = [origin for origin in self._terminal if origin not in led]
        self._push = []
        for channel in others - used:
            pull.setdefault(channel, []).append(external("the trigger", channel))
        self.loop.superstep(given)
        for ids, _, _, wrote, sends, *_ in writes:
            origins = [UpstreamRef(*origin) for origin in ids]
            for channel in wrote:
                _add(origins, pull.setdefault(channel, []))
            for node in sends:
                self._push.append((origins, node))
            _add(origins, self._terminal)
        return True

    def knows(self, triggers: Collection[str]) -> bool:
        """Tell whether the writer of one of these triggers is known; the graph's input counts as a known writer."""
        return any(channel in self._pull for channel in triggers)

    def of_triggers(self, triggers: Collection[str]) -> tuple[UpstreamRef, ...]:
        """Return the steps that wrote these triggers."""
        origins: dict[UpstreamRef, None] = {}
        for channel in triggers:
            origins.update(dict.fromkeys(self._pull.get(channel, ())))
        return tuple(origins)

    def of_send(self, position: int, nodes: Sequence[str]) -> tuple[UpstreamRef, ...] | None:
        """Return the steps that made the `Send` at this position, None if they are not known.

        `nodes` are the nodes of all `Send`s of the superstep.
        """
        if [node for _, node in self._push] == list(nodes):
            return tuple(self._push[position][0])
        return None

    def ends(self) -> tuple[UpstreamRef, ...]:
        """Return the steps that led nowhere further."""
        return tuple(self._terminal)


def _add(origins: Sequence[UpstreamRef], to: list[UpstreamRef]) -> None:
    """Add the origins that are not there yet."""
    to += [origin for origin in origins if origin not in to] if to else origins


class TaskContext:
    """A task of a wrapped graph, as its config describes it."""

    __slots__ = ("channel", "config", "id", "loop")

    def __init__(self, config: RunnableConfig, channel: LineageChannel, task: str) -> None:
        self.config = config
        self.channel = channel
        self.loop = channel.loop
        self.id = task


def task_context(config: RunnableConfig) -> TaskContext | None:
    """Return the task that runs with this config, None outside of a wrapped graph."""
    channel, task = _compat.channels_in(config).get(LINEAGE), _compat.task_in(config)
    return TaskContext(config, channel, task) if isinstance(channel, LineageChannel) and task is not None else None


def run_id_in(config: RunnableConfig) -> str | None:
    """Return the id of the run that a task with this config belongs to; None if nobody can resume that run.

    A thread may have begun its run without lineage. Then its own id stands for the run.
    """
    task = task_context(config)
    if task is None:
        return None
    if task.channel.outer_run is not None or not _compat.keeps_checkpoints(config):
        return task.channel.outer_run
    return task.channel.run_id or (config.get("configurable") or {}).get("thread_id")


def parents_of(task: TaskContext, node: str, triggers: Mapping[str, Sequence[str]]) -> tuple[UpstreamRef, ...]:
    """Return the parents of this task of `node`; `triggers` are the triggers of all nodes of the graph.

    An error handler has the parents of the task that failed, and the step that failed as well.
    """
    error = _compat.error_in(task.config)
    if error is None:
        return _led_to(task, node, triggers[node])
    # Only the process in which a step failed knows that step.
    tried = task.loop.tried.get(_compat.place_of_task(task.config))
    failed = () if tried is None else tried[1]()
    led = _led_to(task, error.node, triggers.get(error.node, ()))
    return tuple(dict.fromkeys((*led, *(failed or (external("an error of", error.node),)))))


def _led_to(task: TaskContext, node: str, triggers: Sequence[str]) -> tuple[UpstreamRef, ...]:
    # If a trigger was written later than the lineage, its writer left no lineage. Such a writer is an unwrapped graph
    # on the same thread, or a `Command` that is the input.
    config, channel = task.config, task.channel
    position = _compat.position_of_send(config)
    if position is not None:
        nodes = _compat.sends_in_channels(_compat.channels_in(config))
        by_others = _compat.later_than(config, LINEAGE, (_compat.TASKS,))
        origins = None if by_others else channel.of_send(position, nodes)
        return origins if origins is not None else (external("a Send to", node),)
    fired = task.loop.fired[task.id] = _compat.available_in(config, triggers)
    by_others = _compat.later_than(config, LINEAGE, fired)
    if not by_others:
        origins = channel.of_triggers(fired)
        return origins if origins or channel.knows(fired) else (external("the trigger of", node),)
    if channel.inputs.issuperset(by_others):
        others = channel.of_triggers([name for name in fired if name not in by_others])
        return tuple(dict.fromkeys((*others, *_beginning())))
    origins = channel.of_triggers([name for name in fired if name not in by_others or name in channel.lasting])
    return (*origins, external("the trigger of", node))


def is_resumed_after_stop(task: TaskContext) -> bool:
    """Tell whether the graph stopped before this task and was resumed without having asked a question."""
    config = task.config
    if not _compat.is_resuming(config) or _compat.has_questions(config):
        return False
    return task.channel.may_have_stopped or _compat.may_stop(config)


def turn_of(task: TaskContext | None, counted: Callable[[Any], Any]) -> SiblingOrder | None:
    """Return the turn of this task among equal `Send`s, None if no `Send` started the task.

    `counted` returns the part of an input that counts; `Send`s are equal if these parts are equal. `Send`s whose tasks
    ran in another process are left out, since their samples were given there.
    """
    if task is None or _compat.position_of_send(task.config) is None:
        return None
    begun = {task for task, _ in list(task.loop.tried.values())}
    if _compat.error_in(task.config) is not None:
        # An error handler is given another error than the others, whatever it reads of its state.
        counted = _whole
    return SiblingOrder(_compat.equal_sends_before(task.config, begun, counted), task.loop.turns)


def _whole(state: Any) -> Any:
    return state


def origins_of(task: TaskContext | None, config: RunnableConfig, node: str) -> tuple[UpstreamRef, ...]:
    """Return the origins that this task of `node` has become in the lineage."""
    if node == "__start__":
        return _beginning()
    origins = None if task is None else task.loop.done.get(task.id)
    if origins is not None:
        return origins
    # The task is an update from outside, or its node ran unrecorded.
    try:
        content = canonical(rename(_compat.state_in(_compat.writes_in(config)))[0]).hex()
    except EncodingError:
        content = str(_compat.task_in(config))
    releases = task is not None and task.id in task.loop.releasing
    return (external(node, content)._replace(releases=releases),)


def _beginning() -> tuple[UpstreamRef, ...]:
    around = INSIDE.get()
    return () if around is None else around.parents


class LineageWrite(_compat.ChannelWrite):
    """The last writer of a node: it writes what LangGraph's own writer would write, and then the lineage of the task.

    There is one writer and not two: with a second writer, START, which is a bare writer, would become a run that
    tracers see.
    """

    def __init__(self, writes: Sequence[Any], node: str, triggers: Mapping[str, Sequence[str]]) -> None:
        """Make the writer of `node`; `triggers` are the triggers of all nodes of the graph."""
        super().__init__(writes)
        self.node = node
        self.triggers = triggers
        self.known = frozenset(channel for channels in triggers.values() for channel in channels)
        self.is_all = dict(triggers) == {node: ("__start__",)}
        """True for the only node of an entrypoint: when that node writes, the run is over."""

    def _write(self, input: Any, config: RunnableConfig) -> Any:
        super()._write(input, config)
        self._say(config)
        return input

    async def _awrite(self, input: Any, config: RunnableConfig) -> Any:
        await super()._awrite(input, config)
        self._say(config)
        return input

    def _say(self, config: RunnableConfig) -> None:
        task, writes = task_context(config), _compat.writes_in(config)
        fields = (
            origins_of(task, config, self.node),
            self._fired(task, config),
            [] if task is None else self._by_others(task),
            list(dict.fromkeys(channel for channel, _ in writes if channel in self.known)),
            _compat.sends_in(writes),
            (_compat.task_in(config) or True) if self.is_all or self.node == "__start__" else False,
            self._given(task),
            None if _compat.is_update(config) else _compat.may_stop(config),
        )
        # Bytes, because they can be hashed: a drawing of a graph asks its writers for their writes, and hashes these.
        _compat.send(config, [(LINEAGE, packb(fields, tuple))])

    def _given(self, task: TaskContext | None) -> list[GivenSample]:
        """Return the samples from which a resumed invocation goes on, none if nothing can be resumed."""
        if task is None or self.is_all or not _compat.keeps_checkpoints(task.config):
            return []
        return task.loop.given()

    def _by_others(self, task: TaskContext) -> list[str]:
        """Return the joins that were written later than the lineage, by something that left no lineage."""
        if not task.channel.lasting:
            return []
        channels = _compat.channels_in(task.config)
        lasting = [name for name in task.channel.lasting if name in channels]
        later = _compat.later_than(task.config, LINEAGE, lasting)
        return [name for name in later if _compat.holds_anything(channels[name])]

    def _fired(self, task: TaskContext | None, config: RunnableConfig) -> list[str]:
        """Return the triggers that this task has used up."""
        fired = None if task is None else task.loop.fired.pop(task.id, None)
        if fired is not None:
            return fired
        if _compat.is_update(config):
            return []
        if self.node == "__start__":
            # New input finds joins that are half done, and nodes that were ready to run. LangGraph keeps the former and
            # forgets the latter.
            channels = _compat.channels_in(config)
            return [name for name in self.known if name in channels and not _compat.holds_anything(channels[name])]
        if _compat.position_of_send(config) is not None:
            return []
        # An error handler writes for the task that failed, which writes nothing any more.
        error = _compat.error_in(config)
        return _compat.available_in(config, self.triggers.get(self.node if error is None else error.node, ()))
