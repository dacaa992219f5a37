"""Read recorded runs, nodes and their relations as plain values.

No function of this module runs a step or changes a recorded result.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from musubito.engine.engine import MusubitoEngine
from musubito.engine.process_identity import is_dead
from musubito.engine.recorded_inputs import InputName, input_query, stored_inputs
from musubito.errors import ArtifactMissing, ArtifactUnreadable
from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.reports import (
    Attempt,
    CallReport,
    Cost,
    EditReport,
    Execution,
    LineageError,
    NodeReport,
    NothingRan,
    Relative,
    RunReport,
    RunSummary,
    Tokens,
)
from musubito.model import NodeStatus, ReplayReason
from musubito.payloads.blobs import BlobStore
from musubito.payloads.codec import EDIT, ERROR, Contents
from musubito.payloads.encrypted_tags import opened_tags
from musubito.payloads.key_derivation import KeySource
from musubito.reasons import never_replayed
from musubito.store.protocol import NamedQuery, Readable, Row, Store
from musubito.store.queries import KeyCheckOf
from musubito.store.rows import LeaseOwner, Stored
from musubito.store.urls import open_existing
from musubito.values.display import plain, without_secrets
from musubito.values.redaction import scrubbed

EVER: Final = 1e18
"""Seconds since the epoch, later than any run."""
DIGITS: Final = frozenset("0123456789abcdef")
"""The digits of an id."""
SHORTEST: Final = 4
"""Hexadecimal digits that a shortened id has at least."""
LONGEST: Final = {"call": 32, "run": 17}
"""Bytes of a whole id, by the kind of thing that has it."""
LISTED_BY: Final = {"call": "musubito show last", "run": "musubito runs"}
"""The command that lists the ids of a kind."""
PAGE: Final = 500
"""Runs that are looked at together, once a few have not been enough."""


class _RunRows(NamedTuple):
    """The rows of one run: its own, those of its parts, and that of its span."""

    run: bytes
    recorded: list[Row]
    parts: list[Row]
    spans: list[Row]


def engine_on_existing(
    url: str,
    blobs: BlobStore | None = None,
    key_source: Callable[[Store], KeySource | None] = lambda _: None,
    opens: Callable[[str], Store] = open_existing,
) -> MusubitoEngine:
    """Return an engine on the store that the URL names; by default make nothing (see `open_existing`)."""
    storage = opens(url)
    engine = MusubitoEngine(storage, blobs=blobs, key=key_source(storage))
    engine.url = url
    return engine


class Lineage:
    """A reader of what an engine has recorded, in all namespaces of its store.

    An id may be shortened to its first digits, 4 or more. Methods raise `LineageError` if no id or several ids begin
    with these digits. History that the engine has buffered is written before a method reads. Methods raise `StoreError`
    if the store cannot be read. The constructor raises TypeError if the engine's store cannot be asked by readers.
    """

    def __init__(self, engine: MusubitoEngine) -> None:
        store: Any = getattr(engine, "storage", None)
        if store is None:
            raise TypeError(f"Lineage takes an engine, not {engine!r}; Lineage.from_url(...) opens a store")
        if not callable(getattr(store, "read", None)):
            raise TypeError(f"{store!r} keeps no lineage that can be read; use SQLiteStorage")
        self.engine = engine
        self._store: Readable = store

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Open the lineage in the store that a URL names.

        URLs are those of `MusubitoEngine.from_url`. Close the lineage with `close`, or use it in a `with` statement.
        Reading creates nothing: raises `LineageError` if the SQLite file of a URL does not exist, and `StoreError` if a
        PostgreSQL database has no schema of Musubito. A file on a read-only disk can be read, and so can a schema by a
        role that may only SELECT.
        """
        scheme, _, path = url.partition(":///")
        if scheme == "sqlite" and not Path(path).is_file():
            raise LineageError(f"there is no database at {path}; give the path of one in which something has run")
        return cls(engine_on_existing(url))

    def close(self) -> None:
        """Close the engine, and with it the connection to its store."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def damage(self) -> str | None:
        """Return a description of damaged rows in the store, or None; see `Readable.damage`."""
        return self._store.damage()

    def last_commit(self) -> str:
        """Return a text that differs whenever something was recorded since, by this process or by another."""
        self.engine.flush()
        return self._store.last_commit()

    def ask(self, *questions: NamedQuery) -> list[list[Row]]:
        """Return the rows of several named queries, all as of one moment."""
        self.engine.flush()
        return self._store.read(questions) if questions else []

    def rows(self, query: str, /, **parameters: Any) -> list[Row]:
        """Return the rows of one named query."""
        return self.ask((query, parameters))[0]

    def about(self, query: str, numbers: Iterable[int]) -> list[Row]:
        """Return the rows of a query about the things that have these numbers; none without any number."""
        wanted = sorted(set(numbers))
        return self.ask(of_many(query, wanted))[0] if wanted else []

    def slices(self, query: str, size: int, /, **begin: Any) -> Iterator[Row]:
        """Yield the rows of a query that returns `size` rows at a time. Its first columns tell where the next begin."""
        while rows := self.rows(query, **begin, limit=size):
            yield from rows
            begin = dict(zip(begin, rows[-1], strict=False))

    # -- runs ----------------------------------------------------------------------------------------------------------
    @reports_damage
    def runs(
        self,
        limit: int = 20,
        *,
        name: str | None = None,
        operation: str | None = None,
        since: float = 0.0,
        before: float = EVER,
        matching: Callable[[RunSummary], bool] = lambda _: True,
    ) -> list[RunSummary]:
        """Return the newest runs, newest first.

        A call outside of any run is a run of its own, named by its operation. Only runs are returned to which all of
        this applies:

        - `name`: the run has this name.
        - `operation`: a call of this operation was made in the run, outside of runs inside it.
        - `since`, `before`: the run began in this time, in seconds since the epoch.
        - `matching`: the function returns true for the run.
        """
        result: list[RunSummary] = []
        seen: set[bytes] = set()
        size = limit
        while True:
            page = self._newest_runs(size, before, name, operation)
            new = [run for at, run in page if at >= since and run not in seen]
            result += filter(matching, self._summaries(self._rows_of_runs(new)))
            if len(result) >= limit or len(page) < size or page[-1][0] < since:
                return result[:limit]
            if math.nextafter(page[-1][0], EVER) == before:
                return result
            seen.update(new)
            before = math.nextafter(page[-1][0], EVER)  # others may have begun at the same time
            size = max(limit, min(2 * size, PAGE))

    def _newest_runs(
        self, limit: int, before: float = EVER, name: str | None = None, operation: str | None = None
    ) -> list[tuple[float, bytes]]:
        """Return when the newest runs began, and their ids; see `runs`."""
        of = {"limit": limit, "before": before, "named": name, "operation": operation}
        return sorted(chain(*self.ask(("runs", of), ("lone_calls", of))), reverse=True)[:limit]

    @reports_damage
    def run(self, run: str) -> RunReport:
        """Return one run with its calls.

        `run` is an id, a name, or "last". A name stands for its newest run, "last" for the newest of all.
        """
        rows = self._rows_of_runs([self._run_id(run)])
        return RunReport(self._summaries(rows)[0], self._calls(rows[0].parts))

    def _run_id(self, text: str) -> bytes:
        if text == "last":
            newest = self._newest_runs(1)
            if not newest:
                raise NothingRan("nothing has run yet, or it ran in another database")
            return binary(newest[0][1])
        runs, calls = self.ask(
            ("runs_named", {"name": text, "limit": 1}),
            ("lone_calls", {"named": text, "operation": None, "before": EVER, "limit": 1}),
        )
        if runs or calls:
            return binary((runs or calls)[0][-1])
        return self._by_number(text) or binary(self._unique("run", text, "runs_like")[0])

    def _by_number(self, text: str) -> bytes | None:
        """Return the id of the run that a short form names, or None.

        Ids of one process differ only in the number at their end, which the short form has after a dash.
        """
        first, dash, number = text.lower().strip().rpartition("-")
        if not dash or not number.isdecimal() or not DIGITS.issuperset(first) or len(first) < SHORTEST:
            return None
        low, high = (bytes.fromhex(first.ljust(24, digit)[:24]) for digit in "0f")
        end = (int(number) % 256**5).to_bytes(5, "big")
        runs = [binary(row[0]) for row in self.rows("runs_numbered", first=low, last=high + b"\xff" * 5, number=end)]
        if len(runs) > 1:
            raise LineageError(f"several runs begin with {first} and have this number; give the whole id")
        return runs[0] if runs else None

    def _rows_of_runs(self, runs: Sequence[bytes]) -> list[_RunRows]:
        rows = iter(
            self.ask(*((query, {"run": run}) for run in runs for query in ("run", "parts_of_run", "span_of_run")))
        )
        return [_RunRows(run, *row) for run, row in zip(runs, zip(rows, rows, rows, strict=True), strict=True)]

    def _summaries(self, runs: Sequence[_RunRows]) -> list[RunSummary]:
        parts = [part for run in runs for part, *_ in run.parts]
        rows = iter(
            self.ask(*((query, {"run": part}) for part in parts for query in ("totals_of_run", "usage_of_run")))
        )
        return [self._summary(run, [(next(rows)[0], next(rows)) for _ in run.parts]) for run in runs]

    def _summary(self, rows: _RunRows, costs: list[tuple[Row, list[Row]]]) -> RunSummary:
        """Return the summary of a run, from the totals and the tokens of each of its parts."""
        run, recorded, parts, spans = rows
        calls = replayed = ran = failed = 0
        spent, saved = Cost(), Cost()
        for (*_, inside), (row, usage) in zip(parts, costs, strict=True):
            calls, replayed, ran, failed = calls + row[0], replayed + row[1], ran + row[2], failed + row[3]
            # The time of a run that began inside a call is part of that call's time, and would count twice.
            spent += Cost(0.0 if inside else row[4])
            saved += Cost(row[5])
            for was_replayed, model, tokens_in, tokens_out, used_by_call in usage:
                tokens = tokens_of_call(used_by_call) if used_by_call else {model: Tokens(tokens_in, tokens_out)}
                cost = Cost(tokens=tokens)
                # Without tokens, only calls inside these calls used the model.
                if cost.total_tokens:
                    spent, saved = (spent, saved + cost) if was_replayed else (spent + cost, saved)
        first, last, ended, operation = spans[0]
        if recorded:
            _, name, tags, started_at, finished_at, status, _, *process = recorded[0]
        else:
            name, tags, started_at, finished_at, status, process = operation, None, first, last, "open", ["", 0, ""]
        if status == "open":
            stopped = _status_after(ended)
            # The end of a graph that was stopped is recorded late. Until then, its last call tells whether it failed.
            status = stopped if finished_at is not None or stopped != "finished" else "running"
        host, pid, started = process
        if status == "running" and is_dead(LeaseOwner(b"", host, pid, started, 0.0)):
            status = "stopped"
        tags = tags and opened_tags(tags, self.contents)
        readable_tags = _tags(tags) if tags else None
        return RunSummary(
            run.hex(),
            name and scrubbed(name),
            readable_tags,
            started_at,
            finished_at,
            status,
            calls,
            replayed,
            ran,
            failed,
            spent,
            saved,
        )

    def _calls(self, parts: list[Row]) -> tuple[CallReport, ...]:
        """Return the calls of a run and of the runs inside it, numbered from 1 through all of them."""
        rows = self.ask(*(("calls_of_run", {"run": part}) for part, *_ in parts))
        numbers: dict[tuple[bytes, int | None], int] = {}
        placed_rows: list[tuple[bytes, tuple[bytes, int | None], Row]] = []
        for (part, outer_run, outer_call, _), lines in zip(parts, rows, strict=True):
            for row in lines:
                numbers[binary(part), row[1]] = len(numbers) + 1
                placed_rows.append((binary(part), (binary(outer_run), outer_call), row))
        calls: list[CallReport] = []
        for part, outer, row in placed_rows:
            _, call, parent, operation, namespace, node, execution, outcome, reason, at, *costs = row
            # An outer call has a lower number. A damaged row might put a call inside itself: readers would never end.
            above = numbers.get((part, parent)) if parent is not None and parent < call else None
            if above is None:
                above = numbers.get(outer)
            duration_ms, saved_ms, saved_tokens, tokens = costs
            calls.append(
                CallReport(
                    numbers[part, call],
                    above,
                    operation or "",
                    namespace or "",
                    node.hex(),
                    execution,
                    outcome,
                    ReplayReason[reason],
                    at,
                    duration_ms,
                    saved_ms,
                    tokens,
                    saved_tokens,
                )
            )
        return tuple(calls)

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
        return [node if node.error is None else self._with_error(node, node.error) for node in reports]

    def _with_error(self, node: NodeReport, error: str) -> NodeReport:
        try:
            return replace(node, error=self.contents(node.namespace).opened_text(ERROR, error))
        except ArtifactUnreadable as problem:
            return replace(node, error=f"(not shown: {problem})")

    def _with_edit(self, node: NodeReport, person: str | None, at: float, reason: str, undone: int) -> NodeReport:
        if person is None or node.execution is None:
            return node
        return replace(
            node, execution=replace(node.execution, edit=self._edit(node.namespace, person, at, reason, undone))
        )

    def _edit(self, namespace: str, person: str, at: float, reason: str, undone: int) -> EditReport:
        texts = []
        for text in (person, reason):
            try:
                texts.append(scrubbed(self.contents(namespace).opened_text(EDIT, text)))
            except ArtifactUnreadable as problem:
                texts.append(f"(not shown: {problem})")
        return EditReport(texts[0], at, texts[1], bool(undone))

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
            node: Attempt(number, started_at, duration_ms, Cost(duration_ms + saved_ms, _total_tokens(used[number])))
            for node, (number, started_at, duration_ms, saved_ms) in found.items()
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
        for value in stored_inputs(self._store, wanted, self.ask(*map(input_query, wanted))):
            yield without_secrets(value)  # earlier versions may have stored secrets

    @reports_damage
    def output(self, node: NodeReport) -> Any:
        """Return the output of a node as plain data, or None if nothing is stored.

        An output that cannot be read is a dict of the type "..." whose "value" says why.
        """
        return self.outputs([node])[0]

    @reports_damage
    def outputs(self, nodes: Sequence[NodeReport]) -> list[Any]:
        """Return the outputs of nodes, each as `output` does."""
        numbers = [node.execution.number for node in nodes if node.execution is not None]
        rows = iter(self.ask(*(("payload", {"execution": number}) for number in numbers)))
        return [None if node.execution is None else self._output(node, next(rows)) for node in nodes]

    def _output(self, node: NodeReport, rows: list[Row]) -> Any:
        artifact = None if node.execution is None else node.execution.artifact_id
        if not rows or rows[0][0] is None or artifact is None:
            return None
        stored = Stored(*rows[0])
        contents = self.contents(node.namespace)
        try:
            payload = contents.open(stored.codec, stored.payload, bytes.fromhex(artifact))
            return without_events(plain(memoryview(payload)[1:]))
        except ArtifactMissing as error:
            return {"$type": "...", "value": f"{error}; 'musubito --blobs URL' looks elsewhere"}
        except ArtifactUnreadable as error:
            return {"$type": "...", "value": str(error)}

    def contents(self, namespace: str) -> Contents:
        """Return the `Contents` that reads the payloads and texts of a namespace.

        Without a key, encrypted payloads and texts are not shown. Raises `WrongKey` if the namespace is encrypted with
        another key than the engine's. Raises `LineageError` if no namespace can have this name.
        """
        try:
            contents = self.engine.in_namespace(namespace).contents
        except (TypeError, ValueError) as error:
            raise LineageError(f"the name of a namespace is damaged: {error}") from error
        if contents.keys is not None and not contents.settled:
            contents.verify_key(self.engine.storage.find(KeyCheckOf(namespace)))
        return contents

    def _unique(self, kind: str, text: str, query: str) -> Row:
        """Return the row of the one id of this kind that begins with these digits."""
        short, size = text.lower().strip(), LONGEST[kind]
        if kind == "run" and not DIGITS.issuperset(short):
            raise LineageError(f"no run is called {text!r}, see {LISTED_BY[kind]!r}")
        if len(short) < SHORTEST or len(short) > 2 * size or not DIGITS.issuperset(short):
            raise LineageError(
                f"{text!r} is no {kind}: give at least {SHORTEST} digits of its id, see {LISTED_BY[kind]!r}"
            )
        first = bytes.fromhex(short.ljust(2 * size, "0"))
        last = bytes.fromhex(short.ljust(2 * size, "f"))
        rows = self.rows(query, first=first, last=last)
        if not rows:
            raise LineageError(f"no {kind} begins with {text}, see {LISTED_BY[kind]!r}")
        if len(rows) > 1:
            first_ids = ", ".join(short_id(binary(row[0]).hex(), len(short) + 4) for row in rows[:3])
            raise LineageError(f"several {kind}s begin with {text}: {first_ids} ...; give more digits")
        return rows[0]


def of_many(query: str, numbers: Iterable[int]) -> NamedQuery:
    """Return the query about the things that have these numbers."""
    return query, {"ids": json.dumps(list(numbers))}


def by_first(rows: Iterable[Row]) -> defaultdict[int, list[Row]]:
    """Return the rest of each row by its first column."""
    result: defaultdict[int, list[Row]] = defaultdict(list)
    for first, *rest in rows:
        result[first].append(tuple(rest))
    return result


def short_id(identity: str, digits: int = 10) -> str:
    """Return an id shortened to its first digits.

    The short form of a run's id has 12 digits or more, a dash, and the run's number. Runs of one process differ in this
    number alone. Ids of processes that began in the same second share their first ten digits.
    """
    if len(identity) == 2 * LONGEST["run"]:
        return f"{identity[: max(digits, 12)]}-{int(identity[24:], 16)}"
    return identity[:digits]


EVENTS: Final = frozenset(
    ("custom", "dispatched", "model", "chunk", "text", "end", "tool", "done", "failed", "pushed", "written")
)
"""Kinds of the events that an adapter stores beside an output."""


def without_events(value: Any) -> Any:
    """Return an output without the events that were emitted on the way.

    The adapter of a framework stores a tuple: the pieces of the output, and the events. A single piece is returned
    alone. Any other value is returned as it is.
    """
    match value:
        case {"$type": "tuple", "items": [[*pieces], [*events]]} if pieces and all(
            isinstance(event, list) and event and event[0] in EVENTS for event in events
        ):
            return pieces[0] if len(pieces) == 1 else pieces
    return value


def _tags(tags: str) -> dict[str, Any]:
    try:
        value = without_secrets(json.loads(tags))
    except ValueError:
        value = "(unreadable)"
    # Earlier versions stored tags that are no mapping.
    return value if isinstance(value, dict) else {"tags": value}


def tokens_of_call(used: str) -> dict[str, Tokens]:
    """Return the tokens by model of a call without an execution, from its line in the history.

    A damaged line has no tokens.
    """
    try:
        return {
            model: Tokens(int(tokens_in), int(tokens_out))
            for model, (tokens_in, tokens_out) in json.loads(used).items()
        }
    except (ValueError, TypeError, AttributeError):
        return {}


def _status_after(outcome: str | None) -> str:
    """Return the status of a run whose last call had this outcome; without any call, it has finished."""
    return outcome if outcome not in (None, "ran", "replayed") else "finished"


def _total_tokens(usage: Sequence[Row]) -> dict[str, Tokens]:
    """Return the tokens of an execution with all calls inside, by model."""
    return {model: Tokens(total_in, total_out) for model, _, _, total_in, total_out in usage}


def _node(row: Row, usage: Sequence[Row]) -> NodeReport:
    (_, node, namespace, operation, code, input_hash, step_type, sample, arguments, number, invalid, stale) = row[:12]
    started_at, duration_ms, artifact, producer, error, not_replayable, saved_ms = row[12:]
    execution = None
    if number is not None:
        execution = Execution(
            number,
            started_at,
            duration_ms,
            None if artifact is None else artifact.hex(),
            producer.hex(),
            not_replayable,
            Cost(duration_ms + saved_ms, _total_tokens(usage)),
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
