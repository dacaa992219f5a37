"""Read what was recorded: runs, calls, their reasons and costs, and a plan of what would run."""

from __future__ import annotations

from musubito.engine.code_diff import ChangedCode
from musubito.lineage.impact import Impact, ImpactRow, impact
from musubito.lineage.plan import Plan, PlanLine, plan
from musubito.lineage.prices import dollars
from musubito.lineage.provenance import Prompt, Provenance, RootInput, provenance
from musubito.lineage.reader import Lineage
from musubito.lineage.reports import (
    Attempt,
    CallReport,
    Cost,
    EditReport,
    Execution,
    LineageError,
    NodeReport,
    Relative,
    RunReport,
    RunSummary,
    Tokens,
)
from musubito.lineage.run_diff import CallDiff, RunDiff, compare_runs
from musubito.lineage.savings import Savings, SavingsRow, savings
from musubito.lineage.store_stats import StepStatistics, StoredSize, StoreStatistics, statistics
from musubito.lineage.verify import Finding, VerifyProgress, verify
from musubito.lineage.why import Why, why

__all__ = [
    "Attempt",
    "CallDiff",
    "CallReport",
    "ChangedCode",
    "Cost",
    "EditReport",
    "Execution",
    "Finding",
    "Impact",
    "ImpactRow",
    "Lineage",
    "LineageError",
    "NodeReport",
    "Plan",
    "PlanLine",
    "Prompt",
    "Provenance",
    "Relative",
    "RootInput",
    "RunDiff",
    "RunReport",
    "RunSummary",
    "Savings",
    "SavingsRow",
    "StepStatistics",
    "StoreStatistics",
    "StoredSize",
    "Tokens",
    "VerifyProgress",
    "Why",
    "compare_runs",
    "dollars",
    "impact",
    "plan",
    "provenance",
    "savings",
    "statistics",
    "verify",
    "why",
]
