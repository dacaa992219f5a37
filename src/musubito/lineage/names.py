"""Names of operations that may have been meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection

__all__ = ["similar_names"]


def similar_names(name: str, known: Collection[str]) -> list[str]:
    """Those that end so after a module or a path; else those that are written much alike, the nearest first."""
    known = sorted(set(known))
    ends = [each for each in known if each.rpartition("/")[2] == name or each.endswith(f".{name}")]
    return ends or difflib.get_close_matches(name, known, 3, 0.5)
