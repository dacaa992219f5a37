"""Decide how a step's code counts: by its source, by a version that is asked for, or by the version alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import Final

from musubito.code.fingerprint import Fingerprint
from musubito.code.tracker import CodeTracker
from musubito.model import StepDefinition

UNCOUNTED: Final = sha256(b"musubito: the code is its version").digest()
"""The digest of every code that counts by its version alone."""
CHANGED: Final = b""
"""The digest in place of the code's, if the version changed while the step ran."""


class CodeVersion:
    """Tells for each call of one step its version and the fingerprint that counts."""

    def __init__(self, definition: StepDefinition) -> None:
        self._definition = definition
        self._counts = definition.semantics.code == "source"
        self._kept: tuple[Fingerprint, Fingerprint] | None = None

    def now(self, tracker: CodeTracker) -> tuple[StepDefinition, Fingerprint, Callable[[], Fingerprint]]:
        """Return the definition with its version as a text, the fingerprint that counts, and a function.

        The function returns the fingerprint again, as it is then. Errors of the version's callable are raised.
        """
        if self._counts and not callable(self._definition.operation_version):
            return self._definition, tracker.current(), tracker.current
        version = self._definition.version()
        definition = replace(self._definition, operation_version=version)
        return definition, self._counted(tracker.current()), partial(self._current_fingerprint, tracker, version)

    def _counted(self, code: Fingerprint) -> Fingerprint:
        if self._counts:
            return code
        kept = self._kept
        if kept is None or kept[0] is not code:
            kept = self._kept = code, replace(code, digest=UNCOUNTED)
        return kept[1]

    def _current_fingerprint(self, tracker: CodeTracker, version: str | None) -> Fingerprint:
        code = self._counted(tracker.current())
        return code if self._definition.version() == version else replace(code, digest=CHANGED)
