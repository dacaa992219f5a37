"""Where a step call stands: its engine, its run, the step body around it, its merge context, what holds around it.

All of it is one immutable `Scope` in one context variable, so that tasks and `asyncio.to_thread` inherit it and one
look finds everything. A `Frame` is a step body that is running; what happens inside is handed up to it. A `Run` is one
top-level piece of work and keeps which samples it has given.
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

from musubito.causes import Cause
from musubito.identity.unrepeatable import Unrepeatable
from musubito.model import MusubitoResult
from musubito.store.base import Attempted, CallLine, Read, SampleNode, Use, Used

if TYPE_CHECKING:
    from musubito.engine.engine import MusubitoEngine
    from musubito.engine.file_events import BodyFiles
    from musubito.engine.modes import Mode
    from musubito.identity.fingerprint import Fingerprint

__all__ = [
    "ANY",
    "SCOPE",
    "Ambient",
    "Frame",
    "HandUp",
    "Open",
    "Run",
    "Samples",
    "Scope",
    "Usage",
    "add_control_flow",
    "control_flow",
    "suspends",
]


class Ambient(Protocol):
    """What holds around steps without being an argument; an adapter for a framework fills it.

    One that also has a method `doubts(code)` says by it why a step of this code cannot be replayed, or gives None. One
    that has a method `named(kind, key)` says by it what a reader is to call a read, "" if that has no name.
    """

    def inputs(self, code: Fingerprint, given: Sequence[Fingerprint]) -> Mapping[str, object]:
        """What counts as input of a step of this code in this scope (a user, a context, a configuration); canonical
        values. `given`: the code of the classes whose instances it is given."""

    def observe(self, kind: str, key: str) -> Any:
        """The digest (bytes) of what a read would find now, None if it is not there; may be awaitable."""


Usage: TypeAlias = Mapping[str, Sequence[int]]
"""Tokens by model: those that went in, and those that came out."""
NO_USAGE: Final[Usage] = MappingProxyType({})


class HandUp(NamedTuple):
    """What a call leaves behind for the execution around it."""

    uses: Sequence[Use]
    reads: Sequence[Read]
    valid_from: float | None
    valid_until: float | None
    not_replayable: str | None
    samples: bool
    """Whether it is a sample or holds some."""
    usage: Usage = NO_USAGE
    """What it took, as if every call inside it had run."""
    saved_ms: float = 0.0
    """What it would have taken longer if it, or all calls inside it, had run."""


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
        # The body that it was called in; more than one where that is not known (see `Open`).
        self.around: Sequence[Frame] = () if outer is None else (outer,)
        self.node = node
        self.run = run
        self.call = call
        # The operations that its code reaches; see `ANY`.
        self.reaches = reaches
        self.loop = loop
        self.thread = threading.get_ident()
        self.ended = False
        self.flight: bytes | None = None
        # What it reads of files; None where that is not watched.
        self.files: BodyFiles | None = None
        self.idempotency_key: str | None = None
        self.lock = threading.Lock()
        self.uses: list[Use] = []
        self.reads: list[Read] = []
        self.valid_from: float | None = None
        self.valid_until: float | None = None
        self.not_replayable: str | None = None
        self.samples = False
        # How many inside it are being iterated. Until one ends, what it depends on is not handed up.
        self.streams = 0
        # What its own models have used, and what the calls inside it took.
        self.tokens: dict[str, list[int]] = {}
        self.inside: dict[str, list[int]] = {}
        # What replays inside it saved.
        self.saved_ms = 0.0
        # What it asked for itself that is another each time (see `engine.outside`), each once.
        self.asked: dict[Unrepeatable, None] = {}

    def take(self, given: HandUp) -> None:
        """What a call inside depended on, this one depends on too. Calls may end in several threads at once."""
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

    def end(self) -> HandUp:
        """All that it took: it has returned. What comes later is not in its record, which is not replayed then."""
        self.ended = True
        return self.taken()

    def taken(self) -> HandUp:
        """All that it took so far."""
        with self.lock:
            still_open = Cause.STREAM_LEFT_OPEN.of() if self.streams else None
            return HandUp(
                # Each once: calls that stand in several bodies, as those of a recursion may, hand up to each other.
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
        """What it has used so far, by model."""
        models = dict.fromkeys((*self.tokens, *self.inside))
        return [_used(model, self.tokens.get(model, NOTHING), self.inside.get(model, NOTHING)) for model in models]

    def uses_tokens(self, model: str, tokens_in: int, tokens_out: int) -> None:
        """A model that it asked has used these."""
        model = model.encode("utf-8", "backslashreplace").decode()  # no store holds lone surrogates
        with self.lock:
            add_usage(self.tokens, model, tokens_in, tokens_out)

    def stream_begins(self) -> None:
        """A stream inside it is iterated from now on."""
        with self.lock:
            self.streams += 1

    def stream_ended(self) -> None:
        """It has handed up what it depended on."""
        with self.lock:
            self.streams -= 1

    def enclosing(self) -> Iterator[Frame]:
        """This frame and all around it, from the inside out."""
        ahead = [self]
        for frame in ahead:
            yield frame
            ahead += [each for each in frame.around if each not in ahead]


NOTHING: Final = (0, 0)
ANY: Final = "*"
"""In place of the last part of a name, among the operations that code reaches: those of an adapter that are known only
when they are called."""


def _used(model: str, own: Sequence[int], inside: Sequence[int]) -> Used:
    return Used(model, own[0], own[1], own[0] + inside[0], own[1] + inside[1])


def add_usage(usage: dict[str, list[int]], model: str, tokens_in: int, tokens_out: int) -> None:
    """Those of one model more."""
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
        """`within`: the id of the run that it is a part of, which may be another engine's, and the call of that one
        inside of which it begins. `owner`: the engine of the process in which it began, which a fork is not."""
        self.owner = owner
        self.number = number
        self.within = within
        self.started_at = started_at
        self.name = name
        self.tags = tags
        self.finished_at: float | None = None
        self.status = "running"
        # Of a framework: what it calls without a body around is in no body of this run, though that may reach it.
        self.side_by_side = False
        # Nothing runs in it, so it must not begin a namespace, with its engine's key or without one.
        self.only_asks = False
        self.calls = count(1)
        # Kept only for a run that somebody holds in his hands.
        self.lines: list[CallLine] | None = None
        self._samples: Samples | None = None

    @property
    def run_id(self) -> bytes:
        """Unique, and in the order of time within a process."""
        return self.owner + self.number.to_bytes(5, "big")

    @property
    def samples(self) -> Samples:
        """What it has given so far; most runs never ask."""
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
        """Whether it ever asked."""
        return self._samples is not None


_LOCK: Final = threading.RLock()
"""For all samples: what is looked up and given under it takes microseconds."""
if hasattr(os, "register_at_fork"):
    # A child must not find it locked by a thread that it does not have.
    os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)


class Turn(NamedTuple):
    """Of equal calls that are made side by side, which one a call is, so that their samples do not go by who happens to
    be first."""

    rank: int
    before: dict[bytes, frozenset[int]]
    """By pool: what had been given before the first of them asked. All of them have this one."""


class Samples:
    """Which samples a run has given, so that each is given at most once.

    `given`: pool -> numbers. `shared`: executions that hold samples and were given as a whole; a DETERMINISTIC one may
    be given again. `attempts`: samples given inside failed attempts at a call, which the next execution of it
    remembers. `effects`: the pools that are no samples but effects, of which a further attempt repeats none. `journal`:
    all that was given or shared, in that order, what was given back among it.
    """

    def __init__(self) -> None:
        self.given: defaultdict[bytes, set[int]] = defaultdict(set)
        self.shared: set[int] = set()
        self.effects: set[bytes] = set()
        self.journal: list[Attempted | int] = []
        self.attempts: defaultdict[Attempted, list[Attempted]] = defaultdict(list)

    def together(self) -> Sequence[Samples]:
        """All in which a sample must not have been given before, and counts as given from now on."""
        return (self,)

    def copy(self) -> Samples:
        """The same, which from now on goes its own way."""
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

    def next_number(self, pool: bytes, turn: Turn | None = None) -> int:
        """The lowest number that was not given yet, or that of this turn; it counts as given from now on."""
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
            self._give(Attempted(pool, number))
            return number

    def give_back(self, pool: bytes, number: int) -> None:
        """The call failed, so its sample is still to be given."""
        with _LOCK:
            for each in self.together():
                each.given[pool].discard(number)

    def give(self, tree: Mapping[int, SampleNode], root: int) -> bool:
        """Give an execution with all samples nested in it; False, and nothing is given, if one was given already."""
        with _LOCK:
            nested = list(self._nested(tree, root))
            again = tree[root].pool is None and root in self.shared
            if not again and any(a.sample in each.given[a.pool] for a in nested for each in self.together()):
                return False
            for sample in nested:
                self._give(sample)
            self._share(*tree)
            return True

    def give_one(self, sample: Attempted) -> bool:
        """Give a sample of another pool than the call draws from; False if it was given already."""
        with _LOCK:
            if any(sample.sample in each.given[sample.pool] for each in self.together()):
                return False
            self._give(sample)
            return True

    def remember(self, execution: int) -> None:
        """An execution that holds samples has just run in this run: its samples are given already."""
        with _LOCK:
            self._share(execution)

    def since(self, mark: int) -> list[Attempted | int]:
        """What was given or shared since the journal was so long, and was not given back."""
        with _LOCK:
            return [
                each
                for each in self.journal[mark:]
                if type(each) is int or (isinstance(each, Attempted) and each.sample in self.given[each.pool])
            ]

    def go_on(self, given: Iterable[Attempted | int]) -> None:
        """The run goes on that gave and shared these elsewhere."""
        with _LOCK:
            for each in given:
                if not isinstance(each, Attempted):
                    self._share(each)
                elif each.sample not in self.given[each.pool]:
                    self._give(each)

    def failed(self, call: Attempted, trees: Sequence[tuple[Mapping[int, SampleNode], int]]) -> None:
        """These executions took place inside a failed attempt at a call. Another attempt is given further samples, and
        the same effects."""
        with _LOCK:
            for sample in self._all(trees):
                if sample.pool in self.effects:
                    self.give_back(sample.pool, sample.sample)
                else:
                    self.attempts[call].append(sample)

    def suspended(self, trees: Sequence[tuple[Mapping[int, SampleNode], int]]) -> None:
        """These took place inside a call that was interrupted, and that will be made once more from its start."""
        with _LOCK:
            for sample in self._all(trees):
                self.give_back(sample.pool, sample.sample)

    def _all(self, trees: Sequence[tuple[Mapping[int, SampleNode], int]]) -> Iterator[Attempted]:
        for tree, root in trees:
            node = tree[root]
            if node.pool is not None:
                yield Attempted(node.pool, node.sample)
            yield from self._nested(tree, root)

    def attempts_before(self, call: Attempted) -> tuple[Attempted, ...]:
        """What `failed` has kept for this call; kept no longer."""
        with _LOCK:
            return tuple(dict.fromkeys(self.attempts.pop(call, ())))

    def _give(self, sample: Attempted) -> None:
        for each in self.together():
            each.given[sample.pool].add(sample.sample)
        self.journal.append(sample)

    def _share(self, *executions: int) -> None:
        self.shared.update(executions)
        self.journal += executions

    def _nested(self, tree: Mapping[int, SampleNode], root: int) -> Iterator[Attempted]:
        """The samples in an execution, itself left out, that giving it would give."""
        yield from tree[root].attempts
        for called in tree[root].called:
            inner = tree[called]
            if inner.pool is not None:
                yield Attempted(inner.pool, inner.sample)
            if inner.pool is not None or called not in self.shared:
                yield from self._nested(tree, called)


def _lowest(given: Collection[int], rank: int = 0) -> int:
    """The lowest number that is not among these; or, of those, the one that so many are lower than."""
    if not given:
        return rank
    return next(islice((n for n in count() if n not in given), rank, None))


class Strays(Samples):
    """For calls made in a thread that inherited no context while runs are open: each may belong to any of them, so a
    sample is given to none of them twice."""

    def __init__(self, runs: Collection[Run]) -> None:
        super().__init__()
        self._runs = runs

    def together(self) -> Sequence[Samples]:
        """Itself and all that is open."""
        return (self, *(run.samples for run in tuple(self._runs)))


class Open:
    """What is open in an engine: runs, and step bodies that are running.

    A thread that was started without its caller's context (`ThreadPoolExecutor.submit`) does not know where it stands.
    Its calls are taken for calls of every open body whose code reaches their step: too many dependencies are a cost,
    one too few would be a wrong replay.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[Run, int] = {}
        self._frames: dict[Frame, Frame] = {}
        self._strays: Run | None = None

    def enter(self, run: Run, frame: Frame | None = None) -> None:
        """A run, or a body within one, begins."""
        with self._lock:
            self._runs[run] = self._runs.get(run, 0) + 1
            if frame is not None:
                self._frames[frame] = frame

    def leave(self, run: Run, frame: Frame | None = None) -> None:
        """It ended. After a fork, the child ends what began in its parent, of which nothing is known here."""
        with self._lock:
            left = self._runs.pop(run, 1) - 1
            if left:
                self._runs[run] = left
            if not self._runs:
                self._strays = None
            if frame is not None:
                self._frames.pop(frame, None)
                # Else each would keep alive whatever was open when it began, and that what was open before.
                frame.around = [each for each in frame.around if each in self._frames]

    @property
    def is_empty(self) -> bool:
        """Whether no run is open and no body runs."""
        return not self._runs

    def stray(self, fresh: Run, operation: str, *, of_bodies: bool = False) -> Run:
        """The run of a call that does not know its own: `fresh`, with the samples of all that is open if it may have
        come from there: from a run that somebody began (unless only `of_bodies`), or from a body whose code reaches its
        step. If that body can only be one of one run, it is a part of that."""
        if self._runs:
            with self._lock:
                begun = not of_bodies and any(run.lines is not None for run in self._runs)
                around = self._that_reach(operation)
                body = _innermost(around)
                # In a process that was forked inside a run the lines of that run are not here.
                if fresh.within is None and body is not None and body.run.owner == fresh.owner:
                    fresh.within = body.run.run_id, body.call
                if begun or around:
                    self._strays = self._strays or fresh
                    if self._strays is fresh:
                        fresh.samples = Strays(self._runs)
                    else:
                        fresh.samples = self._strays.samples
        return fresh

    def reaching(self, operation: str, run: Run | None = None) -> list[Frame]:
        """The open bodies that a call of this operation may have come from; `run`: its own, if it knows that."""
        if not self._frames:
            return []
        apart = run if run is not None and run.side_by_side else None
        with self._lock:
            return [frame for frame in self._that_reach(operation) if frame.run is not apart]

    def _that_reach(self, operation: str) -> list[Frame]:
        # It may be one of those itself, or what they are called after.
        names = {operation, f"{operation.rpartition('/')[0]}/{ANY}", f"{operation}/{ANY}"}
        return [frame for frame in self._frames if not names.isdisjoint(frame.reaches)]

    def within(self, body: Frame) -> list[Frame]:
        """This body, if it is open, and the open ones that run inside it."""
        with self._lock:
            return [frame for frame in self._frames if body in frame.enclosing()]


def _innermost(bodies: Sequence[Frame]) -> Frame | None:
    """The last one that began, if all are of one run."""
    return bodies[-1] if len({body.run for body in bodies}) == 1 else None


_CONTROL_FLOW: tuple[type[BaseException], ...] = ()
_LEAVING: tuple[type[BaseException], ...] = ()


def control_flow() -> tuple[type[BaseException], ...]:
    """Exceptions by which a framework steers: no failures, at whatever depth they pass through a step."""
    return _CONTROL_FLOW


def suspends(error: BaseException) -> bool:
    """Whether a framework interrupts with it what it will run again from its start."""
    return isinstance(error, _CONTROL_FLOW) and not isinstance(error, _LEAVING)


def add_control_flow(*exceptions: type[BaseException], leaving: Sequence[type[BaseException]] = ()) -> None:
    """A framework's adapter registers its exceptions; `leaving`: what ends a step for good, which is not run again."""
    global _CONTROL_FLOW, _LEAVING
    _CONTROL_FLOW = tuple(dict.fromkeys((*_CONTROL_FLOW, *exceptions, *leaving)))
    _LEAVING = tuple(dict.fromkeys((*_LEAVING, *leaving)))


class Scope(NamedTuple):
    """Where a call stands."""

    engine: MusubitoEngine | None = None
    run: Run | None = None
    frame: Frame | None = None
    parents: tuple[MusubitoResult[Any], ...] | None = None
    ambient: Ambient | None = None
    mode: Mode | None = None
    """The mode that was said for what is called here; None if only the environment says one."""


SCOPE: Final[ContextVar[Scope]] = ContextVar("musubito", default=Scope())  # noqa: B039 - it is immutable
