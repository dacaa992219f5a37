"""What was spent and what replays saved, summed up by day, model, operation or run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias, get_args

from musubito.identity.secrets import scrubbed
from musubito.lineage.damage import binary, tells_damage
from musubito.lineage.prices import dollars
from musubito.lineage.reader import Lineage, tokens_said
from musubito.lineage.records import Cost, LineageError, Tokens

__all__ = ["By", "Savings", "SavingsRow", "savings"]

By: TypeAlias = Literal["day", "model", "operation", "run"]
QUARTER: Final = 900
"""Seconds. The offsets of all time zones are whole quarters of an hour."""


@dataclass(frozen=True, slots=True)
class SavingsRow:
    """The calls of one day, model, operation or run.

    `spent` is what those took that ran or failed (`ran`), tokens without those of calls inside, which count for
    themselves; `saved` is what those had taken that were replayed, with all calls inside. So for results that do not
    change, both together are what it would have cost without Musubito. `name` is that of a run. Dollars are None where
    no price is known, see `musubito.lineage.prices`.
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
    """Rows and their total. Days and runs come newest first, models and operations by what they saved.

    Time by operation is with all that it called, so that those rows do not add up to the total; by model there is none.
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


@tells_damage
def savings(lineage: Lineage, *, since: float | None = None, by: By = "day") -> Savings:
    """What the calls since a time (seconds since the epoch) spent and saved. Days are those of local time; what runs
    inside a run is counted with it."""
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
    usage, all_usage = [*usage, *_told(used)], [*all_usage, *_told(all_used)]
    total = _summed("", all_calls, all_usage).get("", _Sums())
    found = _by_model(all_usage) if by == "model" else _summed(by, calls, usage)
    if by in ("day", "run"):
        ordered = sorted(found.items(), key=lambda each: (each[1].newest, each[0]), reverse=True)
    else:
        ordered = sorted(found.items(), key=_by_worth)
    rows = tuple(sums.row(key) for key, sums in ordered)
    return Savings(by, since, rows, total.row("total"))


def _told(used: Sequence[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Rows like those of `savings_usage`."""
    for *keys, said in used:
        for model, tokens in tokens_said(said).items():
            yield (*keys, 0, model, *tokens, 1)


def _summed(by: str, calls: Sequence[tuple[Any, ...]], usage: Sequence[tuple[Any, ...]]) -> dict[str, _Sums]:
    found: dict[str, _Sums] = {}
    for *keys, count, replayed, spent_ms, saved_ms, newest, name in calls:
        sums = found.setdefault(_key(by, keys), _Sums())
        sums.newest = max(sums.newest, newest)
        sums.name = name and scrubbed(name)
        sums.replayed += replayed
        sums.ran += count - replayed
        sums.spent += Cost(spent_ms)
        sums.saved += Cost(saved_ms)
    for *keys, was_replayed, model, tokens_in, tokens_out, _ in usage:
        _add_tokens(found[_key(by, keys)], was_replayed, model, Tokens(tokens_in, tokens_out))
    return found


def _by_model(usage: Sequence[tuple[Any, ...]]) -> dict[str, _Sums]:
    found: dict[str, _Sums] = {}
    for *_, was_replayed, model, tokens_in, tokens_out, count in usage:
        sums = found.setdefault(model, _Sums())
        _add_tokens(sums, was_replayed, model, Tokens(tokens_in, tokens_out))
        if was_replayed:
            sums.replayed += count
        else:
            sums.ran += count
    return found


def _add_tokens(sums: _Sums, was_replayed: bool, model: str, tokens: Tokens) -> None:
    cost = Cost(tokens={model: tokens})
    if was_replayed:
        sums.saved += cost
    else:
        sums.spent += cost


def _by_worth(found: tuple[str, _Sums]) -> tuple[float, int, float, str]:
    key, sums = found
    return -(dollars(sums.saved) or 0.0), -sums.saved.total_tokens, -sums.saved.milliseconds, key


def _key(by: str, keys: Sequence[Any]) -> str:
    quarter, operation, run = keys
    if by == "day":
        return datetime.fromtimestamp(quarter * QUARTER, UTC).astimezone().date().isoformat()
    if by == "run":
        return binary(run).hex()
    return operation or ""
