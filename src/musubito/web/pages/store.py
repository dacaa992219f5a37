"""Show the store: how large it is, how it grows, whether it is sound, and effects in doubt."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from musubito.lineage import Lineage, savings
from musubito.lineage.formatting import DAY
from musubito.lineage.health import checks_of
from musubito.lineage.store_stats import contents
from musubito.lineage.unknown_effects import unknown_effects
from musubito.web.rendering import page

DAYS: Final = 30
"""Days whose growth is shown."""
EFFECTS: Final = 20
"""Effects in doubt that are shown at most."""
LONGEST: Final = 200
"""Characters of the arguments of an effect that are shown at most."""


def show(request: Request) -> Response:
    """Show the store."""
    lineage: Lineage = request.app.state.lineage
    effects = unknown_effects(lineage)
    days = savings(lineage, since=lineage.engine.now() - DAYS * DAY, by="day").rows[::-1]
    return page(
        "store.html",
        title="Store",
        request=request,
        checks=checks_of(lineage),
        contents=contents(lineage),
        since_days=DAYS,
        curve={
            "unit": "calls",
            "days": [day.key for day in days],
            "series": [["ran", [day.ran for day in days]], ["replayed", [day.replayed for day in days]]],
        },
        effects=[(effect, effect.shown_arguments(LONGEST)) for effect in effects[:EFFECTS]],
        more_effects=max(0, len(effects) - EFFECTS),
    )
