"""Show what would run if the graph ran now, as its code is on the disk."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from musubito.lineage import LineageError
from musubito.web.rendering import page
from musubito.web.watched_plan import WatchedPlan


def show(request: Request) -> Response:
    """Show the plan."""
    watched: WatchedPlan | None = request.app.state.plan
    if watched is None:
        raise LineageError("there is no plan: say what to plan, as in 'musubito ui app.py:graph'")
    return page("plan.html", title="Plan", request=request, watched=watched, now=watched.now)
