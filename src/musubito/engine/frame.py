"""Hold a step body that is running, with everything it depends on besides its input, and the run that it belongs to.

The calls inside a body hand their dependencies up to its `Frame`. A `Run` is one top-level piece of work, and keeps the
samples that it has given.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import count
from math import inf
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from musubito.code.unrepeatable import MOST, Unrepeatable
from musubito.deferred import asyncio
from musubito.dependencies.body_files import BodyFiles
from musubito.engine.recorded_inputs import Redact
from musubito.engine.run_input import GivenToRun
from musubito.engine.samples import LOCK, Samples
from musubito.model import StepDefinition
from musubito.reasons import ReplayReason
from musubito.store.protocol import Store
from musubito.store.rows import CallDependency, CallLine, ExternalRead, Used

Usage: TypeAlias = Mapping[str, Sequence[int]]
"""Tokens by model: the number of input tokens and the number of output tokens."""
NO_USAGE: Final[Usage] = MappingProxyType({})


class Work(NamedTuple):
    """The work of a call that has ended: when it was here (by `time.perf_counter`), and what it took or saved.

    `compute_ms` is its compute with all calls inside, as if each had run. `saved_ms` is the time of the clock that was
    saved, by estimate: a replayed execution began at `started_at` and took so long.
    """

    began: float
    ended: float
    compute_ms: float
    started_at: float
    saved_ms: float


class Costs(NamedTuple):
    """The compute of a body without and with the calls inside it, and the time of the clock that replays inside saved.

    `total_ms` is None if there was no call inside.
    """

    own_ms: float
    total_ms: float | None
    saved_ms: float


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
    live: str | None = None
    """The name of a step that runs each time, and that ran: the call itself, or a call inside it."""
    work: Work | None = None
    """The work of the call; None if no call hands up these dependencies."""


class BodyKeeper(Protocol):
    """The part of the background thread that a body uses."""

    def revoke(self, node: bytes) -> None:
        """Invalidate the execution at this node in the next round."""


class OpenBodies(Protocol):
    """The part of an engine's open bodies that an adapter uses."""

    def within(self, body: Frame) -> list[Frame]:
        """Return the open bodies that run inside this body, with the body itself if it is open."""


class BodyHost(Protocol):
    """The part of an engine that a running body uses."""

    owner: bytes
    storage: Store
    url: str | None
    redact: Redact | None
    _answers_in_order: bool
    """Whether questions to persons and what their answers led to are recorded, to be given in that order."""

    @property
    def keeper(self) -> BodyKeeper:
        """The background thread."""

    @property
    def open(self) -> OpenBodies:
        """The bodies that are open."""

    def _digest_of_read(self, digest: Any) -> Any:
        """Return the digest of a read as it is stored."""


class Frame:
    """A step body that is running, and everything it depends on besides its input."""

    def __init__(
        self,
        engine: BodyHost,
        around: Sequence[Frame],
        node: bytes,
        run: Run,
        call: int,
        reaches: Collection[str],
        loop: asyncio.AbstractEventLoop | None,
        definition: StepDefinition,
        ambient: Any = None,
    ) -> None:
        self.engine = engine
        self.definition = definition
        self.around = around
        """The bodies that this body was called in; several where the right one is not known (see `OpenScopes`)."""
        self.node = node
        self.run = run
        self.call = call
        self.reaches = reaches
        """The operations that the body's code reaches (see `ANY`)."""
        self.loop = loop
        self.ambient = ambient
        """The surroundings of the body's call (see `AmbientContext`)."""
        self.thread: int = threading.get_ident()
        self.ended = False
        self.flight: bytes | None = None
        self.files: BodyFiles | None = None
        """The files that the body reads; None where files are not watched."""
        self.idempotency_key: str | None = None
        self.lock: threading.Lock = threading.Lock()
        self.uses: list[CallDependency] = []
        self.reads: list[ExternalRead] = []
        self.valid_from: float | None = None
        self.valid_until: float | None = None
        self.not_replayable: str | None = None
        self.live: str | None = None
        self.samples = False
        self.streams = 0
        """The number of streams inside the body that are iterated. A stream hands up its dependencies when it ends."""
        self.tokens: dict[str, list[int]] = {}
        """The tokens of the body's own models."""
        self.inside: dict[str, list[int]] = {}
        """The tokens of the calls inside the body."""
        self.work: list[Work] = []
        """The work of the calls inside the body."""
        self.spans: Any = None
        """What the observer of the engine keeps for the body."""
        self.asked: dict[Unrepeatable, None] = {}
        """The things outside that the body opened or wrote (see `engine.connections`), each once."""

    def absorb(self, dependencies: Dependencies) -> None:
        """Add the dependencies of a call inside this body. Calls may end in several threads at once."""
        if self.ended and (dependencies.not_replayable or dependencies.live):
            self.engine.keeper.revoke(self.node)
        with self.lock:
            self.uses += dependencies.uses
            files = self.files
            self.reads += (
                dependencies.reads if files is None or not files.written else files.without_own(dependencies.reads)
            )
            self.valid_from = latest(self.valid_from, dependencies.valid_from)
            self.valid_until = earliest(self.valid_until, dependencies.valid_until)
            self.not_replayable = self.not_replayable or dependencies.not_replayable
            self.live = self.live or dependencies.live
            self.samples = self.samples or dependencies.samples
            if dependencies.work is not None:
                self.work.append(dependencies.work)
            for model, (tokens_in, tokens_out) in dependencies.usage.items():
                add_usage(self.inside, model, tokens_in, tokens_out)

    def note_outside(self, kind: str, what: str) -> None:
        """Note that the body did something of this kind outside of the process."""
        if len(self.asked) < MOST:
            what = what.encode("utf-8", "backslashreplace").decode()  # no store holds lone surrogates
            self.asked[Unrepeatable(kind, what)] = None

    def add_reads(self, reads: Sequence[ExternalRead], not_replayable: str | None) -> None:
        """Add the files that the body itself read. The body has ended."""
        with self.lock:
            self.reads += reads
            self.not_replayable = self.not_replayable or not_replayable

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
            still_open = ReplayReason.CALL_NOT_RECORDED.of("a stream that is still open") if self.streams else None
            return Dependencies(
                # Each once: calls that stand in several bodies, as the calls of a recursion may, hand up to each other.
                tuple(dict.fromkeys(self.uses)),
                tuple(dict.fromkeys(self.reads)),
                self.valid_from,
                self.valid_until,
                self.not_replayable or still_open,
                self.samples,
                {used.model: used[3:] for used in self.used()} if self.tokens or self.inside else NO_USAGE,
                self.live,
            )

    def costs(self, duration_ms: float) -> Costs:
        """Return the costs of the body, which took so long: calls that were inside it side by side count once."""
        work = self.work
        if not work:
            return Costs(duration_ms, None, 0.0)
        own_ms = max(0.0, duration_ms - 1000 * covered((call.began, call.ended) for call in work))
        saved = ((call.started_at, call.started_at + call.saved_ms / 1000) for call in work if call.saved_ms)
        return Costs(own_ms, own_ms + sum(call.compute_ms for call in work), 1000 * covered(saved))

    def used(self) -> list[Used]:
        """Return the tokens that the body has used so far, by model."""
        if not self.tokens and not self.inside:
            return []
        models = dict.fromkeys((*self.tokens, *self.inside))
        pairs = ((model, self.tokens.get(model, NOTHING), self.inside.get(model, NOTHING)) for model in models)
        return [Used(model, own[0], own[1], own[0] + inner[0], own[1] + inner[1]) for model, own, inner in pairs]

    def uses_tokens(
        self, model: str, tokens_in: int, tokens_out: int, cache_read: int = 0, cache_write: int = 0
    ) -> None:
        """Add tokens that a model used for this body.

        `cache_read` and `cache_write` are parts of `tokens_in`. As they have prices of their own, they are kept like
        the tokens of models of their own. Without a name of a model there is no price, and they stay in `tokens_in`.
        """
        model = model.encode("utf-8", "backslashreplace").decode()  # no store holds lone surrogates
        cached = {CACHE_READ: cache_read, CACHE_WRITE: cache_write} if model else {}
        with self.lock:
            add_usage(self.tokens, model, tokens_in - sum(cached.values()), tokens_out)
            for kind, tokens in cached.items():
                if tokens:
                    add_usage(self.tokens, model + kind, tokens, 0)

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
            ahead += [outer for outer in frame.around if outer not in ahead]


NOTHING: Final = (0, 0)
ANY: Final = "*"
"""In place of the last part of a name, among the operations that code reaches.

It stands for an adapter's operations whose names are known only when they are called.
"""


CACHE_READ: Final = " (cache read)"
CACHE_WRITE: Final = " (cache write)"
"""The ends of names under which tokens are kept that a model's server read from its cache, or wrote to it."""


def add_usage(usage: dict[str, list[int]], model: str, tokens_in: int, tokens_out: int) -> None:
    """Add one model's tokens to `usage`."""
    sums = usage.setdefault(model, [0, 0])
    sums[0] += tokens_in
    sums[1] += tokens_out


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return how long spans of time last together; a time that lies in several of them counts once."""
    total, until = 0.0, -inf
    for began, ended in sorted(spans):
        if ended > until:
            total += ended - max(began, until)
            until = ended
    return total


def latest(a: float | None, b: float | None) -> float | None:
    """Return the later of two times, of which each may be none."""
    return a if b is None else b if a is None else max(a, b)


def earliest(a: float | None, b: float | None) -> float | None:
    """Return the earlier of two times, of which each may be none."""
    return a if b is None else b if a is None else min(a, b)


class Run:
    """One top-level piece of work.

    `within` is the id of the enclosing run, and the call of that run inside which this run begins. The enclosing run
    may be another engine's. `owner` is the id of the engine in the process where the run began. A forked process has
    another id.
    """

    def __init__(
        self,
        number: int,
        started_at: float,
        name: str | None = None,
        tags: str | None = None,
        within: tuple[bytes, int | None] | None = None,
        owner: bytes = b"",
    ) -> None:
        self.number = number
        self.started_at = started_at
        self.name = name
        self.tags = tags
        self.within = within
        self.owner = owner
        self.finished_at: float | None = None
        self.status: str = "running"
        self.side_by_side = False
        """Set for a run of a framework.

        A call that the framework makes outside any body belongs to no body of this run, even if a body's code reaches
        the step.
        """
        self.given: GivenToRun | None = None
        """What the run was given, until it is written."""
        self.only_asks = False
        """Set if nothing runs in the run. Such a run must not begin a namespace, with its engine's key or without."""
        self.shape: str | None = None
        """The shape of the first graph that ran in it, as JSON."""
        self.calls: count[int] = count(1)
        self.lines: list[CallLine] | None = None
        """Kept only for a run that the user holds, to show its calls."""
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
            with LOCK:
                samples = self._samples = self._samples or Samples()
        return samples

    @samples.setter
    def samples(self, samples: Samples) -> None:
        self._samples = samples

    @property
    def gives_samples(self) -> bool:
        """Tell whether the run has ever needed its record of samples."""
        return self._samples is not None
