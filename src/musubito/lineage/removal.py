"""Forgetting contents by hand, and removing what is old and what nothing needs.

What may go is found by reading, while others go on; the store removes it in small transactions and looks again at what
can have changed since (`musubito.store.removal`). Which pieces of stored inputs are still used is found here, too: it
takes a look into every stored input, far too long for a transaction, and the store does not know their format. An input
that is stored in that very moment may therefore lose a piece that it shares; readers are told so, no replay needs it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

from musubito.engine.inputs import digests_in
from musubito.errors import ArtifactUnreadable
from musubito.lineage import blobs
from musubito.lineage.reader import Lineage
from musubito.lineage.records import LineageError
from musubito.store.base import FORGOTTEN, Forget, Forgotten, Prune, Pruned, Retire, Tidy

__all__ = [
    "Forgetting",
    "Prunable",
    "Pruning",
    "forget",
    "in_namespace",
    "meant",
    "old_runs",
    "prunable",
    "prune",
    "unused_parts",
    "with_all_below",
]

BATCH: Final = 500
"""How much is removed in one transaction."""
SLICE: Final = 1000
"""How many rows are read at a time."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What was forgotten: how many executions were concerned, how many inputs and pieces of inputs were erased, how
    many bytes in all. `erased`: no reader stood in the way of removing the bytes from the files at once; else they go
    with the next `forget`, or when the last who uses the database closes it."""

    executions: int
    inputs: int
    parts: int
    size: int
    erased: bool


@dataclass(frozen=True, slots=True)
class Pruning:
    """What was removed, or would be: how many of each, and how many bytes of contents in all. `blobs`: files of large
    artifacts, and what was left of such."""

    executions: int = 0
    nodes: int = 0
    runs: int = 0
    artifacts: int = 0
    inputs: int = 0
    parts: int = 0
    size: int = 0
    blobs: int = 0

    def plus(self, more: Pruned) -> Pruning:
        """The sum."""
        return Pruning(
            self.executions + more.executions,
            self.nodes + more.nodes,
            self.runs + more.runs,
            self.artifacts + more.artifacts,
            self.inputs + more.inputs,
            self.parts + more.parts,
            self.size + more.size,
        )


# -- forget ------------------------------------------------------------------------------------------------------------
def meant(lineage: Lineage, what: str) -> list[Forget]:
    """What an operation's name, or the id of a node or a run, stands for. `LineageError` if nothing or several."""
    namespaces = lineage.rows("namespaces_of", operation=what)
    if namespaces:
        return [Forget(namespace, operation=what) for (namespace,) in namespaces]
    try:
        node = bytes.fromhex(lineage.node(what).node_id)
    except LineageError as error:
        if str(error).startswith("several"):
            raise
        node = None
    try:
        run = bytes.fromhex(lineage.run(what).summary.run_id)
    except LineageError as error:
        if node is None:
            raise LineageError(
                f"{what!r} is no operation, and neither a node nor a run is found by it: {error}"
            ) from error
        return [Forget("", node=node)]
    if node is not None:
        raise LineageError(f"{what} is both a node and a run; give more digits")
    return [Forget("", run=bytes(part)) for part, _ in lineage.rows("parts_of_run", run=run)]


def in_namespace(lineage: Lineage, namespace: str) -> list[Forget]:
    """All operations of a namespace. `LineageError` if it has none."""
    operations = lineage.rows("operations_in", namespace=namespace)
    if not operations:
        raise LineageError(f"nothing was recorded in a namespace {namespace!r}")
    return [Forget(namespace, operation=operation) for (operation,) in operations]


def with_all_below(lineage: Lineage, wanted: Sequence[Forget]) -> list[Forget]:
    """The same, and the nodes that came of what they name: what they gave may be in there."""
    found: dict[bytes, None] = {}
    for each in wanted:
        for (number,) in lineage.rows("nodes_named", **_named(each)):
            for below, _, _ in lineage.rows("descendants", id=number, deepest=1_000_000):
                found[below] = None
    nodes = [Forget("", node=bytes.fromhex(node.node_id)) for node in lineage.nodes(int(number) for number in found)]
    return [*wanted, *nodes]


def _named(change: Forget) -> dict[str, Any]:
    return {"namespace": change.namespace, "operation": change.operation, "node": change.node, "run": change.run}


def forget(lineage: Lineage, wanted: Sequence[Forget]) -> Forgetting:
    """Erase the contents, from the file, too. Raises `StoreError`; what was forgotten until then is."""
    store = lineage.engine.storage
    lineage.engine.flush()
    executions = inputs = size = 0
    for change in wanted:
        done: Forgotten = store.write([change])[0]
        executions, inputs, size = executions + done.executions, inputs + done.inputs, size + done.size
        blobs.remove(lineage, done.artifacts)
    parts = 0
    for batch in _batches(unused_parts(lineage)):
        pruned: Pruned = store.write([Prune(0, parts=batch)])[0]
        parts, size = parts + pruned.parts, size + pruned.size
    blobs.collect(lineage)
    compactable: Any = store
    erased: bool = compactable.empty_log()
    return Forgetting(executions, inputs, parts, size, erased)


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


# -- prune -------------------------------------------------------------------------------------------------------------
class Prunable(NamedTuple):
    """What nothing needs, oldest first: executions, nodes without any, and nodes that these executions ran at."""

    executions: list[int]
    bare: list[bytes]
    nodes: list[bytes]


def prunable(lineage: Lineage, before: float) -> Prunable:
    """What began before a time and is needed by nothing that is younger."""
    now = time.time()
    # What began while a call runs may be what it has called.
    since = lineage.rows("oldest_lease", now=now)[0][0]
    before = before if since is None else min(before, since)
    rows = lineage.rows("prunable", before=before, now=now)
    executions = [number for kind, number, _ in rows if kind == 0]
    bare, nodes = ([bytes(node) for kind, _, node in rows if kind == wanted] for wanted in (1, 2))
    return Prunable(executions, bare, nodes)


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


def prune(lineage: Lineage, before: float) -> Pruning:
    """Remove what began before a time and is needed by nothing that is younger, in small steps; may be stopped at any
    time and begun again. Raises `StoreError`."""
    store, removed = lineage.engine.storage, Pruning()

    def remove(change: Prune) -> Pruned:
        nonlocal removed
        pruned: Pruned = store.write([change])[0]
        removed = removed.plus(pruned)
        return pruned

    for runs in _batches(old_runs(lineage, before)):
        remove(Prune(0, runs=runs))
    # What loses its last execution is a node without one in the next round.
    while True:
        since = _now(lineage)
        executions, nodes, _ = prunable(lineage, before)
        for batch in _batches(executions):
            store.write([Retire(batch)])
        went = 0
        for names in _batches(nodes[::-1]):
            went += remove(Prune(since, nodes=names)).nodes
        for batch in _batches(executions[::-1]):
            went += remove(Prune(since, executions=batch)).executions
        if not went:
            break
    since = _now(lineage)
    for artifacts in _batches(lineage.rows("unused_artifacts", forgotten=FORGOTTEN)):
        remove(Prune(since, artifacts=artifacts))
    for inputs in _batches(lineage.rows("unused_inputs")):
        remove(Prune(since, inputs=inputs))
    for parts in _batches(unused_parts(lineage)):
        remove(Prune(since, parts=parts))
    store.write([Tidy()])
    return replace(removed, blobs=blobs.collect(lineage))


def _now(lineage: Lineage) -> int:
    return int(lineage.rows("newest_execution")[0][0])


def _batches(found: Sequence[T]) -> Iterator[list[T]]:
    rest = iter(found)
    while batch := list(islice(rest, BATCH)):
        yield batch
