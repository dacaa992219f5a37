"""What must hold after any faults, told from the log that lies beside the store and from the store itself.

A body may run again for the same key only if something explains it: the run before was cut off by a kill, was reported
as unrecorded, was invalidated meanwhile, or outlived its lease. And it must run again after it was invalidated.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from musubito import MusubitoEngine
from musubito.engine import process_identity
from musubito.lineage import Lineage
from musubito.lineage.readers.verify import Finding, verify
from musubito.store.changes import Claim, Moment, Release, Superseded
from musubito.store.queries import LeaseOwnerOf
from musubito.store.rows import CallKeys, LeaseOwner
from tests.faults.harness.workload import Operation, built_on

__all__ = ["Interval", "Record", "findings", "leases_that_outlive", "problems", "read_log"]

EVER = float("inf")
LATE = 10.0
"""So many seconds after its process was killed a server may still commit what it has sent."""


class Interval(NamedTuple):
    begin: float
    end: float
    done: bool = True

    def meets(self, begin: float, end: float) -> bool:
        return self.begin <= end and begin <= self.end


@dataclass
class Ask:
    """One operation of one thread."""

    operation: Operation
    pid: int
    begin: float
    end: float = EVER
    outcome: str = "cut"
    faults: int = 0

    @property
    def clean(self) -> bool:
        return self.outcome == "returned" and not self.faults


@dataclass
class Run:
    """One run of a body."""

    step: str
    key: str
    begin: float
    ask: Ask
    end: float = EVER

    @property
    def ended(self) -> bool:
        return self.end < EVER


@dataclass
class Record:
    """All that was logged, and what was done to whom."""

    asks: list[Ask] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    invalidations: dict[str, list[Interval]] = field(default_factory=lambda: defaultdict(list))
    """By the step, or the key of the body, whose results they were."""
    planted: Counter[str] = field(default_factory=Counter)
    """How many faults of each kind."""
    stops: dict[int, list[Interval]] = field(default_factory=lambda: defaultdict(list))
    leases: dict[int, float] = field(default_factory=dict)
    """By process, how long its leases last."""
    rows: bool = True
    """Whether leases of steps are rows, too, and not locks; those of effects always are."""
    timeless: set[int] = field(default_factory=set)
    """Those whose clock jumped: their leases may seem to have run out."""
    by_clients: bool = True
    """Whether leases go by the clocks of those who hold them."""
    finals: set[int] = field(default_factory=set)

    def lapsed(self, ask: Ask) -> bool:
        """Whether its lease may have run out."""
        if not self.rows and not ask.operation.is_effect:
            return False
        lease = self.leases[ask.pid]
        stopped = any(stop.meets(ask.begin, ask.end) for stop in self.stops.get(ask.pid, ()))
        return stopped or (ask.pid in self.timeless and self.by_clients) or ask.end - ask.begin > lease / 2

    def invalidated(self, key: str, begin: float, end: float) -> bool:
        return any(each.meets(begin, end) for named in built_on(key) for each in self.invalidated_of(named))

    def invalidated_of(self, named: Sequence[str]) -> list[Interval]:
        return [each for name in named for each in self.invalidations.get(name, ())]


def read_log(path: Path, record: Record) -> Record:
    """The record, with all that is in the log by now."""
    record = replace(record, asks=[], runs=[], invalidations=defaultdict(list), planted=record.planted.copy())
    open_asks: dict[tuple[int, int], Ask] = {}
    runs: dict[str, Run] = {}
    invalidating: dict[str, dict[str, Any]] = {}
    for text in path.read_text().splitlines():
        line = json.loads(text)
        thread = line["pid"], line["thread"]
        match line["kind"]:
            case "ask":
                operation = Operation(line["operation"], tuple(line["versions"]), line["n"])
                ask = open_asks[thread] = Ask(operation, line["pid"], line["at"])
                record.asks.append(ask)
            case "answer":
                ask = open_asks.pop(thread)
                ask.end, ask.outcome, ask.faults = line["at"], line["outcome"], line["faults"]
            case "begin":
                run = runs[line["run"]] = Run(line["step"], line["key"], line["at"], open_asks[thread])
                record.runs.append(run)
            case "end":
                runs[line["run"]].end = line["at"]
            case "invalidating":
                invalidating[line["run"]] = line
            case "invalidated":
                begun = invalidating.pop(line["run"])
                record.invalidations[line["of"]].append(Interval(begun["at"], line["at"]))
            case "down":
                record.planted.update(line["planted"])
    for line in invalidating.values():
        record.invalidations[line["of"]].append(Interval(line["at"], line["at"] + LATE, done=False))
    return record


def problems(record: Record) -> list[str]:
    """All that is wrong."""
    said = [f"{ask.operation}: {ask.outcome}" for ask in record.asks if ask.outcome.startswith(("wrong", "raised"))]
    by_key: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(record.runs, key=lambda run: run.begin):
        by_key[run.key].append(run)
    for key, runs in by_key.items():
        if runs[0].step not in ("pay", "resend"):
            said += _of_a_key(record, key, runs)
    said += _of_payments(record, by_key)
    said += _of_reruns(record)
    return said + _of_invalidations(record, by_key)


def _of_a_key(record: Record, key: str, runs: Sequence[Run]) -> list[str]:
    said = []
    settled: Run | None = None
    recorded: Run | None = None
    for run in runs:
        explained = run.ask.faults > 0 or record.lapsed(run.ask)
        if settled is not None and not explained and not record.invalidated(key, settled.ask.begin, run.begin):
            said.append(f"{key} ran again: {settled}, {run}")
        lost = run.ask.pid in record.finals and run.ask.faults == 0
        if recorded is not None and lost and not record.invalidated(key, recorded.ask.begin, run.begin):
            said.append(f"{key} was lost: {recorded}, {run}")
        if run.ended and run.ask.clean:
            recorded = run
            settled = settled if record.lapsed(run.ask) else run
    return said


def _of_payments(record: Record, by_key: dict[str, list[Run]]) -> list[str]:
    said = [
        f"{key} was paid {len(runs)} times" for key, runs in by_key.items() if runs[0].step == "pay" and len(runs) > 1
    ]
    done: set[int] = set()
    for ask in sorted(record.asks, key=lambda ask: ask.end):
        if ask.operation.kind != "pay":
            continue
        order = ask.operation.n
        if ask.outcome == "unknown":
            others = [a for a in record.asks if a.operation.kind == "pay" and a.operation.n == order and a is not ask]
            causes = [a for a in others if a.outcome in ("cut", "refused") or a.faults or record.lapsed(a)]
            if not causes:
                said.append(f"order {order} is unknown for no reason")
            if order in done:
                said.append(f"order {order} was paid, and is unknown now")
        elif ask.clean and not record.lapsed(ask):
            done.add(order)
    return said


def _of_reruns(record: Record) -> list[str]:
    said = []
    by_order: dict[int, list[Run]] = defaultdict(list)
    for run in sorted(record.runs, key=lambda run: run.begin):
        if run.step == "resend":
            by_order[json.loads(run.key)[1]].append(run)
    for order, runs in by_order.items():
        if len({run.key for run in runs}) > 1:
            said.append(f"order {order} was sent under several keys")
        for before, run in pairwise(runs):
            if before.ended and before.ask.clean and not record.lapsed(before.ask):
                said.append(f"order {order} was sent again: {before}, {run}")
    return said


def _of_invalidations(record: Record, by_key: dict[str, list[Run]]) -> list[str]:
    """What was invalidated has run again since. What it calls may have been invalidated before it was called."""
    said = []
    for ask in record.asks:
        key = ask.operation.key
        if key is None or not ask.clean:
            continue
        own, inside = (
            max(
                (each.begin for each in record.invalidated_of(named) if each.done and each.end < ask.begin), default=0.0
            )
            for named in built_on(key)
        )
        runs = by_key.get(key, ())
        if not any(own <= run.begin <= ask.end and run.ended and inside <= run.end for run in runs):
            said.append(f"{key} was invalidated at {own}, or what it calls at {inside}, and was replayed: {ask}")
    return said


# -- the store itself --------------------------------------------------------------------------------------------------
def findings(store: Any) -> list[Finding]:
    """What `musubito verify` says."""
    return [finding for checked in verify(Lineage(MusubitoEngine(store))) for finding in checked.findings]


def leases_that_outlive(store: Any, keys: Sequence[bytes]) -> list[bytes]:
    """Keys that nobody could claim now that all who held them are gone."""
    engine, kept = MusubitoEngine(store), []
    for key in keys:
        held: LeaseOwner | None = store.find(LeaseOwnerOf(key))
        over = held.owner if held is not None and process_identity.is_dead(held) else None
        claim = Claim(key, CallKeys(key, key, key), False, 2**60, engine._lease_owner(), "anybody", engine.now(), over)
        answer = store.write([claim])[0]
        if not isinstance(answer, (Moment, Superseded)):
            kept.append(key)
        store.write([Release((key, engine.owner))])
    return kept
