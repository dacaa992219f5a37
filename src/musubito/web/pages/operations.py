"""Show the steps: cost, hit rate, why they ran, and what an edit of each would cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from musubito.lineage import Lineage, LineageError, impact, savings
from musubito.lineage.readers.formatting import DAY
from musubito.lineage.readers.operation_history import RESULTS, history_of
from musubito.lineage.readers.store_stats import StepStatistics, step_statistics
from musubito.lineage.readers.suggestions import suggestion
from musubito.web.rendering import curve, page

ROWS: Final = 120
"""Steps on the page at most."""
DAYS: Final = 30
"""Days of the history of a step."""
SORTS: Final[dict[str, tuple[str, Callable[[StepStatistics], Any]]]] = {
    "step": ("Step", lambda row: row.operation),
    "executions": ("Executions", lambda row: -row.executions),
    "replayed": ("Replayed", lambda row: -(row.hit_rate or 0.0)),
    "calls": ("Calls", lambda row: -row.calls),
    "time": ("Mean time", lambda row: -(row.mean_ms or 0.0)),
    "spent": ("Spent", lambda row: (-row.spent.total_tokens, -row.spent.compute_ms)),
}
"""The columns of the list of steps, each with its name and with what its rows are sorted by."""


def show_all(request: Request) -> Response:
    """Show all steps, sorted by a column, and by default those with the most executions first."""
    lineage: Lineage = request.app.state.lineage
    asked = request.query_params.get("sort")
    sort = asked if asked in SORTS else "executions"
    rows = sorted(step_statistics(lineage), key=SORTS[sort][1])
    shown, more = rows[:ROWS], max(0, len(rows) - ROWS)
    return page("operations.html", title="Steps", request=request, rows=shown, more=more, sort=sort, sorts=SORTS)


def show(request: Request) -> Response:
    """Show one step."""
    lineage: Lineage = request.app.state.lineage
    name: str = request.path_params["operation"]
    since = lineage.engine.now() - DAYS * DAY
    history = history_of(lineage, name, since)
    if not history.is_known:
        raise LineageError(f"no step is called {name!r}; {suggestion(lineage, name, 'see the list of steps')}")
    # A call that was told between the two reads has no cost yet.
    costs = {row.key: row for row in savings(lineage, since=since, operation=name).rows}
    days = [(day, costs[day.day]) for day in history.days if day.day in costs]
    outcomes = sorted({key for day, _ in days for key in day.calls})
    of_days = [day.day for day, _ in days]
    return page(
        "operation.html",
        title=name,
        request=request,
        name=name,
        days=days,
        since_days=DAYS,
        ran=history.ran,
        newest=history.newest,
        versions=history.versions,
        results=RESULTS,
        impact=impact(lineage, name),
        curve=curve("calls", of_days, {key: [day.calls.get(key, 0) for day, _ in days] for key in outcomes}),
        times=curve("ms", of_days, {"mean time": [day.mean_ms for day, _ in days]}),
    )
