"""Keep the identities of steps in the form that a store is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from musubito.code.fingerprint import Fingerprint
from musubito.code.parts import ShownParts
from musubito.engine.keyed_digests import Keyed
from musubito.model import StepDefinition
from musubito.store.rows import CodeRecord
from musubito.values.call_keys import head

MAX_KEPT: Final = 256
"""Number of fingerprints that are kept. Without a limit, functions made for each request would fill the memory."""


class StepIdentities:
    """The identities of the steps of one namespace, by their names, their code and their versions."""

    def __init__(self, namespace: str, keyed: Keyed | None) -> None:
        self._namespace = namespace
        self._keyed = keyed
        self._kept: dict[tuple[str, bytes, str | None], tuple[Callable[[], Any], CodeRecord]] = {}

    def identify(self, definition: StepDefinition, fingerprint: Fingerprint) -> tuple[Callable[[], Any], CodeRecord]:
        """Return the beginning of all keys of this step, and its code as the store is told of it."""
        version: Any = definition.operation_version  # a text by now: see `CodeVersion`
        key = definition.name, fingerprint.digest, version
        kept = self._kept.get(key)
        if kept is None:
            begin = head(self._namespace, definition.name, fingerprint.digest, version)
            if definition.semantics.code == "version":
                code = CodeRecord(fingerprint.digest, [], (), ())
            else:
                parts = ShownParts(fingerprint.parts, fingerprint.changed)
                code = CodeRecord(fingerprint.digest, parts, fingerprint.untracked, fingerprint.state)
            if self._keyed is not None:
                begin, code = self._keyed.head(begin), self._keyed.code(code)
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            kept = self._kept[key] = begin, code
        return kept
