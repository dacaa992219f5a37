"""Looks at files that Python reports to nobody: whether one is there, how old and how large it is.

What a step opens or lists is a dependency that audit events tell. These looks are not: functions that take them are
listed as not tracked.
"""

from __future__ import annotations

import os
from pathlib import PurePath
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from musubito.identity.occurrences import led_to

if TYPE_CHECKING:
    from musubito.identity.closure import Walk
    from musubito.identity.functions import Text

__all__ = ["note_file_checks"]

OF_PATHS: Final = ("exists", "lexists", "isfile", "isdir", "islink", "getmtime", "getctime", "getatime", "getsize")
LOOKS: Final = {id(getattr(os.path, name)): f"os.path.{name}" for name in OF_PATHS} | {
    id(getattr(os, name)): f"os.{name}" for name in ("stat", "lstat", "access")
}
METHODS: Final = frozenset({"exists", "is_file", "is_dir", "is_symlink", "stat", "lstat"})


def note_file_checks(walk: Walk, function: FunctionType, name: str, text: Text) -> None:
    """List as not tracked what a function that can run asks of files without opening them."""
    found: set[str] = set()
    for read in text.scan.reads:
        value, rest = led_to(function, read)
        if not rest and id(value) in LOOKS:
            found.add(LOOKS[id(value)])
        elif len(rest) == 1 and rest[0] in METHODS and _is_of_paths(value):
            found.add(f"Path.{rest[0]}")
    methods = METHODS & text.scan.called_names - {each.rpartition(".")[2] for each in found}
    if methods and ("pathlib" in text.scan.imports or any(map(_is_of_paths, [*function.__globals__.values()]))):
        # What a local is, is not known; it may be a path.
        found.update(f"Path.{each}" for each in methods)
    if found:
        walk.unseen.add(f"{name}: looks at files without opening them ({', '.join(sorted(found))})")


def _is_of_paths(value: Any) -> bool:
    cls = type(value)
    if issubclass(cls, ModuleType):
        return bool(value.__name__ == "pathlib")
    return issubclass(value if issubclass(cls, type) else cls, PurePath)
