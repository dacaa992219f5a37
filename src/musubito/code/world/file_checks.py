"""List checks of files that Python reports nowhere: whether a file exists, its age and its size.

Audit events report the files that a step opens or lists: they are dependencies. A check raises no event. Functions that
check files are listed as not tracked.
"""

from __future__ import annotations

import os
from pathlib import PurePath
from types import FunctionType, ModuleType
from typing import Any, Final

from musubito.code.syntax.function_text import FunctionText
from musubito.code.syntax.occurrences import resolve
from musubito.code.walk import Walk

OF_PATHS: Final = ("exists", "lexists", "isfile", "isdir", "islink", "getmtime", "getctime", "getatime", "getsize")
"""Functions of `os.path` that check files."""
LOOKS: Final = {id(getattr(os.path, name)): f"os.path.{name}" for name in OF_PATHS} | {
    id(getattr(os, name)): f"os.{name}" for name in ("stat", "lstat", "access")
}
"""The functions that check files, by id, each with its name."""
METHODS: Final = frozenset({"exists", "is_file", "is_dir", "is_symlink", "stat", "lstat"})
"""Methods of paths that check files."""


def note_file_checks(walk: Walk, function: FunctionType, name: str, text: FunctionText) -> None:
    """List as not tracked the checks by which a function that can run looks at files without opening them."""
    checks: set[str] = set()
    for read in text.scan.reads:
        value, rest = resolve(function, read)
        if not rest and id(value) in LOOKS:
            checks.add(LOOKS[id(value)])
        elif len(rest) == 1 and rest[0] in METHODS and _is_of_paths(value):
            checks.add(f"Path.{rest[0]}")
    methods = METHODS & text.scan.called_names - {check.rpartition(".")[2] for check in checks}
    if methods and ("pathlib" in text.scan.imports or any(map(_is_of_paths, [*function.__globals__.values()]))):
        # It is not known what a local is; it may be a path.
        checks.update(f"Path.{method}" for method in methods)
    if checks:
        walk.unseen.add(f"{name}: looks at files without opening them ({', '.join(sorted(checks))})")


def _is_of_paths(value: Any) -> bool:
    cls = type(value)
    if issubclass(cls, ModuleType):
        return bool(value.__name__ == "pathlib")
    return issubclass(value if issubclass(cls, type) else cls, PurePath)
