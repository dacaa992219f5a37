"""To wait until something has happened, instead of for so many seconds: machines are slow now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["until"]


async def until(true: Callable[[], bool]) -> None:
    """Looks each millisecond; AssertionError after ten seconds and more."""
    for _ in range(10_000):
        if true():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never happened")
