"""Sum the cost that was spent and the cost that replays saved, by day, model, operation or run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias, get_args

from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.readers.prices import dollars
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.readers.run_reader import tokens_of_call
from musubito.lineage.reports import Cost, LineageError, Tokens
from musubito.values.redaction import scrubbed

By: TypeAlias = Literal["day", "model", "operation", "run"]
QUARTER: Final = 900
"""Seconds in a quarter of an hour: the offset of each time zone is a number of whole quarters."""


@dataclass(frozen=True, slots=True)
class SavingsRow:
    """The calls of one day, model, operation or run.

    `spent` is the cost of the calls that ran or failed, which `ran` counts. The tokens of `spent` leave out those of
    calls inside, which count for themselves; so does the compute. What is saved is the earlier cost of the replayed
    results, with all calls inside. For results that do not change, the sum of both is the cost without Musubito. Only a
    run has a name and a wall (see `RunSummary`), since the walls of several runs may overlap. Dollars are None if no
    price is known, see `musubito.lineage.readers.prices`.
    """

    key: str
    name: str | None
    calls: int
    replayed: int
    ran: int
    compute_ms: float
    wall_ms: float | None
    tokens: Mapping[str, Tokens]
    spent_dollars: float | None
    saved_compute_ms: float
    saved_wall_ms: float | None
    saved_tokens: Mapping[str, Tokens]
    saved_dollars: float | None

    @property
    def spent(self) -> Cost:
        """Return the cost of the calls that ran."""
        return Cost(self.compute_ms, self.tokens, self.wall_ms)

    @property
    def saved(self) -> Cost:
        """Return the earlier cost of the results that were replayed."""
        return Cost(self.saved_compute_ms, self.saved_tokens, self.saved_wall_ms)


@dataclass(frozen=True, slots=True)
class Savings:
    """The rows of savings and their total.

    Days and runs come newest first, models and operations by their savings. What an operation saved includes all that
    its replayed results had called. A model has no time.
    """

    by: By
    since: float | None
    rows: tuple[SavingsRow, ...]
    total: SavingsRow


@dataclass(slots=True)
class _Costs:
    """A cost that grows: a `Cost` for each of thousands of rows would be copied at each of them."""

    compute_ms: float = 0.0
    tokens: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, model: str, tokens_in: int, tokens_out: int) -> None:
        before_in, before_out = self.tokens.get(model, (0, 0))
        self.tokens[model] = before_in + tokens_in, before_out + tokens_out

    def cost(self) -> Cost:
        return Cost(self.compute_ms, {model: Tokens(*tokens) for model, tokens in self.tokens.items()})


@dataclass(slots=True)
class _Sums:
    newest: float = 0.0
    name: str | None = None
    replayed: int = 0
    ran: int = 0
    spent: _Costs = field(default_factory=_Costs)
    saved: _Costs = field(default_factory=_Costs)

    def add(self, replayed: int, ran: int, spent_ms: float, saved_ms: float) -> None:
        self.replayed += replayed
        self.ran += ran
        self.spent.compute_ms += spent_ms
        self.saved.compute_ms += saved_ms

    def row(self, key: str) -> SavingsRow:
        spent, saved = self.spent.cost(), self.saved.cost()
        return SavingsRow(
            key,
            self.name,
            self.replayed + self.ran,
            self.replayed,
            self.ran,
            spent.compute_ms,
            None,
            spent.tokens,
            dollars(spent),
            saved.compute_ms,
            None,
            saved.tokens,
            dollars(saved),
        )


@reports_damage
def savings(lineage: Lineage, *, since: float | None = None, by: By = "day", operation: str | None = None) -> Savings:
    """Return the cost that calls spent and saved since a time, all of them or those of one operation.

    `since` is in seconds since the epoch. Days are days of local time. Runs inside a run are counted with it. Raises
    `LineageError` for an unknown `by`.
    """
    if by not in get_args(By):
        raise LineageError(f"savings are summed up by {', '.join(get_args(By))}, not by {by!r}")
    began = 0.0 if since is None else since
    params = {"by": by, "since": began, "quarter": int(began // QUARTER) if began > 0 else -1, "operation": operation}
    calls, usage = lineage.ask(("savings", params), ("saved_tokens", params))
    total, sums_by_key = _Sums(), defaultdict[str, _Sums](_Sums)
    days: dict[int, str] = {}
    for *keys, count, replayed, compute_ms, saved_ms, newest, name in calls:
        total.add(replayed, count - replayed, compute_ms, saved_ms)
        if by != "model":
            sums = sums_by_key[_key(by, keys, days)]
            sums.add(replayed, count - replayed, compute_ms, saved_ms)
            sums.newest, sums.name = max(sums.newest, newest), name and scrubbed(name)
    for *keys, was_replayed, model, tokens_in, tokens_out, count in _by_model(usage):
        sums = sums_by_key[model if by == "model" else _key(by, keys, days)]
        if by == "model":
            sums.add(count * was_replayed, count * (1 - was_replayed), 0.0, 0.0)
        for part in (total, sums):
            (part.saved if was_replayed else part.spent).add(model, tokens_in, tokens_out)
    rows = [sums.row(key) for key, sums in sums_by_key.items()]
    if by == "run":
        walls = lineage.walls([row.key for row in rows])
        rows = [replace(row, wall_ms=wall, saved_wall_ms=saved) for row, (wall, saved) in zip(rows, walls, strict=True)]
    if by in ("day", "run"):
        rows.sort(key=lambda row: (sums_by_key[row.key].newest, row.key), reverse=True)
    else:
        rows.sort(key=_by_worth)
    return Savings(by, since, tuple(rows), total.row("total"))


def _by_model(usage: Sequence[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of tokens, those of calls without an execution as one for each model."""
    for *keys, was_replayed, model, tokens_in, tokens_out, count, used in usage:
        if used is None:
            yield (*keys, was_replayed, model, tokens_in, tokens_out, count)
        else:
            for model_of_call, tokens in tokens_of_call(used).items():
                yield (*keys, 0, model_of_call, tokens.input * count, tokens.output * count, count)


def day_of(quarter: int) -> str:
    """Return the day of local time in which a quarter of an hour lies, counted since the epoch."""
    return datetime.fromtimestamp(quarter * QUARTER, UTC).astimezone().date().isoformat()


def _by_worth(row: SavingsRow) -> tuple[float, int, float, str]:
    return -(row.saved_dollars or 0.0), -row.saved.total_tokens, -row.saved_compute_ms, row.key


def _key(by: str, keys: Sequence[Any], days: dict[int, str]) -> str:
    """Return the key of a row. `days` keeps the days of quarters of an hour."""
    quarter, operation, run = keys
    if by == "day":
        day = days.get(quarter)
        if day is None:
            day = days[quarter] = day_of(quarter)
        return day
    if by == "run":
        return binary(run).hex()
    return operation or ""
