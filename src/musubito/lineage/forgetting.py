"""Forgetting by hand: contents that must not be stored any more, and whole namespaces.

What is named is forgotten by the store in one transaction each (`musubito.store.removal`), so that nothing escapes that
is committed meanwhile, and of what runs just then nothing is stored when it ends. But what others make just then of a
result that is forgotten is stored: it is found among what came of it once it has ended. From the file itself the bytes
go as soon as nobody reads who began before.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from musubito.lineage import blobs
from musubito.lineage.damage import binary, tells_damage
from musubito.lineage.names import similar_names
from musubito.lineage.reader import Lineage
from musubito.lineage.records import LineageError
from musubito.lineage.removal import Writer, Young, batches, newest_execution, remove_nodes, sweep, unused_parts
from musubito.store.base import FORGOTTEN, Forget, Forgotten, Prune

__all__ = ["Forgetting", "forget", "forget_namespace", "in_namespace", "meant", "nodes_among", "with_all_below"]

AT_ONCE: Final = 2000
"""So many nodes are forgotten in one transaction, for which the tables are looked through once."""
SLICE: Final = 5000
"""How many rows are read at a time."""


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What was forgotten: how many executions were concerned, how many inputs and pieces of inputs were erased, how
    many bytes in all. `erased`: no reader stood in the way of removing the bytes from the files at once; else they go
    with the next `forget`, or when the last who uses the database closes it. With a namespace its `nodes` and `runs`
    are gone, too. `elsewhere`: so many large outputs were not found where the engine has its blobs."""

    executions: int
    inputs: int
    parts: int
    size: int
    erased: bool
    nodes: int = 0
    runs: int = 0
    elsewhere: int = 0


# -- what is meant -----------------------------------------------------------------------------------------------------
@tells_damage
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
            if str(error).startswith("several"):
                raise
            similar = similar_names(what, [name for _, name, _ in lineage.rows("operations")])
            hint = (
                f"did you mean {', '.join(similar)}?" if similar else "'musubito runs' and 'musubito show' name some."
            )
            raise LineageError(f"no operation, node or run is called {what!r}; {hint}") from error
        return [Forget("", nodes=[node])]
    if node is not None:
        raise LineageError(f"{what} is both a node and a run; give more digits")
    return [Forget("", run=binary(part)) for part, *_ in lineage.rows("parts_of_run", run=run)]


def in_namespace(lineage: Lineage, namespace: str) -> list[Forget]:
    """All operations of a namespace. `LineageError` if it has none."""
    operations = lineage.rows("operations_in", namespace=namespace)
    if not operations:
        raise LineageError(f"nothing was recorded in a namespace {namespace!r}")
    return [Forget(namespace, operation=operation) for (operation,) in operations]


def nodes_among(nodes: Iterable[bytes]) -> list[Forget]:
    """These nodes."""
    return [Forget("", nodes=batch) for batch in batches(list(nodes), AT_ONCE)]


@tells_damage
def with_all_below(lineage: Lineage, wanted: Sequence[Forget]) -> list[Forget]:
    """The same, and what came of it: what consumed or called it, and so on, since what it gave may be in there; and
    what all these called themselves, since they may have handed it on. What was also called by something else, or by
    nobody, stays: it belongs to that, too."""
    named = [(each, {row[0] for row in _nodes_named(lineage, each)}) for each in wanted]
    links = _Links(lineage)
    below = links.below(set().union(*(nodes for _, nodes in named)))
    numbers = below | links.called_only_by(below)
    # Of a run's nodes only what answered its calls is named.
    numbers = numbers.difference(*(nodes for each, nodes in named if each.run is None))
    found: list[bytes] = []
    after = 0
    while rows := lineage.rows("identities_after", after=after, limit=SLICE):
        found += [binary(node) for number, node, *_ in rows if number in numbers]
        after = rows[-1][0]
    return [*wanted, *nodes_among(found)]


def _nodes_named(lineage: Lineage, change: Forget) -> list[tuple[Any, ...]]:
    of_all = {"namespace": change.namespace, "operation": change.operation, "run": change.run}
    return [row for node in change.nodes or (None,) for row in lineage.rows("nodes_named", node=node, **of_all)]


class _Links:
    """What hangs on what in the whole store, as numbers. An execution hangs together with the node at which it ran and
    with all that it answers: they have one input and one output."""

    def __init__(self, lineage: Lineage) -> None:
        edges, uses, executions, answers, on_top = lineage.ask(
            ("all_data_edges", {}),
            ("all_uses", {}),
            ("all_executions", {"forgotten": FORGOTTEN}),
            ("all_answers", {}),
            ("answers_on_top", {}),
        )
        self.children: defaultdict[int, list[int]] = defaultdict(list)
        for parent, child in edges:
            self.children[parent].append(child)
        self.executions: defaultdict[int, set[int]] = defaultdict(set)
        self.nodes: defaultdict[int, set[int]] = defaultdict(set)
        for node, execution in [(node, execution) for execution, node, _ in executions] + answers:
            self.executions[node].add(execution)
            self.nodes[execution].add(node)
        self.callers: defaultdict[int, set[int]] = defaultdict(set)
        self.called: defaultdict[int, set[int]] = defaultdict(set)
        for caller, called, _ in uses:
            self.callers[called].add(caller)
            self.called[caller].add(called)
        self.on_top = {execution for (execution,) in on_top}
        self.forgotten = {execution for execution, _, forgotten in executions if forgotten}

    def below(self, nodes: Collection[int]) -> set[int]:
        """These nodes, and all that consumed or called what they gave."""
        found = set(nodes)
        ahead = list(found)
        while ahead:
            node = ahead.pop()
            near = set(self.children[node])
            for execution in self.executions[node]:
                near |= self.nodes[execution]
                near |= {outer for caller in self.callers[execution] for outer in self.nodes[caller]}
            near -= found
            found |= near
            ahead += near
        return found

    def called_only_by(self, nodes: Collection[int]) -> set[int]:
        """What the executions of these nodes called, and those in turn, and nobody else did."""
        gone = {execution for node in nodes for execution in self.executions[node]}
        ahead = list(gone)
        gone |= self.forgotten
        while ahead:
            for called in self.called[ahead.pop()] - gone:
                if called not in self.on_top and self.callers[called] <= gone:
                    gone.add(called)
                    ahead.append(called)
        return {node for execution in gone - self.forgotten for node in self.nodes[execution]}


# -- to forget ---------------------------------------------------------------------------------------------------------
@tells_damage
def forget(lineage: Lineage, wanted: Sequence[Forget], inputs: Sequence[tuple[int, bytes]] = ()) -> Forgetting:
    """Erase the contents, from the file, too; `inputs` are those that no node has, by the names that the store gives
    them. Raises `StoreError`; what was forgotten until then is."""
    lineage.engine.flush()
    writer = Writer(lineage)
    since = newest_execution(lineage)
    missing = blobs.missing(lineage)
    executions = erased_inputs = size = 0
    for change in wanted:
        done: Forgotten = writer.write(change)
        blobs.remove(lineage, done.artifacts)
        executions, erased_inputs, size = executions + done.executions, erased_inputs + done.inputs, size + done.size
    for some in batches(inputs):
        writer.write(Prune(since, inputs=some))
    for parts in batches(unused_parts(lineage)):
        writer.write(Prune(since, parts=parts))
    blobs.collect(lineage)
    more = writer.removed
    store: Any = lineage.engine.storage
    erased: bool = store.empty_log()
    return Forgetting(
        executions,
        erased_inputs + more.inputs,
        more.parts,
        size + more.size,
        erased,
        elsewhere=len(missing - blobs.missing(lineage)),
    )


@tells_damage
def forget_namespace(lineage: Lineage, namespace: str) -> Forgetting:
    """Forget all of a namespace, and remove what is left of it: nodes, executions, edges, calls, and the runs that made
    calls in no other, or that made none and began in it; of a run in progress the tags alone. What stays are its name
    and those of its operations and, without contents, effects that took place, so that they do not again, what other
    namespaces have built on, and the newest execution of all, since its number must not come again. Raises
    `LineageError` if there is none, and `StoreError`; what was forgotten until then is."""
    before = time.time()
    forgotten = forget(lineage, in_namespace(lineage, namespace))
    writer = Writer(lineage)
    # What of a run is not there is written again when it ends, with its tags.
    in_progress = {binary(run) for (run,) in lineage.rows("runs_in_progress")}
    own = _runs_of(lineage, namespace)
    for run in own:
        if run in in_progress:
            writer.write(Forget("", run=run))
    for runs in batches([run for run in own if run not in in_progress]):
        writer.write(Prune(0, runs=runs))
    while calls := lineage.rows("calls_in", namespace=namespace, before=before, limit=SLICE):
        for some in batches(calls):
            writer.write(Prune(0, calls=some))
    while True:
        young = Young(lineage)
        nodes = [binary(row[0]) for row in lineage.rows("bare_in", namespace=namespace)]
        executions = [row[0] for row in lineage.rows("forgotten_in", namespace=namespace, forgotten=FORGOTTEN)]
        went = remove_nodes(writer, young, nodes)
        went += sum(writer.write(Prune(0, executions=some)).executions for some in batches(executions))
        if not went:
            break
    sweep(lineage, writer)
    blobs.collect(lineage, namespace)
    more = writer.removed
    store: Any = lineage.engine.storage
    return Forgetting(
        forgotten.executions,
        forgotten.inputs + more.inputs,
        forgotten.parts + more.parts,
        forgotten.size + more.size,
        store.empty_log(),
        more.nodes,
        more.runs,
        forgotten.elsewhere,
    )


def _runs_of(lineage: Lineage, namespace: str) -> list[bytes]:
    """The runs all of whose calls, and those of all their parts, are of a namespace's operations; and those without any
    that began in it."""
    own = {
        binary(run): bool(all_of_them) for run, all_of_them in lineage.rows("runs_by_namespace", namespace=namespace)
    }
    parts: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for run, parent, *_ in lineage.rows("last_of_runs"):
        if parent is not None:
            parts[binary(parent)].append(binary(run))
    found: set[bytes] = set()
    ahead = sorted(own.keys() | parts.keys())
    # Parts may have parts: each round finds those around the ones that it has found before.
    while ahead:
        new = [run for run in ahead if own.get(run, True) and all(part in found for part in parts[run])]
        if not new:
            break
        found.update(new)
        ahead = [run for run in ahead if run not in found]
    return sorted(found)
