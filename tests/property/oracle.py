"""What truly happened, and what has to follow from it.

Each execution leaves a `Truth`: what it was asked, what it called and was given, what it read, when. It is put together
from the outside (which body ran inside which, what the store answered), and no rule of the engine is used to judge it:

- a replay must be one that running it now could have given: nothing it was built on has expired, was read differently,
  was superseded or invalidated, all the way down; and it must be of the same code, input and parents;
- a call must not run if such an execution was there all the while;
- within a run each sample is given in one place only, and in a first run none is replayed at all;
- equal calls have equal ids, different ones different ids.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from musubito.model import UNSTORABLE, MusubitoResult
from musubito.policy import SKEW
from tests.property.world import Step, Violation, World

Id = tuple[Any, ...]


class Place(NamedTuple):
    """Where a call asks: its node, and what it depends on by content."""

    node: Hashable
    reuse: Hashable


@dataclass(eq=False)
class Truth:
    """An actual run of a step."""

    step: Step
    place: Place
    cross: Hashable
    sample: tuple[bytes, int] | None
    began: int
    at: float
    replayable: bool = True
    inner: list[tuple[Place, Truth, Id]] = field(default_factory=list)
    reads: list[tuple[str, Any]] = field(default_factory=list)
    artifact: Id = ()
    within: list[Truth] = field(default_factory=list)
    """Calls inside that left no result: they failed, or went unrecorded."""
    attempts: list[tuple[bytes, int]] = field(default_factory=list)
    burdened: bool = False
    """It was handed up what other calls depended on, so it may run again where that would not be needed."""
    condemned: bool = False
    """Invalidated by hand, or committed INVALID."""
    holds_live: bool = False
    """Something ran inside that runs each time."""
    is_live: bool = False
    """It runs each time, or holds what does and nobody answers for that. It was right when it was given."""


@dataclass(eq=False)
class RunTruth:
    """What a run has been given."""

    places: dict[Truth, set[Hashable]] = field(default_factory=dict)
    shared: set[Truth] = field(default_factory=set)
    attempts: defaultdict[Hashable, list[tuple[bytes, int]]] = field(default_factory=lambda: defaultdict(list))
    burdened: set[Hashable] = field(default_factory=set)
    """Calls with an attempt that was burdened: the execution that remembers the attempt is burdened by it, too."""


class Oracle:
    """Keeps the truth about one world and raises `Violation`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ticks = 0
        self.by_hand: dict[Hashable, int] = {}
        self.holders: defaultdict[Place, list[Truth]] = defaultdict(list)
        self.by_content: defaultdict[Hashable, set[Truth]] = defaultdict(set)
        self.replaced: defaultdict[Hashable, set[Id]] = defaultdict(set)
        self.under: defaultdict[Hashable, list[Truth]] = defaultdict(list)
        self.points: dict[Hashable, Truth] = {}
        self.executions: dict[int, Truth] = {}
        self.fresh = False
        self._judging: set[Truth] = set()
        self._judged: dict[tuple[Truth, bool, bool], str | None] = {}
        self.replays = self.runs = self.unrecorded = 0
        self._known: dict[tuple[str, Hashable], Hashable] = {}

    def tick(self) -> int:
        self.ticks += 1
        return self.ticks

    def same(self, kind: str, real: bytes, true: Hashable) -> None:
        """These two belong together, and to no other."""
        for key, other in ((("real " + kind, real), true), (("true " + kind, true), real)):
            if self._known.setdefault(key, other) != other:
                raise Violation(f"{key[0]}: {key[1]!r} is {other!r}, and was {self._known[key]!r}")

    def artifact(self, result: MusubitoResult[Any]) -> Id:
        if result.artifact_id.startswith(UNSTORABLE):
            return "unstorable", result.artifact_id
        return "is", repr(result.value)

    # -- what happens ------------------------------------------------------------------------------------------------
    def recorded(self, truth: Truth, execution: int, *, invalid: bool) -> None:
        """A successful execution was committed."""
        self.executions[execution] = truth
        self.under[truth.place.reuse].append(truth)
        truth.condemned |= invalid
        if not invalid:
            self.answers(truth.place, truth)
        elif self.replaces_itself(truth, truth):
            self.replaced[truth.place.reuse].add(truth.artifact)

    def answers(self, place: Place, truth: Truth) -> None:
        """This place answers with this execution from now on."""
        self.holders[place].append(truth)
        self.points[place.node] = truth
        self.by_content[place.reuse].add(truth)

    def replaces_itself(self, e: Truth, within: Truth) -> bool:
        """Whether it was built on another answer to its own call. It replaced that, and whatever else was built on that
        is superseded with it, although it was committed INVALID: it is one of those. (s2 calls s2, and gives "2" where
        the one inside gave "1": s0, which was given "1" before, must not stand as if s2 still gave "1".)"""
        return any(
            (e.place.reuse in (place.reuse, used.place.reuse) and artifact != e.artifact)
            or self.replaces_itself(e, used)
            for place, used, artifact in within.inner
        ) or any(self.replaces_itself(e, each) for each in within.within)

    def invalidated(self, what: Hashable) -> None:
        """By hand: the name of an operation, or a node."""
        self.by_hand[what] = self.tick()
        pointed = self.points.get(what)
        for truth in self.executions.values():
            if truth is pointed or what in (truth.step.name, truth.place.node):
                truth.condemned = True

    # -- whether it is right now -------------------------------------------------------------------------------------
    def wrong(self, e: Truth, *, strict: bool = False, ever: bool = False) -> str | None:
        """Why giving this execution back now would be wrong.

        `strict`: nor was anything it used superseded since it was given last; `ever`: nor before that, nor elsewhere.
        """
        if e in self._judging:
            # It stands in the place of what it called itself: whether that lets it be given is left open.
            return f"{e.step.name} called itself" if strict else None
        if not self._judging:
            self._judged.clear()
        key = e, strict, ever
        if key not in self._judged:
            self._judging.add(e)
            try:
                self._judged[key] = self._wrong(e, strict=strict, ever=ever)
            finally:
                self._judging.discard(e)
        return self._judged[key]

    def _wrong(self, e: Truth, *, strict: bool, ever: bool) -> str | None:
        by_hand = max(self.by_hand.get(e.step.name, 0), self.by_hand.get(e.place.node, 0))
        if e.condemned or (e.artifact and by_hand > e.began):
            return f"{e.step.name} was invalidated"
        if e.step.ttl is not None and not -SKEW <= self.world.now - e.at < e.step.ttl:
            return f"{e.step.name} has expired"
        if any(self.world.stored.get(key) != value for key, value in e.reads):
            return f"{e.step.name} read something that has changed"
        for place, used, artifact in e.inner:
            if used.is_live:
                reason = self.wrong(used)
            else:
                reason = self._wrong_inside(place, used, artifact, strict=strict, ever=ever)
            if reason:
                return f"{reason}, in {e.step.name}"
        reasons = (self.wrong(each, strict=strict, ever=ever) for each in e.within)
        return next((f"{reason}, within {e.step.name}" for reason in reasons if reason), None)

    def _wrong_inside(self, place: Place, used: Truth, artifact: Id, *, strict: bool, ever: bool) -> str | None:
        held = self.holders[place]
        since = held[max(i for i, each in enumerate(held) if each is used) :] if used in held else held
        if ever:
            keys = place.reuse, used.place.reuse
            since = [each for key in keys for each in self.by_content[key]]
            if any(other != artifact for key in keys for other in self.replaced[key]):
                return f"{used.step.name} was superseded once"
        elif (since or [used])[-1].artifact != artifact:
            return f"{used.step.name} was superseded"
        if strict and any(each.artifact != artifact for each in since):
            return f"{used.step.name} was superseded once"
        if strict:
            reasons = [self.wrong(each, strict=strict, ever=ever) for each in (used, *since)]
            return next(filter(None, reasons), None)
        stands = held[-1] if held and held[-1].artifact == artifact else used
        reasons = [self.wrong(used), self.wrong(stands)]
        return reasons[0] if all(reasons) else None

    def check_sample_is_new(self, found: Truth) -> None:
        if self.fresh and found.step.varies:
            raise Violation(f"a sample of {found.step.name} was replayed in a first run")

    # -- whether it had to run ---------------------------------------------------------------------------------------
    def ready(self, reuse: Hashable, run: RunTruth, given: dict[bytes, set[int]], *, is_configured: bool) -> set[Truth]:
        """The executions that a call would have to be answered with now, but for a lasting INVALID."""
        return {
            e
            for e in self.under[reuse]
            if e.replayable
            and (is_configured or not e.holds_live)
            and not self.is_burdened(e)
            and not self.holds_given(e, run, given)
            and not self.wrong(e, strict=True)
            and not self.wrong(e, strict=True, ever=True)
        }

    def is_burdened(self, e: Truth) -> bool:
        return e.burdened or any(map(self.is_burdened, (*(used for _, used, _ in e.inner), *e.within)))

    def holds_given(self, e: Truth, run: RunTruth, given: dict[bytes, set[int]]) -> bool:
        if not e.step.varies and e in run.shared:
            return False
        return any(number in given.get(pool, ()) for pool, number in self.numbers(e, run))

    def numbers(self, e: Truth, run: RunTruth) -> Iterator[tuple[bytes, int]]:
        yield from e.attempts
        for _, used, _ in e.inner:
            if used.sample is not None:
                yield used.sample
            if used.sample is not None or used not in run.shared:
                yield from self.numbers(used, run)
        for each in e.within:
            yield from self.numbers(each, run)

    # -- samples -----------------------------------------------------------------------------------------------------
    def samples(self, e: Truth, place: Hashable) -> Iterator[tuple[Truth, Hashable]]:
        """Every sample that is given with it, and where. A DETERMINISTIC execution that is shared is one place."""
        if e.step.varies:
            yield e, place
        for i, (_, used, _) in enumerate(e.inner):
            yield from self.samples(used, (e.began, i))
        for each in e.within:
            yield from self.samples(each, (each.began, -1))

    def give(self, run: RunTruth, e: Truth, place: Hashable, *, replayed: bool) -> None:
        """A run is given an execution."""
        self._place(run, self.samples(e, place) if replayed else [(e, place)])
        self._share(run, e, deep=replayed)

    def give_within(self, run: RunTruth, failed: Truth) -> None:
        """A run is given the failure of a call, and with it the samples that it came of."""
        for i, (_, used, _) in enumerate(failed.inner):
            self._place(run, self.samples(used, (failed.began, i)))
        for each in failed.within:
            self.give_within(run, each)

    def _place(self, run: RunTruth, samples: Iterable[tuple[Truth, Hashable]]) -> None:
        given: defaultdict[Truth, set[Hashable]] = defaultdict(set)
        for sample, where in samples:
            if sample.step.varies:
                given[sample].add(where)
        for sample, places in given.items():
            if not places <= run.places.setdefault(sample, set(places)):
                raise Violation(f"one sample of {sample.step.name} was given twice in a run")

    def _share(self, run: RunTruth, e: Truth, *, deep: bool) -> None:
        run.shared.add(e)
        if deep:
            for _, used, _ in e.inner:
                self._share(run, used, deep=True)
