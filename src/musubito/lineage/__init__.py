"""Readers of what was recorded: runs, calls, their causes and costs, and a plan of what would run."""

from __future__ import annotations

from musubito.lineage.comparison import compare
from musubito.lineage.impact import impact
from musubito.lineage.origins import origins
from musubito.lineage.plan import Plan, PlanLine, plan
from musubito.lineage.prices import dollars
from musubito.lineage.reader import Lineage
from musubito.lineage.records import (
    Attempt,
    CallReport,
    Cost,
    Execution,
    LineageError,
    NodeReport,
    Relative,
    RunReport,
    RunSummary,
    Tokens,
)
from musubito.lineage.savings import savings
from musubito.lineage.statistics import statistics
from musubito.lineage.verify import verify
from musubito.lineage.why import why

__all__ = [
    "Attempt",
    "CallReport",
    "Cost",
    "Execution",
    "Lineage",
    "LineageError",
    "NodeReport",
    "Plan",
    "PlanLine",
    "Relative",
    "RunReport",
    "RunSummary",
    "Tokens",
    "compare",
    "dollars",
    "impact",
    "origins",
    "plan",
    "savings",
    "statistics",
    "verify",
    "why",
]
