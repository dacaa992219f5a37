"""Read ages and sizes from options: a number with a unit."""

from __future__ import annotations

import re
from typing import Final

import click

SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
"""Seconds in each unit of an age."""
BYTES: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
"""Bytes in each unit of a size."""


def to_bytes(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """Return the bytes of a size."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s?([kmgt]?)b?", value.strip().lower())
    if match is None:
        raise click.BadParameter(f"{value!r} is no size; say 500MB or 2GB")
    return int(float(match[1]) * BYTES[match[2]])


def to_seconds(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Return the seconds of an age."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", value.strip().lower())
    if match is None:
        raise click.BadParameter(f"{value!r} is no age; say 30d, 12h or 2w")
    return float(match[1]) * SECONDS[match[2]]
