"""Show the operations: cost, hit rate, why they ran, and what an edit of each would cost."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from musubito.lineage import Lineage, LineageError, impact
from musubito.lineage.formatting import DAY
from musubito.lineage.operation_history import history_of
from musubito.lineage.store_stats import step_statistics
from musubito.lineage.suggestions import suggestion
from musubito.web.rendering import page

ROWS: Final = 500
"""Operations on the page at most."""
DAYS: Final = 30
"""Days of the history of an operation."""


def show_all(request: Request) -> Response:
    """Show all operations, those with the most executions first."""
    lineage: Lineage = request.app.state.lineage
    rows = step_statistics(lineage)
    return page("operations.html", title="Operations", request=request, rows=rows[:ROWS], more=max(0, len(rows) - ROWS))


def show(request: Request) -> Response:
    """Show one operation."""
    lineage: Lineage = request.app.state.lineage
    name: str = request.path_params["operation"]
    since = lineage.engine.now() - DAYS * DAY
    history = history_of(lineage, name, since)
    if not history.is_known:
        raise LineageError(f"no step is called {name!r}; {suggestion(lineage, name, 'see the list of operations')}")
    days = history.days
    outcomes = sorted({key for day in days for key in day.calls})
    return page(
        "operation.html",
        title=name,
        request=request,
        name=name,
        days=days,
        since_days=DAYS,
        ran=history.ran,
        newest=history.newest,
        impact=impact(lineage, name),
        curve={
            "unit": "calls",
            "days": [day.day for day in days],
            "series": [[outcome, [day.calls.get(outcome, 0) for day in days]] for outcome in outcomes],
        },
    )
