"""A namespace's payloads as stores keep them: bytes, and a codec that says how they are read.

    msgpack[+zstd|+zlib]

A digest is always that of the plain payload, so that equal artifacts are one, however each was stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Final, NamedTuple

from musubito.contents.compression import METHODS, best_method, decompressed, smaller
from musubito.errors import ArtifactCorrupt, ArtifactUnreadable
from musubito.identity.digest import content_digest

__all__ = ["PLAIN", "Contents", "Sealed"]

PLAIN: Final = "msgpack"
"""The codec of a payload that is stored as it is."""


class Sealed(NamedTuple):
    """A payload as it is stored."""

    codec: str
    body: bytes


class Contents:
    """How one namespace stores its payloads."""

    def __init__(self) -> None:
        self.digest = content_digest

    def seal(self, digest: bytes, payload: bytes) -> Sealed:
        """The payload with this digest, as it is stored."""
        method, pieces = _as_small_as_possible(payload)
        codec = PLAIN + method
        if codec == PLAIN:
            return Sealed(PLAIN, payload)
        return Sealed(codec, b"".join(pieces))

    def open(self, codec: str, body: bytes, digest: bytes | None) -> bytes | bytearray:
        """The payload again. Raises `ArtifactUnreadable`: `ArtifactCorrupt` if it is not what has this digest."""
        if type(body) is not bytes:
            raise ArtifactCorrupt("its artifact holds no bytes")
        payload = body if codec == PLAIN else self._opened(codec, body)
        if self.digest(payload) != digest:
            raise ArtifactCorrupt("the bytes of its artifact are not those that were stored")
        return payload

    def _opened(self, codec: str, body: bytes) -> bytes | bytearray:
        format_, *layers = codec.split("+")
        method = layers[0] if len(layers) == 1 else ""
        if format_ != PLAIN or method not in METHODS:
            raise ArtifactUnreadable(f"no codec {codec!r:.50} is known to this version of Musubito")
        return decompressed(method, BytesIO(body))


def _as_small_as_possible(payload: bytes) -> tuple[str, Iterator[bytes]]:
    pieces = smaller(memoryview(payload))
    return ("", iter((payload,))) if pieces is None else (f"+{best_method()}", pieces)
