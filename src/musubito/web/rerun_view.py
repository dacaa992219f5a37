"""What a page and a file show of a rerun: its rows, and one of them with both answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from musubito.lineage import RerunRow
from musubito.lineage.reruns.judge import Scores, scores_of
from musubito.lineage.reruns.report import RerunReport
from musubito.web.contents import Contents, output_diff

STEPS: Final = 10
"""Steps that ran and are named."""


@dataclass(frozen=True, slots=True)
class RerunSummary:
    """A rerun without its rows."""

    report: RerunReport
    scores: list[Scores]
    steps: dict[str, int]
    more_steps: int

    @classmethod
    def of(cls, report: RerunReport) -> Self:
        """Return the summary of a rerun."""
        named = dict(list(report.steps.items())[:STEPS])
        return cls(report, scores_of(report), named, len(report.steps) - len(named))


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """A row with both answers, and how they differ."""

    row: RerunRow
    diff: str
    sides: tuple[tuple[str, Contents | None], ...]

    @classmethod
    def of(cls, row: RerunRow) -> Self:
        """Compare the answers of a row."""
        answers = {"before": row.before, "after": row.after}
        return cls(
            row,
            output_diff(row.before, row.after) if None not in answers.values() else "",
            tuple((name, None if value is None else Contents.of(value)) for name, value in answers.items()),
        )
