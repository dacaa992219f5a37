"""Read what was recorded: runs, calls, their reasons and costs, and a plan of what would run.

A name is imported when it is first asked for. A graph needs only plans, and few commands need all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from musubito.engine.code_diff import ChangedCode
    from musubito.engine.run_input import RunInput
    from musubito.lineage.readers.impact import Impact, ImpactRow, impact
    from musubito.lineage.readers.plan import Plan, PlanLine, plan
    from musubito.lineage.readers.prices import dollars
    from musubito.lineage.readers.provenance import Prompt, Provenance, RootInput, provenance
    from musubito.lineage.readers.reader import Lineage
    from musubito.lineage.readers.run_diff import CallDiff, RunDiff, compare_runs
    from musubito.lineage.readers.savings import Savings, SavingsRow, savings
    from musubito.lineage.readers.store_stats import StepStatistics, StoredSize, StoreStatistics, statistics
    from musubito.lineage.readers.verify import Finding, VerifyProgress, verify
    from musubito.lineage.readers.why import Why, why
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
    from musubito.lineage.reruns.api import rerun
    from musubito.lineage.reruns.report import RerunReport, RerunRow, rerun_report

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
    "RerunReport",
    "RerunRow",
    "RootInput",
    "RunDiff",
    "RunInput",
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
    "rerun",
    "rerun_report",
    "savings",
    "statistics",
    "verify",
    "why",
]

_NAMES: Final = {
    "engine.code_diff": ("ChangedCode",),
    "engine.run_input": ("RunInput",),
    "lineage.readers.impact": ("Impact", "ImpactRow", "impact"),
    "lineage.readers.plan": ("Plan", "PlanLine", "plan"),
    "lineage.readers.prices": ("dollars",),
    "lineage.readers.provenance": ("Prompt", "Provenance", "RootInput", "provenance"),
    "lineage.readers.reader": ("Lineage",),
    "lineage.reports": (
        "Attempt",
        "CallReport",
        "Cost",
        "EditReport",
        "Execution",
        "LineageError",
        "NodeReport",
        "Relative",
        "RunReport",
        "RunSummary",
        "Tokens",
    ),
    "lineage.readers.run_diff": ("CallDiff", "RunDiff", "compare_runs"),
    "lineage.readers.savings": ("Savings", "SavingsRow", "savings"),
    "lineage.readers.store_stats": ("StepStatistics", "StoredSize", "StoreStatistics", "statistics"),
    "lineage.readers.verify": ("Finding", "VerifyProgress", "verify"),
    "lineage.readers.why": ("Why", "why"),
    "lineage.reruns.api": ("rerun",),
    "lineage.reruns.report": ("RerunReport", "RerunRow", "rerun_report"),
}
"""The names that each module defines."""
_PLACES: Final = {name: f"musubito.{module}" for module, names in _NAMES.items() for name in names}
"""The module of each name."""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_PLACES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
