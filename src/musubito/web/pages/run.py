"""Show one run: its calls as a tree, its graph, and how it differs from another run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from musubito.lineage import CallReport, Lineage, LineageError, RunReport, compare_runs
from musubito.lineage.calls_of_run import by_outer_call, without_routers
from musubito.lineage.run_reader import computing
from musubito.lineage.run_texts import texts_of_run
from musubito.lineage.why import with_reasons
from musubito.web.graphs import drawn_run
from musubito.web.rendering import LINKS, page

ROWS: Final = 200
"""Calls on a page."""
TEXT: Final = 600
"""Characters of a question or an answer that are shown at most."""
ERRORS: Final = 5
"""Errors of a run that are shown at most."""
DIGITS: Final = 12
"""Digits of the number of a call at most."""
DEEPEST: Final = 12
"""Levels of calls that are nested on a page at most."""
DIFFERING: Final = 200
"""Calls that differ in a comparison, shown at most."""


class Branch(NamedTuple):
    """A call with the calls inside it: those that are shown, and the number of all."""

    call: CallReport
    inside: tuple[Branch, ...]
    calls_inside: int


class Tree(NamedTuple):
    """A page of calls with one outer call. `after` is the number of the last one if there are more."""

    branches: tuple[Branch, ...]
    after: int | None
    longest: float
    """The largest time of a call that is shown, in milliseconds."""


class Calls:
    """The calls of a run, by the call that made them; those of routers (conditional edges) only if `all_`."""

    def __init__(self, lineage: Lineage, report: RunReport, *, all_: bool) -> None:
        calls = report.calls if all_ else tuple(without_routers(report.calls))
        self.is_whole = all_
        self.left_out = len(report.calls) - len(calls)
        self.report = replace(report, calls=calls)
        self._lineage = lineage
        self._inner = by_outer_call(calls)

    @property
    def outcomes(self) -> Counter[str]:
        """Return how many calls ended how."""
        return Counter(call.outcome for call in self.report.calls)

    def tree(self, inside: int | None, after: int) -> Tree:
        """Return the calls inside one call, or those at the top, that were made after another."""
        if len(self.report.calls) <= ROWS and inside is None and not after:
            return self.whole_tree()
        ahead = [call for call in self._inner[inside] if call.number > after]
        shown = self._explained(ahead[:ROWS])
        branches = tuple(Branch(call, (), len(self._inner[call.number])) for call in shown)
        return Tree(branches, shown[-1].number if len(ahead) > ROWS else None, self._longest())

    def whole_tree(self) -> Tree:
        """Return all calls, with all calls inside."""
        by_number = {call.number: call for call in self._explained(self.report.calls)}
        return Tree(tuple(self._opened(None, by_number, DEEPEST)), None, self._longest())

    def _explained(self, calls: Sequence[CallReport]) -> tuple[CallReport, ...]:
        """Return the calls, each with what differs from an earlier call if nothing was stored for it."""
        return with_reasons(self._lineage, replace(self.report, calls=tuple(calls))).calls

    def _opened(self, number: int | None, calls: Mapping[int, CallReport], levels: int) -> Iterator[Branch]:
        for each in self._inner[number]:
            inside = tuple(self._opened(each.number, calls, levels - 1))
            if levels > 0:
                yield Branch(calls[each.number], inside, len(inside))
            else:
                # No page is nested more deeply than this: what is inside follows.
                yield Branch(calls[each.number], (), 0)
                yield from inside

    def _longest(self) -> float:
        return max(map(_took, self.report.calls), default=0.0)


def _took(call: CallReport) -> float:
    return call.saved_ms if call.outcome == "replayed" else call.duration_ms


def show(request: Request) -> Response:
    """Show a run with its calls, or with those inside one of its calls."""
    report, calls, inside, after = _asked(request)
    lineage: Lineage = request.app.state.lineage
    tree = calls.tree(inside, after)
    return page(
        "run.html",
        title=report.summary.name or "Run",
        request=request,
        run=report.summary,
        texts=texts_of_run(lineage, report.summary.run_id),
        longest=TEXT,
        outcomes=Counter(call.outcome for call in report.calls),
        tree=tree,
        tags=report.summary.tags,
        inside=inside,
        outer=next((call for call in report.calls if call.number == inside), None),
        is_whole=calls.is_whole,
        left_out=calls.left_out,
        graph=drawn_run(lineage, calls.report, LINKS),
        errors=list(errors_of(lineage, report)),
        computing=computing(lineage, report.summary.run_id) if report.summary.status == "running" else [],
    )


def calls(request: Request) -> Response:
    """Return the calls inside one call, as a part of the page."""
    report, by_outer, inside, after = _asked(request)
    tree = by_outer.tree(inside, after)
    return page("calls.html", run=report.summary, tree=tree, inside=inside, is_whole=by_outer.is_whole)


def _asked(request: Request) -> tuple[RunReport, Calls, int | None, int]:
    lineage: Lineage = request.app.state.lineage
    report = lineage.run(request.path_params["run"])
    inside, after = (_number(request.query_params.get(name)) for name in ("inside", "after"))
    return report, Calls(lineage, report, all_="all" in request.query_params), inside, after or 0


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) <= DIGITS else None


def errors_of(lineage: Lineage, report: RunReport) -> Iterator[tuple[CallReport, str]]:
    """Yield the failed calls at the bottom, each with its error."""
    outer = {call.parent for call in report.calls if call.outcome == "failed"}
    failed = [call for call in report.calls if call.outcome == "failed" and call.number not in outer]
    for call in failed[:ERRORS]:
        try:
            yield call, lineage.node(call.node_id).error or ""
        except LineageError:
            yield call, ""


def compare(request: Request) -> Response:
    """Show how two runs differ."""
    lineage: Lineage = request.app.state.lineage
    chosen = request.query_params.getlist("run")
    if len(chosen) != 2:
        if len(chosen) == 1:
            return RedirectResponse(f"/runs/{chosen[0]}", 303)
        raise LineageError(f"two runs can be compared, and {len(chosen)} were chosen; go back and choose two")
    # The list has the newest run first.
    comparison = compare_runs(lineage, chosen[1], chosen[0])
    changes = Counter(call.change for call in comparison.calls)
    differing = [call for call in comparison.calls if call.change not in ("same", "inside")]
    return page(
        "compare.html",
        title="Two runs",
        request=request,
        before=comparison.before,
        after=comparison.after,
        changes=changes,
        calls=differing[:DIFFERING],
        left_out=max(0, len(differing) - DIFFERING),
    )
