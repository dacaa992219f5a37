"""Costs as people read them: money where prices are known, tokens otherwise."""

from __future__ import annotations

from musubito.cli.words import clean, tokens
from musubito.lineage import Cost
from musubito.lineage.prices import dollars, unpriced

__all__ = ["money", "unpriced_note", "worth"]


def money(amount: float) -> str:
    """Dollars, with more digits where they are few."""
    if amount >= 0.095 or amount == 0:
        return f"${amount:,.2f}"
    return f"${amount:.4f}" if amount >= 0.00005 else "<$0.0001"


def worth(cost: Cost) -> str:
    """$1.23, with a + where some of its models have no known price; tokens where none has one; nothing for nothing."""
    amount = dollars(cost) if cost.total_tokens else None
    if amount is not None:
        return money(amount) + ("+" if unpriced(cost) else "")
    return f"{tokens(cost)} tok" if cost.total_tokens else ""


def unpriced_note(cost: Cost) -> str:
    """Which tokens are not in the money, nothing if all are."""
    models = [clean(model) or "models without a name" for model in unpriced(cost)]
    if not models:
        return ""
    some = ", ".join(models[:5]) + (f" and {len(models) - 5} more" if len(models) > 5 else "")
    try:
        import genai_prices  # noqa: F401, PLC0415 - only whether it is there
    except ImportError:
        return "Tokens only: pip install 'musubito[prices]' shows money."
    return f"No price is known of {some}."
