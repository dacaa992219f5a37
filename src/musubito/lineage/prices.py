"""Money, by the price lists of the `genai-prices` package (extra `prices`); nothing is ever fetched.

Prices are today's, per token, without the surcharges for very long prompts: what is priced is a sum over many calls,
and the length of each is not known apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from musubito.lineage.records import Cost

__all__ = ["dollars", "unpriced"]

PROBE: Final = 1000
"""So many tokens are priced, few enough for the lowest tier of every list."""
BEDROCK: Final = re.compile(r"([a-z-]+\.){1,2}[a-z]")
"""Such as anthropic.claude-..., us.anthropic.claude-...: how AWS calls the models of others."""


def dollars(cost: Cost) -> float | None:
    """What the tokens of a cost are worth, as far as the prices of its models are known; None if no price is."""
    known = [
        tokens.input * rate[0] + tokens.output * rate[1]
        for model, tokens in cost.tokens.items()
        if (rate := _rate(model)) is not None
    ]
    return sum(known) if known else None


def unpriced(cost: Cost) -> list[str]:
    """The models of a cost that `dollars` leaves out, "" for one without a name."""
    return sorted(model for model, tokens in cost.tokens.items() if tokens.total and _rate(model) is None)


@lru_cache(1024)
def _rate(model: str) -> tuple[float, float] | None:
    """Dollars for a token in and for one out, None if nobody lists a price."""
    try:
        from genai_prices import Usage, calc_price  # noqa: PLC0415 - an extra, and slow to import
    except ImportError:
        return None
    for provider, name in _references(model):
        try:
            price = calc_price(Usage(input_tokens=PROBE, output_tokens=PROBE), name, provider_id=provider)
            rate = float(price.input_price) / PROBE, float(price.output_price) / PROBE
        except Exception:  # noqa: S112 - whatever the list says of it: a name without a price is no fault
            continue
        # What is listed without a price of its tokens (subscriptions) says nothing of what they are worth.
        if any(rate):
            return rate
    return None


def _references(model: str) -> Iterator[tuple[str | None, str]]:
    """What a name may mean: a model, or "provider:model" and "provider/model" as frameworks write them."""
    name = model.strip().removeprefix("models/")
    if not name:
        return
    yield None, name
    if BEDROCK.match(name):
        yield "aws", name
    for separator in ":/":
        provider, found, rest = name.partition(separator)
        if found and provider and rest:
            yield provider, rest
