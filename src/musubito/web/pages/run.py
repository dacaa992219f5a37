"""Show one run: its calls as a timeline, and its graph."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from musubito.lineage import Lineage
from musubito.lineage.readers.formatting import words_of_tags
from musubito.lineage.readers.run_reader import JUDGES, RERUN_OF, computing
from musubito.lineage.readers.run_texts import failures_of_run, texts_of_summaries
from musubito.lineage.reruns.report import rerun_of
from musubito.web.graphs import drawn_run
from musubito.web.rendering import LINKS, page
from musubito.web.timeline import WHOLE, WIDTH, Timeline, Window

TEXT: Final = 600
"""Characters of a question or an answer that are shown at most."""
ERRORS: Final = 5
"""Errors of a run that are shown at most."""
DIGITS: Final = 12
"""Digits of the number of a call at most."""


def show(request: Request) -> Response:
    """Show a run with its calls, with those inside one of its calls, or with those that are one row with a call."""
    lineage: Lineage = request.app.state.lineage
    shown = _asked(request)
    timeline: Timeline = shown["timeline"]
    summary = timeline.report.summary
    run_id = summary.run_id
    chosen = shown["inside"] or shown["like"]
    errors = failures_of_run(lineage, timeline.report, ERRORS + 1)
    tags = summary.tags or {}
    rerun = rerun_of(lineage, summary)
    words, rest = words_of_tags(tags) if rerun else ([], tags)
    return page(
        "run.html",
        title=summary.name or "Run",
        request=request,
        texts=texts_of_summaries(lineage, [summary])[run_id],
        longest=TEXT,
        has_previous=bool(lineage.newest_runs(1, summary.started_at, summary.name)),
        tags=rest,
        words=words,
        rerun=rerun,
        reruns=[*tags.get(RERUN_OF, ()), *([tags[JUDGES]] if JUDGES in tags else [])] if rerun else [],
        has_answers=RERUN_OF in tags,
        outer=next((call for call in timeline.report.calls if call.number == chosen), None),
        graph=drawn_run(lineage, timeline.report, LINKS),
        errors=errors[:ERRORS],
        has_more_errors=len(errors) > ERRORS,
        computing=computing(lineage, run_id) if summary.status == "running" else [],
        **shown,
    )


def calls(request: Request) -> Response:
    """Return the calls inside one call, or those that are one row with it, as a part of the page."""
    return page("run_timeline.html", **_asked(request))


def _asked(request: Request) -> dict[str, Any]:
    """Return the part of a timeline that a request asks for."""
    lineage: Lineage = request.app.state.lineage
    report = lineage.run(request.path_params["run"])
    inside, like, after, first, last = (
        number_of(request.query_params.get(name)) for name in ("inside", "like", "after", "from", "to")
    )
    first, last = first or 0, WIDTH if last is None else last
    window = Window(first, last) if first < last <= WIDTH else WHOLE
    timeline = Timeline(lineage, report, all_="all" in request.query_params, window=window)
    outcome = request.query_params.get("outcome", "")
    shown, alike = timeline.siblings(like, outcome, after or 0) if like else (timeline.level(inside, after or 0), None)
    return {
        "run": report.summary,
        "timeline": timeline,
        "shown": shown,
        "outcomes": Counter(call.outcome for call in report.calls),
        "inside": inside,
        "like": like,
        "alike": alike,
        "asked_outcome": outcome,
    }


def number_of(text: str | None) -> int | None:
    """Return the number that a parameter of a URL holds, or None."""
    return int(text) if text is not None and text.isdecimal() and len(text) <= DIGITS else None
