"""Show one step result: why it ran, what went in and came out, where it came from and what became of it."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from musubito.lineage import Lineage, LineageError, NodeReport
from musubito.lineage.readers.formatting import short
from musubito.lineage.readers.uses import runs_with
from musubito.web.graphs import drawn_result
from musubito.web.rendering import LINKS, page
from musubito.web.result_view import SIDES, side_of, view_of

RUNS: Final = 20
"""Runs that used the result, shown at most."""


def show(request: Request) -> Response:
    """Show a result."""
    lineage: Lineage = request.app.state.lineage
    node = lineage.node(request.path_params["result"])
    runs = runs_with(lineage, node.node_id, RUNS)
    return page(
        "result.html",
        title=node.operation or "Result",
        request=request,
        view=view_of(lineage, node),
        graph=drawn_result(lineage, node, LINKS),
        runs=runs,
        replay=next((use for use in runs if use.outcome == "replayed"), None),
        commands=_commands(node) if node.operation else [],
    )


def image(request: Request) -> Response:
    """Return an image that the input or the output of a result holds."""
    lineage: Lineage = request.app.state.lineage
    side, number = request.path_params["side"], request.path_params["number"]
    node = lineage.node(request.path_params["result"])
    images = side_of(lineage, node, side).contents.images if side in SIDES else []
    if number >= len(images):
        raise LineageError("there is no such image")
    return Response(images[number].bytes(), media_type=images[number].media_type)


def _commands(node: NodeReport) -> list[tuple[str, str]]:
    """Return what can be done about a result, each with its command."""
    result = short(node.node_id)
    execution = node.execution
    edits = [("Correct its output", f"musubito edit {result}")]
    return [
        *(edits if execution is not None and execution.not_replayable is None else []),
        ("Run it again at the next call", f"musubito invalidate {result}"),
        ("Erase its contents", f"musubito forget {result}"),
        ("Show all of it as JSON", f"musubito show {result} --json"),
    ]
