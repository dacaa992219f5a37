"""The contents of a namespace as stores keep them: bytes, and a codec that says how to read them.

    msgpack[+zstd|+zlib][+aesgcm][@blob]

A digest is always that of the plain payload, so that equal artifacts are one artifact, however each was stored. If
there is a blob store, a payload that is large even when compressed lies there. Its row then has an empty payload.

In an encrypted namespace all contents are sealed: payloads, inputs, texts of errors, tags, and the keys of what was
read. Every digest is keyed there, so that a guess cannot be checked by its digest without the key. Names (of the
namespace, operations, arguments, runs, models), times, numbers and the shape of the graph stay readable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from hashlib import sha256
from io import BytesIO
from itertools import chain
from typing import Final, NamedTuple

from musubito.deferred import base64, deferred_pattern
from musubito.errors import ArtifactCorrupt, ArtifactMissing, ArtifactUnreadable
from musubito.payloads.blobs import UNFINISHED, Blob, BlobStore
from musubito.payloads.compression import CHUNK, METHODS, WORTH_IT, Source, best_method, decompressed, drained, smaller
from musubito.payloads.encryption import Opening, require_cryptography, resealed, sealed
from musubito.payloads.key_derivation import Keys, check_the_key
from musubito.store.rows import BLOB, ExternalRead
from musubito.values.canonical import artifacts_are_named_by
from musubito.values.digest import content_digest

PLAIN: Final = "msgpack"
"""The codec of a payload that is stored as it is."""
AES_GCM: Final = "aesgcm"
"""The last layer of a codec whose payload is encrypted."""
MAX_INTACT: Final = 4096
"""Payloads that are known to be intact, at most."""
LARGE: Final = 1_000_000
"""Bytes above which a body is stored as a blob."""
SEALED_TEXT: Final = "sealed:"
"""The beginning of a sealed text; base64 follows."""
ERROR: Final = b"error"
"""The label of the sealed text of an error."""
EDIT: Final = b"edit"
"""The label of the sealed person and reason of an edit."""
SETTLED: Final = b"settled"
"""The label of the sealed value of an effect that a person has settled."""
READ: Final = b"read"
"""The label of the sealed key of a read."""
NAMES: Final = deferred_pattern(rf"[0-9a-f]{{16}}/[0-9a-f]+\.{PLAIN}.*|{UNFINISHED}/.*")
"""The names of blobs and of unfinished blobs."""


class Sealed(NamedTuple):
    """A payload as it is stored."""

    codec: str
    body: bytes


class Contents:
    """The contents of one namespace, as they are stored."""

    def __init__(self, namespace: str, blobs: BlobStore | None = None, key: bytes | None = None) -> None:
        self.namespace = namespace
        self.blobs = blobs
        self.settled = False
        """Whether the store is known to have begun this namespace with this key, or without one."""
        self.keys: Keys | None = None
        """The keys of the namespace; None if it is not encrypted."""
        self.digest: Callable[[bytes | bytearray], bytes] = content_digest
        """The function that returns the digest of a payload."""
        self._intact: dict[bytes | None, bytes] = {}
        """Small payloads whose digests were found to be right. A store may return the very same bytes again."""
        if key is not None:
            require_cryptography()
            self.keys = Keys(key, namespace)
            named = self.keys.digest("artifact")
            self.digest = lambda payload: named(content_digest(payload))
            artifacts_are_named_by(named)

    @property
    def key_check(self) -> bytes:
        """The `key_check` of this namespace (see `store.changes.OpenNamespace`); empty if it is not encrypted."""
        return b"" if self.keys is None else self.keys.check

    def verify_key(self, key_check: bytes | None) -> None:
        """Compare the key at hand with the `key_check` in the store, which is None if the namespace was not begun yet.

        Raise `WrongKey` if the two differ.
        """
        if key_check is not None:
            check_the_key(self.namespace, self.key_check, key_check)
            self.settled = True

    # -- payloads ------------------------------------------------------------------------------------------------------
    def seal(self, digest: bytes, payload: bytes) -> Sealed:
        """Return the payload with this digest as it is stored. Raise `StoreError` if its blob cannot be written."""
        if len(payload) < WORTH_IT and self.keys is None:
            return Sealed(PLAIN, payload)  # as below; most payloads are small
        codec, pieces = self._packed(digest, payload)
        head: list[bytes | memoryview] = []
        size = 0
        for piece in pieces:
            head.append(piece)
            size += len(piece)
            if size > LARGE and self.blobs is not None:
                self.blobs.put(blob_name(self.namespace, digest, codec), chain(head, pieces))
                return Sealed(codec + BLOB, b"")
        return Sealed(codec, b"".join(head))

    def discard(self, digest: bytes, codec: str) -> None:
        """Remove the blob of a payload with this codec, if there is one. Raise `StoreError` if that fails."""
        if self.blobs is not None and codec.endswith(BLOB):
            self.blobs.delete(blob_name(self.namespace, digest, codec))

    def open(self, codec: str, body: bytes, digest: bytes | None) -> bytes | bytearray:
        """Return the payload of a stored body.

        Raise `ArtifactMissing` if its blob is not there, `ArtifactCorrupt` if the payload does not have this digest.
        Both are an `ArtifactUnreadable`, which is raised if the payload cannot be read for another reason.
        """
        if type(body) is not bytes:
            raise ArtifactCorrupt("its artifact holds no bytes")
        if self._intact.get(digest) is body and codec == PLAIN:
            return body
        payload = body if codec == PLAIN else self._opened(codec, body, digest)
        if self.digest(payload) != digest:
            raise ArtifactCorrupt("the bytes of its artifact are not those that were stored")
        if payload is body and len(body) < WORTH_IT:
            if len(self._intact) >= MAX_INTACT:
                self._intact.clear()
            self._intact[digest] = body
        return payload

    def reads(self, codec: str) -> bool:
        """Return whether a payload with this codec is not encrypted, or there is a key."""
        return self.keys is not None or not codec.removesuffix(BLOB).endswith(f"+{AES_GCM}")

    def look_for(self, codec: str, digest: bytes | None) -> None:
        """Check that the blob of a payload is there, if the payload lies in a blob.

        Its bytes are not read: only a reader with the key could check them. Raise `ArtifactMissing` if the blob is not
        there, `ArtifactUnreadable` if that cannot be told.
        """
        if codec.endswith(BLOB):
            self._blob(codec.removesuffix(BLOB), digest or b"").close()

    def _blob(self, codec: str, digest: bytes) -> Blob:
        if self.blobs is None:
            raise ArtifactMissing("its blob lies in a place that was not named")
        return self.blobs.get(blob_name(self.namespace, digest, codec))

    def _opened(self, codec: str, body: bytes, digest: bytes | None) -> bytes | bytearray:
        inner, digest = codec.removesuffix(BLOB), digest or b""
        if inner == codec:
            return self._unpacked(codec, BytesIO(body), digest)
        _parse_codec(inner)  # an unknown codec must not become a part of a name
        with closing(self._blob(inner, digest)) as blob:
            return self._unpacked(inner, blob, digest)

    def _packed(self, digest: bytes, payload: bytes) -> tuple[str, Iterator[bytes | memoryview]]:
        whole, codec = memoryview(payload), PLAIN
        pieces: Iterator[bytes | memoryview] | None = smaller(whole)
        if pieces is None:
            chunks = (whole[start : start + CHUNK] for start in range(0, len(whole), CHUNK))
            pieces = iter((payload,)) if len(payload) <= LARGE else chunks
        else:
            codec = f"{PLAIN}+{best_method()}"
        if self.keys is None:
            return codec, pieces
        codec = f"{codec}+{AES_GCM}"
        return codec, sealed(self.keys.contents[0], _belongs(codec, digest), pieces)

    def _unpacked(self, codec: str, source: Source, digest: bytes) -> bytes | bytearray:
        method, is_sealed = _parse_codec(codec)
        if is_sealed:
            if self.keys is None:
                raise ArtifactUnreadable("it is encrypted, and this engine has no key for its namespace")
            source = Opening(self.keys.contents, _belongs(codec, digest), source)
        return drained(source) if method is None else decompressed(method, source)

    # -- a key that was changed ----------------------------------------------------------------------------------------
    def resealed(self, codec: str, label: bytes, body: bytes) -> bytes | None:
        """Return a sealed body as the newest key seals it; None if it is so already.

        Raise `ArtifactCorrupt` if no key opens it.
        """
        pieces = None if self.keys is None else resealed(self.keys.contents, _belongs(codec, label), BytesIO(body))
        return None if pieces is None else b"".join(pieces)

    def resealed_text(self, label: bytes, text: str) -> str | None:
        """Return a sealed text as the newest key seals it; None if it is so already."""
        try:
            body = self.resealed("text", label, base64.b64decode(text.removeprefix(SEALED_TEXT), validate=True))
        except ValueError as error:
            raise ArtifactCorrupt("a sealed text is damaged") from error
        return None if body is None else SEALED_TEXT + base64.b64encode(body).decode()

    def reseal_blob(self, digest: bytes, codec: str) -> bool:
        """Seal the blob of a payload with the newest key. Return False if it is sealed so already.

        Raise `ArtifactMissing` if the blob is not there.
        """
        codec = codec.removesuffix(BLOB)
        if self.keys is None or self.blobs is None:
            return False
        with closing(self._blob(codec, digest)) as blob:
            pieces = resealed(self.keys.contents, _belongs(codec, digest), blob)
            if pieces is not None:
                self.blobs.put(blob_name(self.namespace, digest, codec), pieces)
        return pieces is not None

    # -- all else, in an encrypted namespace ---------------------------------------------------------------------------
    def sealed_item(self, label: bytes, item: bytes) -> Sealed:
        """Return bytes that are no payload, as they are stored. `label` says what the bytes are."""
        codec, pieces = self._packed(label, item)
        return Sealed(codec, b"".join(pieces))

    def opened_item(self, label: bytes, item: Sealed) -> bytes | bytearray:
        """Return the bytes of a stored item. Raise `ArtifactUnreadable` if they cannot be read."""
        return self._unpacked(item.codec, BytesIO(item.body), label)

    def sealed_text(self, label: bytes, text: str) -> str:
        """Return a text as it is stored. If the namespace is not encrypted, that is the text itself."""
        if self.keys is None:
            return text
        body = b"".join(sealed(self.keys.contents[0], _belongs("text", label), [text.encode("utf-8", "surrogatepass")]))
        return SEALED_TEXT + base64.b64encode(body).decode()

    def opened_text(self, label: bytes, text: str) -> str:
        """Return the text of a stored text. Raise `ArtifactUnreadable` if it cannot be read."""
        if not text.startswith(SEALED_TEXT):
            return text
        if self.keys is None:
            raise ArtifactUnreadable("it is encrypted, and this engine has no key for its namespace")
        try:
            body = base64.b64decode(text.removeprefix(SEALED_TEXT), validate=True)
            plain = drained(Opening(self.keys.contents, _belongs("text", label), BytesIO(body)))
            return plain.decode("utf-8", "surrogatepass")
        except ValueError as error:
            raise ArtifactCorrupt("a sealed text is damaged") from error

    def sealed_reads(self, reads: Sequence[ExternalRead]) -> Sequence[ExternalRead]:
        """Return the reads of an execution as they are stored."""
        if self.keys is None:
            return reads
        return [read._replace(key=self.sealed_text(READ, read.key)) for read in dict.fromkeys(reads)]

    def opened_reads(self, reads: Sequence[ExternalRead]) -> Sequence[ExternalRead]:
        """Return the reads that were stored. Raise `ArtifactUnreadable` if they cannot be read."""
        if self.keys is None:
            return reads
        return [read._replace(key=self.opened_text(READ, read.key)) for read in reads]


def blob_of(namespace: str, digest: bytes) -> str:
    """Return the beginning of the names of an artifact's blobs, up to a dot."""
    return f"{_space(namespace)}/{digest.hex()}"


def is_blob_in(name: str, namespace: str) -> bool:
    """Return whether the blob with this name belongs to a namespace."""
    return name.startswith(f"{_space(namespace)}/")


def is_named_as_blobs_are(name: str) -> bool:
    """Return whether a name is that of a blob, or of an unfinished one."""
    return NAMES.fullmatch(name) is not None


def _space(namespace: str) -> str:
    return sha256(namespace.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def blob_name(namespace: str, digest: bytes, codec: str) -> str:
    """Return the name of the blob of an artifact that is stored with this codec."""
    return f"{blob_of(namespace, digest)}.{codec.removesuffix(BLOB)}"


def _parse_codec(codec: str) -> tuple[str | None, bool]:
    """Return the compression of a codec, and whether it is sealed. Raise `ArtifactUnreadable` for an unknown codec."""
    format_, *layers = codec.split("+")
    is_sealed = layers[-1:] == [AES_GCM]
    methods = layers[:-1] if is_sealed else layers
    if format_ != PLAIN or len(methods) > 1 or not set(methods) <= set(METHODS):
        raise ArtifactUnreadable(f"no codec {codec!r:.50} is known to this version of Musubito")
    return methods[0] if methods else None, is_sealed


def _belongs(codec: str, digest: bytes) -> bytes:
    return codec.encode("utf-8", "surrogatepass") + b"\0" + digest
