"""Sum the cost that was spent and the cost that replays saved, by day, model, operation or run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias, get_args

from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.prices import dollars
from musubito.lineage.reader import Lineage, tokens_of_call
from musubito.lineage.reports import Cost, LineageError, Tokens
from musubito.values.redaction import scrubbed

__all__ = ["By", "Savings", "SavingsRow", "savings"]

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
    start = 0.0 if since is None else since
    calls, usage, used, all_calls, all_usage, all_used = lineage.ask(
        ("savings_calls", {"by": by, "since": start}),
        ("savings_usage", {"by": by, "since": start}),
        ("savings_used", {"by": by, "since": start}),
        ("savings_calls", {"by": "", "since": start}),
        ("savings_usage", {"by": "", "since": start}),
        ("savings_used", {"by": "", "since": start}),
    )
    usage, all_usage = [*usage, *_token_rows(used)], [*all_usage, *_token_rows(all_used)]
    total = _summed("", all_calls, all_usage).get("", _Sums())
    sums_by_key = _by_model(all_usage) if by == "model" else _summed(by, calls, usage)
    if by in ("day", "run"):
        ordered = sorted(sums_by_key.items(), key=lambda entry: (entry[1].newest, entry[0]), reverse=True)
    else:
        ordered = sorted(sums_by_key.items(), key=_by_worth)
    rows = tuple(sums.row(key) for key, sums in ordered)
    return Savings(by, since, rows, total.row("total"))


def _token_rows(used: Sequence[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Yield the tokens of calls without an execution, as rows like those of `savings_usage`."""
    for *keys, used_by_call in used:
        for model, tokens in tokens_of_call(used_by_call).items():
            yield (*keys, 0, model, *tokens, 1)


def _summed(by: str, calls: Sequence[tuple[Any, ...]], usage: Sequence[tuple[Any, ...]]) -> dict[str, _Sums]:
    sums_by_key: dict[str, _Sums] = {}
    for *keys, count, replayed, spent_ms, saved_ms, newest, name in calls:
        sums = sums_by_key.setdefault(_key(by, keys), _Sums())
        sums.newest = max(sums.newest, newest)
        sums.name = name and scrubbed(name)
        sums.replayed += replayed
        sums.ran += count - replayed
        sums.spent += Cost(spent_ms)
        sums.saved += Cost(saved_ms)
    for *keys, was_replayed, model, tokens_in, tokens_out, _ in usage:
        _add_tokens(sums_by_key[_key(by, keys)], was_replayed, model, Tokens(tokens_in, tokens_out))
    return sums_by_key


def _by_model(usage: Sequence[tuple[Any, ...]]) -> dict[str, _Sums]:
    sums_by_model: dict[str, _Sums] = {}
    for *_, was_replayed, model, tokens_in, tokens_out, count in usage:
        sums = sums_by_model.setdefault(model, _Sums())
        _add_tokens(sums, was_replayed, model, Tokens(tokens_in, tokens_out))
        if was_replayed:
            sums.replayed += count
        else:
            sums.ran += count
    return sums_by_model


def _add_tokens(sums: _Sums, was_replayed: bool, model: str, tokens: Tokens) -> None:
    cost = Cost(tokens={model: tokens})
    if was_replayed:
        sums.saved += cost
    else:
        sums.spent += cost


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
