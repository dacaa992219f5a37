"""Fill templates: all that is shown is text, and no part of it is taken for markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from shlex import quote
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from musubito.lineage.readers.cost_format import cost_text, money, unpriced_note, worth
from musubito.lineage.readers.formatting import (
    clean,
    count,
    duration,
    edited_by,
    mark,
    one_line,
    short,
    size,
    times,
    token_count,
    when,
    words_of_tags,
)
from musubito.reasons import ReplayReason
from musubito.web.links import Links

LINKS: Final = Links()
"""The links of the served page."""
SENTENCES: Final = {reason.value: reason.sentence for reason in ReplayReason}
"""The sentence of each reason, by its code."""


@cache
def environment() -> Environment:
    """Return the environment of all templates."""
    templates = Environment(
        loader=PackageLoader("musubito.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "clean": clean,
        "cost": cost_text,
        "count": count,
        "duration": duration,
        "mark": mark,
        "moment": moment,
        "money": money,
        "edited_by": edited_by,
        "one_line": one_line,
        "quoted": quote,
        "sentence": lambda reason: SENTENCES[reason],
        "share": share,
        "short": short,
        "size": size,
        "times": times,
        "tokens": token_count,
        "when": when,
        "words_of_tags": words_of_tags,
        "unpriced_note": unpriced_note,
        "worth": worth,
    }
    templates.globals["links"] = LINKS
    return templates


def page(template: str, status: int = 200, /, **values: Any) -> HTMLResponse:
    """Return a page of a template, or a part of one. Of the values, `request` is that of the page."""
    place = values["request"].app.state.place if "request" in values else ""
    return HTMLResponse(environment().get_template(template).render(place=place, **values), status)


def curve(unit: str, days: Sequence[str], series: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return curves over days as a page draws them, as JSON."""
    return {"unit": unit, "days": days, "series": list(series.items())}


def moment(time: float) -> str:
    """Return a moment as HTML's `datetime` wants it; an empty text if no calendar has it."""
    try:
        return datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return ""


def share(part: float, whole: float) -> int:
    """Return a part in percent of the whole: 100 only for all of it, and 0 only for nothing."""
    if not whole or not part:
        return 0
    return 100 if part >= whole else min(99, max(1, round(100 * part / whole)))
