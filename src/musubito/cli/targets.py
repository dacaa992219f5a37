"""Find the run or the node that a user names."""

from __future__ import annotations

from typing import Final

from musubito.cli.context import Here, nothing
from musubito.lineage import LineageError, NodeReport, RunReport

__all__ = ["run_or_node"]

DIGITS: Final = frozenset("0123456789abcdef")
"""The digits of an id."""
SHORTEST: Final = 4
"""Digits that a shortened id has at least."""


def run_or_node(here: Here, what: str) -> RunReport | NodeReport:
    """Return the run or the node that a text names.

    A run is named by its id, its name, or "last", a node by its id. Raises `LineageError` with a hint where to look.
    """
    lineage = here.lineage
    try:
        return lineage.run(what)
    except LineageError as no_run:
        is_id = bool(what) and DIGITS.issuperset(what.lower())
        if what == "last":
            raise LineageError(nothing(here)) from None
        if not is_id or len(what) < SHORTEST:
            hint = f", and of an id it takes at least {SHORTEST} digits" if is_id else ""
            raise LineageError(f"no run is called {what!r}{hint}. 'musubito runs' lists them.") from None
        try:
            return lineage.node(what)
        except LineageError as no_node:
            if str(no_run).startswith("several"):
                raise no_run from None
            if str(no_node).startswith("several"):
                raise no_node from None
            raise LineageError(
                f"no run and no node begins with {what}. 'musubito runs' lists the runs, 'musubito show RUN' its nodes."
            ) from None
