"""Erase contents that must not be stored any more, or whole namespaces.

The store forgets in small steps, between which others can write (`musubito.store.relational.by_hand`). Nothing escapes
that is committed meanwhile. After a crash, the same erasure finds what it has left. If a forgotten step is running,
nothing of its result is stored when it ends. If another step uses a forgotten result at that moment, its own result is
stored. As soon as that step has ended, its result is found downstream of the forgotten one. The bytes leave the file
itself as soon as no reader is left that began before.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.readers import blobs
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.readers.run_reader import EVER
from musubito.lineage.readers.store_reader import batches
from musubito.lineage.readers.suggestions import suggestion
from musubito.lineage.removal.prune import (
    RecentUses,
    Writer,
    newest_execution,
    remove_nodes,
    remove_runs,
    remove_unused_contents,
    unused_parts,
)
from musubito.lineage.reports import LineageError
from musubito.store.changes import Forget, Forgotten, Prune
from musubito.store.rows import ExecutionFlags

SLICE: Final = 5000
"""Rows that are read at a time."""


@dataclass(frozen=True, slots=True)
class ForgetCounts:
    """The counts of what was forgotten.

    `executions` counts the executions concerned. `inputs` and `parts` count the inputs and pieces of inputs that were
    erased. `size` is in bytes. `erased` tells that the bytes were removed from the files at once. If a reader stood in
    the way, the bytes go with the next `forget`, or when the last user of the database closes it. `nodes` and `runs`
    count things that only `forget_namespace` removes. `elsewhere` counts large outputs that were not found where the
    engine has its blobs.
    """

    executions: int
    inputs: int
    parts: int
    size: int
    erased: bool
    nodes: int = 0
    runs: int = 0
    elsewhere: int = 0


# -- targets ---------------------------------------------------------------------------------------------------------
@reports_damage
def changes_for(lineage: Lineage, what: str) -> list[Forget]:
    """Return the changes that forget an operation, a node or a run.

    `what` is the name of an operation, or the id of a node or a run. Raises `LineageError` if nothing or several things
    are called so.
    """
    named = [Forget(namespace, operation=what) for _, namespace, name in lineage.rows("all_operations") if name == what]
    if named:
        return named
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
            if str(error).startswith("several"):
                raise
            hint = suggestion(lineage, what, "'musubito runs' and 'musubito show' name some.")
            raise LineageError(f"no step, call or run is called {what!r}; {hint}") from error
        return [Forget("", nodes=[node])]
    if node is not None:
        raise LineageError(f"{what} is both a call and a run; give more digits")
    return [Forget("", run=binary(part)) for part, *_ in lineage.rows("parts_of_run", run=run)]


def changes_for_namespace(lineage: Lineage, namespace: str) -> list[Forget]:
    """Return the changes that forget all operations of a namespace.

    Raises `LineageError` if the namespace has none.
    """
    operations = [name for _, space, name in lineage.rows("all_operations") if space == namespace]
    if not operations:
        raise LineageError(f"nothing was recorded in a namespace {namespace!r}; 'musubito stats' lists the steps")
    return [Forget(namespace, operation=operation) for operation in operations]


def changes_for_nodes(nodes: Iterable[bytes]) -> list[Forget]:
    """Return the changes that forget these nodes: one, since each looks through the tables once."""
    named = list(nodes)
    return [Forget("", nodes=named)] if named else []


@reports_damage
def with_downstream(lineage: Lineage, wanted: Sequence[Forget]) -> list[Forget]:
    """Return these changes, and those that forget all nodes that may hold the same contents.

    A node downstream consumed or called a named node, and may contain its output. Nodes that any of these called may
    have been given that output as input. A node that something else called, or that was called at the top, stays: it
    belongs to that caller, too.
    """
    named = set(lineage.numbers(node.hex() for change in wanted for node in change.nodes).values())
    runs = lineage.ask(*(("nodes_of_run", {"run": change.run}) for change in wanted if change.run is not None))
    params = {
        # A run names only the executions that answered its calls, so its nodes are named as well.
        "nodes": json.dumps(sorted(named.union(node for rows in runs for (node,) in rows))),
        "operations": json.dumps(operations_named(lineage, wanted)),
        "erased": ExecutionFlags.ERASED,
    }
    nodes = lineage.rows("nodes_to_forget", **params)
    return [*wanted, *changes_for_nodes(binary(node) for number, node in nodes if number not in named)]


def operations_named(lineage: Lineage, wanted: Iterable[Forget]) -> list[int]:
    """Return the numbers of the operations that changes forget."""
    names = {(change.namespace, change.operation) for change in wanted}
    return [number for number, *name in lineage.rows("all_operations") if tuple(name) in names]


# -- to forget ---------------------------------------------------------------------------------------------------------
@reports_damage
def forget(lineage: Lineage, wanted: Sequence[Forget], inputs: Sequence[tuple[int, bytes]] = ()) -> ForgetCounts:
    """Erase contents, from the file too, and return the counts.

    `inputs` are stored inputs that no node has, by the names that the store gives them. Raises `StoreError`; all that
    was forgotten until then stays forgotten.
    """
    lineage.engine.flush()
    writer = Writer(lineage)
    since = newest_execution(lineage)
    missing = blobs.missing(lineage)
    executions = erased_inputs = size = 0
    for change in wanted:
        done: Forgotten = writer.write(change)
        blobs.remove(lineage, done.artifacts)
        executions, erased_inputs, size = executions + done.executions, erased_inputs + done.inputs, size + done.size
    for batch in batches(inputs):
        # A search has found them, so they go from the runs that were given them, too.
        writer.write(Forget("", inputs=[digest for _, digest in batch]))
        writer.write(Prune(since, inputs=batch))
    for parts in batches(unused_parts(lineage)):
        writer.write(Prune(since, parts=parts))
    blobs.collect(lineage)
    pruned = writer.removed
    store: Any = lineage.engine.storage
    erased: bool = store.empty_log()
    return ForgetCounts(
        executions,
        erased_inputs + pruned.inputs,
        pruned.parts,
        size + pruned.size,
        erased,
        elsewhere=len(missing - blobs.missing(lineage)),
    )


@reports_damage
def forget_namespace(lineage: Lineage, namespace: str) -> ForgetCounts:
    """Forget all of a namespace, and remove its nodes, executions, edges, calls and runs.

    A run is removed if all its calls are in this namespace, or if it made none and began in it. A run in progress loses
    its tags alone. The following stays, without contents:

    - the name of the namespace and the names of its operations
    - external effects that took place, so that they do not take place again
    - results on which other namespaces have built
    - the newest execution of all, since its number must not be given again

    Raises `LineageError` if the namespace does not exist, and `StoreError`. All that was forgotten until then stays
    forgotten.
    """
    before = time.time()
    forgotten = forget(lineage, changes_for_namespace(lineage, namespace))
    writer = Writer(lineage)
    # If the row of a run in progress were removed, the run would write it again when it ends, with its tags.
    in_progress = {binary(run) for run, *_ in lineage.rows("runs_without_end", before=EVER)}
    own = _runs_of(lineage, namespace)
    for run in own:
        if run in in_progress:
            writer.write(Forget("", run=run))
    remove_runs(writer, [run for run in own if run not in in_progress])
    while calls := lineage.rows("calls_in", namespace=namespace, before=before, limit=SLICE):
        for batch in batches(calls):
            writer.write(Prune(0, calls=batch))
    while True:
        recent = RecentUses(lineage)
        nodes = [binary(row[0]) for row in lineage.rows("bare_in", namespace=namespace)]
        executions = [row[0] for row in lineage.rows("forgotten_in", namespace=namespace, erased=ExecutionFlags.ERASED)]
        removed = remove_nodes(writer, recent, nodes)
        removed += sum(writer.write(Prune(0, executions=batch)).executions for batch in batches(executions))
        if not removed:
            break
    remove_unused_contents(lineage, writer)
    blobs.collect(lineage, namespace)
    pruned = writer.removed
    store: Any = lineage.engine.storage
    return replace(
        forgotten,
        inputs=forgotten.inputs + pruned.inputs,
        parts=forgotten.parts + pruned.parts,
        size=forgotten.size + pruned.size,
        erased=store.empty_log(),
        nodes=pruned.nodes,
        runs=pruned.runs,
    )


def _runs_of(lineage: Lineage, namespace: str) -> list[bytes]:
    """Return the runs that belong to a namespace alone.

    All calls of such a run and of its parts are of the namespace's operations. A run without calls belongs to the
    namespace in which it began.
    """
    own = {
        binary(run): bool(all_of_them) for run, all_of_them in lineage.rows("runs_by_namespace", namespace=namespace)
    }
    parts: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for run, parent, *_ in lineage.rows("last_of_runs"):
        if parent is not None:
            parts[binary(parent)].append(binary(run))
    runs: set[bytes] = set()
    ahead = sorted(own.keys() | parts.keys())
    # Parts may have parts: each round finds the runs around those of the rounds before.
    while ahead:
        new = [run for run in ahead if own.get(run, True) and all(part in runs for part in parts[run])]
        if not new:
            break
        runs.update(new)
        ahead = [run for run in ahead if run not in runs]
    return sorted(runs)
