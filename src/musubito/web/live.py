"""Tell an open page of new calls, as server-sent events.

Any process that uses the store may make the calls. The id of an event names the last commit. A browser that lost the
connection says which id it knows, and is told at once if there is something newer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import wraps
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from musubito.errors import MusubitoError
from musubito.lineage import Lineage
from musubito.web.watched_plan import WatchedPlan

EVERY: Final = 0.3
"""Seconds between two looks at the store."""
ALIVE: Final = 15.0
"""Seconds after which a line is sent if nothing has happened, so that a dead connection is noticed."""


def last_change(request: Request) -> str:
    """Return a name for what the store and the plan are like now."""
    lineage: Lineage = request.app.state.lineage
    plan: WatchedPlan | None = request.app.state.plan
    return lineage.last_commit() if plan is None else f"{lineage.last_commit()}-{plan.now.number}"


def watched(show: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Return a page that says which change it knows: the last before it read the store, so that none is missed."""

    @wraps(show)
    def shown(request: Request) -> Response:
        request.state.change = last_change(request)
        return show(request)

    return shown


async def events(request: Request) -> StreamingResponse:
    """Send an event for each change, until the browser or the server goes."""
    stopping: asyncio.Event = request.app.state.stopping
    known = request.headers.get("last-event-id", request.query_params.get("after", ""))

    async def changes() -> AsyncIterator[str]:
        nonlocal known
        told = time.monotonic()
        yield "retry: 1000\n\n"
        while not stopping.is_set() and not await request.is_disconnected():
            try:
                now = await run_in_threadpool(last_change, request)
            except MusubitoError:
                now = known  # the page itself shows the error when it is asked for again
            if now != known:
                known, told = now, time.monotonic()
                yield f"id: {known}\nevent: change\ndata: {known}\n\n"
            elif time.monotonic() - told > ALIVE:
                told = time.monotonic()
                yield ": alive\n\n"
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), EVERY)

    return StreamingResponse(changes(), media_type="text/event-stream")
