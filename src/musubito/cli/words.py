"""Numbers, times and ids as people read them; all of them short enough for a column."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final

from musubito.lineage import Cost
from musubito.lineage.reader import short_id

__all__ = [
    "MARKS",
    "WIDE",
    "ago",
    "clean",
    "count",
    "duration",
    "lately",
    "not_shown",
    "one_line",
    "reason",
    "short",
    "short_ids",
    "size",
    "times",
    "token_count",
    "tokens",
    "tokens_by_model",
    "when",
]

MARKS = {"replayed": ("●", "green"), "ran": ("○", "yellow"), "failed": ("✗", "red")}
"""By outcome: a mark that needs no colour, and its colour; "·" for all others."""
WIDE: Final = 110
"""From this many columns on there is room for whole dates and for all that was counted."""
CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
REASONS: Final = {
    "node not found": "new",
    "force reexecution": "forced",
    "node failed": "failed before",
    "node invalid": "invalidated",
    "node running": "in progress",
    "exact hit": "same",
    "early cutoff hit": "same content",
    "cross parent hit": "same input",
}


def short(identity: str) -> str:
    """An id in short, as commands take it."""
    return short_id(identity)


def short_ids(identities: Collection[str]) -> str:
    """The first of some ids in short, as an example where there are others."""
    different = list(dict.fromkeys(identities))
    return short(different[0]) + (" …" if len(different) > 1 else "")


def reason(said: str) -> str:
    """The reason of a call in a word or two."""
    return REASONS.get(said, said)


def clean(text: str) -> str:
    """A text that does nothing to a terminal: what it recorded may hold escape sequences."""
    return CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)


def not_shown(value: object) -> str | None:
    """Why contents are not shown, where that stands in their place."""
    match value:
        case {"$type": "...", "value": str(why)}:
            return f"({clean(why)})"
    return None


def one_line(text: str) -> str:
    """A text without line breaks."""
    return clean(" ".join(text.split()))


def count(number: int) -> str:
    """A number with its thousands apart."""
    return f"{number:,}"


def times(number: int, one: str, many: str = "") -> str:
    """A number of things: 1 node, 2 nodes."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def duration(milliseconds: float) -> str:
    """A time in the unit that suits it: 0.2 ms, 35 ms, 1.2 s, 3 min 05 s, 2 h 10 min."""
    if milliseconds < 9.95:
        return f"{milliseconds:.1f} ms"
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02} min"


def size(bytes_: int) -> str:
    """A number of bytes: 512 B, 12 kB, 3.4 MB."""
    if bytes_ < 1000:
        return f"{bytes_} B"
    amount, unit = next(
        (bytes_ / 10**power, unit) for power, unit in ((9, "GB"), (6, "MB"), (3, "kB")) if bytes_ >= 10**power
    )
    return f"{amount:.1f} {unit}" if amount < 10 else f"{amount:,.0f} {unit}"


def tokens(cost: Cost) -> str:
    """All tokens of a cost, nothing if there are none."""
    return token_count(cost.total_tokens)


def token_count(total: int) -> str:
    """A number of tokens, nothing for none."""
    if total < 10_000:
        return count(total) if total else ""
    return f"{total / 1000:,.1f}k" if total < 999_950 else f"{total / 1_000_000:,.1f}M"


def tokens_by_model(cost: Cost) -> str:
    """gpt-4o 1,200 in, 80 out; and so on."""
    return "; ".join(
        f"{model or 'unnamed model'} {each.input:,} in, {each.output:,} out"
        for model, each in sorted(cost.tokens.items())
    )


def when(time: float | None) -> str:
    """A moment in local time."""
    return "" if time is None else datetime.fromtimestamp(time, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def lately(time: float) -> str:
    """Today's moments by the hour, older ones by the day."""
    then, now = datetime.fromtimestamp(time, UTC).astimezone(), datetime.now(UTC).astimezone()
    return then.strftime("%H:%M:%S" if then.date() == now.date() else "%Y-%m-%d")


def ago(time: float, now: float) -> str:
    """How long ago something was."""
    return f"{duration(max(0.0, now - time) * 1000)} ago"
