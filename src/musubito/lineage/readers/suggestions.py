"""Suggest operations for a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from musubito.lineage.readers.reader import Lineage


def similar_names(name: str, names: Collection[str]) -> list[str]:
    """Return the operations that a name may have meant, nearest first.

    Operations that end with the name after a module or a path are returned alone. If there are none, up to three of a
    similar spelling are returned.
    """
    names = sorted(set(names))
    ends = [other for other in names if other.rpartition("/")[2] == name or other.endswith((f".{name}", f" {name}"))]
    return ends or difflib.get_close_matches(name, names, 3, 0.5)


def suggestion(lineage: Lineage, name: str, otherwise: str) -> str:
    """Return a question that suggests recorded operations for a name, or the other hint if none is similar."""
    similar = similar_names(name, [operation for _, operation, _ in lineage.rows("operations")])
    return f"did you mean {', '.join(similar)}?" if similar else otherwise
