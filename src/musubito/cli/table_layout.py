"""Fit tables and sentences into a narrow terminal: one column is shortened, a sentence is broken at blanks."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, OverflowMethod
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

GAP = 2
"""Blanks between two columns of a table."""
LEAST = 8
"""Columns that a shortened name keeps at least."""


class Name:
    """A name in the column that is shortened.

    The beginning of the name is cut first, since names of one place begin alike. The texts before and after the name
    stay as long as there is room for a few letters.
    """

    def __init__(self, name: str, *, before: Text | None = None, after: str = "", style: str = "") -> None:
        # A line break in a name would break its row.
        self._name = name.replace("\n", "\\n")
        self._before = Text() if before is None else before
        self._after = after
        self._style = style

    @property
    def cell_len(self) -> int:
        """Return the width of the whole name, in columns."""
        return self._before.cell_len + cell_len(self._name) + cell_len(self._after)

    def within(self, width: int) -> Text:
        """Return as much of the name as fits into so many columns."""
        text = Text(end="", no_wrap=True, overflow="ellipsis").append_text(self._before)
        room = width - self._before.cell_len - cell_len(self._after)
        name = self._name if cell_len(self._name) <= room else f"…{_last(self._name, room - 1)}"
        text.append(name, style=self._style)
        text.append(self._after, style=f"{self._style} bold".strip())
        text.truncate(width, overflow="ellipsis")
        return text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        yield self.within(options.max_width)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(LEAST, self.cell_len), self.cell_len).with_maximum(options.max_width)


def _last(text: str, width: int) -> str:
    """Return the end of a text that fills so many columns, at least three."""
    return set_cell_size(text[::-1], max(width, 3)).rstrip()[::-1]


class Fitted:
    """A table whose lines end with their last letter.

    If the table is wider than the terminal, blanks at the end of a line would fill the line below.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for line in Segment.split_lines(console.render(self._table, options)):
            while line and not line[-1].text.strip():
                line.pop()
            if line:
                line[-1] = Segment(line[-1].text.rstrip(), line[-1].style)
            yield from line
            yield Segment.line()


def table_of(
    titles: Sequence[str],
    rows: Sequence[Sequence[str | Text | Name]],
    width: int,
    *,
    name: int = 0,
    texts: Collection[int] = (),
    total: bool = False,
) -> Fitted:
    """Return rows of short texts as a table. Titles that are all empty are not shown.

    If there is no room, only column `name` is shortened; as the last column, it is broken into lines instead. Column
    `name` and the columns `texts` are aligned to the left, all others to the right. With `total`, the last row is the
    sum of the others.
    """
    table = Table(box=None, pad_edge=False, show_header=any(titles), padding=(0, GAP, 0, 0))
    for place, title in enumerate(titles):
        left = place == name or place in texts
        is_broken = place == name == len(titles) - 1
        overflow: OverflowMethod = "fold" if is_broken else "ellipsis"
        table.add_column(title, justify="left" if left else "right", no_wrap=not is_broken, overflow=overflow)
    for place, row in enumerate(rows, 1):
        table.add_row(*row, style="bold" if total and place == len(rows) else None)
    return _fitted(table, width, name)


def _fitted(table: Table, width: int, cut: int) -> Fitted:
    """Shorten the texts of column `cut` so that all others are whole, and return the table.

    If too little of them would be left, columns are one blank apart. If that is not enough, the table becomes wider
    than the terminal. A row that goes on below can be read, but a row whose cells are all cut cannot.
    """
    widths = [max(_width(cell) for cell in (column.header, *column.cells)) for column in table.columns]
    least, gaps = min(LEAST, widths[cut]), len(widths) - 1
    room = width - sum(widths) + widths[cut] - table.padding[1] * gaps
    if room < least:
        room += (table.padding[1] - 1) * gaps
        table.padding = (0, 1, 0, 0)
    if widths[cut] > room:
        table.columns[cut].width = max(least, room)
        if room < least:
            table.width = width - room + least
    return Fitted(table)


def _width(cell: object) -> int:
    return cell.cell_len if isinstance(cell, Text | Name) else cell_len(str(cell))


def broken(text: Text, width: int) -> list[Text]:
    """Break a sentence into lines of so many columns.

    A word without blanks may be longer: a user who copies a path needs the whole path.
    """
    starts: list[int] = []
    begin = 0
    for word in re.finditer(r"\S+", text.plain):
        if word.start() > begin and cell_len(text.plain[begin : word.end()]) > width:
            begin = word.start()
            starts.append(begin)
    lines = text.divide(starts)
    for line in lines:
        line.rstrip()
    return list(lines)
