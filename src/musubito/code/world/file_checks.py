"""List looks at files that no event reports: those of functions that were bound early, and of entries of a folder.

Audit events report the files that a step opens, lists or looks at (`musubito.code.world.path_looks`). Two kinds of
looks raise none. Functions that look in such a way are listed as not tracked.
"""

from __future__ import annotations

import os
from types import BuiltinFunctionType, FunctionType
from typing import Final

from musubito.code.syntax.function_text import FunctionText
from musubito.code.syntax.occurrences import resolve
from musubito.code.walk import Walk

LOOKS: Final = frozenset({"stat", "lstat", "access", "readlink"})
"""Functions of `os` that look at paths. They raise no event for code that bound them before Musubito was imported."""


def note_file_checks(walk: Walk, function: FunctionType, name: str, text: FunctionText) -> None:
    """List as not tracked the looks of a function that can run, if no event reports them."""
    checks: set[str] = set()
    for read in text.scan.reads:
        value, rest = resolve(function, read)
        if not rest and type(value) is BuiltinFunctionType and value.__module__ == os.name and value.__name__ in LOOKS:
            checks.add(f"os.{value.__name__}")
    if {"scandir", "stat"} <= text.scan.called_names:
        checks.add("DirEntry.stat")
    if checks:
        walk.unseen.add(f"{name}: looks at files without opening them ({', '.join(sorted(checks))})")
