"""Show one step result: why it ran, what went in and came out, where it came from and what became of it."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from musubito.lineage import Lineage, LineageError, NodeReport
from musubito.lineage.files import files_read
from musubito.lineage.formatting import not_shown, short
from musubito.lineage.unrepeatable import unrepeatable_of
from musubito.lineage.uses import runs_with
from musubito.lineage.why import why
from musubito.web.contents import Contents, Picture
from musubito.web.graphs import drawn_result
from musubito.web.rendering import page

RUNS: Final = 20
"""Runs that used the result, shown at most."""


class Side(NamedTuple):
    """The input or the output of a result. `says` stands in its place if it cannot be shown."""

    node_id: str
    name: str
    contents: Contents
    says: str | None

    def image(self, picture: Picture) -> str:
        """Return the address of an image."""
        return f"/results/{self.node_id}/{self.name}/{picture.number}"


def show(request: Request) -> Response:
    """Show a result."""
    lineage: Lineage = request.app.state.lineage
    node = lineage.node(request.path_params["result"])
    is_known = bool(node.operation)
    explained = why(lineage, node.node_id) if is_known else None
    answer = node.execution
    return page(
        "result.html",
        title=node.operation or "Result",
        request=request,
        node=node,
        attempt=lineage.attempt(node),
        why=explained,
        sides=[
            _side(node, name, value)
            for name, value in (("input", _input(lineage, node)), ("output", lineage.output(node)))
        ],
        graph=drawn_result(lineage, node),
        files=files_read(lineage, [node]),
        unrepeatable=unrepeatable_of(lineage, node),
        runs=runs_with(lineage, node.node_id, RUNS),
        is_elsewhere=answer is not None and answer.producer_node_id != node.node_id,
        commands=_commands(node) if is_known else [],
    )


def image(request: Request) -> Response:
    """Return an image that the input or the output of a result holds."""
    lineage: Lineage = request.app.state.lineage
    node = lineage.node(request.path_params["result"])
    value = _input(lineage, node) if request.path_params["side"] == "input" else lineage.output(node)
    images = Contents.of(value).images
    number: int = request.path_params["number"]
    if number >= len(images):
        raise LineageError("there is no such image")
    return Response(images[number].bytes(), media_type=images[number].media_type)


def _input(lineage: Lineage, node: NodeReport) -> Any:
    value = lineage.input(node) if node.input_hash else None
    # The node of a graph has one argument, of this name.
    return value["input"] if isinstance(value, dict) and value.keys() == {"input"} else value


def _side(node: NodeReport, name: str, value: Any) -> Side:
    says = not_shown(value)
    if value is None:
        absent = "null, or not stored" if name == "output" and node.execution else "not stored"
        says = "erased with 'musubito forget'" if node.is_erased else absent
    return Side(node.node_id, name, Contents.of(None if says else value), says)


def _commands(node: NodeReport) -> list[tuple[str, str]]:
    """Return what can be done about a result, each with its command."""
    result = short(node.node_id)
    return [
        ("Run it again at the next call", f"musubito invalidate {result}"),
        ("Erase its contents", f"musubito forget {result}"),
        ("Show all of it as JSON", f"musubito show {result} --json"),
        ("What an edit of this step would cost", f"musubito impact {node.operation}"),
    ]
