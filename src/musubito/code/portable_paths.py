"""Let paths that code holds count relative to the root of a checkout, where a test runner asks for that.

Code that says where it lies (`HERE = Path(__file__).parent`) then counts the same in each checkout. An output that
contains the path of the working directory is not valid elsewhere in any case (see `dependencies.paths.PLACE`).
"""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import Any

_root: str | None = None


def count_paths_from(root: str | None) -> None:
    """Let paths count relative to this folder from now on; None: as they are."""
    global _root
    _root = root


def portable(value: Any) -> Any:
    """Return what counts of a text or of a path: with a root, all paths count as texts, and below the root relative."""
    if _root is None or not isinstance(value, (str, PurePath)):
        return value
    text = str(value)
    if text == _root or text.startswith(_root + os.sep):
        text = f"<checkout>{text[len(_root) :].replace(os.sep, '/')}"
    return text if type(value) is str else ("path", text)


def is_relative_to_checkout() -> bool:
    """Tell whether paths count relative to the root of a checkout."""
    return _root is not None
