"""Arrange the calls of a run as a timeline: rows with bars by time, each with the calls inside below it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from musubito.lineage import CallReport, Lineage, RunReport
from musubito.lineage.readers.calls_of_run import by_outer_call, without_routers
from musubito.lineage.readers.run_texts import input_texts
from musubito.lineage.readers.why import with_reasons

ROWS: Final = 100
"""Rows on a page."""
UNFOLDED: Final = 20
"""Calls with one outer call that are all rows. Of more, those of one step are one row."""
DEEPEST: Final = 12
"""Levels of calls that are nested on a page at most."""
WIDTH: Final = 1000
"""Width of the whole run, in the units of bars."""
PREVIEW: Final = 80
"""Characters of an input that a row shows."""
TICKS: Final = 5
"""Times above the bars."""
LANES: Final = {"replayed": (3, 2), "failed": (0, 8)}
"""Top and height of the bars of an outcome, so that not only colours tell them apart. All others lie between."""
OTHER: Final = (1, 6)


class Window(NamedTuple):
    """The part of a run that is shown, from `first` to `last` in units of `WIDTH`."""

    first: int = 0
    last: int = WIDTH


WHOLE: Final = Window()


class Row(NamedTuple):
    """Calls of one step: one call, or all with one outer call.

    `calls` counts them, and `call` is the first of them. `bars` are paths, each with its outcome. `began` and `ended`
    are in milliseconds since the first call of the run began. `milliseconds` is what one took or saved, on average.
    """

    call: CallReport
    calls: int
    outcomes: Counter[str]
    bars: tuple[tuple[str, str], ...]
    began: float
    ended: float
    milliseconds: float
    tokens: int
    inside: tuple[Row, ...]
    calls_inside: int
    preview: str | None


class Level(NamedTuple):
    """A page of rows. `after` is the number of the last call if there are more."""

    rows: tuple[Row, ...]
    after: int | None


class Timeline:
    """The calls of a run, by the call that made them; those of routers (conditional edges) only if `all_`.

    If more than `unfolded` calls have one outer call, those of one step are one row.
    """

    def __init__(
        self, lineage: Lineage, report: RunReport, *, all_: bool, window: Window = WHOLE, unfolded: int = UNFOLDED
    ) -> None:
        calls = report.calls if all_ else tuple(without_routers(report.calls))
        self.is_whole = all_
        self.left_out = len(report.calls) - len(calls)
        self.report = replace(report, calls=calls)
        self.window = window
        self._unfolded = unfolded
        self._lineage = lineage
        self._start = min((_began(call) for call in calls), default=0.0)
        self._seconds = max((call.at for call in calls), default=0.0) - self._start or 1.0
        self._inner = by_outer_call([call for call in calls if self._is_shown(call)])

    @property
    def outcomes(self) -> Counter[str]:
        """Return how many calls ended how."""
        return Counter(call.outcome for call in self.report.calls)

    @property
    def ticks(self) -> list[float]:
        """Return the times above the bars, in milliseconds since the first call began."""
        first, last = self.window
        return [1000 * self._seconds * (first + (last - first) * tick / (TICKS - 1)) / WIDTH for tick in range(TICKS)]

    def level(self, inside: int | None, after: int) -> Level:
        """Return the calls inside one call, or those at the top, that were made after another."""
        if len(self.report.calls) <= ROWS and inside is None and not after:
            return self.whole()
        return self._page(self._folded(self._inner[inside]), after)

    def whole(self) -> Level:
        """Return all calls, with all calls inside."""
        return Level(self._opened(None, DEEPEST), None)

    def siblings(self, number: int, outcome: str, after: int) -> tuple[Level, Counter[str]]:
        """Return the calls that are one row with a call, each a row with its input, and how many ended how.

        With an outcome, only calls that ended so are rows.
        """
        found = [
            calls
            for level in self._inner.values()
            for calls in _by_step(level)
            if any(call.number == number for call in calls)
        ]
        calls = found[0] if found else []
        shown = [call for call in calls if outcome in ("", call.outcome)]
        level = self._page([[call] for call in shown], after)
        texts = input_texts(self._lineage, [row.call.node_id for row in level.rows])
        rows = (row._replace(preview=texts.get(row.call.node_id, "")[:PREVIEW]) for row in level.rows)
        return level._replace(rows=tuple(rows)), Counter(call.outcome for call in calls)

    def _folded(self, calls: Sequence[CallReport]) -> list[list[CallReport]]:
        return _by_step(calls) if len(calls) > self._unfolded else [[call] for call in calls]

    def _page(self, groups: Sequence[list[CallReport]], after: int) -> Level:
        ahead = [group for group in groups if group[0].number > after]
        shown = ahead[:ROWS]
        firsts = self._explained([group[0] for group in shown])
        rows = (self._row(first, group, ()) for first, group in zip(firsts, shown, strict=True))
        return Level(tuple(rows), shown[-1][0].number if len(ahead) > ROWS else None)

    def _explained(self, calls: Sequence[CallReport]) -> tuple[CallReport, ...]:
        """Return the calls, each with what differs from an earlier call if nothing was stored for it."""
        return with_reasons(self._lineage, replace(self.report, calls=tuple(calls))).calls

    def _opened(self, number: int | None, levels: int) -> tuple[Row, ...]:
        by_number = {call.number: call for call in self._explained(self.report.calls)}
        return tuple(self._rows(number, by_number, levels))

    def _rows(self, number: int | None, calls: Mapping[int, CallReport], levels: int) -> Iterator[Row]:
        for group in self._folded(self._inner[number]):
            # The calls inside of several calls are shown where the row is opened.
            inner = tuple(self._rows(group[0].number, calls, levels - 1)) if len(group) == 1 else ()
            yield self._row(calls[group[0].number], group, inner if levels > 0 else ())
            if levels <= 0:
                # No page is nested more deeply than this: what is inside follows.
                yield from inner

    def _row(self, first: CallReport, group: Sequence[CallReport], inside: tuple[Row, ...]) -> Row:
        return Row(
            first,
            len(group),
            Counter(call.outcome for call in group),
            self._bars(group),
            1000 * (min(map(_began, group)) - self._start),
            1000 * (max(call.at for call in group) - self._start),
            sum(map(_took, group)) / len(group),
            sum(call.saved_tokens if call.outcome == "replayed" else call.tokens for call in group),
            inside,
            len(inside) or (len(self._inner[first.number]) if len(group) == 1 else 0),
            None,
        )

    def _bars(self, group: Sequence[CallReport]) -> tuple[tuple[str, str], ...]:
        """Return a path for each outcome. Bars that seem to touch each other are one."""
        least = (self.window.last - self.window.first) / WIDTH
        spans: dict[str, list[list[float]]] = {}
        for first, last, outcome in sorted(
            (self._place(_began(call)), self._place(call.at), call.outcome) for call in group
        ):
            merged = spans.setdefault(outcome, [])
            if merged and first <= merged[-1][1] + least:
                merged[-1][1] = max(merged[-1][1], last, first + least)
            else:
                merged.append([first, max(last, first + least)])
        return tuple((outcome, "".join(_bar(outcome, *span) for span in merged)) for outcome, merged in spans.items())

    def _place(self, at: float) -> float:
        return WIDTH * (at - self._start) / self._seconds

    def _is_shown(self, call: CallReport) -> bool:
        return self._place(call.at) >= self.window.first and self._place(_began(call)) <= self.window.last


def _by_step(calls: Sequence[CallReport]) -> list[list[CallReport]]:
    groups: dict[tuple[str, str], list[CallReport]] = {}
    for call in calls:
        groups.setdefault((call.namespace, call.operation), []).append(call)
    return list(groups.values())


def _began(call: CallReport) -> float:
    return call.at - call.wall_ms / 1000


def _took(call: CallReport) -> float:
    return call.saved_compute_ms if call.outcome == "replayed" else call.wall_ms


def _bar(outcome: str, first: float, last: float) -> str:
    top, height = LANES.get(outcome, OTHER)
    return f"M{first:.2f} {top}H{last:.2f}v{height}H{first:.2f}z"
