"""Show results, runs and graphs in a notebook, as HTML without scripts, colours or a page around it.

All that was stored is text: it is escaped, secrets are hidden as in `musubito show`, and what is long is cut.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from html import escape
from typing import Any, Final

from musubito.engine.engine import MusubitoEngine
from musubito.engine.engine_in_use import current_engine
from musubito.errors import ArtifactUnreadable, EncodingError, MusubitoError
from musubito.lineage.corruption import binary
from musubito.lineage.readers.calls_of_run import by_outer_call, without_routers
from musubito.lineage.readers.cost_format import worth
from musubito.lineage.readers.formatting import clean, count, duration, mark, one_line, short, times, when
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.readers.why import with_reasons
from musubito.lineage.reports import CallReport, RunReport
from musubito.model import UNSTORABLE, MusubitoResult
from musubito.values.artifact_codec import FORMAT, encode_value
from musubito.values.display import plain

LINES: Final = 30
"""Lines of a value that are shown at most."""
WIDTH: Final = 500
"""Characters of a line that are shown at most."""
LARGEST: Final = 1_000_000
"""Bytes of an encoded value above which none of it is shown."""
CALLS: Final = 200
"""Calls of a run that are shown at most."""
ROWS: Final = 50
"""Runs of a rerun that are shown at most."""
ALIKE: Final = 3
"""Calls of one kind that are shown one by one; more become one line."""
_MONO: Final = "font-family: monospace; line-height: 1.5"


def html_of_result(result: MusubitoResult[Any]) -> str:
    """Return the value of a result, and the step, the time and the cost of the execution behind it, folded."""
    return _box(f'<pre style="margin: 0">{_text(_shown(result.value))}</pre>', _folded("result", _facts(result)))


def html_of_run(engine: MusubitoEngine, run_id: str) -> str:
    """Return the outcomes of a run, and its calls as a folded tree."""
    try:
        lineage = Lineage(engine)
        report = with_reasons(lineage, lineage.run(run_id))
    except (MusubitoError, TypeError) as error:
        return _box(_line(f"no run: {error}"))
    return _box(_run(report))


def html_of_rerun(report: Any) -> str:
    """Return a rerun (a `RerunReport`) as a table of the runs that did not answer as before."""
    rows = [row for row in report.rows if row.verdict != "same"]
    counts = (f"{count(number)} {verdict}" for verdict, number in report.counts.items())
    head = [f"{times(len(report.rows), 'run')} of {report.target}", *counts]
    head.append(f"ran {count(report.ran)} of {times(report.calls, 'call')}")
    if worth(report.whole):
        head.append(f"spent {worth(report.spent) or 'nothing'}, a full rerun {worth(report.whole)}")
    cells = [("Input", "Answer", "Before", "After", "Scores", "Spent")]
    for row in rows[:ROWS]:
        scores = ", ".join(f"{name} {score:g}" for name, score in row.scores.items())
        cells.append((row.question[:WIDTH], row.verdict, *row.texts, scores, worth(row.spent)))
    table = "".join(f"<tr>{''.join(f'<td>{escape(one_line(cell))}</td>' for cell in line)}</tr>" for line in cells)
    more = [_line(f"… {times(len(rows) - ROWS, 'more run')}")] if len(rows) > ROWS else []
    return _box(_line(" · ".join(head)), f"<table>{table}</table>" if rows else "", *more)


def html_of_graph(engine: MusubitoEngine, name: str, steps: Collection[str]) -> str:
    """Return the names of a graph's steps, and the newest run in which it was invoked."""
    listed = _folded(f"graph {name}", [_line(step) for step in steps])
    try:
        lineage = Lineage(engine)
        newest = _newest_run(lineage, name, steps)
        report = None if newest is None else with_reasons(lineage, lineage.run(newest))
    except (MusubitoError, TypeError) as error:
        return _box(listed, _line(f"no run: {error}"))
    return _box(listed, _line("It has not run yet.") if report is None else _run(report))


def _newest_run(lineage: Lineage, name: str, steps: Iterable[str]) -> str | None:
    """Return the id of the newest run in which a graph was invoked; None if it was not.

    It is a run of the graph's name, or the run around the invocation, whose name is another one.
    """
    of_steps = lineage.ask(*(("newest_call_of", {"operation": f"{name}/{step}"}) for step in steps))
    runs = [(float(at), binary(run).hex()) for rows in of_steps for _, at, run in rows]
    # No call may have ended yet in a run of the graph's own.
    runs += [(run.started_at, run.run_id) for run in lineage.runs(1, name=name)]
    return max(runs)[1] if runs else None


# -- a value -----------------------------------------------------------------------------------------------------------
def _shown(value: Any) -> str:
    """Return a value as text, as `musubito show` does: without secrets, and without running code of its class."""
    try:
        packed = encode_value(value)
        if len(packed) > LARGEST:
            return f"(a {type(value).__qualname__} of {count(len(packed))} bytes)"
        data = plain(packed.removeprefix(FORMAT))
    except (EncodingError, ArtifactUnreadable, RecursionError):
        return f"(a {type(value).__qualname__}, which cannot be stored)"
    return data if isinstance(data, str) else json.dumps(data, indent=2, ensure_ascii=False, default=str)


def _text(text: str) -> str:
    lines = clean(text).splitlines()
    shown = [line if len(line) <= WIDTH else f"{line[:WIDTH]}…" for line in lines[:LINES]]
    if len(lines) > LINES:
        shown.append(f"… {times(len(lines) - LINES, 'more line')}")
    return escape("\n".join(shown))


def _facts(result: MusubitoResult[Any]) -> list[str]:
    facts = [f"call {short(result.node_id)}"]
    if result.artifact_id.startswith(UNSTORABLE):
        return [_line(facts[0]), _line("The value is not stored.")]
    try:
        node = Lineage(current_engine()).node(result.node_id)
    except (MusubitoError, TypeError):
        return [_line(facts[0])]  # another engine recorded it
    facts.insert(0, f"step {node.operation}")
    if node.execution is not None:
        cost = node.execution.cost
        price = worth(cost)
        facts.append(f"ran {when(node.execution.started_at)}, took {duration(node.execution.duration_ms)}")
        facts += [f"cost {price}"] if price else []
    if result.producer_node_id != result.node_id:
        facts.append(f"first made by call {short(result.producer_node_id)}")
    return [_line(fact) for fact in facts]


# -- a run -------------------------------------------------------------------------------------------------------------
def _run(report: RunReport) -> str:
    run, calls = report.summary, without_routers(report.calls)
    numbers = [(run.ran, "ran"), (run.replayed, "replayed"), (run.failed, "failed")]
    head = [f"run {one_line(run.name or short(run.run_id))}", run.status, when(run.started_at)]
    head += [f"{count(number)} {outcome}" for number, outcome in numbers if number]
    head += [
        f"{label} {price}" for label, cost in (("spent", run.spent), ("saved", run.saved)) if (price := worth(cost))
    ]
    return _folded(" · ".join(head), _tree(calls))


def _tree(calls: Sequence[CallReport]) -> list[str]:
    """Return the top calls of a run as HTML, with the calls inside each of them."""
    shown = calls[:CALLS]
    inner = by_outer_call(shown)
    # An inner call has a higher number than its outer one: from the last call on, what is inside is known in time.
    below: defaultdict[int | None, list[str]] = defaultdict(list)
    for number in [*(call.number for call in reversed(shown)), None]:
        below[number] = list(_siblings(inner[number], below))
    more = [_line(f"… {times(len(calls) - CALLS, 'more call')}")] if len(calls) > CALLS else []
    return below[None] + more


def _siblings(calls: Sequence[CallReport], below: defaultdict[int | None, list[str]]) -> Iterator[str]:
    alike: defaultdict[tuple[Any, ...], list[CallReport]] = defaultdict(list)
    for call in calls:
        alike[call.operation, call.outcome, call.reason, *below[call.number]].append(call)
    for same in alike.values():
        groups = [same] if len(same) > ALIKE else [[call] for call in same]
        for group in groups:
            text, inside = _call(group), below[group[0].number]
            yield _folded(text, inside) if inside else _line(text)


def _call(group: Sequence[CallReport]) -> str:
    first = group[0]
    replayed = first.outcome == "replayed"
    took = sum(call.saved_compute_ms if replayed else call.wall_ms for call in group) / len(group)
    used = sum(call.saved_tokens if replayed else call.tokens for call in group)
    parts = [
        f"{mark(first.outcome)} {first.operation}" + (f" × {len(group)}" if len(group) > 1 else ""),
        f"{first.outcome}: {first.reason.word}",
        duration(took) + (" each" if len(group) > 1 else "") + (" saved" if replayed else ""),
        f"{count(used)} tokens" if used else "",
        short(first.node_id),
    ]
    return " · ".join(filter(None, parts))


# -- HTML --------------------------------------------------------------------------------------------------------------
def _box(*parts: str) -> str:
    return f'<div style="{_MONO}">{"".join(parts)}</div>'


def _line(text: str) -> str:
    return f"<div>{escape(one_line(text))}</div>"


def _folded(title: str, inside: Iterable[str]) -> str:
    body = "".join(inside)
    title = escape(one_line(title))
    return f'<details><summary>{title}</summary><div style="margin-left: 1.5em">{body}</div></details>'
