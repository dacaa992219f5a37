"""Read recorded nodes, their relations and their contents as plain values.

No function of this module runs a step or changes a recorded result.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from musubito.engine.recorded_inputs import InputName, StoredBody, input_query, opened_in, stored_inputs
from musubito.engine.run_input import RunInput, read_run_input, shown_state
from musubito.errors import ArtifactMissing, ArtifactUnreadable
from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.readers.run_reader import RunReader
from musubito.lineage.readers.store_reader import LONGEST, by_first, of_many
from musubito.lineage.reports import Attempt, Cost, EditReport, Execution, NodeReport, Relative, Tokens
from musubito.model import NodeStatus
from musubito.payloads.codec import EDIT, ERROR
from musubito.reasons import never_replayed
from musubito.store.protocol import Row
from musubito.store.rows import Stored
from musubito.values.display import plain
from musubito.values.redaction import scrubbed


class Lineage(RunReader):
    """A reader of what an engine has recorded, in all namespaces of its store.

    An id may be shortened to its first digits, 4 or more. Methods raise `LineageError` if no id or several ids begin
    with these digits. History that the engine has buffered is written before a method reads. Methods raise `StoreError`
    if the store cannot be read. The constructor raises TypeError if the engine's store cannot be asked by readers.
    """

    # -- nodes ---------------------------------------------------------------------------------------------------------
    @reports_damage
    def node(self, node: str) -> NodeReport:
        """Return one node, by its id."""
        return self.nodes([self.number(node)])[0]

    @reports_damage
    def nodes(self, numbers: Iterable[int]) -> list[NodeReport]:
        """Return the nodes that have these numbers in the store, in their order."""
        numbers = list(numbers)
        records, used = self.ask(*(of_many(query, numbers) for query in ("node_records", "usage_of_nodes")))
        usage = by_first(used)
        nodes = {row[0]: self._with_edit(_node(row[:-4], usage[row[0]]), *row[-4:]) for row in records}
        reports = [nodes[number] for number in numbers]
        return [
            node if node.error is None else replace(node, error=self.opened(node.namespace, ERROR, node.error))
            for node in reports
        ]

    def opened(self, namespace: str, label: bytes, text: str) -> str:
        """Return a stored text, decrypted, or the reason why it cannot be."""
        try:
            return self.contents(namespace).opened_text(label, text)
        except ArtifactUnreadable as problem:
            return f"(not shown: {problem})"

    def _with_edit(self, node: NodeReport, person: str | None, at: float, reason: str, undone: int) -> NodeReport:
        if person is None or node.execution is None:
            return node
        return replace(
            node, execution=replace(node.execution, edit=self._edit(node.namespace, person, at, reason, undone))
        )

    def _edit(self, namespace: str, person: str, at: float, reason: str, undone: int) -> EditReport:
        person, reason = (scrubbed(self.opened(namespace, EDIT, text)) for text in (person, reason))
        return EditReport(person, at, reason, bool(undone))

    def edits(self, executions: Iterable[int]) -> dict[int, EditReport]:
        """Return the corrections among these executions, by their numbers."""
        rows = self.about("edits_of_executions", executions)
        return {number: self._edit(namespace, *edit) for number, namespace, *edit in rows}

    def attempt(self, node: NodeReport) -> Attempt | None:
        """Return the last attempt at a node whose status is FAILED, else None."""
        return self.attempts([node]).get(node.node_id)

    def attempts(self, nodes: Iterable[NodeReport]) -> dict[str, Attempt]:
        """Return the last attempts at those nodes whose status is FAILED, by the ids of the nodes."""
        failed = [node.node_id for node in nodes if node.status is NodeStatus.FAILED]
        rows = self.ask(*(("last_attempt", {"node": bytes.fromhex(node)}) for node in failed))
        found = {node: attempts[0] for node, attempts in zip(failed, rows, strict=True) if attempts}
        used = by_first(self.about("usage_of_executions", (attempt[0] for attempt in found.values())))
        return {
            node: Attempt(number, started_at, wall_ms, Cost(compute_ms, _total_tokens(used[number]), wall_ms))
            for node, (number, started_at, wall_ms, compute_ms) in found.items()
        }

    @reports_damage
    def number(self, node: str) -> int:
        """Return the number that a node has in the store."""
        return int(self._unique("call", node, "nodes_like")[1])

    @reports_damage
    def numbers(self, nodes: Iterable[str]) -> dict[str, int]:
        """Return the numbers that nodes have in the store, by their whole ids; nothing for nodes that are not there."""
        ids = [node for node in dict.fromkeys(nodes) if len(node) == 2 * LONGEST["call"]]
        rows = self.rows("numbers_of_nodes", nodes=bytes.fromhex("".join(ids))) if ids else []
        found = {binary(node).hex(): int(number) for node, number in rows}
        return {node: found[node] for node in ids if node in found}

    @reports_damage
    def ancestors(self, node: str, deepest: int = 1000) -> list[Relative]:
        """Return all nodes upstream of a node, nearest first.

        The kind of an ancestor is "data" if its result was consumed, and "call" if it was called inside. `deepest` is
        the largest number of edges between the two nodes.
        """
        return self._relatives("links_above", node, deepest)

    @reports_damage
    def descendants(self, node: str, deepest: int = 1000) -> list[Relative]:
        """Return all nodes downstream of a node, nearest first.

        The kind of a descendant is "data" if it consumed a result, and "call" if it called the other node. `deepest` is
        the largest number of edges between the two nodes.
        """
        return self._relatives("links_below", node, deepest)

    def _relatives(self, query: str, node: str, deepest: int) -> list[Relative]:
        number = self.number(node)
        beyond: defaultdict[int, list[tuple[str, int]]] = defaultdict(list)
        for near, far, kind in self.rows(query, id=number):
            beyond[near].append((kind, far))
        kinds, ways = {number: ""}, dict[int, tuple[int, str]]()
        for depth in range(1, deepest + 1):
            # Sorted backwards: of two links to one node, that of the kind "call" stays.
            links = sorted((link for near in kinds for link in beyond[near]), reverse=True)
            kinds = {far: kind for kind, far in links if far not in ways}
            if not kinds:
                break
            ways |= {far: (depth, kinds[far]) for far in sorted(kinds)}
        return [Relative(*way, node) for way, node in zip(ways.values(), self.nodes(ways), strict=True)]

    # -- contents ------------------------------------------------------------------------------------------------------
    @reports_damage
    def input(self, node: NodeReport) -> Any:
        """Return the arguments of a node's call as plain data, or None if they are not stored.

        Plain data are dicts, lists, texts and numbers. A value of another type is a dict with its type's name under
        "$type".
        """
        return next(self.inputs([(node.namespace, node.operation, bytes.fromhex(node.input_hash))]))

    def inputs(self, names: Iterable[tuple[str, str | None, bytes]]) -> Iterator[Any]:
        """Yield the arguments of calls, each as `input` does, by their namespaces, operations and input hashes.

        Without an operation, the hash is that of a file's text.
        """
        wanted = [InputName(self.contents(namespace), operation, digest) for namespace, operation, digest in names]
        yield from stored_inputs(self._store, wanted, self.ask(*map(input_query, wanted)))

    @reports_damage
    def input_of_run(self, run_id: str) -> RunInput | None:
        """Return what the run of a graph was given; None if that is not stored.

        That is so for runs of other kinds, and for runs whose input was forgotten. If nothing of the input can be read,
        the reason is at "input" in `RunInput.missing`.
        """
        rows = self.rows("input_name_of_run", run=self._run_id(run_id))
        if not rows:
            return None
        namespace, operation, digest = rows[0]
        contents = self.contents(namespace)
        body = self.ask(input_query(InputName(contents, operation, binary(digest))))[0]
        if not body:
            return None
        try:
            trees = opened_in(self._store, [StoredBody(contents, *body[0])])[0]()
            return read_run_input(contents, operation, binary(digest), trees)
        except ArtifactUnreadable as error:
            return RunInput({}, {"input": str(error)})

    def states_of_runs(self, run_ids: Sequence[str]) -> dict[str, Any]:
        """Return the states with which runs of graphs began, as plain data, by the ids of the runs that have one."""
        found = self.ask(*(("input_name_of_run", {"run": bytes.fromhex(run)}) for run in run_ids))
        named = {run: rows[0] for run, rows in zip(run_ids, found, strict=True) if rows}
        names = [InputName(self.contents(space), operation, binary(name)) for space, operation, name in named.values()]
        trees = stored_inputs(self._store, names, self.ask(*map(input_query, names)))
        states = {run: shown_state(tree) for run, tree in zip(named, trees, strict=True)}
        return {run: state for run, state in states.items() if state is not None}

    @reports_damage
    def output(self, node: NodeReport) -> Any:
        """Return the output of a node as plain data, or None if nothing is stored.

        An output that cannot be read is a dict of the type "..." whose "value" says why.
        """
        return self.outputs([node])[0]

    @reports_damage
    def outputs(self, nodes: Sequence[NodeReport]) -> list[Any]:
        """Return the outputs of nodes, each as `output` does."""
        given = [
            (node.namespace, node.execution.number, node.execution.artifact_id) for node in nodes if node.execution
        ]
        values = iter(self.given(given))
        return [None if node.execution is None else next(values) for node in nodes]

    def given(self, executions: Sequence[tuple[str, int, str | None]]) -> list[Any]:
        """Return what executions gave, each as `output` does, by their namespaces, numbers and artifacts."""
        rows = self.ask(*(("payload", {"execution": number}) for _, number, _ in executions))
        return [
            self._opened(namespace, artifact, payload)
            for (namespace, _, artifact), payload in zip(executions, rows, strict=True)
        ]

    def _opened(self, namespace: str, artifact: str | None, rows: list[Row]) -> Any:
        if not rows or rows[0][0] is None or artifact is None:
            return None
        stored = Stored(*rows[0])
        contents = self.contents(namespace)
        try:
            payload = contents.open(stored.codec, stored.payload, bytes.fromhex(artifact))
            return plain(memoryview(payload)[1:])
        except ArtifactMissing as error:
            return {"$type": "...", "value": f"{error}; 'musubito --blobs URL' looks elsewhere"}
        except ArtifactUnreadable as error:
            return {"$type": "...", "value": str(error)}


def _total_tokens(usage: Sequence[Row]) -> dict[str, Tokens]:
    """Return the tokens of an execution with all calls inside, by model."""
    return {model: Tokens(total_in, total_out) for model, _, _, total_in, total_out in usage}


def _node(row: Row, usage: Sequence[Row]) -> NodeReport:
    (_, node, namespace, operation, code, input_hash, step_type, sample, arguments, number, invalid, stale) = row[:12]
    started_at, duration_ms, artifact, producer, error, not_replayable, compute_ms = row[12:]
    execution = None
    if number is not None:
        execution = Execution(
            number,
            started_at,
            duration_ms,
            None if artifact is None else artifact.hex(),
            producer.hex(),
            not_replayable,
            Cost(compute_ms, _total_tokens(usage), duration_ms),
            None if not_replayable is None else never_replayed(not_replayable),
        )
    if operation is None:
        status = NodeStatus.EXTERNAL
    elif execution is None:
        status = NodeStatus.FAILED
    elif invalid:
        status = NodeStatus.INVALID
    else:
        status = NodeStatus.STALE if stale else NodeStatus.SUCCESS
    return NodeReport(
        node.hex(),
        namespace or "",
        operation or "",
        status,
        step_type or "",
        sample,
        "" if code is None else code.hex(),
        "" if input_hash is None else input_hash.hex(),
        tuple(json.loads(arguments)) if arguments else (),
        execution,
        error and scrubbed(error),
    )
