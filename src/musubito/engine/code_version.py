"""Count a step's code by what its configuration says: a version that is asked for, or nothing but the version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import Final

from musubito.identity.fingerprint import CodeTracker, Fingerprint
from musubito.model import StepDefinition

__all__ = ["CodeVersion"]

UNCOUNTED: Final = sha256(b"musubito: the code is its version").digest()
CHANGED: Final = b""
"""Stands for the code if the version became another one while the step ran."""


class CodeVersion:
    """Says for each call of one step which version it has and what its code counts as."""

    def __init__(self, definition: StepDefinition) -> None:
        self._definition = definition
        self._counts = definition.semantics.code == "source"
        self._kept: tuple[Fingerprint, Fingerprint] | None = None

    def now(self, tracker: CodeTracker) -> tuple[StepDefinition, Fingerprint, Callable[[], Fingerprint]]:
        """Return the definition with its version as a text, the fingerprint that counts, and a function that asks for
        the fingerprint again. Raises what the version's callable raises."""
        if self._counts and not callable(self._definition.operation_version):
            return self._definition, tracker.current(), tracker.current
        version = self._definition.version()
        definition = replace(self._definition, operation_version=version)
        return definition, self._counted(tracker.current()), partial(self._again, tracker, version)

    def _counted(self, code: Fingerprint) -> Fingerprint:
        if self._counts:
            return code
        kept = self._kept
        if kept is None or kept[0] is not code:
            kept = self._kept = code, replace(code, digest=UNCOUNTED)
        return kept[1]

    def _again(self, tracker: CodeTracker, version: str | None) -> Fingerprint:
        code = self._counted(tracker.current())
        return code if self._definition.version() == version else replace(code, digest=CHANGED)
