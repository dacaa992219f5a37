"""Readers of what was recorded: runs, calls, their causes and costs, and a plan of what would run."""

from __future__ import annotations

from musubito.lineage.impact import Impact, ImpactRow, impact
from musubito.lineage.plan import Plan, PlanLine, plan
from musubito.lineage.prices import dollars
from musubito.lineage.provenance import Prompt, Provenance, RootInput, provenance
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
from musubito.lineage.run_diff import ComparedCall, Comparison, compare
from musubito.lineage.savings import Savings, SavingsRow, savings
from musubito.lineage.store_stats import Kept, OperationStatistics, Statistics, statistics
from musubito.lineage.verify import Checked, Finding, verify
from musubito.lineage.why import ChangedCode, Why, why

__all__ = [
    "Attempt",
    "CallReport",
    "ChangedCode",
    "Checked",
    "ComparedCall",
    "Comparison",
    "Cost",
    "Execution",
    "Finding",
    "Impact",
    "ImpactRow",
    "Kept",
    "Lineage",
    "LineageError",
    "NodeReport",
    "OperationStatistics",
    "Plan",
    "PlanLine",
    "Prompt",
    "Provenance",
    "Relative",
    "RootInput",
    "RunReport",
    "RunSummary",
    "Savings",
    "SavingsRow",
    "Statistics",
    "Tokens",
    "Why",
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
