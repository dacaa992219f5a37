"""Draw a diagram from lines such as `research -> write: facts`, as SVG in the colours of the page."""

from __future__ import annotations

import re
from html import escape
from typing import Final

from docutils import nodes
from docutils.parsers.rst import Directive

__all__ = ["Diagram", "svg"]

EDGE: Final = re.compile(r"(.+?)\s*(->|-->)\s*([^:]+?)\s*(?::\s*(.+))?")
"""Matches an edge: two boxes, a solid or a dashed arrow, and perhaps a label."""
WIDTH, HEIGHT, GAP, LINE = 150, 40, 130, 26
"""Width and height of a box, and the room between boxes beside and below each other, in pixels."""
TIP: Final = (
    '<defs><marker id="tip" viewBox="0 0 10 10" refX="10" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0 0 L10 5 L0 10 z" fill="currentColor" stroke="none"/></marker></defs>'
)
"""The tip of an arrow."""


def svg(text: str, title: str) -> str:
    """Return the SVG of a diagram. Each box stands one column to the right of the last box that leads to it.

    Raise ValueError for a line that is no edge, and for edges in a circle.
    """
    edges = []
    for line in filter(None, map(str.strip, text.splitlines())):
        match = EDGE.fullmatch(line)
        if match is None:
            raise ValueError(f"a line of a diagram is 'box -> box: label', not {line!r}")
        edges.append((match[1], match[3], match[2] == "-->", match[4] or ""))
    columns = dict.fromkeys((box for edge in edges for box in edge[:2]), 0)
    for _ in columns:
        for start, end, *_rest in edges:
            columns[end] = max(columns[end], columns[start] + 1)
    if max(columns.values()) >= len(columns):
        raise ValueError("the edges of a diagram lead in a circle")
    rows = {column: [box for box in columns if columns[box] == column] for column in columns.values()}
    tallest = max(map(len, rows.values()))
    places = {
        box: (1 + column * (WIDTH + GAP), 1 + (2 * number + tallest - len(boxes)) * (HEIGHT + LINE) // 2)
        for column, boxes in rows.items()
        for number, box in enumerate(boxes)
    }
    width = 2 + (max(columns.values()) + 1) * (WIDTH + GAP) - GAP
    height = 2 + tallest * (HEIGHT + LINE) - LINE
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width} {height}" '
        f'style="max-width: {width}px; width: 100%" font-family="sans-serif" font-size="14" '
        f'fill="none" stroke="currentColor"><title>{escape(title)}</title>{TIP}'
    )
    edges_drawn = (_edge(places[start], places[end], label, is_dashed) for start, end, is_dashed, label in edges)
    boxes_drawn = (_box(*place, box) for box, place in places.items())
    return "\n".join([head, *edges_drawn, *boxes_drawn, "</svg>"])


def _box(x: int, y: int, text: str) -> str:
    middle = x + WIDTH // 2, y + HEIGHT // 2
    return f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>' + _text(*middle, text)


def _edge(start: tuple[int, int], end: tuple[int, int], label: str, is_dashed: bool) -> str:
    x, y = start[0] + WIDTH, start[1] + HEIGHT // 2
    to_x, to_y = end[0], end[1] + HEIGHT // 2
    dashes = ' stroke-dasharray="5 4"' if is_dashed else ""
    line = f'<path d="M{x} {y} L{to_x - 2} {to_y}" marker-end="url(#tip)"{dashes}/>'
    # Nearer to the end, where lines that begin in one box have parted.
    return line + (_text(x + (to_x - x) * 11 // 20, y + (to_y - y) * 11 // 20, label) if label else "")


def _text(x: int, y: int, text: str) -> str:
    # The rim in the colour of the page keeps a line from crossing its label.
    return (
        f'<text x="{x}" y="{y}" text-anchor="middle" dominant-baseline="central" fill="currentColor" '
        'style="stroke: var(--color-background-primary, white); stroke-width: 6; paint-order: stroke">'
        f"{escape(text)}</text>"
    )


class Diagram(Directive):
    """Show a diagram. The argument says in words what it shows."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the SVG for HTML, and its text for all else."""
        try:
            drawn = svg("\n".join(self.content), self.arguments[0])
        except ValueError as error:
            raise self.error(str(error)) from error
        return [nodes.raw("", f"<p>{drawn}</p>", format="html")]
