"""Hold where a step call stands: its engine, its run, the enclosing step body, its merge context and its surroundings.

All of it is one immutable `Scope` in one context variable. So tasks and `asyncio.to_thread` inherit the scope, and one
look finds everything. A `Frame` is a step body that is running; the calls inside hand their dependencies up to it. A
`Run` is one top-level piece of work, and keeps the samples that it has given.
"""

from __future__ import annotations

import os
import threading
from asyncio import AbstractEventLoop
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from itertools import count, islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

from musubito.causes import ReplayReason
from musubito.code.world.unrepeatable import Unrepeatable
from musubito.model import MusubitoResult
from musubito.store.queries import SampleNode
from musubito.store.rows import CallDependency, CallLine, ExternalRead, SampleRef, Used

if TYPE_CHECKING:
    from musubito.code.fingerprint import Fingerprint
    from musubito.engine.engine import MusubitoEngine
    from musubito.engine.files.events import BodyFiles
    from musubito.engine.modes import Mode

__all__ = [
    "ANY",
    "SCOPE",
    "AmbientContext",
    "Dependencies",
    "Frame",
    "OpenScopes",
    "Run",
    "Samples",
    "Scope",
    "Usage",
    "add_control_flow",
    "control_flow",
    "suspends",
]


class AmbientContext(Protocol):
    """The surroundings of steps that count as input without being arguments. An adapter for a framework fills them.

    An adapter may define two more methods. `doubts(code)` returns the reason why a step of this code cannot be
    replayed, or None. `named(kind, key)` returns the name that readers see for a read, or "" if the read has no name.
    """

    def inputs(self, code: Fingerprint, given: Sequence[Fingerprint]) -> Mapping[str, object]:
        """Return the ambient inputs of a step of this code in this scope, as canonical values.

        Examples are a user, a context and a configuration. `given` holds the code of the classes whose instances the
        step is given.
        """

    def observe(self, kind: str, key: str) -> Any:
        """Return the digest of the data that a read would find now, as bytes; None if the data is absent.

        The result may be awaitable.
        """


Usage: TypeAlias = Mapping[str, Sequence[int]]
"""Tokens by model: the number of input tokens and the number of output tokens."""
NO_USAGE: Final[Usage] = MappingProxyType({})


class Dependencies(NamedTuple):
    """The dependencies and costs that a call hands up to the enclosing execution."""

    uses: Sequence[CallDependency]
    reads: Sequence[ExternalRead]
    valid_from: float | None
    valid_until: float | None
    not_replayable: str | None
    samples: bool
    """Whether the call is a sample or holds samples."""
    usage: Usage = NO_USAGE
    """The tokens that the call took, as if every call inside it had run."""
    saved_ms: float = 0.0
    """Milliseconds that the call would have taken longer if it, or all calls inside it, had run."""


class Frame:
    """A step body that is running, and everything it depends on besides its input."""

    __slots__ = (
        "around",
        "asked",
        "call",
        "ended",
        "engine",
        "files",
        "flight",
        "idempotency_key",
        "inside",
        "lock",
        "loop",
        "node",
        "not_replayable",
        "reaches",
        "reads",
        "run",
        "samples",
        "saved_ms",
        "streams",
        "thread",
        "tokens",
        "uses",
        "valid_from",
        "valid_until",
    )

    def __init__(
        self,
        engine: MusubitoEngine,
        outer: Frame | None,
        node: bytes,
        run: Run,
        call: int,
        reaches: Collection[str],
        loop: AbstractEventLoop | None,
    ) -> None:
        self.engine = engine
        # The bodies that this body was called in. There are several where the right one is not known (see
        # `OpenScopes`).
        self.around: Sequence[Frame] = () if outer is None else (outer,)
        self.node = node
        self.run = run
        self.call = call
        # The operations that the body's code reaches (see `ANY`).
        self.reaches = reaches
        self.loop = loop
        self.thread = threading.get_ident()
        self.ended = False
        self.flight: bytes | None = None
        # The files that the body reads; None where files are not watched.
        self.files: BodyFiles | None = None
        self.idempotency_key: str | None = None
        self.lock = threading.Lock()
        self.uses: list[CallDependency] = []
        self.reads: list[ExternalRead] = []
        self.valid_from: float | None = None
        self.valid_until: float | None = None
        self.not_replayable: str | None = None
        self.samples = False
        # The number of streams inside the body that are being iterated. Until a stream ends, its dependencies are not
        # handed up.
        self.streams = 0
        # The tokens of the body's own models, and the tokens of the calls inside it.
        self.tokens: dict[str, list[int]] = {}
        self.inside: dict[str, list[int]] = {}
        # The milliseconds that replays inside the body saved.
        self.saved_ms = 0.0
        # Things the body asked for that are different each time (see `engine.connections`), each once.
        self.asked: dict[Unrepeatable, None] = {}

    def absorb(self, given: Dependencies) -> None:
        """Add the dependencies of a call inside this body. Calls may end in several threads at once."""
        if self.ended and given.not_replayable is not None:
            self.engine.keeper.revoke(self.node)
        with self.lock:
            self.uses += given.uses
            files = self.files
            self.reads += given.reads if files is None or not files.written else files.without_own(given.reads)
            self.valid_from = _latest(self.valid_from, given.valid_from)
            self.valid_until = _earliest(self.valid_until, given.valid_until)
            self.not_replayable = self.not_replayable or given.not_replayable
            self.samples = self.samples or given.samples
            self.saved_ms += given.saved_ms
            for model, (tokens_in, tokens_out) in given.usage.items():
                add_usage(self.inside, model, tokens_in, tokens_out)

    def end(self) -> Dependencies:
        """Return all dependencies of the body, which has returned.

        A dependency that comes later is not in the execution's record. If the late dependency forbids a replay, the
        execution is made INVALID.
        """
        self.ended = True
        return self.taken()

    def taken(self) -> Dependencies:
        """Return all dependencies of the body so far."""
        with self.lock:
            still_open = ReplayReason.STREAM_LEFT_OPEN.of() if self.streams else None
            return Dependencies(
                # Each once: calls that stand in several bodies, as the calls of a recursion may, hand up to each other.
                tuple(dict.fromkeys(self.uses)),
                tuple(dict.fromkeys(self.reads)),
                self.valid_from,
                self.valid_until,
                self.not_replayable or still_open,
                self.samples,
                {used.model: used[3:] for used in self.used()} if self.tokens or self.inside else NO_USAGE,
                self.saved_ms,
            )

    def used(self) -> list[Used]:
        """Return the tokens that the body has used so far, by model."""
        if not self.tokens and not self.inside:
            return []
        models = dict.fromkeys((*self.tokens, *self.inside))
        return [_used(model, self.tokens.get(model, NOTHING), self.inside.get(model, NOTHING)) for model in models]

    def uses_tokens(self, model: str, tokens_in: int, tokens_out: int) -> None:
        """Add tokens that a model used for this body."""
        model = model.encode("utf-8", "backslashreplace").decode()  # no store holds lone surrogates
        with self.lock:
            add_usage(self.tokens, model, tokens_in, tokens_out)

    def stream_begins(self) -> None:
        """Note that a stream inside the body is iterated from now on."""
        with self.lock:
            self.streams += 1

    def stream_ended(self) -> None:
        """Note that a stream inside the body has handed up its dependencies."""
        with self.lock:
            self.streams -= 1

    def enclosing(self) -> Iterator[Frame]:
        """Yield this frame and all enclosing frames, from the inside out."""
        ahead = [self]
        for frame in ahead:
            yield frame
            ahead += [each for each in frame.around if each not in ahead]


NOTHING: Final = (0, 0)
ANY: Final = "*"
"""In place of the last part of a name, among the operations that code reaches.

It stands for an adapter's operations whose names are known only when they are called.
"""


def _used(model: str, own: Sequence[int], inside: Sequence[int]) -> Used:
    return Used(model, own[0], own[1], own[0] + inside[0], own[1] + inside[1])


def add_usage(usage: dict[str, list[int]], model: str, tokens_in: int, tokens_out: int) -> None:
    """Add one model's tokens to `usage`."""
    sums = usage.setdefault(model, [0, 0])
    sums[0] += tokens_in
    sums[1] += tokens_out


def _latest(a: float | None, b: float | None) -> float | None:
    return a if b is None else b if a is None else max(a, b)


def _earliest(a: float | None, b: float | None) -> float | None:
    return a if b is None else b if a is None else min(a, b)


class Run:
    """One top-level piece of work."""

    __slots__ = (
        "_samples",
        "calls",
        "finished_at",
        "lines",
        "name",
        "number",
        "only_asks",
        "owner",
        "side_by_side",
        "started_at",
        "status",
        "tags",
        "within",
    )

    def __init__(
        self,
        number: int,
        started_at: float,
        name: str | None = None,
        tags: str | None = None,
        within: tuple[bytes, int | None] | None = None,
        owner: bytes = b"",
    ) -> None:
        """Begin a run.

        `within` is the id of the enclosing run, and the call of that run inside which this run begins. The enclosing
        run may be another engine's. `owner` is the id of the engine in the process where the run began. A forked
        process has another id.
        """
        self.owner = owner
        self.number = number
        self.within = within
        self.started_at = started_at
        self.name = name
        self.tags = tags
        self.finished_at: float | None = None
        self.status = "running"
        # Set for a run of a framework. A call that the framework makes outside any body belongs to no body of this run,
        # even if a body's code reaches the step.
        self.side_by_side = False
        # Set if nothing runs in the run. Such a run must not begin a namespace, with its engine's key or without one.
        self.only_asks = False
        self.calls = count(1)
        # Kept only for a run that the user holds, to show its calls.
        self.lines: list[CallLine] | None = None
        self._samples: Samples | None = None

    @property
    def run_id(self) -> bytes:
        """Return the id of the run: unique, and in the order of time within a process."""
        return self.owner + self.number.to_bytes(5, "big")

    @property
    def samples(self) -> Samples:
        """Return the samples that the run has given so far, creating the record when it is first needed."""
        samples = self._samples
        if samples is None:
            with _LOCK:
                samples = self._samples = self._samples or Samples()
        return samples

    @samples.setter
    def samples(self, samples: Samples) -> None:
        self._samples = samples

    @property
    def gives_samples(self) -> bool:
        """Tell whether the run has ever needed its record of samples."""
        return self._samples is not None


_LOCK: Final = threading.RLock()
"""Guards the samples of all runs. It is held for microseconds at a time."""
if hasattr(os, "register_at_fork"):
    # A child must not find the lock held by a thread that the child does not have.
    os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)


class SiblingOrder(NamedTuple):
    """The place of a call among equal calls that are made side by side.

    Their samples go by this place, and not by the order in which the calls happen to start.
    """

    rank: int
    before: dict[bytes, frozenset[int]]
    """Numbers by pool that had been given before the first of the calls asked. All of these calls share this dict."""


class Samples:
    """The samples that a run has given, so that each is given at most once.

    - `given`: the numbers given, by pool.
    - `shared`: executions that hold samples and were given as a whole. A DETERMINISTIC one may be given again.
    - `attempts`: samples given inside failed attempts at a call, which the next execution of the call remembers.
    - `effects`: pools that are effects and no samples. A further attempt repeats no effect.
    - `journal`: all that was given or shared, in that order. Samples that were given back stay in it.
    """

    def __init__(self) -> None:
        self.given: defaultdict[bytes, set[int]] = defaultdict(set)
        self.shared: set[int] = set()
        self.effects: set[bytes] = set()
        self.journal: list[SampleRef | int] = []
        self.attempts: defaultdict[SampleRef, list[SampleRef]] = defaultdict(list)

    def together(self) -> Sequence[Samples]:
        """Return all records in which a sample must be free, and in which it counts as given from now on."""
        return (self,)

    def copy(self) -> Samples:
        """Return a copy, which later changes of this record do not affect."""
        made = Samples()
        with _LOCK:
            for each in self.together():
                for pool, numbers in each.given.items():
                    made.given[pool] |= numbers
            made.shared |= self.shared
            made.effects |= self.effects
            made.journal += self.journal
            for call, samples in self.attempts.items():
                made.attempts[call] += samples
        return made

    def next_number(self, pool: bytes, turn: SiblingOrder | None = None) -> int:
        """Return the lowest number that is still free, or the number of this turn, and count it as given."""
        with _LOCK:
            together = self.together()
            given = together[0].given[pool]
            if len(together) > 1:
                given = given.union(*(each.given[pool] for each in together[1:]))
            number = _lowest(given)
            if turn is not None:
                before = turn.before.setdefault(pool, frozenset(given))
                mine = _lowest(before, turn.rank)
                number = mine if mine not in given else number
            self._give(SampleRef(pool, number))
            return number

    def give_back(self, pool: bytes, number: int) -> None:
        """Free a number again, because its call failed."""
        with _LOCK:
            for each in self.together():
                each.given[pool].discard(number)

    def give(self, tree: Mapping[int, SampleNode], root: int) -> bool:
        """Give an execution with all samples nested in it.

        If one of the samples was given already, give nothing and return False.
        """
        with _LOCK:
            nested = list(self._nested(tree, root))
            again = tree[root].pool is None and root in self.shared
            if not again and any(a.sample in each.given[a.pool] for a in nested for each in self.together()):
                return False
            for sample in nested:
                self._give(sample)
            self._share(*tree)
            return True

    def give_one(self, sample: SampleRef) -> bool:
        """Give a sample from another pool than the call draws from. Return False if it was given already."""
        with _LOCK:
            if any(sample.sample in each.given[sample.pool] for each in self.together()):
                return False
            self._give(sample)
            return True

    def remember(self, execution: int) -> None:
        """Note that an execution that holds samples ran in this run. Its samples count as given already."""
        with _LOCK:
            self._share(execution)

    def since(self, mark: int) -> list[SampleRef | int]:
        """Return the samples and executions that were given since the journal had length `mark`.

        Samples that were freed again are left out.
        """
        with _LOCK:
            return [
                each
                for each in self.journal[mark:]
                if type(each) is int or (isinstance(each, SampleRef) and each.sample in self.given[each.pool])
            ]

    def go_on(self, given: Iterable[SampleRef | int]) -> None:
        """Continue a run that gave and shared these samples and executions elsewhere."""
        with _LOCK:
            for each in given:
                if not isinstance(each, SampleRef):
                    self._share(each)
                elif each.sample not in self.given[each.pool]:
                    self._give(each)

    def failed(self, call: SampleRef, trees: Sequence[tuple[Mapping[int, SampleNode], int]]) -> None:
        """Keep the samples of executions that took place inside a failed attempt at a call.

        Another attempt is given further samples, and the same effects.
        """
        with _LOCK:
            for sample in self._all(trees):
                if sample.pool in self.effects:
                    self.give_back(sample.pool, sample.sample)
                else:
                    self.attempts[call].append(sample)

    def suspended(self, trees: Sequence[tuple[Mapping[int, SampleNode], int]]) -> None:
        """Free the samples of executions inside an interrupted call, which will run again from its start."""
        with _LOCK:
            for sample in self._all(trees):
                self.give_back(sample.pool, sample.sample)

    def _all(self, trees: Sequence[tuple[Mapping[int, SampleNode], int]]) -> Iterator[SampleRef]:
        for tree, root in trees:
            node = tree[root]
            if node.pool is not None:
                yield SampleRef(node.pool, node.sample)
            yield from self._nested(tree, root)

    def attempts_before(self, call: SampleRef) -> tuple[SampleRef, ...]:
        """Return the samples that `failed` has kept for this call, and drop them."""
        with _LOCK:
            return tuple(dict.fromkeys(self.attempts.pop(call, ())))

    def _give(self, sample: SampleRef) -> None:
        for each in self.together():
            each.given[sample.pool].add(sample.sample)
        self.journal.append(sample)

    def _share(self, *executions: int) -> None:
        self.shared.update(executions)
        self.journal += executions

    def _nested(self, tree: Mapping[int, SampleNode], root: int) -> Iterator[SampleRef]:
        """Yield the samples inside an execution that giving it would give. The execution's own sample is left out."""
        yield from tree[root].attempts
        for called in tree[root].called:
            inner = tree[called]
            if inner.pool is not None:
                yield SampleRef(inner.pool, inner.sample)
            if inner.pool is not None or called not in self.shared:
                yield from self._nested(tree, called)


def _lowest(given: Collection[int], rank: int = 0) -> int:
    """Return the lowest free number; with a rank, the free number that has this many free numbers below it."""
    if not given:
        return rank
    return next(islice((n for n in count() if n not in given), rank, None))


class UnattributedSamples(Samples):
    """The samples of calls made in a thread that inherited no context while runs are open.

    Such a call may belong to any of the open runs, so none of them is given the same sample twice.
    """

    def __init__(self, runs: Collection[Run]) -> None:
        super().__init__()
        self._runs = runs

    def together(self) -> Sequence[Samples]:
        """Return this record and those of all open runs."""
        return (self, *(run.samples for run in tuple(self._runs)))


class OpenScopes:
    """The runs that are open in an engine, and the step bodies that are running.

    A thread that was started without its caller's context (`ThreadPoolExecutor.submit`) does not know where it stands.
    Its calls count as calls of every open body whose code reaches their step. Too many dependencies are a cost, and one
    too few would be a wrong replay.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[Run, int] = {}
        self._frames: dict[Frame, Frame] = {}
        self._strays: Run | None = None

    def enter(self, run: Run, frame: Frame | None = None) -> None:
        """Note that a run, or a body within a run, begins."""
        with self._lock:
            self._runs[run] = self._runs.get(run, 0) + 1
            if frame is not None:
                self._frames[frame] = frame

    def leave(self, run: Run, frame: Frame | None = None) -> None:
        """Note that a run, or a body within a run, ended.

        After a fork, the child ends bodies that began in its parent, which this record does not know.
        """
        with self._lock:
            left = self._runs.pop(run, 1) - 1
            if left:
                self._runs[run] = left
            if not self._runs:
                self._strays = None
            if frame is not None:
                self._frames.pop(frame, None)
                # Without this, each frame would keep alive all frames that were open when it began, and so on for ever.
                frame.around = [each for each in frame.around if each in self._frames]

    @property
    def is_empty(self) -> bool:
        """Tell whether no run is open and no body runs."""
        return not self._runs

    def stray(self, fresh: Run, operation: str, *, of_bodies: bool = False) -> Run:
        """Return `fresh` as the run of a call that does not know its own run.

        If the call may have come from an open run, `fresh` shares the samples of all that is open. It may have come
        from a run that a user began (unless `of_bodies`), or from a body whose code reaches its step. If all such
        bodies belong to one run, `fresh` becomes a part of that run.
        """
        if self._runs:
            with self._lock:
                begun = not of_bodies and any(run.lines is not None for run in self._runs)
                around = self._that_reach(operation)
                body = _innermost(around)
                # In a process that was forked inside a run, the history does not hold the lines of that run.
                if fresh.within is None and body is not None and body.run.owner == fresh.owner:
                    fresh.within = body.run.run_id, body.call
                if begun or around:
                    self._strays = self._strays or fresh
                    if self._strays is fresh:
                        fresh.samples = UnattributedSamples(self._runs)
                    else:
                        fresh.samples = self._strays.samples
        return fresh

    def reaching(self, operation: str, run: Run | None = None) -> list[Frame]:
        """Return the open bodies that a call of this operation may have come from.

        `run` is the call's own run, if the call knows it.
        """
        if not self._frames:
            return []
        apart = run if run is not None and run.side_by_side else None
        with self._lock:
            return [frame for frame in self._that_reach(operation) if frame.run is not apart]

    def _that_reach(self, operation: str) -> list[Frame]:
        # The call may be the operation itself, or a part that is named after it.
        names = {operation, f"{operation.rpartition('/')[0]}/{ANY}", f"{operation}/{ANY}"}
        return [frame for frame in self._frames if not names.isdisjoint(frame.reaches)]

    def within(self, body: Frame) -> list[Frame]:
        """Return the open bodies that run inside this body, with the body itself if it is open."""
        with self._lock:
            return [frame for frame in self._frames if body in frame.enclosing()]


def _innermost(bodies: Sequence[Frame]) -> Frame | None:
    """Return the body that began last, if all bodies are of one run."""
    return bodies[-1] if len({body.run for body in bodies}) == 1 else None


_CONTROL_FLOW: tuple[type[BaseException], ...] = ()
_LEAVING: tuple[type[BaseException], ...] = ()


def control_flow() -> tuple[type[BaseException], ...]:
    """Return the exceptions by which a framework steers, which are no failures at any depth of steps."""
    return _CONTROL_FLOW


def suspends(error: BaseException) -> bool:
    """Tell whether a framework interrupts a step with this error, to run the step again from its start."""
    return isinstance(error, _CONTROL_FLOW) and not isinstance(error, _LEAVING)


def add_control_flow(*exceptions: type[BaseException], leaving: Sequence[type[BaseException]] = ()) -> None:
    """Register the control-flow exceptions of a framework.

    `leaving` holds the exceptions that end a step for good, so that it is not run again.
    """
    global _CONTROL_FLOW, _LEAVING
    _CONTROL_FLOW = tuple(dict.fromkeys((*_CONTROL_FLOW, *exceptions, *leaving)))
    _LEAVING = tuple(dict.fromkeys((*_LEAVING, *leaving)))


class Scope(NamedTuple):
    """The place of a call: engine, run, enclosing body, merge parents, surroundings and mode."""

    engine: MusubitoEngine | None = None
    run: Run | None = None
    frame: Frame | None = None
    parents: tuple[MusubitoResult[Any], ...] | None = None
    ambient: AmbientContext | None = None
    mode: Mode | None = None
    """The mode that was set for the calls made here; None if only the environment sets one."""


SCOPE: Final[ContextVar[Scope]] = ContextVar("musubito", default=Scope())  # noqa: B039 - it is immutable
