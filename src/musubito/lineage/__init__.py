"""Readers of what was recorded: runs, calls, their causes and costs, and a plan of what would run."""

from __future__ import annotations

from musubito.lineage.impact import impact
from musubito.lineage.plan import Plan, PlanLine, plan
from musubito.lineage.prices import dollars
from musubito.lineage.provenance import provenance
from musubito.lineage.reader import Lineage
from musubito.lineage.reports import (
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
from musubito.lineage.run_diff import compare
from musubito.lineage.savings import savings
from musubito.lineage.store_stats import statistics
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
    "plan",
    "provenance",
    "savings",
    "statistics",
    "verify",
    "why",
]
