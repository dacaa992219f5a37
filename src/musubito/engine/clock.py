"""Read the clock that the user of an engine gave, in seconds since the epoch."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime


def as_seconds(now_provider: Callable[[], float | datetime]) -> Callable[[], float]:
    """Return the same clock, in seconds since the epoch."""

    def now() -> float:
        value = now_provider()
        if isinstance(value, datetime):
            if value.utcoffset() is None:
                raise TypeError(
                    f"now_provider gave {value!r}, which has no time zone; give an aware datetime, such as "
                    "datetime.now(timezone.utc), or seconds since the epoch"
                )
            return value.timestamp()
        if not isinstance(value, int | float):
            raise TypeError(f"now_provider gives seconds since the epoch or an aware datetime, not {value!r}")
        return value

    return now
