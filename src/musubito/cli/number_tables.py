"""Print tables of numbers, one row for each name."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from musubito.cli.table_layout import GAP, Name, fitted

__all__ = ["print_table"]


def print_table(
    console: Console,
    titles: Sequence[str],
    rows: Sequence[Sequence[str | Text | Name]],
    *,
    name: int = 0,
    texts: Collection[int] = (),
    total: bool = False,
) -> None:
    """Print rows of short texts as a table.

    If there is no room, only column `name` is shortened. Column `name` and the columns `texts` are aligned to the left,
    all others to the right. With `total`, the last row is the sum of the others.
    """
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for place, title in enumerate(titles):
        left = place == name or place in texts
        table.add_column(title, justify="left" if left else "right", no_wrap=True, overflow="ellipsis")
    for place, row in enumerate(rows, 1):
        table.add_row(*row, style="bold" if total and place == len(rows) else None)
    console.print(fitted(table, console.width, cut=name))
