"""Remove the oldest results that no retained result depends on, by age or down to a size.

The results that may go are found by reading, while others go on. The store removes them in small transactions, and
looks again at all that can have changed since (`musubito.store.relational.prune`). A pause follows each transaction,
since a process that waits for SQLite's lock only tries now and then.

The used pieces of stored inputs are found here, too. The search looks into every stored input: that takes too long for
a transaction, and the store does not know the format of inputs. Therefore an input that is stored at that very moment
may lose a piece that it shares. Readers of that input are told so, and no replay needs the piece.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any, Final, NamedTuple, TypeAlias

from musubito.engine.process_identity import is_dead
from musubito.engine.recorded_inputs import digests_if_any
from musubito.errors import StoreFull
from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.readers import blobs
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.readers.store_reader import batches
from musubito.store.changes import Change, CleanUp, InvalidateMarked, MarkForPruning, Prune, Pruned, Release
from musubito.store.rows import ExecutionFlags, LeaseOwner

SLICE: Final = 1000
"""Rows that are read at a time."""
MAX_PAUSE: Final = 0.1
"""Seconds of the longest pause after a transaction."""
HISTORY_DELAY: Final = 2.0
"""Seconds until a replay is surely in the history, which is written twice a second."""
RELEASED_AT_ONCE: Final = 1_000_000
"""Bytes that are released to the disk in one transaction."""
MIN_RELEASED: Final = 10_000
"""Bytes of the same on a full disk at least."""
AGES: Final = 50
"""Parts into which executions are divided by age, to make the store smaller from the oldest part on."""
Removal: TypeAlias = Prune | MarkForPruning | InvalidateMarked


@dataclass(frozen=True, slots=True)
class PruneCounts:
    """The counts of what was removed.

    `size` is the bytes of contents in all. `blobs` counts files of large artifacts, with what was left of such files.
    `elsewhere` counts large artifacts that were not found where the engine has its blobs.
    """

    executions: int = 0
    nodes: int = 0
    runs: int = 0
    artifacts: int = 0
    inputs: int = 0
    parts: int = 0
    size: int = 0
    blobs: int = 0
    elsewhere: int = 0

    def plus(self, more: Pruned | PruneCounts) -> PruneCounts:
        """Return the sums of all counts."""
        added = {field.name: getattr(more, field.name, 0) for field in fields(self)}
        return PruneCounts(**{name: getattr(self, name) + number for name, number in added.items()})


Watch = Callable[[PruneCounts], None]
"""A function that is called after each transaction with the counts of all that was removed so far."""


def unwatched(_: PruneCounts) -> None:
    """Ignore the counts."""


class Writer:
    """A writer of one transaction after the other.

    After each transaction, the writer leaves as much time to others as the transaction took, up to `MAX_PAUSE`.
    On a full disk, it writes less at a time: what is deleted goes through a log, which needs room itself.
    """

    def __init__(self, lineage: Lineage, watch: Watch = unwatched, rest: Callable[[float], None] = time.sleep) -> None:
        self.removed = PruneCounts()
        self._rest = rest
        self._storage: Any = lineage.engine.storage
        self._watch = watch

    def write(self, change: Change) -> Any:
        """Write one change, and return the answer of the store."""
        began = time.perf_counter()
        try:
            (answer,) = self._storage.write([change])
        except StoreFull:
            self._make_room()
            halves = _halves(change) if isinstance(change, (Prune, MarkForPruning, InvalidateMarked)) else []
            if len(halves) > 1:
                return _sum_of([self.write(half) for half in halves])
            (answer,) = self._storage.write([change])
        if isinstance(answer, Pruned):
            self.removed = self.removed.plus(answer)
            self._watch(self.removed)
        self._rest(min(time.perf_counter() - began, MAX_PAUSE))
        return answer

    def _make_room(self) -> None:
        """Bring the log into the database, so that it is written from its beginning again."""
        with suppress(StoreFull):  # the next half may fit all the same
            self._storage.empty_log()


def _halves(change: Removal) -> list[Removal]:
    """Return a change that names several things as two; as one if it names a single thing."""
    halves: list[Removal] = [change, change]
    for field, names in change._asdict().items():
        if not isinstance(names, bytes | int) and names:
            middle = len(names) // 2
            if not middle:
                return [change]
            halves = [
                half._replace(**{field: part})
                for half, part in zip(halves, (names[:middle], names[middle:]), strict=True)
            ]
    return halves


def _sum_of(answers: Sequence[Any]) -> Any:
    """Return the answers to the parts of one change as one."""
    if isinstance(answers[0], Pruned):
        return Pruned(*map(sum, zip(*answers, strict=True)))
    return None if answers[0] is None else sum(answers)


class Prunable(NamedTuple):
    """The executions and nodes that nothing needs, oldest first.

    `bare` are nodes without executions. `nodes` are nodes at which these executions ran.
    """

    executions: list[int]
    bare: list[bytes]
    nodes: list[bytes]


@reports_damage
def prunable(lineage: Lineage, before: float) -> Prunable:
    """Return the executions and nodes that began before a time and that nothing younger needs."""
    rows = lineage.rows("prunable", **_until(lineage, before))
    executions = [number for kind, number, *_ in rows if kind == 0]
    bare, nodes = (
        [binary(node) for kind, _, node, has_executions in rows if kind == 1 and bool(has_executions) == wanted]
        for wanted in (False, True)
    )
    return Prunable(executions, bare, nodes)


@reports_damage
def number_prunable(lineage: Lineage, before: float) -> tuple[int, int]:
    """Return how many executions and nodes `prunable` returns."""
    ((executions, nodes),) = lineage.rows("number_prunable", **_until(lineage, before))
    return int(executions), int(nodes)


def _until(lineage: Lineage, before: float) -> dict[str, float]:
    """Return the parameters by which the store tells what is old."""
    now = time.time()
    # An execution that began during a running call may have been called by it.
    since = lineage.rows("oldest_lease", now=now)[0][0]
    return {"before": before if since is None else min(before, since), "now": now}


@reports_damage
def old_runs(lineage: Lineage, before: float) -> list[bytes]:
    """Return the runs that were last active before a time, as were all their parts."""
    rows = lineage.rows("last_of_runs")
    old = {run for run, _, *times in rows if max(at or 0.0 for at in times) < before}
    outer = {run: parent for run, parent, *_ in rows}
    for run in outer.keys() - old:
        parent = outer[run]
        while parent is not None:
            old.discard(parent)
            parent = outer.get(parent)
    return sorted(old)


class RecentUses:
    """The uses of stored things since a search for unneeded ones began.

    Called before each transaction, `refresh` reads the newest uses, so that the transaction has few of them to check.
    """

    def __init__(self, lineage: Lineage) -> None:
        self.since = newest_execution(lineage)
        self.nodes: set[bytes] = set()
        self.artifacts: set[bytes] = set()
        self.inputs: set[tuple[int, bytes]] = set()
        self._ask = lineage.ask

    def refresh(self) -> None:
        """Read the uses up to the present moment."""
        touched, ((newest, _),) = self._ask(("touched_since", {"since": self.since}), ("began", {}))
        for node, artifact, operation, input_hash in touched:
            self.nodes.add(binary(node))
            if artifact is not None:
                self.artifacts.add(binary(artifact))
            if operation is not None:
                self.inputs.add((operation, binary(input_hash)))
        self.since = newest


@reports_damage
def prune(
    lineage: Lineage, before: float, watch: Watch = unwatched, rest: Callable[[float], None] = time.sleep
) -> PruneCounts:
    """Remove what began before a time and is needed by nothing younger, in small steps.

    `before` is in seconds since the epoch. `rest` is called for the pauses. The function may be stopped at any time and
    called again. Raises `StoreError`.

    A running step may have replayed an old result a moment ago, and the store does not know yet. So the results are
    marked first. After `HISTORY_DELAY` seconds, the search is repeated, and a result that is needed by then
    stays. If the history comes even later, the result of that step is INVALID, and the step runs again.
    """
    writer, name = Writer(lineage, watch, rest), secrets.token_bytes(8)
    missing = blobs.missing(lineage)
    remove_runs(writer, old_runs(lineage, before))
    # A node that loses its last execution may go in the next round.
    while True:
        recent = RecentUses(lineage)
        executions, nodes, _ = prunable(lineage, before)
        if sum([writer.write(MarkForPruning(batch, name)) for batch in batches(executions[::-1])]):
            rest(HISTORY_DELAY)
            recent = RecentUses(lineage)
            executions, nodes, _ = prunable(lineage, before)
        for batch in batches(executions):
            writer.write(InvalidateMarked(batch, name))
        removed = remove_nodes(writer, recent, nodes[::-1])
        for batch in batches(executions[::-1]):
            removed += writer.write(Prune(0, executions=batch)).executions
        if not removed:
            break
    remove_unused_contents(lineage, writer)
    for lease in _abandoned_leases(lineage):
        writer.write(Release(lease))
    collected = blobs.collect(lineage)
    return replace(writer.removed, blobs=collected, elsewhere=len(missing - blobs.missing(lineage)) if missing else 0)


def remove_runs(writer: Writer, runs: Sequence[bytes]) -> None:
    """Remove runs with their calls."""
    for batch in batches(runs):
        left = batch
        while left:
            # A run of very many calls takes several transactions.
            left = left[writer.write(Prune(0, runs=left)).runs :]


def remove_nodes(writer: Writer, recent: RecentUses, nodes: Sequence[bytes]) -> int:
    """Remove those of these nodes that were not used since the search, and return their number."""
    removed = 0
    for names in batches(nodes):
        recent.refresh()
        removed += writer.write(Prune(recent.since, nodes=[name for name in names if name not in recent.nodes])).nodes
    return removed


def remove_unused_contents(lineage: Lineage, writer: Writer) -> None:
    """Remove the contents that only removed executions and nodes had."""
    recent = RecentUses(lineage)
    for artifacts in batches(lineage.rows("unused_artifacts", erased=ExecutionFlags.ERASED)):
        recent.refresh()
        writer.write(
            Prune(recent.since, artifacts=[name for name in artifacts if binary(name[1]) not in recent.artifacts])
        )
    for inputs in batches(lineage.rows("unused_inputs")):
        recent.refresh()
        writer.write(
            Prune(recent.since, inputs=[name for name in inputs if (name[0], binary(name[1])) not in recent.inputs])
        )
    for parts in batches(unused_parts(lineage)):
        writer.write(Prune(0, parts=parts))
    writer.write(CleanUp())


@reports_damage
def prune_to_size(
    lineage: Lineage, most: int, watch: Watch = unwatched, rest: Callable[[float], None] = time.sleep
) -> PruneCounts:
    """Remove the oldest results until the data takes at most `most` bytes.

    The removal ends earlier if all that is left is needed. Results that were made or asked for last go last. Raises
    `StoreError`.
    """
    removed = done = PruneCounts()

    def watched(now: PruneCounts) -> None:
        watch(done.plus(now))

    lineage.engine.flush()
    times = [at for (at,) in lineage.rows("starts", parts=AGES)]
    while times and (used := used_bytes(lineage)) > most:
        # Executions older than this one hold about as many bytes as are too many.
        older = max(1, int(len(times) * (1 - most / used)))
        before, times = times[older - 1], times[older:]
        removed = done = removed.plus(prune(lineage, before, watched, rest))
    return removed


def used_bytes(lineage: Lineage) -> int:
    """Return the bytes that all stored data takes, blobs included."""
    compactable: Any = lineage.engine.storage
    return int(compactable.used()) + blobs.used(lineage)


def release_space(lineage: Lineage, rest: Callable[[float], None] = time.sleep) -> int:
    """Release free space of the database to the disk in small steps, and return how many bytes.

    Raises `StoreError`.
    """
    compactable: Any = lineage.engine.storage
    released, step, most = 0, 1, RELEASED_AT_ONCE
    while step:
        began = time.perf_counter()
        try:
            step = compactable.give_back(most)
        except StoreFull:  # the pages that move go through the log, which needs room itself
            compactable.empty_log()
            if most == MIN_RELEASED:
                raise
            most = max(MIN_RELEASED, most // 2)
        else:
            released += step
            rest(min(time.perf_counter() - began, MAX_PAUSE))
    compactable.empty_log()
    return released


def newest_execution(lineage: Lineage) -> int:
    """Return the number of the newest execution; younger executions have higher numbers."""
    return int(lineage.rows("began")[0][0])


@reports_damage
def unused_parts(lineage: Lineage) -> list[int]:
    """Return the numbers of the pieces of stored inputs that no stored input refers to."""
    numbers: dict[tuple[int, bytes], int] = {}
    needs: dict[tuple[int, bytes], list[bytes]] = {}
    for number, namespace, digest, before, _, body in lineage.slices("parts_after", SLICE, after=0):
        numbers[namespace, digest] = number
        needs[namespace, digest] = digests_if_any(body) + ([before] if before else [])
    for _, _, namespace, body in lineage.slices("inputs_after", SLICE, operation=0, input_hash=b""):
        ahead = [(namespace, digest) for digest in digests_if_any(body)]
        while ahead:
            part = ahead.pop()
            ahead += [(part[0], digest) for digest in needs.pop(part, ())]
    return [numbers[part] for part in needs]


def _abandoned_leases(lineage: Lineage) -> list[tuple[bytes, bytes]]:
    """Return the leases of processes that died.

    The lease of an effect stays: it tells that the outcome is unknown.
    """
    now = time.time()
    return [
        (binary(key), binary(owner))
        for key, owner, _, host, pid, process, _ in lineage.rows("expired_leases", now=now)
        if is_dead(LeaseOwner(binary(owner), host, pid, process, now))
    ]
