"""The page as an ASGI application: its routes, and what every page knows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from importlib.resources import files
from shlex import quote
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from musubito.errors import MusubitoError
from musubito.lineage import Lineage, LineageError
from musubito.web.guard import Guard
from musubito.web.live import events, watched
from musubito.web.pages import compare, operations, plan, reruns, result, run, runs, savings, store
from musubito.web.rendering import page
from musubito.web.watched_plan import WatchedPlan

ROUTES: Final = (
    Route("/", watched(runs.show)),
    Route("/runs/{run}", watched(run.show)),
    Route("/runs/{run}/calls", run.calls),
    Route("/compare", watched(compare.show)),
    Route("/reruns", watched(reruns.show_all)),
    Route("/reruns/{rerun}", watched(reruns.show)),
    Route("/reruns/{rerun}/{run}", watched(reruns.show_row)),
    Route("/reruns/{rerun}/{run}/{side}/{number:int}", reruns.image),
    Route("/results/{result}", watched(result.show)),
    Route("/results/{result}/{side}/{number:int}", result.image),
    Route("/operations", watched(operations.show_all)),
    Route("/operations/{operation:path}", watched(operations.show)),
    Route("/savings", watched(savings.show)),
    Route("/store", watched(store.show)),
    Route("/plan", watched(plan.show)),
    Route("/events", events),
    Mount("/static", StaticFiles(directory=str(files("musubito.web") / "static"))),
)


def application(
    lineage: Lineage,
    hosts: Collection[str],
    announce: Callable[[str], None],
    stopping: asyncio.Event,
    plan_of: WatchedPlan | None = None,
    place: Sequence[str] = (),
) -> ASGIApp:
    """Return the application that shows a lineage.

    `hosts` and `announce` are those of `Guard`. Streams of events end when `stopping` is set. `plan_of` is what the
    page of the plan shows. `place` are the options by which a command finds the store.
    """
    app = Starlette(
        routes=list(ROUTES),
        exception_handlers={LineageError: _not_found, MusubitoError: _failed, 404: _no_such_page},
    )
    app.state.lineage = lineage
    app.state.plan = plan_of
    app.state.stopping = stopping
    app.state.place = "".join(f" {quote(option)}" for option in place)
    return Guard(app, hosts, announce)


def _not_found(request: Request, error: Exception) -> Response:
    return _error(request, 404, str(error))


def _failed(request: Request, error: Exception) -> Response:
    return _error(request, 503, str(error))


def _no_such_page(request: Request, _: Any) -> Response:
    return _error(request, 404, "There is no such page.")


def _error(request: Request, status: int, says: str) -> Response:
    if request.url.path.startswith("/static/"):
        return PlainTextResponse(says, status)
    return page("error.html", status, title="Not shown", says=says, request=request)
