"""Sum the cost that was spent and the cost that replays saved, by day, model, operation or run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias, get_args

from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.prices import dollars
from musubito.lineage.reader import Lineage, tokens_of_call
from musubito.lineage.reports import Cost, LineageError, Tokens
from musubito.values.redaction import scrubbed

By: TypeAlias = Literal["day", "model", "operation", "run"]
QUARTER: Final = 900
"""Seconds in a quarter of an hour: the offset of each time zone is a number of whole quarters."""


@dataclass(frozen=True, slots=True)
class SavingsRow:
    """The calls of one day, model, operation or run.

    `spent` is the cost of the calls that ran or failed, which `ran` counts. The tokens of `spent` leave out those of
    calls inside, which count for themselves. `saved` is the earlier cost of the replayed results, with all calls
    inside. For results that do not change, the sum of both is the cost without Musubito. `name` is the name of a run.
    Dollars are None if no price is known, see `musubito.lineage.prices`.
    """

    key: str
    name: str | None
    calls: int
    replayed: int
    ran: int
    spent: Cost
    saved: Cost
    spent_dollars: float | None
    saved_dollars: float | None


@dataclass(frozen=True, slots=True)
class Savings:
    """The rows of savings and their total.

    Days and runs come newest first, models and operations by their savings. The time of an operation includes all that
    it called, so that its rows do not add up to the total. A model has no time.
    """

    by: By
    since: float | None
    rows: tuple[SavingsRow, ...]
    total: SavingsRow


@dataclass(slots=True)
class _Sums:
    newest: float = 0.0
    name: str | None = None
    replayed: int = 0
    ran: int = 0
    spent: Cost = field(default_factory=Cost)
    saved: Cost = field(default_factory=Cost)

    def add(self, replayed: int, ran: int, spent: Cost, saved: Cost) -> None:
        self.replayed += replayed
        self.ran += ran
        self.spent += spent
        self.saved += saved

    def row(self, key: str) -> SavingsRow:
        return SavingsRow(
            key,
            self.name,
            self.replayed + self.ran,
            self.replayed,
            self.ran,
            self.spent,
            self.saved,
            dollars(self.spent),
            dollars(self.saved),
        )


@reports_damage
def savings(lineage: Lineage, *, since: float | None = None, by: By = "day") -> Savings:
    """Return the cost that calls spent and saved since a time.

    `since` is in seconds since the epoch. Days are days of local time. Runs inside a run are counted with it. Raises
    `LineageError` for an unknown `by`.
    """
    if by not in get_args(By):
        raise LineageError(f"savings are summed up by {', '.join(get_args(By))}, not by {by!r}")
    params = {"by": by, "since": 0.0 if since is None else since}
    if by == "operation":
        since_then = {"since": params["since"]}
        calls, usage = lineage.ask(("savings_of_operations", since_then), ("tokens_of_operations", since_then))
    else:
        calls, usage = lineage.ask(("savings_of_runs", params), ("tokens_of_runs", params))
    total, sums_by_key = _Sums(), defaultdict[str, _Sums](_Sums)
    for *keys, count, replayed, all_ms, top_ms, saved_ms, newest, name in calls:
        total.add(replayed, count - replayed, Cost(top_ms), Cost(saved_ms))
        if by != "model":
            sums = sums_by_key[_key(by, keys)]
            sums.add(replayed, count - replayed, Cost(all_ms if by == "operation" else top_ms), Cost(saved_ms))
            sums.newest, sums.name = max(sums.newest, newest), name and scrubbed(name)
    for *keys, was_replayed, model, tokens, count in _by_model(usage):
        cost = Cost(tokens={model: tokens})
        spent, saved = (Cost(), cost) if was_replayed else (cost, Cost())
        total.add(0, 0, spent, saved)
        if by == "model":
            sums_by_key[model].add(count * was_replayed, count * (1 - was_replayed), spent, saved)
        else:
            sums_by_key[_key(by, keys)].add(0, 0, spent, saved)
    if by in ("day", "run"):
        ordered = sorted(sums_by_key.items(), key=lambda entry: (entry[1].newest, entry[0]), reverse=True)
    else:
        ordered = sorted(sums_by_key.items(), key=_by_worth)
    return Savings(by, since, tuple(sums.row(key) for key, sums in ordered), total.row("total"))


def _by_model(usage: Sequence[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of tokens, those of calls without an execution as one for each model."""
    for *keys, was_replayed, model, tokens_in, tokens_out, count, used in usage:
        if used is None:
            yield (*keys, was_replayed, model, Tokens(tokens_in, tokens_out), count)
        else:
            for model_of_call, tokens in tokens_of_call(used).items():
                yield (*keys, 0, model_of_call, Tokens(tokens.input * count, tokens.output * count), count)


def _by_worth(entry: tuple[str, _Sums]) -> tuple[float, int, float, str]:
    key, sums = entry
    return -(dollars(sums.saved) or 0.0), -sums.saved.total_tokens, -sums.saved.milliseconds, key


def _key(by: str, keys: Sequence[Any]) -> str:
    quarter, operation, run = keys
    if by == "day":
        return datetime.fromtimestamp(quarter * QUARTER, UTC).astimezone().date().isoformat()
    if by == "run":
        return binary(run).hex()
    return operation or ""
