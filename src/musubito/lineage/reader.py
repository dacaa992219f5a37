"""The read side: runs, nodes and what hangs on what, as plain values. Nothing here runs or changes anything."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self

from musubito.causes import never_replayed
from musubito.contents.contents import ERROR, Contents
from musubito.contents.tags import opened_tags
from musubito.engine.engine import MusubitoEngine
from musubito.engine.inputs import stored_input
from musubito.engine.process import is_dead
from musubito.errors import ArtifactMissing, ArtifactUnreadable
from musubito.identity.plain import plain, without_secrets
from musubito.identity.secrets import scrubbed
from musubito.lineage.damage import binary, tells_damage
from musubito.lineage.records import (
    Attempt,
    CallReport,
    Cost,
    Execution,
    LineageError,
    NodeReport,
    Relative,
    RunReport,
    RunSummary,
    Tokens,
)
from musubito.model import NodeStatus
from musubito.store.base import Holder, KeyCheckOf, PayloadOf, Question, Readable, Stored

__all__ = ["Lineage", "short_id", "tokens_said"]

EVER: Final = 1e18
SHORTEST: Final = 4
LONGEST: Final = {"node": 32, "run": 17}
"""How many bytes ids have."""
SHOWN: Final = {"node": "musubito show last", "run": "musubito runs"}
"""What tells them."""
Row = tuple[Any, ...]


class Lineage:
    """Answers questions about what an engine has recorded, in all namespaces of its store.

    Ids are accepted in short, from 4 digits on, where they are unambiguous; `LineageError` where nothing or several
    things begin so. What the engine has buffered is written first. Raises `StoreError` if the store cannot be read, and
    TypeError if it is none that readers can ask.
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
        """The lineage in the store that a URL names, see `MusubitoEngine.from_url`; to be closed, or used in a `with`.
        `LineageError` for a file that is not there: to read is to make none."""
        scheme, _, path = url.partition(":///")
        if scheme == "sqlite" and not Path(path).is_file():
            raise LineageError(f"there is no database at {path}")
        return cls(MusubitoEngine.from_url(url))

    def close(self) -> None:
        """Let go of the engine's store."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def damage(self) -> str | None:
        """See `Readable.damage`."""
        return self._store.damage()

    def ask(self, *questions: Question) -> list[list[Row]]:
        """The rows for queries of `reading.sql`, all as of one moment."""
        self.engine.flush()
        return self._store.read(questions)

    def rows(self, query: str, /, **parameters: Any) -> list[Row]:
        """Those of one query."""
        return self.ask((query, parameters))[0]

    # -- runs ----------------------------------------------------------------------------------------------------------
    @tells_damage
    def runs(self, limit: int = 20, *, name: str | None = None, before: float = EVER) -> list[RunSummary]:
        """The newest runs, newest first. A call outside of any run is one of its own, named by its operation."""
        rows = self.rows("runs", limit=limit, before=before, named=name)
        lone = self.rows("lone_calls", limit=limit, before=before, named=name)
        newest = sorted([(row[3], row[0]) for row in rows] + [(row[2], row[0]) for row in lone], reverse=True)
        return [self._summary(run) for _, run in newest[:limit]]

    @tells_damage
    def run(self, run: str) -> RunReport:
        """One run, by its id, or the newest of that name; "last" is the newest of all."""
        number = self._run_id(run)
        return RunReport(self._summary(number), self._calls(number))

    def _run_id(self, text: str) -> bytes:
        if text == "last":
            newest = self.runs(1)
            if not newest:
                raise LineageError("nothing has run yet")
            return bytes.fromhex(newest[0].run_id)
        named = self.rows("runs_named", name=text, limit=1) or self.rows("lone_calls_named", name=text, limit=1)
        if named:
            return binary(named[0][0])
        return self._counted(text) or self._unique("run", text, "runs_like")

    def _counted(self, text: str) -> bytes | None:
        """The run that the short form names: of the ids of one process only the number at the end differs."""
        first, dash, number = text.lower().strip().rpartition("-")
        if not dash or not number.isdecimal() or not set(first) <= set("0123456789abcdef") or len(first) < SHORTEST:
            return None
        low, high = (bytes.fromhex(first.ljust(24, each)[:24]) for each in "0f")
        end = (int(number) % 256**5).to_bytes(5, "big")
        found = [binary(row[0]) for row in self.rows("runs_numbered", first=low, last=high + b"\xff" * 5, number=end)]
        if len(found) > 1:
            raise LineageError(f"several runs begin with {first} and have this number; give the whole id")
        return found[0] if found else None

    def _parts(self, run: bytes) -> list[tuple[bytes, int | None, bool]]:
        """The run and those inside it, each with the call of the one around it in which it began, and whether a call
        around it has its time."""
        return [(binary(part), call, bool(inside)) for part, call, inside in self.rows("parts_of_run", run=run)]

    def _summary(self, run: bytes) -> RunSummary:
        known = self.rows("run", run=run)
        parts = self._parts(run)
        totals = self.ask(*(("totals_of_run", {"run": part}) for part, *_ in parts))
        used = self.ask(*(("usage_of_run", {"run": part}) for part, *_ in parts))
        besides = self.ask(*(("used_in_run", {"run": part}) for part, *_ in parts))
        calls = replayed = ran = failed = 0
        spent, saved = Cost(), Cost()
        for (*_, inside), ((row,), usage) in zip(parts, zip(totals, used, strict=True), strict=True):
            calls, replayed, ran, failed = calls + row[0], replayed + row[1], ran + row[2], failed + row[3]
            # The time of a run that began inside a call is in that call's.
            spent += Cost(0.0 if inside else row[4])
            saved += Cost(row[5])
            for was_replayed, model, tokens_in, tokens_out in usage:
                if not tokens_in and not tokens_out:  # only calls inside it used this model
                    continue
                cost = Cost(tokens={model: Tokens(tokens_in, tokens_out)})
                spent, saved = (spent, saved + cost) if was_replayed else (spent + cost, saved)
        for (said,) in (row for rows in besides for row in rows):
            spent += Cost(tokens=tokens_said(said))
        first, last, ended, operation = self.rows("span_of_run", run=run)[0]
        if known:
            _, name, tags, started_at, finished_at, status, _, *process = known[0]
        else:
            name, tags, started_at, finished_at, status, process = operation, None, first, last, "open", ["", 0, ""]
        if status == "open":
            stopped = _ended(ended)
            # Of a graph that was stopped nobody says so before its last traces are gone.
            status = stopped if finished_at is not None or stopped != "finished" else "running"
        host, pid, started = process
        if status == "running" and is_dead(Holder(b"", host, pid, started, 0.0)):
            status = "stopped"
        tags = tags and opened_tags(tags, self.contents)
        said = _tags(tags) if tags else None
        return RunSummary(
            run.hex(),
            name and scrubbed(name),
            said,
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

    def _calls(self, run: bytes) -> tuple[CallReport, ...]:
        """Those of all parts, numbered anew."""
        parts = self._parts(run)
        rows = self.ask(*(("calls_of_run", {"run": part}) for part, *_ in parts))
        began = {part: self.rows("run", run=part)[0][6] if part != run else None for part, *_ in parts}
        numbers: dict[tuple[bytes, int], int] = {}
        found: list[tuple[bytes, int | None, Row]] = []
        for (part, within, _), lines in zip(parts, rows, strict=True):
            for row in lines:
                numbers[part, row[1]] = len(numbers) + 1
                found.append((part, within, row))
        calls: list[CallReport] = []
        for part, within, row in found:
            _, call, parent, operation, namespace, node, execution, outcome, reason, at, *costs = row
            outer = began[part]
            # A call begins after the one around it; in a damaged database it might be inside itself.
            above = numbers.get((part, parent)) if parent is not None and parent < call else None
            if above is None and within is not None and outer is not None:
                above = numbers.get((outer, within))
            took, saved_ms, saved_tokens, tokens = costs
            calls.append(
                CallReport(
                    numbers[part, call],
                    above,
                    operation or "",
                    namespace or "",
                    node.hex(),
                    execution,
                    outcome,
                    reason.lower().replace("_", " "),
                    at,
                    took,
                    saved_ms,
                    tokens,
                    saved_tokens,
                )
            )
        return tuple(calls)

    # -- nodes ---------------------------------------------------------------------------------------------------------
    @tells_damage
    def node(self, node: str) -> NodeReport:
        """One node, by its id."""
        return self.nodes([self.number(node)])[0]

    @tells_damage
    def nodes(self, numbers: Iterable[int]) -> list[NodeReport]:
        """Those of these numbers, as the store counts them."""
        numbers = list(numbers)
        rows = self.ask(*(("node_record", {"id": number}) for number in numbers))
        executions = [row[0][9] for row in rows]
        used = self.ask(*(("usage", {"execution": execution}) for execution in executions))
        reports = [_node(row[0], usage) for row, usage in zip(rows, used, strict=True)]
        return [each if each.error is None else self._with_error(each, each.error) for each in reports]

    def _with_error(self, node: NodeReport, error: str) -> NodeReport:
        try:
            return replace(node, error=self.contents(node.namespace).opened_text(ERROR, error))
        except ArtifactUnreadable as problem:
            return replace(node, error=f"(not shown: {problem})")

    def attempt(self, node: NodeReport) -> Attempt | None:
        """The last attempt at a node that failed; None of any other one."""
        if node.status is not NodeStatus.FAILED:
            return None
        found = self.rows("last_attempt", node=bytes.fromhex(node.node_id))
        if not found:
            return None
        number, started_at, duration_ms, saved_ms = found[0]
        used = self.rows("usage", execution=number)
        return Attempt(number, started_at, duration_ms, Cost(duration_ms + saved_ms, _all_of(used)))

    @tells_damage
    def number(self, node: str) -> int:
        """The number of a node in the store."""
        found = self.rows("numbers_of_node", node=self._unique("node", node, "nodes_like"))
        return int(found[0][0])

    @tells_damage
    def ancestors(self, node: str, deepest: int = 1000) -> list[Relative]:
        """All that a node came of, nearest first: what it consumed ("data"), and what was called inside ("call")."""
        return self._relatives("ancestors", node, deepest)

    @tells_damage
    def descendants(self, node: str, deepest: int = 1000) -> list[Relative]:
        """All that came of a node, nearest first: what consumed it, and what called it."""
        return self._relatives("descendants", node, deepest)

    def _relatives(self, query: str, node: str, deepest: int) -> list[Relative]:
        rows = self.rows(query, id=self.number(node), deepest=deepest)
        nodes = self.nodes(row[0] for row in rows)
        return [Relative(depth, kind, each) for (_, depth, kind), each in zip(rows, nodes, strict=True)]

    # -- contents ------------------------------------------------------------------------------------------------------
    @tells_damage
    def input(self, node: NodeReport) -> Any:
        """The arguments of a node's call as plain data, see `musubito.identity.plain`; None if they are not stored."""
        self.engine.flush()
        contents = self.contents(node.namespace)
        value = stored_input(self._store, contents, node.operation, bytes.fromhex(node.input_hash))
        return without_secrets(value)  # which an earlier version may have let through

    @tells_damage
    def output(self, node: NodeReport) -> Any:
        """What a node gave as plain data; None if nothing is stored."""
        if node.execution is None:
            return None
        stored: Stored | None = self.engine.storage.find(PayloadOf(node.execution.number))
        if stored is None or node.execution.artifact_id is None:
            return None
        contents = self.contents(node.namespace)
        try:
            payload = contents.open(stored.codec, stored.payload, bytes.fromhex(node.execution.artifact_id))
            return _without_events(plain(memoryview(payload)[1:]))
        except ArtifactMissing as error:
            return {"$type": "...", "value": f"{error}; 'musubito --blobs URL' looks elsewhere"}
        except ArtifactUnreadable as error:
            return {"$type": "...", "value": str(error)}

    def contents(self, namespace: str) -> Contents:
        """Those of a namespace. Raises `WrongKey` if they are encrypted with another key than the engine's; without one
        they are just not shown. Raises `LineageError` for what can be no namespace."""
        try:
            contents = self.engine.in_namespace(namespace).contents
        except (TypeError, ValueError) as error:
            raise LineageError(f"the name of a namespace is damaged: {error}") from error
        if contents.keys is not None and not contents.settled:
            contents.settle(self.engine.storage.find(KeyCheckOf(namespace)))
        return contents

    def _unique(self, kind: str, text: str, query: str) -> bytes:
        """The one id of this kind that begins with this text."""
        short, size = text.lower().strip(), LONGEST[kind]
        if kind == "run" and not set(short) <= set("0123456789abcdef"):
            raise LineageError(f"no run is called {text!r}, see {SHOWN[kind]!r}")
        if len(short) < SHORTEST or len(short) > 2 * size or not set(short) <= set("0123456789abcdef"):
            raise LineageError(f"{text!r} is no {kind}: give at least {SHORTEST} digits of its id, see {SHOWN[kind]!r}")
        first = bytes.fromhex(short.ljust(2 * size, "0"))
        last = bytes.fromhex(short.ljust(2 * size, "f"))
        found = [binary(row[0]) for row in self.rows(query, first=first, last=last)]
        if not found:
            raise LineageError(f"no {kind} begins with {text}")
        if len(found) > 1:
            some = ", ".join(short_id(each.hex(), len(short) + 4) for each in found[:3])
            raise LineageError(f"several {kind}s begin with {text}: {some} ...; give more digits")
        return found[0]


def short_id(identity: str, digits: int = 10) -> str:
    """The first digits of an id. Of a run's also its number: the runs of one process begin alike, and those of
    processes that began in the same second in ten digits."""
    if len(identity) == 2 * LONGEST["run"]:
        return f"{identity[: max(digits, 12)]}-{int(identity[24:], 16)}"
    return identity[:digits]


EVENTS: Final = frozenset({"custom", "dispatched", "model", "chunk", "text", "end"})


def _without_events(value: Any) -> Any:
    """What a step of a framework's gave: its adapter stores the pieces in which that came, and beside them what was
    emitted on the way."""
    match value:
        case {"$type": "tuple", "items": [[*pieces], [*events]]} if pieces and all(
            isinstance(each, list) and each and each[0] in EVENTS for each in events
        ):
            return pieces[0] if len(pieces) == 1 else pieces
    return value


def _tags(tags: str) -> dict[str, Any]:
    try:
        said = without_secrets(json.loads(tags))
    except ValueError:
        said = "(unreadable)"
    # Earlier versions let through what is no mapping.
    return said if isinstance(said, dict) else {"tags": said}


def tokens_said(used: str) -> dict[str, Tokens]:
    """Those of a call without an execution, as its line says them; nothing if it is damaged."""
    try:
        return {model: Tokens(int(given), int(made)) for model, (given, made) in json.loads(used).items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _ended(outcome: str | None) -> str:
    return outcome if outcome not in (None, "ran", "replayed") else "finished"


def _all_of(usage: Sequence[Row]) -> dict[str, Tokens]:
    """The tokens of an execution with all calls inside."""
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
            Cost(duration_ms + saved_ms, _all_of(usage)),
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
