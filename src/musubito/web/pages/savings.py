"""Show what was spent and saved over time, by operation and by model."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from musubito.lineage import Lineage, Savings, savings
from musubito.lineage.readers.cost_format import unpriced_note
from musubito.lineage.readers.formatting import DAY
from musubito.web.rendering import curve, page

AGES: Final = {"7d": 7, "30d": 30, "90d": 90, "": None}
"""The times that may be chosen, in days; the last is all of it."""
DAYS: Final = 90
"""Days in the table at most; the curve has all."""
ROWS: Final = 30
"""Rows of a table at most."""


def show(request: Request) -> Response:
    """Show the savings of the last days."""
    lineage: Lineage = request.app.state.lineage
    since = request.query_params.get("since", "30d")
    days = AGES.get(since, 30)
    began = None if days is None else lineage.engine.now() - days * DAY
    by_day = savings(lineage, since=began, by="day")
    tables = [
        ("Step", savings(lineage, since=began, by="operation")),
        ("Model", savings(lineage, since=began, by="model")),
    ]
    total = by_day.total
    return page(
        "savings.html",
        title="Savings",
        request=request,
        since=since,
        ages=AGES,
        total=total,
        has_run=bool(total.calls or lineage.runs(1)),
        curve=_curve(by_day),
        days=by_day.rows[:DAYS],
        more_days=max(0, len(by_day.rows) - DAYS),
        tables=[(name, table.rows[:ROWS], max(0, len(table.rows) - ROWS)) for name, table in tables if table.rows],
        note=unpriced_note(total.spent + total.saved),
    )


def _curve(by_day: Savings) -> dict[str, object]:
    """Return what was spent and saved on each day, in dollars if all prices are known, else in tokens or seconds."""
    rows = list(reversed(by_day.rows))
    costs = [(row.spent, row.saved) for row in rows]
    if rows and all(row.spent_dollars is not None and row.saved_dollars is not None for row in rows):
        unit, pairs = "$", [(row.spent_dollars, row.saved_dollars) for row in rows]
    elif any(cost.total_tokens for pair in costs for cost in pair):
        unit, pairs = "tokens", [(spent.total_tokens, saved.total_tokens) for spent, saved in costs]
    else:
        unit, pairs = "s", [(spent.compute_ms / 1000, saved.compute_ms / 1000) for spent, saved in costs]
    spent, saved = [one for one, _ in pairs], [other for _, other in pairs]
    return curve(unit, [row.key for row in rows], {"spent": spent, "saved": saved})
