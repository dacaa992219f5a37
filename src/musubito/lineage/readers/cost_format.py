"""Format costs: as money if prices are known, as tokens otherwise."""

from __future__ import annotations

from musubito.lineage.readers.formatting import clean, duration, tokens, tokens_by_model
from musubito.lineage.readers.prices import dollars, unpriced
from musubito.lineage.reports import Cost


def money(amount: float) -> str:
    """Return an amount in dollars, with more digits if it is small."""
    if amount >= 0.095 or amount == 0:
        return f"${amount:,.2f}"
    return f"${amount:.4f}" if amount >= 0.00005 else "<$0.0001"


def worth(cost: Cost) -> str:
    """Return a cost as $1.23, or as tokens if no price is known.

    A + means that some of its models have no known price. A cost without tokens is an empty text.
    """
    amount = dollars(cost) if cost.total_tokens else None
    if amount is not None:
        return money(amount) + ("+" if unpriced(cost) else "")
    return f"{tokens(cost)} tok" if cost.total_tokens else ""


def cost_text(cost: Cost, *, estimate: bool = False, by_model: bool = False) -> str:
    """Return money and tokens, then the compute, then the wall, each if it is known. The wall may be an estimate."""
    amount, total = dollars(cost), cost.total_tokens
    parts = [worth(cost)] if total and amount is not None else []
    if total:
        parts.append(f"{tokens(cost)} tokens{f' ({clean(tokens_by_model(cost))})' if by_model else ''}")
    parts.append(f"compute {duration(cost.compute_ms)}")
    if cost.wall_ms is not None:
        wall = duration(cost.wall_ms)
        parts.append(f"wall about {wall} (estimate)" if estimate else f"wall {wall}")
    return ", ".join(parts)


def unpriced_note(cost: Cost) -> str:
    """Return a note on the tokens that the money leaves out, or an empty text."""
    models = [clean(model) or "models without a name" for model in unpriced(cost)]
    if not models:
        return ""
    names = ", ".join(models[:5]) + (f" and {len(models) - 5} more" if len(models) > 5 else "")
    try:
        import genai_prices  # noqa: F401, PLC0415 - only to see whether it is installed
    except ImportError:
        return "Tokens only: pip install 'musubito[prices]' shows money."
    return f"No price is known of {names}."
