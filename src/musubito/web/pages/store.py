"""Show the store: how large it is, how it grows, whether it is sound, and effects in doubt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from musubito.lineage import Lineage, savings
from musubito.lineage.formatting import DAY, not_shown
from musubito.lineage.health import checks_of
from musubito.lineage.store_stats import contents
from musubito.lineage.unknown_effects import UnknownEffect, unknown_effects
from musubito.values.value_diff import shown
from musubito.web.rendering import page

DAYS: Final = 30
"""Days whose growth is shown."""
EFFECTS: Final = 20
"""Effects in doubt that are shown at most."""
LONGEST: Final = 200
"""Characters of the arguments of an effect that are shown at most."""


class EffectInDoubt(NamedTuple):
    """An effect in doubt with the arguments of its call as a short text."""

    effect: UnknownEffect
    arguments: str


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
        effects=_with_arguments(lineage, effects[:EFFECTS]),
        more_effects=max(0, len(effects) - EFFECTS),
    )


def _with_arguments(lineage: Lineage, effects: Sequence[UnknownEffect]) -> list[EffectInDoubt]:
    numbers = lineage.numbers(effect.node_id for effect in effects)
    nodes = lineage.nodes(numbers.values())
    inputs = lineage.inputs((node.namespace, node.operation, bytes.fromhex(node.input_hash)) for node in nodes)
    values = dict(zip(numbers, inputs, strict=True))
    return [EffectInDoubt(effect, _short_text(values.get(effect.node_id))) for effect in effects]


def _short_text(value: object) -> str:
    return not_shown(value) or ("(not stored)" if value is None else shown(value, LONGEST))
