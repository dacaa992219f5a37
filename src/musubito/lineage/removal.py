"""Removing what is old and what nothing needs, by age or until the store is small enough.

What may go is found by reading, while others go on; the store removes it in small transactions and looks again at what
can have changed since (`musubito.store.removal`). Between these there is a pause, since who waits for SQLite's lock
only tries now and then. Which pieces of stored inputs are still used is found here, too: it takes a look into every
stored input, far too long for a transaction, and the store does not know their format. An input that is stored in that
very moment may therefore lose a piece that it shares; readers are told so, no replay needs it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

from musubito.engine.inputs import digests_in
from musubito.engine.process import is_dead
from musubito.errors import ArtifactUnreadable
from musubito.lineage import blobs
from musubito.lineage.damage import binary, tells_damage
from musubito.lineage.reader import Lineage
from musubito.store.base import FORGOTTEN, Change, Dismiss, Holder, Prune, Pruned, Release, Retire, Tidy

__all__ = [
    "Prunable",
    "Pruning",
    "Watch",
    "Writer",
    "Young",
    "batches",
    "give_back",
    "newest_execution",
    "old_runs",
    "prunable",
    "prune",
    "prune_to_size",
    "remove_nodes",
    "room",
    "sweep",
    "unused_parts",
]

BATCH: Final = 100
"""How much is removed in one transaction."""
SLICE: Final = 1000
"""How many rows are read at a time."""
LONGEST_PAUSE: Final = 0.1
UNTIL_SAID: Final = 2.0
"""In so many seconds whoever was given a result has said so in the ledger, whose lines are written twice a second."""
GIVEN_BACK: Final = 1_000_000
"""So many bytes go back to the disk in one transaction."""
AGES: Final = 50
"""Into so many parts what is stored is divided by age, where it has to become smaller: the oldest goes first."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pruning:
    """What was removed: how many of each, and how many bytes of contents in all. `blobs`: files of large artifacts, and
    what was left of such. `elsewhere`: so many of the large artifacts were not found where the engine has its blobs."""

    executions: int = 0
    nodes: int = 0
    runs: int = 0
    artifacts: int = 0
    inputs: int = 0
    parts: int = 0
    size: int = 0
    blobs: int = 0
    elsewhere: int = 0

    def plus(self, more: Pruned | Pruning) -> Pruning:
        """The sum."""
        return Pruning(
            self.executions + more.executions,
            self.nodes + more.nodes,
            self.runs + more.runs,
            self.artifacts + more.artifacts,
            self.inputs + more.inputs,
            self.parts + more.parts,
            self.size + more.size,
            self.blobs + (more.blobs if isinstance(more, Pruning) else 0),
            self.elsewhere + (more.elsewhere if isinstance(more, Pruning) else 0),
        )


Watch = Callable[[Pruning], None]
"""Told after each transaction what was removed until then."""


def unwatched(_: Pruning) -> None:
    """Nobody is told."""


class Writer:
    """Writes one transaction after the other, and leaves as much time to others as each took."""

    def __init__(self, lineage: Lineage, watch: Watch = unwatched) -> None:
        self.removed = Pruning()
        self._write = lineage.engine.storage.write
        self._watch = watch

    def write(self, change: Change) -> Any:
        """The answer to one change."""
        began = time.perf_counter()
        (answer,) = self._write([change])
        if isinstance(answer, Pruned):
            self.removed = self.removed.plus(answer)
            self._watch(self.removed)
        time.sleep(min(time.perf_counter() - began, LONGEST_PAUSE))
        return answer


class Prunable(NamedTuple):
    """What nothing needs, oldest first: executions, nodes without any, and nodes that these executions ran at."""

    executions: list[int]
    bare: list[bytes]
    nodes: list[bytes]


@tells_damage
def prunable(lineage: Lineage, before: float) -> Prunable:
    """What began before a time and is needed by nothing that is younger."""
    now = time.time()
    # What began while a call runs may be what it has called.
    since = lineage.rows("oldest_lease", now=now)[0][0]
    before = before if since is None else min(before, since)
    rows = lineage.rows("prunable", before=before, now=now)
    executions = [number for kind, number, _ in rows if kind == 0]
    bare, nodes = ([binary(node) for kind, _, node in rows if kind == wanted] for wanted in (1, 2))
    return Prunable(executions, bare, nodes)


@tells_damage
def old_runs(lineage: Lineage, before: float) -> list[bytes]:
    """The runs that were last heard of before a time, and so were all that are parts of them."""
    rows = lineage.rows("last_of_runs")
    old = {run for run, _, *times in rows if max(each or 0.0 for each in times) < before}
    outer = {run: parent for run, parent, *_ in rows}
    for run in outer.keys() - old:
        parent = outer[run]
        while parent is not None:
            old.discard(parent)
            parent = outer.get(parent)
    return sorted(old)


class Young:
    """What has happened since somebody began to look for what nothing needs. Looked at before each transaction, so that
    this has to look only at what has happened since then."""

    def __init__(self, lineage: Lineage) -> None:
        self.since = newest_execution(lineage)
        self.nodes: set[bytes] = set()
        self.artifacts: set[bytes] = set()
        self.inputs: set[tuple[int, bytes]] = set()
        self._ask = lineage.ask

    def look(self) -> None:
        """Up to the present moment."""
        touched, ((newest,),) = self._ask(("touched_since", {"since": self.since}), ("newest_execution", {}))
        for node, artifact, operation, input_hash in touched:
            self.nodes.add(binary(node))
            if artifact is not None:
                self.artifacts.add(binary(artifact))
            if operation is not None:
                self.inputs.add((operation, binary(input_hash)))
        self.since = newest


@tells_damage
def prune(lineage: Lineage, before: float, watch: Watch = unwatched) -> Pruning:
    """Remove what began before a time and is needed by nothing that is younger, in small steps; may be stopped at any
    time and begun again. Raises `StoreError`.

    A step that runs just now may have been given something old a moment ago, and the store does not know yet. So what
    may go is retired first, and a moment later one looks again: what has turned out to be needed stays. If the lines of
    the ledger came even later, that step's result is INVALID and runs again."""
    writer, name = Writer(lineage, watch), secrets.token_bytes(8)
    missing = blobs.missing(lineage)
    for runs in batches(old_runs(lineage, before)):
        writer.write(Prune(0, runs=runs))
    # What loses its last execution is a node without one in the next round.
    while True:
        young = Young(lineage)
        executions, nodes, _ = prunable(lineage, before)
        if sum([writer.write(Retire(batch, name)) for batch in batches(executions[::-1])]):
            time.sleep(UNTIL_SAID)
            young = Young(lineage)
            executions, nodes, _ = prunable(lineage, before)
        for batch in batches(executions):
            writer.write(Dismiss(batch, name))
        went = remove_nodes(writer, young, nodes[::-1])
        for batch in batches(executions[::-1]):
            went += writer.write(Prune(0, executions=batch)).executions
        if not went:
            break
    sweep(lineage, writer)
    for lease in _left_leases(lineage):
        writer.write(Release(lease))
    collected = blobs.collect(lineage)
    return replace(writer.removed, blobs=collected, elsewhere=len(missing - blobs.missing(lineage)) if missing else 0)


def remove_nodes(writer: Writer, young: Young, nodes: Sequence[bytes]) -> int:
    """Remove those of these nodes that nothing has happened at since; how many went."""
    went = 0
    for names in batches(nodes):
        young.look()
        went += writer.write(Prune(young.since, nodes=[name for name in names if name not in young.nodes])).nodes
    return went


def sweep(lineage: Lineage, writer: Writer) -> None:
    """Remove the contents that belonged to what was removed."""
    young = Young(lineage)
    for artifacts in batches(lineage.rows("unused_artifacts", forgotten=FORGOTTEN)):
        young.look()
        writer.write(
            Prune(young.since, artifacts=[each for each in artifacts if binary(each[1]) not in young.artifacts])
        )
    for inputs in batches(lineage.rows("unused_inputs")):
        young.look()
        writer.write(
            Prune(young.since, inputs=[each for each in inputs if (each[0], binary(each[1])) not in young.inputs])
        )
    for parts in batches(unused_parts(lineage)):
        writer.write(Prune(0, parts=parts))
    writer.write(Tidy())


@tells_damage
def prune_to_size(lineage: Lineage, most: int, watch: Watch = unwatched) -> Pruning:
    """Prune the oldest until the data takes no more than so many bytes, or nothing is left that nothing needs. What
    was given or asked for last goes last. Raises `StoreError`."""
    removed = done = Pruning()

    def watched(now: Pruning) -> None:
        watch(done.plus(now))

    lineage.engine.flush()
    times = [at for (at,) in lineage.rows("starts", parts=AGES)]
    while times and (used := room(lineage)) > most:
        # What is older than this is about as much as is too much.
        older = max(1, int(len(times) * (1 - most / used)))
        before, times = times[older - 1], times[older:]
        removed = done = removed.plus(prune(lineage, before, watched))
    return removed


def room(lineage: Lineage) -> int:
    """How many bytes all that is stored takes, blobs included."""
    compactable: Any = lineage.engine.storage
    return int(compactable.used()) + blobs.used(lineage)


def give_back(lineage: Lineage) -> int:
    """Give free room back to the disk, in small steps; how many bytes. Raises `StoreError`."""
    compactable: Any = lineage.engine.storage
    given = 0
    began = time.perf_counter()
    while step := compactable.give_back(GIVEN_BACK):
        given += step
        time.sleep(min(time.perf_counter() - began, LONGEST_PAUSE))
        began = time.perf_counter()
    compactable.empty_log()
    return given


def newest_execution(lineage: Lineage) -> int:
    """The number of the newest execution: what has changed since is younger."""
    return int(lineage.rows("newest_execution")[0][0])


def batches(found: Sequence[T], size: int = BATCH) -> Iterator[list[T]]:
    """As many as go into one transaction, one after the other."""
    rest = iter(found)
    while batch := list(islice(rest, size)):
        yield batch


@tells_damage
def unused_parts(lineage: Lineage) -> list[int]:
    """The pieces of stored inputs that no stored input refers to any more."""
    numbers: dict[tuple[int, bytes], int] = {}
    needs: dict[tuple[int, bytes], list[bytes]] = {}
    after = 0
    while rows := lineage.rows("parts_after", after=after, limit=SLICE):
        for number, namespace, digest, before, _, body in rows:
            numbers[namespace, digest] = number
            needs[namespace, digest] = _digests(body) + ([before] if before else [])
        after = rows[-1][0]
    last: tuple[int, bytes] = (0, b"")
    while rows := lineage.rows("inputs_after", operation=last[0], input_hash=last[1], limit=SLICE):
        for _, _, namespace, body in rows:
            ahead = [(namespace, digest) for digest in _digests(body)]
            while ahead:
                part = ahead.pop()
                ahead += [(part[0], digest) for digest in needs.pop(part, ())]
        last = rows[-1][0], rows[-1][1]
    return [numbers[part] for part in needs]


def _digests(body: Any) -> list[bytes]:
    try:
        return digests_in(body)
    except ArtifactUnreadable:  # then nobody can read what it refers to, either
        return []


def _left_leases(lineage: Lineage) -> list[tuple[bytes, bytes]]:
    """Those of processes that died. That of an effect stays: it tells that nobody knows what became of it."""
    now = time.time()
    return [
        (binary(key), binary(owner))
        for key, owner, host, pid, process in lineage.rows("leases_left", now=now)
        if is_dead(Holder(binary(owner), host, pid, process, now))
    ]
