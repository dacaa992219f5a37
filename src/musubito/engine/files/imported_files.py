"""Find the files of the modules that a module imports.

Python raises no event where a module is imported that is loaded already.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType

from musubito.code.fingerprint import is_users_code
from musubito.parsing import nodes_in, parsed


def imported_files(paths: Iterable[str], seen_from: str) -> Iterator[str]:
    """Yield the files of the user's modules that the modules with these files import, and what those import.

    `seen_from` is the module of the step.
    """
    modules = {file: module for module in list(sys.modules.values()) if (file := source_file_of(module)) is not None}
    ahead = [modules[path] for path in paths if path in modules and is_users_code(modules[path], seen_from)]
    known = {id(module) for module in ahead}
    while ahead:
        for module in _imported_by(ahead.pop()):
            file = source_file_of(module)
            if id(module) not in known and file is not None and is_users_code(module, seen_from):
                yield file
                known.add(id(module))
                ahead.append(module)


def source_file_of(module: object) -> str | None:
    """Return the source file of a module; None if it has none."""
    file = vars(module).get("__file__") if isinstance(module, ModuleType) else None
    return file if isinstance(file, str) and file.endswith(".py") else None


def _imported_by(module: ModuleType) -> Iterator[ModuleType]:
    """Yield the loaded modules that the text of a module imports."""
    try:
        tree = parsed(Path(str(source_file_of(module))).read_text("utf-8"))
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return  # the file is gone, or is another one by now
    for node in nodes_in(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            written = "." * node.level + (node.module or "")
            try:
                home = resolve_name(written, vars(module).get("__package__")) if node.level else written
            except ImportError:
                continue  # beyond the package: such an import fails
            names = [home, *(f"{home}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                loaded = sys.modules.get(".".join(parts[:end]))
                if isinstance(loaded, ModuleType):
                    yield loaded
