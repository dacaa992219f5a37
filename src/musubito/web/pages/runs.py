"""Show the newest runs with what each was asked and answered, with filters, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, Self
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from musubito.lineage import Lineage, RunSummary, savings
from musubito.lineage.readers.formatting import DAY
from musubito.lineage.readers.run_reader import EVER
from musubito.lineage.readers.run_texts import RunTexts, texts_of_summaries
from musubito.lineage.reports import STATUSES
from musubito.web.rendering import curve, page

ROWS: Final = 50
"""Runs on a page."""
DAYS: Final = 30
"""Days that the chart shows."""
SEARCHED: Final = 150
"""Runs whose questions and answers are searched for a text on one page."""
LOOKED_AT: Final = 500
"""Runs among which a status is looked for on one page."""
AGES: Final = {
    "1h": ("hour", 3600.0),
    "1d": ("24 hours", 86_400.0),
    "7d": ("7 days", 604_800.0),
    "30d": ("30 days", 2_592_000.0),
}
"""The ages that may be chosen, in words and in seconds."""
ANY_FAILURE: Final = "any failure"
"""The status that is asked for to find all runs that failed and all runs with calls that did."""


class RunFilter(NamedTuple):
    """A filter of runs: all of a page have what it names. An empty text asks for nothing."""

    name: str = ""
    operation: str = ""
    status: str = ""
    tag: str = ""
    since: str = ""
    text: str = ""
    day: str = ""

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Self:
        """Return the filter that the query of a URL asks for."""
        return cls(*(parameters.get(name, "").strip() for name in cls._fields))

    def query(self, **more: object) -> str:
        """Return the filter as the query of a URL, with `more` in it."""
        return urlencode({name: value for name, value in {**self._asdict(), **more}.items() if value not in ("", None)})

    def times(self, now: float) -> tuple[float, float]:
        """Return the time in which a run has to begin; days are those of local time."""
        age = AGES.get(self.since, ("", None))[1]
        since, before = 0.0 if age is None else now - age, EVER
        with suppress(ValueError, OverflowError):
            day = datetime.fromisoformat(self.day)
            since, before = max(since, day.timestamp()), (day + timedelta(days=1)).timestamp()
        return since, before

    def fits_status(self, run: RunSummary) -> bool:
        """Tell whether a run has the status."""
        has_failed = bool(run.failed) or run.status == "failed"
        return has_failed if self.status == ANY_FAILURE else self.status in ("", run.status)

    def fits_tags(self, tags: Mapping[str, Any]) -> bool:
        """Tell whether a run with these tags has the tag."""
        return any(self.tag in (key, f"{key}=", f"{key}={value}") for key, value in tags.items())

    def fits_texts(self, run: RunSummary, texts: RunTexts) -> bool:
        """Tell whether a tag, the question or the answer of a run holds the text, in capitals or not."""
        says = [*(said.text for said in texts if said), *map(str, (run.tags or {}).values())]
        return not self.text or any(self.text.casefold() in said.casefold() for said in says)


def show(request: Request) -> Response:
    """Show the runs that fit the filter and began before a moment."""
    lineage: Lineage = request.app.state.lineage
    asked = RunFilter.of(request.query_params)
    before = moment_of(request.query_params.get("before", ""))
    since, until = asked.times(lineage.engine.now())
    rows = SEARCHED if asked.text else LOOKED_AT if asked.status else ROWS
    found = lineage.runs(
        rows + 1,
        name=asked.name or None,
        operation=asked.operation or None,
        since=since,
        before=min(before, until),
        tagged=asked.fits_tags if asked.tag else None,
    )
    older = asked.query(before=repr(found[rows - 1].started_at)) if len(found) > rows else None
    fitting = [run for run in found[:rows] if asked.fits_status(run)]
    # The texts of more runs are read only if they are searched.
    fitting = fitting if asked.text else fitting[: ROWS + 1]
    texts = texts_of_summaries(lineage, fitting)
    matching = [run for run in fitting if asked.fits_texts(run, texts[run.run_id])]
    if len(matching) > ROWS:
        older = asked.query(before=repr(matching[ROWS - 1].started_at))
    # The chart is of all runs, so it stands over the whole list alone.
    is_whole = not any(asked) and before == EVER
    since = lineage.engine.now() - DAYS * DAY
    days = savings(lineage, since=since, by="day").rows[::-1] if is_whole else ()
    return page(
        "runs.html",
        title="Runs",
        request=request,
        runs=matching[:ROWS],
        texts=texts,
        searched=min(rows, len(found)) if asked.text or asked.status else 0,
        asked=asked,
        is_asked=any(asked),
        older=older,
        newest=None if before == EVER else asked.query(),
        days=days,
        curve=curve(
            "calls",
            [day.key for day in days],
            {"ran": [day.ran for day in days], "replayed": [day.replayed for day in days]},
        ),
        statuses=(ANY_FAILURE, *STATUSES),
        ages=AGES,
    )


def moment_of(text: str) -> float:
    """Return the moment that a parameter of a URL holds, or one after all runs."""
    try:
        return float(text) if text else EVER
    except ValueError:
        return EVER
