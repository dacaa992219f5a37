"""Key the digests of an encrypted namespace, each for its purpose.

In other namespaces, the plain digests identify calls.
"""

from __future__ import annotations

from musubito.payloads.key_derivation import Keys
from musubito.store.rows import CodeRecord


class Keyed:
    """The functions that key the digests of one namespace, by its keys."""

    def __init__(self, keys: Keys) -> None:
        self.head = keys.head
        self.input = keys.digest("input")
        self.effect = keys.digest("effect")
        self.read = keys.digest("read")
        self._argument = keys.digest("argument")
        self._code = keys.digest("code")
        self.functions = keys.digest("functions")

    def argument(self, digest: bytes) -> bytes:
        """Return the keyed digest of one argument, as short as the plain one."""
        return self._argument(digest)[: len(digest)]

    def code(self, code: CodeRecord) -> CodeRecord:
        """Return a fingerprint and its parts with keyed digests and without their texts."""
        parts = [(part, self._code(digest), None) for part, digest, _ in code.parts]
        return code._replace(fingerprint=self._code(code.fingerprint), parts=parts)
