"""Show how two runs differ: first what they gave, then the calls that differ, equal changes as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from musubito.lineage import CallReport, Lineage, LineageError, compare_runs
from musubito.lineage.readers.run_diff import CallDiff, compare_with_previous
from musubito.lineage.readers.run_texts import texts_of_runs
from musubito.values.value_diff import text_diff
from musubito.web.contents import MAX_COMPARED, output_diff
from musubito.web.pages.run import TEXT
from musubito.web.rendering import page

CHANGES: Final = 100
"""Different changes that are shown at most."""
OUTPUTS: Final = 10
"""Outputs that differ and are shown at most, besides the answer."""


def show(request: Request) -> Response:
    """Show how two runs differ, or one from the run of its name before it."""
    lineage: Lineage = request.app.state.lineage
    chosen = request.query_params.getlist("run")
    if len(chosen) == 1:
        comparison = compare_with_previous(lineage, chosen[0])
    elif len(chosen) == 2:
        # The list has the newest run first.
        comparison = compare_runs(lineage, chosen[1], chosen[0])
    else:
        raise LineageError(f"two runs can be compared, and {len(chosen)} were chosen; go back and choose two")
    runs = [comparison.before.run_id, comparison.after.run_id]
    texts = texts_of_runs(lineage, runs)
    questions, answers = zip(*(texts[run] for run in runs), strict=True)
    changes = _folded([call for call in comparison.calls if call.change not in ("same", "inside")])
    diff = text_diff("answer", *(said.text[:MAX_COMPARED] if said else "" for said in answers))
    told = {said.node_id for said in answers if said and diff}
    differing = [calls for calls in changes if calls[0].same_output is False and not told.issuperset(_nodes(calls[0]))]
    outputs = zip(differing, _output_diffs(lineage, [calls[0] for calls in differing[:OUTPUTS]]), strict=False)
    return page(
        "compare.html",
        title="Two runs",
        request=request,
        before=comparison.before,
        after=comparison.after,
        questions=questions,
        answers=answers,
        longest=TEXT,
        diff=diff,
        counts=Counter(call.change for call in comparison.calls),
        outputs=[(calls, diff) for calls, diff in outputs if diff],
        changes=changes[:CHANGES],
        left_out=max(0, len(changes) - CHANGES),
    )


def _folded(calls: Sequence[CallDiff]) -> list[list[CallDiff]]:
    """Return equal changes together, those first whose outputs differ."""
    changes: dict[Hashable, list[CallDiff]] = {}
    for call in calls:
        ends = [side and side.outcome for side in (call.before, call.after)]
        key = call.operation, call.change, *ends, call.reason, call.parts, call.edit, call.same_output
        changes.setdefault(key, []).append(call)
    return sorted(changes.values(), key=lambda same: same[0].same_output is not False)


def _nodes(call: CallDiff) -> list[str]:
    return [side.node_id for side in (call.before, call.after) if side]


def _output_diffs(lineage: Lineage, calls: Sequence[CallDiff]) -> list[str]:
    """Return how the outputs of both sides of each call differ."""
    sides = [side for call in calls for side in (call.before, call.after) if side]
    values = iter(_outputs(lineage, sides))
    return [output_diff(before, after) for before, after in zip(values, values, strict=True)]


def _outputs(lineage: Lineage, calls: Sequence[CallReport]) -> list[Any]:
    """Return what calls were answered, which need not be what answers there now."""
    numbers = lineage.numbers(call.node_id for call in calls)
    nodes = dict(zip(numbers, lineage.nodes(numbers.values()), strict=True))
    numbered = {call.execution: call for call in calls if call.execution is not None}
    artifacts: dict[int, bytes] = dict(lineage.about("artifacts_of_executions", numbered))
    answered = {}
    for number, call in numbered.items():
        node = nodes.get(call.node_id)
        if node is not None and node.execution is not None:
            execution = replace(node.execution, number=number, artifact_id=artifacts[number].hex())
            answered[number] = replace(node, execution=execution)
    values = dict(zip(answered, lineage.outputs(list(answered.values())), strict=True))
    return [None if call.execution is None else values.get(call.execution) for call in calls]
