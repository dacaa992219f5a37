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

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from ormsgpack import packb, unpackb

from musubito_langgraph import _compat
from musubito_langgraph.graph_invocation import GivenSample, GraphInvocation, Shape, UpstreamRef, external, given_sample

LINEAGE: Final = "__musubito_lineage__"
"""Name of the hidden channel."""
_compat.keep_apart(LINEAGE)


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

    __slots__ = (
        *("_pull", "_push", "_terminal", "inputs", "lasting", "loop", "may_have_stopped", "outer_run", "run_id"),
        "shape",
    )

    def __init__(
        self, lasting: frozenset[str], inputs: frozenset[str], key: str = LINEAGE, shape: Shape | None = None
    ) -> None:
        """Make an empty channel; `inputs` are the channels that the graph's input is written to.

        `shape` is that of the graph; None for a graph inside another one.
        """
        super().__init__(bytes, key)
        self.lasting = lasting
        self.inputs = inputs
        self.may_have_stopped = False
        """True if the invocation that is resumed here had been told to stop before or after nodes."""
        self.run_id: str | None = None
        """The id of the task that took the input of the run that goes on here."""
        self.outer_run: str | None = None
        """The id of the enclosing graph's run, if that can be resumed."""
        self.shape = shape
        self.loop = GraphInvocation(shape)
        self._pull: dict[str, list[UpstreamRef]] = {}
        self._push: list[tuple[list[UpstreamRef], str]] = []
        self._terminal: list[UpstreamRef] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.lasting, self.inputs, self.key, self.shape)

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
        restored = LineageChannel(self.lasting, self.inputs, self.key, self.shape)
        if isinstance(checkpoint, bytes):
            pull, push, ends, samples, restored.may_have_stopped, restored.run_id = unpackb(checkpoint)
            restored._pull = {channel: [UpstreamRef(*ref) for ref in refs] for channel, refs in pull.items()}
            restored._push = [([UpstreamRef(*ref) for ref in refs], node) for refs, node in push]
            restored._terminal = [UpstreamRef(*ref) for ref in ends]
            restored.loop.known.update(dict.fromkeys(map(given_sample, samples)))
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
            given += map(given_sample, samples)
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
