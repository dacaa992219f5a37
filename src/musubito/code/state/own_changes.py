"""Remember which of the things that code holds the runs of steps have changed: this state does not count.

When a run ends, the places that no longer hold what was read before it are looked at again. If the step's code may have
changed a place (`WriteLimits`), an `OwnChange` remembers what the place held before and what the run left there. While
the place still holds what the run left, it counts with what it held before. Once the place holds anything else, other
code changed it, and it counts with what it holds now. A new process counts what it first sees.

A change is kept as long as a fingerprint needs it. The changes of the latest containers are kept longer: a step that is
made again for each call has to see the same.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from threading import RLock
from typing import Any, Final, NamedTuple

from musubito.code.graph_record import ABSENT
from musubito.code.state.access_paths import ORDER, Entries, Observation, PlaceKind, hashed, same
from musubito.code.state.write_limits import Manner, WriteLimits
from musubito.locks import fork_safe

KEPT: Final = 512
"""Number of containers whose changes are kept though no fingerprint holds them."""
UNKNOWN: Final[Any] = object()
"""Stands for the content of a place that cannot be looked at."""


class OwnChange(NamedTuple):
    """The change of one place by runs: its value before the first run, its value after the last, and when that was.

    `sources` holds what those runs read that may lie in the place now (see `engine.files.caches`). `left` is a digest
    of the value after the last run, with all that it leads to. The next walk takes that digest; until then it is None.
    """

    before: Any
    after: Any
    number: int
    manner: Manner
    """The manner in which the code of those runs writes the place."""
    named: bool
    """Whether that code has a name for the place."""
    sources: dict[Any, Any]
    left: bytes | None = None


class Changes:
    """All changes of one container: by the runs of one step, or by the runs of all steps.

    The changes by all steps last as long as one object names them as `of_all`. This object keeps the container alive,
    so that its id stays its own.
    """

    def __init__(self, container: Any, of_all: Changes | None) -> None:
        self.container = container
        self.of_all = of_all
        self.by_key: dict[Hashable, OwnChange] = {}
        self.steps: set[str] = set()
        """The steps that have made the changes by all steps."""


_numbers: Final = count()
_changes: Final[dict[tuple[str | None, int], weakref.ref[Changes]]] = {}
"""Changes by step and by the id of the container; under None, the changes by all steps.

The table is asked so often that it is a dict of weak references.
"""
_latest: Final[deque[Changes]] = deque(maxlen=KEPT)
"""The changes of the latest containers, which are kept alive."""
_open: Final[dict[int, ObservedRun]] = {}
"""Runs that have not ended, by the order in which they began."""
_lock = fork_safe(RLock())
_listening: Final[list[dict[int, Any]]] = []
"""The dicts that take the containers of changes that are remembered meanwhile, by id."""


def changes_of(container: Any, step: str) -> Iterator[tuple[Changes, bool]]:
    """Yield the changes of a container by runs of this step (True), then its changes by runs of any step (False)."""
    if _changes:
        for whose in (step, None):
            reference = _changes.get((whose, id(container)))
            changes = None if reference is None else reference()
            if changes is not None:
                yield changes, whose is not None


def remember_left(taken: Iterable[tuple[Changes, Hashable, bytes]]) -> None:
    """Keep the digests of what runs have left: from now on a change by anything else counts."""
    with _lock:
        for changes, key, digest in taken:
            ours = changes.by_key[key]
            for changed in filter(None, (changes, changes.of_all)):
                change = changed.by_key.get(key)
                if change is not None and change.left is None and same(change.after, ours.after):
                    changed.by_key[key] = change._replace(left=digest)


class ObservedRun:
    """A run of a step that has begun: when it ends, its changes are remembered."""

    def __init__(
        self, step: str, unchanged: Callable[[], bool], observations: list[Observation], limits: WriteLimits
    ) -> None:
        self._step = step
        self._unchanged = unchanged
        self._observations = observations
        self._limits = limits
        self.read_into: Callable[[dict[Any, Any]], None] | None = None
        """Called with the `sources` of each change that this run made, to add what the run reads."""
        self._number = next(_numbers)
        with _lock:
            _open[self._number] = self

    def end(self) -> bool:
        """Remember the changes of this run; return False if there are certainly none.

        Ask for the fingerprint next: its walk takes what the run has left.
        """
        with _lock:
            return _open.pop(self._number, None) is None or self.settle()

    def settle(self) -> bool:
        """Remember what has changed so far and may be changed by this step's code; return False if nothing has."""
        if self._unchanged():
            return False
        for kind, container, key, value, look, counted in self._observations:
            now = _look_again(look)
            if now is UNKNOWN:
                continue
            if key is ORDER:
                self._entries(kind, container, value, now, counted)
            elif isinstance(key, frozenset):
                for name, each in now:
                    self._changed(kind, container, name, ABSENT, each, ABSENT)
            else:
                self._changed(kind, container, key, value, now, counted)
        return True

    def _entries(
        self, kind: PlaceKind, container: Any, value: Entries, now: Entries, counted: list[tuple[Any, Any]]
    ) -> None:
        as_counted = {hashed(key): each for key, each in counted}
        before, after = (dict(zip(map(hashed, keys), values, strict=True)) for keys, values in (value, now))
        whole = True
        for key in (*value[0], *(added for added in now[0] if hashed(added) not in before)):
            was, is_now, counts = (mapping.get(hashed(key), ABSENT) for mapping in (before, after, as_counted))
            whole &= self._changed(kind, container, key, was, is_now, counts)
        if whole and kind is PlaceKind.INSIDE:
            self._changed(kind, container, ORDER, value[0], now[0], tuple(key for key, _ in counted))

    def _changed(self, kind: PlaceKind, container: Any, key: Hashable, before: Any, after: Any, counted: Any) -> bool:
        """Remember a change, if there is one; return False if this step's code cannot have made it."""
        if same(before, after):
            return True
        if not self._limits.allow(kind, container, key):
            return False
        of_all = _changes_for(None, container, None)
        of_all.steps.add(self._step)
        manner, named = self._limits.manner(container, key), self._limits.names(kind, container, key)
        change = OwnChange(counted, after, next(_numbers), manner, named, {})
        self._remember(_changes_for(self._step, container, of_all), key, before, change)
        self._remember(of_all, key, before, change._replace(before=before, sources={}))
        return True

    def _remember(self, changes: Changes, key: Hashable, before: Any, change: OwnChange) -> None:
        prior = changes.by_key.get(hashed(key))
        if prior is not None:
            if same(prior.after, change.after):
                return
            # A change that was recorded since this run began was made by a run beside it.
            if prior.number > self._number or same(prior.after, before):
                manner, named = prior.manner.and_as(change.manner), prior.named or change.named
                change = change._replace(before=prior.before, sources=prior.sources, manner=manner, named=named)
        if self.read_into is not None and not change.manner.counts:
            self.read_into(change.sources)
        changes.by_key[hashed(key)] = change
        for each in _listening:
            each[id(changes.container)] = changes.container


def _changes_for(step: str | None, container: Any, of_all: Changes | None) -> Changes:
    place = step, id(container)
    reference = _changes.get(place)
    changes = None if reference is None else reference()
    if changes is None:
        changes = Changes(container, of_all)
        _changes[place] = weakref.ref(changes, partial(_forget, place))
        _latest.append(changes)
    return changes


def _forget(place: tuple[str | None, int], changes: weakref.ref[Changes]) -> None:
    if _changes.get(place) is changes:  # another change may have been made for the same place meanwhile
        del _changes[place]


def settle_open_runs() -> None:
    """Remember the changes by runs that have not ended: a call beside them must not count these changes."""
    with _lock:
        for run in list(_open.values()):
            run.settle()


def changed_by_others(observations: Iterable[Observation], step: str) -> list[Any]:
    """Return the containers that hold anything else now than when they were read.

    Those that the runs of this step alone have changed are left out.
    """
    return [each.container for each in observations if _differs(each) and not _is_own(each.container, step)]


def _differs(observation: Observation) -> bool:
    try:
        return not same(observation.value, observation.look())
    except Exception:  # a look at a changed place may raise anything
        return True


def _is_own(container: Any, step: str) -> bool:
    """Return whether the runs of this step have changed a container, and those of no other step."""
    return any(not own and each.steps == {step} for each, own in changes_of(container, step))


@contextmanager
def noted_changes() -> Iterator[dict[int, Any]]:
    """Yield a dict that takes the containers, by id, of all changes that are remembered while the block runs."""
    containers: dict[int, Any] = {}
    with _lock:
        _listening.append(containers)
    try:
        yield containers
    finally:
        with _lock:
            _listening[:] = [each for each in _listening if each is not containers]


def _look_again(look: Callable[[], Any]) -> Any:
    try:
        return look()
    except Exception:  # a look at a changed place may raise anything: the next walk says what the place counts with
        return UNKNOWN
