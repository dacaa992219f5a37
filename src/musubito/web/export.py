"""Write a run, a step result or a rerun as one HTML file that needs no server, no network and no other file."""

from __future__ import annotations

import base64
from hashlib import sha256
from importlib.resources import files
from typing import Final

from musubito.lineage import Lineage, LineageError, NodeReport, RerunReport, RunReport
from musubito.lineage.readers.run_texts import failures_of_run
from musubito.lineage.reruns.report import VERDICTS
from musubito.web.graphs import drawn_result, drawn_run
from musubito.web.links import FileLinks
from musubito.web.pages.run import ERRORS
from musubito.web.rendering import environment
from musubito.web.rerun_view import ComparedRow, RerunSummary
from musubito.web.result_view import ResultView, view_of
from musubito.web.timeline import Timeline

MAX_RESULTS: Final = 500
"""Step results whose inputs and outputs a file holds at most: those that ran come first."""
GRAPH: Final = ("vendor/dagre.min.js", "ui.js")
"""The scripts of a file with a graph."""
STATIC: Final = files("musubito.web") / "static"


def html_of_run(lineage: Lineage, report: RunReport, *, contents: bool) -> str:
    """Return a run with its calls, its graph, and its results; without `contents`, no inputs, outputs and tags."""
    first = sorted(report.calls, key=lambda call: call.outcome == "replayed")
    nodes = list(dict.fromkeys(call.node_id for call in first))[:MAX_RESULTS]
    views = [view for node_id in nodes if (view := _view(lineage, node_id, contents=contents)) is not None]
    links = FileLinks(view.node.node_id for view in views)
    errors = failures_of_run(lineage, report, ERRORS + 1) if contents else []
    timeline = Timeline(lineage, report, all_=True, unfolded=len(report.calls))
    return _file(
        "export.html",
        *GRAPH,
        title=report.summary.name or "Run",
        run=report.summary,
        outcomes=timeline.outcomes,
        timeline=timeline,
        shown=timeline.whole(),
        errors=errors[:ERRORS],
        has_more_errors=len(errors) > ERRORS,
        graph=drawn_run(lineage, report, links),
        views=views,
        links=links,
        has_tags=contents,
    )


def html_of_result(lineage: Lineage, node: NodeReport, *, contents: bool) -> str:
    """Return a step result with the graph of what it came from and what came from it."""
    links = FileLinks([node.node_id])
    return _file(
        "export.html",
        *GRAPH,
        title=node.operation or "Result",
        run=None,
        graph=drawn_result(lineage, node, links),
        views=[view_of(lineage, node, contents=contents)],
        links=links,
    )


def html_of_rerun(report: RerunReport) -> str:
    """Return a rerun with those runs whose answers are not the same: as a table, and with both answers."""
    rows = [row for row in report.rows if row.verdict != "same"]
    views = [ComparedRow.of(row) for row in rows[:MAX_RESULTS] if row.rerun_id]
    return _file(
        "rerun_export.html",
        title=f"Rerun of {report.target}",
        summary=RerunSummary.of(report),
        verdicts=VERDICTS,
        rows=rows[:MAX_RESULTS],
        left_out=max(0, len(rows) - MAX_RESULTS),
        views=views,
        links=FileLinks(view.row.rerun_id or "" for view in views),
    )


def _view(lineage: Lineage, node_id: str, *, contents: bool) -> ResultView | None:
    """Return what is shown of a result, None if it is no longer stored."""
    try:
        return view_of(lineage, lineage.node(node_id), contents=contents)
    except LineageError:
        return None


def _file(template: str, *scripts: str, **values: object) -> str:
    style = (STATIC / "ui.css").read_text("utf-8")
    script = "\n".join((STATIC / name).read_text("utf-8") for name in scripts)
    # Only this very script and this very style are run, whatever else the file may hold.
    policy = f"default-src 'none'; img-src data:; script-src {_digest(script)}; style-src {_digest(style)}"
    return environment().get_template(template).render(policy=policy, style=style, script=script, **values)


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"
