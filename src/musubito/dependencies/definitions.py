"""Keep the definitions in files of the user's, as the files are now."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import decode_source
from typing import Final

from musubito.code.syntax.definitions import Definitions, definitions_of
from musubito.dependencies.paths import Signature, signature

MAX_FILES: Final = 512
"""Number of files whose definitions are kept."""


def definitions_in(path: str) -> Definitions | None:
    """Return the definitions in a file as it is now; None if it cannot be read or parsed."""
    seen = signature(path)
    return None if seen is None or len(seen) == 1 else _parsed(path, seen)


@lru_cache(MAX_FILES)
def _parsed(path: str, _seen: Signature) -> Definitions | None:
    try:
        with open(path, "rb") as file:
            return definitions_of(decode_source(file.read()))
    except (OSError, ValueError, SyntaxError):
        return None
