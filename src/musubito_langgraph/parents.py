"""Who the parents of a task are.

LangGraph does not record which task triggered which. So each task writes, after all its other writes, who it was and
what it triggered into one hidden channel. As a channel it travels in the checkpoint: lineage survives a resume in
another process, `update_state`, forks and time travel, and it works without a checkpointer as well. Each value of it
says, for what has not been consumed yet: by whom each trigger was written, by whom each `Send` was made (in the order
of LangGraph's own list of them), which tasks led nowhere further, which are the ends of a subgraph, and which samples
were given, so that what is asked for again after an interrupt is a further one.

In a raw checkpoint it is one value with its version, and nothing else differs from that of the bare graph. LangGraph
has no less visible place that outlives a process: it copies checkpoints field by field, and shows their metadata in
`get_state` and pending writes beside the raw checkpoint.

The channel is made anew for each invocation of a graph, and so it is also where what belongs to one invocation is kept.
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
from musubito.adapter import CANCELLATIONS, Attempted, Mode, Run, Scope, Turn
from musubito.identity.canonical import canonical
from musubito_langgraph import _compat
from musubito_langgraph.messages import rename
from musubito_langgraph.policy import invocation_of

__all__ = [
    "LINEAGE",
    "RELEASED",
    "Inside",
    "LineageChannel",
    "LineageWrite",
    "Loop",
    "Origin",
    "Standing",
    "external",
    "inside",
    "is_let_go",
    "origins_of",
    "parents_of",
    "standing_in",
    "surrounding",
    "turn_of",
]

LINEAGE: Final = "__musubito_lineage__"
WRITTEN: Final = 8
"""How many things a task says."""


class Origin(NamedTuple):
    """One step that something came from: the id of its node, and of what it gave."""

    node: str
    artifact: str
    releases: bool = False
    """Whether somebody's answer to an interrupt released what follows."""

    def as_result(self) -> MusubitoResult[None]:
        """As the core knows parents."""
        return MusubitoResult(None, self.artifact, self.node, self.node)


Given = Attempted | int
"""A sample that was given, or an execution that holds samples and was given as a whole."""


def _given(said: Any) -> Given:
    return Attempted(*said) if isinstance(said, list) else int(said)


def external(*what: str) -> Origin:
    """Something that no step of ours has made: an update from outside, a task that ran unrecorded."""
    digest = sha256("\0".join(("external", *what)).encode("utf-8", "surrogatepass")).hexdigest()
    return Origin(digest, digest)


RELEASED: Final = external("somebody resumed")._replace(releases=True)
"""Stands for the parents of a graph's first task, where the graph stopped before it and somebody resumed it."""


class Loop:
    """One invocation of a graph, in this process."""

    def __init__(self) -> None:
        self.done: dict[str, tuple[Origin, ...]] = {}
        """By task: what it came to be."""
        self.fired: dict[str, list[str]] = {}
        """By task that runs: the triggers that it uses up."""
        self.tried: dict[tuple[Any, ...], tuple[str, Callable[[], tuple[Origin, ...]]]] = {}
        """By place among the tasks of a superstep: the task that was begun there last, and what fails if it does."""
        self.known: dict[Given, None] = {}
        """The samples that its run is known to have given, before an interrupt as well."""
        self._runs: dict[MusubitoEngine, Run] = {}
        self._left: list[weakref.finalize[..., Loop]] = []
        """End these runs if nobody else does."""
        self._marks: dict[Run, int] = {}
        """By run: how long its journal was when the superstep began."""
        self.releasing: set[str] = set()
        """The tasks after which an answer to an interrupt releases what follows."""
        self.turns: dict[bytes, frozenset[int]] = {}
        """See `Turn.before`: that of this superstep."""
        self._lock = threading.Lock()

    def failed(self) -> tuple[Origin, ...]:
        """The steps that were begun and did not come to an end."""
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
        """The run that steps of this invocation belong to: the one around it, else its own. `config` and `operation`:
        of one of its tasks."""
        run = scope.run if scope.engine is engine else None
        if run is None:
            run = self._runs.get(engine)
        if run is None or run not in self._marks:
            with self._lock:
                if run is None:
                    run = self._runs.get(engine)
                    if run is None:
                        only_asks = config is not None and invocation_of(config).mode is Mode.REPLAY_ONLY
                        run = engine.open_run(name, scope.frame, operation, only_asks=only_asks)
                        self._runs[engine] = run
                        if config is not None and len(self._runs) == 1:
                            _compat.when_left(config, self._left_by)
                        # However it ends, it is over when nobody holds this any more.
                        self._left.append(weakref.finalize(self, engine.end_run, run))
                if run not in self._marks:
                    self._marks[run] = len(run.samples.journal)
                    run.samples.go_on(tuple(self.known))
        return run

    def ended(self, status: str | None = None) -> None:
        """Nothing is left to be run; `status`: how it ended, where the last call does not tell."""
        for left in self._left:
            left.detach()
        for engine, run in self._runs.items():
            engine.end_run(run, status)

    def _left_by(self, error: BaseException | None) -> None:
        """LangGraph leaves the invocation. What it raises itself is in no call: a limit that is reached, updates that
        do not go together."""
        if error is not None and not isinstance(error, _compat.GraphBubbleUp):
            stopped = isinstance(error, CANCELLATIONS) and not isinstance(error, SystemExit)
            self.ended("cancelled" if stopped else "failed")

    def given(self) -> list[Given]:
        """The samples that were given in this superstep."""
        return [each for run, mark in tuple(self._marks.items()) for each in run.samples.since(mark)]

    def superstep(self, given: Collection[Given]) -> None:
        """One ends, in which these were given, perhaps in another process, and another begins."""
        self.turns = {}
        if given:
            self.known.update(dict.fromkeys(given))
        for run in self._marks:
            if given:
                run.samples.go_on(given)
            self._marks[run] = len(run.samples.journal)


class Inside:
    """What surrounds the invocation of a subgraph: the parents of its roots, and its channel once there is one."""

    def __init__(self, parents: tuple[Origin, ...]) -> None:
        self.parents = parents
        self.channel: LineageChannel | None = None
        self.left_by: tuple[Origin, ...] | None = None
        """The step that left the subgraph with a `Command` for its parent."""

    def failed(self) -> tuple[Origin, ...]:
        """If the subgraph fails, these are the steps in it that did."""
        return () if self.channel is None else self.channel.loop.failed()

    def ends(self) -> tuple[Origin, ...]:
        """Whatever follows the subgraph follows these steps."""
        if self.left_by is not None:
            return self.left_by
        ends = () if self.channel is None else self.channel.ends()
        return ends or self.parents


_INSIDE: Final[ContextVar[Inside | None]] = ContextVar("musubito_inside", default=None)


@contextmanager
def inside(this: Inside | None) -> Iterator[None]:
    """A subgraph is invoked here (None: something else is, which is not inside a subgraph's node)."""
    token = _INSIDE.set(this)
    try:
        yield
    finally:
        _INSIDE.reset(token)


def surrounding() -> Inside | None:
    """What surrounds the graph that runs here, if it is the subgraph of a node."""
    return _INSIDE.get()


class LineageChannel(_compat.BaseChannel[Any, bytes, Any]):
    """The hidden channel. `lasting` are the triggers that keep what they hold until it is consumed (joins, deferred
    nodes); all others hold it for one superstep.

    It is in checkpoints, and nobody can read it: to whoever asks, it is empty.
    """

    __slots__ = ("_pull", "_push", "_terminal", "inputs", "lasting", "loop", "may_have_stopped")

    def __init__(self, lasting: frozenset[str], inputs: frozenset[str], key: str = LINEAGE) -> None:
        """`inputs`: the channels that the graph's input is written to."""
        super().__init__(bytes, key)
        self.lasting = lasting
        self.inputs = inputs
        self.may_have_stopped = False
        """Whether the invocation that this one goes on from was told to stop before or after nodes."""
        self.loop = Loop()
        self._pull: dict[str, list[Origin]] = {}
        self._push: list[tuple[list[Origin], str]] = []
        self._terminal: list[Origin] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.lasting, self.inputs, self.key)

    def __musubito_identity__(self) -> str:
        """Return what is the same for all: code that reads every channel of its graph depends on none of this."""
        return LINEAGE

    @property
    def ValueType(self) -> Any:  # noqa: N802 - the interface is LangGraph's
        """The type of its value."""
        return bytes

    @property
    def UpdateType(self) -> Any:  # noqa: N802 - the interface is LangGraph's
        """The type of what is written to it."""
        return bytes

    def finish(self) -> bool:
        """LangGraph asks whether this leads anywhere, when nothing else does."""
        self.loop.ended()
        return False

    def copy(self) -> LineageChannel:
        """What a task reads that has written: nothing of the invocation."""
        return LineageChannel(self.lasting, self.inputs, self.key)

    def from_checkpoint(self, checkpoint: Any) -> LineageChannel:
        """The channel of an invocation that begins here."""
        made = LineageChannel(self.lasting, self.inputs, self.key)
        if isinstance(checkpoint, bytes):
            pull, push, ends, given, *stops = unpackb(checkpoint)
            made.may_have_stopped = any(stops)  # earlier versions do not say
            made._pull = {channel: [Origin(*each) for each in origins] for channel, origins in pull.items()}
            made._push = [([Origin(*each) for each in origins], node) for origins, node in push]
            made._terminal = [Origin(*each) for each in ends]
            made.loop.known.update(dict.fromkeys(map(_given, given)))
        around = _INSIDE.get()
        if around is not None and around.channel is None:
            around.channel = made
        return made

    def checkpoint(self) -> Any:
        """All that it holds."""
        if not (self._pull or self._push or self._terminal):
            return _compat.MISSING
        return packb((self._pull, self._push, self._terminal, list(self.loop.known), self.may_have_stopped), tuple)

    def get(self) -> bytes:
        """Nothing."""
        raise _compat.EmptyChannelError

    def is_available(self) -> bool:
        """Whether it shows anything. Else it would be among the channels that a checkpoint names as updated."""
        return False

    def update(self, values: Sequence[bytes]) -> bool:
        """What the tasks of a superstep say, in the order in which LangGraph applies their writes."""
        if not values:
            return False
        said = [_write(value) for value in values]
        used = self._pull.keys() - self.lasting
        others: set[str] = set()
        for _, fired, by_others, *_, may_stop in said:
            used.update(fired)
            others.update(by_others)
            # An update from outside does not know.
            self.may_have_stopped = self.may_have_stopped if may_stop is None else may_stop
        led = [origin for origins, _ in self._push for origin in origins]
        led += [origin for channel in used for origin in self._pull.pop(channel, ())]
        self._terminal = [origin for origin in self._terminal if origin not in led]
        self._push = []
        for channel in others - used:
            self._pull.setdefault(channel, []).append(external("the trigger", channel))
        if any(begins for *_, begins, _, _ in said):
            self._terminal = []
            self.loop.known.clear()
        self.loop.superstep([_given(each) for *_, given, _ in said for each in given])
        for ids, _, _, wrote, sends, *_ in said:
            origins = [Origin(*each) for each in ids]
            for channel in wrote:
                held = self._pull.setdefault(channel, [])
                held += [origin for origin in origins if origin not in held]
            self._push += [(origins, node) for node in sends]
            self._terminal += [origin for origin in origins if origin not in self._terminal]
        return True

    def knows(self, triggers: Collection[str]) -> bool:
        """Whether it is known who wrote one of these triggers, and be it the graph's input, which nobody has made."""
        return any(channel in self._pull for channel in triggers)

    def of_triggers(self, triggers: Collection[str]) -> tuple[Origin, ...]:
        """Who wrote these triggers."""
        return tuple(dict.fromkeys(origin for channel in triggers for origin in self._pull.get(channel, ())))

    def of_send(self, position: int, nodes: Sequence[str]) -> tuple[Origin, ...] | None:
        """Who made this one of the `Send`s to these nodes; None if it is not known."""
        if [node for _, node in self._push] == list(nodes):
            return tuple(self._push[position][0])
        return None

    def ends(self) -> tuple[Origin, ...]:
        """The steps that led nowhere further."""
        return tuple(self._terminal)


class Standing:
    """A task of a wrapped graph, as its config tells of it."""

    __slots__ = ("channel", "config", "loop", "task")

    def __init__(self, config: RunnableConfig, channel: LineageChannel, task: str) -> None:
        self.config = config
        self.channel = channel
        self.loop = channel.loop
        self.task = task


def standing_in(config: RunnableConfig) -> Standing | None:
    """The task that runs with this config; None outside of a wrapped graph."""
    channel, task = _compat.channels_in(config).get(LINEAGE), _compat.task_in(config)
    return Standing(config, channel, task) if isinstance(channel, LineageChannel) and task is not None else None


def parents_of(standing: Standing, node: str, triggers: Mapping[str, Sequence[str]]) -> tuple[Origin, ...]:
    """The parents of this task of `node`; `triggers` are those of all nodes of the graph. What handles an error has
    those of the task that failed, and the step that did."""
    error = _compat.error_in(standing.config)
    if error is None:
        return _led_to(standing, node, triggers[node])
    # In another process than that in which it failed, the step that did is not known.
    tried = standing.loop.tried.get(_compat.place_of_task(standing.config))
    failed = () if tried is None else tried[1]()
    led = _led_to(standing, error.node, triggers.get(error.node, ()))
    return tuple(dict.fromkeys((*led, *(failed or (external("an error of", error.node),)))))


def _led_to(standing: Standing, node: str, triggers: Sequence[str]) -> tuple[Origin, ...]:
    # What was written later than the lineage was written by something that says nothing of itself: an unwrapped graph
    # on the same thread, or a `Command` that is the input.
    config, channel = standing.config, standing.channel
    position = _compat.position_of_send(config)
    if position is not None:
        nodes = _compat.sends_in_channels(_compat.channels_in(config))
        found = None if _compat.sent_by_others(config, LINEAGE) else channel.of_send(position, nodes)
        return found if found is not None else (external("a Send to", node),)
    fired = standing.loop.fired[standing.task] = _compat.available_in(config, triggers)
    by_others = _compat.later_than(config, LINEAGE, fired)
    if not by_others:
        found = channel.of_triggers(fired)
        return found if found or channel.knows(fired) else (external("the trigger of", node),)
    if channel.inputs.issuperset(by_others):
        others = channel.of_triggers([each for each in fired if each not in by_others])
        return tuple(dict.fromkeys((*others, *_beginning())))
    found = channel.of_triggers([each for each in fired if each not in by_others or each in channel.lasting])
    return (*found, external("the trigger of", node))


def _write(value: bytes) -> list[Any]:
    """What a task says; those of earlier versions do not say whether it was told to stop."""
    said: list[Any] = unpackb(value)
    return said if len(said) == WRITTEN else [*said, None]


def is_let_go(standing: Standing) -> bool:
    """Tell whether the graph stopped before this task, and somebody resumed it without being asked a question."""
    config = standing.config
    if not _compat.is_resuming(config) or _compat.has_questions(config):
        return False
    return standing.channel.may_have_stopped or _compat.may_stop(config)


def turn_of(standing: Standing | None, counted: Callable[[Any], Any]) -> Turn | None:
    """Of `Send`s of which equal parts count (`counted`), which one this task is. Those that ran in another process have
    been given their samples."""
    if standing is None or _compat.position_of_send(standing.config) is None:
        return None
    begun = {task for task, _ in list(standing.loop.tried.values())}
    return Turn(_compat.equal_sends_before(standing.config, begun, counted), standing.loop.turns)


def origins_of(standing: Standing | None, config: RunnableConfig, node: str) -> tuple[Origin, ...]:
    """What this task of `node` has come to be."""
    if node == "__start__":
        return _beginning()
    known = None if standing is None else standing.loop.done.get(standing.task)
    if known is not None:
        return known
    # An update from outside, or a node that ran unrecorded.
    try:
        content = canonical(rename(_compat.state_in(_compat.writes_in(config)))[0]).hex()
    except EncodingError:
        content = str(_compat.task_in(config))
    releases = standing is not None and standing.task in standing.loop.releasing
    return (external(node, content)._replace(releases=releases),)


def _beginning() -> tuple[Origin, ...]:
    around = _INSIDE.get()
    return () if around is None else around.parents


class LineageWrite(_compat.ChannelWrite):
    """A node's last writer: what LangGraph's own writer would write, and then who it was.

    One writer and not two: a second one would make START, which is a bare writer, a run that tracers see.
    """

    def __init__(self, writes: Sequence[Any], node: str, triggers: Mapping[str, Sequence[str]]) -> None:
        """`triggers`: of all nodes of the graph."""
        super().__init__(writes)
        self.node = node
        self.triggers = triggers
        self.known = frozenset(channel for each in triggers.values() for channel in each)
        self.is_all = dict(triggers) == {node: ("__start__",)}
        """Whether it is the node of an entrypoint: when it writes, the run is over."""

    def _write(self, input: Any, config: RunnableConfig) -> Any:  # noqa: A002 - LangGraph's name
        super()._write(input, config)
        self._say(config)
        return input

    async def _awrite(self, input: Any, config: RunnableConfig) -> Any:  # noqa: A002 - LangGraph's name
        await super()._awrite(input, config)
        self._say(config)
        return input

    def _say(self, config: RunnableConfig) -> None:
        standing, writes = standing_in(config), _compat.writes_in(config)
        said = (
            origins_of(standing, config, self.node),
            self._fired(standing, config),
            [] if standing is None else self._by_others(standing),
            list(dict.fromkeys(channel for channel, _ in writes if channel in self.known)),
            _compat.sends_in(writes),
            self.is_all or self.node == "__start__",
            self._given(standing),
            None if _compat.is_update(config) else _compat.may_stop(config),
        )
        # Bytes: drawing a graph asks its writers what they would write, and hashes it.
        self.do_write(config, [_compat.ChannelWriteEntry(LINEAGE, packb(said, tuple))])

    def _given(self, standing: Standing | None) -> list[Given]:
        """The samples to go on from, where anything can go on."""
        if standing is None or self.is_all or not _compat.keeps_checkpoints(standing.config):
            return []
        return standing.loop.given()

    def _by_others(self, standing: Standing) -> list[str]:
        """The joins that something has written which says nothing of itself."""
        if not standing.channel.lasting:
            return []
        channels = _compat.channels_in(standing.config)
        lasting = [each for each in standing.channel.lasting if each in channels]
        later = _compat.later_than(standing.config, LINEAGE, lasting)
        return [each for each in later if _compat.holds_anything(channels[each])]

    def _fired(self, standing: Standing | None, config: RunnableConfig) -> list[str]:
        """The triggers that this task has used up."""
        known = None if standing is None else standing.loop.fired.pop(standing.task, None)
        if known is not None:
            return known
        if _compat.is_update(config):
            return []
        if self.node == "__start__":
            # What was half done when new input came, and what was ready to run then, is not alike: LangGraph forgets
            # the latter.
            channels = _compat.channels_in(config)
            return [each for each in self.known if each in channels and not _compat.holds_anything(channels[each])]
        if _compat.position_of_send(config) is not None:
            return []
        # An error handler speaks for the task that failed, which says nothing any more.
        error = _compat.error_in(config)
        return _compat.available_in(config, self.triggers.get(self.node if error is None else error.node, ()))
