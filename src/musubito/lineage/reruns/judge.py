"""Let a function of the user's judge what reruns answered; it is a step, so that judging again is free."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from musubito.api.step import musubito_step
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.reruns.readable import readable
from musubito.lineage.reruns.report import JudgeError, RerunReport, RerunRow, scores_in
from musubito.lineage.reruns.target import complete

WORST: Final = 10
"""Rows with the lowest scores that are named."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of a rerun by one name, the mean of them, and the rows with the lowest, the lowest first."""

    name: str
    mean: float
    count: int
    worst: tuple[tuple[float, RerunRow], ...]


def step_of_judge(judge: Any) -> Any:
    """Return a judge as a step. Raises `JudgeError` for what is no function."""
    try:
        return judge if hasattr(judge, "__musubito_step__") else musubito_step(judge)
    except TypeError as error:
        raise JudgeError(f"a judge is a function of (input, before, after): {error}") from error


def rows_to_judge(lineage: Lineage, report: RerunReport) -> Iterator[tuple[RerunRow, Any]]:
    """Yield each row with an answer, and its input as plain data."""
    for row in report.rows:
        if row.verdict in ("same", "differs", "new"):
            yield row, _input_of(lineage, row)


def score(judge: Any, row: RerunRow, given: Any) -> None:
    """Let a step judge the answers of a row. Raises `JudgeError` if it returns no score."""
    scores_in(complete(judge(given, row.before, row.after)).value)


def scores_of(report: RerunReport) -> list[Scores]:
    """Return the scores of all rows, by their names."""
    named: dict[str, list[tuple[float, RerunRow]]] = {}
    for row in report.rows:
        for name, score in row.scores.items():
            named.setdefault(name, []).append((score, row))
    return [
        Scores(
            name,
            fmean(score for score, _ in scores),
            len(scores),
            tuple(sorted(scores, key=lambda scored: scored[0])[:WORST]),
        )
        for name, scores in named.items()
    ]


def _input_of(lineage: Lineage, row: RerunRow) -> Any:
    """Return what a run was given, as plain data: the state of a graph, or the input of the first call."""
    run_id = row.run_ids[0] if row.run_ids else row.rerun_id or ""
    states = lineage.states_of_runs([run_id])
    if run_id in states:
        return readable(states[run_id])
    first = lineage.run(run_id, limit=1).calls[0]
    return readable(lineage.input(lineage.node(first.node_id)))
