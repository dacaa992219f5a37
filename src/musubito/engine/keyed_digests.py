"""Key the digests of an encrypted namespace, each for its purpose.

In other namespaces, the plain digests identify calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from musubito.payloads.key_derivation import Keys
from musubito.store.rows import CodeRecord


@dataclass(frozen=True, slots=True)
class Keyed:
    """The functions that key the digests of one namespace."""

    head: Callable[[Callable[[], Any]], Callable[[], Any]]
    input: Callable[[bytes], bytes]
    effect: Callable[[bytes], bytes]
    read: Callable[[bytes], bytes]
    _argument: Callable[[bytes], bytes]
    _code: Callable[[bytes], bytes]

    @classmethod
    def of(cls, keys: Keys) -> Self:
        """Return the functions for the keys of a namespace."""
        purposes = ("input", "effect", "read", "argument", "code")
        return cls(keys.head, *(keys.digest(purpose) for purpose in purposes))

    def argument(self, digest: bytes) -> bytes:
        """Return the keyed digest of one argument, as short as the plain one."""
        return self._argument(digest)[: len(digest)]

    def code(self, code: CodeRecord) -> CodeRecord:
        """Return a fingerprint and its parts with keyed digests and without their texts."""
        parts = [(part, self._code(digest), None) for part, digest, _ in code.parts]
        return code._replace(fingerprint=self._code(code.fingerprint), parts=parts)
