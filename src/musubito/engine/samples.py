"""Keep the samples that a run has given, so that each is given at most once in it."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import count, islice
from typing import Final, NamedTuple

from musubito.locks import fork_safe
from musubito.store.queries import SampleNode
from musubito.store.rows import SampleRef

LOCK: Final = fork_safe(threading.RLock())
"""Guards the samples of all runs. It is held for microseconds at a time."""


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
        copy = Samples()
        with LOCK:
            for record in self.together():
                for pool, numbers in record.given.items():
                    copy.given[pool] |= numbers
            copy.shared |= self.shared
            copy.effects |= self.effects
            copy.journal += self.journal
            for call, samples in self.attempts.items():
                copy.attempts[call] += samples
        return copy

    def next_number(self, pool: bytes, turn: SiblingOrder | None = None) -> int:
        """Return the lowest number that is still free, or the number of this turn, and count it as given."""
        with LOCK:
            together = self.together()
            taken = together[0].given[pool]
            if len(together) > 1:
                taken = taken.union(*(record.given[pool] for record in together[1:]))
            number = _lowest(taken)
            if turn is not None:
                before = turn.before.setdefault(pool, frozenset(taken))
                mine = _lowest(before, turn.rank)
                number = mine if mine not in taken else number
            self._give(SampleRef(pool, number))
            return number

    def give_back(self, pool: bytes, number: int) -> None:
        """Free a number again, because its call failed."""
        with LOCK:
            for record in self.together():
                record.given[pool].discard(number)

    def give(self, tree: Mapping[int, SampleNode], root: int) -> bool:
        """Give an execution with all samples nested in it.

        If one of the samples was given already, give nothing and return False.
        """
        with LOCK:
            nested = list(self._nested(tree, root))
            again = tree[root].pool is None and root in self.shared
            if not again and any(a.sample in record.given[a.pool] for a in nested for record in self.together()):
                return False
            for sample in nested:
                self._give(sample)
            self._share(*tree)
            return True

    def give_one(self, sample: SampleRef) -> bool:
        """Give a sample from another pool than the call draws from. Return False if it was given already."""
        with LOCK:
            if any(sample.sample in record.given[sample.pool] for record in self.together()):
                return False
            self._give(sample)
            return True

    def remember(self, execution: int) -> None:
        """Note that an execution that holds samples ran in this run. Its samples count as given already."""
        with LOCK:
            self._share(execution)

    def since(self, mark: int) -> list[SampleRef | int]:
        """Return the samples and executions that were given since the journal had length `mark`.

        Samples that were freed again are left out.
        """
        with LOCK:
            return [
                item
                for item in self.journal[mark:]
                if type(item) is int or (isinstance(item, SampleRef) and item.sample in self.given[item.pool])
            ]

    def go_on(self, items: Iterable[SampleRef | int]) -> None:
        """Continue a run that gave and shared these samples and executions elsewhere."""
        with LOCK:
            for item in items:
                if not isinstance(item, SampleRef):
                    self._share(item)
                elif item.sample not in self.given[item.pool]:
                    self._give(item)

    def failed(self, call: SampleRef, trees: Sequence[tuple[Mapping[int, SampleNode], int]]) -> None:
        """Keep the samples of executions that took place inside a failed attempt at a call.

        Another attempt is given further samples, and the same effects.
        """
        with LOCK:
            for sample in self._samples_of(trees):
                if sample.pool in self.effects:
                    self.give_back(sample.pool, sample.sample)
                else:
                    self.attempts[call].append(sample)

    def suspended(self, trees: Sequence[tuple[Mapping[int, SampleNode], int]]) -> None:
        """Free the samples of executions inside an interrupted call, which will run again from its start."""
        with LOCK:
            for sample in self._samples_of(trees):
                self.give_back(sample.pool, sample.sample)

    def _samples_of(self, trees: Sequence[tuple[Mapping[int, SampleNode], int]]) -> Iterator[SampleRef]:
        for tree, root in trees:
            node = tree[root]
            if node.pool is not None:
                yield SampleRef(node.pool, node.sample)
            yield from self._nested(tree, root)

    def attempts_before(self, call: SampleRef) -> tuple[SampleRef, ...]:
        """Return the samples that `failed` has kept for this call, and drop them."""
        with LOCK:
            return tuple(dict.fromkeys(self.attempts.pop(call, ())))

    def _give(self, sample: SampleRef) -> None:
        for record in self.together():
            record.given[sample.pool].add(sample.sample)
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


def _lowest(taken: Collection[int], rank: int = 0) -> int:
    """Return the lowest free number; with a rank, the free number that has this many free numbers below it."""
    if not taken:
        return rank
    return next(islice((n for n in count() if n not in taken), rank, None))
