"""Share the fingerprints of graphs that a program makes again and again of the same code.

A program may build its graph anew for each request, of new closures, tools and models. To walk all that its code
reaches takes tens of milliseconds. So from the third graph on, steps that are arranged as those of an earlier graph
have the fingerprints of those steps (see `musubito.code.arrangement`). Nothing of the earlier graph is kept alive but
the things of modules that its code names.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from musubito.code.arrangement import Arrangement, arrangement_of
from musubito.code.fingerprint import CodeTracker, Fingerprint
from musubito.code.guard import Guard
from musubito.code.reachable_code import ReachableCode

MOST_KEPT: Final = 256
"""Number of graphs whose fingerprints are kept."""
MOST_ALIKE: Final = 8
"""Number of arrangements that are kept of each graph."""

Held: TypeAlias = tuple[Callable[[], bool], Fingerprint, ReachableCode | None]


class _Result(NamedTuple):
    """The fingerprint of one step, without the objects of the graph that was walked."""

    unchanged: Callable[[], Callable[[], bool]]
    """Makes the check that the things of modules are as they were."""
    fingerprint: Fingerprint
    met: tuple[tuple[int | None, Any], ...]
    """The objects that may remember: the number of each in the arrangement, or the object if no graph makes it."""
    reached: ReachableCode | None
    """See `_lasting`."""


class _Record(NamedTuple):
    tokens: list[object]
    named: list[Any]
    results: dict[int, _Result]
    """What is known of the steps, by their numbers."""


class Family:
    """The steps of one graph: their code is compared as a whole with that of the graphs before."""

    def __init__(self) -> None:
        self._trackers: list[_SharedTracker] = []
        self._compared: tuple[Arrangement, _Record] | None = None

    def __reduce__(self) -> tuple[type[Family], tuple[()]]:
        return Family, ()

    def tracker(self, step: str, code: Any, home: str, packages: str | None, released: tuple[str, ...]) -> CodeTracker:
        """Return a tracker of a step's code; `CodeTracker` explains the arguments."""
        # A step that is made only when the graph runs, such as a task, is compared by itself.
        family = self if self._compared is None else Family()
        tracker = _SharedTracker(code, module=home, step=step, packages=packages, released=released)
        tracker.family, tracker.place = family, _Place(step, home, packages, released)
        tracker.number = len(family._trackers)
        family._trackers.append(tracker)
        return tracker

    def known(self, number: int) -> Held | None:
        """Return what is known of a step from a graph before, or None."""
        arrangement, record = self.compare()
        result = record.results.get(number)
        if result is None or not (lasting := result.unchanged())() or not arrangement.unchanged():
            return None

        def unchanged() -> bool:
            return arrangement.unchanged() and lasting()

        fingerprint = result.fingerprint
        if result.met:
            met = tuple(each if place is None else arrangement.things[place] for place, each in result.met)
            fingerprint = replace(fingerprint, met=met)
        return unchanged, fingerprint, result.reached and result.reached._replace(unchanged=unchanged)

    def keep(self, number: int, fingerprint: Fingerprint, reached: ReachableCode) -> None:
        """Keep what a walk has found for a step, for graphs that are built later."""
        arrangement, record = self.compare()
        if number not in arrangement.complete or fingerprint.kept or not arrangement.unchanged():
            return
        guard = reached.guard.without(arrangement.holders)
        if guard is None:
            return
        places = {id(thing): place for place, thing in enumerate(arrangement.things)}
        met = tuple((places.get(id(each)), None if id(each) in places else each) for each in fingerprint.met)
        fingerprint = replace(fingerprint, met=()) if met else fingerprint
        record.results[number] = _Result(cache(guard.build), fingerprint, met, _lasting(reached, arrangement.holders))

    def compare(self) -> tuple[Arrangement, _Record]:
        """Compare the graph with the graphs before, once."""
        if self._compared is None:
            kept = _kept(tuple(each.place for each in self._trackers))
            # A program that makes its graph only once does not pay for a comparison.
            compared = [(each.function, each.place.home) for each in self._trackers] if kept.is_made_again else []
            kept.is_made_again = True
            arrangement = arrangement_of(compared)
            self._compared = arrangement, kept.record_of(arrangement)
        return self._compared


class _Place(NamedTuple):
    """The name of a step, and from where it is judged whose code counts."""

    step: str
    home: str
    packages: str | None
    released: tuple[str, ...]


class _Kept:
    """The records of graphs whose steps have the same names and settings."""

    def __init__(self) -> None:
        self.is_made_again = False
        """Whether there was such a graph before."""
        self._records: deque[_Record] = deque(maxlen=MOST_ALIKE)

    def record_of(self, arrangement: Arrangement) -> _Record:
        """Return the record of graphs that are arranged alike."""
        for record in list(self._records):
            if record.tokens == arrangement.tokens:
                return record
        record = _Record(arrangement.tokens, arrangement.named, {})
        self._records.append(record)
        return record


@lru_cache(MOST_KEPT)
def _kept(_places: tuple[_Place, ...]) -> _Kept:
    return _Kept()


def _lasting(reached: ReachableCode, holders: Collection[int]) -> ReachableCode | None:
    """Return what was reached, without objects of the graph; None if functions of the user's are made with the graph.

    Such functions may change what is made with the graph. So their runs are observed in the graph that they are of.
    """
    if any(id(function) in holders for function in reached.functions):
        return None
    observations = [each for each in reached.observations if id(each.container) not in holders]
    return reached._replace(observations=observations, met=(), guard=Guard(), unchanged=bool)


class _SharedTracker(CodeTracker):
    """A tracker that has the fingerprint of another graph's step, as long as the code of both graphs is alike."""

    __slots__ = ("family", "number", "place")

    family: Family
    number: int
    place: _Place

    def _renew(self) -> Fingerprint:
        if self._held is None and (known := self.family.known(self.number)) is not None:
            self._held = known
            return known[1]
        return self._walk()

    def _walk(self) -> Fingerprint:
        self.family.compare()
        fingerprint = super()._walk()
        _, _, reached = self._walked()
        self.family.keep(self.number, fingerprint, reached)
        return fingerprint
