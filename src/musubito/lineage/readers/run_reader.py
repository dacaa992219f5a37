"""Read recorded runs and their calls."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from musubito.engine.frame import covered
from musubito.engine.process_identity import is_dead
from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.readers.store_reader import DIGITS, SHORTEST, StoreReader
from musubito.lineage.reports import (
    WITH_FAILURES,
    CallReport,
    Cost,
    LineageError,
    NothingRan,
    RunReport,
    RunSummary,
    Tokens,
)
from musubito.model import ReplayReason
from musubito.payloads.encrypted_tags import opened_tags
from musubito.store.protocol import NamedQuery, Row
from musubito.store.rows import LeaseOwner
from musubito.values.redaction import scrubbed

EVER: Final = 1e18
"""Seconds since the epoch, later than any run."""
RERUN: Final = "rerun"
"""The tag of a rerun, which holds what it was asked for."""
RERUN_OF: Final = "rerun_of"
"""The tag of a run in a rerun: the ids of the runs that it makes once more."""
JUDGES: Final = "judges"
"""The tag of a run in a rerun that judges another: the id of that run."""
PAGE: Final = 500
"""Runs that are looked at together, once a few have not been enough."""


FIRST_CALLS: Final = 2_000
"""Calls of a run that a reader is shown who does not ask for all."""


NOBODY: Final = ("", "")
"""The name and the namespace of an operation that is not known."""


class _RunRows(NamedTuple):
    """The rows of one run: its own, those of its parts, and that of its span."""

    run: bytes
    recorded: list[Row]
    parts: list[Row]
    spans: list[Row]


class RunReader(StoreReader):
    """A reader of the runs in a store."""

    @reports_damage
    def runs(
        self,
        limit: int = 20,
        *,
        name: str | None = None,
        operation: str | None = None,
        since: float = 0.0,
        before: float = EVER,
        tagged: Callable[[Mapping[str, Any]], bool] | None = None,
        matching: Callable[[RunSummary], bool] = lambda _: True,
    ) -> list[RunSummary]:
        """Return the newest runs, newest first.

        A call outside of any run is a run of its own, named by its operation. Only runs are returned to which all of
        this applies:

        - `name`: the run has this name.
        - `operation`: a call of this operation was made in the run, outside of runs inside it.
        - `since`, `before`: the run began in this time, in seconds since the epoch.
        - `tagged`: the function returns true for the tags of the run. This is asked before anything else is read.
        - `matching`: the function returns true for the run.
        """
        result: list[RunSummary] = []
        seen: set[bytes] = set()
        size = limit
        while True:
            page = self.newest_runs(size, before, name, operation)
            new = [
                run
                for at, run, tags in page
                if at >= since and run not in seen and (tagged is None or tagged(self.tags(tags) or {}))
            ]
            result += filter(matching, self._summaries(self._rows_of_runs(new)))
            if len(result) >= limit or len(page) < size or page[-1][0] < since:
                return result[:limit]
            if math.nextafter(page[-1][0], EVER) == before:
                return result
            seen.update(new)
            before = math.nextafter(page[-1][0], EVER)  # others may have begun at the same time
            size = max(limit, min(2 * size, PAGE))

    def reruns(self, limit: int = 20, *, before: float = EVER) -> list[RunSummary]:
        """Return the newest reruns before a time, newest first. `musubito.lineage.rerun_report` shows one."""
        return self.runs(limit, tagged=lambda tags: isinstance(tags.get(RERUN), dict), before=before)

    def newest_runs(
        self, limit: int, before: float = EVER, name: str | None = None, operation: str | None = None
    ) -> list[Row]:
        """Return when the newest runs began, their ids, and their tags as stored; see `runs`."""
        of = {"limit": limit, "before": before, "named": name, "operation": operation}
        recorded, lone = self.ask(("runs", of), ("lone_calls", of))
        return sorted([*recorded, *((*row, None) for row in lone)], reverse=True)[:limit]

    @reports_damage
    def run(self, run: str, *, after: int = 0, limit: int | None = None, replayed: bool = True) -> RunReport:
        """Return one run with its calls.

        `run` is an id, a name, or "last". A name stands for its newest run, "last" for the newest of all. Of the calls,
        only those after the number `after` are returned, and at most `limit`; with `replayed=False`, only those that
        were not replayed. The summary counts all.
        """
        rows = self._rows_of_runs([self._run_id(run)])
        most = sys.maxsize if limit is None else limit
        summary, calls = self._summaries(rows)[0], self._calls(rows[0].parts, after, most, replayed=replayed)
        return RunReport(summary, calls, next((row[-1] for row in rows[0].recorded), summary.started_at))

    @reports_damage
    def head(self, run: str) -> RunSummary:
        """Return the summary of a run, as `run` names it, without the numbers and costs of its calls."""
        rows = self._rows_of_runs([self._run_id(run)])[0]
        return self._summary(rows._replace(parts=[]), [])

    def walls(self, runs: Sequence[str]) -> list[tuple[float | None, float]]:
        """Return the walls of runs and those that replays saved in them; see `RunSummary`."""
        summaries = self._summaries(self._rows_of_runs([bytes.fromhex(run) for run in runs]))
        return [(run.wall_ms, run.saved_wall_ms) for run in summaries]

    def _run_id(self, text: str) -> bytes:
        if text == "last":
            newest = self.newest_runs(1)
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
            self.ask(
                *(
                    (query, {"run": part})
                    for part in parts
                    for query in ("totals_of_run", "usage_of_run", "saved_wall_of_run")
                )
            )
        )
        return [self._summary(run, [(next(rows)[0], next(rows), next(rows)) for _ in run.parts]) for run in runs]

    def tags(self, stored: str | None) -> dict[str, Any] | None:
        """Return the tags of a run from their stored text; None without tags, or if they cannot be read here."""
        tags = stored and opened_tags(stored, self.contents)
        if not tags:
            return None
        try:
            value = json.loads(tags)
        except ValueError:
            value = "(unreadable)"
        return value if isinstance(value, dict) else {"tags": value}

    def _summary(self, rows: _RunRows, costs: list[tuple[Row, list[Row], list[Row]]]) -> RunSummary:
        """Return the summary of a run, from the totals, the tokens and the saved time of each of its parts."""
        run, recorded, parts, ends = rows
        calls = replayed = ran = failed = 0
        spent, saved = Cost(), Cost()
        spans: list[tuple[float, float]] = []
        for (*_, inside), (row, usage, made) in zip(parts, costs, strict=True):
            calls, replayed, ran, failed = calls + row[0], replayed + row[1], ran + row[2], failed + row[3]
            spent, saved = spent + Cost(row[4]), saved + Cost(row[5])
            # What a run saved that began inside a call is part of what that call tells.
            spans += [(began, began + took / 1000) for began, took in made if not inside]
            for was_replayed, model, tokens_in, tokens_out, used_by_call in usage:
                tokens = tokens_of_call(used_by_call) if used_by_call else {model: Tokens(tokens_in, tokens_out)}
                cost = Cost(tokens=tokens)
                # Without tokens, only calls inside these calls used the model.
                if cost.total_tokens:
                    spent, saved = (spent, saved + cost) if was_replayed else (spent + cost, saved)
        first, last, ended, operation = ends[0]
        if recorded:
            _, name, tags, started_at, finished_at, status, _, *process, _ = recorded[0]
        else:
            name, tags, started_at, finished_at, status, process = operation, None, first, last, "open", ["", 0, ""]
        if status == "open":
            stopped = _status_after(ended)
            # The end of a graph that was stopped is recorded late. Until then, its last call tells whether it failed.
            status = stopped if finished_at is not None or stopped != "finished" else "running"
        host, pid, started = process
        if status == "running" and is_dead(LeaseOwner(b"", host, pid, started, 0.0)):
            status = "stopped"
        if status == "finished" and failed:
            status = WITH_FAILURES
        return RunSummary(
            run.hex(),
            name and scrubbed(name),
            self.tags(tags),
            started_at,
            finished_at,
            status,
            calls,
            replayed,
            ran,
            failed,
            spent.compute_ms,
            None if finished_at is None else 1000 * (finished_at - started_at),
            spent.tokens,
            saved.compute_ms,
            1000 * covered(spans),
            saved.tokens,
        )

    def _calls(self, parts: list[Row], after: int, limit: int, *, replayed: bool) -> tuple[CallReport, ...]:
        """Return calls of a run and of the runs inside it, numbered from 1 through all of them."""
        numbers: dict[bytes, dict[int | None, int]] = {}
        questions: list[NamedQuery] = []
        outer_calls: list[tuple[bytes, bytes, int | None]] = []
        calls_by_part = self.ask(*(("call_numbers", {"run": part}) for part, *_ in parts))
        before = 0
        for (part, outer_run, outer_call, _), rows in zip(parts, calls_by_part, strict=True):
            numbers[binary(part)] = {call: number for number, (call,) in enumerate(rows, before + 1)}
            # Without filter, calls before these fill the page.
            is_full = replayed and before >= after + limit
            start = max(0, after - before)
            if start < len(rows) and not is_full:
                of = {"run": part, "first": rows[start][0], "limit": limit, "replayed": int(replayed)}
                questions.append(("calls_of_run", of))
                outer_calls.append((binary(part), binary(outer_run), outer_call))
            before += len(rows)
        # The same few names for many calls are read once.
        *calls_by_part, operations = self.ask(*questions, ("all_operations", {}))
        names = {operation: (name, namespace) for operation, namespace, name in operations}
        places = [(numbers[part], numbers.get(run, {}).get(call)) for part, run, call in outer_calls]
        placed_rows = ((*place, row) for place, rows in zip(places, calls_by_part, strict=True) for row in rows)
        reasons = ReplayReason.__members__
        calls: list[CallReport] = []
        for own, outer, row in islice(placed_rows, limit):
            call, parent, operation, node, execution, outcome, reason = row[:7]
            at, wall_ms, compute_ms, saved_tokens, tokens = row[7:]
            name, namespace = names.get(operation, NOBODY)
            # An outer call has a lower number. A damaged row might put a call inside itself: readers would never end.
            above = own.get(parent) if parent is not None and parent < call else None
            if above is None:
                above = outer
            was_replayed = outcome == "replayed"
            calls.append(
                CallReport(
                    own[call],
                    above,
                    name,
                    namespace,
                    node.hex(),
                    execution,
                    outcome,
                    reasons[reason],
                    at,
                    wall_ms,
                    0.0 if was_replayed else compute_ms,
                    compute_ms if was_replayed else 0.0,
                    tokens,
                    saved_tokens,
                )
            )
        return tuple(calls)


def computing(reader: StoreReader, run_id: str) -> list[tuple[str, float]]:
    """Return the operations that the engine of a run computes now, with the milliseconds since each began."""
    now = reader.engine.now()
    rows = reader.rows("open_leases", owner=bytes.fromhex(run_id)[:12])
    return [(operation, 1000 * (now - started_at)) for operation, started_at, until in rows if until >= now]


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
