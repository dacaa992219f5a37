"""Parse source texts, also in threads that parse at once."""

from __future__ import annotations

import ast
from typing import Any, Final

__all__ = ["parsed"]

TRIES: Final = 20
"""Attempts to parse a text when CPython fails with `SystemError`."""


def parsed(text: str, mode: str = "exec") -> Any:
    """Return the syntax tree of a text; raise what `ast.parse` raises."""
    for _ in range(TRIES):
        try:
            return ast.parse(text, mode=mode)
        except SystemError:
            continue  # in CPython 3.11, threads that parse at once share one count of their depth
    return ast.parse(text, mode=mode)
