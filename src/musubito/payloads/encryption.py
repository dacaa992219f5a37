"""Encrypted bodies: AES-256-GCM, in frames.

Each body begins with a random salt. Its key is derived from the key of the namespace and that salt, so nonces may
simply count. A frame is up to `CHUNK` bytes and a tag. The nonce of a frame holds its number, and whether the frame is
the last. So no frame can be left out, moved or cut off. A body is authenticated together with `belongs`, which names
its artifact or its purpose. So no body passes for another.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

from musubito.deferred import hmac
from musubito.errors import ArtifactCorrupt, MusubitoError
from musubito.payloads.compression import CHUNK, Source

SALT: Final = 24
"""Bytes of the salt of a body."""
TAG: Final = 16
"""Bytes of the tag of a frame."""


def require_cryptography() -> None:
    """Raise `MusubitoError` if `cryptography` is not installed."""
    _aead(bytes(32), b"")


def _aead(key: bytes, salt: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - needed only with a key
    except ImportError as error:
        raise MusubitoError("a key needs cryptography: pip install 'musubito[crypto]'") from error
    return AESGCM(hmac.digest(key, b"body" + salt, "sha256"))


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes((last,))


def sealed(key: bytes, belongs: bytes, pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """Yield the encrypted body in pieces. `belongs` names its artifact or its purpose."""
    salt = os.urandom(SALT)
    aead = _aead(key, salt)
    yield salt
    waiting, number = bytearray(), 0
    for piece in pieces:
        waiting += piece
        while len(waiting) > CHUNK:
            yield aead.encrypt(_nonce(number, last=False), bytes(waiting[:CHUNK]), belongs)
            del waiting[:CHUNK]
            number += 1
    yield aead.encrypt(_nonce(number, last=True), bytes(waiting), belongs)


class Opening:
    """An encrypted body that is read frame by frame, with the first of several keys that opens it.

    `read` raises `ArtifactCorrupt` if the bytes are damaged, belong to something else, or were sealed with another key.
    """

    def __init__(self, keys: Sequence[bytes], belongs: bytes, source: Source) -> None:
        self._source, self._belongs = source, belongs
        salt = source.read(SALT)
        self._aeads = [_aead(key, salt) for key in keys]
        self._ahead = source.read(CHUNK + TAG)
        self._number, self._over = 0, False
        self._plain = bytearray()
        self.key = 0
        """The number of the key that opened the first frame, once that was read."""

    def read(self, size: int, /) -> bytes:
        """See `Source.read`."""
        while len(self._plain) < size and not self._over:
            self._plain += self._frame()
        part = bytes(memoryview(self._plain)[:size])
        del self._plain[:size]
        return part

    def _frame(self) -> bytes:
        frame, self._ahead = self._ahead, self._source.read(CHUNK + TAG)
        self._over = not self._ahead
        nonce, problem = _nonce(self._number, last=self._over), None
        for number, aead in enumerate(self._aeads):
            try:
                plain: bytes = aead.decrypt(nonce, frame, self._belongs)
            except Exception as error:  # the library raises classes of its own
                problem = error
                continue
            if len(self._aeads) > 1:
                self.key, self._aeads = number, [aead]
            self._number += 1
            return plain
        raise ArtifactCorrupt("its bytes are not those that were encrypted with this key") from problem


def resealed(keys: Sequence[bytes], belongs: bytes, source: Source) -> Iterator[bytes] | None:
    """Yield a body sealed with the first of the keys; return None if it is so already.

    Raise `ArtifactCorrupt` if no key opens it.
    """
    opening = Opening(keys, belongs, source)
    first = opening.read(CHUNK)
    if not opening.key:
        return None
    return sealed(keys[0], belongs, chain([first], iter(lambda: opening.read(CHUNK), b"")))
