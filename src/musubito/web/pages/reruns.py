"""Show the reruns, one with what it changed, and one of its rows with both answers."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from musubito.lineage import Lineage, LineageError, RunSummary, rerun_report
from musubito.lineage.readers.run_reader import EVER, RERUN
from musubito.lineage.reruns.report import VERDICTS, rerun_row, with_contents
from musubito.web.contents import Picture
from musubito.web.links import Links
from musubito.web.pages.run import TEXT, number_of
from musubito.web.pages.runs import moment_of
from musubito.web.rendering import page
from musubito.web.rerun_view import ComparedRow, RerunSummary
from musubito.web.timeline import Timeline

RERUNS: Final = 20
"""Reruns on a page."""
ROWS: Final = 200
"""Rows of a rerun on a page."""
ALL: Final = "all"
"""What is asked for to see the rows with the same answer, too."""


def show_all(request: Request) -> Response:
    """Show the newest reruns, or those that began before a moment."""
    lineage: Lineage = request.app.state.lineage
    before = moment_of(request.query_params.get("before", ""))
    found = lineage.reruns(RERUNS + 1, before=before)
    older = urlencode({"before": repr(found[RERUNS - 1].started_at)}) if len(found) > RERUNS else None
    return page(
        "reruns.html", title="Reruns", request=request, reruns=found[:RERUNS], older=older, is_first=before == EVER
    )


def show(request: Request) -> Response:
    """Show a rerun with its rows: those whose answers are not the same, all, or those of one verdict."""
    lineage: Lineage = request.app.state.lineage
    report = rerun_report(lineage, request.path_params["rerun"], contents=False)
    asked, after = request.query_params.get("show", ""), number_of(request.query_params.get("after")) or 0
    if asked not in VERDICTS and asked != ALL:
        asked = ""
    rows = [row for row in report.rows if asked in (ALL, row.verdict) or (not asked and row.verdict != "same")]
    return page(
        "rerun.html",
        title=f"Rerun of {report.target}",
        request=request,
        summary=RerunSummary.of(report),
        rows=with_contents(lineage, rows[after : after + ROWS]),
        asked=asked,
        counts={"": len(report.rows) - report.counts.get("same", 0), **report.counts, ALL: len(report.rows)},
        earlier=max(0, after - ROWS) if after else None,
        later=after + ROWS if len(rows) > after + ROWS else None,
    )


def show_row(request: Request) -> Response:
    """Show a row of a rerun: what was asked, both answers, and how they differ."""
    lineage: Lineage = request.app.state.lineage
    rerun, compared = _compared(request)
    timeline = Timeline(lineage, lineage.run(request.path_params["run"]), all_=False)
    return page(
        "rerun_row.html",
        title=f"Rerun of {(rerun.tags or {})[RERUN]['target']}",
        request=request,
        rerun_id=rerun.run_id,
        compared=compared,
        longest=TEXT,
        row_links=_RowLinks(rerun.run_id, timeline.report.summary.run_id),
        run=timeline.report.summary,
        timeline=timeline,
        shown=timeline.level(None, 0),
        inside=None,
        like=None,
    )


def image(request: Request) -> Response:
    """Return an image that one of both answers holds."""
    _, compared = _compared(request)
    contents, number = dict(compared.sides).get(request.path_params["side"]), request.path_params["number"]
    if contents is None or number >= len(contents.images):
        raise LineageError("there is no such image")
    return Response(contents.images[number].bytes(), media_type=contents.images[number].media_type)


def _compared(request: Request) -> tuple[RunSummary, ComparedRow]:
    lineage: Lineage = request.app.state.lineage
    rerun = lineage.head(request.path_params["rerun"])
    return rerun, ComparedRow.of(rerun_row(lineage, rerun.run_id, request.path_params["run"]))


class _RowLinks(Links):
    """The links of a row, whose images are those of its answers."""

    def __init__(self, rerun: str, run: str) -> None:
        self._address = self.rerun(rerun, run)

    def image(self, node_id: str, side: str, picture: Picture) -> str:
        """See `Links.image`."""
        return f"{self._address}/{side}/{picture.number}"
