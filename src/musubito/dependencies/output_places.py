"""Let an output that names the working directory or the script be valid there alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from musubito.deferred import deferred_pattern
from musubito.dependencies.paths import PLACE, RUNNING, getcwd, working_directory
from musubito.dependencies.registry import DEPENDENCY_KINDS, Kind
from musubito.store.rows import ExternalRead
from musubito.values.class_names import SCRIPT, script_name

MIN_PLACE: Final = 2
"""Characters of the shortest working directory that is looked for in outputs. The root's path stands in any path."""
_SEPARATOR: Final = os.fsencode(os.sep)
_SCRIPT: Final = SCRIPT.encode()
_NAMES_SCRIPT: Final = deferred_pattern(rb"(?<![.\w])" + _SCRIPT)
"""Matches the name of the script, and not that of the module `package.__main__`."""


def place_digest(here: str) -> bytes:
    """Return the digest of a working directory's path."""
    return sha256(os.fsencode(here)).digest()


def _script_digest() -> bytes:
    return sha256(script_name().encode("utf-8", "surrogateescape")).digest()


def where_valid(payload: bytes) -> Iterator[ExternalRead]:
    """Yield reads of the working directory and of the script, if an output names them."""
    if _SEPARATOR in payload:  # most outputs hold no path
        try:
            here = getcwd()
        except OSError:
            here = ""  # the working directory is gone, so no output can name it
        if MIN_PLACE <= len(here) <= len(payload) and os.fsencode(here) in payload:
            yield ExternalRead(PLACE, "the working directory", place_digest(here))
    if _SCRIPT in payload and _NAMES_SCRIPT.search(payload) and script_name() != SCRIPT:
        yield ExternalRead(RUNNING, "the script", _script_digest())


DEPENDENCY_KINDS[PLACE] = Kind(lambda _: place_digest(working_directory()))
DEPENDENCY_KINDS[RUNNING] = Kind(lambda _: _script_digest())
