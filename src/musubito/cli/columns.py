"""Tables of which one column gives way where the terminal is narrow, and no other."""

from __future__ import annotations

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

__all__ = ["fitted"]

LEAST = 8


def fitted(table: Table, width: int, cut: int = 0) -> Table:
    """The same table; the texts of column `cut` are shortened so that all others are whole."""
    widths = [max(_width(cell) for cell in (column.header, *column.cells)) for column in table.columns]
    gap = table.padding[1]
    room = width - sum(widths) + widths[cut] - gap * (len(widths) - 1)
    if widths[cut] > room:
        table.columns[cut].width = max(LEAST, room)
    return table


def _width(cell: object) -> int:
    return cell.cell_len if isinstance(cell, Text) else cell_len(str(cell))
