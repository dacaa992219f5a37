"""A namespace's payloads as stores keep them: bytes, and a codec that says how they are read.

    msgpack[+zstd|+zlib][@blob]

A digest is always that of the plain payload, so that equal artifacts are one, however each was stored. What is large
even when compressed lies in a blob store, if there is one; the row has an empty payload then.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from io import BytesIO
from itertools import chain
from typing import Final, NamedTuple

from musubito.contents.blobs import BlobStore
from musubito.contents.compression import CHUNK, METHODS, Source, best_method, decompressed, drained, smaller
from musubito.errors import ArtifactCorrupt, ArtifactMissing, ArtifactUnreadable
from musubito.identity.digest import content_digest
from musubito.store.base import BLOB

__all__ = ["PLAIN", "Contents", "Sealed"]

PLAIN: Final = "msgpack"
"""The codec of a payload that is stored as it is."""
LARGE: Final = 1_000_000
"""A body of more bytes is a blob."""


class Sealed(NamedTuple):
    """A payload as it is stored."""

    codec: str
    body: bytes


class Contents:
    """How one namespace stores its payloads."""

    def __init__(self, namespace: str, blobs: BlobStore | None = None) -> None:
        self.digest = content_digest
        self.blobs = blobs
        self.space = sha256(namespace.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        """What the names of its blobs begin with."""

    def seal(self, digest: bytes, payload: bytes) -> Sealed:
        """The payload with this digest, as it is stored. Raises `StoreError` if a blob cannot be written."""
        whole = memoryview(payload)
        pieces: Iterator[bytes | memoryview] | None = smaller(whole)
        if pieces is not None:
            codec = f"{PLAIN}+{best_method()}"
        elif self.blobs is None or len(payload) <= LARGE:
            return Sealed(PLAIN, payload)
        else:
            codec, pieces = PLAIN, _cut(whole)
        head: list[bytes | memoryview] = []
        size = 0
        for piece in pieces:
            head.append(piece)
            size += len(piece)
            if size > LARGE and self.blobs is not None:
                self.blobs.put(self._name(digest, codec), chain(head, pieces))
                return Sealed(codec + BLOB, b"")
        return Sealed(codec, b"".join(head))

    def open(self, codec: str, body: bytes, digest: bytes | None) -> bytes | bytearray:
        """The payload again. Raises `ArtifactUnreadable`: `ArtifactMissing` if it is in no blob, `ArtifactCorrupt` if
        it is not what has this digest."""
        if type(body) is not bytes:
            raise ArtifactCorrupt("its artifact holds no bytes")
        payload = body if codec == PLAIN else self._opened(codec, body, digest)
        if self.digest(payload) != digest:
            raise ArtifactCorrupt("the bytes of its artifact are not those that were stored")
        return payload

    def _opened(self, codec: str, body: bytes, digest: bytes | None) -> bytes | bytearray:
        inner = codec.removesuffix(BLOB)
        if inner == codec:
            return _unpacked(codec, BytesIO(body))
        if self.blobs is None:
            raise ArtifactMissing("its artifact lies in a blob, and this engine has no blobs")
        if digest is None:
            raise ArtifactCorrupt("its artifact has no digest")
        with closing(self.blobs.get(self._name(digest, inner))) as blob:
            return _unpacked(inner, blob)

    def _name(self, digest: bytes, codec: str) -> str:
        return f"{self.space}/{digest.hex()}.{codec}"


def _cut(payload: memoryview) -> Iterator[memoryview]:
    return (payload[start : start + CHUNK] for start in range(0, len(payload), CHUNK))


def _unpacked(codec: str, source: Source) -> bytes | bytearray:
    format_, *methods = codec.split("+")
    if format_ != PLAIN or len(methods) > 1 or not set(methods) <= set(METHODS):
        raise ArtifactUnreadable(f"no codec {codec!r:.50} is known to this version of Musubito")
    return decompressed(methods[0], source) if methods else drained(source)
