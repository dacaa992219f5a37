"""Find the prices of models in the lists of the `genai-prices` package (extra `prices`).

Nothing is fetched from the network. Prices are today's, per token, without the surcharges for very long prompts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from musubito.engine.frame import CACHE_READ, CACHE_WRITE

PROBE: Final = 1000
"""Tokens that are priced to find a rate: few enough for the lowest tier of every list."""
_CACHED: Final = {CACHE_READ: "cache_read_tokens", CACHE_WRITE: "cache_write_tokens"}
"""The ends of names for cached tokens, each with what it is called in a list of prices."""
BEDROCK: Final = re.compile(r"([a-z-]+\.){1,2}[a-z]")
"""Names of other vendors' models on AWS (anthropic.claude-..., us.anthropic.claude-...)."""


@lru_cache(1024)
def rate_of(model: str) -> tuple[float, float] | None:
    """Return dollars for a token in and for a token out, or None if no list has a price."""
    try:
        from genai_prices import Usage, calc_price  # noqa: PLC0415 - an extra, and slow to import
    except ImportError:
        return None
    usage = {"input_tokens": PROBE, "output_tokens": PROBE}
    for kind, name in _CACHED.items():
        if model.endswith(kind):
            model = model.removesuffix(kind)
            usage[name] = PROBE
    for provider, name in _references(model):
        try:
            price = calc_price(Usage(**usage), name, provider_id=provider)
            rate = float(price.input_price) / PROBE, float(price.output_price) / PROBE
        except Exception:  # noqa: S112 - lists raise many errors, and a name without a price is no fault
            continue
        # A subscription is listed without a price of its tokens, and would make them free.
        if any(rate):
            return rate
    return None


def price_of(tokens: Iterable[tuple[str, int, int]]) -> float | None:
    """Return the price in dollars of tokens in and out of models; None if no list has a price of any of these models.

    Models without a known price are left out.
    """
    amounts = [
        tokens_in * rate[0] + tokens_out * rate[1]
        for model, tokens_in, tokens_out in tokens
        if (rate := rate_of(model)) is not None
    ]
    return sum(amounts) if amounts else None


def _references(model: str) -> Iterator[tuple[str | None, str]]:
    """Yield the provider and the model that a name may mean.

    Frameworks write "provider:model" and "provider/model". The provider of a plain name is None.
    """
    name = model.strip().removeprefix("models/")
    if not name:
        return
    yield None, name
    if BEDROCK.match(name):
        yield "aws", name
    for separator in ":/":
        provider, divider, rest = name.partition(separator)
        if divider and provider and rest:
            yield provider, rest
