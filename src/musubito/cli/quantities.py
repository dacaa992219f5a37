"""Read ages and sizes from options."""

from __future__ import annotations

import click

from musubito.quantities import bytes_of, seconds_of


def to_bytes(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """Return the bytes of a size."""
    size = None if value is None else bytes_of(value)
    if value is not None and size is None:
        raise click.BadParameter(f"{value!r} is no size; say 500MB or 2GB")
    return size


def to_seconds(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Return the seconds of an age."""
    age = None if value is None else seconds_of(value)
    if value is not None and age is None:
        raise click.BadParameter(f"{value!r} is no age; say 30d, 12h or 2w")
    return age
