"""Show the store: how large it is, how it grows, whether it is sound, and effects in doubt."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from musubito.lineage import Lineage
from musubito.lineage.readers.health import checks_of
from musubito.lineage.readers.store_stats import contents, growth
from musubito.lineage.readers.unknown_effects import unknown_effects
from musubito.web.rendering import curve, page

DAYS: Final = 30
"""Days whose growth is shown: the last on which something was stored."""
EFFECTS: Final = 20
"""Effects in doubt that are shown at most."""
LONGEST: Final = 200
"""Characters of the arguments of an effect that are shown at most."""


def show(request: Request) -> Response:
    """Show the store."""
    lineage: Lineage = request.app.state.lineage
    effects = unknown_effects(lineage)
    stored = growth(lineage)
    days = list(stored)
    return page(
        "store.html",
        title="Store",
        request=request,
        checks=checks_of(lineage),
        contents=contents(lineage),
        curve=curve("kB", days[-DAYS:], {"stored": [round(stored[day] / 1000, 1) for day in days[-DAYS:]]}),
        effects=[(effect, effect.shown_arguments(LONGEST)) for effect in effects[:EFFECTS]],
        more_effects=max(0, len(effects) - EFFECTS),
    )
