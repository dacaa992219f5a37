"""Price tokens in dollars, by the lists of the `genai-prices` package (extra `prices`).

Nothing is fetched from the network. Prices are today's, per token, without the surcharges for very long prompts. A cost
is a sum over many calls, and the length of each prompt is not known.
"""

from __future__ import annotations

from musubito.engine.model_rates import price_of, rate_of
from musubito.lineage.reports import Cost


def dollars(cost: Cost) -> float | None:
    """Return the price in dollars of the tokens of a cost.

    Models without a known price are left out. If no model has one, None is returned.
    """
    return price_of((model, *tokens) for model, tokens in cost.tokens.items())


def unpriced(cost: Cost) -> list[str]:
    """Return the models of a cost that `dollars` leaves out, "" for a model without a name."""
    return sorted(model for model, tokens in cost.tokens.items() if tokens.total and rate_of(model) is None)
