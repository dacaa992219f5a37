"""Read what was recorded: runs, calls, their reasons and costs, and a plan of what would run.

A name is imported when it is first asked for. A graph needs only plans, and few commands need all.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
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

_NAMES: Final = {
    "engine.code_diff": ("ChangedCode",),
    "lineage.impact": ("Impact", "ImpactRow", "impact"),
    "lineage.plan": ("Plan", "PlanLine", "plan"),
    "lineage.prices": ("dollars",),
    "lineage.provenance": ("Prompt", "Provenance", "RootInput", "provenance"),
    "lineage.reader": ("Lineage",),
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
    "lineage.run_diff": ("CallDiff", "RunDiff", "compare_runs"),
    "lineage.savings": ("Savings", "SavingsRow", "savings"),
    "lineage.store_stats": ("StepStatistics", "StoredSize", "StoreStatistics", "statistics"),
    "lineage.verify": ("Finding", "VerifyProgress", "verify"),
    "lineage.why": ("Why", "why"),
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


class _Package(ModuleType):
    """A package in which some functions have the name of their module. Such a name is the function's."""

    def __setattr__(self, name: str, value: Any) -> None:
        is_module_of_function = name in _PLACES and isinstance(value, ModuleType)
        super().__setattr__(name, getattr(value, name) if is_module_of_function else value)


sys.modules[__name__].__class__ = _Package
