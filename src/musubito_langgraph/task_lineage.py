"""Find the steps that led to a task, and write what the task leads to (`musubito_langgraph.lineage_channel`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from ormsgpack import packb

from musubito import EncodingError
from musubito.adapter import SiblingOrder
from musubito.values.canonical import canonical
from musubito_langgraph import _compat, _task_config
from musubito_langgraph.graph_invocation import GivenSample, UpstreamRef, external
from musubito_langgraph.id_renaming import rename
from musubito_langgraph.lineage_channel import INSIDE, LINEAGE, LineageChannel


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
    channel, task = _task_config.channels_in(config).get(LINEAGE), _task_config.task_in(config)
    return TaskContext(config, channel, task) if isinstance(channel, LineageChannel) and task is not None else None


def run_id_in(config: RunnableConfig) -> str | None:
    """Return the id of the run that a task with this config belongs to; None if nobody can resume that run.

    A thread may have begun its run without lineage. Then its own id stands for the run.
    """
    task = task_context(config)
    if task is None:
        return None
    if task.channel.outer_run is not None or not _task_config.keeps_checkpoints(config):
        return task.channel.outer_run
    return task.channel.run_id or (config.get("configurable") or {}).get("thread_id")


def parents_of(task: TaskContext, node: str, triggers: Mapping[str, Sequence[str]]) -> tuple[UpstreamRef, ...]:
    """Return the parents of this task of `node`; `triggers` are the triggers of all nodes of the graph.

    An error handler has the parents of the task that failed, and the step that failed as well.
    """
    error = _task_config.error_in(task.config)
    if error is None:
        return _led_to(task, node, triggers[node])
    # Only the process in which a step failed knows that step.
    tried = task.loop.tried.get(_task_config.place_of_task(task.config))
    failed = () if tried is None else tried[1]()
    led = _led_to(task, error.node, triggers.get(error.node, ()))
    return tuple(dict.fromkeys((*led, *(failed or (external("an error of", error.node),)))))


def _led_to(task: TaskContext, node: str, triggers: Sequence[str]) -> tuple[UpstreamRef, ...]:
    # If a trigger was written later than the lineage, its writer left no lineage. Such a writer is an unwrapped graph
    # on the same thread, or a `Command` that is the input.
    config, channel = task.config, task.channel
    position = _task_config.position_of_send(config)
    if position is not None:
        nodes = _task_config.sends_in_channels(_task_config.channels_in(config))
        by_others = _task_config.later_than(config, LINEAGE, (_compat.TASKS,))
        origins = None if by_others else channel.of_send(position, nodes)
        return origins if origins is not None else (external("a Send to", node),)
    fired = task.loop.fired[task.id] = _task_config.available_in(config, triggers)
    by_others = _task_config.later_than(config, LINEAGE, fired)
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
    if not _task_config.is_resuming(config) or _task_config.has_questions(config):
        return False
    return task.channel.may_have_stopped or _task_config.may_stop(config)


def turn_of(task: TaskContext | None, counted: Callable[[Any], Any]) -> SiblingOrder | None:
    """Return the turn of this task among equal `Send`s, None if no `Send` started the task.

    `counted` returns the part of an input that counts; `Send`s are equal if these parts are equal. `Send`s whose tasks
    ran in another process are left out, since their samples were given there.
    """
    if task is None or _task_config.position_of_send(task.config) is None:
        return None
    begun = {task for task, _ in list(task.loop.tried.values())}
    if _task_config.error_in(task.config) is not None:
        # An error handler is given another error than the others, whatever it reads of its state.
        counted = _whole
    return SiblingOrder(_task_config.equal_sends_before(task.config, begun, counted), task.loop.turns)


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
        content = canonical(rename(_task_config.state_in(_task_config.writes_in(config)))[0]).hex()
    except EncodingError:
        content = str(_task_config.task_in(config))
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
        task, writes = task_context(config), _task_config.writes_in(config)
        fields = (
            origins_of(task, config, self.node),
            self._fired(task, config),
            [] if task is None else self._by_others(task),
            list(dict.fromkeys(channel for channel, _ in writes if channel in self.known)),
            _task_config.sends_in(writes),
            (_task_config.task_in(config) or True) if self.is_all or self.node == "__start__" else False,
            self._given(task),
            None if _task_config.is_update(config) else _task_config.may_stop(config),
        )
        # Bytes, because they can be hashed: a drawing of a graph asks its writers for their writes, and hashes these.
        _task_config.send(config, [(LINEAGE, packb(fields, tuple))])

    def _given(self, task: TaskContext | None) -> list[GivenSample]:
        """Return the samples from which a resumed invocation goes on, none if nothing can be resumed."""
        if task is None or self.is_all or not _task_config.keeps_checkpoints(task.config):
            return []
        return task.loop.given()

    def _by_others(self, task: TaskContext) -> list[str]:
        """Return the joins that were written later than the lineage, by something that left no lineage."""
        if not task.channel.lasting:
            return []
        channels = _task_config.channels_in(task.config)
        lasting = [name for name in task.channel.lasting if name in channels]
        later = _task_config.later_than(task.config, LINEAGE, lasting)
        return [name for name in later if _task_config.holds_anything(channels[name])]

    def _fired(self, task: TaskContext | None, config: RunnableConfig) -> list[str]:
        """Return the triggers that this task has used up."""
        fired = None if task is None else task.loop.fired.pop(task.id, None)
        if fired is not None:
            return fired
        if _task_config.is_update(config):
            return []
        if self.node == "__start__":
            # New input finds joins that are half done, and nodes that were ready to run. LangGraph keeps the former and
            # forgets the latter.
            channels = _task_config.channels_in(config)
            return [name for name in self.known if name in channels and not _task_config.holds_anything(channels[name])]
        if _task_config.position_of_send(config) is not None:
            return []
        # An error handler writes for the task that failed, which writes nothing any more.
        error = _task_config.error_in(config)
        return _task_config.available_in(config, self.triggers.get(self.node if error is None else error.node, ()))
