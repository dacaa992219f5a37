"""Read ages and sizes: a number with a unit."""

from __future__ import annotations

import re
from typing import Final

SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
"""Seconds in each unit of an age."""
BYTES: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
"""Bytes in each unit of a size."""


def bytes_of(text: str) -> int | None:
    """Return the bytes of a size such as 500MB or 2GB; None for a text that is no size."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s?([kmgt]?)b?", text.strip().lower())
    return None if match is None else int(float(match[1]) * BYTES[match[2]])


def seconds_of(text: str) -> float | None:
    """Return the seconds of an age such as 30d, 12h or 2w; None for a text that is no age."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip().lower())
    return None if match is None else float(match[1]) * SECONDS[match[2]]
