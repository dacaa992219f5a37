"""Show the store: how large it is, how it grows, whether it is sound, and effects in doubt."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from musubito.lineage import Lineage
from musubito.lineage.health import checks_of
from musubito.lineage.store_stats import contents
from musubito.lineage.unknown_effects import REMEDY, unknown_effects
from musubito.web.rendering import page


def show(request: Request) -> Response:
    """Show the store."""
    lineage: Lineage = request.app.state.lineage
    return page(
        "store.html",
        title="Store",
        request=request,
        checks=checks_of(lineage),
        contents=contents(lineage),
        effects=unknown_effects(lineage),
        remedy=REMEDY,
    )
